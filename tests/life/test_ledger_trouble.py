"""A ledger that cannot be used: the picture still comes, one warning says what is lost, a budget holds."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import on_terminal

from chroma_cli.jobs import ledger as ledger_module

BUDGET = "[budget]\nday = 50\n"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def generate(life: Any, *argv: str) -> Any:
    return life("generate", "a red fox", "-o", "fox.png", "--json", *argv)


def saved(life: Any, ran: Any) -> bool:
    return bool(ran.code == 0 and life.shows(life.work / "fox.png"))


# --- switched off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "variable"])
def test_without_a_ledger_nothing_is_written_and_nothing_is_said(
    life: Any, monkeypatch: Any, how: str
) -> None:
    if how == "variable":
        monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    ran = generate(life, *(["--no-ledger"] if how == "option" else []))
    assert saved(life, ran)
    assert (ran.objects[0]["job"], ran.objects[0]["request_id"], ran.err) == (None, "job-1", "")
    assert not list(life.home.rglob("*.sqlite3"))


def test_without_a_ledger_a_failure_still_names_the_id(life: Any, status_says: Any) -> None:
    status_says("PROCESSING")
    ran = generate(life, "--no-ledger", "--timeout", "5")
    assert (ran.code, ran.error["request_id"], ran.error["job"]) == (7, "job-1", None)
    assert "chroma fetch job-1" in ran.error["hint"]


def test_a_budget_needs_the_ledger(life: Any) -> None:
    life.config.write_text(BUDGET)
    for command in ("generate", "submit"):
        ran = life(command, "a red fox", "--no-ledger", "--json")
        assert (ran.code, ran.error["charged"]) == (4, "no")
    assert life.submits == 0


def test_sync_works_without_a_ledger(life: Any) -> None:
    assert life("generate", "a red fox", "--sync", "--no-ledger").code == 0
    assert not list(life.home.rglob("*.sqlite3"))


# --- newer -----------------------------------------------------------------------------------------------


@pytest.fixture
def newer(life: Any) -> bytes:
    with life.ledger():
        pass
    path = life.state / "jobs.sqlite3"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 999")
    db.close()
    return bytes(path.read_bytes())


def test_a_newer_ledger_is_left_as_it_is(life: Any, newer: bytes) -> None:
    ran = generate(life)
    assert saved(life, ran)
    [warning] = ran.warnings
    assert "newer" in warning
    assert "will not know the job" in warning
    assert (life.state / "jobs.sqlite3").read_bytes() == newer


def test_a_newer_ledger_and_a_budget(life: Any, newer: bytes) -> None:
    life.config.write_text(BUDGET)
    ran = generate(life)
    assert (ran.code, life.submits) == (4, 0)
    assert "budget" in ran.error["message"]


def test_commands_about_the_ledger_say_why_they_cannot(life: Any, newer: bytes) -> None:
    ran = life("jobs")
    assert ran.code == 1
    assert "newer" in ran.err


# --- damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"this is no database, but somebody's letter " * 200, b"\x00" * 9000])
def test_a_damaged_file_is_set_aside_and_never_deleted(life: Any, garbage: bytes) -> None:
    life.state.mkdir(mode=0o700)
    (life.state / "jobs.sqlite3").write_bytes(garbage)
    ran = generate(life)
    assert saved(life, ran)
    [warning] = [words for words in ran.warnings if "damaged" in words]
    [aside] = life.state.glob("jobs.sqlite3.damaged-*")
    assert aside.read_bytes() == garbage
    assert aside.name in warning
    assert life.row(1).state == "saved"
    assert generate(life, "--overwrite").err == ""


def test_a_damaged_file_and_a_budget(life: Any) -> None:
    life.config.write_text(BUDGET)
    life.state.mkdir(mode=0o700)
    (life.state / "jobs.sqlite3").write_bytes(b"no database" * 999)
    ran = generate(life)
    assert (ran.code, ran.error["charged"], life.submits) == (4, "no", 0)
    assert len(list(life.state.glob("jobs.sqlite3.damaged-*"))) == 1
    # told once; from now on it counts anew
    assert saved(life, generate(life))


def test_damage_that_shows_late_is_told_as_well(life: Any) -> None:
    """The head of the file is sound, so that opening it finds nothing."""
    for _ in range(30):
        life.begin()
    path = life.state / "jobs.sqlite3"
    db = sqlite3.connect(path)
    root, size = (
        db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'").fetchone()[0],
        db.execute("PRAGMA page_size").fetchone()[0],
    )
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    ran = generate(life)
    assert saved(life, ran)
    assert len([words for words in ran.warnings if "was damaged" in words]) == 1
    assert len(list(life.state.glob("jobs.sqlite3.damaged-*"))) == 1


# --- busy, gone, unwritable ------------------------------------------------------------------------------


@pytest.fixture
def busy(life: Any, monkeypatch: Any) -> Iterator[None]:
    """Somebody holds the lock and never lets go."""
    monkeypatch.setattr(ledger_module, "_LOCK_SECONDS", 0.0)
    with life.ledger():
        pass
    other = sqlite3.connect(life.state / "jobs.sqlite3")
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


def test_a_busy_ledger_is_not_damage(life: Any, busy: None) -> None:
    ran = generate(life)
    assert saved(life, ran)
    [warning] = ran.warnings
    assert "locked" in warning
    assert not list(life.state.glob("*damaged*"))


def test_a_busy_ledger_and_a_budget(life: Any, busy: None) -> None:
    life.config.write_text(BUDGET)
    assert (generate(life).code, life.submits) == (4, 0)


def test_a_folder_where_the_ledger_should_be(life: Any) -> None:
    (life.state / "jobs.sqlite3").mkdir(parents=True)
    ran = generate(life)
    assert saved(life, ran)
    assert len(ran.warnings) == 1


def test_a_file_where_the_state_folder_should_be(life: Any) -> None:
    life.state.write_bytes(b"")
    ran = generate(life)
    assert saved(life, ran)
    assert len(ran.warnings) == 1
    life.config.write_text(BUDGET)
    assert (generate(life, "--overwrite").code, life.submits) == (4, 1)


def test_a_ledger_that_vanishes_between_submit_and_save(life: Any) -> None:
    from faultserver import Reply, Request

    def vanish(request: Request) -> Reply:
        shutil.rmtree(life.state, ignore_errors=True)
        return Reply.json({"status": "COMPLETED", "request_id": request.path.split("/")[3]})

    life.server.on("GET", "/v2/requests/*/status", vanish)
    ran = generate(life)
    assert saved(life, ran)
    assert len(ran.warnings) == 1
    assert life.submits == 1


_AS_NOBODY = """
import os, sys
from chroma_cli.cli.main import main
state = os.environ["CHROMA_STATE_DIR"]
os.environ["CHROMA_STATE_DIR"] = os.path.join(state, "warm")
# Everything is imported before the rights are gone: the program may lie in the superuser's home.
main(["generate", "warm up", "-o", os.path.join(os.environ["HOME"], "warm.png"), "-q"])
main(["jobs", "--resubmit", "99"])
os.environ["CHROMA_STATE_DIR"] = state
os.chmod(state, 0o555)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.stdout.flush(); sys.stderr.write("-----\\n"); sys.stderr.flush()
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def readable_home() -> Iterator[Path]:
    """Folders that nobody in particular may enter."""
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    (home / "state").mkdir()
    (home / "work").mkdir()
    if IS_ROOT:
        os.chown(home / "work", 65534, 65534)
    yield home
    (home / "state").chmod(0o755)
    shutil.rmtree(home)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize("budget", [False, True])
def test_a_read_only_state_folder(life: Any, env: dict[str, str], readable_home: Path, budget: bool) -> None:
    config = readable_home / "config.toml"
    if budget:
        config.write_text("[budget]\nday = 50\n")
    env |= {"CHROMA_STATE_DIR": str(readable_home / "state"), "CHROMA_CONFIG": str(config)}
    env |= {"HOME": str(readable_home)}
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, "generate", "a red fox", "-o", "fox.png"],
        env=env,
        cwd=readable_home / "work",
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stderr.partition("-----\n")[2]
    if budget:
        assert (done.returncode, life.submits) == (4, 1), done.stderr
        assert "budget" in said
        return
    assert done.returncode == 0, done.stderr
    assert said.count("warning:") == 1
    assert "will not know the job" in said
    assert life.shows(readable_home / "work" / "fox.png")


# --- budgets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["day", "month"])
def test_a_budget_is_kept_before_anything_is_sent(life: Any, period: str) -> None:
    life.config.write_text(f"[budget]\n{period} = 0.12\n")
    assert life("generate", "a red fox").code == 0  # which shows the price
    codes = [life("submit", "a red fox").code for _ in range(2)]
    assert (codes, life.submits) == ([0, 4], 2)
    ran = life("generate", "a red fox", "--json")
    assert ran.error["charged"] == "no"
    assert f"{period} limit of $0.12" in ran.error["message"]


def test_a_refused_job_gives_its_reservation_back(life: Any) -> None:
    from faultserver import Reply

    life.config.write_text("[budget]\nday = 0.06\n")
    life.server.on("POST", "/v2/chroma", Reply.json({"error": "no"}, 400), Reply.json({"request_id": "b-1"}))
    assert [life("submit", "a fox").code for _ in range(3)] == [2, 0, 4]


def test_an_unknown_job_keeps_its_reservation(life: Any) -> None:
    from faultserver import RESET, Reply

    life.config.write_text("[budget]\nday = 0.06\n")
    life.server.on("POST", "/v2/chroma", RESET, Reply.json({"request_id": "b-1"}))
    assert [life("submit", "a fox").code for _ in range(2)] == [9, 4]


def test_a_larger_order_counts_as_larger(life: Any) -> None:
    life.config.write_text("[budget]\nday = 0.2\n")
    assert life("submit", "a fox", "--samples", "4").code == 4
    assert life("submit", "a fox", "--samples", "3").code == 0


def test_sync_keeps_the_budget_too(life: Any) -> None:
    life.config.write_text("[budget]\nday = 0.01\n")
    assert life("generate", "a fox", "--sync").code == 4
    assert life.server.requests() == []


def test_a_budget_of_nothing_stops_everything(life: Any) -> None:
    life.config.write_text("[budget]\nmonth = 0\n")
    assert (generate(life).code, life.submits) == (4, 0)


def test_a_new_day_is_a_new_budget(life: Any) -> None:
    life.config.write_text("[budget]\nday = 0.06\n")
    assert [life("submit", "a fox").code for _ in range(2)] == [0, 4]
    life.clock.skip(86400)
    assert life("submit", "a fox").code == 0


def test_what_it_cost_counts_once_it_is_known(life: Any) -> None:
    """Three samples are expected to cost more than the 0.055 that the gateway then says."""
    life.config.write_text("[budget]\nday = 0.2\n")
    assert life("generate", "a fox", "--samples", "3").code == 0
    assert life("submit", "a fox", "--samples", "2").code == 0


# --- the line about waiting pictures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "told"), [(["jobs"], True), (["jobs", "-q"], False), (["jobs", "--json"], False)]
)
def test_a_terminal_hears_that_pictures_are_waiting(life: Any, argv: list[str], told: bool) -> None:
    life.submit()
    life.submit()
    with on_terminal(*argv) as terminal:
        assert terminal.end() == 0
    assert ("2 pictures are waiting" in terminal.plain) == told
    if told:
        [line] = [line for line in terminal.plain.splitlines() if "waiting" in line]
        assert "chroma fetch --pending" in line
        assert "min more" in line


def test_nobody_else_hears_it(life: Any) -> None:
    life.submit()
    assert "waiting" not in life("jobs").err


def test_a_job_that_is_being_worked_on_is_not_waiting(life: Any, alive: Any) -> None:
    row = life.begin(owner=alive)
    with life.ledger(owner=alive) as ledger:
        ledger.submitted(row.number, "busy-1")
    with on_terminal("jobs") as terminal:
        assert terminal.end() == 0
    assert "waiting" not in terminal.plain.replace("waiting in the queue", "")


def test_it_knows_what_the_gateway_of_this_call_is(life: Any) -> None:
    row = life.begin(base_url="https://other.example")
    with life.ledger() as ledger:
        ledger.submitted(row.number, "other-1")
    with on_terminal("jobs") as terminal:
        assert terminal.end() == 0
    assert "waiting" not in terminal.plain
