"""The way home never says that there is nothing when it could not look."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import Ended, Gateway, Programs, is_whole

Chroma = Callable[..., Ended]

#: What asks the ledger and nothing else; ``--json`` is added.
ASKS = [
    ("fetch", "--pending"),
    ("fetch", "--pending", "-q", "--wait"),
    ("fetch", "17"),
    ("fetch", "17", "18"),
    ("status", "17"),
    ("jobs",),
    ("jobs", "--pending", "-q"),
    ("jobs", "--failed"),
    ("jobs", "--prune", "1"),
    ("jobs", "--forget", "17"),
    ("jobs", "--resubmit", "17", "--yes"),
    ("generate", "--from", "17"),
]


def newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_a_disk_that_is_not_there(path: Path) -> None:
    path.symlink_to(path.parent / "volume" / "jobs.sqlite3")


def no_ledger_behind_a_link(path: Path) -> None:
    (path.parent / "letter").write_text("no database\n" * 100)
    path.symlink_to("letter")


def ids(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else getattr(value, "__name__", str(value))


@pytest.fixture
def ledger(state: Path) -> Path:
    state.mkdir(mode=0o700)
    return state / "jobs.sqlite3"


@pytest.mark.parametrize(
    ("spoil", "call"),
    [(newer, call) for call in ASKS]
    + [
        (spoil, ASKS[1])
        for spoil in (Path.mkdir, loop, link_to_a_disk_that_is_not_there, no_ledger_behind_a_link)
    ],
    ids=ids,
)
def test_a_ledger_that_cannot_be_used_is_no_empty_one(
    chroma: Chroma, gateway: Gateway, ledger: Path, spoil: Callable[[Path], None], call: tuple[str, ...]
) -> None:
    spoil(ledger)
    told = chroma(*call, "--json")
    assert (told.code, told.error["charged"]) == (1, "no")
    assert gateway.requests() == []
    assert str(ledger.parent) in told.error["message"]
    assert told.error["hint"]
    assert "Nothing" not in chroma(*call).said


@pytest.mark.parametrize("how", ["option", "variable"])
@pytest.mark.parametrize("call", [call for call in ASKS if call[0] in ("fetch", "status")], ids=ids)
def test_a_ledger_that_is_switched_off_is_no_empty_one(
    chroma: Chroma,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    call: tuple[str, ...],
    how: str,
) -> None:
    if how == "variable":
        monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    told = chroma(*call, *(["--no-ledger"] if how == "option" else []), "--json")
    name = "CHROMA_NO_LEDGER" if how == "variable" else "--no-ledger"
    assert (told.code, told.error["type"]) == (1, "no_ledger")
    assert told.error["hint"] == f"Leave out {name}."
    assert gateway.requests() == []


def test_a_number_that_nobody_can_look_up_keeps_no_other_job_from_coming_home(
    chroma: Chroma, gateway: Gateway, work: Path, state: Path
) -> None:
    ident = chroma("submit", "fox").lines[0]
    newer(state / "jobs.sqlite3")
    ended = chroma("fetch", ident, "17", "--json")
    assert ended.code == 11
    [saved] = [one for one in ended.json if one["status"] == "COMPLETED"]
    assert is_whole(Path(saved["files"][0]["path"]))


@pytest.mark.slow  # waits in real time
def test_a_ledger_that_others_keep_locked_is_no_empty_one(
    chroma: Chroma, gateway: Gateway, clock: Any, state: Path
) -> None:
    assert chroma("submit", "fox").code == 0
    holder = sqlite3.connect(state / "jobs.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    ended = chroma("fetch", "--pending", "--json")
    assert ended.code == 1
    assert "locked" in ended.error["message"]
    holder.execute("ROLLBACK")
    holder.close()
    assert len(chroma("fetch", "--pending").paths) == 1


# --- damage ----------------------------------------------------------------------------------------------


def damage(path: Path, table: str) -> None:
    """Make the first page of a table, or an index, unreadable."""
    with sqlite3.connect(path) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        [root] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def test_jobs_that_a_damaged_ledger_lost_are_told_until_they_cannot_come_home(
    chroma: Chroma, gateway: Gateway, clock: Any, state: Path
) -> None:
    ident = chroma("submit", "fox", "-o", "fox.png").lines[0]
    damage(state / "jobs.sqlite3", "jobs")
    for _ in range(2):
        ended = chroma("fetch", "--pending", "-q", "--json")
        [aside] = state.glob("jobs.sqlite3.damaged-*")
        assert (ended.code, ended.error["type"]) == (1, "ledger_incomplete")
        assert str(aside) in ended.error["message"]
        assert "chroma fetch ID" in ended.error["hint"]
    assert chroma("jobs", "--pending", "-q").code == 1
    assert any(str(aside) in words for words in chroma("jobs").warnings)
    assert chroma("submit", "owl", "-o", "owl.png").code == 0
    told = chroma("fetch", "--pending")
    assert (told.code, [path.name for path in told.paths]) == (0, ["owl.png"])
    assert any(str(aside) in words for words in told.warnings)
    assert chroma("fetch", ident).code == 0
    clock.skip(8 * 86400)
    assert chroma("fetch", "--pending").code == 0
    clock.skip(-8 * 86400)
    assert chroma("fetch", "--pending").code == 1
    aside.rename(state / "looked-at")
    assert chroma("fetch", "--pending").code == 0


def test_a_damaged_ledger_whose_jobs_could_all_be_read_lost_nothing(
    chroma: Chroma, gateway: Gateway, work: Path, state: Path
) -> None:
    assert chroma("submit", "fox", "-o", "fox.png").code == 0
    damage(state / "jobs.sqlite3", "jobs_unsettled")
    told = chroma("fetch", "--pending")
    assert (told.code, told.paths) == (0, [work / "fox.png"])
    assert list(state.glob("jobs.sqlite3.damaged-*"))
    assert chroma("fetch", "--pending").code == 0


def test_a_batch_does_not_buy_again_what_a_damaged_ledger_knew(
    process: Programs, gateway: Gateway, work: Path, state: Path
) -> None:
    rows = [{"output": f"{n}.png", "prompt": f"fox {n}"} for n in range(3)]
    (work / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gateway.hold("result") as hold:
        started = process.start("batch", "list.jsonl", "--jobs", "1")
        hold.wait()
        started.kill()
    damage(state / "jobs.sqlite3", "jobs")
    ended = process("batch", "list.jsonl", "--json")
    assert (ended.code, ended.error["charged"]) == (4, "no")
    assert "damaged" in ended.error["message"]
    assert gateway.posts() == 1
