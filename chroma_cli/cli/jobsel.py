"""Which jobs a command line means: request ids and job numbers, known to this ledger or not."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from chroma_cli.errors import (
    Charged,
    InvalidParameters,
    LedgerRequired,
    NotFound,
    OutcomeUnknown,
    Problem,
    UsageError,
)
from chroma_cli.jobs.records import JobRow
from chroma_cli.request import schema
from chroma_cli.text import one_line

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run
    from chroma_cli.jobs.ledger import Ledger

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def check(idents: Sequence[str]) -> list[str]:
    """The ids without repetitions. Raises :class:`UsageError` for none, and for what cannot be one."""
    if not idents:
        raise UsageError("ID: name at least one request id or job number.", hint="See: chroma jobs")
    problems = [
        Problem("ID", f"{one_line(ident)[:60]!r} is no request id and no job number")
        for ident in idents
        if not _ID.fullmatch(ident)
    ]
    if problems:
        raise InvalidParameters(problems)
    return list(dict.fromkeys(idents))


def named(run: Run, idents: Sequence[str]) -> dict[str, JobRow]:
    """The jobs that these ids and numbers mean, also those that this ledger never saw; see :func:`check`."""
    checked = check(idents)
    tell_of(run, checked)
    return {ident: find(run, ident) or stranger(run, ident) for ident in checked}


def tell_of(run: Run, idents: Sequence[str]) -> None:
    """This command is about these jobs, so no warning has to mention them; before the ledger is opened."""
    run.tells = lambda job: not {str(job.number), job.request_id}.isdisjoint(idents)


def tell_of_missing(run: Run, ledger: Ledger, *, nothing: bool) -> None:
    """Say when jobs may be missing in the ledger. Raises that where otherwise ``nothing`` would be told."""
    from chroma_cli.jobs.records import LedgerIncomplete

    try:
        ledger.check_complete()
    except LedgerIncomplete as missing:
        if nothing:
            raise
        run.output.warning(f"{missing.message} {missing.hint}")


def find(run: Run, ident: str) -> JobRow | None:
    """The job of this ledger; None for an id that it never saw, or when there is no ledger."""
    return run.book.get(ident, run.gateway_name)


def stranger(run: Run, ident: str) -> JobRow:
    """A job that only its id is known of; a number, where the ledger cannot be asked what it stands for."""
    request_id = None if _NUMBER.fullmatch(ident) and not run.book.usable else ident
    return JobRow(
        number=0,
        token=secrets.token_hex(8),
        base_url=run.gateway_name,
        mode="async",
        state="unknown",
        charged=Charged.UNKNOWN,
        expected_cost=schema.TYPICAL_COST,
        created_at=run.clock.wall(),
        updated_at=run.clock.wall(),
        request_id=request_id,
    )


def check_reachable(run: Run, job: JobRow) -> str:
    """The id to ask for. The key never goes to an address from an old row, so that must be this gateway's.

    Raises :class:`UsageError` for another gateway's job, :class:`OutcomeUnknown` or :class:`NotFound` for one
    without an id, and why the ledger cannot be asked for a number.
    """
    if job.base_url != run.gateway_name:
        option = "--sandbox" if job.base_url == "sandbox" else f"--base-url {job.base_url}"
        raise UsageError(
            f"Job {job.number} was sent to another gateway: {job.base_url}.",
            hint=f"Add {option}",
            job=job.number,
        )
    if job.request_id is not None:
        return job.request_id
    if job.number == 0:
        run.required_ledger()
        raise LedgerRequired("The job ledger could not be asked which job that is.", hint="Run this again.")
    if job.state in ("submitting", "unknown"):
        raise OutcomeUnknown(
            f"Job {job.number} has no request id: nobody knows whether its submit arrived.",
            hint=f"Look at the provider's console; then settle it with: chroma jobs --forget {job.number}"
            f" or: chroma jobs --resubmit {job.number}",
            job=job.number,
        )
    if job.charged is Charged.YES:
        said = one_line(str((job.error or {}).get("message") or ""))
        raise NotFound(
            f"Job {job.number} was paid for, and cannot be had again. {said}".rstrip(),
            job=job.number,
            charged=Charged.YES,
        )
    if job.charged is Charged.UNKNOWN:
        again = f" It was sent again as job {job.superseded_by}." if job.superseded_by is not None else ""
        raise NotFound(
            f"Job {job.number} was forgotten, and has no request id to ask with.{again}",
            job=job.number,
            charged=Charged.UNKNOWN,
        )
    raise NotFound(f"Job {job.number} was never accepted; there is nothing to fetch.", job=job.number)
