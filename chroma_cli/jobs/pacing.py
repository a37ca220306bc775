"""How many jobs at once share one gateway: the pause after a 429, the pace of submits, when to poll.

Each of these is one object for the whole run, used by all of its threads.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from chroma_cli.clock import Clock
from chroma_cli.jobs import polling
from chroma_cli.jobs.budget import Work, work_of
from chroma_cli.jobs.polling import Begun, Expectation, Took
from chroma_cli.request.builder import ImageRequest

#: A pause that the gateway asks for is taken to be a mistake beyond this (seconds).
_LONGEST_PAUSE: Final = 3600.0
#: Pauses where it asks for none: these seconds, twice as many after each that did not help.
_FIRST_PAUSE: Final = 1.0
_GROWN_PAUSE: Final = 60.0
#: Polls a second over all jobs that are only looked after; more would cost CPU and help nobody.
_POLLS_A_SECOND: Final = 200.0
#: From so many jobs on, polls around the expected end become sparser.
_CLOSE_WATCH: Final = 100
#: The latest durations of one run that count.
_REMEMBERED: Final = 50
#: So many of the first lessons (at most two a job) may have the other jobs looked at again, which has its
#: price, and only if jobs are expected to be done sooner by this factor.
_LESSONS: Final = 32
_SOONER: Final = 1.02


class Gate:
    """One 429 slows down everything: while the gate is closed, no call of the run goes out."""

    def __init__(self, clock: Clock, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._until = 0.0
        self._pause = 0.0
        self.throttled_calls = 0

    def throttled(self, seconds: float | None) -> None:
        """A 429 came, which asks for that many seconds (None: it does not say)."""
        with self._lock:
            now = self._clock.monotonic()
            self.throttled_calls += 1
            if seconds is not None:
                self._until = max(self._until, now + min(max(seconds, 0.1), _LONGEST_PAUSE))
            elif now >= self._until:  # else the call went out before the gate closed
                self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _GROWN_PAUSE)
                self._until = now + self._pause * (0.5 + self._jitter() / 2)

    def answered(self) -> None:
        """A call was let through: the next pause begins small again."""
        if self._pause:
            with self._lock:
                if self._clock.monotonic() >= self._until:
                    self._pause = 0.0

    @property
    def wait(self) -> float:
        """Seconds until calls may go out; 0 when the gate is open."""
        return max(0.0, self._until - self._clock.monotonic())


class Turns:
    """At most so many submits a minute, evenly spaced; None for as many as come."""

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._spacing = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0

    def take(self) -> float:
        """Take a turn and return 0, or say in how many seconds the next one comes."""
        if not self._spacing:
            return 0.0
        with self._lock:
            now = self._clock.monotonic()
            if now < self._next:
                return self._next - now
            self._next = max(self._next + self._spacing, now)
            if self._next <= now:
                self._next = now + self._spacing
            return 0.0


class Durations:
    """How long jobs take, by their work: as this run has seen, else as ``before`` knows of earlier ones."""

    def __init__(self, before: Callable[[ImageRequest], Expectation]) -> None:
        self._before = before
        self._lock = threading.Lock()
        self._seen: dict[Work, dict[int, Took]] = {}
        self._taught: Counter[Work] = Counter()
        self._expected: dict[Work, Expectation] = {}

    def expected(self, request: ImageRequest) -> Expectation:
        work = work_of(request)
        with self._lock:
            known = self._expected.get(work)
        if known is None:
            known = self._before(request)
            with self._lock:
                known = self._expected.setdefault(work, known)
        return known

    def saw(self, request: ImageRequest, job: int, took: Took) -> bool:
        """The job with this number took that long; to be told again when it is known better. True when those
        of its kind had better look again at when to poll."""
        work = work_of(request)
        with self._lock:
            seen = self._seen.setdefault(work, {})
            if seen.get(job) == took:
                return False
            seen[job] = took
            if len(seen) > _REMEMBERED:
                del seen[next(iter(seen))]
            learnt = Expectation.watched(tuple(seen.values()))
            if learnt is None:
                return False
            before = self._expected.get(work)
            self._expected[work] = learnt
            self._taught[work] += 1
            if before is None:
                return True
            sooner = before.low > learnt.low * _SOONER or before.high > learnt.high * _SOONER
            return sooner and self._taught[work] <= _LESSONS


def poll_wait(
    expected: Expectation, elapsed: float, begun: Begun, in_flight: int, jitter: Callable[[], float]
) -> float:
    """Seconds until the next poll of a job, ``elapsed`` seconds after its submit, among ``in_flight`` jobs.

    The more there are the sparser each is asked, and not all at the same moments: so one of them is asked
    soon after the first is done, and teaches the rest.
    """
    spread = max(1.0, in_flight / _CLOSE_WATCH)
    wait = polling.next_poll(expected, elapsed, begun, spread=spread)
    gap = in_flight / _POLLS_A_SECOND
    in_window = begun.after + expected.low <= elapsed + wait and elapsed < begun.before + expected.high
    if in_window:
        return wait
    return max(wait, gap) * (0.75 + 0.5 * jitter())
