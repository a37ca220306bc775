"""How a job can end before its picture is home, as errors: what happened, the money, what to do."""

from __future__ import annotations

from typing import Final

from chroma_cli import errors
from chroma_cli.clock import utc_text
from chroma_cli.errors import (
    Charged,
    ChromaError,
    Expired,
    GenerationFailed,
    NotFound,
)
from chroma_cli.jobs.records import RESULT_SECONDS, JobRow

#: Our clock and the gateway's agree when they are no further apart (seconds).
_SKEW: Final = 300.0


def failed(job: JobRow, words: str | None) -> GenerationFailed:
    """The gateway says FAILED; ``words`` are its own."""
    return GenerationFailed(
        f"The generation failed: {words}" if words else "The generation failed without a reason given.",
        hint="A content block or a parameter may be the cause. Change the prompt or the parameter.",
        request_id=job.request_id,
        job=job.number or None,
    )


def hour_is_over(job: JobRow, error: NotFound, now: float, elapsed: float | None) -> bool:
    """Return whether a 404 comes more than an hour after the submit, past all doubt.

    The gateway's own clock tells, at both ends. Where its answer to the submit did not say the time, ours
    (``now``) counts if the two agree by now; where this one does not, only the seconds that have ``elapsed``
    in this process do.
    """
    asked_at = error.answered_at
    if asked_at is None:
        return elapsed is not None and elapsed > RESULT_SECONDS
    if job.taken_at is not None:
        return asked_at - job.taken_at > RESULT_SECONDS
    agree = abs(asked_at - now) <= _SKEW
    return agree and job.submitted_at is not None and now - job.submitted_at > RESULT_SECONDS


def not_found(job: JobRow, error: NotFound, *, over: bool, now: float) -> NotFound:
    """Return what a 404 means: final only from the same gateway, when the hour is ``over``."""
    if not over:
        hint = "Results are kept for one hour, and only the key that submitted a job can see it."
        if error.answered_at is not None and abs(error.answered_at - now) > _SKEW:
            hint += (
                f" This computer's clock says {utc_text(now)}, the gateway's {utc_text(error.answered_at)}."
            )
        past = job.submitted_at is not None and now - job.submitted_at > RESULT_SECONDS
        if error.answered_at is None and past and job.number:
            hint += (
                " By this computer's clock that hour is over; the answer has no date that would confirm it."
                f" When you do not expect the picture any more: chroma jobs --forget {job.number}"
            )
        return NotFound(
            f"Not found or expired (another key, or another gateway?): {error.message}",
            hint=hint,
            charged=job.charged,
        )
    paid = {
        Charged.YES: f"It was paid for ({_amount(job)}).",
        Charged.NO: "Nothing was charged.",
        Charged.UNKNOWN: f"If it completed, it was charged ({_amount(job)}).",
    }[job.charged]
    return Expired(
        f"The result has expired: the gateway keeps it for one hour. {paid} It cannot be had any more.",
        charged=job.charged,
    )


def stopped(job: JobRow, stop: KeyboardInterrupt, charged: Charged) -> ChromaError:
    """Ctrl-C or a signal: what happens to the job, by where it stood."""
    where = {
        "submitting": " before anything was sent; no job was made.",
        "failed": "; no job was made.",
        "unknown": " before the gateway said whether it took the job.",
        "completed": " while saving; the picture is ready.",
    }.get(job.state, " while waiting; the job goes on and is charged when it completes.")
    return errors.stopped(stop, where, charged=charged)


def advice(job: JobRow, error: ChromaError, pick_up: str) -> str | None:
    """The error's own hint, and the one command that brings the picture home where there is one."""
    if job.state == "unknown" and job.request_id is None:
        rule = error.hint or "It is not sent again by itself, because that could pay twice."
        return f"{rule} It is kept under: chroma jobs --pending" if job.number else rule
    stranger = job.number == 0 and isinstance(error, NotFound)
    if isinstance(error, GenerationFailed | Expired) or job.settled or stranger or not job.fetchable:
        return error.hint
    if error.hint and pick_up in error.hint:
        return error.hint
    return f"{error.hint} {pick_up}" if error.hint else pick_up


def _amount(job: JobRow) -> str:
    if job.cost is not None:
        return f"${job.cost:.3f}"
    return f"about ${job.expected_cost:.3f}"
