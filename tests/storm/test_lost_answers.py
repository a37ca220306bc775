"""A submit whose answer is lost: nobody knows whether it was taken, so it is never sent again by itself."""

from __future__ import annotations

import json

import pytest
from stormrig import Machine, ended
from stormserver import StormServer, is_whole

LOST = ("reset", "close", "502", "504", "silence", "no id", "cut")


def patience(lost: str) -> tuple[str, ...]:
    return ("--timeout", "3") if lost == "silence" else ()


@pytest.mark.parametrize("lost", LOST)
def test_the_outcome_is_unknown_sent_once_and_said_plainly(
    machine: Machine, storm: StormServer, lost: str
) -> None:
    storm.lost["knight"] = lost
    answer = machine.run("generate", "knight", "-o", "knight.png", *patience(lost))
    assert (answer.code, answer.stdout) == (9, "")
    assert storm.submits["knight"] == 1
    words = answer.stderr.lower()
    assert "may" in words and "not sent again" in words and "chroma jobs --pending" in words
    assert "traceback" not in words and "errno" not in words
    [row] = machine.jobs()
    assert (row["status"], row["charged"], row["request_id"]) == ("UNKNOWN", "unknown", None)

    pending = machine.run("jobs", "--pending")
    assert "--forget 1" in pending.stderr and "--resubmit 1" in pending.stderr
    fetched = machine.run("fetch", "--pending", "--wait")
    assert (fetched.code, fetched.stdout) == (0, "")
    assert "Job 1 is unknown" in fetched.stderr
    assert storm.submits["knight"] == 1
    assert list(machine.out.iterdir()) == []


@pytest.mark.parametrize("lost", LOST)
def test_as_json_the_error_says_that_money_may_have_gone(
    machine: Machine, storm: StormServer, lost: str
) -> None:
    storm.lost["knight"] = lost
    answer = machine.run("generate", "knight", "--json", *patience(lost))
    assert answer.code == 9
    error = answer.error
    assert error["type"] == "outcome_unknown"
    assert (error["exit_code"], error["charged"], error["job"]) == (9, "unknown", 1)
    for line in answer.stderr.splitlines():
        assert json.loads(line)["schema"] == 1
    assert [job["status"] for job in answer.objects] == ["UNKNOWN"]
    assert storm.submits["knight"] == 1


def test_resubmit_unknown_sends_it_again_because_the_user_said_so(
    machine: Machine, storm: StormServer
) -> None:
    """The first answer is lost, the second comes."""

    class OnlyOnce(dict[str, str]):
        def get(self, prompt: str, default: str | None = None) -> str | None:  # type: ignore[override]
            return "reset" if storm.submits[prompt] == 1 else default

    storm.lost = OnlyOnce()
    answer = machine.run("generate", "knight", "-o", "knight.png", "--resubmit-unknown")
    assert answer.code == 0, answer.stderr
    assert storm.submits["knight"] == 2
    assert is_whole(machine.out / "knight.png", "knight")
    assert {row["status"] for row in machine.jobs()} == {"COMPLETED"}


def test_jobs_resubmit_settles_the_old_row_and_makes_a_new_one(machine: Machine, storm: StormServer) -> None:
    storm.lost["knight"] = "504"
    assert machine.run("generate", "knight", "-o", "knight.png", "--seed", "5").code == 9
    storm.lost.clear()
    refused = machine.run("jobs", "--resubmit", "1")
    assert refused.code == 2 and "--yes" in refused.stderr
    assert storm.submits["knight"] == 1
    again = machine.run("jobs", "--resubmit", "1", "--yes")
    assert again.code == 0, again.stderr
    assert storm.submits["knight"] == 2
    bodies = [job.body for job in storm.jobs.values()]
    assert bodies[0] == bodies[1], "the very same request"
    assert machine.run("jobs", "--pending", "--json").objects[0]["job"] == 2
    fetched = machine.run("fetch", "--pending", "--wait")
    assert fetched.lines == [str(machine.out / "knight.png")], fetched.stderr
    assert is_whole(machine.out / "knight.png", "knight")
    twice = machine.run("jobs", "--resubmit", "1", "--yes")
    assert twice.code == 2, twice.stderr
    assert storm.submits["knight"] == 2


def test_forget_settles_it_without_sending(machine: Machine, storm: StormServer) -> None:
    storm.lost["knight"] = "reset"
    assert machine.run("submit", "knight", "-o", "knight.png").code == 9
    assert machine.run("jobs", "--forget", "1").code == 0
    assert machine.run("jobs", "--pending", "--json").stdout == ""
    assert storm.submits["knight"] == 1
    # the place is free again
    assert machine.run("submit", "knight", "-o", "knight.png").code == 9


def test_an_owner_that_is_alive_is_not_given_up(machine: Machine, storm: StormServer) -> None:
    """Its row becomes unknown only when it has said so itself, or is gone."""
    hold = storm.hold("late", "submit")
    owner = machine.start("submit", "late", "-o", "late.png")
    try:
        assert hold.reached.wait(60)
        assert [row["status"] for row in machine.jobs()] == ["SUBMITTING"]
    finally:
        hold.released.set()
    assert ended(owner).code == 9
    assert [row["status"] for row in machine.jobs()] == ["UNKNOWN"]


@pytest.mark.parametrize("lost", ["reset", "502", "504", "close"])
def test_a_blocking_call_without_an_answer_is_unknown_as_well(
    machine: Machine, storm: StormServer, lost: str
) -> None:
    storm.lost["knight"] = lost
    answer = machine.run("generate", "knight", "--sync", "-o", "knight.png")
    assert (answer.code, answer.stdout) == (9, ""), answer.stderr
    assert storm.submits["knight"] == 1
    [row] = machine.jobs()
    assert (row["status"], row["mode"], row["charged"]) == ("UNKNOWN", "sync", "unknown")
    assert machine.temp_files() == []
