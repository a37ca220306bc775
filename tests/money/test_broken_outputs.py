"""What a run says about money, and what it brings home, when something breaks that is not the gateway."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from kit import PASS, Ended, Reply, Started, eventually, is_whole

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")


def manifest(path: Path, count: int) -> Path:
    rows = [json.dumps({"prompt": f"p{n}", "output": f"p{n}.png"}) for n in range(count)]
    path.write_text("\n".join(rows) + "\n")
    return path


def run(process, *argv: str | Path, stdout: str = "/dev/full", stderr: str = "") -> Ended:
    """Run with stdout (and stderr) led elsewhere by a shell."""
    line = f'exec "$@" >{stdout}' + (f" 2>{stderr}" if stderr else "")
    ended: Ended = process.start(*argv, command=["/bin/sh", "-c", line, "sh", *process.command()]).end()
    return ended


@needs_full
def test_a_batch_whose_stdout_breaks_saves_what_is_in_flight_and_buys_no_more(gateway, process, work):
    art = manifest(work / "art.jsonl", 12)
    ended = run(process, "batch", art, "--jobs", "2", "--json")
    assert ended.code == 10
    assert ended.error["charged"] == "yes"
    bought = gateway.posts()
    assert 1 <= bought < 12
    assert len([path for path in work.glob("*.png") if is_whole(path)]) == bought
    assert process("batch", art).code == 0
    assert gateway.posts() == 12


@needs_full
def test_a_batch_of_one_names_its_job(gateway, process, work):
    ended = run(process, "batch", manifest(work / "art.jsonl", 1), "--json")
    assert ended.code == 10
    assert (ended.error["charged"], ended.error["job"]) == ("yes", 1)


@needs_full
def test_a_request_id_that_cannot_be_printed_is_told_on_stderr(gateway, process, work, ledger_rows):
    ended = run(process, "submit", "a fox", "--json")
    [row] = ledger_rows()
    assert (ended.code, row["status"]) == (10, "QUEUED")
    assert (ended.error["request_id"], ended.error["charged"]) == (row["request_id"], "unknown")
    assert row["request_id"] in ended.error["hint"]


def test_a_request_id_that_nobody_reads_is_told_on_stderr(gateway, process, work, ledger_rows):
    with gateway.hold("submit") as hold:  # the reader is gone before the id comes
        line = 'fifo=$1; shift; "$@" >"$fifo"'
        os.mkfifo(work / "fifo")
        command = ["/bin/sh", "-c", line, "sh", str(work / "fifo"), *process.command()]
        started = process.start("submit", "a fox", "--json", command=command)
        reader = os.open(work / "fifo", os.O_RDONLY)
        hold.wait()
        os.close(reader)
    ended = started.end()
    [row] = ledger_rows()
    assert ended.code == 10
    assert (ended.error["request_id"], ended.error["charged"]) == (row["request_id"], "unknown")


def test_nothing_is_submitted_when_the_id_could_not_be_printed(gateway, process, work):
    ended = run(process, "submit", "a fox", "--json", stdout="&-")
    assert ended.code == 10
    assert ended.error["charged"] == "no"
    assert gateway.posts() == 0


@needs_full
@pytest.mark.parametrize("option", ["--summary", "--junit"])
def test_a_summary_that_cannot_be_written_is_an_error_that_tells_the_money(gateway, chroma, work, option):
    ended = chroma("batch", manifest(work / "art.jsonl", 2), option, FULL, "--json")
    assert ended.code == 10
    assert ended.error["charged"] == "yes"
    assert len(ended.json) == 2


@needs_full
def test_a_full_stderr_stops_nothing(gateway, process, work):
    ended = run(process, "batch", manifest(work / "art.jsonl", 3), stdout="paths", stderr="/dev/full")
    assert ended.code == 0
    assert sorted((work / "paths").read_text().split()) == [str(work / f"p{n}.png") for n in range(3)]


@needs_full
def test_an_earlier_purchase_is_not_forgotten_by_a_refusal(gateway, chroma, work):
    gateway.on("submit", PASS, Reply.error(405), always=True)
    ended = chroma("batch", manifest(work / "art.jsonl", 4), "--jobs", "1")
    assert ended.code == 2
    assert ended.err.rstrip().endswith("Money was spent.")


# --- however a run ends ----------------------------------------------------------------------------------


def three_in_flight(gateway, process, art: Path, *more: str | Path) -> Started:
    """A batch with one picture home, one job at the gateway, one submit unanswered, and one not begun."""
    gateway.plan(seconds=3600, prompt="p1")
    hold = gateway.hold("submit", prompt="p2")
    started: Started = process.start("batch", art, "--jobs", "2", *more)
    hold.wait()
    started.wait_for(r"\[1/4\] p0.png")
    return started


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT twice"])
def test_every_summary_tells_what_is_in_flight(gateway, process, work, ending):
    art = manifest(work / "art.jsonl", 4)
    started = three_in_flight(gateway, process, art, "--summary", "page.md", "--junit", "tests.xml")
    started.signal(ending)
    if ending == signal.SIGINT:
        started.wait_for("Ctrl-C again")
    started.signal(signal.SIGINT)
    ended = started.end()
    assert ended.code in (130, 143)
    counts = "1 made, 1 unknown, 1 unfinished, 1 not started; $0.055 spent, $0.11 unknown"
    assert counts in ended.err
    page = (work / "page.md").read_text()
    assert "1 made, 1 unknown, 1 unfinished, 1 not started" in page
    xml = (work / "tests.xml").read_text()
    assert 'tests="4" failures="2"' in xml and 'skipped="1"' in xml


def test_the_step_summary_of_a_cancelled_run(gateway, process, work):
    art = manifest(work / "art.jsonl", 3)
    gateway.plan(seconds=3600)
    step = work / "step.md"
    started = process.start("batch", art, "--jobs", "2", env={"GITHUB_STEP_SUMMARY": str(step)})
    eventually(lambda: gateway.posts() == 2, "two submits")
    started.signal(signal.SIGTERM)
    ended = started.end()
    assert ended.code == 143
    assert "2 unfinished, 1 not started" in step.read_text()
    assert "It may have been charged" in ended.err


# --- errors that nobody foresaw ------------------------------------------------------------------------


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("boom")


def no_memory(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_bug_after_the_purchase_says_that_it_was_paid(gateway, chroma, work, monkeypatch):
    monkeypatch.setattr("typer.launch", broken)
    ended = chroma("generate", "a fox", "-o", "fox.png", "--open", "--json")
    assert (ended.code, ended.error["type"]) == (1, "internal")
    assert (ended.error["charged"], ended.error["job"]) == ("yes", 1)
    assert is_whole(work / "fox.png")


def test_a_bug_while_a_batch_runs_leaves_no_picture_behind(gateway, chroma, work, monkeypatch):
    art = manifest(work / "art.jsonl", 6)
    with monkeypatch.context() as patched:
        patched.setattr(os.path, "relpath", broken)
        ended = chroma("batch", art, "--jobs", "2", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (1, "internal", "yes")
    assert len(list(work.glob("*.png"))) == gateway.posts() < 6
    assert chroma("batch", art).code == 0
    assert gateway.posts() == 6


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a socket left open
@pytest.mark.parametrize("wrong", [broken, no_memory])
@pytest.mark.parametrize("argv", [["submit"], ["generate"], ["generate", "--sync"]], ids=" ".join)
def test_what_breaks_before_anything_was_sent_costs_nothing(
    gateway, chroma, ledger_rows, monkeypatch, wrong, argv
):
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", wrong)
        ended = chroma(*argv, "a fox", "--json")
    assert (ended.code, ended.error["charged"]) == (1, "no")
    assert gateway.posts() == 0
    assert [(row["status"], row["charged"]) for row in ledger_rows()] == [("FAILED", "no")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a socket left open
@pytest.mark.parametrize("wrong", [broken, no_memory])
@pytest.mark.parametrize("argv", [["submit"], ["generate"], ["generate", "--sync"]], ids=" ".join)
def test_what_breaks_before_the_answer_is_heard_is_unknown(
    gateway, chroma, ledger_rows, monkeypatch, wrong, argv
):
    heard = socket.SocketIO.readinto

    def readinto(stream: socket.SocketIO, *given: object) -> object:
        stream_port = stream._sock.getpeername()[1]  # type: ignore[attr-defined]
        return wrong() if str(stream_port) in gateway.base_url else heard(stream, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(socket.SocketIO, "readinto", readinto)
        ended = chroma(*argv, "a fox", "--json")
    assert (ended.code, ended.error["charged"]) == (1, "unknown")
    eventually(lambda: gateway.posts() == 1, "the submit")  # it may be read after the program has ended
    assert [(row["status"], row["charged"]) for row in ledger_rows()] == [("UNKNOWN", "unknown")]


def test_a_bug_without_a_ledger_is_no_less_honest(gateway, chroma, work, monkeypatch):
    monkeypatch.setattr("typer.launch", broken)
    ended = chroma("generate", "a fox", "-o", "fox.png", "--open", "--no-ledger", "--json")
    assert (ended.code, ended.error["charged"]) == (1, "yes")
    assert ended.error["request_id"] == gateway.jobs("a fox")[0].id
