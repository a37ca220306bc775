"""The steps of a job in the ledger, claims, money, promises, and what is asked of it."""

from __future__ import annotations

import re
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.errors import Charged, LimitError
from chroma_cli.jobs import records
from chroma_cli.jobs.budget import Limit
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.owner import Owner
from chroma_cli.jobs.records import Intent, NotResubmittable, PlacePromised, Timings

HERE = "https://api.example"
THERE = "http://127.0.0.1:1"
NOON = 1_767_960_000.0  # 2026-01-09T12:00Z
DAY = 86400.0

ME = Owner.current()
GONE = replace(ME, started="never")
REMOTE = Owner("elsewhere", "b", 1, "s")


class FakeClock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now
        self.running = 0.0

    def monotonic(self) -> float:
        return self.running

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.running += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


@pytest.fixture
def ledger(path: Path, clock: FakeClock):
    with Ledger.open(path, clock=clock) as opened:
        yield opened


def as_owner(path: Path, clock: FakeClock, owner: Owner) -> Ledger:
    return Ledger.open(path, clock=clock, owner=owner)


def intent(**changes: Any) -> Intent:
    base = Intent(HERE, {"prompt": "a knight"}, 0.055, seed=7, steps=40, pixels=1024 * 1024, samples=1)
    return replace(base, **changes)


def done(ledger: Ledger, seconds: float = 50.0, cost: float | None = 0.05, **changes: Any) -> int:
    """A whole life; the number of the job."""
    row = ledger.begin(intent(**changes))
    ledger.submitted(row.number, f"id-{row.number}")
    ledger.completed(row.number, sources=["https://i/1.png"], cost=cost, timings=Timings(total=seconds))
    ledger.saved_file(row.number, 0, {"path": "/x.png", "sha256": "00"})
    return ledger.saved(row.number).number


# --- a job's life ----------------------------------------------------------------------------------------


def test_a_whole_life(ledger: Ledger, clock: FakeClock) -> None:
    body = {"prompt": "näive \ud800 \u0000", "cfg": 7.5, "base64": False}
    begun = ledger.begin(
        intent(request=body, destination={"kind": "file"}, promised=("/a/\udcff.png",), seed=2**63 - 1)
    )
    assert (begun.number, begun.state, begun.status) == (1, "submitting", "SUBMITTING")
    assert begun.owner == ME
    assert begun.request == body
    assert begun.destination == {"kind": "file"}
    assert begun.promised == ("/a/\udcff.png",)
    assert begun.seed == 2**63 - 1
    assert begun.created_at == NOON
    assert len(begun.token) >= 16
    assert begun.request_id is None
    assert begun.expires_at is None

    clock.now += 1
    queued = ledger.submitted(1, "id-1", remaining_credits=9.9)
    assert (queued.state, queued.request_id, queued.submitted_at) == ("queued", "id-1", NOON + 1)
    assert queued.expires_at == NOON + 3601
    assert queued.remaining_credits == 9.9
    assert ledger.progress(1, "processing").state == "processing"

    clock.now += 60
    finished = ledger.completed(
        1, sources=["https://i/1.png"], seed=8, cost=0.06, timings=Timings(0.5, 50.0, 50.5)
    )
    assert finished.sources == ("https://i/1.png",)
    assert (finished.seed, finished.cost, finished.charged) == (8, 0.06, Charged.YES)
    assert finished.timings == Timings(0.5, 50.0, 50.5)
    assert not finished.settled

    ledger.saved_file(1, 0, {"path": "/a/x.png"})
    saved = ledger.saved(1)
    assert (saved.state, saved.status, saved.settled) == ("saved", "COMPLETED", True)
    assert saved.files == {0: {"path": "/a/x.png"}}
    assert saved.owner is None
    assert saved.saved_at == NOON + 61
    assert ledger.get("id-1", HERE) == ledger.get(1) == ledger.get("1", HERE) == saved


def test_what_is_not_known_stays_unknown(ledger: Ledger) -> None:
    row = ledger.begin(intent(seed=2**70, expected_cost=float("nan")))
    assert row.seed is None
    assert row.expected_cost == 0.055  # never 0 for want of knowing
    ledger.submitted(row.number, "i", remaining_credits=float("inf"))
    row = ledger.completed(row.number, cost=float("nan"), seed=10**30, timings=Timings(None, -1.0, 10**400))
    assert (row.cost, row.seed, row.remaining_credits) == (None, None, None)
    assert ledger.last_credits(HERE) is None
    assert ledger.learnt(HERE, 40, 1024 * 1024, 1) == []


def test_a_second_look_does_not_forget(ledger: Ledger) -> None:
    row = ledger.begin(intent())
    ledger.completed(row.number, sources=["https://i/1"], cost=0.05, seed=3, timings=Timings(total=5.0))
    again = ledger.completed(row.number)
    assert (again.sources, again.cost, again.seed) == (("https://i/1",), 0.05, 3)


def test_a_partly_saved_set(ledger: Ledger) -> None:
    row = ledger.begin(intent(samples=3))
    ledger.submitted(row.number, "i")
    ledger.completed(row.number, sources=["a", "b", "c"])
    ledger.saved_file(row.number, 2, {"path": "/2"})
    row = ledger.saved_file(row.number, 0, {"path": "/0"})
    assert list(row.files.items()) == [(0, {"path": "/0"}), (2, {"path": "/2"})]
    assert row.state == "completed"
    assert [job.number for job in ledger.pending(HERE)] == [row.number]


def test_late_steps_find_the_door_closed(ledger: Ledger) -> None:
    number = done(ledger)
    saved = ledger.get(number)
    for step in (
        lambda: ledger.failed(number, {"message": "late"}),
        lambda: ledger.expired(number),
        lambda: ledger.unknown(number),
        lambda: ledger.unsent(number),
        lambda: ledger.progress(number, "queued"),
        lambda: ledger.submitted(number, "other"),
        lambda: ledger.completed(number, cost=9.0),
        lambda: ledger.settle_forgotten(number),
        lambda: ledger.note_error(number, {"message": "late"}),
    ):
        assert step() == saved
    assert ledger.get(number) == saved


def test_failed_is_free_and_settled(ledger: Ledger) -> None:
    row = ledger.begin(intent(promised=("/p",)))
    ledger.submitted(row.number, "i")
    row = ledger.failed(row.number, {"message": "blocked"})
    assert (row.state, row.charged, row.error) == ("failed", Charged.NO, {"message": "blocked"})
    assert ledger.promised() == frozenset()
    assert ledger.recent(5, "failed") == [row]


def test_a_late_owner_writes_its_id_over_unknown_but_not_over_expired(path: Path, clock: FakeClock) -> None:
    with as_owner(path, clock, GONE) as late, Ledger.open(path, clock=clock) as ledger:
        one, two = late.begin(intent(promised=("/p",))), late.begin(intent())
        swept = ledger.sweep()
        assert [(row.number, row.state, row.charged) for row in swept] == [
            (one.number, "unknown", Charged.UNKNOWN),
            (two.number, "unknown", Charged.UNKNOWN),
        ]
        ledger.expired(two.number)
        ledger.settle_forgotten(one.number)
        assert ledger.promised() == frozenset()
        revived = late.submitted(one.number, "late-id")
        assert (revived.state, revived.request_id, revived.error, revived.owner) == (
            "queued",
            "late-id",
            None,
            GONE,
        )
        assert ledger.promised() == {"/p"}
        assert late.submitted(two.number, "late-id-2").state == "expired"


def test_an_expired_job_that_turns_up_again_is_pending_again(ledger: Ledger) -> None:
    row = ledger.begin(intent(promised=("/p",)))
    ledger.submitted(row.number, "i")
    ledger.expired(row.number, {"message": "404"})
    assert ledger.promised() == frozenset()
    assert ledger.completed(row.number, sources=["https://i/1"]).error is None
    assert ledger.promised() == {"/p"}


def test_numbers_are_never_used_twice(ledger: Ledger, clock: FakeClock) -> None:
    first = done(ledger)
    clock.now += 60 * DAY
    assert ledger.prune(1) == 1
    assert ledger.begin(intent()).number > first


def test_one_id_given_out_twice_loses_no_row(ledger: Ledger) -> None:
    rows = [ledger.begin(intent()) for _ in range(2)]
    for row in rows:
        ledger.submitted(row.number, "same")
    assert len(ledger.pending(HERE)) == 2
    found = ledger.get("same", HERE)
    assert found is not None
    assert found.number == rows[1].number


def test_interrupted_right_after_the_commit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ledger._write

    def interrupted(work: Any) -> Any:
        monkeypatch.setattr(ledger, "_write", write)
        write(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.begin(intent(promised=("/p",)))
    (row,) = ledger.recent(5)
    assert (row.state, row.charged) == ("failed", Charged.NO)
    assert ledger.promised() == frozenset()


# --- ids and places --------------------------------------------------------------------------------------


def test_ids_numbers_and_gateways(ledger: Ledger) -> None:
    one = ledger.begin(intent())
    ledger.submitted(one.number, "2")  # an id that looks like a number wins over the number
    two = ledger.begin(intent(base_url=THERE))
    ledger.submitted(two.number, "abc")
    found = ledger.get("2", HERE)
    assert found is not None
    assert found.number == one.number
    assert ledger.get("abc", HERE) is None
    by_number = ledger.get(two.number, HERE)
    assert by_number is not None
    assert by_number.base_url == THERE
    assert [ledger.get(ident, HERE) for ident in ("9" * 30, "-1", "", "²", 0, 2**80)] == [None] * 6
    assert [row.number for row in ledger.pending(HERE)] == [one.number]
    assert [row.number for row in ledger.elsewhere(HERE)] == [two.number]
    assert [row.number for row in ledger.recent(9)] == [two.number, one.number]
    assert [row.number for row in ledger.recent(9, base_url=THERE)] == [two.number]
    assert [row.number for row in ledger.recent(1, "pending")] == [two.number]
    assert [row.number for row in ledger.recent(9, "pending", HERE)] == [one.number]
    assert ledger.recent(0) == ledger.recent(-5) == []


def test_adopted_once(ledger: Ledger) -> None:
    row = ledger.adopt("foreign", HERE, destination={"k": 1}, promised=("/p",))
    assert (row.state, row.request, row.samples, row.submitted_at, row.owner) == (
        "queued",
        None,
        None,
        None,
        None,
    )
    assert row.charged is Charged.UNKNOWN
    assert ledger.promised() == {"/p"}
    assert ledger.adopt("foreign", HERE).number == row.number
    assert ledger.adopt("foreign", THERE).number != row.number
    assert ledger.claim(row.number)


def test_a_promised_place_is_not_free(ledger: Ledger) -> None:
    first = ledger.begin(intent(promised=("/a", "/b")))
    assert ledger.promised() == {"/a", "/b"}
    assert ledger.promised(besides=first.number) == frozenset()
    with pytest.raises(PlacePromised) as caught:
        ledger.begin(intent(promised=("/b", "/c")))
    assert (caught.value.paths, caught.value.promised_to) == ({"/b"}, first.number)
    assert int(caught.value.exit_code) == 10
    assert len(ledger.recent(9)) == 1
    second = ledger.begin(intent(promised=("/b",)), exclusive=False)
    ledger.unsent(first.number)
    assert ledger.promised() == {"/b"}
    with pytest.raises(PlacePromised):
        ledger.plan_again(ledger.begin(intent()).number, None, ["/b"])
    assert ledger.plan_again(second.number, {"k": 2}, ["/c"]).destination == {"k": 2}
    assert ledger.promised() == {"/c"}
    ledger.unsent(second.number)
    assert ledger.plan_again(second.number, None, ["/d"]).promised == ("/c",)
    assert ledger.promised() == frozenset()


# --- claims ----------------------------------------------------------------------------------------------


def test_claims_hold_while_the_owner_lives(path: Path, clock: FakeClock) -> None:
    other = replace(ME, pid=1, started="")  # the first process always runs
    with as_owner(path, clock, other) as theirs, Ledger.open(path, clock=clock) as ours:
        row = theirs.begin(intent())
        theirs.submitted(row.number, "i")
        assert not ours.claim(row.number)
        assert ours.in_work(ours.pending(HERE)[0])
        ours.release(row.number)
        ours.heartbeat(row.number)
        assert not ours.claim(row.number)
        assert ours.sweep() == []
        theirs.release(row.number)
        assert ours.claim(row.number)
        assert ours.claim(row.number)
        assert not ours.in_work(ours.pending(HERE)[0])


def test_a_saved_job_can_be_claimed_for_another_download(
    ledger: Ledger, path: Path, clock: FakeClock
) -> None:
    number = done(ledger)
    assert ledger.claim(number)
    with as_owner(path, clock, replace(ME, pid=1, started="")) as other:
        assert not other.claim(number)
        ledger.release(number)
        assert other.claim(number)


def test_a_claim_of_a_process_that_is_gone_is_void(path: Path, clock: FakeClock, ledger: Ledger) -> None:
    with as_owner(path, clock, GONE) as theirs:
        number = theirs.begin(intent()).number
        theirs.submitted(number, "i")
    assert ledger.sweep() == []  # it has an id: nothing is unknown about it
    assert ledger.claim(number)


@pytest.mark.parametrize("jump", [0.0, -3 * 3600.0])
def test_a_claim_from_another_host_ends_after_15_minutes_of_silence(
    path: Path, clock: FakeClock, ledger: Ledger, jump: float
) -> None:
    with as_owner(path, clock, REMOTE) as theirs:
        number = theirs.begin(intent()).number
        clock.now += 14 * 60
        assert not ledger.claim(number)
        assert ledger.sweep() == []
        theirs.heartbeat(number)
        clock.now += 14 * 60
        assert ledger.sweep() == []
        clock.now += 2 * 60 + jump
        assert [row.state for row in ledger.sweep()] == ["unknown"]
        assert ledger.sweep() == []
        assert ledger.claim(number)


def test_own_submits_are_not_swept(ledger: Ledger) -> None:
    row = ledger.begin(intent())
    assert ledger.sweep() == []
    ledger.release(row.number)
    assert [swept.number for swept in ledger.sweep()] == [row.number]


def test_an_answered_blocking_call_that_was_not_saved_is_reported(path: Path, clock: FakeClock) -> None:
    with as_owner(path, clock, GONE) as theirs, Ledger.open(path, clock=clock) as ledger:
        lost, kept, addressed, told = (theirs.begin(intent(mode="sync")).number for _ in range(4))
        theirs.submitted(lost, "v1-id")
        theirs.completed(lost, cost=0.05)
        theirs.completed(kept)
        theirs.saved_file(kept, 0, {"path": "/x"})
        theirs.completed(addressed, sources=["https://i/1"])
        theirs.completed(told)
        theirs.note_error(told, {"message": "left in /rescued"})
        swept = {row.number: row for row in ledger.sweep()}
        assert swept.keys() == {lost, told}
        assert (swept[lost].state, swept[lost].charged, swept[lost].cost) == ("unknown", Charged.YES, 0.05)
        assert swept[told].error == {"message": "left in /rescued"}
        assert ledger.get(kept).state == "saved"  # type: ignore[union-attr]
        assert ledger.get(addressed).state == "completed"  # type: ignore[union-attr]
        assert ledger.sweep() == []


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    numbers: list[int] = []

    def work() -> None:
        numbers.extend(done(ledger) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 41))
    assert ledger.totals().jobs == 40


# --- settling an unknown one -----------------------------------------------------------------------------


def unknown_job(ledger: Ledger, **changes: Any) -> int:
    row = ledger.begin(intent(**changes))
    return ledger.unknown(row.number, {"message": "silence"}).number


def test_resubmit_settles_the_old_and_begins_the_new(ledger: Ledger) -> None:
    old = unknown_job(ledger, promised=("/p",))
    new = ledger.resubmit(old, intent(promised=("/p",)))
    settled = ledger.get(old)
    assert settled is not None
    assert (settled.state, settled.status, settled.superseded_by) == ("forgotten", "UNKNOWN", new.number)
    assert (new.state, new.resubmit_of, new.owner) == ("submitting", old, ME)
    assert ledger.promised() == {"/p"}
    with pytest.raises(NotResubmittable, match=f"as job {new.number}"):
        ledger.resubmit(old, intent())
    assert len(ledger.recent(9)) == 2


def test_resubmit_is_all_or_nothing(ledger: Ledger) -> None:
    old = unknown_job(ledger, promised=("/p",))
    before = ledger.get(old)
    other = ledger.begin(intent(request={"prompt": "an owl"}, promised=("/q",)))
    with pytest.raises(LimitError):
        ledger.resubmit(old, intent(), limits=[Limit("day", 0.1)])
    with pytest.raises(PlacePromised):
        ledger.resubmit(old, intent(promised=("/q",)))
    assert ledger.get(old) == before
    assert [row.number for row in ledger.recent(9)] == [other.number, old]
    assert ledger.promised() == {"/p", "/q"}


def test_a_job_that_has_its_id_by_now_is_not_sent_again(ledger: Ledger) -> None:
    old = unknown_job(ledger)
    ledger.submitted(old, "late")
    with pytest.raises(NotResubmittable, match="pay twice") as caught:
        ledger.resubmit(old, intent())
    assert f"chroma fetch {old}" in (caught.value.hint or "")
    assert len(ledger.recent(9)) == 1


def test_a_job_in_work_elsewhere_is_not_sent_again(path: Path, clock: FakeClock, ledger: Ledger) -> None:
    old = unknown_job(ledger)
    with as_owner(path, clock, replace(ME, pid=1, started="")) as other:
        assert other.claim(old)
        with pytest.raises(NotResubmittable, match="worked on"):
            ledger.resubmit(old, intent())


def test_a_failed_job_may_be_sent_again_and_stays_failed(ledger: Ledger) -> None:
    old = ledger.begin(intent()).number
    ledger.failed(old, {"message": "no"})
    new = ledger.resubmit(old, intent())
    row = ledger.get(old)
    assert row is not None
    assert (row.state, row.superseded_by) == ("failed", new.number)


def test_forgotten(ledger: Ledger) -> None:
    old = unknown_job(ledger, promised=("/p",))
    assert ledger.settle_forgotten(old).settled
    assert ledger.pending(HERE) == []
    assert ledger.promised() == frozenset()


def test_a_number_of_another_ledger_is_refused(ledger: Ledger) -> None:
    with pytest.raises(records.LedgerUnusable, match="job 99"):
        ledger.saved(99)
    with pytest.raises(records.LedgerUnusable):
        ledger.claim(99)


# --- money -----------------------------------------------------------------------------------------------


def test_what_such_jobs_cost_is_reserved_when_it_is_more_than_the_documented_price(ledger: Ledger) -> None:
    day = Limit("day", 1.0)
    assert ledger.highest_cost(HERE, 40, 1024 * 1024, 1) is None
    for cost in (0.2, 0.4, None):
        done(ledger, cost=cost)
    done(ledger, cost=9.0, steps=41)
    assert ledger.highest_cost(HERE, 40, 1024 * 1024, 1) == pytest.approx(0.4)
    assert ledger.begin(intent()).expected_cost == pytest.approx(0.4)
    assert ledger.begin(intent(expected_cost=0.5)).expected_cost == 0.5
    assert ledger.begin(intent(base_url="https://elsewhere")).expected_cost == 0.055
    with pytest.raises(LimitError, match=r"about \$0.400"):
        ledger.begin(intent(), limits=[day])


def test_saved_jobs_are_found_by_their_request(ledger: Ledger) -> None:
    number = done(ledger, request={"prompt": "a knight", "seed": 7})
    done(ledger, request={"prompt": "a knight", "seed": 7}, base_url="https://elsewhere")
    ledger.begin(intent(request={"prompt": "a knight", "seed": 7}))
    same, other = ({"seed": seed, "prompt": "a knight"} for seed in (7, 8))
    assert [row.number for row in ledger.saved_from(HERE, records.request_digest(same))] == [number]
    assert ledger.saved_from(HERE, records.request_digest(other)) == []


def test_limits_count_reservations_unknown_costs_and_real_ones(ledger: Ledger, clock: FakeClock) -> None:
    day = Limit("day", 1.0)
    clock.now = NOON - DAY
    done(ledger, cost=50.0, steps=75)  # yesterday
    clock.now = NOON
    done(ledger, cost=0.4, steps=74)
    done(ledger, cost=None, expected_cost=0.1)
    unknown_job(ledger, expected_cost=0.1, request={"prompt": "an owl"})
    ledger.begin(intent(expected_cost=0.1))
    failed = ledger.begin(intent(expected_cost=0.5)).number
    ledger.failed(failed, {})
    ledger.begin(intent(expected_cost=0.3), limits=[day])
    with pytest.raises(LimitError, match="day limit") as caught:
        ledger.begin(intent(expected_cost=0.01), limits=[day])
    assert int(caught.value.exit_code) == 4
    assert len(ledger.recent(99)) == 7
    # A clock that was set back does not give the money back.
    clock.now = NOON - 1800
    with pytest.raises(LimitError):
        ledger.begin(intent(expected_cost=0.01), limits=[day])


def test_totals_follow_costs(ledger: Ledger, clock: FakeClock) -> None:
    assert ledger.totals() == records.Totals(0, 0.0)
    done(ledger, cost=0.1)
    done(ledger, cost=0.2, base_url=THERE)
    number = done(ledger, cost=None)
    assert ledger.totals() == records.Totals(3, 0.3)
    assert ledger.totals(THERE) == records.Totals(1, 0.2)
    clock.now += 40 * DAY
    pending = ledger.begin(intent()).number
    assert ledger.prune(1) == 3
    assert ledger.totals() == records.Totals(1, 0.0)
    ledger.completed(pending, cost=0.05)
    ledger.completed(pending, cost=0.07)
    assert ledger.totals() == records.Totals(1, 0.07)
    assert number < pending


def test_credits_are_remembered_with_their_time(ledger: Ledger, clock: FakeClock) -> None:
    assert ledger.last_credits(HERE) is None
    ledger.note_credits(9.5, HERE)
    clock.now += 5
    row = ledger.begin(intent())
    ledger.submitted(row.number, "i")
    assert ledger.last_credits(HERE) == records.SeenCredits(9.5, NOON)
    ledger.completed(row.number, remaining_credits=0.0)
    assert ledger.last_credits(HERE) == records.SeenCredits(0.0, NOON + 5)
    assert ledger.last_credits(THERE) is None


# --- learning, pruning, clocks ---------------------------------------------------------------------------


def test_learnt_durations(ledger: Ledger) -> None:
    pixels = 1024 * 1024
    assert ledger.learnt(HERE, 40, pixels, 1) == []
    for seconds in (50.0, 52.0):
        done(ledger, seconds)
    done(ledger, 99.0, base_url=THERE)
    assert ledger.learnt(HERE, 40, pixels, 1) == [52.0, 50.0]
    assert ledger.learnt(HERE, 20, pixels, 2) == [52.0, 50.0]
    assert ledger.learnt(HERE, 20, pixels, 1) == [26.0, 25.0]
    assert ledger.learnt(HERE, 40, pixels, 4) == [208.0, 200.0]
    done(ledger, 300.0, samples=3)
    assert ledger.learnt(HERE, 40, pixels, 4) == [400.0]  # 3 is nearer to 4 than 1 is
    assert ledger.learnt(HERE, 41, pixels, 1) == pytest.approx([52.0 * 41 / 40, 50.0 * 41 / 40])
    assert ledger.learnt(HERE, 0, 0, 0) == ledger.learnt(HERE, 2**40, 2**40, 1) == []
    for _ in range(60):
        done(ledger, 10.0)
    assert ledger.learnt(HERE, 40, pixels, 1) == [10.0] * 50


def test_the_time_seen_here_stands_in_for_a_gateway_that_reports_none(ledger: Ledger) -> None:
    one, two = ledger.begin(intent()).number, ledger.begin(intent()).number
    ledger.completed(one, observed=4.0)
    ledger.completed(two, observed=9.0, timings=Timings(queue=1.0, inference=5.0))
    assert ledger.learnt(HERE, 40, 1024 * 1024, 1) == [6.0, 4.0]


def test_prune_keeps_what_counts(ledger: Ledger, clock: FakeClock) -> None:
    old_pending = ledger.begin(intent()).number
    clock.now = NOON - 40 * DAY
    old = done(ledger)
    clock.now = NOON - 8.4 * DAY  # the first of the month
    this_month = done(ledger)
    late = ledger.begin(intent()).number
    clock.now = NOON + 365 * DAY  # a clock that was ahead
    future = done(ledger)
    clock.now = NOON
    assert ledger.prune(60) == 0
    assert ledger.prune(0) == 1
    assert ledger.get(old) is None
    assert {row.number for row in ledger.recent(9)} == {old_pending, this_month, late, future}
    assert ledger.prune(1e6) == 0
    clock.now = NOON + 60 * DAY
    ledger.saved(late)
    assert ledger.prune(10) == 1  # this_month; the late one was settled just now
    assert {row.number for row in ledger.recent(9)} == {old_pending, late, future}


def test_pruning_many_rows_goes_in_pieces(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    import chroma_cli.jobs.entries as entries

    monkeypatch.setattr(entries, "_PRUNED_AT_ONCE", 2)
    for _ in range(5):
        ledger.unsent(ledger.begin(intent()).number)
    clock.now += 90 * DAY
    assert ledger.prune(30) == 5
    assert ledger.prune(30) == 0


def test_a_clock_that_is_set_back_does_not_change_the_order(ledger: Ledger, clock: FakeClock) -> None:
    first = ledger.begin(intent())
    clock.now -= 10 * DAY
    second = ledger.begin(intent())
    assert [row.number for row in ledger.recent(2)] == [second.number, first.number]
    assert [row.number for row in ledger.pending(HERE)] == [first.number, second.number]
    assert first.age(clock.now) == 0.0
    assert ledger.claim(first.number)
    assert ledger.saved(first.number).saved_at == clock.now


# --- speed, as the shape of the queries ------------------------------------------------------------------


def test_no_step_walks_through_old_jobs(ledger: Ledger, path: Path) -> None:
    done(ledger)
    connection = ledger._connection
    assert connection is not None
    seen: set[str] = set()
    connection.set_trace_callback(lambda text: seen.add(text.strip()))
    done(ledger, promised=("/p",))
    row = ledger.begin(intent(), limits=[Limit("day", 99.0)])
    ledger.claim(row.number)
    ledger.heartbeat(row.number)
    ledger.release(row.number)
    ledger.sweep()
    ledger.resubmit(row.number, intent())
    ledger.adopt("foreign", HERE)
    ledger.get("foreign", HERE)
    ledger.get("foreign")
    ledger.get("1", HERE)
    ledger.pending(HERE)
    ledger.elsewhere(HERE)
    ledger.recent(20)
    ledger.recent(20, "pending")
    ledger.recent(20, "failed")
    ledger.recent(20, base_url=HERE)
    ledger.promised()
    ledger.totals()
    ledger.learnt(HERE, 40, 1024 * 1024, 1)
    ledger.learnt(HERE, 41, 1024 * 1024, 1)
    ledger.highest_cost(HERE, 40, 1024 * 1024, 1)
    ledger.begin(intent(steps=39), limits=[Limit("run", 99.0, run="r"), Limit("month", 99.0)])
    ledger.last_credits(HERE)
    connection.set_trace_callback(None)
    queries = [text for text in seen if re.match("SELECT|UPDATE|DELETE|INSERT", text)]
    assert len(queries) > 30
    reader = sqlite3.connect(path)
    allowed = ("USING INDEX jobs_unsettled", "USING INDEX jobs_failed")
    for text in queries:
        plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {text}")]
        scans = [line for line in plan if re.match("SCAN jobs", line) and not line.endswith(allowed)]
        if "ORDER BY number DESC LIMIT" in text:
            assert not [line for line in plan if "TEMP B-TREE" in line], (text, plan)
            scans = []  # from the newest on, and only so many
        assert not scans, (text, plan)
    reader.close()


# --- values ----------------------------------------------------------------------------------------------

nonsense = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from(["[", "{}", "[1]"]),
)
COLUMNS = (
    "number token request_id base_url mode state request destination promised seed samples work sources "
    "files charged cost expected_cost remaining_credits queue_time inference_time total_time seconds error "
    "created_at submitted_at completed_at saved_at updated_at owner claimed_at resubmit_of superseded_by run "
    "taken_at digest"
).split()


@given(st.fixed_dictionaries(dict.fromkeys(COLUMNS, nonsense)))
def test_rows_of_nonsense_are_no_rows(columns: dict[str, Any]) -> None:
    assert records.row_from(columns) is None or columns["state"] in records.STATES


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(COLUMNS, nonsense)))
def test_a_row_with_nonsense_in_it_can_still_be_shown(columns: dict[str, Any]) -> None:
    from chroma_cli.clock import utc_text

    row = records.row_from(
        {**columns, "number": 1, "token": "t", "base_url": HERE, "mode": "async", "state": "queued"}
    )
    assert row is not None
    assert row.status == "QUEUED"
    assert utc_text(row.created_at)
    assert all(isinstance(path, str) for path in (*row.promised, *row.sources))
    assert row.age(NOON) >= 0.0


def test_columns_are_those_of_the_table(ledger: Ledger, path: Path) -> None:
    reader = sqlite3.connect(path)
    assert [row[1] for row in reader.execute("PRAGMA table_info(jobs)")] and {
        row[1] for row in reader.execute("PRAGMA table_info(jobs)")
    } == set(COLUMNS)
    reader.close()
