"""``chroma credits``: the balance, from the account or from what a reply said last."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from faultserver import RESET, Reply

ROUTE = "/v1/get-user-credits"


def balance(life: Any, *answers: Any) -> None:
    life.server.on("GET", ROUTE, *answers)


def test_lines_for_people(life: Any) -> None:
    ran = life("credits")
    assert (ran.code, ran.lines) == (0, ["credits: 9.5", "free credits: 0.018", "total: 9.518"])
    assert ran.err == ""


def test_json(life: Any) -> None:
    [found] = life("credits", "--json").objects
    assert set(found) == {"schema", "credits", "free_credits", "total", "source", "as_of"}
    assert (found["schema"], found["credits"], found["free_credits"]) == (1, 9.5, 0.018)
    assert (found["total"], found["source"]) == (pytest.approx(9.518), "account")
    moment = datetime.fromisoformat(found["as_of"])
    assert abs(moment.timestamp() - life.clock.wall()) < 60
    assert found["as_of"].endswith("Z")


def test_numbers_as_text_are_read(life: Any) -> None:
    balance(life, Reply.json({"credits": "0.5", "free-credits": "0"}))
    assert life("credits", "--json").objects[0]["total"] == 0.5


@pytest.mark.parametrize(("least", "code"), [("9", 0), ("9.518", 0), ("9.6", 4), ("0", 0)])
def test_min(life: Any, least: str, code: int) -> None:
    ran = life("credits", "--min", least)
    assert ran.code == code
    assert ran.lines[-1] == "total: 9.518"
    assert ("below" in ran.err) == (code == 4)


@pytest.mark.parametrize("least", ["x", "-1", "nan", "inf", ""])
def test_a_min_that_is_no_amount(life: Any, least: str) -> None:
    ran = life("credits", f"--min={least}", "--json")
    assert ran.code == 2
    assert life.server.requests() == []


@pytest.mark.parametrize(
    "trouble",
    [
        RESET,
        Reply.text("<html>", 502),
        Reply.json({"oops": 1}),
        Reply.json({"error": "No credits found"}, 404),
    ],
)
def test_the_last_header_seen_is_the_fallback_with_its_age(life: Any, trouble: Any) -> None:
    life.submit()
    balance(life, trouble)
    life.clock.skip(7200)
    ran = life("credits", "--json")
    [found] = ran.objects
    assert ran.code == 0
    assert (found["total"], found["source"], found["free_credits"]) == (9.945, "header", None)
    assert datetime.fromisoformat(found["as_of"]).timestamp() < life.clock.wall() - 7000
    [warning] = ran.warnings
    assert "2 h 0 min ago" in warning


def test_the_header_of_the_newest_reply_counts(life: Any) -> None:
    life("generate", "a red fox")
    balance(life, RESET)
    assert life("credits", "--json").objects[0]["total"] == 9.89


def test_min_counts_for_the_fallback_too(life: Any) -> None:
    life.submit()
    balance(life, RESET)
    assert life("credits", "--min", "10").code == 4
    assert life("credits", "--min", "9").code == 0


def test_a_balance_of_another_gateway_is_no_fallback(life: Any) -> None:
    with life.ledger() as ledger:
        ledger.note_credits(5.0, "https://other.example")
    balance(life, RESET)
    assert life("credits").code == 9


def test_nothing_is_known(life: Any) -> None:
    balance(life, Reply.json({"error": "No credits found for the user"}, 404))
    ran = life("credits", "--json")
    assert (ran.code, ran.out) == (8, "")
    assert "No credits found for the user" in ran.error["message"]


def test_a_refused_key_is_no_case_for_a_fallback(life: Any) -> None:
    life.submit()
    balance(life, Reply.json({"error": "Invalid API key"}, 401))
    assert life("credits").code == 3


def test_it_gives_up_after_15_seconds(life: Any) -> None:
    balance(life, Reply.json({"error": "busy"}, 503))
    before = life.clock.monotonic()
    assert life("credits").code == 9
    assert life.clock.monotonic() - before <= 17


def test_it_costs_one_call(life: Any) -> None:
    life("credits")
    assert [(one.method, one.path) for one in life.server.requests()] == [("GET", ROUTE)]


def test_no_ledger_no_fallback(life: Any) -> None:
    life.submit()
    balance(life, RESET)
    assert life("credits", "--no-ledger").code == 9
