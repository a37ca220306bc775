"""A lock that somebody else wrote: it may name files, and must not lead to their end."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kit import picture


def manifest(path: Path, *names: str, **more: Any) -> Path:
    """Write a manifest of these images, each with its name as prompt."""
    rows = [json.dumps({"prompt": name, "output": f"{name}.png", **more}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


def entry(path: Path, request: str = "0" * 64) -> dict[str, Any]:
    """An entry that says that this file was made from that request."""
    data = path.read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    file = {"path": path.name, "sha256": sha, "format": "png", "width": 1024, "height": 1024}
    files = [{**file, "bytes": len(data)}]
    return {"request": request, "seed": 1, "request_id": "r-1", "cost": 0.055, "files": files}


def put_lock(work: Path, images: dict[str, Any], left: dict[str, Any] | None = None) -> None:
    lock = {"version": 1, "manifest": "art.jsonl", "images": images, "left": left or {}}
    (work / "art.lock.json").write_text(json.dumps(lock))


@pytest.fixture
def holiday(work):
    """The user's own picture."""
    path = work / "holiday.png"
    path.write_bytes(picture(77))
    return path


@pytest.mark.parametrize("left", [False, True])
def test_a_picture_that_only_the_lock_calls_ours_is_not_pruned(gateway, chroma, work, holiday, left):
    art = manifest(work / "art.jsonl", "a")
    sha = hashlib.sha256(holiday.read_bytes()).hexdigest()
    if left:
        put_lock(work, {}, {holiday.name: {"request": "0" * 64, "sha256": sha}})
    else:
        put_lock(work, {holiday.name: entry(holiday)})
    for _ in range(2):  # it is not forgotten either
        ended = chroma("batch", art, "--prune", "--json")
        assert ended.code == 1, ended.said
        assert ended.error["type"] == "not_removed"
        assert "--yes" in ended.error["hint"]
        assert any(str(holiday) in words and "kept" in words for words in ended.warnings)
        assert holiday.exists()
    assert ended.error["charged"] == "no"
    assert chroma("batch", art, "--prune", "--yes").code == 0
    assert not holiday.exists()
    assert chroma("batch", art, "--check").code == 0


def test_a_recipe_of_another_request_is_no_proof(gateway, chroma, work):
    assert chroma("generate", "mine", "--seed", "5", "-o", "mine.png").code == 0
    put_lock(work, {"mine.png": entry(work / "mine.png")})
    assert chroma("batch", manifest(work / "art.jsonl", "a"), "--prune").code == 1
    assert (work / "mine.png").exists()


@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("y\n", False)])
def test_on_a_terminal_it_is_asked(gateway, process, work, holiday, answer, stays):
    put_lock(work, {holiday.name: entry(holiday)})
    art = manifest(work / "art.jsonl", "a")
    with process.terminal("batch", art, "--prune") as terminal:
        terminal.wait_for(r"Remove it all the same\?")
        terminal.say(answer)
        assert terminal.end().code == 0
    assert holiday.exists() is stays


@pytest.mark.parametrize("known_by", ["ledger", "recipe"])
def test_what_was_made_here_is_pruned_without_a_question(gateway, chroma, work, state, tmp_path, known_by):
    if known_by == "ledger":
        (tmp_path / "config.toml").write_text('[defaults]\nmetadata = "none"\n')
    art = manifest(work / "art.jsonl", "a", "b")
    assert chroma("batch", art).code == 0
    if known_by == "recipe":
        shutil.rmtree(state)
    manifest(art, "a")
    assert chroma("batch", art, "--prune").code == 0
    assert sorted(path.name for path in work.glob("*.png")) == ["a.png"]


def test_a_picture_that_only_the_lock_calls_ours_is_not_replaced(gateway, chroma, work, holiday):
    put_lock(work, {holiday.name: entry(holiday)})
    art = manifest(work / "art.jsonl", "holiday", "b")
    before = holiday.read_bytes()
    ended = chroma("batch", art)
    assert ended.code == 11, ended.said
    assert "neither the job ledger nor a recipe" in ended.err
    assert holiday.read_bytes() == before
    assert gateway.posts("holiday") == 0
    assert chroma("batch", art, "--overwrite").code == 0
    assert gateway.whose(holiday).prompt == "holiday"


@pytest.mark.parametrize("known_by", ["ledger", "recipe"])
def test_what_was_made_here_is_replaced_when_its_request_changes(
    gateway, chroma, work, state, tmp_path, known_by
):
    if known_by == "ledger":
        (tmp_path / "config.toml").write_text('[defaults]\nmetadata = "none"\n')
    art = manifest(work / "art.jsonl", "a")
    assert chroma("batch", art).code == 0
    if known_by == "recipe":
        shutil.rmtree(state)
    assert chroma("batch", manifest(art, "a", steps=41)).code == 0
    assert gateway.whose(work / "a.png").body["steps"] == 41
