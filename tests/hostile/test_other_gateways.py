"""Gateways that behave within the contract, but in other ways than the one of the other tests."""

from __future__ import annotations

import pytest
from kit import PASS, Changed, Reply, is_whole, picture

pytestmark = pytest.mark.usefixtures("clock")

GONE = Reply.error(404, "unknown")


def test_a_name_bears_the_seed_that_was_sent_whatever_the_answer_says(gateway, chroma, work) -> None:
    """The planned name was promised and found to be free; the JSON tells the server's seed."""
    gateway.on("result", Changed(lambda told: {**told, "seed": 9}), always=True)
    ended = chroma("generate", "a fox", "--seed", "5", "--json")
    job = ended.one
    assert (ended.code, job["seed"], job["request"]["seed"]) == (0, 9, 5)
    assert job["files"][0]["path"] == str(work / "a-fox-5.png")
    # one that the server picks stands in the name
    assert chroma("generate", "a fox", "--seed=-1").paths == [work / "a-fox-9.png"]


@pytest.mark.parametrize("sync", [True, False])
def test_samples_may_be_alike(gateway, chroma, work, sync) -> None:
    def alike(told):
        name = "image" if sync else "output"
        return {**told, name: told[name][:1] * 3}

    gateway.on("sync" if sync else "result", Changed(alike))
    more = ["--base64", *(["--sync"] if sync else [])]
    ended = chroma("generate", "a fox", "--samples", "3", "--seed", "5", *more)
    assert ended.code == 0, ended.said
    assert ended.paths == [work / f"a-fox-5-{number}.png" for number in (1, 2, 3)]


@pytest.mark.parametrize("timeout", ["3", "60"])
def test_an_id_that_the_gateway_never_knows_is_not_found(
    gateway, chroma, clock, ledger_rows, timeout
) -> None:
    gateway.on("status", GONE, always=True)
    gateway.on("result", GONE, always=True)
    ended = chroma("generate", "a fox", "--timeout", timeout, "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "not_found", "unknown")
    assert "another key" in ended.error["message"]
    assert sum(clock.sleeps) < 7
    assert [row["status"] for row in ledger_rows()] == ["QUEUED"]  # before its hour is over


def test_a_job_that_the_gateway_knows_a_little_later(gateway, chroma, clock) -> None:
    begun = clock.monotonic()
    gateway.on("status", lambda _: GONE if clock.monotonic() < begun + 2 else PASS, always=True)
    assert chroma("generate", "a fox").code == 0


def test_a_finished_job_whose_result_cannot_be_had_is_recorded_as_finished_and_paid(
    gateway, chroma, clock, ledger_rows
) -> None:
    gateway.on("result", GONE, always=True)
    ended = chroma("generate", "a fox", "--json")
    assert (ended.code, ended.error["charged"]) == (8, "yes")
    assert (ended.one["status"], ended.one["charged"]) == ("COMPLETED", "yes")
    assert sum(clock.sleeps) < 20
    assert [(row["status"], row["charged"]) for row in ledger_rows()] == [("COMPLETED", "yes")]
    clock.skip(3601)
    ended = chroma("fetch", "1", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "expired", "yes")
    assert "It was paid for" in ended.error["message"]


def test_a_blocking_call_that_brought_no_picture_is_settled_as_paid(gateway, chroma, work) -> None:
    half = picture(1)[:2000][:-9]
    gateway.on("sync", Reply(200, [("Content-Type", "image/png")], half))
    ended = chroma("generate", "a fox", "--sync", "-o", "fox.png", "--json")
    broken = work / "fox.png.broken"
    assert (ended.code, ended.error["charged"]) == (9, "yes")
    assert str(broken) in ended.error["message"]
    assert broken.read_bytes() == half
    assert chroma("jobs", "--pending", "--json").json == []
    pending = chroma("fetch", "--pending", "--json")
    assert (pending.code, pending.warnings) == (0, [])
    ended = chroma("fetch", "1", "--json")
    assert (ended.code, ended.error["charged"]) == (8, "yes")
    assert str(broken) in ended.error["message"]
    assert chroma("status", "1", "--json").one["charged"] == "yes"


def test_a_blocking_call_whose_picture_found_no_place_says_where_it_is(
    gateway, chroma, work, tmp_path, ledger_rows
) -> None:
    (work / "sub").mkdir()

    def meanwhile(_):
        (work / "sub").rmdir()
        (work / "sub").write_bytes(b"in the way")
        return PASS

    gateway.on("sync", meanwhile)
    ended = chroma("generate", "a fox", "--sync", "-o", "sub/fox.png", "--json")
    assert (ended.code, ended.error["charged"]) == (10, "yes")
    [kept] = [path for path in tmp_path.rglob("*.png") if path.is_file()]
    assert is_whole(kept)
    assert str(kept) in str(ledger_rows()[0]["error"])
    assert chroma("fetch", "--pending", "--json").warnings == []


def test_a_blocking_call_that_was_queued_can_be_fetched_by_its_id(gateway, chroma, work) -> None:
    gateway.plan(seconds=60)

    def queued(request):
        job = gateway.world.take(request.json, "async")
        return Reply.json({"status": "QUEUED", "request_id": job.id})

    gateway.on("sync", queued)
    ended = chroma("generate", "a fox", "--sync", "-o", "fox.png", "--json")
    ident = gateway.jobs()[0].id
    assert (ended.code, ended.error["charged"], ended.error["request_id"]) == (9, "unknown", ident)
    assert f"chroma fetch {ident}" in ended.error["hint"]
    assert chroma("fetch", ident, "--wait").paths == [work / "fox.png"]
    assert gateway.posts() == 1


def test_words_of_a_server_without_a_stop_end_with_one(gateway, chroma, submitted) -> None:
    submitted()  # its answer names the balance
    gateway.on("credits", Reply.error(404, "No credits found for the user"))
    [warning] = chroma("credits").warnings
    assert "No credits found for the user. This is" in warning
    gateway.on("submit", Reply.error(502, "bad gateway"))
    assert "bad gateway. The job may" in chroma("generate", "a boat", "--json").error["message"]


def test_a_server_in_trouble_that_says_when_to_come_back_is_left_alone_until_then(
    gateway, chroma, clock
) -> None:
    for route in ("submit", "status", "file"):
        gateway.on(route, Reply.error(503, "busy", Retry_After="7"))
    assert chroma("generate", "a fox").code == 0
    assert 21 < sum(clock.sleeps) < 26


def test_what_a_server_asks_for_beyond_the_deadline_ends_a_submit_at_once(gateway, chroma, clock) -> None:
    gateway.on("submit", Reply.error(503, "busy", Retry_After="70"), always=True)
    ended = chroma("generate", "a fox", "--timeout", "20", "--json")
    assert (ended.code, ended.error["charged"], gateway.posts()) == (9, "no", 1)
    assert clock.sleeps == []
