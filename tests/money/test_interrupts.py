"""Ctrl-C and SIGTERM in every window of a job's life: the job is named, with what brings it home."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from kit import Ended, Gateway, Programs, is_whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

Chroma = Callable[..., Ended]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
FOX = ("generate", "a fox", "-o", "fox.png")


@pytest.mark.parametrize(
    ("route", "place", "number"),
    [
        ("status", "before", signal.SIGINT),
        ("status", "after", signal.SIGTERM),
        ("result", "before", signal.SIGINT),
        ("file", "before", signal.SIGTERM),
        ("file", "half", signal.SIGINT),
    ],
)
def test_an_accepted_job_is_named_with_the_command_that_brings_it_home(
    gateway: Gateway,
    chroma: Chroma,
    process: Programs,
    work: Path,
    route: str,
    place: Literal["before", "after", "half"],
    number: signal.Signals,
) -> None:
    gateway.plan(polls=1)
    with gateway.hold(route, place) as hold:
        started = process.start(*FOX)
        hold.wait()
        started.signal(number)
        ended = started.end()
    assert (ended.code, ended.out) == (CODES[number], "")
    ident = gateway.jobs()[0].id
    assert f"chroma fetch {ident}" in ended.err
    assert "charged" in ended.err.lower()
    assert "Traceback" not in ended.err
    assert list(work.iterdir()) == []
    fetched = chroma("fetch", ident, "--wait")
    assert fetched.paths == [work / "fox.png"], fetched.said
    assert is_whole(work / "fox.png")
    assert gateway.posts() == 1


@pytest.mark.parametrize("number", CODES)
def test_twice_while_the_submit_is_out_ends_at_once_and_leaves_an_unknown_job(
    gateway: Gateway, chroma: Chroma, process: Programs, number: signal.Signals
) -> None:
    with gateway.hold("submit", "answer") as hold:
        started = process.start(*FOX, "--json")
        hold.wait()
        started.signal(number)
        started.wait_for("Stopping when the job's id is known")
        started.signal(number)
        ended = started.end()
    assert ended.code == CODES[number]
    assert ended.error["charged"] == "unknown"
    assert "chroma jobs --pending" in ended.error["hint"]
    [row] = chroma("jobs", "--json").json
    assert (row["status"], row["charged"]) == ("UNKNOWN", "unknown")
    assert gateway.posts() == 1


def test_once_while_the_submit_is_out_waits_for_its_id(
    gateway: Gateway, chroma: Chroma, process: Programs, work: Path
) -> None:
    """The answer comes a moment after the signal; test_signals has the other signals."""
    with gateway.hold("submit", "answer") as hold:
        started = process.start(*FOX, "--json")
        hold.wait()
        started.interrupt()
        started.wait_for("Stopping when the job's id is known")
    ended = started.end()
    ident = gateway.jobs()[0].id
    assert (ended.code, ended.error["request_id"]) == (130, ident)
    assert f"chroma fetch {ident}" in ended.error["hint"]
    assert [row["status"] for row in chroma("jobs", "--json").json] in (["QUEUED"], ["PROCESSING"])
    assert chroma("fetch", "--pending", "--wait").paths == [work / "fox.png"]
    assert gateway.posts() == 1
