"""A batch while it runs: the engine put together, a line for each image, the lock kept up to date."""

from __future__ import annotations

import contextlib
import copy
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chroma_cli import text
from chroma_cli.cli import render
from chroma_cli.cli.watch import Watch
from chroma_cli.clock import Deadline
from chroma_cli.errors import (
    ChromaError,
    ExitCode,
    Interrupted,
    OutcomeUnknown,
    OutputExists,
    SomeFailed,
    SomeUnfinished,
    TerminationRequest,
    stopped,
    unexpected,
)
from chroma_cli.jobs.planning import Work
from chroma_cli.jobs.records import JobRow
from chroma_cli.jobs.summary import Line, Outcome

if TYPE_CHECKING:
    from chroma_cli.cli.batchopts import Asked
    from chroma_cli.cli.context import Run
    from chroma_cli.cli.output import Board
    from chroma_cli.images.destination import Destination
    from chroma_cli.jobs.batch import Batch, Ended, Found
    from chroma_cli.jobs.capacity import Room
    from chroma_cli.jobs.lifecycle import Lifecycle
    from chroma_cli.jobs.lock import Lock
    from chroma_cli.jobs.manifest import Image
    from chroma_cli.jobs.planning import Plan, Standing
    from chroma_cli.jobs.upkeep import StatCache

#: Writing the lock takes at most this share of the time.
_SAVING_SHARE: Final = 1 / 20
_GLANCE: Final = 0.2
#: How long a program that was told to stop waits for the ids of submits that are out (seconds).
_FOR_IDS: Final = 10.0


RUN_AGAIN: Final = (
    "Run the same command again: what is made is not made again, and jobs in flight are taken up."
)


class BatchWatch(Watch):
    """As for one job, but a 429 closes the gate for all, and states are not told one by one."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.output, self._seen)
        self.batch: Batch | None = None
        self.credits: float | None = None

    def _seen(self, value: float) -> None:
        self.credits = value

    def __call__(self, event: object) -> None:
        from chroma_cli.gateway import events
        from chroma_cli.jobs import progress

        if isinstance(event, events.Throttled):
            if self.batch is not None:
                self.batch.gate.throttled(event.seconds)
        elif not isinstance(event, progress.StateChanged | progress.Waiting | events.Retrying):
            super().__call__(event)


# --- the run ---------------------------------------------------------------------------------------------


@dataclass
class Making:
    """Making the images of a plan, and keeping the lock up to date meanwhile. ``look`` looks at files, lock
    and ledger anew."""

    run: Run
    asked: Asked
    images: dict[str, Image]
    folder: Path
    lock: Lock | None
    cache: StatCache
    total: int
    look: Callable[[Sequence[Image]], tuple[Sequence[Standing], Plan]]
    lines: list[Line] = field(default_factory=list)
    errors: list[ChromaError] = field(default_factory=list)
    watch: BatchWatch = field(init=False)
    room: Room = field(init=False)
    _saved_at: float = 0.0
    _save_took: float = 0.0
    _told_limits: bool = False
    _told_of_wait: bool = False

    def __post_init__(self) -> None:
        self.watch = BatchWatch(self.run)

    def prepare(self) -> None:
        """What the run needs before its first image; raises where there is no key."""
        from chroma_cli.jobs import capacity

        self.room = capacity.room()  # before there are threads
        self.run.watch = self.watch  # before the client, which talks to it
        self.run.client.stay_in_thread()

    def make(self, works: Sequence[Work]) -> None:
        """Everything from the first submit to the last picture; the caller says how it went."""
        run = self.run
        watch = self.watch
        batch = watch.batch = self._batch([self._taken_up(work) for work in works])
        started = self._saved_at = run.clock.monotonic()
        batch.start()
        try:
            with run.output.board() as board:
                while not batch.finished:
                    try:
                        ended = batch.next(_GLANCE)
                        with self._halting(batch):
                            if ended is not None:
                                self._take(ended)
                            else:
                                self._get_ready(batch)
                            self._show(board, batch, started)
                            self._tell_limits(batch)
                            self._save_now_and_then()
                    except TerminationRequest:
                        raise
                    except KeyboardInterrupt:
                        if batch.stopping or not self.asked.finishes:
                            raise
                        batch.stop()
                        run.output.warning(f"Stopping: {_in_flight(batch)} Ctrl-C again: leave at once.")
        except KeyboardInterrupt as stop:
            if not batch.stopping or isinstance(stop, TerminationRequest):
                self._hear_ids(batch)
            batch.close()
            with self._halting(batch):
                self.save()
            raise self._left(stop, batch) from None
        finally:
            batch.close()
            with self._halting(batch):
                self.save()
            if watch.credits is not None:
                run.book.note_credits(watch.credits, run.gateway_name)

    @contextlib.contextmanager
    def _halting(self, batch: Batch) -> Iterator[None]:
        """What goes wrong inside ends the run when what is in flight has come home: it is paid for."""
        try:
            yield
        except Exception as error:
            if batch.halted is None and batch.counts.running:
                self.run.output.warning(f"Stopping: {_in_flight(batch)}")
            batch.halt(unexpected(error))

    def left(self, works: Sequence[Work]) -> Sequence[Work]:
        """Those of the works that were not begun."""
        return works if self.watch.batch is None else self.watch.batch.left

    def all_made(self, works: Sequence[Work]) -> bool:
        """Whether nothing is missing and nothing went wrong."""
        batch = self.watch.batch
        return not (self.errors or self.left(works) or (batch is not None and batch.halted))

    def left_behind(self) -> list[Line]:
        """What is in flight when the run ends before it is finished."""
        batch, lines = self.watch.batch, []
        for ended in () if batch is None else batch.unfinished:
            error = ended.error
            assert error is not None
            outcome = _outcome(error)
            lines.append(
                Line(
                    ended.work.key,
                    outcome,
                    unknown=ended.unknown,
                    error=error.message,
                    error_type=error.type,
                )
            )
        return lines

    def _tell_limits(self, batch: Batch) -> None:
        """Say once that less is done at the same time than was wanted."""
        if batch.limited and not self._told_limits:
            self._told_limits = True
            self.run.output.warning(
                "The system allows few open files, few threads or little memory (ulimit -n, -u, -v): fewer"
                " jobs are sent and saved at the same time."
            )

    def _get_ready(self, batch: Batch) -> None:
        """Nothing has ended lately: load what the pictures will need, and say what is waited for."""
        from chroma_cli.jobs import inscription

        waits_for = batch.waits_for
        if waits_for is not None and not self._told_of_wait:
            self._told_of_wait = True
            self.run.output.warning(f"{waits_for.message} Waiting for it.")
        inscription.prepare()

    def _hear_ids(self, batch: Batch) -> None:
        """Give the submits that are out a moment to be answered; another Ctrl-C ends it."""
        batch.stop()
        patience = Deadline(self.run.clock, _FOR_IDS)
        with contextlib.suppress(KeyboardInterrupt):
            while batch.sending and not patience.passed:
                ended = batch.next(_GLANCE)
                if ended is not None:
                    with self._halting(batch):
                        self._take(ended)

    def _batch(self, works: Sequence[Work]) -> Batch:
        from chroma_cli.jobs.batch import Batch, Options
        from chroma_cli.jobs.budget import Limit

        run, asked, given = self.run, self.asked, self.run.given
        limits = run.limits()
        if asked.budget is not None:
            limits += (Limit("run", asked.budget, run=os.urandom(8).hex()),)
        options = Options(
            jobs=asked.jobs,
            timeout=asked.timeout,
            per_minute=asked.per_minute,
            limits=limits,
            fail_fast=given["fail_fast"],
            retry_failed=asked.retry_failed,
            resubmit_unknown=given["resubmit_unknown"],
        )
        return Batch(
            works,
            options,
            lifecycle=self._lifecycle,
            clock=run.clock,
            look_again=self._look_again,
            check_place=self._check_place,
            room=self.room,
            submitted=self._submitted,
        )

    def _lifecycle(self, resumed: bool) -> Lifecycle:
        run = self.run
        life = run.lifecycle
        life.attempts = 1
        life.pictures.resumed = resumed
        life.pictures.promised = lambda job: _Promised(run, job)
        return life

    def _look_again(self, work: Work) -> Work | Found:
        """How an image stands by now, after another process has been at its place. Raises what is in the
        way."""
        from chroma_cli.jobs.batch import Found

        if self.lock is not None:
            self.lock.refresh()
        standings, plan = self.look([self.images[work.key]])
        if plan.blocked:
            raise plan.blocked[0][1]
        if not plan.works:
            return Found(standings[0].maker)
        return replace(self._taken_up(plan.works[0]), planned_at=work.planned_at)

    def _submitted(self, work: Work, job: JobRow) -> None:
        """Have what is in flight in the lock, too, and on disk before anything else is done with it: the
        ledger may go down with its machine, and an older one come back."""
        self._note_in_flight(work, job)
        batch = self.watch.batch
        if self.lock is not None and batch is not None:
            with self._halting(batch):
                self.lock.save()

    def _note_in_flight(self, work: Work, job: JobRow) -> None:
        """Note a job in flight in the lock. The practice gateway goes with its ledger."""
        practises = self.run.settings.sandbox.value
        if self.lock is not None and job.request_id is not None and not practises:
            at = job.submitted_at if job.submitted_at is not None else self.run.clock.wall()
            self.lock.submitted(self.images[work.key], job.request_id, job.base_url, at)

    def _taken_up(self, work: Work) -> Work:
        """Have the ledger know a job that only the lock knew."""
        job = work.job
        if job is None:
            return work
        if job.number == 0:
            job = self.run.lifecycle.adopt(job, work.request, work.destination)
            self.run.output.warning(
                f"{work.key}: request {job.request_id} for it is in flight by the lock, and the job ledger"
                " did not know it. It is taken up, not paid for again."
            )
        self._note_in_flight(work, job)
        return replace(work, job=job)

    def _check_place(self, work: Work, place: Destination) -> Destination:
        """Only what is still a batch's own is replaced: somebody may have changed it meanwhile."""
        from chroma_cli.jobs.upkeep import inspect

        if not place.overwrite or self.run.given["overwrite"]:
            return place
        state = inspect(self.images[work.key], self.lock, deep=False, stat_cache=self.cache)
        return replace(place, overwrite=state not in ("edited", "foreign"))

    # --- one image ---------------------------------------------------------------------------------------

    def _take(self, ended: Ended) -> None:
        """Note in the lock, keep for the summary, and tell. Raises :class:`OutputError` when stdout cannot be
        written."""
        run, image, job = self.run, self.images[ended.work.key], ended.job
        error = ended.error
        if ended.found and job is None:  # only the lockfile knows of it
            for path in image.paths:
                run.output.result(str(path))
        made = job is not None and job.state == "saved"
        if self.lock is not None and (job is None or job.settled or job.request_id is None):
            self.lock.settled((image.key,))
        if made and error is None and job is not None:
            if self.lock is not None:
                from chroma_cli.jobs.planning import record

                record(self.lock, image, job)
            for file in job.files.values():
                self.cache.remember(Path(str(file["path"])), str(file["sha256"]))
        self._note(image, ended)
        if job is not None and run.output.json:
            run.output.result("", render.job_object(job))
        elif made and job is not None:
            for file in job.files.values():
                run.output.path(str(file["path"]))

    def _note(self, image: Image, ended: Ended) -> None:
        job, error = ended.job, ended.error
        seconds = job.timings.whole() if job is not None else None
        saved = job.files.values() if job is not None else ()
        files = tuple(os.path.relpath(str(file["path"]), self.folder) for file in saved)
        if error is not None:
            self.fail(image, error, cost=ended.cost, unknown=ended.unknown, seconds=seconds, files=files)
            return
        self.lines.append(Line(image.key, "made", ended.cost, seconds, files, unknown=ended.unknown))
        words = ended.found or (render.saved_words(job) if job is not None else "")
        self.run.output.step(f"{self._place()} {image.key}: {words}")

    def fail(
        self,
        image: Image,
        error: ChromaError,
        *,
        cost: float = 0.0,
        unknown: float = 0.0,
        seconds: float | None = None,
        files: tuple[str, ...] = (),
    ) -> None:
        """An image that was not made, or only in part, told at once and kept for the summary."""
        words = error.message
        if files and not isinstance(error, OutputExists):  # which names them
            words = f"{_sentence(words)} Saved of it: {', '.join(files)}."
        self.errors.append(error)
        outcome = _outcome(error)
        self.lines.append(
            Line(image.key, outcome, cost, seconds, files, words, error.hint, error.type, unknown)
        )
        hint = f" {error.hint}" if error.hint else ""
        self.run.output.trouble(f"{self._place()} {image.key}: {_sentence(words)}{hint}")

    def _place(self) -> str:
        return f"[{len(self.lines)}/{self.total}]"

    def _show(self, board: Board, batch: Batch, started: float) -> None:
        counts = batch.counts
        done, failed = len(self.lines), len(self.errors)
        ended = done - failed
        left = counts.queued + counts.running
        elapsed = self.run.clock.monotonic() - started
        eta = elapsed / ended * left if ended and left else None
        words = f"{counts.running} running · {counts.queued} queued · {failed} failed"
        if batch.gate.wait > 1:
            words += f" · rate limited, {text.seconds(batch.gate.wait)}"
        if eta is not None:
            words += f" · ETA {text.seconds(eta)}"
        words += f" · {text.money(counts.spent)} spent"
        if counts.unknown:
            words += f" · {text.money(counts.unknown)} unknown"
        if self.asked.budget is not None:
            words += f" of {text.money(self.asked.budget)}"
        if self.watch.credits is not None:
            words += f" · ${self.watch.credits:.2f} left"
        board.update(done, self.total, words)

    def save(self) -> None:
        """Write the lock. Raises OutputError."""
        if self.lock is not None:
            self.lock.save()
        self.cache.save()

    def _save_now_and_then(self) -> None:
        """Write the lock, as often as it takes next to none of the time: whatever stops the program, it shall
        know what was made."""
        now = self.run.clock.monotonic()
        if self.lock is not None and now - self._saved_at >= self._save_took / _SAVING_SHARE:
            self._saved_at = now
            self.lock.save()
            self._saved_at = self.run.clock.monotonic()
            self._save_took = self._saved_at - now

    def _left(self, stop: KeyboardInterrupt, batch: Batch) -> ChromaError:
        if batch.halted is not None:
            self.run.output.trouble(batch.halted.message)
        behind = [ended.error for ended in batch.unfinished]
        sending = sum(isinstance(error, OutcomeUnknown) for error in behind)
        running = len(behind) - sending
        going = "1 job goes on" if running == 1 else f"{running} jobs go on" if running else "no job goes on"
        parts = [f"{going} at the gateway"] if running or not sending else []
        hint = "Run the same command again: it takes up where this one stopped, without paying again."
        if sending:
            parts.append(f"{sending} {'submit was' if sending == 1 else 'submits were'} not answered yet")
            hint += (
                " What was not answered is not sent again by itself, because it may be paid for already:"
                " see chroma jobs --pending."
            )
        return stopped(
            stop,
            f": {', and '.join(parts)}. Each job that completes is charged; the job ledger knows them all.",
            hint=hint,
        )


def _in_flight(batch: Batch) -> str:
    running = batch.counts.running
    jobs = "1 job in flight is" if running == 1 else f"{running} jobs in flight are"
    return f"{jobs} finished first, no other is submitted."


class _Promised:
    """The places of other jobs, read only when somebody asks."""

    def __init__(self, run: Run, job: JobRow) -> None:
        self._run = run
        self._job = job

    def __contains__(self, path: object) -> bool:
        return path in self._run.book.promised(self._job)


# --- how it went -----------------------------------------------------------------------------------------


def conclude(making: Making, left: Sequence[Work], total: int) -> None:
    """End the command: nothing when all is made, else the error that says it all."""
    errors, batch = making.errors, making.watch.batch
    if batch is not None and batch.halted is not None:
        raise batch.halted if total == 1 else _of_all(batch.halted, making, len(left), total)
    if batch is not None and batch.stopping and not making.run.given["fail_fast"]:
        begun = f"{len(left)} of {total} images were not begun" if left else "every image was begun"
        raise Interrupted(
            f"Interrupted: what was in flight is finished; {begun}.",
            hint=RUN_AGAIN,
        )
    if not errors:
        return
    if total == 1:
        raise errors[0]
    failed = [error for error in errors if error.exit_code is not ExitCode.NOT_FINISHED]
    if not failed and not left:
        raise SomeUnfinished(f"{len(errors)} of {total} images are not finished yet.", hint=RUN_AGAIN)
    begun = f", and {len(left)} were not begun" if left else ""
    raise SomeFailed(
        f"{len(errors)} of {total} images were not made{begun}.",
        hint=f"The reasons are above. {RUN_AGAIN}",
    )


def _of_all(error: ChromaError, making: Making, left: int, total: int) -> ChromaError:
    """What one job was told, as the end of a whole run that it stopped."""
    outcomes = Counter(_outcome(one) for one in making.errors)
    others = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    words = _sentence(error.message)
    if left:
        words += f" {left} of {total} images were not begun" + (f", {others}." if others else ".")
    elif others:
        words += f" Of {total} images {others}."
    whole = copy.copy(error)
    whole.message = words
    whole.job = whole.request_id = whole.record = None
    whole.charged = making.run.spending.charged
    whole.__cause__ = error
    return whole


def _outcome(error: ChromaError) -> Outcome:
    """How an image ended that was not made."""
    if error.exit_code is ExitCode.NOT_FINISHED:
        return "unfinished"
    return "unknown" if isinstance(error, OutcomeUnknown) else "failed"


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
