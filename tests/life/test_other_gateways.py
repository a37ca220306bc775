"""Gateways that behave within the contract, but in other ways than the one of the other tests."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from faultserver import Reply, Request, tiny_png

PICTURE = tiny_png(1024, 1024)


def test_a_name_bears_the_seed_that_was_sent_whatever_the_answer_says(life: Any) -> None:
    """The planned name was promised and found to be free; the JSON tells the server's seed."""
    life.server.on(
        "GET", "/v2/requests/job-1", Reply.json({"output": f"{life.server.base_url}/f", "seed": 9})
    )
    life.server.on("GET", "/f", Reply(200, [], PICTURE))
    ran = life("generate", "a fox", "--seed", "5", "--json")
    [job] = ran.objects
    assert (ran.code, job["seed"], job["request"]["seed"]) == (0, 9, 5)
    assert job["files"][0]["path"] == str(life.work / "a-fox-5.png")


def test_a_seed_that_the_server_picks_stands_in_the_name(life: Any) -> None:
    life.server.on(
        "GET", "/v2/requests/job-1", Reply.json({"output": f"{life.server.base_url}/f", "seed": 9})
    )
    life.server.on("GET", "/f", Reply(200, [], PICTURE))
    assert life("generate", "a fox", "--seed=-1").lines == [str(life.work / "a-fox-9.png")]


@pytest.mark.parametrize("sync", [True, False])
def test_samples_may_be_alike(life: Any, sync: bool) -> None:
    text = base64.b64encode(PICTURE).decode()
    life.server.on("POST", "/v1/chroma", Reply.json({"image": [text, text, text]}))
    life.server.on(
        "GET", "/v2/requests/job-1", Reply.json({"status": "COMPLETED", "output": [text, text, text]})
    )
    ran = life("generate", "a fox", "--samples", "3", "--seed", "5", *(["--sync"] if sync else []))
    assert ran.code == 0, ran.err
    assert ran.lines == [str(life.work / f"a-fox-5-{number}.png") for number in (1, 2, 3)]


@pytest.mark.parametrize("code", [200, 422, 500])
def test_a_failure_in_small_letters(life: Any, status_says: Any, code: int) -> None:
    status_says("failed", code=code, error="blocked by a policy")
    ran = life("generate", "a fox", "--json")
    assert (ran.code, ran.error["charged"]) == (6, "no")
    assert "blocked by a policy" in ran.error["message"]


@pytest.mark.parametrize("timeout", ["3", "60"])
def test_an_id_that_the_gateway_never_knows_is_not_found(life: Any, timeout: str) -> None:
    life.server.on("GET", "/v2/requests/*", Reply.json({"error": "unknown"}, 404))
    ran = life("generate", "a fox", "--timeout", timeout, "--json")
    assert (ran.code, ran.error["charged"]) == (8, "unknown")
    assert sum(life.clock.sleeps) < 7
    assert life.row(1).state == "queued"  # earlier than an hour, it is not final


def test_a_job_that_the_gateway_knows_a_little_later(life: Any) -> None:
    asked: list[float] = []

    def late(request: Request) -> Reply:
        asked.append(life.clock.monotonic())
        if asked[-1] - asked[0] < 2.0:
            return Reply.json({"error": "unknown"}, 404)
        return Reply.json({"status": "COMPLETED", "request_id": "job-1"})

    life.server.on("GET", "/v2/requests/job-1/status", late)
    assert life("generate", "a fox").code == 0


def test_a_finished_job_whose_result_cannot_be_had_is_recorded_as_finished_and_paid(life: Any) -> None:
    life.server.on("GET", "/v2/requests/job-1", Reply.json({"error": "oops"}, 404))
    ran = life("generate", "a fox", "--json")
    assert (ran.code, ran.error["charged"]) == (8, "yes")
    assert (ran.objects[0]["status"], ran.objects[0]["charged"]) == ("COMPLETED", "yes")
    assert (life.row(1).state, str(life.row(1).charged)) == ("completed", "yes")
    life.clock.skip(3601)
    ran = life("fetch", "1", "--json")
    assert (ran.code, ran.error["type"], ran.error["charged"]) == (8, "expired", "yes")
    assert "It was paid for" in ran.error["message"]


def test_a_blocking_call_that_brought_no_picture_is_settled_as_paid(life: Any) -> None:
    life.server.on("POST", "/v1/chroma", Reply(200, [("Content-Type", "image/png")], PICTURE[:2000]))
    ran = life("generate", "a fox", "--sync", "-o", "fox.png", "--json")
    broken = life.work / "fox.png.broken"
    assert (ran.code, ran.error["charged"]) == (9, "yes")
    assert str(broken) in ran.error["message"]
    assert broken.read_bytes() == PICTURE[:2000]
    assert life("jobs", "--pending", "--json").objects == []
    ran = life("fetch", "--pending", "--json")
    assert (ran.code, ran.warnings) == (0, [])
    ran = life("fetch", "1", "--json")
    assert (ran.code, ran.error["charged"]) == (8, "yes")
    assert str(broken) in ran.error["message"]
    ran = life("status", "1", "--json")
    assert ran.objects[0]["charged"] == "yes"


def test_a_blocking_call_whose_picture_found_no_place_says_where_it_is(life: Any) -> None:
    (life.work / "sub").mkdir()

    def meanwhile(request: Request) -> Reply:
        (life.work / "sub").rmdir()
        (life.work / "sub").write_bytes(b"in the way")
        return Reply(200, [("Content-Type", "image/png")], PICTURE)

    life.server.on("POST", "/v1/chroma", meanwhile)
    ran = life("generate", "a fox", "--sync", "-o", "sub/fox.png", "--json")
    assert (ran.code, ran.error["charged"]) == (10, "yes")
    said = str(life.row(1).error)
    kept = [path for path in Path(life.home).rglob("*.png") if path.is_file()]
    assert len(kept) == 1
    assert str(kept[0]) in said
    assert life.shows(kept[0])
    assert life("fetch", "--pending", "--json").warnings == []


def test_the_whole_deadline_is_used_for_tries(life: Any) -> None:
    life.server.on("GET", "/v2/requests/*", Reply.json({"error": "busy"}, 503))
    started = life.clock.monotonic()
    ran = life("generate", "a fox", "--timeout", "4", "--json")
    assert (ran.code, ran.error["charged"]) == (9, "unknown")
    assert 2.9 < life.clock.monotonic() - started < 5.0


def test_words_of_a_server_without_a_stop_end_with_one(life: Any) -> None:
    life.submit()  # its answer names the balance
    life.server.on("GET", "/v1/get-user-credits", Reply.json({"error": "No credits found for the user"}, 404))
    [warning] = life("credits").warnings
    assert "No credits found for the user. This is" in warning
    life.server.on("POST", "/v2/chroma", Reply.json({"error": "bad gateway"}, 502))
    assert "bad gateway. The job may" in life("generate", "a fox", "--json").error["message"]


def test_a_picture_that_is_saved_already_says_how_to_have_it_elsewhere(life: Any) -> None:
    life.submit("a fox", "-o", "one.png")
    assert life("fetch", "1").code == 0
    ran = life("fetch", "1", "-o", "two.png")
    assert (ran.code, ran.lines, life.downloads()) == (0, [str(life.work / "one.png")], 1)
    assert "--force to fetch it again to two.png" in ran.warnings[0]
    for same in ("one.png", "./", str(life.work / "one.png")):
        assert life("fetch", "1", "-o", same).warnings == []
    ran = life("fetch", "1", "-o", "two.png", "--force")
    assert (ran.code, ran.lines) == (0, [str(life.work / "two.png")])


def test_of_several_the_error_says_whether_money_went_for_any(life: Any) -> None:
    for _ in range(3):
        life.submit("a fox")
    life.server.on("GET", "/files/job-2-*", Reply(200, [], b"no picture"))
    ran = life("fetch", "1", "2", "3", "--json")
    assert (ran.code, ran.error["type"], ran.error["charged"]) == (11, "some_failed", "yes")
    ran = life("status", "1", "stranger", "--json")
    assert (ran.code, ran.error["charged"]) == (11, "unknown")


def test_what_is_done_before_the_deadline_is_not_missed(life: Any) -> None:
    """A job like this takes 53 s, so nothing would be asked between 3 and 12 s; this one takes 5."""
    begun: list[float] = []

    def early(request: Request) -> Reply:
        begun.append(life.clock.monotonic())
        done = begun[-1] - begun[0] > 5
        return Reply.json({"status": "COMPLETED" if done else "PROCESSING", "request_id": "job-1"})

    life.server.on("GET", "/v2/requests/job-1/status", early)
    ran = life("generate", "a fox", "--timeout", "10")
    assert ran.code == 0, ran.err
    assert len(begun) < 7


def test_a_blocking_call_that_was_queued_fetchable_by_its_id(life: Any) -> None:
    ident = life.submit("a fox")  # the gateway knows this one
    life.server.on("POST", "/v1/chroma", Reply.json({"status": "QUEUED", "request_id": "late-1"}))
    ran = life("generate", "a fox", "--sync", "-o", "fox.png", "--json")
    assert (ran.code, ran.error["charged"], ran.error["request_id"]) == (9, "unknown", "late-1")
    assert "chroma fetch late-1" in ran.error["hint"]
    life.server.on("GET", "/v2/requests/late-1/status", Reply.json({"status": "COMPLETED"}))
    output = {"status": "COMPLETED", "output": f"{life.server.base_url}/files/{ident}-0.png"}
    life.server.on("GET", "/v2/requests/late-1", Reply.json(output))
    assert life("fetch", "late-1").lines == [str(life.work / "fox.png")]
    assert life.row("late-1").state == "saved"


def test_a_server_in_trouble_that_says_when_to_come_back_is_left_alone_until_then(life: Any) -> None:
    busy = Reply.json({"error": "busy"}, 503, Retry_After="7")
    life.server.on("GET", "/v2/requests/job-1/status", busy, Reply.json({"status": "COMPLETED"}))
    life.server.on("POST", "/v2/chroma", busy, Reply.json({"request_id": "job-1"}))
    life.server.on("GET", "/v2/requests/job-1", Reply.json({"output": f"{life.server.base_url}/f"}))
    life.server.on("GET", "/f", busy, Reply(200, [], PICTURE))
    started = life.clock.monotonic()
    assert life("generate", "a fox").code == 0
    assert 21 < life.clock.monotonic() - started < 26


def test_what_a_server_asks_for_beyond_the_deadline_ends_a_submit_at_once(life: Any) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json({"error": "busy"}, 503, Retry_After="70"))
    ran = life("generate", "a fox", "--timeout", "20", "--json")
    assert (ran.code, ran.error["charged"], life.submits) == (9, "no", 1)
    assert not life.clock.sleeps
