"""What the completion scripts ask the program for: quickly, without a word or a change or the network."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from kit import Lost


@pytest.fixture
def ledger(state: Path) -> Path:
    return state / "jobs.sqlite3"


@pytest.fixture
def values(chroma):
    """``values("ids")`` is what a shell gets to offer, line by line."""

    def ask(what: str) -> list[str]:
        told = chroma("completion", "--values", what)
        assert (told.code, told.err) == (0, "")
        return told.lines

    return ask


def test_no_ledger_is_no_ids_and_stays_away(ledger, values):
    assert values("ids") == []
    assert not ledger.parent.exists()


def test_a_damaged_ledger_is_left_where_it_is(ledger, values):
    ledger.parent.mkdir()
    ledger.write_bytes(b"SQLite format 3\x00" + b"nonsense" * 1000)
    before = ledger.read_bytes()
    assert values("ids") == []
    assert [path.name for path in ledger.parent.iterdir()] == [ledger.name]
    assert ledger.read_bytes() == before


def test_a_newer_ledger_is_not_guessed_at(gateway, chroma, ledger, values):
    assert chroma("submit", "a fox").code == 0
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA user_version = 999")
    assert values("ids") == []


def test_ids_come_newest_first_with_a_description_on_one_line(gateway, chroma, values):
    for prompt in ("a red fox", "two\nlines and a\ttab, and words that go on and on and on and on"):
        assert chroma("submit", "-q", prompt).code == 0
    newest, oldest = values("ids")
    assert newest.split("\t")[0] == gateway.jobs()[1].id
    assert oldest.split("\t") == [gateway.jobs()[0].id, "waiting in the queue: a red fox"]
    assert newest.count("\t") == 1
    assert len(newest.split("\t")[1]) < 80


def test_no_ledger_means_none(gateway, chroma, values, monkeypatch):
    assert chroma("submit", "-q", "a fox").code == 0
    monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    assert values("ids") == []


def test_an_unknown_job_without_an_id_goes_by_its_number(gateway, clock, chroma, values):
    gateway.on("submit", Lost())
    assert chroma("submit", "a boat").code == 9
    first, second = values("ids"), values("ids")
    assert first == second
    assert first[0].startswith("1\t")


def test_presets_with_what_they_are_for(values, config):
    config("[presets.sofa]\ncfg = 9\n")
    listed = dict(line.split("\t") for line in values("presets"))
    assert list(listed) == sorted(listed)
    assert {"sofa", "fine-art", "illustration", "photorealism", "prototype"} == set(listed)
