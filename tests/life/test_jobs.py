"""``chroma jobs``: the ledger as a table, and settling its entries."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from faultserver import RESET, Reply
from running import on_terminal

LONG = "a young knight in shining armor before a castle at dawn, " * 9


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in line)


def unknown(life: Any) -> int:
    life.server.on("POST", "/v2/chroma", RESET, Reply.json({"request_id": "again-1"}))
    assert life("submit", "a red fox", "--seed", "7", "-o", "one.png").code == 9
    return 1


# --- the table -------------------------------------------------------------------------------------------


def test_an_empty_ledger(life: Any) -> None:
    ran = life("jobs")
    assert (ran.code, ran.out) == (0, "")
    assert "No jobs yet" in ran.err
    assert life("jobs", "--json").out == ""


def test_newest_first_with_ages_costs_and_time_left(life: Any) -> None:
    life("generate", "the oldest", "-o", "old.png")
    life.clock.skip(3 * 86400)
    life.submit("the middle")
    life.clock.skip(19 * 60 + 5)
    life.submit("the newest")
    ran = life("jobs")
    header, newest, middle, oldest = ran.lines
    assert header.split() == ["JOB", "STATE", "AGE", "COST", "FILE", "PROMPT"]
    assert newest.split()[0] == "3"
    assert "queued, 59 min left" in newest
    assert "queued, 40 min left" in middle
    assert "19 min" in middle
    assert "saved" in oldest
    assert "3 days" in oldest
    assert "$0.055" in oldest
    assert "old.png" in oldest
    assert oldest.endswith("the oldest")
    assert "3 jobs, $0.055 in all" in ran.err


def test_past_its_hour(life: Any) -> None:
    life.submit()
    life.clock.skip(3599)
    assert "<1 min left" in life("jobs").out
    life.clock.skip(2)
    assert "past its hour" in life("jobs").out


@pytest.mark.parametrize("prompt", [LONG, "猫" * 90, "line one\nline two\ttab " * 9, "\x1b[31mred".strip()])
def test_it_fits_80_columns(life: Any, prompt: str) -> None:
    for seed in ("4000000000", "4000000001"):
        life.submit(prompt.replace("\x1b", "esc "), "--samples", "3", "--seed", seed)
    life("fetch", "1")
    life.clock.skip(47 * 3600)
    life.submit(prompt.replace("\x1b", "esc "))
    life.clock.skip(3599)
    lines = life("jobs").lines
    assert len(lines) == 4
    assert max(map(width, lines)) <= 80
    if len(prompt) > 80:
        assert all(line.endswith("…") for line in lines[1:])


def test_columns_are_what_the_variable_says(life: Any, monkeypatch: Any) -> None:
    life.submit(LONG)
    monkeypatch.setenv("COLUMNS", "132")
    assert 100 < max(map(width, life("jobs").lines)) <= 132


def test_a_prompt_cannot_play_with_the_terminal(life: Any) -> None:
    row = life.begin()
    with life.ledger() as ledger:
        ledger._write(
            lambda db: db.execute("UPDATE jobs SET request = ?", ('{"prompt": "\\u001b[2J\\u202e[red]x"}',))
        )
    out = life("jobs").out
    assert row.number == 1
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]x" in out


def test_json_is_one_object_a_job(life: Any) -> None:
    life("generate", "one", "--seed", "1")
    life.submit("two", "--seed", "2")
    ran = life("jobs", "--json")
    assert [(job["job"], job["status"], job["seed"]) for job in ran.objects] == [
        (2, "QUEUED", 2),
        (1, "COMPLETED", 1),
    ]
    assert all(job["schema"] == 1 for job in ran.objects)
    assert ran.err == ""


def test_limit(life: Any) -> None:
    for _ in range(23):
        life.begin()
    assert [job["job"] for job in life("jobs", "--limit", "2", "--json").objects] == [23, 22]
    assert len(life("jobs", "--json").objects) == 20
    assert len(life("jobs", "--limit", "100", "--json").objects) == 23


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5", "", "9" * 20])
@pytest.mark.parametrize("option", ["--limit", "--prune"])
def test_numbers_that_are_none(life: Any, option: str, given: str) -> None:
    if (option, given) == ("--prune", "0"):
        given = "-0"
    assert life("jobs", f"{option}={given}").code == 2


@pytest.mark.parametrize(
    "argv", [("--pending", "--failed"), ("--prune", "1", "--forget", "1"), ("--pending", "--resubmit", "1")]
)
def test_what_excludes_each_other(life: Any, argv: tuple[str, ...]) -> None:
    assert life("jobs", *argv).code == 2


def test_failed_shows_failed_and_expired(life: Any, status_says: Any) -> None:
    failed, expired, _ = life.submit(), life.submit(), life.submit()
    status_says("FAILED", failed, error="no")
    life("status", failed)
    life.server.on("GET", f"/v2/requests/{expired}/status", Reply.json({"error": "gone"}, 404))
    life.clock.skip(3700)
    life("status", expired)
    assert [job["status"] for job in life("jobs", "--failed", "--json").objects] == ["EXPIRED", "FAILED"]


def test_pending_shows_what_is_not_home_with_advice(life: Any, dead: Any) -> None:
    life("generate", "saved")
    life.submit("waiting")
    life.begin(owner=dead)
    row = life.begin(base_url="https://other.example")
    with life.ledger() as ledger:
        ledger.submitted(row.number, "other-1")
    sent = len(life.server.requests())
    ran = life("jobs", "--pending")
    assert [line.split()[0] for line in ran.lines[1:]] == ["4", "3", "2"]
    assert "chroma jobs --forget 3" in ran.err
    assert "chroma jobs --resubmit 3" in ran.err
    assert "--base-url https://other.example" in ran.err
    assert len(life.server.requests()) == sent


def test_a_row_whose_owner_is_gone_is_reported_once_as_unknown(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    first, second = life("jobs"), life("jobs")
    assert "Job 1 was being submitted when its program ended" in first.err
    assert "Job 1 was being submitted" not in second.err
    assert "unknown" in second.out


def test_pending_tells_once_of_a_row_whose_owner_is_gone(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    for _ in range(2):  # just found, and known for long
        ran = life("jobs", "--pending")
        assert ran.err.count("Job 1 ") == 1
        assert ran.err.count("chroma jobs --forget 1") == 1
        assert ran.err.count("chroma jobs --resubmit 1") == 1


def test_a_row_of_another_host_becomes_unknown_after_15_minutes(life: Any) -> None:
    from chroma_cli.jobs.owner import Owner

    life.begin(owner=Owner("another-host", "b", 1, "1"))
    life.clock.skip(14 * 60)
    assert life("jobs", "--json").objects[0]["status"] == "SUBMITTING"
    life.clock.skip(2 * 60)
    assert life("jobs", "--json").objects[0]["status"] == "UNKNOWN"


# --- settling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--forget", "1"], ["--resubmit", "1", "--yes"]])
def test_what_is_being_settled_needs_no_advice(life: Any, dead: Any, how: list[str]) -> None:
    life.begin(owner=dead)
    ran = life("jobs", *how)
    assert (ran.code, ran.warnings) == (0, [])


def test_forget_settles_and_frees_the_place(life: Any) -> None:
    unknown(life)
    ran = life("jobs", "--forget", "1", "--json")
    assert (ran.code, ran.objects[0]["status"]) == (0, "UNKNOWN")
    assert life("jobs", "--pending", "--json").out == ""
    assert life("generate", "a blue fox", "-o", "one.png", "--dry-run").code == 0
    assert life("submit", "a blue fox", "-o", "one.png").code == 0


def test_forget_by_request_id(life: Any) -> None:
    ident = life.submit()
    assert "job 1 forgotten" in life("jobs", "--forget", ident).out
    assert life("fetch", "--pending").out == ""


@pytest.mark.parametrize(("ident", "code"), [("99", 8), ("no-such", 8), ("a b", 2)])
@pytest.mark.parametrize("option", ["--forget", "--resubmit"])
def test_settling_what_is_not_there(life: Any, option: str, ident: str, code: int) -> None:
    assert life("jobs", option, ident, "--yes").code == code
    assert life.submits == 0


def test_what_is_settled_cannot_be_forgotten(life: Any) -> None:
    life("generate", "a fox")
    assert life("jobs", "--forget", "1").code == 2
    assert life.row(1).state == "saved"


def test_a_job_that_somebody_works_on_cannot_be_settled(life: Any, alive: Any) -> None:
    life.begin(owner=alive)
    assert life("jobs", "--forget", "1").code == 2
    assert life("jobs", "--resubmit", "1", "--yes").code == 2
    assert life.row(1).state == "submitting"
    assert life.submits == 0


def test_resubmit_needs_a_yes(life: Any) -> None:
    unknown(life)
    ran = life("jobs", "--resubmit", "1", "--json")
    assert ran.code == 2
    assert "--yes" in ran.error["message"]
    assert life.submits == 1
    assert life.row(1).state == "unknown"


def test_resubmit_sends_the_same_body_as_a_new_job(life: Any) -> None:
    unknown(life)
    ran = life("jobs", "--resubmit", "1", "--yes")
    assert (ran.code, ran.out) == (0, "again-1\n")
    first, second = life.server.requests("POST")
    assert first.json == second.json
    old, new = life.row(1), life.row("again-1")
    assert (old.state, old.superseded_by, new.resubmit_of, new.number) == ("forgotten", 2, 1, 2)
    life.server.on(
        "GET",
        "/v2/requests/again-1",
        Reply.json({"status": "COMPLETED", "output": f"{life.server.base_url}/files/a.png"}),
    )
    life.server.on("GET", "/v2/requests/again-1/status", Reply.json({"status": "COMPLETED"}))
    assert life("fetch", "again-1").lines == [str(life.work / "one.png")]


def test_resubmit_twice_sends_once(life: Any) -> None:
    unknown(life)
    assert life("jobs", "--resubmit", "1", "--yes").code == 0
    ran = life("jobs", "--resubmit", "1", "--yes", "--json")
    assert ran.code == 2
    assert "as job 2" in ran.error["message"]
    assert life.submits == 2


def test_resubmit_that_gets_lost_as_well(life: Any) -> None:
    unknown(life)
    life.server.on("POST", "/v2/chroma", RESET)
    ran = life("jobs", "--resubmit", "1", "--yes", "--json")
    assert (ran.code, ran.error["job"], ran.error["charged"]) == (9, 2, "unknown")
    [job] = ran.objects
    assert (job["job"], job["status"], job["status_url"]) == (2, "UNKNOWN", None)
    assert [job["job"] for job in life("jobs", "--pending", "--json").objects] == [2]


@pytest.mark.parametrize("how", ["submit", "generate"])
def test_what_would_pay_twice_is_not_resubmitted(life: Any, how: str) -> None:
    life(how, "a fox")
    assert life("jobs", "--resubmit", "1", "--yes").code == 2
    assert life.submits == 1


def test_resubmit_for_another_gateway_is_refused(life: Any, dead: Any) -> None:
    life.begin(base_url="https://other.example", owner=dead)
    ran = life("jobs", "--resubmit", "1", "--yes", "--json")
    assert ran.code == 2
    assert "--base-url https://other.example" in ran.error["hint"]
    assert life.server.requests() == []


def test_resubmit_keeps_the_budget(life: Any) -> None:
    unknown(life)
    life.config.write_text("[budget]\nday = 0.06\n")
    assert life("jobs", "--resubmit", "1", "--yes").code == 4
    assert life.submits == 1
    assert life.row(1).state == "unknown"


def test_resubmit_where_the_place_is_taken_sends_nothing(life: Any) -> None:
    unknown(life)
    (life.work / "one.png").write_bytes(b"mine")
    assert life("jobs", "--resubmit", "1", "--yes").code == 10
    assert life.submits == 1
    assert life.row(1).state == "unknown"


# --- pruning ---------------------------------------------------------------------------------------------


def test_prune_spares_the_unsettled_and_this_month(life: Any) -> None:
    life("generate", "old and saved")
    life.submit("old and pending")
    life.clock.skip(70 * 86400)
    life("generate", "of this month")
    ran = life("jobs", "--prune", "30", "--json")
    assert (ran.code, ran.objects) == (0, [{"schema": 1, "removed": 1}])
    assert [job["job"] for job in life("jobs", "--json").objects] == [3, 2]
    assert life("jobs", "--prune", "0").out == "0 jobs removed\n"
    assert (Path(life.work) / life("jobs", "--json").objects[0]["files"][0]["path"]).is_file()


# --- where there is no ledger ----------------------------------------------------------------------------


def test_without_a_ledger_there_is_nothing_to_show(life: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    ran = life("jobs", "--json")
    assert (ran.code, ran.error["exit_code"]) == (1, 1)


def test_it_needs_no_key_and_no_network(life: Any, env: dict[str, str]) -> None:
    life.submit("a red fox")
    env = {name: value for name, value in env.items() if name != "SEGMIND_API_KEY"}
    code = (
        "import sys; from chroma_cli.cli.main import main; code = main(['jobs']);"
        "assert 'requests' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "1 jobs, $0.00 in all")


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_the_ledger_is_for_its_owner_alone(life: Any) -> None:
    life.submit()
    assert (life.state / "jobs.sqlite3").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("answer", "code", "sent"), [("y", 0, 2), ("n", 1, 1), ("", 1, 1)])
def test_resubmit_asks_on_a_terminal(life: Any, answer: str, code: int, sent: int) -> None:
    unknown(life)
    with on_terminal("jobs", "--resubmit", "1") as terminal:
        terminal.wait_for("may have been charged as well")
        terminal.say(f"{answer}\n")
        assert terminal.end() == code
    assert life.submits == sent
    assert life.row(1).state == ("forgotten" if code == 0 else "unknown")
