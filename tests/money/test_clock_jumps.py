"""A wall clock that is wrong, or jumps between commands and during one: no job is lost, no deadline moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import PASS, Ended, Gateway, Programs, SkippingClock

Chroma = Callable[..., Ended]
HOUR = 3600.0
FOX = ("a fox", "-o", "fox.png")


@pytest.mark.parametrize(
    "shift", [-20 * 365 * 24 * HOUR, -2 * HOUR, -60.0, 60.0, 50 * 60.0, 2 * HOUR, 400 * 24 * HOUR]
)
def test_a_clock_that_jumps_between_commands_loses_no_job(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, shift: float
) -> None:
    assert chroma("submit", *FOX).code == 0
    clock.wrong = shift
    fetched = chroma("fetch", "--pending", "--wait")
    assert fetched.paths == [work / "fox.png"], fetched.said
    assert chroma("jobs").code == 0
    clock.wrong = -shift
    assert chroma("jobs", "--pending", "--json").out == ""
    assert gateway.posts() == 1


@pytest.mark.parametrize("shift", [-2 * HOUR, 2 * HOUR])
@pytest.mark.parametrize("alive", [True, False])
def test_a_clock_that_jumps_makes_no_owner_dead_and_keeps_none_alive(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, process: Programs, shift: float, alive: bool
) -> None:
    with gateway.hold("submit", "answer") as hold:
        owner = process.start("generate", *FOX)
        hold.wait()
        if not alive:
            owner.kill()
        clock.wrong = shift
        [row] = chroma("jobs", "--json").json
        assert row["status"] == ("SUBMITTING" if alive else "UNKNOWN")
    owner.end()
    assert gateway.posts() == 1


@pytest.mark.parametrize("shift", [-2 * HOUR, 2 * HOUR])
def test_a_clock_that_jumps_while_waiting_moves_no_deadline(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, shift: float
) -> None:
    """The jump comes in the middle of a run, as the first poll is answered."""

    def jump(_: Any) -> Any:
        clock.wrong = shift
        return PASS

    gateway.plan(seconds=53)
    gateway.on("status", jump)
    ended = chroma("generate", *FOX)
    assert ended.paths == [work / "fox.png"], ended.said
    assert 2 <= len(gateway.requests("status")) < 60
    assert sum(clock.sleeps) < 70
    assert [row["status"] for row in chroma("jobs", "--json").json] == ["COMPLETED"]
