"""``chroma jobs``: the ledger as a table, and settling its entries."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from kit import CLOSE, Changed, Gateway, Reply

pytestmark = pytest.mark.usefixtures("clock")

LONG = "a young knight in shining armor before a castle at dawn, " * 9


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in line)


@pytest.fixture
def unknown(gateway, chroma):
    """A job whose outcome is unknown, with a promised place."""
    gateway.on("submit", CLOSE)
    assert chroma("submit", "a fox", "--seed", "7", "-o", "one.png").code == 9


# --- the table -------------------------------------------------------------------------------------------


def test_an_empty_ledger(chroma) -> None:
    ended = chroma("jobs")
    assert (ended.code, ended.out) == (0, "")
    assert "No jobs yet" in ended.err
    assert chroma("jobs", "--json").out == ""


def test_newest_first_with_ages_costs_and_time_left(chroma, submitted, clock) -> None:
    chroma("generate", "the oldest", "-o", "old.png")
    clock.skip(3 * 86400)
    submitted("the middle")
    clock.skip(19 * 60 + 5)
    submitted("the newest")
    ended = chroma("jobs")
    header, newest, middle, oldest = ended.lines
    assert header.split() == ["JOB", "STATE", "AGE", "COST", "FILE", "PROMPT"]
    assert newest.split()[0] == "3"
    for line, words in [
        (newest, ["queued, 59 min left"]),
        (middle, ["queued, 40 min left", "19 min"]),
        (oldest, ["saved", "3 days", "$0.055", "old.png"]),
    ]:
        assert [piece for piece in words if piece not in line] == []
    assert oldest.endswith("the oldest")
    assert "3 jobs, $0.055 in all" in ended.err
    found = chroma("jobs", "--json")
    assert [(job["job"], job["status"], job["schema"]) for job in found.json] == [
        (3, "QUEUED", 1),
        (2, "QUEUED", 1),
        (1, "COMPLETED", 1),
    ]
    assert found.err == ""


def test_past_its_hour(chroma, submitted, clock) -> None:
    submitted()
    clock.skip(3595)
    assert "<1 min left" in chroma("jobs").out
    clock.skip(10)
    assert "past its hour" in chroma("jobs").out


@pytest.mark.parametrize("prompt", [LONG, "猫" * 90, "line one\nline two\ttab " * 9, "esc [31mred"])
def test_it_fits_80_columns(chroma, submitted, clock, monkeypatch, prompt) -> None:
    for seed in ("4000000000", "4000000001"):
        submitted(prompt, "--samples", "3", "--seed", seed)
    chroma("fetch", "1")
    clock.skip(47 * 3600)
    submitted(prompt)
    clock.skip(3599)
    lines = chroma("jobs").lines
    assert len(lines) == 4
    assert max(map(width, lines)) <= 80
    if len(prompt) > 80:
        assert all(line.endswith("…") for line in lines[1:])
        monkeypatch.setenv("COLUMNS", "132")
        assert 100 < max(map(width, chroma("jobs").lines)) <= 132


def test_a_prompt_cannot_play_with_the_terminal(chroma, submitted) -> None:
    submitted("\u202e[red]x")
    out = chroma("jobs").out
    assert "\u202e" not in out
    assert "[red]x" in out


def test_a_clock_that_is_set_back_does_not_change_the_order(gateway, chroma, submitted, clock) -> None:
    submitted("one")
    clock.skip(-10 * 86400)
    submitted("two")
    assert [job["job"] for job in chroma("jobs", "--json").json] == [2, 1]
    gateway.finish()  # whose clock this is as well
    assert len(chroma("fetch", "--pending").paths) == 2


def test_an_id_that_is_given_twice_loses_no_row(gateway, chroma, submitted) -> None:
    gateway.on("submit", Changed(lambda told: {**told, "request_id": "2"}), always=True)
    assert [submitted("one"), submitted("two")] == ["2", "2"]  # an id that looks like a number, too
    assert [job["request_id"] for job in chroma("jobs", "--pending", "--json").json] == ["2", "2"]
    gateway.on("status", Reply.json({"status": "QUEUED"}), always=True)
    assert chroma("status", "2", "--json").one["request"]["prompt"] == "two"


def test_limit(chroma, submitted, ledger_rows) -> None:
    for number in range(22):
        submitted(f"fox {number}")
    assert [job["job"] for job in chroma("jobs", "--limit", "2", "--json").json] == [22, 21]
    assert len(chroma("jobs", "--json").json) == 20
    assert len(ledger_rows()) == 22


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5", "", "9" * 20])
@pytest.mark.parametrize("option", ["--limit", "--prune"])
def test_numbers_that_are_none(chroma, option, given) -> None:
    if (option, given) == ("--prune", "0"):
        given = "-0"
    assert chroma("jobs", f"{option}={given}").code == 2


@pytest.mark.parametrize(
    "argv", [("--pending", "--failed"), ("--prune", "1", "--forget", "1"), ("--pending", "--resubmit", "1")]
)
def test_what_excludes_each_other(chroma, argv) -> None:
    assert chroma("jobs", *argv).code == 2


def test_failed_shows_failed_and_expired(gateway, chroma, submitted, clock) -> None:
    gateway.plan(error="no", prompt="failed")
    ids = [submitted(prompt) for prompt in ("failed", "expired", "fine")]
    chroma("status", ids[0])
    clock.skip(3700)
    chroma("status", ids[1])
    assert [job["status"] for job in chroma("jobs", "--failed", "--json").json] == ["EXPIRED", "FAILED"]


def test_pending_shows_what_is_not_home_with_advice(gateway, chroma, submitted, killed_submit) -> None:
    with Gateway() as other:
        chroma("generate", "saved")
        submitted("waiting")
        submitted("elsewhere", "--base-url", other.base_url)
        killed_submit("killed")
        count = len(gateway.requests())
        for _ in range(2):  # just found, and known for long
            ended = chroma("jobs", "--pending")
            assert [line.split()[0] for line in ended.lines[1:]] == ["4", "3", "2"]
            assert ended.err.count("Job 4 ") == 1
            assert ended.err.count("chroma jobs --forget 4") == 1
            assert ended.err.count("chroma jobs --resubmit 4") == 1
            assert f"--base-url {other.base_url}" in ended.err
        assert len(gateway.requests()) == count


def test_a_killed_submit_is_told_once(chroma, killed_submit) -> None:
    killed_submit()
    first, second = chroma("jobs"), chroma("jobs")
    assert "Job 1 was being submitted when its program ended" in first.err
    assert "Job 1 was being submitted" not in second.err
    assert "unknown" in second.out


# --- settling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--forget", "1"], ["--resubmit", "1", "--yes"]])
def test_what_is_being_settled_needs_no_advice(chroma, killed_submit, how) -> None:
    killed_submit()
    ended = chroma("jobs", *how)
    assert (ended.code, ended.warnings) == (0, [])


def test_forget_settles_and_frees_the_place(chroma, submitted, unknown) -> None:
    ended = chroma("jobs", "--forget", "1", "--json")
    assert (ended.code, ended.one["status"]) == (0, "UNKNOWN")
    assert chroma("jobs", "--pending", "--json").out == ""
    assert chroma("generate", "a boat", "-o", "one.png", "--dry-run").code == 0
    submitted("a boat", "-o", "one.png")


def test_forget_by_request_id(chroma, submitted) -> None:
    assert "job 1 forgotten" in chroma("jobs", "--forget", submitted()).out
    assert chroma("fetch", "--pending").out == ""


@pytest.mark.parametrize(("ident", "code"), [("99", 8), ("no-such", 8), ("a b", 2)])
@pytest.mark.parametrize("option", ["--forget", "--resubmit"])
def test_settling_what_is_not_there(gateway, chroma, option, ident, code) -> None:
    assert chroma("jobs", option, ident, "--yes").code == code
    assert gateway.requests() == []


@pytest.mark.parametrize("how", ["submit", "generate"])
def test_what_would_pay_twice_is_not_resubmitted(gateway, chroma, ledger_rows, how) -> None:
    chroma(how, "a fox")
    assert chroma("jobs", "--resubmit", "1", "--yes").code == 2
    if how == "generate":
        assert chroma("jobs", "--forget", "1").code == 2
    assert gateway.posts() == len(ledger_rows()) == 1


def test_resubmit_needs_a_yes(gateway, chroma, unknown, ledger_rows) -> None:
    ended = chroma("jobs", "--resubmit", "1", "--json")
    assert ended.code == 2
    assert "--yes" in ended.error["message"]
    assert gateway.posts() == 1
    assert [row["status"] for row in ledger_rows()] == ["UNKNOWN"]


@pytest.mark.parametrize(("answer", "code", "sent"), [("y", 0, 2), ("n", 1, 1), ("", 1, 1)])
def test_resubmit_asks_on_a_terminal(gateway, process, unknown, ledger_rows, answer, code, sent) -> None:
    with process.terminal("jobs", "--resubmit", "1") as terminal:
        terminal.wait_for("may have been charged as well")
        terminal.say(f"{answer}\n")
        assert terminal.end().code == code
    assert gateway.posts() == sent == len(ledger_rows())


def test_resubmit_sends_the_same_body_once_as_a_new_job(gateway, chroma, unknown, ledger_rows, work) -> None:
    ended = chroma("jobs", "--resubmit", "1", "--yes")
    [job] = gateway.jobs()
    assert (ended.code, ended.out) == (0, f"{job.id}\n")
    first, second = gateway.requests("submit")
    assert first.json == second.json
    assert [(row["job"], row["status"]) for row in ledger_rows()] == [(1, "UNKNOWN"), (2, "QUEUED")]
    again = chroma("jobs", "--resubmit", "1", "--yes", "--json")
    assert again.code == 2
    assert "as job 2" in again.error["message"]
    assert gateway.posts() == 2
    assert chroma("fetch", "--pending").paths == [work / "one.png"]


def test_resubmit_that_gets_lost_as_well(gateway, chroma, unknown) -> None:
    gateway.on("submit", CLOSE)
    ended = chroma("jobs", "--resubmit", "1", "--yes", "--json")
    assert (ended.code, ended.error["job"], ended.error["charged"]) == (9, 2, "unknown")
    assert (ended.one["job"], ended.one["status"], ended.one["status_url"]) == (2, "UNKNOWN", None)
    assert [job["job"] for job in chroma("jobs", "--pending", "--json").json] == [2]


@pytest.mark.parametrize(
    ("trouble", "code"), [("another gateway", 2), ("budget", 4), ("place taken", 10), ("refused", 3)]
)
def test_resubmit_that_cannot_be_changes_nothing(
    gateway, chroma, unknown, ledger_rows, work, tmp_path, trouble, code
) -> None:
    more = []
    if trouble == "budget":
        (tmp_path / "config.toml").write_text("[budget]\nday = 0.06\n")
    elif trouble == "place taken":
        (work / "one.png").write_bytes(b"mine")
    elif trouble == "refused":
        gateway.on("submit", Reply.error(401))
    else:
        more = ["--base-url", "http://127.0.0.1:9"]
    ended = chroma("jobs", "--resubmit", "1", "--yes", "--json", *more)
    assert ended.code == code
    assert (gateway.posts(), ended.error["charged"]) == (2 if trouble == "refused" else 1, "no")
    assert trouble != "another gateway" or f"--base-url {gateway.base_url}" in ended.error["hint"]
    assert ledger_rows()[0]["status"] == "UNKNOWN"


# --- pruning ---------------------------------------------------------------------------------------------


def test_prune_spares_the_unsettled_and_this_month(chroma, submitted, clock, ledger_rows) -> None:
    old = chroma("generate", "old and saved").paths
    submitted("old and pending")
    clock.skip(70 * 86400)
    chroma("generate", "of this month")
    ended = chroma("jobs", "--prune", "30", "--json")
    assert (ended.code, ended.one) == (0, {"schema": 1, "removed": 1})
    assert [job["job"] for job in ledger_rows()] == [2, 3]
    assert "2 jobs, $0.055 in all" in chroma("jobs").err
    assert chroma("jobs", "--prune", "0").out == "0 jobs removed\n"
    assert all(path.is_file() for path in old)
    submitted("numbers are not used again")
    assert [job["job"] for job in ledger_rows()] == [2, 3, 4]


# --- where there is no ledger ----------------------------------------------------------------------------


def test_it_needs_no_key_no_network_and_no_requests(chroma, submitted, process) -> None:
    submitted()
    code = (
        "import sys; from chroma_cli.cli.main import main; code = main(['jobs']);"
        "assert 'requests' not in sys.modules; sys.exit(code)"
    )
    env = process.environment()
    del env["SEGMIND_API_KEY"]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "$0.00 in all" in done.stderr


def test_a_terminal_hears_that_pictures_are_waiting(chroma, submitted, process) -> None:
    submitted("a fox")
    submitted("a boat")
    for argv, told in [(["jobs"], True), (["jobs", "-q"], False), (["jobs", "--json"], False)]:
        with process.terminal(*argv) as terminal:
            assert terminal.end().code == 0
        lines = [line for line in terminal.plain.splitlines() if "pictures are waiting" in line]
        assert len(lines) == told
        if told:
            assert lines[0].startswith("2 pictures are waiting")
            assert "chroma fetch --pending" in lines[0]
            assert "min more" in lines[0]
    assert "waiting" not in chroma("jobs").err  # nobody else hears it


def test_what_another_gateway_or_a_living_program_has_is_not_waiting(
    gateway, chroma, submitted, process
) -> None:
    with Gateway() as other, gateway.hold("status") as hold:
        submitted("elsewhere", "--base-url", other.base_url)
        started = process.start("generate", "a fox")
        hold.wait()
        with process.terminal("jobs") as terminal:
            assert terminal.end().code == 0
        assert "waiting" not in terminal.plain.replace("waiting in the queue", "")
    assert started.end().code == 0
