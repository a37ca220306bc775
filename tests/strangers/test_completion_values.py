"""What the completion scripts ask the program for: quickly, without a word or a change or the network."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from chroma_cli.cli.main import main
from chroma_cli.clock import SystemClock
from chroma_cli.jobs.ledger import Ledger, glance


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.sqlite3"


def values(what: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert main(["completion", "--values", what]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


def test_no_ledger_is_no_ids_and_stays_away(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert values("ids", capsys) == []
    assert not ledger.parent.exists()


def test_a_damaged_ledger_is_left_where_it_is(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.parent.mkdir()
    ledger.write_bytes(b"SQLite format 3\x00" + b"nonsense" * 1000)
    before = ledger.read_bytes()
    assert values("ids", capsys) == []
    assert [path.name for path in ledger.parent.iterdir()] == [ledger.name]
    assert ledger.read_bytes() == before


def test_a_newer_ledger_is_not_guessed_at(ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger.open(ledger, clock=SystemClock()).close()
    connection = sqlite3.connect(ledger)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    assert glance(ledger, 10) == []
    assert values("ids", capsys) == []


def test_ids_come_newest_first_with_a_description_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    for prompt in ("a red fox", "two\nlines and a\ttab, and words that go on and on and on and on"):
        assert main(["submit", "-q", prompt]) == 0
    ids = capsys.readouterr().out.split()
    newest, oldest = values("ids", capsys)
    assert newest.split("\t")[0] == ids[1]
    assert oldest.split("\t") == [ids[0], "waiting in the queue: a red fox"]
    assert newest.count("\t") == 1
    assert len(newest.split("\t")[1]) < 80


def test_no_ledger_means_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    assert main(["submit", "-q", "a fox"]) == 0
    monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    assert values("ids", capsys) == []


def test_an_unknown_job_without_an_id_goes_by_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_SANDBOX", "1")
    assert main(["submit", "a boat [sandbox:lost]"]) == 9
    first, second = values("ids", capsys), values("ids", capsys)
    assert first == second
    assert first[0].startswith("1\t")


def test_presets_with_what_they_are_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[presets.sofa]\ncfg = 9\n")
    listed = dict(line.split("\t") for line in values("presets", capsys))
    assert list(listed) == sorted(listed)
    assert {"sofa", "fine-art", "illustration", "photorealism", "prototype"} == set(listed)
