"""Many processes on one ledger, and a fetch beside owners that are still at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stormrig import Machine, ended
from stormserver import StormServer, is_whole

CROWD = 64


@pytest.mark.timeout(300)
def test_sixty_four_processes_share_one_ledger(machine: Machine, storm: StormServer) -> None:
    """No row is lost, nobody is told of a locked database, nobody takes another's picture."""
    prompts = [f"crowd {number}" for number in range(CROWD)]
    processes = [machine.start("generate", prompt, "--json", "-o", "here/") for prompt in prompts]
    answers = dict(zip(prompts, [ended(process, 200) for process in processes], strict=True))
    for prompt, answer in answers.items():
        assert answer.code == 0, answer.stderr
        told = [json.loads(line) for line in answer.stderr.splitlines()]
        # the pictures are smaller than asked for, which is all there may be to say
        assert all("not 1024x1024" in line["warning"] for line in told), answer.stderr
        [job] = answer.objects
        assert job["request"]["prompt"] == prompt
        assert is_whole(Path(job["files"][0]["path"]), prompt)
    rows = machine.jobs()
    assert sorted(row["job"] for row in rows) == list(range(1, CROWD + 1))
    assert {row["request"]["prompt"] for row in rows} == set(prompts)
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert dict(storm.submits) == dict.fromkeys(prompts, 1)
    assert len(list((machine.out / "here").iterdir())) == CROWD
    assert machine.temp_files() == []


def test_names_from_one_template_never_meet(machine: Machine, storm: StormServer) -> None:
    """The same prompt and seed, so the same name: the later ones give way, none is lost."""
    processes = [machine.start("generate", "a knight", "--seed", "7") for _ in range(6)]
    for process in processes:
        answer = ended(process)
        assert answer.code == 0, answer.stderr
    assert storm.submits["a knight"] == 6
    found = sorted(machine.out.glob("*.png"))
    assert len(found) == 6
    assert all(is_whole(path, "a knight") for path in found)


@pytest.mark.parametrize("place", ["submit", "status", "half"])
def test_fetch_leaves_jobs_and_temp_files_of_running_owners_alone(
    machine: Machine, storm: StormServer, place: str
) -> None:
    hold = storm.hold("busy", place)
    owner = machine.start("generate", "busy", "-o", "busy.png")
    try:
        assert hold.reached.wait(60)
        before = machine.temp_files()
        assert len(before) == (1 if place == "half" else 0)
        beside = machine.run("fetch", "--pending", "--wait", "--timeout", "5")
        assert (beside.code, beside.stdout) == (0, ""), beside.stderr
        if place != "submit":
            assert "left alone" in beside.stderr
        else:
            assert "unknown" not in beside.stderr, "its owner is alive and will know more"
        [row] = machine.jobs()
        assert row["status"] != "UNKNOWN"
        named = machine.run("fetch", str(row["job"]), "--json")
        if row["request_id"] is not None:
            assert (named.code, named.error["type"]) == (7, "not_finished")
        assert machine.temp_files() == before
        forgotten = machine.run("jobs", "--forget", str(row["job"]))
        assert forgotten.code == 2, forgotten
    finally:
        hold.released.set()
        answer = ended(owner)
    if place == "submit":
        # the storm hung up on it: that answer is lost
        assert answer.code == 9, answer.stderr
    else:
        assert answer.code == 0, answer.stderr
        assert is_whole(machine.out / "busy.png", "busy")
    assert storm.submits["busy"] == 1
    assert machine.temp_files() == []


def test_two_fetches_at_once_bring_each_job_home_once(machine: Machine, storm: StormServer) -> None:
    for number in range(3):
        assert machine.run("submit", f"pair {number}", "-o", f"pair{number}.png").code == 0
    hold = storm.hold("pair 0", "half")
    first = machine.start("fetch", "--pending", "--wait")
    try:
        assert hold.reached.wait(60)
        second = machine.run("fetch", "--pending", "--wait")
    finally:
        hold.released.set()
    answers = [ended(first), second]
    for answer in answers:
        # one of the others may be taken between the look at the list and the claim
        assert answer.code in (0, 7), answer.stderr
    assert machine.run("fetch", "--pending", "--wait").stdout == ""
    assert sum(len(answer.lines) for answer in answers) == 3
    assert {row["status"] for row in machine.jobs()} == {"COMPLETED"}
    assert machine.temp_files() == []
