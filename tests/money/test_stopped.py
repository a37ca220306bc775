"""A generate that is stopped at any stage: its job is known, told, and brought home later; paid once."""

from __future__ import annotations

import os
import signal

import pytest
from kit import Reply, eventually

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

FOX = ("generate", "a fox", "-o", "fox.png")
BOTH = pytest.mark.parametrize(
    ("number", "code", "kind"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)


@BOTH
def test_while_waiting_the_job_is_fetchable(gateway, process, work, number, code, kind):
    gateway.on("status", Reply.json({"status": "PROCESSING"}), always=True)
    started = process.start(*FOX, "--json")
    eventually(lambda: len(gateway.requests("status")) > 1, "two polls")
    started.signal(number)
    done = started.end()
    [job] = gateway.jobs()
    assert (done.code, done.error["type"], done.error["charged"]) == (code, kind, "unknown")
    assert (done.error["request_id"], done.error["job"]) == (job.id, 1)
    assert f"chroma fetch {job.id}" in done.error["hint"]
    assert (done.one["status"], done.one["error"]) == ("PROCESSING", done.error)
    assert os.listdir(work) == []
    gateway.behave()
    assert process("fetch", "--pending").paths == [work / "fox.png"]
    assert os.listdir(work) == ["fox.png"]
    assert gateway.posts() == 1


def test_the_words_for_a_person(gateway, process):
    with gateway.hold("status"):
        started = process.start(*FOX)
        started.wait_for("waiting in the queue")
        started.interrupt()
        done = started.end()
    [job] = gateway.jobs()
    assert done.code == 130
    error, hint, about = done.err.splitlines()[-3:]
    assert error == "error: Interrupted while waiting; the job goes on and is charged when it completes."
    assert f"chroma fetch {job.id}" in hint
    assert job.id in about
    assert "charged" in about
    assert "Traceback" not in done.err
    assert done.out == ""


@BOTH
def test_while_the_submit_is_out_its_id_is_waited_for(gateway, process, work, number, code, kind):
    with gateway.hold("submit", "answer") as hold:
        started = process.start(*FOX, "--json")
        hold.wait()
        started.signal(number)
        started.wait_for('"warning"')
        assert started.running
    done = started.end()
    assert (done.code, done.error["type"]) == (code, kind)
    assert done.error["request_id"] == gateway.jobs()[0].id
    assert process("fetch", "--pending").paths == [work / "fox.png"]
    assert gateway.posts() == 1


def test_the_second_ctrl_c_ends_at_once(gateway, process, ledger_rows):
    with gateway.hold("submit") as hold:
        started = process.start(*FOX, "--json")
        hold.wait()
        started.interrupt()
        started.wait_for('"warning"')
        started.interrupt()
        done = started.end()
    assert (done.code, done.error["charged"]) == (130, "unknown")
    assert (done.error["request_id"], done.error["job"]) == (None, 1)
    assert "chroma jobs --pending" in done.error["hint"]
    assert [row["status"] for row in ledger_rows()] == ["UNKNOWN"]
    assert gateway.posts() == 1


def test_before_anything_was_taken_nothing_is_pending(gateway, process):
    gateway.on("submit", Reply.error(429, "slow down", Retry_After="60"), always=True)
    started = process.start(*FOX, "-v", "--json")
    started.wait_for('"status": 429')
    started.interrupt()
    done = started.end()
    assert (done.code, done.error["charged"]) == (130, "no")
    assert process("jobs", "--pending", "--json").json == []


def test_while_downloading_the_picture_is_fetched_later(gateway, process, work):
    with gateway.hold("file", "half") as hold:
        started = process.start(*FOX, "--json")
        hold.wait()
        started.signal(signal.SIGTERM)
        done = started.end()
    assert (done.code, done.error["charged"]) == (143, "yes")
    assert not [name for name in os.listdir(work) if not name.startswith(".")]
    assert process("fetch", "--pending").paths == [work / "fox.png"]
    assert os.listdir(work) == ["fox.png"]


def test_a_stopped_blocking_call_is_unknown(gateway, process):
    with gateway.hold("sync") as hold:
        started = process.start(*FOX, "--sync", "--json")
        hold.wait()
        started.interrupt()
        started.wait_for('"warning"')
        started.interrupt()
        done = started.end()
    assert (done.code, done.error["charged"]) == (130, "unknown")
    assert gateway.posts() == 1


@BOTH
def test_a_command_that_spends_nothing_ends_the_same_way(gateway, process, number, code, kind):
    with gateway.hold("credits") as hold:
        started = process.start("credits", "--json")
        hold.wait()
        started.signal(number)
        done = started.end()
    assert (done.code, done.error["type"], done.error["charged"]) == (code, kind, "no")
    assert done.out == ""
