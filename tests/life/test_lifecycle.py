"""The steps of a job on a clock of our own: deadlines, 404s, Ctrl-C in each phase, what was learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chroma_cli.clock import Deadline
from chroma_cli.errors import (
    BadReply,
    Charged,
    ChromaError,
    Expired,
    GenerationFailed,
    Interrupted,
    NetworkError,
    NotFinished,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    Terminated,
    TerminationRequest,
)
from chroma_cli.gateway.replies import Metrics, Status, Submitted
from chroma_cli.jobs.book import Book
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.lifecycle import Lifecycle, StateChanged, Waiting, Warned
from chroma_cli.jobs.records import JobRow
from chroma_cli.request import builder
from chroma_cli.request.builder import ImageRequest, Level

GATEWAY = "https://gateway.example"


class Clock:
    """Stands still until somebody sleeps. ``at`` calls something at a moment, in seconds since the start."""

    def __init__(self) -> None:
        self.now = 0.0
        self.jump = 0.0
        self.alarms: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now + self.jump

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)
        for alarm in list(self.alarms):
            if self.now >= alarm[0]:
                self.alarms.remove(alarm)
                alarm[1]()

    def at(self, moment: float, what: BaseException) -> None:
        def go_off() -> None:
            raise what

        self.alarms.append((moment, go_off))


@dataclass
class Pending:
    """A submit on its way: each wait, settle and abandon does what the script says."""

    wait_gives: Any
    settle_gives: Any = None
    abandon_gives: Charged = Charged.UNKNOWN
    in_flight: bool = True
    abandoned: bool = False

    def wait(self) -> Any:
        return _outcome(self.wait_gives)

    def settle(self, _seconds: float) -> Any:
        return _outcome(self.settle_gives)

    def abandon(self) -> Charged:
        self.abandoned = True
        return self.abandon_gives


def _outcome(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


def accepted(request_id: str = "a-1") -> Submitted:
    return Submitted(request_id, "QUEUED", None, None, 9.9)


def state(word: Any, error: str | None = None) -> Status:
    return Status(word, word, error, Metrics(), None)


@dataclass
class Gateway:
    """The client's side of a gateway. ``answer(seconds, deadline)`` is what a poll at that time gives."""

    clock: Clock
    pending: Pending = field(default_factory=lambda: Pending(accepted()))
    answer: Callable[[float, Deadline], Any] = lambda now, deadline: state("PROCESSING")
    polls: list[float] = field(default_factory=list)
    sent: int = 0
    results: int = 0

    def begin_submit(self, body: Any, deadline: Deadline, **more: Any) -> Pending:
        self.sent += 1
        return self.pending

    def status(self, request_id: str, deadline: Deadline, **more: Any) -> Status:
        self.polls.append(self.clock.now)
        found: Status = _outcome(self.answer(self.clock.now, deadline))
        return found

    def result(self, request_id: str, deadline: Deadline, **more: Any) -> Any:
        self.results += 1
        raise NotFound("no such request")


class NoPictures:
    """Nothing is saved here."""

    metadata = None
    resumed = False

    def prepare(self) -> None:
        """Nothing to warm up."""

    def sinks(self, job: JobRow, destination: Any) -> Any:
        """Nothing comes that would need one."""

    def drop(self, job: JobRow, destination: Any) -> list[str]:
        return []


@dataclass
class Rig:
    clock: Clock
    gateway: Gateway
    ledger: Ledger
    life: Lifecycle
    seen: list[object]
    request: ImageRequest

    def submitted(self, seconds: float = 600.0) -> tuple[JobRow, Deadline]:
        deadline = Deadline(self.clock, seconds)
        return self.life.submit(self.life.intend(self.request, None), deadline), deadline

    def ends(self, kind: type[ChromaError], seconds: float = 600.0) -> ChromaError:
        """The error that waiting for a fresh job ends with."""
        job, deadline = self.submitted(seconds)
        with pytest.raises(kind) as caught:
            self.life.wait(job, deadline)
        assert caught.value.request_id == "a-1"
        return caught.value

    @property
    def row(self) -> JobRow:
        found = self.ledger.get(1)
        assert found is not None
        return found


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    clock = Clock()
    gateway = Gateway(clock)
    seen: list[object] = []
    request = builder.build([Level({"prompt": "a red fox"})], {}, draw_seed=lambda: 7).request
    with Ledger.open(tmp_path / "jobs.sqlite3", clock=clock) as ledger:
        life = Lifecycle(
            gateway,  # type: ignore[arg-type]
            Book(ledger, clock, lambda words: seen.append(Warned(words))),
            NoPictures(),  # type: ignore[arg-type]
            clock,
            seen.append,
            GATEWAY,
            lambda ident: f"chroma fetch {ident}",
        )
        yield Rig(clock, gateway, ledger, life, seen, request)


# --- the deadline ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0, 60.0, 600.0])
def test_the_deadline_holds_to_the_second(rig: Rig, seconds: float) -> None:
    error = rig.ends(NotFinished, seconds)
    assert rig.clock.now == pytest.approx(seconds, abs=0.01)
    assert (error.exit_code, error.charged) == (7, Charged.UNKNOWN)
    assert "chroma fetch a-1" in (error.hint or "")
    assert (rig.row.state in ("queued", "processing"), rig.row.owner) == (True, None)


def test_a_wall_clock_that_jumps_changes_no_deadline(rig: Rig) -> None:
    def jumping(now: float, _: Deadline) -> Status:
        rig.clock.jump = 7200.0 if now < 50 else -7200.0
        return state("PROCESSING")

    rig.gateway.answer = jumping
    rig.ends(NotFinished, 100.0)
    assert rig.clock.now == pytest.approx(100.0, abs=0.01)
    assert 5 < len(rig.gateway.polls) < 60


def dark_from(moment: float, clock: Clock, *, early: float = 0.0) -> Callable[[float, Deadline], Any]:
    """A gateway that is gone from that moment on; the client tries until ``early`` seconds before the end."""

    def answer(now: float, deadline: Deadline) -> Any:
        if now < moment:
            return state("PROCESSING")
        clock.sleep(max(0.0, deadline.remaining - early))
        return ServerError("The gateway answered 503.")

    return answer


@pytest.mark.parametrize("early", [0.0, 3.0])
@pytest.mark.parametrize(("dark", "code"), [(170.0, 7), (155.0, 7), (120.0, 9), (60.0, 9), (0.0, 9)])
def test_seven_with_contact_in_the_last_minute_else_nine(
    rig: Rig, dark: float, code: int, early: float
) -> None:
    rig.gateway.answer = dark_from(dark, rig.clock, early=early)
    job, deadline = rig.submitted(200.0)
    with pytest.raises(ChromaError) as caught:
        rig.life.wait(job, deadline)
    assert caught.value.exit_code == code
    assert isinstance(caught.value, NotFinished if code == 7 else ServerError)
    assert "chroma fetch a-1" in (caught.value.hint or "")
    assert caught.value.charged is Charged.UNKNOWN
    assert not rig.row.settled


def test_an_accepted_submit_is_no_answered_poll(rig: Rig) -> None:
    rig.gateway.answer = dark_from(0.0, rig.clock)
    assert rig.ends(ServerError, 5.0).exit_code == 9


def test_an_error_for_good_ends_the_wait_at_once(rig: Rig) -> None:
    rig.gateway.answer = lambda now, _: state("QUEUED") if now < 10 else BadReply("50 MB of nonsense")
    error = rig.ends(BadReply)
    assert error.exit_code == 9
    assert rig.clock.now < 40


def test_rate_limited_beyond_the_deadline(rig: Rig) -> None:
    rig.gateway.answer = lambda *_: RateLimited("too many")
    assert rig.ends(RateLimited).exit_code == 5
    assert not rig.row.settled


# --- 404 -------------------------------------------------------------------------------------------------


def test_a_404_right_after_the_submit_is_a_gateway_that_has_not_caught_up(rig: Rig) -> None:
    rig.gateway.answer = lambda now, _: NotFound("no such request") if now < 3 else state("COMPLETED")
    job, deadline = rig.submitted()
    assert rig.life.wait(job, deadline).state == "completed"


def test_a_404_later_is_not_found_and_stays_pending(rig: Rig) -> None:
    rig.gateway.answer = lambda now, _: state("QUEUED") if now < 20 else NotFound("no such request")
    error = rig.ends(NotFound)
    assert (error.exit_code, type(error)) == (8, NotFound)
    assert "another key" in error.message
    assert rig.row.state == "queued"


def test_a_404_after_an_hour_is_expired(rig: Rig) -> None:
    job, _ = rig.submitted()
    rig.clock.now += 3600.5
    rig.gateway.answer = lambda *_: NotFound("no such request")
    with pytest.raises(Expired) as caught:
        rig.life.wait(job, Deadline(rig.clock, 600))
    assert caught.value.charged is Charged.UNKNOWN
    assert rig.row.state == "expired"


def test_exactly_an_hour_is_not_more_than_an_hour(rig: Rig) -> None:
    job, _ = rig.submitted()
    rig.clock.now += 3600.0
    rig.gateway.answer = lambda *_: NotFound("no such request")
    with pytest.raises(NotFound) as caught:
        rig.life.ask(job, Deadline(rig.clock, 15))
    assert not isinstance(caught.value, Expired)


@pytest.mark.parametrize(
    ("age", "kind", "asked"), [(10.0, NotFound, 5), (3600.5, Expired, 1)], ids=["young", "old"]
)
def test_a_result_is_waited_for_while_it_may_still_come(
    rig: Rig, age: float, kind: type[ChromaError], asked: int
) -> None:
    job, deadline = rig.submitted(10_000)
    rig.clock.now += age
    rig.gateway.answer = lambda *_: state("COMPLETED")
    job = rig.life.wait(job, deadline)
    before = rig.clock.now
    nowhere: Any = None
    with pytest.raises(kind) as caught:
        rig.life.collect(job, nowhere, deadline)
    assert type(caught.value) is kind
    assert rig.gateway.results == asked
    assert rig.clock.now - before < 10
    assert caught.value.charged is Charged.YES


# --- how it ends -----------------------------------------------------------------------------------------


def test_failed_is_six_and_costs_nothing(rig: Rig) -> None:
    rig.gateway.answer = lambda *_: state("FAILED", "content blocked")
    error = rig.ends(GenerationFailed)
    assert (error.exit_code, error.charged) == (6, Charged.NO)
    assert "content blocked" in error.message
    assert (rig.row.state, rig.row.charged) == ("failed", Charged.NO)
    assert rig.clock.now <= 1.0


def test_each_change_is_told_once(rig: Rig) -> None:
    def answer(now: float, _: Deadline) -> Status:
        return state("QUEUED" if now < 5 else "PROCESSING" if now < 30 else "COMPLETED")

    rig.gateway.answer = answer
    job, deadline = rig.submitted()
    rig.life.wait(job, deadline)
    told = [event.job.state for event in rig.seen if isinstance(event, StateChanged)]
    assert told == ["submitting", "queued", "processing", "completed"]
    elapsed = [event.elapsed for event in rig.seen if isinstance(event, Waiting)]
    assert elapsed == sorted(elapsed)


def test_a_long_wait_gives_signs_of_life(rig: Rig) -> None:
    rig.ends(NotFinished, 300.0)
    with pytest.raises(NotFinished):
        rig.life.wait(rig.row, Deadline(rig.clock, 0.1))
    claims: list[float] = []
    job, _ = rig.submitted()
    rig.gateway.answer = lambda now, _: (claims.append(_claimed(rig, job)), state("PROCESSING"))[1]
    with pytest.raises(NotFinished):
        rig.life.wait(job, Deadline(rig.clock, 300.0))
    assert claims[-1] - claims[0] >= 180


def _claimed(rig: Rig, job: JobRow) -> float:
    row = rig.ledger.get(job.number)
    assert row is not None
    assert row.claimed_at is not None
    return row.claimed_at


# --- Ctrl-C and SIGTERM in each phase --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stop", "kind", "code"),
    [(KeyboardInterrupt(), Interrupted, 130), (TerminationRequest(), Terminated, 143)],
)
def test_stopped_while_waiting(rig: Rig, stop: BaseException, kind: type[ChromaError], code: int) -> None:
    rig.clock.at(20.0, stop)
    error = rig.ends(kind)
    assert (error.exit_code, error.charged) == (code, Charged.UNKNOWN)
    assert "goes on" in error.message
    assert "chroma fetch a-1" in (error.hint or "")
    assert (rig.row.settled, rig.row.owner) == (False, None)


@pytest.fixture
def stopped(rig: Rig) -> Callable[..., ChromaError]:
    """Ctrl-C while the submit is out, and what settling it then gives."""

    def stop(**more: Any) -> ChromaError:
        rig.gateway.pending = Pending(KeyboardInterrupt(), **more)
        job = rig.life.intend(rig.request, None)
        with pytest.raises(Interrupted) as caught:
            rig.life.submit(job, Deadline(rig.clock, 60))
        assert caught.value.exit_code == 130
        assert (caught.value.job, rig.gateway.sent) == (1, 1)
        return caught.value

    return stop


def test_stopped_and_the_id_came_in_time(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    error = stopped(settle_gives=accepted("late-1"))
    assert (error.request_id, error.charged) == ("late-1", Charged.UNKNOWN)
    assert "chroma fetch late-1" in (error.hint or "")
    assert (rig.row.state, rig.row.request_id) == ("queued", "late-1")
    assert any("10 s at most" in event.words for event in rig.seen if isinstance(event, Warned))


def test_stopped_and_no_id_came(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    error = stopped(settle_gives=None)
    assert (error.request_id, error.charged) == (None, Charged.UNKNOWN)
    assert "chroma jobs --pending" in (error.hint or "")
    assert rig.row.state == "unknown"
    assert rig.gateway.pending.abandoned


def test_stopped_twice(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    assert stopped(settle_gives=KeyboardInterrupt()).charged is Charged.UNKNOWN
    assert rig.row.state == "unknown"
    assert rig.gateway.pending.abandoned


def test_stopped_before_anything_went_out(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    error = stopped(settle_gives=None, abandon_gives=Charged.NO, in_flight=False)
    assert error.charged is Charged.NO
    assert "no job was made" in error.message
    assert (rig.row.state, rig.row.charged) == ("failed", Charged.NO)


def test_stopped_and_the_answer_was_a_refusal(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    error = stopped(settle_gives=NetworkError("no connection"))
    assert error.charged is Charged.NO
    assert rig.row.state == "failed"


def test_stopped_and_the_answer_was_lost(rig: Rig, stopped: Callable[..., ChromaError]) -> None:
    assert stopped(settle_gives=OutcomeUnknown("reset")).charged is Charged.UNKNOWN
    assert rig.row.state == "unknown"


def test_a_lost_submit_is_unknown(rig: Rig) -> None:
    rig.gateway.pending = Pending(OutcomeUnknown("reset"))
    job = rig.life.intend(rig.request, None)
    with pytest.raises(OutcomeUnknown) as caught:
        rig.life.submit(job, Deadline(rig.clock, 60))
    assert (caught.value.job, caught.value.charged) == (1, Charged.UNKNOWN)
    assert (rig.row.state, rig.row.owner) == ("unknown", None)


# --- what earlier jobs took ------------------------------------------------------------------------------


def test_learnt_durations_bring_the_polls_to_the_end(rig: Rig) -> None:
    rig.gateway.answer = lambda now, _: state("COMPLETED" if now >= begun + 20 else "PROCESSING")
    for _ in range(5):
        begun = rig.clock.now
        job, deadline = rig.submitted()
        job = rig.life.wait(job, deadline)
        rig.ledger.completed(job.number, observed=20.0)
        rig.ledger.saved(job.number)
    rig.gateway.polls.clear()
    begun = rig.clock.now
    job, deadline = rig.submitted()
    rig.life.wait(job, deadline)
    assert rig.clock.now - begun - 20 < 0.5
    assert len(rig.gateway.polls) < 12
    assert {round(event.typical) for event in rig.seen[-5:] if isinstance(event, Waiting)} <= {20}


def test_a_job_taken_up_later_is_asked_for_at_once(rig: Rig) -> None:
    job, _ = rig.submitted()
    rig.clock.now += 1000
    rig.gateway.answer = lambda *_: state("COMPLETED")
    rig.life.wait(job, Deadline(rig.clock, 600))
    assert rig.gateway.polls == [1000]


def test_without_a_ledger_the_steps_are_the_same(rig: Rig) -> None:
    rig.life.book = Book(None, rig.clock, lambda words: pytest.fail(words))
    rig.gateway.answer = lambda now, _: state("COMPLETED" if now > 30 else "PROCESSING")
    job, deadline = rig.submitted()
    assert (job.number, job.request_id) == (0, "a-1")
    assert rig.life.wait(job, deadline).state == "completed"
    assert rig.ledger.totals().jobs == 0
