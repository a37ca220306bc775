"""Budgets of a batch: for the run, for the day, with and without a ledger."""

from __future__ import annotations

import os

import pytest
from kit import RESET, Lost

TEN = tuple(f"fox{n}" for n in range(10))


def test_the_budget_of_the_run_ends_it(chroma, gateway, listing):
    listing(*TEN)
    ended = chroma("batch", "list.jsonl", "--budget", "0.20", "--json")
    assert ended.code == 4
    assert len(gateway.jobs()) == len(ended.json) == 3
    assert "7 of 10 images were not begun" in ended.error["message"]
    assert chroma("batch", "list.jsonl", "--budget", "0.385").code == 0
    assert len(gateway.jobs()) == 10


def test_a_budget_of_nothing_sends_nothing(chroma, gateway, listing):
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--budget", "0").code == 4
    assert gateway.requests() == []


def test_what_jobs_cost_less_is_room_for_others(chroma, gateway, listing):
    gateway.plan(price=0.01)
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--budget", "0.15", "--jobs", "10").code == 0
    assert len(gateway.jobs()) == 10


def test_an_unknown_outcome_counts_as_expected(chroma, gateway, listing):
    gateway.on("submit", Lost(RESET), Lost(RESET))
    listing(*TEN[:4])
    ended = chroma("batch", "list.jsonl", "--budget", "0.165", "--jobs", "1")
    assert ended.code == 4
    assert len(gateway.jobs()) == 3


def test_failures_cost_nothing(chroma, gateway, listing):
    for name in TEN[:3]:
        gateway.plan(error="content was blocked", prompt=name)
    listing(*TEN[:4])
    assert chroma("batch", "list.jsonl", "--budget", "0.06", "--jobs", "1").code == 11
    assert len(gateway.jobs()) == 4


def test_what_such_jobs_cost_before_is_expected(chroma, gateway, listing):
    gateway.plan(price=0.3)
    listing("first")
    assert chroma("batch", "list.jsonl").code == 0
    listing("first", "second", "third")
    told = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert [one["expected_cost"] for one in told.json] == [pytest.approx(0.3)] * 2
    assert chroma("batch", "list.jsonl", "--budget", "0.5").code == 4
    assert len(gateway.jobs()) == 2


def test_what_was_cheaper_than_documented_is_expected_at_the_documented_price(chroma, gateway, listing):
    gateway.plan(price=0.01)
    listing("first")
    assert chroma("batch", "list.jsonl").code == 0
    listing("first", "second")
    told = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert told.one["expected_cost"] == pytest.approx(0.055)


def test_the_day_holds_across_commands(chroma, gateway, listing, config):
    config("[budget]\nday = 0.20\n")
    assert chroma("generate", "a knight", "-o", "knight.png").code == 0
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--jobs", "10").code == 4
    assert len(gateway.jobs()) == 3
    assert chroma("generate", "a knight", "-o", "another.png").code == 4
    assert len(gateway.jobs()) == 3


@pytest.mark.parametrize("how", ["option", "variable"])
def test_nothing_is_made_without_a_ledger(chroma, gateway, listing, monkeypatch, how):
    listing("fox")
    if how == "variable":
        monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    ended = chroma("batch", "list.jsonl", *(["--no-ledger"] if how == "option" else []))
    assert ended.code == 4
    assert gateway.requests() == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes of POSIX")
def test_nothing_is_made_with_an_unusable_ledger(chroma, gateway, listing, state):
    listing("fox")
    (state / "jobs.sqlite3").mkdir(parents=True)
    assert chroma("batch", "list.jsonl").code == 4
    assert gateway.requests() == []


def test_credits_that_end_stop_the_run(chroma, gateway, listing):
    gateway.world.balance = 0.2
    listing(*TEN)
    assert chroma("batch", "list.jsonl", "--jobs", "1").code == 4
    assert len(gateway.jobs()) == 3
    assert gateway.posts() == 4


def test_play_money_has_budgets_too(chroma, listing):
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--sandbox", "--budget", "0.05")
    assert (ended.code, ended.out) == (4, "")
    assert "--budget" in ended.err
