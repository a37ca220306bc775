"""A submit whose answer is lost: nobody knows whether it was taken, so it is never sent again by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kit import (
    KEY,
    RESET,
    Changed,
    Cut,
    Ended,
    Gateway,
    Lost,
    Programs,
    Reply,
    Silence,
    SkippingClock,
    action,
)
from kit.wire import Step

Chroma = Callable[..., Ended]
FOX = ("generate", "a fox", "-o", "fox.png", "--seed", "7")

#: More of them, with the money they leave in doubt, are in the wire matrix.
LOST: dict[str, Step] = {
    "reset": Lost(RESET),
    "close": action("lost close"),
    "page 502": action("lost page 502"),
    "504": action("lost 504"),
    "no id": Changed(lambda told: {"status": "QUEUED"}),
    "cut": Cut(20),
    "silence": Silence(30),
    "a status that is none": Lost(Reply(666)),
    "two megabytes": Lost(Reply.text("x" * 2_000_000)),
    "an id in two megabytes": Changed(lambda told: {**told, "pad": "x" * 2_000_000}),
    "the key as id": Changed(lambda told: {**told, "request_id": f"job-{KEY}"}),
    "ten thousand headers": Lost(Reply(200, [(f"X-{number}", "v") for number in range(10_000)], b"{}")),
}


@pytest.mark.parametrize("lost", LOST)
def test_the_outcome_is_unknown_sent_once_and_said_plainly(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, lost: str
) -> None:
    gateway.on("submit", LOST[lost], always=True)
    ended = chroma(*FOX, *(("--timeout", "3") if lost == "silence" else ()))
    assert (ended.code, ended.out) == (9, "")
    words = ended.err.lower()
    assert "may" in words and "not sent again" in words and "chroma jobs --pending" in words
    assert "traceback" not in words and "errno" not in words and KEY.lower() not in words
    [row] = chroma("jobs", "--json").json
    assert (row["status"], row["charged"], row["request_id"]) == ("UNKNOWN", "unknown", None)

    pending = chroma("jobs", "--pending")
    assert "--forget 1" in pending.err and "--resubmit 1" in pending.err
    fetched = chroma("fetch", "--pending", "--wait")
    assert (fetched.code, fetched.out) == (0, "")
    assert "Job 1 is unknown" in fetched.err
    assert gateway.posts() == 1
    assert list(work.iterdir()) == []


def test_as_json_the_error_says_that_money_may_have_gone(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    gateway.on("submit", Lost(RESET))
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["type"]) == (9, "outcome_unknown")
    assert (ended.error["charged"], ended.error["job"]) == ("unknown", 1)
    assert all(note["schema"] == 1 for note in ended.notes)
    assert [job["status"] for job in ended.json] == ["UNKNOWN"]
    assert gateway.posts() == 1


# --- sent again because the user said so -------------------------------------------------------------------


def test_resubmit_unknown_sends_it_again(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path
) -> None:
    """The first two answers are lost, the third comes."""
    gateway.on("submit", Lost(RESET), action("lost page 502"))
    ended = chroma(*FOX, "--resubmit-unknown")
    assert ended.paths == [work / "fox.png"], ended.said
    assert gateway.posts() == 3
    assert {row["status"] for row in chroma("jobs", "--json").json} == {"COMPLETED"}


def test_it_is_sent_three_times_at_most(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("submit", Lost(RESET), always=True)
    ended = chroma(*FOX, "--resubmit-unknown", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert gateway.posts() == 3


def test_a_lost_send_outweighs_a_later_refusal(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    gateway.on("submit", Lost(RESET), Reply.error(401, "Invalid API key"))
    ended = chroma(*FOX, "--resubmit-unknown", "--json")
    assert (ended.code, ended.error["charged"]) == (3, "unknown")


def test_jobs_resubmit_settles_the_old_row_and_makes_a_new_one(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path
) -> None:
    gateway.on("submit", action("lost 504"))
    assert chroma(*FOX).code == 9
    refused = chroma("jobs", "--resubmit", "1")
    assert refused.code == 2 and "--yes" in refused.err
    assert gateway.posts() == 1
    again = chroma("jobs", "--resubmit", "1", "--yes")
    assert again.code == 0, again.said
    bodies = [request.json for request in gateway.requests("submit")]
    assert bodies == [bodies[0]] * 2, "the very same request"
    assert [row["job"] for row in chroma("jobs", "--pending", "--json").json] == [2]
    fetched = chroma("fetch", "--pending", "--wait")
    assert fetched.paths == [work / "fox.png"], fetched.said
    assert chroma("jobs", "--resubmit", "1", "--yes").code == 2
    assert gateway.posts() == 2


def test_forget_settles_it_without_sending(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("submit", Lost(RESET), Lost(RESET))
    assert chroma("submit", "a fox", "-o", "fox.png").code == 9
    assert chroma("jobs", "--forget", "1").code == 0
    assert chroma("jobs", "--pending", "--json").out == ""
    assert gateway.posts() == 1
    # the place is free again
    assert chroma("submit", "a fox", "-o", "fox.png").code == 9


# --- a blocking call ---------------------------------------------------------------------------------------


def test_a_blocking_answer_without_a_picture_keeps_its_id(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    gateway.on("sync", Lost(Reply.json({"status": "QUEUED", "request_id": "j-9"})))
    ended = chroma(*FOX, "--sync", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert ended.error["request_id"] == "j-9"
    assert gateway.posts() == 1


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_of_a_blocking_call_is_not_repeated(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, status: int
) -> None:
    gateway.on("sync", Reply.error(status, "oops"))
    ended = chroma(*FOX, "--sync", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert gateway.posts() == 1


def test_an_owner_that_is_alive_is_not_given_up(gateway: Gateway, chroma: Chroma, process: Programs) -> None:
    """Its row becomes unknown only when it has said so itself, or is gone."""
    with gateway.hold("submit", "answer", then=RESET) as hold:
        owner = process.start("submit", "a fox", "-o", "fox.png")
        hold.wait()
        assert [row["status"] for row in chroma("jobs", "--json").json] == ["SUBMITTING"]
    assert owner.end().code == 9
    assert [row["status"] for row in chroma("jobs", "--json").json] == ["UNKNOWN"]
