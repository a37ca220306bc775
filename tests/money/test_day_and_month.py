"""The budgets of a day and a month, kept before anything is sent."""

from __future__ import annotations

import pytest
from kit import RESET, Reply

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def left(chroma):
    """``left("a fox", …)`` is the exit code of a submit."""
    return lambda *argv: chroma("submit", *argv).code


@pytest.mark.parametrize("period", ["day", "month"])
def test_a_budget_is_kept_before_anything_is_sent(gateway, chroma, left, config, period) -> None:
    config(f"[budget]\n{period} = 0.12\n")
    assert chroma("generate", "one").code == 0  # which shows the price
    assert [left("two"), left("three"), gateway.posts()] == [0, 4, 2]
    ended = chroma("generate", "four", "--json")
    assert ended.error["charged"] == "no"
    assert f"{period} limit of $0.12" in ended.error["message"]


def test_a_refused_job_gives_its_reservation_back(gateway, left, config) -> None:
    config("[budget]\nday = 0.06\n")
    gateway.on("submit", Reply.error(400))
    assert [left(prompt) for prompt in ("one", "two", "three")] == [2, 0, 4]


def test_an_unknown_job_keeps_its_reservation(gateway, left, config) -> None:
    config("[budget]\nday = 0.06\n")
    gateway.on("submit", RESET)
    assert [left("one"), left("two")] == [9, 4]


def test_a_larger_order_counts_as_larger(left, config) -> None:
    config("[budget]\nday = 0.2\n")
    assert left("a fox", "--samples", "4") == 4
    assert left("a fox", "--samples", "3") == 0


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize("budget", ["month = 0", "day = 0.01"])
def test_a_budget_of_nothing_stops_everything(gateway, chroma, config, how, budget) -> None:
    config(f"[budget]\n{budget}\n")
    assert chroma("generate", "a fox", *how).code == 4
    assert gateway.requests() == []


def test_a_new_day_is_a_new_budget(left, config, clock) -> None:
    config("[budget]\nday = 0.06\n")
    assert [left("one"), left("two")] == [0, 4]
    clock.skip(86400)
    assert left("three") == 0


def test_what_it_cost_counts_once_it_is_known(chroma, left, config) -> None:
    """Three samples are expected to cost more than the 0.055 that the gateway then says."""
    config("[budget]\nday = 0.2\n")
    assert chroma("generate", "a fox", "--samples", "3").code == 0
    assert left("a boat", "--samples", "2") == 0


def test_what_such_work_has_cost_is_expected_where_it_is_more(gateway, chroma, left, config) -> None:
    gateway.plan(price=0.4)
    assert chroma("generate", "one").code == 0
    gateway.plan(price=0.9)
    assert chroma("generate", "other work", "--steps", "41").code == 0
    config("[budget]\nday = 1.6\n")
    ended = chroma("submit", "two", "--json")
    assert ended.code == 4
    assert "about $0.400" in ended.error["message"]
    config("[budget]\nday = 1.71\n")
    assert left("two") == 0
