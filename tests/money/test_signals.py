"""Signals that end the program: the ids of jobs are heard first, and what is heard comes home."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import PATIENCE, Gateway, Hold, Programs, is_whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

NAMES = ("HUP", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "XCPU")
ENDING = [signal.Signals[f"SIG{name}"] for name in NAMES]
WAITS = "Stopping when the job's id is known"


@pytest.fixture
def home(gateway: Gateway, process: Programs, work: Path) -> Callable[[int], None]:
    """``home(3)``: nothing is unknown, and the three pictures come home unpaid."""

    def check(count: int) -> None:
        assert "UNKNOWN" not in [row["status"] for row in process("jobs", "--json").json]
        posts = gateway.posts()
        fetched = process("fetch", "--pending", "--wait")
        assert fetched.code == 0, fetched.said
        assert len(fetched.paths) == count, fetched.said
        assert all(is_whole(path) for path in fetched.paths)
        assert gateway.posts() == posts == count

    return check


@pytest.mark.parametrize(
    ("number", "command"), [(signal.SIGHUP, "submit"), *((number, "generate") for number in ENDING)]
)
def test_it_waits_for_the_id_of_a_submit_that_is_out(
    gateway: Gateway, process: Programs, home: Any, number: int, command: str
) -> None:
    with gateway.hold("submit", "answer") as hold:
        started = process.start(command, "a fox", "-o", "fox.png")
        hold.wait()
        started.signal(number)
        started.wait_for(WAITS)
    ended = started.end()
    assert ended.code == 128 + number, ended.said
    assert "Traceback" not in ended.err
    assert gateway.jobs()[0].id in ended.err
    assert "chroma fetch" in ended.err
    home(1)


def test_the_error_of_a_lost_terminal(gateway: Gateway, process: Programs) -> None:
    with gateway.hold("status") as hold:
        started = process.start("generate", "a fox", "--json")
        hold.wait()
        started.signal(signal.SIGHUP)
        ended = started.end()
    assert (ended.code, ended.error["type"]) == (129, "terminal_lost")
    assert ended.error["request_id"] == gateway.jobs()[0].id
    assert ended.error["charged"] == "unknown"


@pytest.mark.parametrize("signals", [("HUP", "HUP"), ("INT", "HUP"), ("TERM", "HUP")], ids="-".join)
def test_a_terminal_that_is_lost_several_times_is_not_impatient(
    gateway: Gateway, process: Programs, home: Any, signals: tuple[str, str]
) -> None:
    """The system and the shell both send a SIGHUP; systemd sends one after its SIGTERM."""
    first, second = (getattr(signal, f"SIG{name}") for name in signals)
    with gateway.hold("submit", "answer") as hold:
        started = process.start("generate", "a fox", "-o", "fox.png")
        hold.wait()
        started.signal(first)
        started.wait_for(WAITS)
        for _ in range(20):
            started.signal(second)
            time.sleep(0.01)
        assert started.running
    assert started.end().code == 128 + first
    home(1)


@pytest.mark.skipif(shutil.which("timeout") is None, reason="needs timeout(1)")
def test_timeout_sends_its_signal_twice(gateway: Gateway, process: Programs, home: Any) -> None:
    with gateway.hold("submit", "answer") as hold:
        command = [str(shutil.which("timeout")), "600", *process.command()]
        started = process.start("generate", "a fox", "-o", "fox.png", command=command)
        hold.wait()
        started.signal(signal.SIGTERM)  # passed on to the program, and to the group
        started.wait_for(WAITS)
        assert started.running
    started.end()
    home(1)


#: Ignores a signal, and then becomes another program.
DEAF = """
import os, signal, sys
signal.signal(int(sys.argv[1]), signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(
    gateway: Gateway, process: Programs, work: Path, number: int
) -> None:
    """nohup, and a program that a script starts with ``&``."""
    with gateway.hold("submit", "answer") as hold:
        command = [sys.executable, "-c", DEAF, str(int(number)), *process.command()]
        started = process.start("generate", "a fox", "-o", "fox.png", command=command)
        hold.wait()
        started.signal(number)
    ended = started.end()
    assert (ended.code, ended.paths) == (0, [work / "fox.png"]), ended.said


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_a_batch_with_six_in_flight_hears_their_ids(
    gateway: Gateway, process: Programs, work: Path, number: int
) -> None:
    rows = [json.dumps({"prompt": f"fox {n}", "output": f"{n}.png"}) for n in range(9)]
    (work / "list.jsonl").write_text("\n".join(rows))
    holds = [Hold("answer") for _ in range(4)]  # so many are sent at once; two more wait for their turn
    gateway.on("submit", *holds)
    started = process.start("batch", "list.jsonl", "--jobs", "6")
    for hold in holds:
        hold.wait()
    started.signal(number)
    if number == signal.SIGHUP:
        started.signal(number)
    time.sleep(0.5)  # before the answers, if it is quick enough; the same must hold if it is not
    assert started.running
    for hold in holds:
        hold.release()
    ended = started.end()
    assert ended.code == 128 + number, ended.said
    told = process("jobs", "--json").json
    assert not [row for row in told if row["status"] in ("UNKNOWN", "SUBMITTING")]
    assert {row["request_id"] for row in told} - {None} == {job.id for job in gateway.jobs()}
    again = process("batch", "list.jsonl")
    assert again.code == 0, again.said
    assert gateway.posts() == 9
    assert all(is_whole(work / f"{n}.png") for n in range(9))


@pytest.mark.parametrize("count", [1, 3])
def test_a_fetch_that_loses_its_terminal_says_how_to_go_on(
    gateway: Gateway, process: Programs, home: Any, count: int
) -> None:
    for n in range(count):
        assert process("submit", "a fox", "-o", f"{n}.png").code == 0
    with gateway.hold("file", "half") as hold:
        started = process.start("fetch", "--pending", "--wait")
        hold.wait()
        started.signal(signal.SIGHUP)
        ended = started.end()
    assert ended.code == 129, ended.said
    assert "chroma fetch" in ended.err
    posts = gateway.posts()
    again = process("fetch", "--pending", "--wait")
    assert again.code == 0, again.said
    assert gateway.posts() == posts == count


# --- terminals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [(), ("-q",)], ids=["spinner", "quiet"])
@pytest.mark.parametrize("route", ["submit", "status"])
def test_a_window_that_is_closed(
    gateway: Gateway, process: Programs, home: Any, quiet: tuple[str, ...], route: Any
) -> None:
    with gateway.hold(route, "answer") as hold:
        with process.terminal("generate", "a fox", "-o", "fox.png", *quiet) as terminal:
            hold.wait()
            with open(os.devnull) as nothing:  # in place of the terminal, whose other side is gone then
                os.dup2(nothing.fileno(), terminal.master)
            if route == "submit":
                with pytest.raises(subprocess.TimeoutExpired):  # it waits for the id
                    terminal.process.wait(1)
            hold.release()
            code = terminal.process.wait(PATIENCE)
    assert code == 129
    home(1)


#: One question after the other; each answer is told with its exit code.
ASKING = """
import sys
from chroma_cli.cli.main import main
for turn in range(int(sys.argv[1])):
    code = main(["generate", "a fox", "--samples", "11"])
    print(f"<{turn}:{code}>", flush=True)
"""


def test_no_ctrl_c_at_a_question_is_lost_whatever_the_moment(gateway: Gateway, process: Programs) -> None:
    """One in a hundred fell between Python's look for signals and the call that reads the answer."""
    turns, dice = 500, random.Random(17)
    asking = [sys.executable, "-c", ASKING, str(turns)]
    with process.terminal(command=asking) as terminal:
        for turn in range(turns):
            terminal.wait_for(r"\?")
            moment = time.perf_counter() + dice.random() * 0.0004
            while time.perf_counter() < moment:
                pass
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for(f"<{turn}:130>")
            terminal.seen = terminal.seen.partition(f"<{turn}:130>".encode())[2]
        assert terminal.end().code == 0
    assert gateway.requests() == []


# --- stopped, and going on -------------------------------------------------------------------------------


def test_a_program_that_stood_still_past_its_deadline_hears_the_answer_that_came(
    gateway: Gateway, process: Programs, home: Any
) -> None:
    with gateway.hold("submit", "answer") as hold:
        started = process.start("generate", "a fox", "-o", "fox.png", "--timeout", "2", "--json")
        hold.wait()
        started.stop()
    time.sleep(3)
    started.go_on()
    ended = started.end()
    assert ended.code in (0, 7), ended.said
    if ended.code == 7:
        assert ended.error["request_id"] == gateway.jobs()[0].id
        home(1)


def test_a_batch_that_stood_still_past_its_deadline(gateway: Gateway, process: Programs, work: Path) -> None:
    rows = [json.dumps({"prompt": f"fox {n}", "output": f"{n}.png"}) for n in range(4)]
    (work / "list.jsonl").write_text("\n".join(rows))
    holds = [Hold("answer") for _ in range(4)]
    gateway.on("submit", *holds)
    started = process.start("batch", "list.jsonl", "--jobs", "4", "--timeout", "2")
    for hold in holds:
        hold.wait()
    started.stop()
    for hold in holds:
        hold.release()
    time.sleep(3)
    started.go_on()
    started.end()
    told = process("jobs", "--json").json
    assert sorted(row["request_id"] or "" for row in told) == sorted(job.id for job in gateway.jobs())
    assert process("batch", "list.jsonl").code == 0
    assert gateway.posts() == 4
