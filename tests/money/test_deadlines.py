"""What a job in flight ends with at its deadline, and how it is waited for until then."""

from __future__ import annotations

import signal

import pytest
from kit import PASS, Changed, Garbage, Reply

pytestmark = pytest.mark.usefixtures("clock")

PROCESSING = Reply.json({"status": "PROCESSING"})
BUSY = Reply.error(503, "busy")


@pytest.mark.parametrize("seconds", ["0.3", "1", "5", "60", "600"])
def test_the_deadline_holds_to_the_second(gateway, chroma, clock, seconds) -> None:
    gateway.plan(seconds=10_000)
    ended = chroma("generate", "a fox", "--timeout", seconds, "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (7, "not_finished", "unknown")
    assert sum(clock.sleeps) <= float(seconds)
    last = max(one.at for one in gateway.requests("status")) - gateway.jobs()[0].born
    assert last <= float(seconds) + 5
    assert f"chroma fetch {gateway.jobs()[0].id}" in ended.error["hint"]
    assert chroma("jobs", "--json").one["status"] in ("QUEUED", "PROCESSING")


@pytest.mark.parametrize(("dark", "code"), [(170, 7), (155, 7), (120, 9), (60, 9), (0, 9)])
def test_seven_with_an_answer_in_the_last_minute_else_nine(gateway, chroma, clock, dark, code) -> None:
    """An accepted submit is no answered poll."""
    gateway.plan(seconds=10_000)
    begun = clock.monotonic()
    gateway.on("status", lambda _: PASS if clock.monotonic() < begun + dark else BUSY, always=True)
    ended = chroma("generate", "a fox", "--timeout", "200", "--json")
    assert (ended.code, ended.error["charged"]) == (code, "unknown")
    assert f"chroma fetch {gateway.jobs()[0].id}" in ended.error["hint"]
    assert [job["status"] in ("QUEUED", "PROCESSING") for job in chroma("jobs", "--json").json] == [True]


def test_the_whole_deadline_is_used_for_tries(gateway, chroma, clock) -> None:
    gateway.on("status", BUSY, always=True)
    ended = chroma("generate", "a fox", "--timeout", "4", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert 2.9 < sum(clock.sleeps) < 5.0


def test_rate_limited_beyond_the_deadline(gateway, chroma) -> None:
    gateway.on("status", Reply.error(429, "too many"), always=True)
    ended = chroma("generate", "a fox", "--timeout", "60", "--json")
    assert (ended.code, ended.error["charged"]) == (5, "unknown")
    assert chroma("jobs", "--pending", "--json").one["request_id"] == gateway.jobs()[0].id


def test_what_is_done_right_before_the_deadline_is_not_missed(gateway, chroma) -> None:
    """A job like this takes 53 s, so nothing would be asked between 3 and 12 s; this one takes 5."""
    gateway.plan(seconds=5)
    ended = chroma("generate", "a fox", "--timeout", "10")
    assert ended.code == 0, ended.said
    assert len(gateway.requests("status")) < 7


def test_each_change_is_told_once(gateway, chroma) -> None:
    gateway.plan(seconds=50)
    told = chroma("generate", "a fox").err.splitlines()
    assert len(set(told)) == len(told) == 5  # submitted, in the queue, at work, ready, saved


def test_few_polls_and_a_short_wait_for_a_job_of_the_usual_length(gateway, chroma, clock) -> None:
    gateway.plan(seconds=53)
    begun = clock.monotonic()
    assert chroma("generate", "a fox").code == 0
    assert len(gateway.requests("status")) <= 20
    assert clock.monotonic() - begun < 53 + 5


def test_earlier_jobs_bring_the_polls_to_the_end(gateway, chroma, clock) -> None:
    """The gateway tells how long they took."""
    gateway.plan(seconds=20)
    gateway.on(
        "result",
        Changed(lambda told: {**told, "metrics": {**told["metrics"], "total_time": 20.0}}),
        always=True,
    )
    for number in range(5):
        assert chroma("generate", f"fox {number}").code == 0
    before, begun = len(gateway.requests("status")), clock.monotonic()
    assert chroma("generate", "a fox").code == 0
    assert len(gateway.requests("status")) - before < 12
    assert clock.monotonic() - begun < 20 + 5


def test_a_job_taken_up_later_is_asked_for_at_once(gateway, chroma, submitted, clock) -> None:
    ident = submitted()
    clock.skip(1000)
    assert chroma("fetch", ident, "--wait").code == 0
    assert sum(clock.sleeps) == 0


@pytest.mark.parametrize("how", [(), ("--no-ledger",)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_while_waiting(gateway, process, chroma, number, code, how) -> None:
    gateway.on("status", PROCESSING, always=True)
    with gateway.hold("status", then=PROCESSING) as hold:
        started = process.start("generate", "a fox", "--json", *how)
        hold.wait()
        started.signal(number)
    ended = started.end()
    assert (ended.code, ended.error["charged"]) == (code, "unknown")
    assert "goes on" in ended.error["message"]
    ident = gateway.jobs()[0].id
    assert f"chroma fetch {ident}" in ended.error["hint"]
    gateway.behave()
    assert len(chroma("fetch", ident).paths) == 1
    assert gateway.posts() == 1


def test_nonsense_for_a_status_is_waited_out(gateway, chroma) -> None:
    gateway.on("status", Garbage(), Reply(200, body=b"{"), Reply.json([]))
    assert chroma("generate", "a fox").code == 0
