"""``chroma credits``: the balance, from the account or from what a reply said last."""

from __future__ import annotations

from datetime import datetime

import pytest
from kit import RESET, Gateway, Reply


@pytest.fixture(autouse=True)
def account(gateway, clock):
    gateway.world.balance = 10.0


@pytest.fixture
def balance(gateway):
    """What the account's route answers from now on."""
    return lambda *answers: gateway.on("credits", *answers, always=True)


def test_lines_for_people(chroma) -> None:
    ended = chroma("credits")
    assert (ended.code, ended.lines) == (0, ["credits: 10", "free credits: 0.018", "total: 10.018"])
    assert ended.err == ""


def test_json(clock, chroma) -> None:
    [found] = chroma("credits", "--json").json
    assert set(found) == {"schema", "credits", "free_credits", "total", "source", "as_of"}
    assert (found["schema"], found["credits"], found["free_credits"]) == (1, 10.0, 0.018)
    assert (found["total"], found["source"]) == (pytest.approx(10.018), "account")
    moment = datetime.fromisoformat(found["as_of"])
    assert abs(moment.timestamp() - clock.wall()) < 60
    assert found["as_of"].endswith("Z")


def test_numbers_as_text_are_read(balance, chroma) -> None:
    balance(Reply.json({"credits": "0.5", "free-credits": "0"}))
    assert chroma("credits", "--json").json[0]["total"] == 0.5


@pytest.mark.parametrize(("least", "code"), [("9", 0), ("10.018", 0), ("10.1", 4), ("0", 0)])
def test_min(chroma, least, code) -> None:
    ended = chroma("credits", "--min", least)
    assert ended.code == code
    assert ended.lines[-1] == "total: 10.018"
    assert ("below" in ended.err) == (code == 4)


@pytest.mark.parametrize("least", ["x", "-1", "nan", "inf", ""])
def test_a_min_that_is_no_amount(chroma, gateway, least) -> None:
    ended = chroma("credits", f"--min={least}", "--json")
    assert ended.code == 2
    assert gateway.requests() == []


@pytest.mark.parametrize(
    "trouble",
    [
        RESET,
        Reply.page(502),
        Reply.json({"oops": 1}),
        Reply.error(404, "No credits found"),
    ],
)
def test_the_last_header_seen_is_the_fallback_with_its_age(
    clock, submitted, balance, chroma, trouble
) -> None:
    submitted()
    balance(trouble)
    clock.skip(7200)
    ended = chroma("credits", "--json")
    [found] = ended.json
    assert ended.code == 0
    assert (found["total"], found["source"], found["free_credits"]) == (9.945, "header", None)
    assert datetime.fromisoformat(found["as_of"]).timestamp() < clock.wall() - 7000
    [warning] = ended.warnings
    assert "2 h 0 min ago" in warning


def test_the_header_of_the_newest_reply_counts(balance, chroma) -> None:
    chroma("generate", "a red fox")
    balance(RESET)
    assert chroma("credits", "--json").json[0]["total"] == 9.945


def test_min_counts_for_the_fallback_too(submitted, balance, chroma) -> None:
    submitted()
    balance(RESET)
    assert chroma("credits", "--min", "10.01").code == 4
    assert chroma("credits", "--min", "9").code == 0


def test_a_balance_of_another_gateway_is_no_fallback(chroma, balance, submitted) -> None:
    with Gateway() as other:
        submitted("a fox", "--base-url", other.base_url)
    balance(RESET)
    assert chroma("credits").code == 9


def test_nothing_is_known(balance, chroma) -> None:
    balance(Reply.json({"error": "No credits found for the user"}, 404))
    ended = chroma("credits", "--json")
    assert (ended.code, ended.out) == (8, "")
    assert "No credits found for the user" in ended.error["message"]


def test_a_refused_key_is_no_case_for_a_fallback(submitted, balance, chroma) -> None:
    submitted()
    balance(Reply.json({"error": "Invalid API key"}, 401))
    assert chroma("credits").code == 3


def test_it_gives_up_after_15_seconds(clock, balance, chroma) -> None:
    balance(Reply.json({"error": "busy"}, 503))
    before = clock.monotonic()
    assert chroma("credits").code == 9
    assert clock.monotonic() - before <= 17


def test_it_costs_one_call(chroma, gateway) -> None:
    chroma("credits")
    assert [one.route for one in gateway.requests()] == ["credits"]


def test_no_ledger_no_fallback(submitted, balance, chroma) -> None:
    submitted()
    balance(RESET)
    assert chroma("credits", "--no-ledger").code == 9
