"""A job from the wish to the file, as steps: intend, submit, wait, collect.

Each step takes the job's row and returns it as it is afterwards, recorded in the ledger *before* the next
step begins; ``generate`` is nothing but these steps in a row, and the other commands join in where they need.
Whatever ends a step early leaves as a :class:`ChromaError` that names the job, says whether money went, and
how to go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.clock import Clock, Deadline
from chroma_cli.errors import (
    BadReply,
    BrokenImage,
    Charged,
    ChromaError,
    Expired,
    GenerationFailed,
    NetworkError,
    NotFinished,
    NotFound,
    OutcomeUnknown,
    OutputError,
    RateLimited,
    Retired,
    Unavailable,
    unexpected,
)
from chroma_cli.images import preflight
from chroma_cli.images.destination import Destination
from chroma_cli.jobs import inscription, outcomes, polling
from chroma_cli.jobs.book import Book
from chroma_cli.jobs.budget import Limit, PriceNotKnown
from chroma_cli.jobs.pace import SETTLING, Pace
from chroma_cli.jobs.pictures import Pictures, Saved
from chroma_cli.jobs.progress import Done, StateChanged, Waiting, Warned
from chroma_cli.jobs.records import PLAIN_LOOK, Intent, InWork, JobRow, LastLook, Timings
from chroma_cli.request.builder import ImageRequest

if TYPE_CHECKING:
    from chroma_cli.gateway.client import Client
    from chroma_cli.gateway.pending import Pending
    from chroma_cli.gateway.replies import Metrics, Result, Submitted
#: The first Ctrl-C while a submit is out waits this long for its id (seconds).
GRACE: Final = 10.0
#: A poll answered within this many seconds counts as contact when the deadline passes.
CONTACT: Final = 60.0
#: The client gives up when its next try would come after the deadline; it waits at most this long (seconds).
_LAST_TRY: Final = 8.0
#: So long before the deadline comes the last poll, at most (seconds); the picture has to be saved as well.
_LAST_POLL: Final = 5.0
_TICK: Final = 0.25
#: Between looks whether the price of such work is known by now: these seconds, doubled up to four times.
_PRICE_WAIT: Final = 0.25
#: The result of a job that is completed may be behind its status for so long (seconds).
_BEHIND: Final = 60.0


@dataclass
class Lifecycle:
    """The steps, on one gateway and one ledger.

    ``gateway_name`` is what the ledger calls this gateway: its base URL, or "sandbox", whose address changes.
    ``fetch_command`` turns an id or number, with options, into the command that brings the job home.
    """

    client: Client
    book: Book
    pictures: Pictures
    clock: Clock
    observe: Callable[[object], None]
    gateway_name: str
    fetch_command: Callable[..., str]
    expectation: polling.Expectation | None = None
    #: Tries of one poll, for callers that come back themselves; by default as often as the deadline allows.
    attempts: int | None = None
    #: When its submit was answered, if that was in this process.
    _sent: float | None = field(default=None, init=False)
    _answered: float | None = field(default=None, init=False)
    #: When the gateway said that the job is done.
    _done: float | None = field(default=None, init=False)
    _destination: Destination | None = field(default=None, init=False)

    # --- the money rule ----------------------------------------------------------------------------------

    def generate(
        self,
        request: ImageRequest,
        destination: Destination,
        deadline: Deadline,
        *,
        limits: tuple[Limit, ...] = (),
        since: float | None = None,
        resubmit_unknown: bool = False,
    ) -> Done:
        """Submit, wait, save. The ledger knows each step before the next one is taken."""
        look = LastLook(since=since, resubmit_unknown=resubmit_unknown)
        job = self.intend(request, destination, limits=limits, look=look, deadline=deadline)
        if job.fetchable:
            return self._bring_taken_up(job, destination, deadline)
        job = self.submit(job, deadline, resubmit_unknown=resubmit_unknown)
        return self.bring_home(job, destination, deadline)

    def bring_home(self, job: JobRow, destination: Destination, deadline: Deadline) -> Done:
        """From an accepted job to its files."""
        try:
            job = self.wait(job, deadline)
            return self.collect(job, destination, deadline)
        except (NotFound, NotFinished, Unavailable):
            now = self.book.now(job)
            if now.state != "saved":
                raise
            return Done(now)  # by another process, which took it up while this one slept
        except InWork as error:
            raise error.told from error

    def _bring_taken_up(self, job: JobRow, destination: Destination, deadline: Deadline) -> Done:
        """From a job that another process has submitted to its files, at the place that it has by now."""
        with contextlib.suppress(OutputError):
            destination = Destination.from_dict(job.destination or {})
        self.pictures.resumed = True
        return self.bring_home(job, destination, deadline)

    def collect(
        self,
        job: JobRow,
        destination: Destination,
        deadline: Deadline,
        *,
        keep: frozenset[int] | None = None,
    ) -> Done:
        """From a finished job to its files: write the addresses down, then download, check, put in place.

        ``keep`` names the samples that are in place, by default those that the ledger has as saved. Recorded
        addresses are used first: they may be good for longer than the result itself (7 days against 1 hour).
        """
        held = self.book.hold(job)
        if held is None:
            raise InWork(job)
        if held.state == "saved" and job.state != "saved":  # another process took it up while this one slept
            return Done(held)
        keep = frozenset(job.files) if keep is None else keep
        with self._ending_early(job, Charged.YES) as now:
            if not job.sources:
                self._locate(now, destination, deadline)
            try:
                self._save(now, destination, deadline, keep)
            except (NotFound, BrokenImage) as error:
                if isinstance(error, BrokenImage) and now.job.sources:
                    raise  # it was downloaded several times already
                if now.job.request_id is None:
                    raise  # a blocking call without an id: there is nobody to ask again
                self._locate(now, destination, deadline)
                self._save(now, destination, deadline, keep.union(one.index for one in now.saved))
            now.job = self.book.saved(now.job)
            self.book.finish(now.job)
        if self.pictures.resumed:
            self.pictures.sweep(now.job, destination)
        self.observe(StateChanged(now.job))
        return Done(now.job, tuple(now.saved))

    def ask(self, job: JobRow, deadline: Deadline) -> JobRow:
        """One question after a job that somebody else may be waiting for; its answer is recorded.

        Raises GenerationFailed, Expired, NotFound, and what the client does.
        """
        with self._ending_early(job, job.charged) as now:
            now.job = job = self.poll(job, deadline)
        return job

    # --- intend ------------------------------------------------------------------------------------------

    def intend(
        self,
        request: ImageRequest,
        destination: Destination | None,
        *,
        mode: str = "async",
        limits: tuple[Limit, ...] = (),
        look: LastLook = PLAIN_LOOK,
        instead_of: JobRow | None = None,
        deadline: Deadline | None = None,
    ) -> JobRow:
        """Write down what is about to be sent, and where its picture is to go.

        Returns a job with an id where one of the same request was in flight already. ``instead_of`` is a job
        whose request, as it was, is sent again. Until the ``deadline``, a job that has to tell the price
        first is waited for, while anybody works on it. Raises as :meth:`Book.begin`.
        """
        intent = self._intent(request, destination, mode)
        if instead_of is not None:
            intent = replace(intent, request=instead_of.request or {})
        outright = destination is not None and destination.kind == "file"
        if look.check is None and destination is not None:
            # a name from a template gives way when it is taken; what is to be replaced may be another by now
            fixed = outright and not destination.overwrite
            look = replace(
                look,
                check=partial(preflight.check_again, destination),
                since=look.since if fixed else None,
            )
        tries = 0
        while True:
            try:
                job = self.book.begin(
                    intent,
                    limits=limits,
                    exclusive=outright,
                    look=look,
                    instead_of=instead_of.number if instead_of is not None else None,
                )
            except PriceNotKnown as error:
                first = error.waits_for
                error.hint = f"Nothing was sent. {self._pick_up(first, '--wait')}"
                if deadline is None or deadline.passed or not error.awaited:
                    raise
                if not tries:
                    self.observe(Warned(f"{error.message} Waiting for it."))
                self.clock.sleep(min(_PRICE_WAIT * 2 ** min(tries, 4), deadline.remaining))
                tries += 1
            else:
                break
        if job.fetchable:
            self.observe(
                Warned(f"Job {job.number} is this very request and in flight already: it is taken up.")
            )
        self.observe(StateChanged(job))
        return job

    def adopt(self, job: JobRow, request: ImageRequest, destination: Destination) -> JobRow:
        """Write down a job that another ledger knew, with its request and its place."""
        return self.book.adopt(job, self._intent(request, destination))

    def _intent(self, request: ImageRequest, destination: Destination | None, mode: str = "async") -> Intent:
        width, height = request.size
        return Intent(
            base_url=self.gateway_name,
            request=request.payload(),
            expected_cost=request.expected_cost,
            mode="sync" if mode == "sync" else "async",
            destination=self._remembered(destination),
            promised=destination.promises() if destination is not None else (),
            seed=request.seed if request.seed >= 0 else None,
            steps=request.steps,
            pixels=width * height,
            samples=request.samples,
        )

    def _remembered(self, destination: Destination | None) -> dict[str, Any] | None:
        """The place as the ledger keeps it, and what is to be written into the pictures."""
        if destination is None:
            return None
        return {**destination.as_dict(), "metadata": self.pictures.metadata or inscription.DEFAULT}

    # --- submit ------------------------------------------------------------------------------------------

    def submit(self, job: JobRow, deadline: Deadline, *, resubmit_unknown: bool = False) -> JobRow:
        """The one billable call. Its id is written down the moment it is known. A job that was taken up is
        not sent again."""
        if job.fetchable:
            return job
        with self._ending_early(job, Charged.NO) as now:
            pending = self.client.begin_submit(
                dict(job.request or {}), deadline, resubmit_unknown=resubmit_unknown
            )
            stopped: KeyboardInterrupt | None = None
            try:
                answer = pending.wait()
            except KeyboardInterrupt as stop:
                stopped = stop
                answer = self._last_words(pending, now)
            except Exception as error:
                ended = self._broken_off(pending, now, error)
                raise ended from ended.__cause__
            if answer is not None:
                now.job = job = self._accepted(job, answer)
                now.charged = Charged.UNKNOWN
            if stopped is not None:
                raise stopped
        self.observe(StateChanged(job))
        return job

    def open_submit(
        self, job: JobRow, deadline: Deadline, *, resubmit_unknown: bool = False
    ) -> Pending[Submitted]:
        """The same call for :meth:`send`, which sits out no waits."""
        return self.client.begin_submit(dict(job.request or {}), deadline, resubmit_unknown=resubmit_unknown)

    def send(
        self, job: JobRow, pending: Pending[Submitted], turn: AbstractContextManager[object]
    ) -> JobRow | None:
        """One send, within ``turn``; None when it is to be sent again ``pending.resume_in`` seconds from
        now."""
        with self._ending_early(job, Charged.NO) as now:
            try:
                with turn:
                    answer = pending.send()
            except Exception as error:
                ended = self._broken_off(pending, now, error)
                raise ended from ended.__cause__
            if answer is None:
                return None
            now.job = job = self._accepted(job, answer)
        self.observe(StateChanged(job))
        return job

    def _accepted(self, job: JobRow, answer: Submitted) -> JobRow:
        self._sent = self.clock.monotonic()
        return self.book.submitted(job, answer.request_id, answer.remaining_credits, answer.taken_at)

    def take_back(self, job: JobRow, pending: Pending[Submitted], why: ChromaError) -> ChromaError:
        """Send it no more. To be called when no send is out; the error says how it was left."""
        try:
            with self._ending_early(job, Charged.NO) as now:
                why.charged = pending.abandon()
                self._not_accepted(now, why)
                raise why
        except ChromaError as error:
            return error

    def _last_words(self, pending: Pending[Submitted], now: _Now) -> Submitted | None:
        """Stopped while the submit is out: its id decides between a job and a mystery, so wait for it."""
        if pending.in_flight:
            self.observe(
                Warned(f"Stopping when the job's id is known, {GRACE:.0f} s at most. Again: at once.")
            )
        try:
            answer = pending.settle(GRACE)
        except KeyboardInterrupt:
            pending.abandon()
            answer = None
        except ChromaError as error:
            self._not_accepted(now, error)
            return None
        if answer is None:
            self._give_up(pending, now)
        return answer

    def _broken_off(self, pending: Pending[Any], now: _Now, error: Exception) -> ChromaError:
        """Record why the call gave no answer. For an error that nobody foresaw, what that means depends on
        whether the call went out."""
        ended = unexpected(error)
        if ended is not error:
            ended.charged = pending.abandon()
        self._not_accepted(now, ended)
        return ended

    def _give_up(self, pending: Pending[Any], now: _Now) -> None:
        """Nobody waits for the answer any more; whether the call went out decides what that means."""
        if pending.abandon() is Charged.NO:
            self._not_accepted(now, NetworkError("Stopped before anything was sent."))
        else:
            self._not_accepted(
                now, OutcomeUnknown("Stopped before the gateway said whether it took the job.")
            )

    def _not_accepted(self, now: _Now, error: ChromaError) -> None:
        """Record a submit without a job, or one that may have made a job unheard."""
        now.charged = error.charged
        error.about(job=now.job.number or None)
        if error.charged is Charged.NO:
            now.job = self.book.unsent(now.job, error.as_dict())
        else:
            now.job = self.book.unknown(now.job, error.as_dict())

    # --- wait --------------------------------------------------------------------------------------------

    def wait(self, job: JobRow, deadline: Deadline) -> JobRow:
        """Poll until it is done. Raises GenerationFailed, NotFinished, Expired and what the client does."""
        if job.state == "completed":
            return job
        with self._ending_early(job, Charged.UNKNOWN) as now:
            pace = Pace(self.clock, job, self._expected(job))
            self.pictures.prepare()
            while True:
                self._pause(pace, job, deadline)
                now.job = job = self.poll(job, deadline, pace)
                if job.state == "completed":
                    return job

    def poll(self, job: JobRow, deadline: Deadline, pace: Pace | None = None) -> JobRow:
        """Ask once (with the client's retries) and record the answer; the state is "completed" at the end."""
        assert job.request_id is not None
        try:
            status = self.client.status(job.request_id, deadline, attempts=self.attempts)
        except NotFound as error:
            if pace is not None and pace.settling and not isinstance(error, Retired):
                pace.missing = error
                return job
            raise self._not_found(job, error) from error
        except RateLimited:
            raise
        except Unavailable as error:
            raise self.out_of_time(job, deadline, error) if self._at_the_end(deadline) else error from error
        self._answered = self.clock.monotonic()
        if status.state == "FAILED":
            raise outcomes.failed(job, status.error)
        if status.state == "COMPLETED":
            self._done = self._answered
            # not recorded yet: the result's addresses come first, in one step with it
            job = replace(job, state="completed", charged=Charged.YES)
            self.observe(StateChanged(job))
            return job
        if pace is not None:
            pace.missing = None
        before = job.state
        job = self.book.progress(job, "queued" if status.state == "QUEUED" else "processing")
        if pace is not None:
            pace.saw(job.state)
        if job.state != before:
            self.observe(StateChanged(job))
        return job

    def _expected(self, job: JobRow) -> polling.Expectation:
        return self.expected(ImageRequest.from_payload(job.request) if job.request else None)

    def expected(self, request: ImageRequest | None) -> polling.Expectation:
        """How long such a job takes, as far as the ledger knows; else as documented."""
        if request is not None and request.steps:
            width, height = request.size
            seen = self.book.learnt(self.gateway_name, request.steps, width * height, request.samples)
            learnt = polling.Expectation.learnt(seen)
            if learnt is not None:
                return learnt
        if self.expectation is not None:
            return self.expectation
        return polling.Expectation.documented(request.workload if request is not None else 1.0)

    def _pause(self, pace: Pace, job: JobRow, deadline: Deadline) -> None:
        """Sleep until the next poll, telling the observer now and then; raises when the deadline passes."""
        wait = pace.next_wait()
        last = min(_LAST_POLL, deadline.seconds / 10)
        if wait > deadline.remaining > 2 * last:
            wait = deadline.remaining - last  # what is done by then shall not be missed
        end = self.clock.monotonic() + wait
        while (left := min(end - self.clock.monotonic(), deadline.remaining)) > 0:
            self.observe(Waiting(job, pace.since_submit, pace.expected.typical))
            self.clock.sleep(min(left, _TICK))
        if deadline.passed:
            if pace.missing is not None:
                raise self._not_found(job, pace.missing) from pace.missing
            raise self.out_of_time(job, deadline, None)
        if pace.heartbeat_due():
            self.book.heartbeat(job)

    def _at_the_end(self, deadline: Deadline) -> bool:
        return deadline.remaining <= _LAST_TRY

    def out_of_time(self, job: JobRow, deadline: Deadline, error: Unavailable | None) -> ChromaError:
        """Return the end of a job whose deadline has passed; ``error`` is the last answer's, if it was none.

        7 when the gateway was heard of lately, else 9: then it is the gateway that is in trouble.
        """
        contact = self._answered is not None and self.clock.monotonic() - self._answered <= CONTACT
        if error is None:
            return NotFinished(f"Not finished within {deadline.seconds:.0f} s; the job goes on.")
        if contact:
            return NotFinished(
                f"Not finished within {deadline.seconds:.0f} s; the job goes on. The last answer was of no "
                f"use: {error.message}",
                hint=error.hint,
            )
        what = f"No usable answer until the deadline of {deadline.seconds:.0f} s"
        return error if error.message.startswith(what) else _said_again(error, what)

    # --- locate ------------------------------------------------------------------------------------------

    def _locate(self, now: _Now, destination: Destination, deadline: Deadline) -> None:
        """Get the result and write its addresses down, before anything is downloaded.

        Pictures that came inside the answer are kept in temp files for :meth:`_save`.
        """
        result = self._result(now.job, destination, deadline)
        now.job = self._record(now.job, result)
        self._count(now.job, len(result.sources))
        self.pictures.keep(now.job, destination, result.sources)

    def _count(self, job: JobRow, came: int) -> None:
        if job.samples is not None and came != job.samples:
            self.observe(Warned(f"{job.samples} pictures were asked for, {came} came."))

    def _result(self, job: JobRow, destination: Destination, deadline: Deadline) -> Result:
        tries = 0
        behind = Deadline(self.clock, min(_BEHIND, deadline.remaining))
        while True:
            try:
                result = self._ask_result(job, destination, deadline)
            except NotFound as error:
                if isinstance(error, Retired) or behind.passed or not self._may_come(job, error):
                    raise self._not_found(job, error) from error
            except Unavailable as error:
                if error.charged is Charged.YES:  # it says so itself
                    raise
                unread = _said_again(error, "The job is completed, but its result could not be read")
                unread.hint = error.hint or "The gateway keeps it for one hour from the submit."
                raise unread from error
            else:
                if result.state == "FAILED":
                    raise outcomes.failed(job, result.error)
                if result.state == "COMPLETED":
                    return result
                if behind.passed:
                    raise BadReply(
                        f"The job is completed, but its result still says {result.state} after "
                        f"{behind.seconds:.0f} s."
                    )
            # the status route was ahead of the result route
            tries += 1
            self.clock.sleep(min(0.25 * 2**tries, 5.0, behind.remaining))

    def _may_come(self, job: JobRow, error: NotFound) -> bool:
        """Return whether a result that is not found may be there in a moment: the gateway has just said that
        the job is done, and its hour is not over."""
        just_done = self._done is not None and self.clock.monotonic() - self._done < SETTLING
        return just_done and not self._over(job, error)

    def _over(self, job: JobRow, error: NotFound) -> bool:
        sent = self._sent
        return outcomes.hour_is_over(
            job, error, self.clock.wall(), self.clock.monotonic() - sent if sent is not None else None
        )

    def _not_found(self, job: JobRow, error: NotFound) -> NotFound:
        return outcomes.not_found(job, error, over=self._over(job, error), now=self.clock.wall())

    def _ask_result(self, job: JobRow, destination: Destination, deadline: Deadline) -> Result:
        assert job.request_id is not None
        return self.client.result(
            job.request_id,
            deadline,
            sink_factory=self.pictures.sinks(job, destination),
            samples=job.samples,
        )

    def _record(self, job: JobRow, result: Result) -> JobRow:
        metrics: Metrics = result.metrics
        observed = None
        if self._sent is not None:
            observed = self.clock.monotonic() - self._sent
        elif job.submitted_at is not None:
            observed = self.clock.wall() - job.submitted_at
        return self.book.completed(
            job,
            sources=self.pictures.addresses(result.sources),
            seed=result.seed,
            cost=metrics.cost,
            remaining=metrics.remaining_credits,
            timings=_timings(metrics),
            observed=observed,
        )

    # --- save --------------------------------------------------------------------------------------------

    def _save(self, now: _Now, destination: Destination, deadline: Deadline, keep: Container[int]) -> None:
        """Download what is missing, check it, put it in place; each file is recorded once it is there."""
        for one in self.pictures.save_all(now.job, destination, deadline, keep):
            now.job = self.book.saved_file(now.job, one.index, one.record, settle=_is_last(now.job, one))
            now.saved.append(one)
            for words in one.file.warnings:
                self.observe(Warned(words))

    def copy(self, job: JobRow, destination: Destination) -> Done | None:
        """Put copies of the pictures of a saved job there; None when they are not on this disk any more as
        they were saved. Nothing is recorded: the job stays the one that made them."""
        saved = self.pictures.copy(job, destination)
        if saved is None:
            return None
        return Done(replace(job, files={one.index: one.record for one in saved}), saved)

    # --- v1: one blocking call ---------------------------------------------------------------------------

    def generate_sync(
        self,
        request: ImageRequest,
        destination: Destination,
        deadline: Deadline,
        *,
        limits: tuple[Limit, ...] = (),
        since: float | None = None,
    ) -> Done:
        """One v1 call that answers with the picture. There is nothing to fetch again when it goes wrong."""
        look = LastLook(since=since)
        job = self.intend(request, destination, mode="sync", limits=limits, look=look, deadline=deadline)
        if job.fetchable:
            return self._bring_taken_up(job, destination, deadline)
        with self._ending_early(job, Charged.NO) as now:
            self._call(now, destination, deadline)
            self._save(now, destination, deadline, keep=())
            now.job = self.book.saved(now.job)
            self.book.finish(now.job)
        self.observe(StateChanged(now.job))
        return Done(now.job, tuple(now.saved))

    def salvage(self, job: JobRow, destination: Destination, deadline: Deadline) -> Done:
        """Put in place what a blocking call had brought when its program ended: it cannot be had again.

        The pictures are those that :meth:`Pictures.take_up` holds. Raises BrokenImage for one that is not
        whole; it is kept beside its place.
        """
        self._destination = destination
        with self._ending_early(job, Charged.YES) as now:
            self._save(now, destination, deadline, keep=frozenset(job.files))
            self._count(now.job, len(now.job.files))
            now.job = self.book.completed(
                now.job, sources=(), seed=None, cost=None, remaining=None, timings=Timings(), observed=None
            )
            now.job = self.book.saved(now.job)
            self.book.finish(now.job)
        self.observe(StateChanged(now.job))
        return Done(now.job, tuple(now.saved))

    def _call(self, now: _Now, destination: Destination, deadline: Deadline) -> None:
        """The blocking call, from the intent to pictures in temp files."""
        job = now.job
        self._destination = destination
        started = self.clock.monotonic()
        pending = self.client.begin_generate_sync(
            dict(job.request or {}), deadline, self.pictures.sinks(job, destination)
        )
        try:
            answer = pending.wait()
        except KeyboardInterrupt:
            self._give_up(pending, now)
            raise
        except Exception as error:
            ended = self._broken_off(pending, now, error)
            if ended.charged is Charged.UNKNOWN and ended.request_id is not None:
                now.job = self.book.submitted(now.job, ended.request_id, None)  # it can be asked for
            raise ended from ended.__cause__
        assert answer is not None
        if answer.state == "FAILED":
            raise outcomes.failed(job, answer.error)
        now.charged = Charged.YES
        now.job = replace(job, state="completed", charged=Charged.YES)
        self.pictures.keep(job, destination, answer.sources)  # before all else: it cannot be had again
        if answer.request_id is not None:
            job = self.book.submitted(job, answer.request_id, answer.metrics.remaining_credits)
        now.job = job = self.book.completed(
            job,
            sources=self.pictures.addresses(answer.sources),
            seed=answer.seed,
            cost=answer.metrics.cost,
            remaining=answer.metrics.remaining_credits,
            timings=Timings(None, answer.metrics.inference_time, answer.metrics.total_time),
            observed=self.clock.monotonic() - started,
        )
        self._count(job, len(answer.sources))
        self.observe(StateChanged(job))

    # --- ending early ------------------------------------------------------------------------------------

    def give_up(self, job: JobRow, error: ChromaError, charged: Charged) -> ChromaError:
        """End with an error that came from outside the steps: it names the job then, and is recorded."""
        try:
            with self._ending_early(job, charged):
                raise error
        except ChromaError as ended:
            return ended

    @contextlib.contextmanager
    def _ending_early(self, job: JobRow, charged: Charged) -> Iterator[_Now]:
        """Whatever leaves this block names the job, tells the money, and is recorded."""
        now = _Now(job, charged)
        try:
            yield now
        except KeyboardInterrupt as stop:
            error = outcomes.stopped(now.job, stop, now.charged)
            self._conclude(now, error)
            raise error from None
        except ChromaError as error:
            self._conclude(now, error)
            raise
        except Exception as bug:
            ended = unexpected(bug)
            self._conclude(now, ended)
            raise ended from bug

    def _conclude(self, now: _Now, error: ChromaError) -> None:
        """Record how it ended, let go of the job, and complete what the error says."""
        job = now.job
        if isinstance(error, GenerationFailed):
            error.charged = Charged.NO
        elif error.charged is Charged.NO or now.charged is Charged.YES:
            error.charged = now.charged
        error.about(request_id=job.request_id, job=job.number or None)
        error.hint = outcomes.advice(job, error, self._pick_up(job))
        kept = self.pictures.drop(job, self._destination)
        if kept:
            error.hint = f"{error.hint or ''} What came is kept as {', '.join(kept)}.".strip()
        if isinstance(error, GenerationFailed):
            job = self.book.failed(job, error.as_dict())
        elif isinstance(error, Expired):
            job = self.book.expired(job, error.as_dict())
        elif job.mode == "sync" and now.charged is Charged.YES and not (job.sources or _all_saved(job)):
            job = self.book.paid_in_vain(job, error.as_dict())  # there is nothing left to fetch
        elif job.state == "submitting" and now.charged is Charged.NO:
            job = self.book.unsent(job, error.as_dict())
        elif not job.settled:
            if job.state == "completed" and not job.sources:
                job = self.book.ready(job)
            if job.state != "unknown":
                job = self.book.note_error(job, error.as_dict())
            self.book.release(job)
        self.book.finish(job)
        error.record = replace(job, error=error.as_dict(), charged=error.charged)

    def _pick_up(self, job: JobRow, *options: str) -> str:
        return f"Bring it home with: {self.fetch_command(job.request_id or str(job.number), *options)}"


@dataclass
class _Now:
    """Where a step stands: the job as it is by now, whether money went, and what it has saved."""

    job: JobRow
    charged: Charged
    saved: list[Saved] = field(default_factory=list)


def _said_again(error: Unavailable, what: str) -> Unavailable:
    """Return the same error, with what it means for the job before its own words."""
    said = type(error)(f"{what}: {error.message}", hint=error.hint, charged=error.charged)
    said.page = error.page
    return said


def _timings(metrics: Metrics) -> Timings:
    return Timings(metrics.queue_time, metrics.inference_time, metrics.total_time)


def _is_last(job: JobRow, one: Saved) -> bool:
    """Whether with this sample everything that was asked for, and that came by address, is in place. What
    came inside an answer is settled by a step of its own: more may be held than was asked for."""
    awaited = set(range(max(job.samples or 1, len(job.sources))))
    return bool(job.sources) and job.mode == "async" and awaited <= {*job.files, one.index}


def _all_saved(job: JobRow) -> bool:
    return len(job.files) >= (job.samples or 1)
