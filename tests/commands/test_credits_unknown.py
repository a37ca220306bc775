"""``chroma credits`` where the answer tells the balance in part, as text, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit import Changed, Ended, Gateway, Reply

Chroma = Callable[..., Ended]

UNREADABLE = [
    None,
    "",
    "a lot",
    "0,055",
    "1.234,50",
    "1,23",
    True,
    float("nan"),
    float("inf"),
    1e300,
    [3],
    {},
]


def answered(gateway: Gateway, **fields: Any) -> None:
    gateway.on(
        "credits", Reply.json({name.replace("_", "-"): it for name, it in fields.items()}), always=True
    )


@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
@pytest.mark.parametrize("name", ["credits", "free_credits"])
def test_a_part_that_cannot_be_read_leaves_the_total_unknown(
    chroma: Chroma, gateway: Gateway, name: str, value: Any
) -> None:
    answered(gateway, **({"credits": 20.0, "free_credits": 3.0} | {name: value}))
    told = chroma("credits", "--json")
    assert (told.code, told.one[name], told.one["total"]) == (0, None, None)
    lines = chroma("credits").lines
    assert f"{name.replace('_', ' ')}: unknown" in lines
    assert lines[-1] == "total: unknown"
    ended = chroma("credits", "--min", "1", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert ended.one["total"] is None


def test_a_part_that_is_missing_is_unknown(chroma: Chroma, gateway: Gateway) -> None:
    answered(gateway, credits=3)
    assert chroma("credits").lines == ["credits: 3", "free credits: unknown", "total: unknown"]
    assert chroma("credits", "--min", "0").code == 9


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", 1234.5),
        ("12,345,678", 12345678.0),
        ("1 234.5", 1234.5),
        ("1\u202f234", 1234.0),
        ("1'234.5", 1234.5),
        ("-1,234.50", -1234.5),
        (" 7 ", 7.0),
        ("1234.50", 1234.5),
    ],
)
def test_numbers_with_thousands_in_groups_are_read(
    chroma: Chroma, gateway: Gateway, text: str, value: float
) -> None:
    answered(gateway, credits=text, free_credits=0)
    assert chroma("credits", "--json").one["total"] == value
    assert chroma("credits", "--min", "1000").code == (0 if value > 1000 else 4)


def test_a_sum_of_cents_is_exact_and_large_ones_are_shown_in_full(chroma: Chroma, gateway: Gateway) -> None:
    answered(gateway, credits=0.7, free_credits=0.1)
    assert chroma("credits", "--min", "0.8").code == 0
    answered(gateway, credits=1234567.89, free_credits=0.018)
    assert chroma("credits").lines == ["credits: 1234567.89", "free credits: 0.018", "total: 1234567.908"]


def test_an_account_in_debt_is_no_unknown_one(chroma: Chroma, gateway: Gateway) -> None:
    answered(gateway, credits=-2, free_credits=0)
    assert chroma("credits", "--min", "0").code == 4


@pytest.mark.parametrize("cost", ["0,055", "free", True, -1, float("nan"), float("inf"), None], ids=repr)
def test_a_cost_that_cannot_be_read_is_unknown(chroma: Chroma, gateway: Gateway, cost: Any) -> None:
    metrics = {"cost": cost, "remaining_credits": "-1.5"}
    gateway.on("result", Changed(lambda answer: {**answer, "metrics": metrics}), always=True)
    job = chroma("generate", "fox", "--json").one
    assert (job["cost"], job["charged"], job["remaining_credits"]) == (None, "yes", -1.5)
