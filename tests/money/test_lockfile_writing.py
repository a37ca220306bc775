"""The lock beside a manifest while others write it too, and when it cannot be written at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit import is_whole


def manifest(path: Path, *names: str) -> Path:
    """Write a manifest of these images, each with its name as prompt."""
    rows = [json.dumps({"prompt": name, "output": f"{name}.png"}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


def locked(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())["images"])


#: One job at a time: the next may be on its way when the lock is written for the last.
SOON = 3
CONFLICT = '<<<<<<< HEAD\n{"version": 1}\n=======\n{"version": 1}\n>>>>>>> theirs\n'


def test_entries_that_others_wrote_meanwhile_stay(gateway, process, work):
    art = manifest(work / "art.jsonl", "a", "b")
    assert process("batch", art).code == 0
    manifest(art, "c")
    lock = work / "art.lock.json"
    before = json.loads(lock.read_text())
    with gateway.hold("status", prompt="c") as hold:
        started = process.start("batch", art)
        hold.wait()
        pulled = {**before["images"], "d.png": before["images"].pop("a.png")}
        lock.write_text(json.dumps({**before, "images": pulled}))
    assert started.end().code == 0
    assert sorted(locked(lock)) == ["a.png", "b.png", "c.png", "d.png"]


def test_two_runs_whose_run_lock_was_removed_keep_both_entries(gateway, process, work):
    art = manifest(work / "art.jsonl", "a")
    with gateway.hold("status", prompt="a") as hold:
        started = process.start("batch", art)
        hold.wait()
        (work / ".art.jsonl.running").unlink()  # as git clean does
        manifest(art, "b")
        assert process("batch", art).code == 0
    assert started.end().code == 0
    assert sorted(locked(work / "art.lock.json")) == ["a.png", "b.png"]


def test_the_marks_of_a_merge_are_told_as_that(gateway, chroma, work):
    art = manifest(work / "art.jsonl", "a")
    (work / "art.lock.json").write_text(CONFLICT)
    for more in ([], ["--check"], ["--dry-run"]):
        ended = chroma("batch", art, *more, "--json")
        assert ended.code == 2
        assert "merge conflict" in ended.error["message"]
        assert "art.lock.json" in ended.error["message"]
        assert "git checkout --ours" in ended.error["hint"]
    assert gateway.posts() == 0
    assert (work / "art.lock.json").read_text() == CONFLICT


def test_a_merge_during_the_run_is_left_to_its_person(gateway, process, work):
    art = manifest(work / "art.jsonl", *"abcdefgh")
    with gateway.hold("status", prompt="a") as hold:
        started = process.start("batch", art, "--jobs", "1", "--json")
        hold.wait()
        (work / "art.lock.json").write_text(CONFLICT)
    ended = started.end()
    assert ended.code == 10, ended.said
    assert "merge conflict" in ended.error["message"]
    assert ended.error["charged"] == "yes"
    assert (work / "art.lock.json").read_text() == CONFLICT
    assert gateway.posts() <= SOON
    assert is_whole(work / "a.png")


@pytest.mark.parametrize("length", [231, 240])
def test_a_manifest_with_a_long_name(gateway, chroma, work, length):
    art = manifest(work / ("x" * (length - 6) + ".jsonl"), "a")
    assert chroma("batch", art).code == 0
    assert chroma("batch", art, "--check").code == 0
    assert gateway.posts() == 1


@pytest.mark.parametrize("length", [246, 247])
def test_a_name_too_long_for_its_lock_is_found_before_anything_is_spent(gateway, chroma, work, length):
    art = manifest(work / ("x" * length), "a", "b")
    ended = chroma("batch", art, "--manifest-format", "jsonl", "--json")
    assert (ended.code, ended.error["charged"]) == (10, "no")
    assert "the name is too long" in ended.error["message"]
    assert gateway.posts() == 0


def test_a_folder_in_the_place_of_the_lock_is_found_before_anything_is_spent(gateway, chroma, work):
    art = manifest(work / "art.jsonl", "a", "b")
    (work / "art.lock.json").mkdir()
    ended = chroma("batch", art, "--json")
    assert (ended.code, ended.error["charged"]) == (10, "no")
    assert gateway.posts() == 0


@pytest.mark.parametrize("names", [["a"], list("abcdefgh")])
def test_a_lock_that_breaks_during_the_run_loses_nothing_and_buys_no_more(gateway, process, work, names):
    art = manifest(work / "art.jsonl", *names)
    with gateway.hold("status", prompt="a") as hold:
        started = process.start("batch", art, "--jobs", "1", "--json")
        hold.wait()
        lock = work / "art.lock.json"
        lock.unlink(missing_ok=True)
        lock.mkdir()
    ended = started.end()
    assert ended.code == 10, ended.said
    assert ended.error["charged"] == "yes"
    assert gateway.posts() <= SOON
    assert is_whole(work / "a.png")
    lock.rmdir()
    assert process("batch", art).code == 0
    assert gateway.posts() == len(names)
    assert sorted(locked(lock)) == [f"{name}.png" for name in names]
