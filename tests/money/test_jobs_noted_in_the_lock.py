"""Jobs in flight when a machine goes down with its ledger: the lock beside the manifest has their ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kit import eventually

NAMES = [f"image {number}" for number in range(6)]


#: What a lock says of an image that was made.
ENTRY = {"request": "a" * 64, "seed": 1, "request_id": "b" * 36, "cost": 0.055, "files": []}


def manifest(path: Path, *names: str, **more: Any) -> Path:
    """Write a manifest of these images, each with its name as prompt."""
    rows = [json.dumps({"prompt": name, "output": f"{name}.png", **more}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


def lock_of(work: Path) -> dict[str, Any]:
    path = work / "art.lock.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def in_flight(work: Path) -> dict[str, Any]:
    return dict(lock_of(work).get("in_flight", {}))


def crash(gateway, process, work: Path, *names: str, jobs: int = 4) -> Path:
    """Start a batch, and have the machine go down when that many jobs are in flight."""
    art = manifest(work / "art.jsonl", *names)
    gateway.plan(polls=10**6)
    started = process.start("batch", art, "--jobs", str(jobs))
    eventually(lambda: len(in_flight(work)) == min(jobs, len(names)), "jobs in flight in the lock")
    started.kill()
    gateway.plan(polls=0)
    gateway.finish()
    return art


def change_note(work: Path, name: str, **fields: Any) -> None:
    lock = lock_of(work)
    lock["in_flight"][name].update(fields)
    (work / "art.lock.json").write_text(json.dumps(lock))


@pytest.mark.parametrize("ledger", ["none", "an older one"])
def test_what_was_in_flight_is_taken_up_and_not_bought_again(gateway, process, work, state, ledger):
    if ledger == "an older one":
        assert process("generate", "before", "-o", "before.png").code == 0
        shutil.copytree(state, work / "cache")
    art = crash(gateway, process, work, *NAMES)
    shutil.rmtree(state)
    if ledger == "an older one":
        shutil.move(work / "cache", state)
    told = process("batch", art, "--dry-run", "--json").json
    assert [one["expected_cost"] == 0 for one in told] == [True] * 4 + [False] * 2
    ended = process("batch", art, "--json")
    assert ended.code == 0, ended.said
    assert [gateway.posts(name) for name in NAMES] == [1] * 6
    assert [gateway.whose(work / f"{name}.png").prompt for name in NAMES] == NAMES
    assert "in_flight" not in lock_of(work)
    assert sorted(lock_of(work)["images"]) == [f"{name}.png" for name in NAMES]
    assert sum("not paid for again" in words for words in ended.warnings) == 4
    rows = process("jobs", "--json").json
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert all(row["request"]["prompt"] for row in rows)


def test_each_job_is_noted_before_it_is_first_asked_for(gateway, process, work):
    others = {f"old {number}.png": ENTRY for number in range(4000)}  # it takes long to write
    lock = {"version": 1, "manifest": "art.jsonl", "images": others}
    (work / "art.lock.json").write_text(json.dumps(lock))
    holds = [gateway.hold("status", prompt=name) for name in NAMES]
    started = process.start("batch", manifest(work / "art.jsonl", *NAMES))
    for name, hold in zip(NAMES, holds, strict=True):
        hold.wait()
        assert f"{name}.png" in in_flight(work)
        hold.release()
    assert started.end().code == 0


def test_an_interrupted_run_leaves_its_notes_and_the_next_one_takes_them_away(gateway, process, work):
    art = manifest(work / "art.jsonl", "a")
    gateway.plan(polls=10**6)
    started = process.start("batch", art)
    note = eventually(lambda: in_flight(work).get("a.png"), "a job in flight in the lock")
    started.signal(15)
    assert started.end().code == 143
    assert in_flight(work) == {"a.png": note}
    assert note["request_id"] == gateway.jobs("a")[0].id
    assert note["gateway"] == gateway.base_url
    gateway.finish()
    assert process("batch", art).code == 0
    assert "in_flight" not in lock_of(work)
    assert gateway.posts() == 1


def test_no_note_stays_of_a_job_that_failed(gateway, chroma, work):
    art = manifest(work / "art.jsonl", "a")
    gateway.plan(error="blocked")
    assert chroma("batch", art).code == 6
    assert in_flight(work) == {}


def test_what_has_expired_is_told_and_then_bought_anew(gateway, process, work, state):
    art = crash(gateway, process, work, "a", jobs=1)
    shutil.rmtree(state)
    gateway.forget()
    change_note(work, "a.png", submitted_at="2026-01-01T00:00:00.000Z")
    ended = process("batch", art, "--json")
    assert ended.code == 8
    assert "expired" in ended.error["message"]
    assert gateway.posts() == 1
    assert in_flight(work) == {}
    assert process("batch", art).code == 0
    assert gateway.posts() == 2


def test_what_is_not_found_within_the_hour_is_not_bought_anew(gateway, process, work, state):
    art = crash(gateway, process, work, "a", jobs=1)
    shutil.rmtree(state)
    gateway.forget()
    for _ in range(2):
        assert process("batch", art).code == 8
    assert gateway.posts() == 1
    assert "a.png" in in_flight(work)


@pytest.mark.parametrize(
    "fields", [{"gateway": "https://gateway.example"}, {"request": "0" * 64}], ids=["gateway", "request"]
)
def test_a_job_of_another_gateway_or_request_is_not_taken_up(gateway, process, work, state, fields):
    art = crash(gateway, process, work, "a", jobs=1)
    shutil.rmtree(state)
    change_note(work, "a.png", **fields)
    assert process("batch", art).code == 0
    assert gateway.posts() == 2
    assert "in_flight" not in lock_of(work)


@pytest.mark.parametrize(
    "fields",
    [
        {"request_id": "../../v1/get-user-credits"},
        {"request_id": 7},
        {"submitted_at": "yesterday"},
        {"submitted_at": 5},
        {"gateway": None},
        {"request": "x"},
    ],
)
def test_a_note_that_makes_no_sense_is_told(gateway, chroma, work, fields):
    art = manifest(work / "art.jsonl", "a")
    note = {"request": "0" * 64, "request_id": "r", "gateway": gateway.base_url}
    note |= {"submitted_at": "2026-01-01T00:00:00.000Z", **fields}
    lock = {"version": 1, "manifest": "art.jsonl", "images": {}, "in_flight": {"a.png": note}}
    (work / "art.lock.json").write_text(json.dumps(lock))
    ended = chroma("batch", art, "--json")
    assert ended.code == 2
    assert "art.lock.json is damaged" in ended.error["message"]
    assert gateway.requests() == []


def test_old_notes_of_images_that_are_gone_are_dropped(gateway, process, work, state):
    crash(gateway, process, work, "a", "b", jobs=2)
    change_note(work, "a.png", submitted_at="2026-01-01T00:00:00.000Z")
    assert process("batch", manifest(work / "art.jsonl", "c")).code == 0
    assert sorted(in_flight(work)) == ["b.png"]
