"""Budgets of a batch: for the run, for the day, with and without a ledger."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from batchgate import Gate
from running import Ended

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]
TEN = tuple(f"fox{n}" for n in range(10))


def test_the_budget_of_the_run_ends_it(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing(*TEN)
    ended = chroma("batch", "list.jsonl", "--budget", "0.20", "--json")
    assert ended.code == 4
    assert len(gate.jobs) == 3
    assert len(ended.json) == 3
    assert "7 of 10 images were not begun" in ended.error["message"]
    assert chroma("batch", "list.jsonl", "--budget", "0.385").code == 0
    assert len(gate.jobs) == 10


def test_a_budget_of_nothing_sends_nothing(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--budget", "0").code == 4
    assert gate.calls == []


def test_what_jobs_cost_less_is_room_for_others(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.cost = 0.01
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--budget", "0.15", "--jobs", "10").code == 0
    assert len(gate.jobs) == 10


def test_an_unknown_cost_counts_as_expected(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.cost = None
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--budget", "0.20").code == 4
    assert len(gate.jobs) == 3


def test_an_unknown_outcome_counts_as_expected(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("a [lost]", "b [lost]", "c", "d")
    ended = chroma("batch", "list.jsonl", "--budget", "0.165", "--jobs", "1")
    assert ended.code == 4
    assert len(gate.jobs) == 3


def test_failures_cost_nothing(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("a [fail]", "b [fail]", "c [fail]", "d")
    assert chroma("batch", "list.jsonl", "--budget", "0.06", "--jobs", "1").code == 11
    assert len(gate.jobs) == 4


def test_what_such_jobs_cost_before_is_expected(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.cost = 0.3
    listing("first")
    assert chroma("batch", "list.jsonl").code == 0
    listing("first", "second", "third")
    told = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert [one["expected_cost"] for one in told.json] == [pytest.approx(0.3)] * 2
    assert chroma("batch", "list.jsonl", "--budget", "0.5").code == 4
    assert len(gate.jobs) == 2


def test_the_day_holds_across_commands(chroma: Chroma, gate: Gate, listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[budget]\nday = 0.20\n")
    assert chroma("generate", "a knight", "-o", "knight.png").code == 0
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--jobs", "10").code == 4
    assert len(gate.jobs) == 3
    assert chroma("generate", "a knight", "-o", "another.png").code == 4
    assert len(gate.jobs) == 3


@pytest.mark.parametrize("how", ["option", "variable"])
def test_nothing_is_made_without_a_ledger(
    chroma: Chroma, gate: Gate, listing: Listing, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    listing("fox")
    if how == "variable":
        monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    ended = chroma("batch", "list.jsonl", *(["--no-ledger"] if how == "option" else []))
    assert ended.code == 4
    assert gate.calls == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes of POSIX")
def test_nothing_is_made_with_an_unusable_ledger(
    chroma: Chroma, gate: Gate, listing: Listing, tmp_path: Path
) -> None:
    listing("fox")
    (tmp_path / "state" / "jobs.sqlite3").mkdir(parents=True)
    ended = chroma("batch", "list.jsonl")
    assert ended.code == 4
    assert gate.calls == []


def test_credits_that_end_stop_the_run(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.credits = 0.2
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--jobs", "1").code == 4
    assert len(gate.jobs) == 3
    assert len([call for call in gate.calls if call[1] == "POST"]) == 4


def test_play_money_has_budgets_too(chroma: Chroma, listing: Listing) -> None:
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--sandbox", "--budget", "0.06", "--jobs", "1")
    assert ended.code == 4
    assert len(ended.lines) == 1
