"""The parts of the engine by themselves: due steps, gate, turns, learning, money, the run's lock, reports."""

from __future__ import annotations

import sqlite3
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from batchgate import Gate as Server
from hypothesis import given
from hypothesis import strategies as st
from running import Ended

from chroma_cli.clock import SystemClock
from chroma_cli.errors import ChromaError, OutputError, UsageError
from chroma_cli.jobs.budget import Costs
from chroma_cli.jobs.pacing import Gate, Turns
from chroma_cli.jobs.runlock import AlreadyRunning, RunLock
from chroma_cli.jobs.steps import Steps
from chroma_cli.jobs.summary import OUTCOMES, Line, Report, junit, markdown
from chroma_cli.jobs.together import Wish, Wishes, fulfil
from chroma_cli.request.builder import ImageRequest, Level, build

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]


class FakeClock(SystemClock):
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def request(**given: object) -> ImageRequest:
    return build([Level({"prompt": "fox", **given})], {}, draw_seed=lambda: 1).request


# --- steps -----------------------------------------------------------------------------------------------


def test_steps_are_taken_in_the_order_in_which_they_come_due() -> None:
    taken: list[int] = []
    done = threading.Event()
    steps = Steps(SystemClock(), 1, "test", lambda bug: None)
    for number, wait in ((3, 0.15), (1, 0.05), (2, 0.1)):
        steps.add(wait, lambda number=number: taken.append(number))  # type: ignore[misc]
    steps.add(0.2, done.set)
    steps.add(0.0, lambda: taken.append(0))
    assert done.wait(10)
    steps.close()
    assert taken == [0, 1, 2, 3]


def test_steps_run_side_by_side_up_to_the_number_of_threads() -> None:
    steps = Steps(SystemClock(), 4, "test", lambda bug: None)
    barrier = threading.Barrier(5)
    for _ in range(4):
        steps.add(0.0, lambda: barrier.wait(10) and None)
    barrier.wait(10)
    steps.close()


def test_a_thousand_steps_from_many_threads() -> None:
    steps = Steps(SystemClock(), 8, "test", lambda bug: None)
    left = threading.Semaphore(0)

    def add() -> None:
        for number in range(125):
            steps.add((number % 7) / 200, left.release)

    for _ in range(8):
        threading.Thread(target=add).start()
    assert all(left.acquire(timeout=10) for _ in range(1000))
    steps.close()


def test_a_step_that_fails_is_told_and_ends_nothing() -> None:
    told: list[BaseException] = []
    done = threading.Event()
    steps = Steps(SystemClock(), 1, "test", told.append)

    def fail() -> None:
        raise ValueError("x")

    steps.add(0.0, fail)
    steps.add(0.0, done.set)
    assert done.wait(10)
    steps.close()
    steps.add(0.0, fail)
    assert [str(bug) for bug in told] == ["x"]


# --- pacing ----------------------------------------------------------------------------------------------


def test_the_gate_waits_as_long_as_it_is_told() -> None:
    clock = FakeClock()
    gate = Gate(clock)
    assert gate.wait == 0
    gate.throttled(5.0)
    gate.throttled(2.0)
    assert gate.wait == pytest.approx(5.0)
    gate.throttled(1e9)
    assert gate.wait <= 3600.0


def test_untold_pauses_grow_until_a_call_comes_through() -> None:
    clock = FakeClock()
    gate = Gate(clock, jitter=lambda: 1.0)
    waits = []
    for _ in range(9):
        gate.throttled(None)
        gate.throttled(None)  # another call of the same burst
        waits.append(gate.wait)
        clock.now += gate.wait
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    gate.answered()
    gate.throttled(None)
    assert gate.wait == 1


def test_turns_are_spaced_evenly() -> None:
    clock = FakeClock()
    turns = Turns(60.0, clock)
    times = []
    for _ in range(5):
        while wait := turns.take():
            clock.now += wait
        times.append(clock.now)
    assert times == [1000, 1001, 1002, 1003, 1004]
    clock.now += 100  # what was not used is not caught up with
    assert turns.take() == 0
    assert turns.take() == pytest.approx(1.0)
    assert Turns(None, clock).take() == 0


def test_costs_are_the_documented_or_the_learnt_ones() -> None:
    assert Costs(lambda _request: None).expected(request()) == pytest.approx(0.055)
    assert Costs(lambda _request: 0.01).expected(request()) == pytest.approx(0.055)
    assert Costs(lambda _request: 0.2).expected(request()) == pytest.approx(0.2)


# --- 429 -------------------------------------------------------------------------------------------------


def test_a_429_slows_down_everything(chroma: Chroma, gate: Server, listing: Listing) -> None:
    gate.reset_ahead = 1.0
    listing(*(f"fox{n}" for n in range(30)))
    gate.latency = 0.4
    opener = threading.Timer(0.5, lambda: setattr(gate, "closed", False))

    def close() -> None:
        while len(gate.jobs) < 5:
            time.sleep(0.005)
        gate.closed = True
        opener.start()

    closer = threading.Thread(target=close)
    closer.start()
    ended = chroma("batch", "list.jsonl", "--jobs", "20")
    closer.join()
    opener.join()
    assert ended.code == 0, ended.err
    assert len(gate.jobs) == 30
    refused = [at for at, _, status in gate.calls if status == 429]
    assert refused
    # those that were out already, and then silence until the reset
    assert len(refused) <= 20
    later = [at for at, _, _ in gate.calls if at > refused[-1]]
    assert later[0] - refused[0] >= 0.9


# --- writes together -------------------------------------------------------------------------------------


def test_each_write_of_a_transaction_fails_by_itself() -> None:
    with sqlite3.connect(":memory:", isolation_level=None) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("BEGIN")

        def good(db: sqlite3.Connection) -> str:
            db.execute("INSERT INTO t VALUES (1)")
            return "good"

        def bad(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO t VALUES (2)")
            raise UsageError("bad")

        outcomes = fulfil(db, [Wish(good), Wish(bad), Wish(good)])
        assert [failed for _, failed in outcomes] == [False, True, False]
        db.execute("COMMIT")
        assert db.execute("SELECT x FROM t").fetchall() == [(1,), (1,)]
    db.close()


def test_what_is_wrong_with_the_database_comes_out_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "small.sqlite3", isolation_level=None) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("PRAGMA max_page_count = 20")
        db.execute("PRAGMA cache_size = 5")

        def bad(db: sqlite3.Connection) -> None:
            raise UsageError("bad")

        def large(db: sqlite3.Connection) -> None:
            for _ in range(200):
                db.execute("INSERT INTO t VALUES (?)", ("x" * 4000,))

        db.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError) as caught:
            fulfil(db, [Wish(bad), Wish(large)])
        assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    db.close()


def test_the_lead_is_handed_on() -> None:
    wishes = Wishes()
    first, second, third = (Wish(lambda _db: None) for _ in range(3))
    for one in (first, second, third):
        wishes.add(one)
    assert (first.leads, second.leads) == (True, False)
    assert wishes.with_others(first) == [first, second, third]
    wishes.give_back([second, third])
    wishes.remove(second)
    wishes.remove(first)
    assert third.leads
    wishes.remove(third)
    wishes.add(late := Wish(lambda _db: None))
    assert late.leads


# --- the lock of a run -----------------------------------------------------------------------------------


def test_one_run_at_a_time(tmp_path: Path) -> None:
    manifest = tmp_path / "a.toml"
    with RunLock(manifest):
        with pytest.raises(AlreadyRunning, match="process"), RunLock(manifest):
            pass
        with pytest.raises(AlreadyRunning), RunLock(manifest, (1, 2)):
            pass
        with RunLock(tmp_path / "b.toml"):
            pass
    with RunLock(manifest, (1, 2)), RunLock(manifest, (2, 2)):
        with pytest.raises(AlreadyRunning), RunLock(manifest):
            pass
        with pytest.raises(AlreadyRunning), RunLock(manifest, (1, 2)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_lock_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError), RunLock(tmp_path / "gone" / "a.toml"):
        pass


def test_a_run_lock_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".a.toml.running").symlink_to(precious)
    with pytest.raises(ChromaError), RunLock(tmp_path / "a.toml"):
        pass
    assert precious.read_text() == "mine"


# --- reports ---------------------------------------------------------------------------------------------

TEXT = st.text(max_size=30)
LINES = st.builds(
    Line,
    TEXT,
    st.sampled_from(OUTCOMES),
    st.floats(0, 10),
    st.none() | st.floats(0, 100),
    st.lists(TEXT, max_size=2).map(tuple),
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
)


@given(st.lists(LINES, max_size=5), TEXT)
def test_reports_survive_any_text(lines: list[Line], title: str) -> None:
    report = Report(title, tuple(lines), 1.0, title)
    root = ElementTree.fromstring(junit(report).encode("utf-8", "strict"))
    assert len(root[0]) == len(lines)
    failed = sum(line.outcome in ("failed", "unknown", "unfinished") for line in lines)
    assert len(root.findall(".//failure")) == failed == int(root.get("failures") or 0)
    rows = [line for line in markdown(report, "$1").split("\n") if line.startswith("| ")]
    widths = {row.count("|") for row in rows}
    assert widths <= {4, 5}


def test_a_long_report_is_cut() -> None:
    lines = tuple(Line(f"{n}.png", "made") for n in range(2000))
    page = markdown(Report("x", lines, 1.0), "$1")
    assert "and 1500 more" in page
    assert page.count("\n") < 600
