"""Ctrl-C and SIGTERM in every window, and a wall clock that jumps between commands."""

from __future__ import annotations

import signal
import sys
import threading

import pytest
from stormrig import Ended, Machine, ended
from stormserver import StormServer, is_whole

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")


def stopped_at(machine: Machine, storm: StormServer, place: str, number: int, *more: str) -> Ended:
    hold = storm.hold("knight", place)
    process = machine.start("generate", "knight", "-o", "knight.png", *more)
    assert hold.reached.wait(60)
    process.send_signal(number)
    if place == "submit":
        # the first one waits for the answer; this server never gives it
        threading.Event().wait(0.5)
        assert process.poll() is None
        process.send_signal(number)
    try:
        return ended(process, 30)
    finally:
        hold.released.set()


@SIGNALS
@pytest.mark.parametrize("place", ["polled", "status", "result", "file", "half"])
def test_an_accepted_job_is_named_with_the_command_that_brings_it_home(
    machine: Machine, storm: StormServer, place: str, number: int
) -> None:
    answer = stopped_at(machine, storm, place, number)
    assert (answer.code, answer.stdout) == (CODES[signal.Signals(number)], "")
    assert "chroma fetch storm-1" in answer.stderr
    assert "charged" in answer.stderr.lower()
    assert "Traceback" not in answer.stderr
    assert machine.temp_files() == []
    fetched = machine.run("fetch", "storm-1", "--wait")
    assert fetched.lines == [str(machine.out / "knight.png")], fetched.stderr
    assert is_whole(machine.out / "knight.png", "knight")
    assert storm.submits["knight"] == 1


@SIGNALS
def test_twice_while_the_submit_is_out_ends_at_once_and_leaves_an_unknown_job(
    machine: Machine, storm: StormServer, number: int
) -> None:
    answer = stopped_at(machine, storm, "submit", number, "--json")
    assert answer.code == CODES[signal.Signals(number)]
    assert answer.error["charged"] == "unknown"
    assert "chroma jobs --pending" in answer.error["hint"]
    [row] = machine.jobs()
    assert (row["status"], row["charged"]) == ("UNKNOWN", "unknown")
    assert storm.submits["knight"] == 1


@SIGNALS
def test_once_while_the_submit_is_out_waits_for_its_id(
    machine: Machine, storm: StormServer, number: int
) -> None:
    """The answer comes a moment after the signal."""
    hold = storm.hold("knight", "taken")
    process = machine.start("generate", "knight", "-o", "knight.png", "--json")
    assert hold.reached.wait(60)
    process.send_signal(number)
    threading.Event().wait(0.5)
    assert process.poll() is None
    hold.released.set()
    answer = ended(process, 30)
    assert answer.code == CODES[signal.Signals(number)]
    assert answer.error["request_id"] == "storm-1"
    assert "chroma fetch storm-1" in answer.error["hint"]
    [row] = machine.jobs()
    assert row["status"] in ("QUEUED", "PROCESSING")
    assert machine.run("fetch", "--pending", "--wait").lines == [str(machine.out / "knight.png")]
    assert storm.submits["knight"] == 1


# --- the clock -------------------------------------------------------------------------------------------

#: Runs chroma with a wall clock that is wrong by so many seconds; the monotonic one is as it is.
SHIFTED = """
import sys, time
shift, real = float(sys.argv[1]), time.time
time.time = lambda: real() + shift
from chroma_cli.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
#: The wall clock jumps a second after the start.
JUMPING = """
import sys, time
shift, real, start = float(sys.argv[1]), time.time, time.monotonic()
time.time = lambda: real() + (shift if time.monotonic() - start > 1.0 else 0.0)
from chroma_cli.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
HOUR = 3600.0


def run_at(machine: Machine, shift: float, *args: str) -> Ended:
    script = machine.root / "shifted.py"
    script.write_text(SHIFTED)
    process = machine.start_script(script, str(shift), *args)
    return ended(process)


@pytest.mark.parametrize(
    "shift", [-20 * 365 * 24 * HOUR, -2 * HOUR, -60.0, 60.0, 50 * 60.0, 2 * HOUR, 400 * 24 * HOUR]
)
def test_a_clock_that_jumps_loses_no_job(machine: Machine, storm: StormServer, shift: float) -> None:
    assert machine.run("submit", "knight", "-o", "knight.png").code == 0
    fetched = run_at(machine, shift, "fetch", "--pending", "--wait")
    assert fetched.lines == [str(machine.out / "knight.png")], fetched.stderr
    assert run_at(machine, shift, "jobs").code == 0
    assert run_at(machine, -shift, "jobs", "--pending", "--json").stdout == ""


@pytest.mark.parametrize("shift", [-2 * HOUR, 2 * HOUR])
def test_a_clock_that_jumps_does_not_make_an_owner_dead(
    machine: Machine, storm: StormServer, shift: float
) -> None:
    hold = storm.hold("knight", "submit")
    owner = machine.start("generate", "knight", "-o", "knight.png")
    try:
        assert hold.reached.wait(60)
        [row] = run_at(machine, shift, "jobs", "--json").objects
        assert row["status"] == "SUBMITTING"
    finally:
        hold.released.set()
    ended(owner)


@pytest.mark.parametrize("shift", [-2 * HOUR, 2 * HOUR])
def test_a_clock_that_jumps_does_not_keep_a_dead_owner_alive(
    machine: Machine, storm: StormServer, shift: float
) -> None:
    hold = storm.hold("knight", "submit")
    owner = machine.start("generate", "knight", "-o", "knight.png")
    assert hold.reached.wait(60)
    owner.kill()
    ended(owner)
    hold.released.set()
    [row] = run_at(machine, shift, "jobs", "--json").objects
    assert row["status"] == "UNKNOWN"
    assert storm.submits["knight"] == 1


@pytest.mark.parametrize("shift", [-2 * HOUR, 2 * HOUR])
def test_a_clock_that_jumps_while_waiting_moves_no_deadline(
    machine: Machine, storm: StormServer, shift: float
) -> None:
    """The jump comes in the middle of a run, once the first poll was answered."""
    storm.seconds = lambda: 1.5
    script = machine.root / "jump.py"
    script.write_text(JUMPING)
    answer = ended(machine.start_script(script, str(shift), "generate", "knight", "-o", "knight.png"))
    assert answer.lines == [str(machine.out / "knight.png")], answer.stderr
    assert storm.gets["status"] < 12
    [row] = machine.jobs()
    assert row["status"] == "COMPLETED"
