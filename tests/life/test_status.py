"""``chroma status``: how jobs are, as lines, JSON and exit codes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from faultserver import Reply, Request

Says = Callable[..., None]


@pytest.mark.parametrize(("state", "code"), [("QUEUED", 7), ("PROCESSING", 7), ("COMPLETED", 0)])
def test_one_line_with_id_state_and_detail(life: Any, status_says: Says, state: str, code: int) -> None:
    ident = life.submit()
    status_says(state)
    ran = life("status", ident)
    [line] = ran.lines
    assert ran.code == code
    assert line.startswith(f"{ident}  {state}  ")
    assert line.endswith("min left")


def test_a_state_that_nobody_knows_counts_as_not_finished(life: Any, status_says: Says) -> None:
    ident = life.submit()
    status_says("WARMING_UP")
    ran = life("status", ident, "--json")
    assert (ran.code, ran.objects[0]["status"]) == (7, "PROCESSING")


@pytest.mark.parametrize("http", [200, 422, 500])
def test_a_failed_job_is_6_with_the_servers_words(life: Any, status_says: Says, http: int) -> None:
    ident = life.submit()
    status_says("FAILED", code=http, error="content blocked by RAI")
    ran = life("status", ident, "--json")
    assert ran.code == 6
    assert (ran.objects[0]["status"], ran.objects[0]["charged"]) == ("FAILED", "no")
    assert "content blocked by RAI" in ran.objects[0]["error"]["message"]
    assert ran.error["charged"] == "no"
    # settled: nothing is asked any more, and the words stay
    asked = life.asked()
    again = life("status", ident)
    assert again.code == 6
    assert "content blocked by RAI" in again.out
    assert life.asked() == asked


def test_the_detail_word_of_the_sdk_is_read_too(life: Any) -> None:
    ident = life.submit()
    life.server.on("GET", "/v2/requests/*/status", Reply.json({"detail": "a bad sampler"}, 422))
    ran = life("status", ident)
    assert ran.code == 6
    assert "a bad sampler" in ran.out


def test_an_unknown_id_is_8_and_is_not_put_into_the_ledger(life: Any) -> None:
    ran = life("status", "never-seen", "--json")
    assert ran.code == 8
    [job] = ran.objects
    assert (job["request_id"], job["status"], job["job"]) == ("never-seen", "UNKNOWN", None)
    assert ran.error["exit_code"] == 8
    assert life("jobs", "--json").out == ""


def test_an_id_that_this_ledger_never_saw_is_asked_for(life: Any, status_says: Says) -> None:
    status_says("COMPLETED", "from-elsewhere")
    ran = life("status", "from-elsewhere")
    assert ran.code == 0
    assert ran.out.startswith("from-elsewhere  COMPLETED")


def test_a_404_within_the_hour_stays_pending(life: Any) -> None:
    ident = life.submit()
    life.server.on("GET", "/v2/requests/*/status", Reply.json({"error": "not found"}, 404))
    life.clock.skip(3000)
    ran = life("status", ident, "--json")
    assert (ran.code, ran.error["type"]) == (8, "not_found")
    assert life.row(ident).state == "queued"


def test_a_404_after_the_hour_is_final_and_says_what_was_paid(life: Any) -> None:
    ident = life.submit()
    life.server.on("GET", "/v2/requests/*", Reply.json({"error": "not found"}, 404))
    life.clock.skip(3700)
    ran = life("status", ident, "--json")
    assert (ran.code, ran.error["type"]) == (8, "expired")
    assert (ran.objects[0]["status"], ran.error["charged"]) == ("EXPIRED", "unknown")
    assert "If it completed, it was charged" in ran.error["message"]
    assert life("status", ident).code == 8
    assert life.asked() == 1


def test_addresses_that_are_recorded_outlive_the_record(life: Any) -> None:
    """The file stays for days: a look at the status must not make fetch give up."""
    life.server.on("GET", "/files/*", Reply.json({"error": "later"}, 404))
    ident = life.submit()
    assert life("fetch", ident).code == 8
    assert life.row(ident).sources != ()
    life.server.on("GET", "/v2/requests/*", Reply.json({"error": "not found"}, 404))
    life.clock.skip(4000)
    ran = life("status", ident)
    assert (ran.code, ran.lines[0].split()[1]) == (0, "COMPLETED")
    assert life.row(ident).state == "completed"


def test_a_saved_job_shows_its_files_and_asks_nobody(life: Any) -> None:
    life("generate", "a red fox", "-o", "one.png")
    asked = life.asked()
    ran = life("status", "1")
    assert ran.code == 0
    assert str(life.work / "one.png") in ran.out
    assert life.asked() == asked


def test_a_job_of_another_gateway_is_refused_with_a_hint(life: Any) -> None:
    row = life.begin(base_url="https://other.example")
    with life.ledger() as ledger:
        ledger.submitted(row.number, "other-1")
    ran = life("status", str(row.number), "--json")
    assert ran.code == 2
    assert "--base-url https://other.example" in ran.error["hint"]
    assert life.server.requests() == []


def test_an_unknown_row_says_how_to_settle_it(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    ran = life("status", "1", "--json")
    assert (ran.code, ran.error["charged"]) == (9, "unknown")
    assert "chroma jobs --forget 1" in ran.error["hint"]
    assert ran.objects[0]["status"] == "UNKNOWN"


@pytest.mark.parametrize("ident", ["", "a b", "../etc", "x" * 129, "a\nb", "ä"])
def test_what_cannot_be_an_id_is_wrong_usage(life: Any, ident: str) -> None:
    ran = life("status", ident, "--json")
    assert ran.code == 2
    assert life.server.requests() == []


def test_no_id_is_wrong_usage(life: Any) -> None:
    assert life("status").code == 2


def test_several_all_done_is_0(life: Any) -> None:
    ids = [life.submit() for _ in range(3)]
    ran = life("status", *ids, "--json")
    assert ran.code == 0
    assert sorted(job["request_id"] for job in ran.objects) == sorted(ids)


def test_several_with_only_unfinished_left_is_7(life: Any, status_says: Says) -> None:
    ids = [life.submit() for _ in range(3)]
    status_says("PROCESSING", ids[1])
    ran = life("status", *ids, "--json")
    assert (ran.code, ran.error["exit_code"]) == (7, 7)
    assert len(ran.objects) == 3


def test_several_with_one_failed_is_11(life: Any, status_says: Says) -> None:
    ids = [life.submit() for _ in range(3)]
    status_says("PROCESSING", ids[1])
    status_says("FAILED", ids[2], error="no")
    ran = life("status", *ids)
    assert ran.code == 11
    assert {line.split()[1] for line in ran.lines} == {"COMPLETED", "PROCESSING", "FAILED"}


def test_one_id_twice_is_one_job(life: Any) -> None:
    ident = life.submit()
    assert len(life("status", ident, ident).lines) == 1


def test_several_are_asked_at_the_same_time(life: Any) -> None:
    """Each answer waits until all questions are there."""
    ids = [life.submit() for _ in range(4)]
    together = threading.Barrier(4, timeout=30)

    def reply(request: Request) -> Reply:
        together.wait()
        return Reply.json({"status": "PROCESSING", "request_id": request.path.split("/")[3]})

    life.server.on("GET", "/v2/requests/*/status", reply)
    ran = life("status", *ids)
    assert (ran.code, len(ran.lines)) == (7, 4)
    assert not together.broken


def test_trouble_of_the_gateway_is_9_and_changes_nothing(life: Any) -> None:
    ident = life.submit()
    life.server.on("GET", "/v2/requests/*/status", Reply.text("<html>oops</html>", 502, "text/html"))
    ran = life("status", ident, "--json")
    assert ran.code == 9
    assert life.row(ident).state == "queued"
    assert life.asked() > 1


def test_a_flaky_answer_is_asked_for_again(life: Any) -> None:
    ident = life.submit()
    good = Reply.json({"status": "PROCESSING"})
    life.server.on("GET", "/v2/requests/*/status", Reply.text("no", 500), Reply.text('{"status": "PRO'), good)
    assert life("status", ident).code == 7


def test_it_works_without_a_ledger(life: Any) -> None:
    ident = life.submit()
    ran = life("status", ident, "--no-ledger", "--json")
    assert (ran.code, ran.objects[0]["job"]) == (0, None)


def test_server_words_cannot_play_with_the_terminal(life: Any, status_says: Says) -> None:
    ident = life.submit()
    status_says("FAILED", error="bad\x1b[2J\nsecond [red]line[/red]")
    ran = life("status", ident)
    assert "\x1b" not in ran.out + ran.err
    assert len(ran.lines) == 1
    assert "[red]line[/red]" in ran.out


@pytest.mark.parametrize(
    ("http", "body", "code"),
    [
        (400, {"error": "bad"}, 2),
        (401, {"error": "no"}, 3),
        (403, {"error": "no"}, 3),
        (406, {"error": "Insufficient credits"}, 4),
        (406, {"error": "Invalid content type"}, 2),
        (404, {"error": "no model"}, 8),
        (410, {"error": "gone"}, 8),
        (429, {"error": "slow down"}, 5),
        (503, {"error": "busy"}, 9),
    ],
)
def test_a_refused_submit_stays_what_it_was_refused_for(life: Any, http: int, body: Any, code: int) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json(body, http))
    refused = life("submit", "a red fox", "--json")
    ran = life("status", "1", "--json")
    assert (refused.code, ran.code, ran.error["exit_code"]) == (code, code, code)
    for name in ("type", "message", "hint", "job", "charged"):
        assert ran.error[name] == refused.error[name], name
    assert ran.error["job"] == 1
    [job] = ran.objects
    assert (job["status"], job["charged"]) == ("FAILED", "no")
    assert (job["error"]["exit_code"], job["error"]["job"]) == (code, 1)
    assert life.asked() == 0


@pytest.mark.parametrize(
    ("error", "code", "type"),
    [
        ({"type": "invented_later", "message": "m", "exit_code": 3}, 3, "auth"),
        ({"type": "key_refused", "message": "m", "exit_code": 4}, 4, "limit"),
        ({"type": "interrupted", "message": "m", "exit_code": 130}, 6, "generation_failed"),
        ({"type": "not_finished", "message": "m", "exit_code": 7}, 6, "generation_failed"),
        ({"type": "x", "message": "m", "exit_code": 0}, 6, "generation_failed"),
        ({"type": ["x"], "message": "m", "exit_code": "3", "hint": 5}, 6, "generation_failed"),
        ({}, 6, "generation_failed"),
    ],
)
def test_a_recorded_error_that_says_nothing_fitting(life: Any, error: Any, code: int, type: str) -> None:
    row = life.begin()
    with life.ledger() as ledger:
        ledger.unsent(row.number, error)
    ran = life("status", "1", "--json")
    assert (ran.code, ran.error["exit_code"], ran.error["type"]) == (code, code, type)
    assert ran.objects[0]["status"] == "FAILED"


def test_several_refused_submits_are_11(life: Any) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json({"error": "no"}, 401))
    life("submit", "a red fox")
    life("submit", "a blue fox")
    assert life("status", "1", "2").code == 11


def test_a_killed_submit_is_told_once(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    ran = life("status", "1")
    assert (ran.code, ran.warnings) == (9, [])
    assert ran.err.count("chroma jobs --forget 1") == 1


def test_another_killed_submit_is_told_of_as_well(life: Any, dead: Any) -> None:
    ident = life.submit()
    life.begin(owner=dead)
    ran = life("status", ident)
    assert ran.code == 0
    [warning] = ran.warnings
    assert "Job 2 was being submitted when its program ended" in warning


def test_a_forgotten_job_of_unknown_outcome_was_not_refused(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    life("jobs", "--forget", "1")
    ran = life("status", "1", "--json")
    assert (ran.code, ran.error["charged"]) == (8, "unknown")
    assert "forgotten" in ran.error["message"]
