"""A ledger that could not hear how a job went on calls nothing unknown whose picture is there, and advises no
second payment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kit import Cut, Garbage, Reply, is_whole
from kit.disk import fill, small_disk

SEEDED = ("generate", "a fox", "-o", "fox.png", "--seed", "7")


def as_it_was_when_it_was_sent(gateway: Any, process: Any, state: Path, *argv: str) -> Any:
    """Run to the end; the ledger is then as a backup or a sync tool saw it while the submit was out."""
    with gateway.hold("sync" if "--sync" in argv else "submit", "answer") as hold:
        started = process.start(*argv)
        hold.wait()
        then = (state / "jobs.sqlite3").read_bytes()
    ended = started.end()
    new = state / "restored"
    new.write_bytes(then)
    new.replace(state / "jobs.sqlite3")
    return ended


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize("samples", ["1", "3"])
@pytest.mark.parametrize("command", [("jobs", "--pending"), ("fetch", "--pending"), ("jobs",)])
def test_a_job_whose_picture_is_there_is_not_unknown(
    gateway: Any,
    process: Any,
    ledger_rows: Any,
    work: Path,
    state: Path,
    how: tuple[str, ...],
    samples: str,
    command: tuple[str, ...],
) -> None:
    ended = as_it_was_when_it_was_sent(gateway, process, state, *SEEDED, *how, "--samples", samples)
    assert ended.code == 0, ended.said
    told = process(*command)
    assert told.code == 0, told.said
    assert "resubmit" not in told.err + told.out
    [row] = ledger_rows()
    assert (row["status"], row["charged"]) == ("COMPLETED", "yes")
    assert row["request_id"] == gateway.jobs()[0].id
    assert [Path(file["path"]) for file in row["files"]] == ended.paths
    assert all(map(is_whole, ended.paths))


def test_an_equal_picture_that_was_there_before_settles_nothing(
    gateway: Any, process: Any, ledger_rows: Any, work: Path
) -> None:
    """Its job is another one: this one's outcome is truly not known."""
    assert process(*SEEDED).code == 0
    with gateway.hold("submit", "answer") as hold:
        started = process.start(*SEEDED, "--overwrite")
        hold.wait()
        started.kill()
    assert "unknown" in process("fetch", "--pending").err
    assert [row["status"] for row in ledger_rows()] == ["COMPLETED", "UNKNOWN"]


def test_an_equal_picture_of_nobody_knows_when_settles_nothing(
    gateway: Any, process: Any, ledger_rows: Any, work: Path
) -> None:
    assert process(*SEEDED, "--no-ledger").code == 0
    long_ago = 1_700_000_000
    os.utime(work / "fox.png", (long_ago, long_ago))
    with gateway.hold("submit", "answer") as hold:
        started = process.start(*SEEDED, "--overwrite")
        hold.wait()
        started.kill()
    assert process("jobs").code == 0
    assert [row["status"] for row in ledger_rows()] == ["UNKNOWN"]


def test_what_is_there_is_not_sent_again(gateway: Any, process: Any, work: Path, state: Path) -> None:
    as_it_was_when_it_was_sent(gateway, process, state, *SEEDED)
    away = (work / "fox.png").rename(work / "away.png")
    assert "unknown" in process("jobs").out  # it was not there to be seen
    away.rename(work / "fox.png")
    again = process("jobs", "--resubmit", "1", "--yes", "--json")
    assert (again.code, again.error["type"]) == (2, "not_resubmittable"), again.said
    assert gateway.posts() == 1


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize("place", ["full", "free", "free again"])
def test_a_full_ledger_disk(
    gateway: Any,
    process: Any,
    ledger_rows: Any,
    tmp_path: Path,
    state: Path,
    how: tuple[str, ...],
    place: str,
) -> None:
    rescue = tmp_path / "tmp"
    rescue.mkdir()
    process.env["TMPDIR"] = str(rescue)
    with small_disk(state, "300k"), small_disk(tmp_path / "small", "8m") as small:
        assert process("jobs").code == 0
        held = gateway.hold(
            "file" if place == "free again" and not how else "sync" if how else "submit", "answer"
        )
        started = process.start("generate", "a fox", "-o", small / "fox.png", *how)
        held.wait()
        fill(state)
        if place == "full":
            fill(small)
        held.release()
        ended = started.end()
        assert ended.code == (10 if place == "full" else 0), ended.said
        assert "resubmit" not in ended.err
        assert any("Do not send it again" in words for words in ended.warnings)
        assert ("chroma fetch" in ended.err) == (place == "full" and not how)
        (state / "filler").unlink()
        for command in (("jobs",), ("fetch", "--pending"), ("jobs", "--pending")):
            told = process(*command)
            assert told.code == 0 and "resubmit" not in told.said, told.said
        assert [row["status"] for row in ledger_rows()] == ["COMPLETED"]
        assert gateway.posts() == 1


# --- a blocking call has nothing to fetch again ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "charged"),
    [("cut", 9, "yes"), ("garbage", 9, "unknown"), ("no picture", 9, "yes"), ("failed", 6, "no")],
)
def test_after_a_blocking_call_no_fetch_is_advised(
    gateway: Any, chroma: Any, ledger_rows: Any, work: Path, name: str, code: int, charged: str
) -> None:
    gateway.on(
        "sync",
        {
            "cut": Cut(-30, end="close"),
            "garbage": Garbage(),
            "no picture": Reply.json({"status": "COMPLETED", "request_id": "job-1"}, x_request_id="job-1"),
            "failed": Reply.json({"status": "FAILED", "error": "no", "request_id": "job-1"}, 422),
        }[name],
    )
    ended = chroma(*SEEDED, "--sync", "--json")
    assert (ended.code, ended.error["charged"]) == (code, charged), ended.said
    assert "chroma fetch" not in (ended.error["hint"] or "")
    [row] = ledger_rows()
    assert "chroma fetch" not in (row["error"]["hint"] or "")


def test_a_rescued_picture_of_a_blocking_call_is_not_to_be_fetched(
    gateway: Any, process: Any, ledger_rows: Any, work: Path, tmp_path: Path
) -> None:
    """Its folder is gone when the picture comes, and cannot be made again."""
    rescue = tmp_path / "tmp"
    rescue.mkdir()
    process.env["TMPDIR"] = str(rescue)
    (work / "into").mkdir()
    with gateway.hold("sync", "answer") as hold:
        started = process.start("generate", "a fox", "-o", "into/fox.png", "--sync", "--json")
        hold.wait()
        for one in (work / "into").iterdir():
            one.unlink()
        (work / "into").rmdir()
        (work / "into").write_text("a file in its place")
    ended = started.end()
    assert (ended.code, ended.error["charged"]) == (10, "yes"), ended.said
    assert "chroma fetch" not in ended.error["hint"]
    told = process("fetch", "1", "--json")
    assert "chroma fetch" not in (told.error["hint"] or ""), told.said
    assert "resubmit" not in told.said
