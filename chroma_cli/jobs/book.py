"""The ledger as the steps of a job see it: written where it can be, and going on where it cannot.

A ledger that is switched off, or that breaks in the middle of a run, must not stop a picture. Every step is
therefore worked out here as well, on a row in memory; the first failure is told once, with what is lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from chroma_cli.clock import Clock
from chroma_cli.errors import Charged, LimitError
from chroma_cli.jobs.budget import Limit
from chroma_cli.jobs.records import (
    PLAIN_LOOK,
    Intent,
    JobRow,
    LastLook,
    LedgerUnusable,
    SeenCredits,
    Timings,
)
from chroma_cli.jobs.spending import Spending

if TYPE_CHECKING:
    from chroma_cli.jobs.entries import Entries

T = TypeVar("T")


class Book:
    """One run's way to the ledger. ``number`` 0 stands for a job that no ledger knows.

    ``required``: no job begins without the ledger. ``thorough``: what a poll says is written down as well,
    and the credits with each answer; with hundreds of jobs in flight that is not worth it. ``spending`` hears
    of every job that is begun or claimed, and of how it goes on.
    """

    def __init__(
        self,
        ledger: Entries | None,
        clock: Clock,
        warn: Callable[[str], None],
        *,
        required: bool = False,
        thorough: bool = True,
        spending: Spending | None = None,
    ) -> None:
        self._ledger = ledger
        #: The ledger that could not be written in this run.
        self._broke: Entries | None = None
        self._clock = clock
        self._warn = warn
        self._required = required
        self._thorough = thorough
        self._spending = spending or Spending()

    def _kept(self, row: JobRow, write: Callable[[Entries], JobRow]) -> JobRow:
        """``row`` as the ledger has it after ``write``; as it is where the ledger cannot be written."""
        self._spending.heard(row)
        if self._ledger is None or row.number == 0:
            return row
        try:
            return write(self._ledger)
        except LedgerUnusable as trouble:
            self._broken(trouble)
            return row

    def _broken(self, trouble: LedgerUnusable) -> None:
        self._warn(trouble.words)
        self._ledger, self._broke = None, self._ledger

    def finish(self, row: JobRow) -> None:
        """Tell the ledger how a job was left, where it could not be told before; else tell the person.

        Its row says that the job is being sent, which later looks as if nobody knew what became of it.
        """
        if self._broke is None or row.number == 0:
            return
        try:
            self._broke.catch_up(row)
            self._broke.release(row.number)
        except LedgerUnusable as trouble:
            # a ledger that has lost the row has nothing left to be misread
            if trouble.reason != "other" and row.charged is not Charged.NO:
                self._warn(_unwritten(row))
            if trouble.reason == "busy":  # not half a minute for each job
                self._broke = None

    # --- a job's life ------------------------------------------------------------------------------------

    def begin(
        self,
        intent: Intent,
        *,
        limits: Sequence[Limit] = (),
        exclusive: bool = True,
        look: LastLook = PLAIN_LOOK,
        instead_of: int | None = None,
    ) -> JobRow:
        """Write the intent down before anything is sent; ``instead_of`` is a job that is sent again with it.

        Raises as :meth:`Entries.begin` and :meth:`Entries.resubmit`, and :class:`LimitError` when a limit is
        set and cannot be kept for want of a ledger.
        """
        intent = replace(intent, token=intent.token or secrets.token_hex(8))
        job = self._begun(intent, limits, exclusive, look, instead_of)
        self._spending.works_on(job)
        return job

    def _begun(
        self,
        intent: Intent,
        limits: Sequence[Limit],
        exclusive: bool,
        look: LastLook,
        instead_of: int | None,
    ) -> JobRow:
        if self._ledger is not None:
            try:
                if instead_of is not None:
                    return self._ledger.resubmit(
                        instead_of, intent, limits=limits, exclusive=exclusive, look=look
                    )
                return self._ledger.begin(intent, limits=limits, exclusive=exclusive, look=look)
            except LedgerUnusable as trouble:
                if limits:
                    raise LimitError(f"A budget is set and cannot be kept: {trouble.words}") from trouble
                if self._required:
                    raise LimitError(trouble.message, hint=trouble.hint) from trouble
                self._broken(trouble)
        elif limits:
            raise LimitError(
                "A budget is set and cannot be kept without the job ledger.",
                hint="Leave out --no-ledger, or remove [budget] from the config file.",
            )
        elif self._required:
            raise LimitError("The job ledger cannot be used any more, so nothing more is spent.")
        if look.check is not None:
            look.check()
        return self._unrecorded(intent)

    def _unrecorded(self, intent: Intent) -> JobRow:
        now = self._clock.wall()
        return JobRow(
            number=0,
            token=intent.token,
            base_url=intent.base_url,
            mode=intent.mode,
            state="submitting",
            charged=Charged.UNKNOWN,
            expected_cost=intent.expected_cost,
            created_at=now,
            updated_at=now,
            request=intent.request,
            destination=intent.destination,
            promised=intent.promised,
            seed=intent.seed,
            samples=intent.samples,
        )

    def submitted(
        self, row: JobRow, request_id: str, remaining: float | None, taken_at: float | None = None
    ) -> JobRow:
        known = replace(
            row,
            request_id=request_id,
            state="queued",
            submitted_at=self._clock.wall(),
            taken_at=taken_at,
            remaining_credits=remaining if remaining is not None else row.remaining_credits,
        )
        return self._kept(
            known,
            lambda ledger: ledger.submitted(
                row.number,
                request_id,
                remaining_credits=remaining,
                taken_at=taken_at,
                note=self._thorough,
            ),
        )

    def progress(self, row: JobRow, state: Literal["queued", "processing"]) -> JobRow:
        if row.state == state:
            return row
        moved = replace(row, state=state)
        if not self._thorough:
            return moved
        return self._kept(moved, lambda ledger: ledger.progress(row.number, state))

    def completed(
        self,
        row: JobRow,
        *,
        sources: Sequence[str],
        seed: int | None,
        cost: float | None,
        remaining: float | None,
        timings: Timings,
        observed: float | None,
    ) -> JobRow:
        known = replace(
            row,
            state="completed",
            charged=Charged.YES,
            sources=tuple(sources) or row.sources,
            seed=seed if seed is not None else row.seed,
            cost=cost if cost is not None else row.cost,
            remaining_credits=remaining if remaining is not None else row.remaining_credits,
            timings=timings,
            completed_at=self._clock.wall(),
        )
        return self._kept(
            known,
            lambda ledger: ledger.completed(
                row.number,
                sources=sources,
                seed=seed,
                cost=cost,
                remaining_credits=remaining,
                timings=timings,
                observed=observed,
                note=self._thorough,
            ),
        )

    def ready(self, row: JobRow) -> JobRow:
        """It is finished, which is all that is known: its result could not be had."""
        return self.completed(
            row, sources=(), seed=None, cost=None, remaining=None, timings=row.timings, observed=None
        )

    def saved_file(self, row: JobRow, index: int, file: Mapping[str, Any], *, settle: bool = False) -> JobRow:
        """One sample is in place; ``settle``: and with it all of them."""
        known = replace(row, files=dict(sorted({**row.files, index: file}.items())))
        if settle:
            known = replace(known, state="saved", saved_at=self._clock.wall(), error=None)
        return self._kept(known, lambda ledger: ledger.saved_file(row.number, index, file, settle=settle))

    def saved(self, row: JobRow) -> JobRow:
        """Every sample is in place, where that is not recorded yet."""
        if row.state == "saved" and row.error is None and row.saved_at is not None:
            return row
        known = replace(row, state="saved", saved_at=self._clock.wall(), error=None)
        return self._kept(known, lambda ledger: ledger.saved(row.number))

    def failed(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        known = replace(row, state="failed", charged=Charged.NO, error=error)
        return self._kept(known, lambda ledger: ledger.failed(row.number, error))

    def paid_in_vain(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        """It was paid for, and what came of it cannot be had again: settled, with words that say so."""
        known = replace(row, state="failed", charged=Charged.YES, error=error)
        return self._kept(known, lambda ledger: ledger.paid_in_vain(row.number, error))

    def expired(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        known = replace(row, state="expired", error=error)
        return self._kept(known, lambda ledger: ledger.expired(row.number, error))

    def unknown(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        known = replace(row, state="unknown", charged=Charged.UNKNOWN, error=error)
        return self._kept(known, lambda ledger: ledger.unknown(row.number, error))

    def unsent(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        known = replace(row, state="failed", charged=Charged.NO, error=error)
        return self._kept(known, lambda ledger: ledger.unsent(row.number, error))

    def note_error(self, row: JobRow, error: Mapping[str, Any]) -> JobRow:
        return self._kept(replace(row, error=error), lambda ledger: ledger.note_error(row.number, error))

    def release(self, row: JobRow) -> None:
        """Let go of the job, so that another command may take it up."""

        def write(ledger: Entries) -> JobRow:
            ledger.release(row.number)
            return row

        self._kept(row, write)

    def heartbeat(self, row: JobRow) -> None:
        def write(ledger: Entries) -> JobRow:
            ledger.heartbeat(row.number)
            return row

        self._kept(row, write)

    # --- what it knows -----------------------------------------------------------------------------------

    def _known(self, ask: Callable[[Entries], T], otherwise: T) -> T:
        if self._ledger is None:
            return otherwise
        try:
            return ask(self._ledger)
        except LedgerUnusable as trouble:
            self._broken(trouble)
            return otherwise

    def _looked_up(self, ask: Callable[[Entries], T], otherwise: T) -> T:
        """As :meth:`_known`, for what decides whether something is bought or brought home: where the ledger
        cannot be asked, nobody may take that for "there is nothing"."""
        if self._ledger is None:
            return otherwise
        try:
            return ask(self._ledger)
        except LedgerUnusable as trouble:
            if self._required:
                raise LimitError(trouble.message, hint=trouble.hint) from trouble
            raise

    @property
    def usable(self) -> bool:
        """Whether there is a ledger, and it has not failed yet."""
        return self._ledger is not None

    def learnt(self, base_url: str, steps: int, pixels: int, samples: int) -> list[float]:
        """How long earlier jobs of such work took, in seconds; empty where nothing is known."""
        return self._known(lambda ledger: ledger.learnt(base_url, steps, pixels, samples), [])

    def highest_cost(self, base_url: str, steps: int, pixels: int, samples: int) -> float | None:
        """The highest price seen of such jobs, in dollars; None where nothing is known."""
        return self._known(lambda ledger: ledger.highest_cost(base_url, steps, pixels, samples), None)

    def saved_at(self, base_url: str, paths: Container[str]) -> list[JobRow]:
        """The jobs of that gateway whose files were saved at one of these paths, newest first."""
        return self._looked_up(lambda ledger: ledger.saved_at(base_url, paths), [])

    def saved_from(self, base_url: str, digest: str) -> list[JobRow]:
        """The jobs of that gateway that have saved the pictures of the request of this digest, the newest
        first."""
        return self._looked_up(lambda ledger: ledger.saved_from(base_url, digest), [])

    def promised(self, job: JobRow | None = None) -> frozenset[str]:
        """The places that unsettled jobs, except this one, will write to."""
        besides = job.number if job is not None else None
        return self._known(lambda ledger: ledger.promised(besides=besides), frozenset())

    def note_credits(self, value: float, base_url: str) -> None:
        """Remember the balance seen last."""
        self._known(lambda ledger: ledger.note_credits(value, base_url), None)

    def get(self, ident: str, base_url: str) -> JobRow | None:
        """The job of that request id or number; None when there is none, or no ledger."""
        return self._known(lambda ledger: ledger.get(ident, base_url), None)

    def pending(self, base_url: str) -> list[JobRow]:
        """The unsettled jobs of that gateway, oldest first."""
        return self._looked_up(lambda ledger: ledger.pending(base_url), [])

    def elsewhere(self, base_url: str) -> list[JobRow]:
        """The unsettled jobs of all other gateways."""
        return self._looked_up(lambda ledger: ledger.elsewhere(base_url), [])

    def claim(self, row: JobRow) -> JobRow | None:
        """Take the job for this process and return it as it is by now; None when another one that is alive
        has it."""
        return self._taken(row, lambda ledger: ledger.claim(row.number))

    def hold(self, row: JobRow) -> JobRow | None:
        """The job as it is by now, of this process or settled; None when another one that is alive has it."""
        return self._taken(row, lambda ledger: ledger.hold(row.number))

    def _taken(self, row: JobRow, take: Callable[[Entries], JobRow | None]) -> JobRow | None:
        otherwise: JobRow | None = row
        taken = row if row.number == 0 else self._known(take, otherwise)
        if taken is not None:
            self._spending.works_on(taken)
        return taken

    def now(self, row: JobRow) -> JobRow:
        """The job as it is by now."""
        found = None if row.number == 0 else self._known(lambda ledger: ledger.get(row.number), None)
        if found is not None:
            self._spending.heard(found)
        return found or row

    def adopt(self, row: JobRow, intent: Intent | None = None) -> JobRow:
        """Take up a job that was submitted elsewhere and exists; ``intent``: what was submitted."""
        request_id = row.request_id
        if request_id is None:
            return row
        return self._known(
            lambda ledger: ledger.adopt(
                request_id, row.base_url, intent=intent, submitted_at=row.submitted_at
            ),
            row,
        )

    def plan_again(
        self, row: JobRow, destination: Mapping[str, Any], promised: Sequence[str], *, exclusive: bool
    ) -> JobRow:
        """Promise other places for an unsettled job (``fetch -o``)."""
        known = replace(row, destination=destination, promised=tuple(promised))
        return self._kept(
            known,
            lambda ledger: ledger.plan_again(row.number, destination, promised, exclusive=exclusive),
        )

    def is_claimed(self, row: JobRow) -> bool:
        """Whether a process that is alive works on it, this one included."""
        return self._known(lambda ledger: ledger.is_claimed(row), False)

    def in_work(self, row: JobRow) -> bool:
        """Whether another process that is alive works on it."""
        return self._known(lambda ledger: ledger.in_work(row), False)

    def last_credits(self, base_url: str) -> SeenCredits | None:
        """The balance that a reply named last."""
        return self._known(lambda ledger: ledger.last_credits(base_url), None)


def _unwritten(row: JobRow) -> str:
    known = f" (request id {row.request_id})" if row.request_id is not None else ""
    return (
        f"The job ledger could not be told what became of job {row.number}{known}, and may call it unknown "
        "later. Do not send it again then: it would be paid for twice."
    )
