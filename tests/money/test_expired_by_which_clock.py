"""A 404 ends a paid job only when its hour is over beyond doubt, whatever this computer's clock says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit import Reply, is_whole

DAY = 86400.0
GONE = Reply.error(404, "Request not found")


def submitted(gateway: Any, chroma: Any) -> str:
    gateway.world.keeps = 7 * DAY  # only the clocks of the two computers move
    assert chroma("submit", "a fox", "-o", "fox.png").code == 0
    return str(gateway.jobs()[0].id)


def comes_home(gateway: Any, chroma: Any, work: Path) -> bool:
    gateway.behave()
    fetched = chroma("fetch", "--pending", "--wait")
    return fetched.paths == [work / "fox.png"] and is_whole(work / "fox.png") and gateway.posts() == 1


@pytest.mark.parametrize("route", ["status", "result"])
@pytest.mark.parametrize("ahead", [DAY, 3 * 3600.0])
def test_a_clock_that_is_ahead_expires_nothing(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path, route: str, ahead: float
) -> None:
    submitted(gateway, chroma)
    clock.skip(ahead)
    gateway.ahead = -ahead  # for the gateway, no time has passed
    gateway.on(route, GONE, always=True)
    ended = chroma("fetch", "--pending", "--json")
    assert (ended.code, ended.error["type"]) == (8, "not_found"), ended.said
    assert "This computer's clock" in ended.error["hint"]
    assert [row["status"] for row in ledger_rows()] != ["EXPIRED"]
    assert comes_home(gateway, chroma, work)


def test_a_clock_that_was_behind_at_the_submit_expires_nothing(
    gateway: Any, clock: Any, chroma: Any, work: Path
) -> None:
    gateway.ahead = DAY
    submitted(gateway, chroma)
    clock.skip(DAY)  # now it is set right
    gateway.ahead = 0.0
    gateway.on("status", GONE, always=True)
    ended = chroma("fetch", "--pending", "--json")
    assert (ended.code, ended.error["type"]) == (8, "not_found"), ended.said
    assert comes_home(gateway, chroma, work)


def test_a_clock_that_is_behind_does_not_hide_the_end(gateway: Any, clock: Any, chroma: Any) -> None:
    submitted(gateway, chroma)
    gateway.ahead = 3700.0  # the hour is over, and our clock was set back by it
    gateway.on("status", GONE, always=True)
    ended = chroma("fetch", "--pending", "--json")
    assert (ended.code, ended.error["type"]) == (8, "expired"), ended.said


@pytest.mark.parametrize("date", [None, "", "soon", "Sat, 32 Nov 2026 99:00:00 GMT", "0"])
def test_without_a_date_nothing_is_final(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path, date: str | None
) -> None:
    submitted(gateway, chroma)
    clock.skip(DAY)
    gateway.ahead = None
    gateway.on(
        "status", Reply(404, [] if date is None else [("Date", date)], b'{"error": "no"}'), always=True
    )
    ended = chroma("fetch", "--pending", "--json")
    assert (ended.code, ended.error["type"]) == (8, "not_found"), ended.said
    assert "no date" in ended.error["hint"]
    assert "chroma jobs --forget 1" in ended.error["hint"]
    assert comes_home(gateway, chroma, work)


def test_without_a_date_at_the_submit_the_clocks_have_to_agree(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any
) -> None:
    gateway.ahead = None
    submitted(gateway, chroma)
    clock.skip(3700)
    gateway.on("status", GONE, always=True)
    for ahead, expected in ((-3700.0, "not_found"), (1800.0, "not_found"), (100.0, "expired")):
        gateway.ahead = ahead
        ended = chroma("fetch", "--pending", "--json")
        assert (ended.code, ended.error["type"]) == (8, expected), ended.said
    assert [row["status"] for row in ledger_rows()] == ["EXPIRED"]


def test_a_run_that_waited_more_than_an_hour_knows_it_without_a_date(
    gateway: Any, clock: Any, chroma: Any
) -> None:
    gateway.ahead = None
    gateway.plan(seconds=3700)
    gateway.world.keeps = 3650
    ended = chroma("generate", "a fox", "--timeout", "5000", "--json")
    assert (ended.code, ended.error["type"]) == (8, "expired"), ended.said


def test_a_result_that_is_late_is_waited_for_with_a_clock_that_is_ahead(
    gateway: Any, clock: Any, chroma: Any, work: Path
) -> None:
    submitted(gateway, chroma)
    clock.skip(DAY)
    gateway.ahead = -DAY
    gateway.on("result", GONE, GONE)
    ended = chroma("fetch", "--pending")
    assert ended.paths == [work / "fox.png"], ended.said
    assert is_whole(work / "fox.png")
