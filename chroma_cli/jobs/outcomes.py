"""How a job can end before its picture is home, as errors: what happened, the money, what to do."""

from __future__ import annotations

from chroma_cli.errors import (
    Charged,
    ChromaError,
    Expired,
    GenerationFailed,
    Interrupted,
    NotFound,
    Terminated,
    TerminationRequest,
)
from chroma_cli.jobs.records import RESULT_SECONDS, JobRow


def failed(job: JobRow, words: str | None) -> GenerationFailed:
    """The gateway says FAILED; ``words`` are its own."""
    return GenerationFailed(
        f"The generation failed: {words}" if words else "The generation failed without a reason given.",
        hint="A content block or a parameter may be the cause. Change the prompt or the parameter.",
        request_id=job.request_id,
        job=job.number or None,
    )


def not_found(job: JobRow, error: NotFound, now: float) -> NotFound:
    """A 404 is final only from the same gateway, more than an hour after the submit."""
    age = now - job.submitted_at if job.submitted_at is not None else None
    if age is None or age <= RESULT_SECONDS:
        return NotFound(
            f"Not found or expired (another key, or another gateway?): {error.message}",
            hint="Results are kept for one hour, and only the key that submitted a job can see it.",
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
    """Ctrl-C or SIGTERM: what happens to the job, by where it stood."""
    kind: type[ChromaError] = Terminated if isinstance(stop, TerminationRequest) else Interrupted
    word = "Terminated" if kind is Terminated else "Interrupted"
    where = {
        "submitting": "before anything was sent; no job was made.",
        "failed": "; no job was made.",
        "unknown": "before the gateway said whether it took the job.",
        "completed": "while saving; the picture is ready.",
    }.get(job.state, "while waiting; the job goes on and is charged when it completes.")
    return kind(f"{word} {where}".replace(" ;", ";"), charged=charged)


def advice(job: JobRow, error: ChromaError, pick_up: str) -> str | None:
    """The error's own hint, and the one command that brings the picture home where there is one."""
    if job.state == "unknown" and job.request_id is None:
        rule = error.hint or "It is not sent again by itself, because that could pay twice."
        return f"{rule} It is kept under: chroma jobs --pending" if job.number else rule
    stranger = job.number == 0 and isinstance(error, NotFound)
    if isinstance(error, GenerationFailed | Expired) or job.settled or stranger or not job.request_id:
        return error.hint
    if error.hint and pick_up in error.hint:
        return error.hint
    return f"{error.hint} {pick_up}" if error.hint else pick_up


def _amount(job: JobRow) -> str:
    if job.cost is not None:
        return f"${job.cost:.3f}"
    return f"about ${job.expected_cost:.3f}"
