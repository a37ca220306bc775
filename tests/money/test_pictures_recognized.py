"""Pictures that are there and paid for, and that neither the lock nor the ledger knows (any more)."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from kit import Reply, eventually, picture


def manifest(path: Path, *names: str, **more: Any) -> Path:
    """Write a manifest of these images, each with its name as prompt."""
    rows = [json.dumps({"prompt": name, "output": f"{name}.png", **more}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


def locked(work: Path) -> dict[str, Any]:
    return dict(json.loads((work / "art.lock.json").read_text())["images"])


@pytest.fixture
def lose(work, state):
    """What was never saved when the machine went away: the ledger, and the lock if there is one."""

    def lost(*, lock: bool = True) -> None:
        shutil.rmtree(state)
        if lock:
            (work / "art.lock.json").unlink()

    return lost


@pytest.mark.parametrize("more", [{}, {"samples": 3}, {"format": "jpeg", "output": "{slug}.jpg"}])
def test_pictures_without_lock_and_ledger_are_not_paid_for_again(gateway, chroma, work, lose, more):
    art = manifest(work / "art.jsonl", "a", "b", **more)
    assert chroma("batch", art).code == 0
    before = locked(work)
    lose()
    assert chroma("batch", art, "--check").code == 0
    assert not (work / "art.lock.json").exists()
    assert chroma("batch", art, "--dry-run").out == ""
    assert chroma("batch", art).code == 0
    assert gateway.posts() == 2
    assert locked(work) == {key: {**entry, "cost": None} for key, entry in before.items()}


def test_a_picture_that_came_in_another_format_is_not_paid_for_again(gateway, chroma, work, lose):
    gateway.on("file", Reply(200, [], picture(1, "jpeg")))
    art = manifest(work / "art.jsonl", "a")
    assert chroma("batch", art).paths == [work / "a.jpg"]
    lose()
    assert chroma("batch", art, "--check").code == 0
    assert chroma("batch", art).code == 0
    assert gateway.posts() == 1


def test_the_lock_is_written_while_a_batch_goes_on(gateway, process, work, tmp_path, monkeypatch):
    art = manifest(work / "art.jsonl", "a", "b")
    (tmp_path / "config.toml").write_text('[defaults]\nmetadata = "none"\n')
    monkeypatch.setenv("CHROMA_CONFIG", str(tmp_path / "config.toml"))
    with gateway.hold("status", prompt="b") as hold:
        started = process.start("batch", art, "--jobs", "1")
        hold.wait()
        eventually((work / "art.lock.json").exists, "the lock")
        assert "a.png" in eventually(lambda: locked(work), "an entry of the lock")
        started.kill()


@pytest.mark.parametrize("lock", [True, False], ids=["lock lost", "lock there"])
def test_what_was_killed_goes_on_on_a_fresh_machine(gateway, process, work, lose, lock):
    names = [f"image {number}" for number in range(8)]
    art = manifest(work / "art.jsonl", *names)
    with gateway.hold("file", "half", prompt=names[4]) as hold:
        started = process.start("batch", art, "--jobs", "1")
        hold.wait()
        started.kill()
    lose(lock=lock)
    assert process("batch", art).code == 0
    assert [gateway.posts(name) for name in names] == [1, 1, 1, 1, 1 + lock, 1, 1, 1]
    assert process("batch", art, "--check").code == 0


def test_batches_without_a_lock_recognize_their_pictures(gateway, chroma, work, state):
    rows = manifest(work / "art.jsonl", "a", "b").read_bytes()
    assert chroma("batch", "-", stdin=rows).code == 0
    shutil.rmtree(state)
    assert chroma("batch", "-", stdin=rows).code == 0
    assert gateway.posts() == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: manifest(path.with_name("art.jsonl"), "a", steps=41),
        lambda path: path.rename(path.with_suffix(".kept")) and path.symlink_to(path.with_suffix(".kept")),
    ],
    ids=["cut", "another request", "a link"],
)
def test_what_is_not_whole_or_not_the_very_request_is_not_taken(gateway, chroma, work, lose, spoil):
    art = manifest(work / "art.jsonl", "a")
    assert chroma("batch", art).code == 0
    lose()
    spoil(work / "a.png")
    before = (work / "a.png").read_bytes()
    assert chroma("batch", art, "--check").code == 1
    assert chroma("batch", art).code == 10
    assert gateway.posts() == 1
    assert (work / "a.png").read_bytes() == before


def test_practice_pictures_are_not_taken_for_real_ones(gateway, chroma, work, lose):
    art = manifest(work / "art.jsonl", "a")
    assert chroma("batch", art, "--sandbox").code == 0
    lose()
    assert chroma("batch", art, "--check", "--sandbox").code == 0
    assert chroma("batch", art, "--check").code == 1


def test_a_picture_changed_by_hand_stays_one_that_was(gateway, chroma, work, lose):
    art = manifest(work / "art.jsonl", "a")
    assert chroma("batch", art).code == 0
    lose(lock=False)
    picture = work / "a.png"
    at = picture.read_bytes().index(b"IDAT") - 4
    mine = picture.read_bytes()
    chunk = b"\0\0\0\3tEXtA\0B" + zlib.crc32(b"tEXtA\0B").to_bytes(4)
    picture.write_bytes(mine[:at] + chunk + mine[at:])
    assert chroma("batch", art, "--check").code == 1
    assert "changed by hand" in chroma("batch", art).err
    manifest(art, "a", steps=41)
    assert chroma("batch", art).code == 10
    assert gateway.posts() == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_either_side_of_a_merge_conflict_will_do(gateway, chroma, work, state):
    def git(*words: str, code: int = 0) -> None:
        names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *names, *words], cwd=work, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr

    art = manifest(work / "art.jsonl", "a", "b", "c", "d")
    rows = art.read_text().splitlines(keepends=True)
    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "start")
    for branch, part in (("one", rows[:2]), ("two", rows[2:])):
        git("checkout", "-q", "-b", branch, "main")
        art.write_text("".join(part))
        assert chroma("batch", art).code == 0
        shutil.rmtree(state)
        art.unlink()
        git("add", "-A")
        git("commit", "-q", "-m", branch)
    git("merge", "one", code=1)
    art.write_text("".join(rows))
    ended = chroma("batch", art)
    assert ended.code == 2
    assert "merge conflict" in ended.err
    git("checkout", "--ours", "art.lock.json")
    assert chroma("batch", art).code == 0
    assert gateway.posts() == 4
    assert sorted(locked(work)) == ["a.png", "b.png", "c.png", "d.png"]


@pytest.mark.parametrize("hour_over", [False, True])
def test_a_job_that_the_ledger_had_in_flight_is_settled_by_its_picture(
    gateway, process, work, state, ledger_rows, hour_over
):
    art = manifest(work / "art.jsonl", "a")
    with gateway.hold("file", "half") as hold:
        started = process.start("batch", art)
        hold.wait()
        shutil.copytree(state, work / "earlier")
    assert started.end().code == 0
    shutil.rmtree(state)
    (work / "earlier").rename(state)  # as if it had been killed before it could tell the ledger
    (work / "art.lock.json").unlink()
    if hour_over:
        gateway.forget()
    again = process("batch", art)
    assert (again.code, gateway.posts()) == (0, 1), again.said
    [row] = ledger_rows()
    assert (row["status"], row["cost"]) == ("COMPLETED", 0.055)
    assert [file["path"] for file in row["files"]] == [str(work / "a.png")]
    assert process("jobs", "--pending").out == ""
