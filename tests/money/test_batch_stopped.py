"""Batches that are stopped: Ctrl-C once and twice, SIGTERM, kill -9, a second run; and then going on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from kit import Started, eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

FOXES = [f"fox{n}" for n in range(10)]


@pytest.fixture
def running(gateway, process) -> Iterator[Callable[..., Started]]:
    """Start a batch, and wait until so many jobs were asked about: their ids are in the ledger then."""
    gateway.plan(polls=10**6)

    def start(*argv: str, jobs: int) -> Started:
        started = process.start("batch", *argv)
        eventually(lambda: asked(gateway) >= jobs or not started.running, f"{jobs} jobs in flight")
        assert started.running, started.end().said
        return started

    yield start


def asked(gateway) -> int:
    return sum(job.polls > 0 for job in gateway.jobs())


def let_them_end(gateway) -> None:
    gateway.plan(polls=0)
    gateway.finish()


def test_ctrl_c_once_finishes_what_is_in_flight(gateway, chroma, running, listing):
    listing(*FOXES)
    started = running("list.jsonl", "--jobs", "3", jobs=3)
    started.interrupt()
    started.wait_for("Stopping")
    let_them_end(gateway)
    ended = started.end()
    assert ended.code == 130
    assert len(ended.lines) == len(gateway.jobs()) == 3
    assert "7 of 10 images were not begun" in ended.err
    assert "Money was spent." in ended.err
    assert chroma("batch", "list.jsonl", "--check").code == 1
    again = chroma("batch", "list.jsonl")
    assert again.code == 0, again.said
    assert sorted(job.prompt for job in gateway.jobs()) == FOXES


@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 143)],
    ids=["INT", "TERM"],
)
def test_leaving_at_once_loses_nothing(gateway, chroma, running, listing, signals, code):
    listing(*FOXES)
    started = running("list.jsonl", "--jobs", "4", jobs=4)
    for number in signals:
        started.signal(number)
        if len(signals) > 1:
            started.wait_for("Stopping")
    ended = started.end()
    assert ended.code == code, ended.said
    assert "again" in ended.err
    let_them_end(gateway)
    again = chroma("batch", "list.jsonl")
    assert again.code == 0, again.said
    assert sorted(job.prompt for job in gateway.jobs()) == FOXES


def test_a_killed_run_is_taken_up_where_it_stopped(gateway, chroma, running, listing, work):
    for name in FOXES[:5]:
        gateway.plan(polls=1, prompt=name)
    listing(*FOXES)
    started = running("list.jsonl", "--jobs", "10", jobs=10)
    eventually(lambda: len(list(work.glob("fox*.png"))) >= 3, "some pictures")
    started.kill()
    let_them_end(gateway)
    again = chroma("batch", "list.jsonl")
    assert again.code == 0, again.said
    assert sorted(job.prompt for job in gateway.jobs()) == FOXES
    assert sorted(path.stem for path in work.glob("*.png")) == FOXES
    assert not [path for path in work.iterdir() if path.name.startswith(".")]
    assert chroma("batch", "list.jsonl", "--check", "--deep").code == 0


def test_a_second_run_says_so_and_stops(gateway, chroma, running, listing, work):
    listing("fox")
    started = running("list.jsonl", jobs=1)
    second = chroma("batch", "list.jsonl", "--json")
    assert (second.code, second.error["type"]) == (1, "already_running")
    assert f"process {started.pid}" in second.error["message"]
    assert chroma("batch", "list.jsonl", "--shard", "1/2").code == 1
    assert chroma("batch", "list.jsonl", "--check").code == 1
    listing("owl", name="other.jsonl")
    gateway.plan(polls=0)
    assert chroma("batch", "other.jsonl").code == 0
    let_them_end(gateway)
    assert started.end().code == 0
    assert gateway.posts("fox") == 1
    assert chroma("batch", "list.jsonl").code == 0
    assert not list(work.glob(".*"))


def test_shares_run_side_by_side_and_keep_the_whole_out(gateway, chroma, running, listing, work):
    listing(*FOXES[:4])
    one = running("list.jsonl", "--shard", "1/2", jobs=2)
    two = running("list.jsonl", "--shard", "2/2", jobs=4)
    assert chroma("batch", "list.jsonl").code == 1
    assert chroma("batch", "list.jsonl", "--shard", "1/2").code == 1
    let_them_end(gateway)
    assert one.end().code == 0
    assert two.end().code == 0
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gateway.jobs()) == 4
    assert {path.name for path in work.iterdir() if path.suffix != ".png"} == {
        "list.jsonl",
        "list.1-of-2.lock.json",
        "list.2-of-2.lock.json",
    }


def test_a_closed_stdout_does_not_stop_the_run(gateway, process, listing, work):
    listing(*FOXES[:6])
    command = ["/bin/sh", "-c", '"$@" | head -1', "sh", *process.command()]
    process.start("batch", "list.jsonl", "--jobs", "2", command=command).end()
    assert sorted(path.stem for path in work.glob("*.png")) == FOXES[:6]
