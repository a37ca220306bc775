"""Budgets hold at any price: of a run, of a day, in one process and in many that share a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kit import Ended, Gateway, Hold, Plan, Programs, eventually

Chroma = Callable[..., Ended]
Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def budget(tmp_path: Path) -> Callable[[str], None]:
    """Write ``[budget]`` into the config file."""
    return lambda lines: (tmp_path / "config.toml").write_text(f"[budget]\n{lines}\n") and None


def listing(work: Path, count: int, steps: Sequence[int] = (40,), name: str = "list.jsonl") -> None:
    rows = [
        {"output": f"{n}.png", "prompt": f"fox {n}", "steps": steps[n % len(steps)]} for n in range(count)
    ]
    (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def held(gateway: Gateway, prompt: str | None = None) -> Hold:
    """Keep jobs in flight until the hold is released, however often they are asked for."""
    hold = Hold()
    gateway.on("status", hold, always=True, prompt=prompt)
    return hold


def paid(gateway: Gateway) -> float:
    return sum(job.plan.price or 0.0 for job in gateway.jobs() if gateway.world.billed(job))


# --- one run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(40,), tuple(range(10, 50))], ids=["one kind", "each another"])
def test_a_price_that_nobody_expected_costs_one_surplus(
    chroma: Chroma, gateway: Gateway, work: Path, steps: Sequence[int]
) -> None:
    gateway.plan(price=1.0)
    listing(work, 40, steps)
    ended = chroma("batch", "list.jsonl", "--budget", "2.00", "--jobs", "50", "--json")
    assert ended.code == 4
    assert "--budget" in ended.error["message"]
    assert ended.error["charged"] == "yes"
    assert 2.0 <= paid(gateway) < 3.0


def test_jobs_in_flight_count_with_the_price_that_others_have_shown(
    chroma: Chroma, gateway: Gateway, work: Path
) -> None:
    listing(work, 1)
    assert chroma("batch", "list.jsonl").code == 0
    gateway.plan(price=1.0, polls=1)
    listing(work, 30)
    assert chroma("batch", "list.jsonl", "--budget", "12.00", "--jobs", "3").code == 4
    assert paid(gateway) == pytest.approx(12.055)


@pytest.mark.parametrize("price", [0.0, None], ids=["free", "not told"])
def test_a_price_of_nothing_counts_as_expected(
    chroma: Chroma, gateway: Gateway, work: Path, budget: Callable[[str], None], price: float | None
) -> None:
    gateway.plan(price=price)
    budget("day = 0.30")
    listing(work, 10)
    assert chroma("batch", "list.jsonl", "--budget", "0.20").code == 4
    assert len(gateway.jobs()) == 3
    assert chroma("batch", "list.jsonl").code == 4
    assert chroma("generate", "an owl").code == 4
    assert len(gateway.jobs()) == 5


def test_where_no_price_is_told_the_rest_goes_at_once(chroma: Chroma, gateway: Gateway, work: Path) -> None:
    gateway.plan(price=None, polls=2)
    listing(work, 9)
    assert chroma("batch", "list.jsonl", "--budget", "5.00", "--jobs", "8").code == 0
    assert gateway.world.most_in_flight > 1


def test_a_failure_tells_no_price(chroma: Chroma, gateway: Gateway, work: Path) -> None:
    gateway.plan(price=1.0)
    for n in range(5):
        gateway.plan(Plan(price=1.0, error="blocked"), prompt=f"fox {n}")
    listing(work, 30)
    assert chroma("batch", "list.jsonl", "--budget", "2.00", "--jobs", "20").code == 4
    assert paid(gateway) == 2.0


def test_work_with_a_price_goes_on_while_other_work_waits(
    chroma: Chroma, process: Programs, gateway: Gateway, work: Path
) -> None:
    listing(work, 2, steps=(40,))
    assert chroma("batch", "list.jsonl").code == 0
    listing(work, 12, steps=(40, 20))
    with held(gateway, "fox 1") as hold:
        started = process.start("batch", "list.jsonl", "--budget", "5.00", "--jobs", "8")
        hold.wait()
        eventually(lambda: gateway.bills("fox 10"), "the last one whose price is known")
        assert len(gateway.jobs()) == 2 + 5 + 1
    assert started.end().code == 0
    assert len(gateway.jobs()) == 2 + 11


def test_a_ledger_that_is_replaced_during_a_run_ends_the_spending(
    process: Programs, gateway: Gateway, work: Path, state: Path
) -> None:
    gateway.plan(price=1.0)
    listing(work, 10)
    with held(gateway) as hold:
        started = process.start("batch", "list.jsonl", "--budget", "3.00", "--jobs", "2")
        hold.wait()
        (state / "jobs.sqlite3").unlink()
    assert started.end().code == 4
    assert len(gateway.jobs()) == 1


# --- the day ---------------------------------------------------------------------------------------------


def test_many_processes_pass_the_day_by_one_surplus(
    process: Programs, gateway: Gateway, work: Path, budget: Callable[[str], None]
) -> None:
    gateway.plan(price=1.0)
    budget("day = 0.50")
    with held(gateway) as hold:
        first = process.start("generate", "fox", "-o", "0.png")
        hold.wait()
        others = [process.start("generate", "fox", "-o", f"{n}.png", "--json") for n in range(1, 8)]
        for other in others:
            other.wait_for("Waiting for it")
    assert first.end().code == 0
    for other in others:
        ended = other.end()
        assert (ended.code, ended.error["type"], ended.error["charged"]) == (4, "limit", "no")
    assert gateway.posts() == 1


def test_who_waited_for_the_price_goes_on(
    process: Programs, gateway: Gateway, work: Path, budget: Callable[[str], None]
) -> None:
    budget("day = 5.00")
    listing(work, 3)
    with held(gateway) as hold:
        first = process.start("generate", "fox", "-o", "fox.png")
        hold.wait()
        others = [process.start("generate", "owl", "-o", "owl.png"), process.start("batch", "list.jsonl")]
        for other in others:
            other.wait_for("Waiting for it")
        assert gateway.posts() == 1
    assert [one.end().code for one in (first, *others)] == [0, 0, 0]
    assert gateway.bills() == 5


def test_the_wait_for_a_price_ends_in_time_and_unpaid(
    process: Programs, gateway: Gateway, work: Path, budget: Callable[[str], None]
) -> None:
    budget("day = 5.00")
    with held(gateway) as hold:
        first = process.start("generate", "fox", "-o", "fox.png")
        hold.wait()
        ended = process("generate", "owl", "-o", "owl.png", "--timeout", "1", "--json")
        assert (ended.code, ended.error["charged"], ended.error["job"]) == (4, "no", None)
        assert "chroma fetch" in ended.error["hint"]
    assert first.end().code == 0


@pytest.mark.parametrize(
    "call", [("submit", "owl"), ("generate", "owl"), ("generate", "owl", "--sync"), ("batch", "list.jsonl")]
)
def test_a_job_that_nobody_works_on_has_to_be_brought_home_first(
    chroma: Chroma, gateway: Gateway, work: Path, budget: Callable[[str], None], call: tuple[str, ...]
) -> None:
    gateway.plan(price=1.0)
    budget("month = 0.50")
    listing(work, 5)
    first = chroma("submit", "fox", "-o", "fox.png").lines[0]
    ended = chroma(*call, "--json")
    assert (ended.code, ended.error["charged"]) == (4, "no")
    assert f"chroma fetch {first} --wait" in ended.error["hint"]
    assert gateway.posts() == 1
    assert chroma("fetch", first, "--wait").code == 0
    assert chroma(*call).code == 4  # now it is known to be too much
    assert gateway.posts() == 1
    budget("month = 9.50")
    assert chroma(*call).code == 0


def test_a_job_beyond_its_hour_is_not_waited_for(
    chroma: Chroma, gateway: Gateway, clock: Any, work: Path, budget: Callable[[str], None]
) -> None:
    budget("month = 5.00")
    assert chroma("submit", "fox", "-o", "fox.png").code == 0
    clock.skip(3700)
    assert chroma("submit", "owl", "-o", "owl.png").code == 0


def test_a_day_ends_at_midnight(
    chroma: Chroma, gateway: Gateway, clock: Any, work: Path, budget: Callable[[str], None]
) -> None:
    budget("day = 0.10")
    assert chroma("generate", "fox").code == 0
    assert chroma("generate", "fox").code == 4
    clock.skip(86400)
    assert chroma("generate", "fox").code == 0


# --- where a limit comes from ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["day", "month"])
def test_a_variable_goes_before_the_config_file(
    chroma: Chroma,
    gateway: Gateway,
    budget: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    variable = f"CHROMA_BUDGET_{name.upper()}"
    budget(f"{name} = 5")
    monkeypatch.setenv(variable, "0.01")
    ended = chroma("generate", "a fox", "--json")
    assert (ended.code, ended.error["charged"], gateway.posts()) == (4, "no", 0)
    assert variable in ended.error["hint"]
    assert f"budget.{name}" in chroma("config").out
    monkeypatch.setenv(variable, "")  # an empty one counts as unset
    assert chroma("generate", "a fox").code == 0


@pytest.mark.parametrize("amount", ["much", "-1", "nan", "inf", "1,50"])
def test_a_variable_that_is_no_amount_is_told_before_anything_is_sent(
    chroma: Chroma, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, amount: str
) -> None:
    monkeypatch.setenv("CHROMA_BUDGET_DAY", amount)
    ended = chroma("generate", "a fox", "--json")
    assert (ended.code, gateway.posts()) == (2, 0)
    assert "CHROMA_BUDGET_DAY" in ended.error["message"]
