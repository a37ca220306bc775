"""What a gateway may do in the middle of a batch, and what the run says of itself at its end."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
from kit import PASS, Changed, Reply, eventually, is_whole
from kit.wire import Action

NOT_FOUND = Reply.error(404, "request not found")
BROKE = Reply.error(402, "Insufficient credits")
TOO_MANY = Reply.error(429, "rate limited")
NEVER = "http://127.0.0.1:9/preview.png"

#: What the result route may say of a job that is complete by its status route.
NOT_YET = {
    "not found": NOT_FOUND,
    "accepted": Reply.json({"status": "QUEUED"}, 202),
    "processing": Reply.json({"status": "PROCESSING", "metrics": {}}),
    "a preview": Changed(lambda told: {**told, "status": "PROCESSING", "output": NEVER, "images": None}),
    "rate limited": TOO_MANY,
    "an error": Reply.error(500),
}


@pytest.mark.parametrize("early", NOT_YET.values(), ids=NOT_YET.keys())
def test_a_result_that_comes_later_than_its_state_is_waited_for(chroma, gateway, listing, work, early):
    gateway.on("result", early, early, prompt="fox")
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--retry-failed", "2")
    assert ended.code == 0, ended.said
    assert [gateway.whose(work / f"{name}.png").prompt for name in ("fox", "owl")] == ["fox", "owl"]
    assert (gateway.posts("fox"), gateway.posts("owl")) == (1, 1)
    assert {path.name for path in work.glob(".*")} == set()


def test_an_output_that_is_told_before_the_end_is_no_picture(chroma, gateway, listing, work):
    """Nobody asks for it, and it does not get into the place of the true one."""
    preview = Changed(lambda told: {**told, "output": f"{gateway.base_url}/preview.png"})
    gateway.on("status", preview, preview, prompt="fox")
    gateway.plan(polls=2)
    listing("fox")
    assert chroma("batch", "list.jsonl").code == 0
    assert gateway.whose(work / "fox.png").prompt == "fox"
    assert gateway.requests(path="/preview.png") == []


def test_a_result_that_never_comes_is_not_waited_for_long(chroma, gateway, clock, listing):
    def later(_: object) -> Reply:
        clock.skip(30)
        return NOT_FOUND

    gateway.on("result", later, always=True)
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "not_found", "yes")
    assert len(gateway.requests("result")) <= 4


def test_a_refusal_that_would_meet_all_is_met_by_few_and_told_of_the_run(chroma, gateway, listing):
    gateway.on("submit", PASS, PASS, BROKE, always=True)
    listing(*(f"fox{number}" for number in range(60)))
    ended = chroma("batch", "list.jsonl", "--jobs", "60", "--json")
    assert ended.code == 4
    refused = gateway.posts() - 2
    assert 1 <= refused <= 5  # so many are out at a time
    error = ended.error
    assert (error["type"], error["job"], error["request_id"]) == ("not_enough_credits", None, None)
    assert error["charged"] == "yes"  # two pictures were
    assert f"{58 - refused} of 60 images were not begun, {refused} failed." in error["message"]
    again = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert len(again.json) == 58


def test_of_a_single_image_the_refusal_names_its_job(chroma, gateway, listing):
    gateway.on("submit", BROKE)
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--json")
    assert (ended.code, ended.error["job"], ended.error["charged"]) == (4, 1, "no")


def test_what_was_saved_of_an_image_is_named(chroma, gateway, listing, work):
    gateway.on("GET /files/*-1.png", Reply.error(404, "gone"), always=True)
    listing("owl", "fox", samples=2)
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--summary", "summary.md")
    assert ended.code == 11
    assert "Saved of it: owl-1.png." in ended.err
    assert "owl-1.png" in (work / "summary.md").read_text()
    assert "Money was spent." in ended.err
    assert is_whole(work / "owl-1.png")
    assert not Path("owl-2.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_submits_that_were_not_answered_are_told_from_jobs(chroma, gateway, process, listing):
    holds = [gateway.hold("submit", prompt=name) for name in ("fox", "owl")]
    listing("fox", "owl")
    started = process.start("batch", "list.jsonl", "--jobs", "2")
    for hold in holds:
        hold.wait()
    started.signal(signal.SIGINT)
    started.wait_for("Stopping")
    started.signal(signal.SIGINT)
    ended = started.end()
    assert ended.code == 130
    assert "2 submits were not answered yet" in ended.err
    assert "chroma jobs --pending" in ended.err
    kept = chroma("jobs", "--pending", "--json")
    assert [one["status"] for one in kept.json] == ["UNKNOWN", "UNKNOWN"]


# --- how often the gateway is asked ------------------------------------------------------------------------


def test_a_429_slows_down_everything(chroma, gateway, listing):
    opens: list[float] = []
    refused: list[float] = []

    def refuse_for_a_second(_: object) -> Action:
        now = time.monotonic()
        if not opens and len(gateway.jobs()) >= 5:
            opens.append(now + 1)
        if not opens or now >= opens[0]:
            return PASS
        refused.append(now)
        return Reply.error(429, "rate limited", x_rate_limit_reset_at_utc=str(time.time() + opens[0] - now))

    gateway.on("*", refuse_for_a_second, always=True)
    gateway.plan(seconds=0.3)
    listing(*(f"fox{n}" for n in range(30)))
    ended = chroma("batch", "list.jsonl", "--jobs", "20")
    assert ended.code == 0, ended.said
    assert len(gateway.jobs()) == 30
    # the first, those that were out already, and then silence
    assert 1 <= len(refused) <= 20


def test_pauses_that_the_gateway_leaves_open_grow(chroma, gateway, listing):
    gateway.on("status", TOO_MANY, TOO_MANY)
    listing("fox")
    assert chroma("batch", "list.jsonl").code == 0
    first, second, third = [one.at for one in gateway.requests("status")][:3]
    assert second - first >= 0.5
    assert third - second >= 1.0


def test_submits_keep_the_rate(chroma, gateway, listing):
    listing(*(f"fox{n}" for n in range(7)))
    assert chroma("batch", "list.jsonl", "--rate", "10/s").code == 0
    times = [one.at for one in gateway.requests("submit")]
    assert len(times) == 7
    assert times[-1] - times[0] >= 0.55


def test_no_more_than_so_many_are_in_flight(chroma, gateway, listing):
    gateway.plan(seconds=0.3)
    listing(*(f"fox{n}" for n in range(9)))
    assert chroma("batch", "list.jsonl", "--jobs", "3").code == 0
    assert 1 < gateway.world.most_in_flight <= 3


def test_a_job_is_asked_about_a_few_times(chroma, gateway, listing):
    gateway.plan(seconds=2)
    listing(*(f"fox{n}" for n in range(40)))
    assert chroma("batch", "list.jsonl", "--jobs", "40").code == 0
    assert max(job.polls for job in gateway.jobs()) <= 8
    assert {job.downloads for job in gateway.jobs()} == {1}


def test_a_finished_job_frees_its_place_before_its_picture_is_here(gateway, process, listing):
    gateway.plan(polls=10**6, prompt="owl")
    listing("fox", "owl", "hare")
    with gateway.hold("file", "half", prompt="fox") as hold:
        started = process.start("batch", "list.jsonl", "--jobs", "2")
        hold.wait()
        eventually(lambda: gateway.posts("hare"), "the next submit")
    gateway.finish()
    assert started.end().code == 0


def test_with_fail_fast_the_next_waits_for_the_picture(gateway, process, listing):
    """One that cannot be saved is a failure, after which nothing is begun."""
    gateway.plan(polls=10**6, prompt="owl")
    listing("fox", "owl", "hare")
    with gateway.hold("file", "half", prompt="fox") as hold:
        started = process.start("batch", "list.jsonl", "--jobs", "2", "--fail-fast")
        hold.wait()
        [owl] = gateway.jobs("owl")
        polls = owl.polls
        eventually(lambda: owl.polls >= polls + 2, "questions about the other job")
        assert gateway.posts("hare") == 0
    gateway.finish()
    assert started.end().code == 0
    assert gateway.posts("hare") == 1
