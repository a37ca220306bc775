"""Batches that are stopped: Ctrl-C once and twice, SIGTERM, kill -9, a second run; and then going on."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from batchgate import Gate
from running import Ended, command, eventually, run_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

Listing = Callable[..., Path]


@contextlib.contextmanager
def started(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """``chroma batch`` as a process of its own, gone at the end whatever happens."""
    process = subprocess.Popen(
        command("batch", *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,  # a line that is read takes nothing of the next one with it
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes]) -> Ended:
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err)


def submitted(gate: Gate, count: int, *processes: subprocess.Popen[bytes]) -> None:
    running(processes, lambda: len(gate.prompts) >= count, f"{count} submits")


def recorded(gate: Gate, count: int, *processes: subprocess.Popen[bytes]) -> None:
    """Wait until polls came for so many jobs: their ids are in the ledger then."""
    running(processes, lambda: sum(job.polls > 0 for job in gate.jobs) >= count, f"{count} polls")


def running(processes: Sequence[subprocess.Popen[bytes]], look: Callable[[], bool], what: str) -> None:
    def seen() -> bool:
        if look():
            return True
        for process in processes:
            assert process.poll() is None, ended(process).err
        return False

    eventually(seen, what)


def test_ctrl_c_once_finishes_what_is_in_flight(gate: Gate, listing: Listing, work: Path) -> None:
    listing(*(f"fox{n} [slow]" for n in range(10)))
    with started("list.jsonl", "--jobs", "3") as process:
        recorded(gate, 3, process)
        process.send_signal(signal.SIGINT)
        eventually(lambda: process.stderr is not None and b"Stopping" in process.stderr.readline(), "a word")
        gate.release.set()
        stopped = ended(process)
    assert stopped.code == 130
    assert len(stopped.lines) == 3
    assert len(gate.jobs) == 3
    assert "7 of 10 images were not begun" in stopped.err
    assert "Money was spent." in stopped.err
    assert run_process("batch", "list.jsonl", "--check").code == 1
    again = run_process("batch", "list.jsonl")
    assert again.code == 0, again.err
    assert len(gate.jobs) == 10


@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)],
    ids=["INT", "TERM"],
)
def test_leaving_at_once_loses_nothing(
    gate: Gate, listing: Listing, signals: tuple[signal.Signals, ...], code: int
) -> None:
    listing(*(f"fox{n} [slow]" for n in range(10)))
    with started("list.jsonl", "--jobs", "4") as process:
        recorded(gate, 4, process)
        for number in signals:
            process.send_signal(number)
            if len(signals) > 1 and process.stderr is not None:
                process.stderr.readline()
        stopped = ended(process)
    assert stopped.code == code, stopped.err
    assert "again" in stopped.err
    gate.release.set()
    again = run_process("batch", "list.jsonl")
    assert again.code == 0, again.err
    assert len(gate.jobs) == 10
    assert sorted(gate.prompts) == sorted({*gate.prompts})


def test_a_killed_run_is_taken_up_where_it_stopped(gate: Gate, listing: Listing, work: Path) -> None:
    listing(*(f"fox{n}" for n in range(5)), *(f"owl{n} [slow]" for n in range(5)))
    with started("list.jsonl", "--jobs", "10") as process:
        recorded(gate, 10, process)
        eventually(lambda: len(list(work.glob("fox*.png"))) >= 3, "some pictures")
        process.kill()
        process.wait()
    gate.release.set()
    again = run_process("batch", "list.jsonl")
    assert again.code == 0, again.err
    assert len(gate.jobs) == 10
    assert len(list(work.glob("*.png"))) == 10
    assert not [path for path in work.iterdir() if path.name.startswith(".")]
    assert run_process("batch", "list.jsonl", "--check", "--deep").code == 0


def test_a_second_run_says_so_and_stops(gate: Gate, listing: Listing) -> None:
    listing("fox [slow]")
    with started("list.jsonl") as process:
        submitted(gate, 1, process)
        second = run_process("batch", "list.jsonl", "--json")
        assert second.code == 1
        assert second.error["type"] == "already_running"
        assert run_process("batch", "list.jsonl", "--shard", "1/2").code == 1
        assert run_process("batch", "list.jsonl", "--check").code == 1
        gate.release.set()
        assert ended(process).code == 0
    assert len(gate.jobs) == 1
    assert run_process("batch", "list.jsonl").code == 0


def test_shares_run_side_by_side_and_keep_the_whole_out(gate: Gate, listing: Listing, work: Path) -> None:
    listing(*(f"fox{n} [slow]" for n in range(4)))
    with started("list.jsonl", "--shard", "1/2") as one, started("list.jsonl", "--shard", "2/2") as two:
        submitted(gate, 4, one, two)
        assert run_process("batch", "list.jsonl").code == 1
        assert run_process("batch", "list.jsonl", "--shard", "1/2").code == 1
        gate.release.set()
        assert ended(one).code == 0
        assert ended(two).code == 0
    assert run_process("batch", "list.jsonl").code == 0
    assert len(gate.jobs) == 4
    assert {path.name for path in work.iterdir() if path.suffix != ".png"} == {
        "list.jsonl",
        "list.1-of-2.lock.json",
        "list.2-of-2.lock.json",
    }


def test_a_closed_stdout_does_not_stop_the_run(gate: Gate, listing: Listing, work: Path) -> None:
    listing(*(f"fox{n}" for n in range(6)))
    line = f"{' '.join(command('batch', 'list.jsonl', '--jobs', '2'))} | head -1"
    subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=60)
    eventually(lambda: len(list(work.glob("*.png"))) == 6, "all six")
