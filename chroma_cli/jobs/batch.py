"""Many jobs through the same steps as one: submit, poll, collect, with hundreds in flight at a time.

A job is an entry in a heap of due steps here; a few threads take the steps (:mod:`chroma_cli.jobs.steps`),
each a single call or a single file, and put the next one back with its time. Whatever ends a job comes out as
:class:`Ended`; the caller shows it, and keeps the knowledge of what was made.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from chroma_cli.clock import Clock, Deadline
from chroma_cli.errors import (
    AuthError,
    BadReply,
    Charged,
    ChromaError,
    GenerationFailed,
    LimitError,
    NetworkError,
    NotEnoughCredits,
    NotFinished,
    OutcomeUnknown,
    OutOfResources,
    OutputExists,
    RateLimited,
    Retired,
    Unavailable,
    WebPage,
    WrongAddress,
    unexpected,
)
from chroma_cli.jobs import budget, capacity
from chroma_cli.jobs.budget import Limit, PriceNotKnown, work_of
from chroma_cli.jobs.capacity import NO_LIMITS, Pool, Room
from chroma_cli.jobs.lifecycle import Lifecycle
from chroma_cli.jobs.pace import Pace
from chroma_cli.jobs.pacing import Gate, Turns
from chroma_cli.jobs.planning import Work
from chroma_cli.jobs.progress import Done
from chroma_cli.jobs.records import InWork, JobRow, LastLook, PlaceTaken, SavedBefore, outcome_unknown
from chroma_cli.jobs.steps import Steps

if TYPE_CHECKING:
    from chroma_cli.gateway.pending import Pending
    from chroma_cli.gateway.replies import Submitted
    from chroma_cli.images.destination import Destination
    from chroma_cli.jobs.book import Book
    from chroma_cli.jobs.pictures import Saved

#: Most threads that submit, that ask how jobs are, and that bring pictures home. More of them would mostly
#: wait for each other: what is not waiting for the network wants the interpreter's lock. Those that submit
#: wait for the ledger's disk, too, before the call and after it.
_SUBMITTERS: Final = 16
_ASKERS: Final = 8
_COLLECTORS: Final = 12
#: Most submits that are out at a time. Each has a connection of its own, and a burst of new connections is
#: what small servers drop, which for a submit means an unknown outcome.
_OUT_AT_ONCE: Final = 5
#: A picture that is ready may take this long to come home, whatever is left of its job's time (seconds).
_COLLECT_SECONDS: Final = 120.0
#: Between tries of a poll that went wrong: these seconds, doubled each time up to the cap, with jitter.
_BACKOFF: Final = 0.5
_BACKOFF_CAP: Final = 15.0
#: A job of another process that is to tell a price first is looked after this often (seconds).
_PRICE_WAIT: Final = 2.0
#: So many submits in a row that web pages answered are no accident: the gateway is not there.
_MOST_PAGES: Final = 3
#: Between looks at what another process makes (seconds): the first, and the most.
_FIRST_LOOK: Final = 0.5
_LAST_LOOK: Final = 3.0
#: These say that the next job would fare no better.
_HOPELESS: Final = (AuthError, NotEnoughCredits, WrongAddress, Retired, RateLimited, OutOfResources)


@dataclass(frozen=True)
class Options:
    """How a run goes. ``timeout`` (seconds) is for each job from its submit, ``per_minute`` for submits."""

    jobs: int = 8
    timeout: float = 600.0
    per_minute: float | None = None
    limits: tuple[Limit, ...] = ()
    fail_fast: bool = False
    retry_failed: int = 0
    resubmit_unknown: bool = False


@dataclass(frozen=True)
class Ended:
    """How one image ended: made (``error`` is None), or why not. ``cost`` is in dollars, ``unknown`` the
    dollars that may have been spent."""

    work: Work
    job: JobRow | None
    saved: tuple[Saved, ...] = ()
    error: ChromaError | None = None
    cost: float = 0.0
    unknown: float = 0.0
    #: How it came about without a submit of this run.
    found: str = ""


@dataclass(frozen=True)
class Counts:
    """Where a run stands; ``unknown`` dollars may have been spent."""

    queued: int
    running: int
    spent: float
    unknown: float


@dataclass(frozen=True)
class Found:
    """The picture of an image is there already; ``job`` made it, if the ledger knows that."""

    job: JobRow | None


@dataclass(frozen=True)
class _Wish:
    """An image in the queue; ``again`` counts the submits that failed. ``passed_over`` are saved jobs whose
    pictures are not on this disk any more. ``deadline`` is that of the wait for another process; ``lost`` is
    the job of this run that another process has taken up."""

    work: Work
    again: int = 0
    passed_over: frozenset[int] = frozenset()
    deadline: Deadline | None = None
    lost: JobRow | None = None


@dataclass
class _Task:
    """One image in flight."""

    wish: _Wish
    life: Lifecycle
    job: JobRow | None = None
    deadline: Deadline | None = None
    pending: Pending[Submitted] | None = None
    pace: Pace | None = None
    tries: int = 0
    #: What was wrong with the last answer to a poll, if something was.
    trouble: Unavailable | None = None
    #: Counts the steps that were put; an older one that comes due is void.
    turn: int = 0
    #: Waits to be sent, and nobody is at work on it.
    movable: bool = False
    #: The gateway has finished it.
    collecting: bool = False

    @property
    def work(self) -> Work:
        return self.wish.work


class Batch:
    """A run over many images. ``lifecycle`` makes the steps for one job (true: one that is taken up);
    ``check_place`` looks at a place once more just before its picture is put there, and gives the destination
    to use; ``submitted`` is told each job when its id is known; ``look_again`` looks anew at an image that
    another process has been at, and gives what is to be done by now, or raises what is in the way.

    Feed the observer's ``Throttled`` to :attr:`gate`. To be used from one thread: :meth:`start`, then
    :meth:`next` until :attr:`finished`.
    """

    def __init__(
        self,
        works: Iterable[Work],
        options: Options,
        *,
        lifecycle: Callable[[bool], Lifecycle],
        clock: Clock,
        look_again: Callable[[Work], Work | Found] = lambda work: work,
        check_place: Callable[[Work, Destination], Destination] = lambda _work, place: place,
        submitted: Callable[[Work, JobRow], None] = lambda _work, _job: None,
        jitter: Callable[[], float] = random.random,
        room: Room = NO_LIMITS,
    ) -> None:
        self.gate = Gate(clock, jitter)
        #: What made the run submit no more, if something did: see :meth:`halt`.
        self.halted: ChromaError | None = None
        self.stopping = False
        self._options = options
        self._lifecycle = lifecycle
        self._clock = clock
        self._look_again_at = look_again
        self._check_place = check_place
        self._submitted = submitted
        self._jitter = jitter
        self._turns = Turns(options.per_minute, clock)
        self._lock = threading.Lock()
        # what is in flight already comes first: its hour is running
        self._queue = deque(_Wish(work) for work in sorted(works, key=lambda work: work.job is None))
        self._flying: dict[int, _Task] = {}
        #: What another process, or another image's job, is making: looked at again now and then.
        self._parked: dict[int, _Wish] = {}
        self._closed = False
        #: Dollars that went for jobs of this run that have ended.
        #: Submits in a row that were answered by a web page.
        self._pages = 0
        #: Dollars that were spent, and that may have been.
        self._spent = 0.0
        self._unknown = 0.0
        #: How many tasks have ended: each may have made room under a limit, or told a price.
        self._ends = 0
        #: The limit that is in the way of all.
        self._short: LimitError | None = None
        #: Work whose price was never seen, as far as that came up, and what it has to wait for.
        self._unpriced: set[budget.Work] = set()
        self._price: PriceNotKnown | None = None
        self._looking = False
        self._launching = False
        self._ended: queue.SimpleQueue[Ended | BaseException | None] = queue.SimpleQueue()
        self._narrow = threading.Semaphore(_OUT_AT_ONCE)
        at_once = options.jobs
        pools = (
            Pool(min(_SUBMITTERS, at_once + 1), files=1, memory=10),
            Pool(min(_ASKERS, at_once), files=1, memory=10),
            Pool(min(_COLLECTORS, at_once), files=5, memory=40),
        )
        fit = capacity.fitting(pools, room)
        self._limited = fit != [pool.wanted for pool in pools]
        self._submits = Steps(clock, fit[0], "chroma-submit", self._ended.put)
        self._polls = Steps(clock, fit[1], "chroma-poll", self._ended.put)
        self._collects = Steps(clock, fit[2], "chroma-collect", self._ended.put)

    # --- for the one who waits ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Raises what the system says when it allows no threads; nothing is sent then."""
        for steps in (self._submits, self._polls, self._collects):
            steps.start()
        self._launch_soon()

    @property
    def limited(self) -> bool:
        """Whether the system allows less at the same time than was wanted."""
        return self._limited or any(steps.limited for steps in (self._submits, self._polls, self._collects))

    @property
    def finished(self) -> bool:
        """Whether nothing is in flight any more, nothing more will be, and all that ended was handed out."""
        with self._lock:
            waiting = self._queue or self._parked
            over = not waiting or self.stopping or self.halted is not None
            return over and not self._flying and self._ended.empty()

    def next(self, seconds: float) -> Ended | None:
        """The next image that ended; None after that many seconds. Raises what went wrong in a thread."""
        try:
            ended = self._ended.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def stop(self) -> None:
        """Submit no more; what is in flight is finished."""
        self.stopping = True
        self._take_back_soon()

    def halt(self, error: ChromaError) -> None:
        """Submit no more because of this error, which ends the run; what is in flight is finished first."""
        self.halted = self.halted or error
        self._take_back_soon()

    def close(self) -> None:
        """Leave: no further step is begun, and nothing that was not sent yet is sent."""
        self._closed = True
        for steps in (self._submits, self._polls, self._collects):
            steps.close()
        with self._lock:
            unsent = [task for task in self._flying.values() if task.movable]
        for task in unsent:
            if task.job is not None and task.pending is not None:
                self._take_back(task, task.job, task.pending)

    @property
    def counts(self) -> Counts:
        with self._lock:
            waiting = len(self._queue) + len(self._parked)
            return Counts(waiting, len(self._flying), self._spent, self._unknown)

    @property
    def sending(self) -> int:
        """How many submits are on their way, their answers not heard yet."""
        with self._lock:
            return sum(task.pending is not None and not task.movable for task in self._flying.values())

    @property
    def left(self) -> tuple[Work, ...]:
        """What was not begun."""
        with self._lock:
            flying = [task.work for task in self._flying.values() if task.job is None]
            return (*flying, *(wish.work for wish in (*self._queue, *self._parked.values())))

    @property
    def unfinished(self) -> tuple[Ended, ...]:
        """What is in flight, as it is left behind by a run that ends now."""
        with self._lock:
            return tuple(_left_behind(task) for task in self._flying.values() if task.job is not None)

    @property
    def waits_for(self) -> PriceNotKnown | None:
        """Why nothing is in flight though the run goes on: a job of another process has to tell a price."""
        with self._lock:
            return self._price if not self._flying and not self._over else None

    # --- launching ---------------------------------------------------------------------------------------

    def _launch_soon(self, wait: float = 0.0) -> None:
        with self._lock:
            if self._launching:
                return
            self._launching = True
        self._submits.add(wait, self._launch)

    def _launch(self) -> None:
        """Begin as many images as may be begun now."""
        with self._lock:
            self._launching = False
        wait = 0.0
        while not wait:
            with self._lock:
                if self._over or not self._queue or self._full:
                    return
                at = None if self._short is not None else self._next_in_line()
                if at is None:
                    self._wait_or_halt()
                    return
                taken_up = self._queue[at].work.job is not None
                wait = 0.0 if taken_up else self.gate.wait or self._turns.take()
                if not wait:
                    wish = self._queue[at]
                    del self._queue[at]
                    task = _Task(wish, self._lifecycle(taken_up))
                    self._flying[id(task)] = task
            if not wait:
                self._put(task, 0.0, self._take_up if taken_up else self._begin)
        self._launch_soon(wait)

    def _next_in_line(self) -> int | None:
        """Return which image in the queue may be begun; None when all have to wait for a price."""
        for at, wish in enumerate(self._queue):
            waits = self._price is not None and wish.work.job is None
            if not (waits and work_of(wish.work.request) in self._unpriced):
                return at
        return None

    def _wait_or_halt(self) -> None:
        """Nothing can be begun for want of money, or before a price is known. What is in flight may change
        that when it ends; a price may also come from a job of another process."""
        if self._short is None and self._price is not None and self._price.awaited:
            if not self._looking:
                self._looking = True
                self._submits.add(_PRICE_WAIT, self._look_for_price)
        elif not (self._flying or self._parked):
            self.halted = self.halted or self._short or self._price
            self._ended.put(None)

    def _look_for_price(self) -> None:
        with self._lock:
            self._looking, self._price = False, None
        self._launch_soon()

    @property
    def _full(self) -> bool:
        """A job is in flight until the gateway has finished it; of those that are then brought home, there
        may be as many again. Who wants to stop at the first failure waits for the pictures, too."""
        if self._options.fail_fast:
            return len(self._flying) >= self._options.jobs
        collecting = sum(task.collecting for task in self._flying.values())
        return max(len(self._flying) - collecting, collecting) >= self._options.jobs

    def _put(
        self,
        task: _Task,
        wait: float,
        step: Callable[[_Task], None],
        *,
        movable: bool = False,
        moved: bool = False,
    ) -> None:
        """Have a step of this task taken. ``movable``: it is a submit that waits for its turn, and may be
        taken sooner; ``moved``: now it is, if it still waits."""
        with self._lock:
            if moved and not task.movable:
                return
            task.turn += 1
            turn = task.turn
            task.movable = movable or moved

        def take() -> None:
            with self._lock:
                if task.turn != turn:
                    return
                task.movable = False
            self._attempt(task, step)

        asks = step == self._poll or step == self._take_up
        (self._polls if asks else self._submits).add(wait, take)

    def _attempt(self, task: _Task, step: Callable[[_Task], None]) -> None:
        """Take a step; an error ends its task, and one that nobody foresaw the run as well."""
        try:
            step(task)
        except ChromaError as error:
            self._end(task, error=error)
        except Exception as bug:
            ended = unexpected(bug)
            if task.job is not None and task.pending is not None:
                ended = task.life.take_back(task.job, task.pending, ended)
            elif task.job is not None:
                ended = task.life.give_up(task.job, ended, task.job.charged)
            self.halt(ended)
            self._end(task, error=ended)

    # --- submit ------------------------------------------------------------------------------------------

    def _begin(self, task: _Task) -> None:
        """Write the intent down, with its money; then send it."""
        if self._over:
            self._put_back(task)
            return
        work, options, ends = task.work, self._options, self._ends
        look = LastLook(
            check=work.check_place,
            since=work.planned_at,
            in_batch=True,
            passed_over=task.wish.passed_over,
            resubmit_unknown=options.resubmit_unknown,
        )
        try:
            job = task.life.intend(
                work.request,
                work.destination,
                limits=options.limits,
                look=look,
                instead_of=work.instead_of,
            )
        except LimitError as error:
            self._wait_for_money(task, error, ends)
            return
        except InWork as error:
            self._park(task, error)
            return
        except (SavedBefore, PlaceTaken) as error:
            self._put(task, 0.0, partial(self._find, reason=error))
            return
        if job.fetchable:
            self._go_on(task, job)
            return
        task.job = job
        task.deadline = Deadline(self._clock, options.timeout)
        task.pending = task.life.open_submit(
            task.job, task.deadline, resubmit_unknown=options.resubmit_unknown
        )
        self._send(task)

    # --- what others make --------------------------------------------------------------------------------

    def _park(self, task: _Task, error: InWork) -> None:
        """Another process makes the picture, or another job of this run: wait for it to end."""
        lost = task.wish.lost if task.job is None or task.work.job is not None else task.job
        deadline = task.wish.deadline or task.deadline or Deadline(self._clock, self._options.timeout)
        fresh = replace(task.work, job=None)
        wish = replace(task.wish, work=fresh, deadline=deadline, lost=lost)
        with self._lock:
            self._parked[id(wish)] = wish
        self._leave(task, None)
        self._look_after(wish, deadline, error, task.life.book, _FIRST_LOOK)

    def _look_after(self, wish: _Wish, deadline: Deadline, error: InWork, book: Book, wait: float) -> None:
        """See in ``wait`` seconds whether the other one is still at work."""

        def look() -> None:
            if self._over:
                return
            row = book.now(error.row)
            busy = not row.settled and book.is_claimed(row)
            if busy and not deadline.passed:
                self._look_after(wish, deadline, error, book, min(wait * 1.5, _LAST_LOOK))
                return
            with self._lock:
                del self._parked[id(wish)]
                if not busy:
                    self._queue.appendleft(wish)
            if busy:
                cost, unknown = self._lost(wish, book)
                self._ended.put(Ended(wish.work, row, error=InWork(row).told, cost=cost, unknown=unknown))
            self._launch_soon()

        self._polls.add(min(wait, deadline.remaining + 0.01), look)

    def _find(self, task: _Task, reason: SavedBefore | PlaceTaken) -> None:
        """The picture may be there, or elsewhere on this disk, by now: look anew, or copy it."""
        found, book = self._look_again_at(task.work), task.life.book
        if isinstance(found, Found):
            cost, unknown = self._lost(task.wish, book)
            how = "made meanwhile by another run"
            self._leave(task, None, Ended(task.work, found.job, cost=cost, unknown=unknown, found=how))
            return
        wish = replace(task.wish, work=found)
        if isinstance(reason, SavedBefore):
            for row in reason.rows:
                done = task.life.copy(row, found.destination)
                if done is not None:
                    cost, unknown = self._lost(task.wish, book)
                    how, away = f"copied from job {row.number}, not paid again", _displaced(done)
                    self._leave(task, None, Ended(found, done.job, done.saved, away, cost, unknown, how))
                    return
            wish = replace(wish, passed_over=wish.passed_over | {row.number for row in reason.rows})
        elif found.seen == task.work.seen:
            raise reason  # what another job has saved there is gone since
        self._leave(task, wish)

    def _send(self, task: _Task) -> None:
        """One send of the submit; again later where that is allowed."""
        assert task.job is not None
        assert task.pending is not None
        wait = 0.0 if self._over else self.gate.wait or (self._turns.take() if task.tries else 0.0)
        if wait:
            self._put(task, wait, self._send, movable=True)
            return
        with contextlib.ExitStack() as turn:
            turn.enter_context(self._narrow)
            turn.push(self._heed)
            if not self._over:
                job = task.life.send(task.job, task.pending, turn.pop_all())
            else:
                self._take_back(task, task.job, task.pending)
                return
        if job is None:
            task.tries += 1
            self._put(task, max(task.pending.resume_in, self.gate.wait), self._send, movable=True)
            return
        self.gate.answered()
        self._pages = 0
        task.job, task.pending, task.tries = job, None, 0
        self._submitted(task.work, job)
        self._ended.put(None)  # whoever waits may want to write it down
        self._watch(task)

    @property
    def _over(self) -> bool:
        """Whether nothing is to be submitted any more; what waits for its turn would be refused as well."""
        return self.stopping or self._closed or self.halted is not None

    def _heed(self, _kind: object, error: object, _trace: object) -> None:
        """A refusal of one submit that the others would meet: known before the next one has its turn."""
        if isinstance(error, _HOPELESS):
            self.halt(error)
        elif isinstance(error, ChromaError):
            page = error.page
            with self._lock:
                self._pages = self._pages + 1 if page is not None else 0
                many = self._pages >= _MOST_PAGES
            if many and page is not None:
                self.halt(_no_gateway(page))

    def _take_back_soon(self) -> None:
        """Nothing is submitted any more: what waits to be sent does not wait any longer."""
        with self._lock:
            waiting = [task for task in self._flying.values() if task.movable]
        for task in waiting:
            self._put(task, 0.0, self._send, moved=True)

    def _take_back(self, task: _Task, job: JobRow, pending: Pending[Submitted]) -> None:
        error = task.life.take_back(job, pending, NetworkError("Stopped before it was sent."))
        if error.charged is Charged.NO:
            self._put_back(task)
        else:
            self._end(task, error=error)

    # --- wait --------------------------------------------------------------------------------------------

    def _take_up(self, task: _Task) -> None:
        """Go on with a job of an earlier run, where it stands."""
        job = task.work.job
        assert job is not None
        if job.promised != task.work.destination.promises():
            self._begin(task)  # which claims it, and has it brought here
            return
        claimed = task.life.book.claim(job)
        if claimed is None:
            self._park(task, InWork(job))
            return
        if claimed.settled:  # another process was faster
            self._leave(task, replace(task.wish, work=replace(task.work, job=None)))
            return
        if not claimed.fetchable:  # its process has just ended
            task.life.book.release(claimed)
            raise outcome_unknown(claimed)
        self._go_on(task, claimed)

    def _go_on(self, task: _Task, job: JobRow) -> None:
        """Wait for a job that was submitted already, and is claimed."""
        task.wish = replace(task.wish, work=replace(task.work, job=job))
        self._submitted(task.work, job)
        task.job = job
        task.deadline = Deadline(self._clock, self._options.timeout)
        task.life.pictures.resumed = True
        if job.state == "completed":
            self._bring_home(task)
        else:
            self._watch(task)

    def _watch(self, task: _Task) -> None:
        assert task.job is not None
        task.pace = Pace(self._clock, task.job, task.life.expected(task.work.request))
        self._poll_next(task, task.pace)

    def _poll_next(self, task: _Task, pace: Pace) -> None:
        assert task.deadline is not None
        wait = pace.next_wait(len(self._flying))
        self._put(task, min(wait, task.deadline.remaining + 0.01), self._poll)

    def _poll(self, task: _Task) -> None:
        assert task.job is not None
        assert task.deadline is not None
        assert task.pace is not None
        if task.deadline.passed:
            raise self._ended_outside(task, task.life.out_of_time(task.job, task.deadline, task.trouble))
        if wait := self.gate.wait:
            # not all at once when it opens
            self._put(task, wait + self._jitter() * min(5.0, len(self._flying) / 50), self._poll)
            return
        if task.pace.heartbeat_due():
            task.life.book.heartbeat(task.job)
        try:
            job = task.life.poll(task.job, task.deadline, task.pace)
        except RateLimited:
            self._put(task, max(self.gate.wait, _BACKOFF), self._poll)
            return
        except NotFinished as error:
            raise self._ended_outside(task, error) from error
        except Unavailable as error:
            if task.deadline.passed:
                raise self._ended_outside(task, error) from error
            task.tries += 1
            task.trouble = error
            wait = min(_BACKOFF_CAP, _BACKOFF * 2**task.tries) * (0.5 + self._jitter() / 2)
            self._put(task, min(wait, task.deadline.remaining), self._poll)
            return
        except ChromaError as error:
            raise self._ended_outside(task, error) from error
        self.gate.answered()
        task.tries, task.trouble = 0, None
        task.job = job
        if job.state == "completed":
            self._bring_home(task)
        else:
            self._poll_next(task, task.pace)

    def _ended_outside(self, task: _Task, error: ChromaError) -> ChromaError:
        assert task.job is not None
        return task.life.give_up(task.job, error, Charged.UNKNOWN)

    # --- collect -----------------------------------------------------------------------------------------

    def _bring_home(self, task: _Task) -> None:
        task.collecting = True
        self._launch_soon()
        self._collects.add(0.0, lambda: self._attempt(task, self._save))

    def _save(self, task: _Task) -> None:
        assert task.job is not None
        assert task.deadline is not None
        if wait := self.gate.wait:
            self._collects.add(wait, lambda: self._attempt(task, self._save))
            return
        deadline = Deadline(self._clock, max(task.deadline.remaining, _COLLECT_SECONDS))
        try:
            place = self._check_place(task.work, task.work.destination)
            done = task.life.collect(task.job, place, deadline)
        except InWork as error:
            self._park(task, error)
            return
        self.gate.answered()
        self._end(task, done=done)

    # --- the end of one ----------------------------------------------------------------------------------

    def _end(self, task: _Task, *, error: ChromaError | None = None, done: Done | None = None) -> None:
        if done is not None:
            task.job = done.job
            error = _displaced(done)
        elif error is not None and isinstance(error.record, JobRow):
            task.job = error.record
        found = ""
        if error is not None and task.job is not None:
            now = task.life.book.now(task.job)
            if now.state == "saved":
                task.job, error, found = now, None, "finished by another process"
        cost, unknown = self._count(_money(task))
        again = isinstance(error, GenerationFailed) and task.wish.again < self._options.retry_failed
        if again and not self._over:
            fresh = replace(task.work, job=None, instead_of=None)
            self._leave(task, _Wish(fresh, task.wish.again + 1))
            return
        if isinstance(error, _HOPELESS) and task.work.job is None:
            self.halt(error)
        if error is not None and self._options.fail_fast:
            self.stop()
        saved = done.saved if done is not None else ()
        self._leave(task, None, Ended(task.work, task.job, saved, error, cost, unknown, found))

    def _put_back(self, task: _Task) -> None:
        """It was not sent, and will not be in this run."""
        self._leave(task, task.wish)

    def _count(self, money: tuple[float, float]) -> tuple[float, float]:
        """Add what went for one image, and what may have gone, to the run's."""
        cost, unknown = money
        with self._lock:
            self._spent += cost
            self._unknown += unknown
        return money

    def _lost(self, wish: _Wish, book: Book) -> tuple[float, float]:
        """What went for the job of this run that another process has taken up."""
        return (0.0, 0.0) if wish.lost is None else self._count(_dollars(book.now(wish.lost)))

    def _wait_for_money(self, task: _Task, error: LimitError, ends: int) -> None:
        """A limit is in the way. It may give room again when a job in flight ends; ``ends`` had ended when it
        was asked."""
        with self._lock:
            if isinstance(error, PriceNotKnown):
                self._unpriced.add(work_of(task.work.request))
            if self._ends != ends:
                pass  # it may be otherwise by now, so it is asked again
            elif isinstance(error, PriceNotKnown):
                self._price = error
            else:
                self._short = error
        self._leave(task, task.wish, short=True)

    def _leave(
        self, task: _Task, wish: _Wish | None, ended: Ended | None = None, *, short: bool = False
    ) -> None:
        """Take a task out of flight; ``wish`` goes back to the front of the queue. ``short``: for want of
        money."""
        with self._lock:
            del self._flying[id(task)]
            if wish is not None:
                self._queue.appendleft(wish)
            if not short:
                self._ends += 1
                self._short = self._price = None
            self._ended.put(ended)  # with None, too, whoever waits looks at what is left
        self._launch_soon()


def _no_gateway(page: WebPage) -> ChromaError:
    """The end of a run whose submits are answered by pages."""
    said = f": {page.title}" if page.title else ""
    stop = "" if said.endswith((".", "!", "?")) else "."
    error = BadReply(
        f"{_MOST_PAGES} submits in a row were answered by a web page in place of the gateway"
        f" ({page.status}){said}{stop}",
        hint="Sign in to the network in a browser, or check the proxy and the gateway's address. Then the"
        " same command goes on; with --resubmit-unknown it sends again what is unknown, which may pay twice.",
    )
    error.page = page
    return error


def _left_behind(task: _Task) -> Ended:
    """An image in flight as it is when the run ends."""
    job = task.job
    assert job is not None
    error: ChromaError
    if job.request_id is not None:
        words = "The run ended before it was saved; its job goes on, and is charged when it completes."
        error = NotFinished(words, charged=job.charged)
    else:
        error = OutcomeUnknown("The run ended before the gateway said whether it took the job.")
    error.about(request_id=job.request_id, job=job.number or None)
    cost, unknown = _money(task)
    return Ended(task.work, job, (), error, cost, unknown)


def _money(task: _Task) -> tuple[float, float]:
    """Return the dollars that a job of this run cost, and those that it may have cost."""
    job = task.job
    return (0.0, 0.0) if job is None or task.work.job is not None else _dollars(job)


def _dollars(job: JobRow) -> tuple[float, float]:
    counted = budget.counted(job)
    return (0.0, counted) if job.charged is Charged.UNKNOWN else (counted, 0.0)


def _displaced(done: Done) -> ChromaError | None:
    """The error for pictures that had to give way to another file; they are saved all the same."""
    away = [one.file for one in done.saved if one.file.displaced_from]
    if not away:
        return None
    words = ", ".join(f"{one.displaced_from} appeared meanwhile, saved as {one.path}" for one in away)
    error = OutputExists(
        f"Not saved under the name that was asked for: {words}.",
        hint="The picture is whole; move it if you like.",
        request_id=done.job.request_id,
        job=done.job.number or None,
        charged=Charged.YES,
    )
    error.record = done.job
    return error
