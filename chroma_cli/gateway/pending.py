"""Trying again: the one place where a call is repeated, and a POST that can be waited for more than once.

Which outcomes may be repeated is decided in ``client``; it raises :class:`Again` for those. Here is how often
and when: within the deadline, after back-off or as long as the server asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from chroma_cli.clock import Deadline
from chroma_cli.errors import Charged, ChromaError, NetworkError, OutcomeUnknown, RateLimited
from chroma_cli.gateway.events import Retrying
from chroma_cli.gateway.retry import Backoff
from chroma_cli.gateway.transport import Call, Outcome, Started, Transport

T = TypeVar("T")

_BACKOFF: Final = Backoff()
#: So long before the deadline comes the last try (seconds).
_LAST_CHANCE: Final = 0.5
#: Added, in part, to a wait that the server named: everyone else who was told so comes back then, too.
_SPREAD: Final = 0.25


class Again(Exception):  # noqa: N818  # never leaves this layer
    """This outcome may be tried again; ``error`` is what it means if it is not.

    ``wait``: seconds the server asked for. ``most``: highest number of such outcomes in one call.
    ``lost``: the request may have been accepted all the same.
    """

    def __init__(
        self,
        error: ChromaError,
        *,
        wait: float | None = None,
        most: int | None = None,
        within: float | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait = wait
        self.most = most
        self.within = within
        self.lost = lost


class Tries:
    """Counts the tries of one call, and says how long to wait before the next.

    ``to_the_end``: the last try comes shortly before the deadline. Not for a POST: its answer could come too
    late to be heard.
    """

    def __init__(
        self,
        transport: Transport,
        deadline: Deadline,
        what: str,
        attempts: int | None,
        *,
        to_the_end: bool = False,
    ) -> None:
        self._to_the_end = to_the_end
        self._transport = transport
        self._deadline = deadline
        self._what = what
        self._attempts = attempts
        self._count = 0
        self._limited = 0
        self._patient_until: float | None = None

    def next_wait(self, again: Again) -> float:
        """Seconds to wait before the next try; raises the outcome's error when there is to be none."""
        self._count += 1
        if again.most is not None:
            self._limited += 1
            if self._limited >= again.most:
                raise again.error
        if self._attempts is not None and self._count >= self._attempts:
            raise again.error
        left = self._deadline.remaining
        jitter = self._transport.jitter
        if again.wait is None:
            wait = _BACKOFF.delay(self._count, jitter)
        else:
            wait = again.wait + min(_SPREAD * jitter(), max(0.0, left - again.wait) / 2)
        in_vain = isinstance(again.error, RateLimited)  # told when the next one may come, which is too late
        if self._to_the_end and not in_vain and wait >= left > 2 * _LAST_CHANCE:
            wait = left - _LAST_CHANCE
        if wait >= left or self._lost_patience(again, wait):
            raise again.error
        self._transport.tell(Retrying(self._what, round(wait, 3), again.error.message))
        return wait

    def _lost_patience(self, again: Again, wait: float) -> bool:
        """Whether the next try would come later than such an outcome is worth."""
        if again.within is None:
            return False
        now = self._transport.clock.monotonic()
        if self._patient_until is None:
            self._patient_until = now + again.within
        return now + wait > self._patient_until


def persist(
    transport: Transport,
    call: Call,
    deadline: Deadline,
    judge: Callable[[Outcome], T],
    *,
    what: str,
    attempts: int | None = None,
) -> T:
    """A call that may be repeated freely, until ``judge`` is content or the deadline leaves no time."""
    tries = Tries(transport, deadline, what, attempts, to_the_end=True)
    if deadline.passed:
        raise NetworkError(f"There was no time left for the {what}.")
    while True:
        try:
            return judge(transport.exchange(call, deadline))
        except Again as again:
            transport.clock.sleep(tries.next_wait(again))


class Pending(Generic[T]):
    """A POST on its way. Use from one thread.

    :meth:`wait` sends it (again, where that is allowed) and waits. After an interrupt it may be called again,
    or :meth:`settle`, which sends nothing more. :meth:`abandon` ends it for good.
    """

    def __init__(
        self,
        transport: Transport,
        call: Call,
        deadline: Deadline,
        judge: Callable[[Outcome], T],
        *,
        what: str,
        attempts: int | None = None,
    ) -> None:
        self._transport = transport
        self._call = call
        self._deadline = deadline
        self._judge = judge
        self._what = what
        self._tries = Tries(transport, deadline, what, attempts)
        self._started: Started | None = None
        self._flight_end = deadline
        self._resume_at: float | None = None
        self._lost = False
        self._last: ChromaError | None = None
        self._answer: T | None = None
        self._ended: ChromaError | None = None

    @property
    def in_flight(self) -> bool:
        """Whether a send is out whose outcome is not known yet."""
        return self._started is not None

    @property
    def charged(self) -> Charged:
        """Whether money may have gone, as far as is known now: UNKNOWN once a send may have arrived."""
        if self._answer is not None or self._lost:
            return Charged.UNKNOWN
        if self._ended is not None:
            return self._ended.charged
        out = self._started is not None and self._started.flight.connected
        return Charged.UNKNOWN if out else Charged.NO

    def wait(self, seconds: float | None = None) -> T | None:
        """The answer; None when ``seconds`` ran out first (never when that is None).

        Raises what the outcome means; OutcomeUnknown when the deadline passes while a send is out.
        """
        limit = Deadline(self._transport.clock, seconds) if seconds is not None else None
        while True:
            if self._answer is not None:
                return self._answer
            if self._ended is not None:
                raise self._ended
            if self._started is None:
                if not self._pause(limit):
                    return None
                self._launch()
            outcome = self._land(limit)
            if outcome is None:
                return None
            self._take(outcome)

    def send(self) -> T | None:
        """One send and its outcome, without sitting out a wait before it: the answer, or None when it may be
        sent again :attr:`resume_in` seconds from now. For callers with much else to do meanwhile.

        Raises what the outcome means.
        """
        self._resume_at = None
        if self._started is None and self._answer is None and self._ended is None:
            self._check_time()
            self._launch()
        if self._started is not None:
            outcome = self._land(None)
            assert outcome is not None  # without a limit, landing ends with an outcome
            self._take(outcome)
        if self._ended is not None:
            raise self._ended
        return self._answer

    @property
    def resume_in(self) -> float:
        """Seconds until the next send is due; 0 when none is planned for later."""
        if self._resume_at is None:
            return 0.0
        return max(0.0, self._resume_at - self._transport.clock.monotonic())

    def settle(self, seconds: float) -> T | None:
        """Wait for the send that is out, if there is one, and send nothing more.

        None when no answer came in time; the send is then given up, and :attr:`charged` says what that
        means. Raises what an answer means, or the last failure when no send was out.
        """
        if self._answer is not None:
            return self._answer
        if self._started is not None and not self._started.flight.launched:
            self._started = None
        if self._ended is None and self._started is None:
            self._end(self._last or NetworkError(f"The {self._what} was not sent."))
        if self._ended is not None:
            raise self._ended
        assert self._started is not None
        outcome = self._receive(self._started, seconds)
        if outcome is None:
            self.abandon()
            return None
        self._take(outcome, last=True)
        if self._ended is not None:
            raise self._ended
        return self._answer

    def abandon(self) -> Charged:
        """Give up: nothing is sent any more. Says whether money may have gone."""
        if self._answer is None and self._ended is None:
            started, self._started = self._started, None
            if started is not None and self._transport.drop(started, "given up").connected:
                self._lost = True
            if self._lost:
                self._end(OutcomeUnknown(f"The {self._what} went out, and no answer was waited for."))
            else:
                self._end(NetworkError(f"The {self._what} was given up before it was sent."))
        return self.charged

    # --- steps ---

    def _pause(self, limit: Deadline | None) -> bool:
        """Sit out the wait before the next send; False when ``limit`` ends first."""
        clock = self._transport.clock
        if self._resume_at is not None:
            wait = max(0.0, self._resume_at - clock.monotonic())
            if limit is not None and limit.remaining < wait:
                clock.sleep(limit.remaining)
                return False
            clock.sleep(wait)
            self._resume_at = None
        self._check_time()
        return True

    def _check_time(self) -> None:
        if self._deadline.passed:
            self._end(self._last or NetworkError(f"There was no time left for the {self._what}."))
            assert self._ended is not None
            raise self._ended

    def _launch(self) -> None:
        seconds = self._transport.allowance(self._call, self._deadline)
        self._flight_end = Deadline(self._transport.clock, seconds)
        self._started = self._transport.start(self._call, seconds)

    def _land(self, limit: Deadline | None) -> Outcome | None:
        assert self._started is not None
        left = self._flight_end.remaining
        mine = left if limit is None else min(limit.remaining, left)
        outcome = self._receive(self._started, mine)
        if outcome is None and mine >= left:
            return self._transport.drop(self._started)
        return outcome

    def _receive(self, started: Started, seconds: float) -> Outcome | None:
        """Land; what a sink raised ends the call, and the picture it was for may be paid."""
        try:
            return self._transport.land(started, seconds)
        except ChromaError as error:
            self._lost = self._lost or started.flight.connected
            self._end(error)
            self._started = None
            raise

    def _take(self, outcome: Outcome, *, last: bool = False) -> None:
        """Judge an outcome: an answer, an end, or a next send."""
        # Only when the outcome is fully taken in is the send forgotten: an interrupt in between must not make
        # it look as if nothing had gone out.
        try:
            self._answer = self._judge(outcome)
        except ChromaError as error:
            self._end(error)
        except Again as again:
            self._lost = self._lost or again.lost
            self._last = again.error
            if last:
                self._end(again.error)
            else:
                self._schedule(again)
        self._started = None

    def _schedule(self, again: Again) -> None:
        try:
            wait = self._tries.next_wait(again)
        except ChromaError as error:
            self._end(error)
        else:
            self._resume_at = self._transport.clock.monotonic() + wait

    def _end(self, error: ChromaError) -> None:
        """The end: an earlier send that may have arrived outweighs a later one that surely did not."""
        if self._lost and error.charged is Charged.NO:
            error.charged = Charged.UNKNOWN
        self._ended = error
