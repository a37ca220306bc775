"""What a job looks like: as the JSON object of the contract, and as words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from chroma_cli import text
from chroma_cli.clock import utc_text
from chroma_cli.errors import (
    AuthError,
    BadReply,
    BrokenImage,
    Charged,
    ChromaError,
    Expired,
    GenerationFailed,
    KeyRefused,
    LimitError,
    NetworkError,
    NotEnoughCredits,
    NotFinished,
    NotFound,
    NotPermitted,
    OutputError,
    RateLimited,
    RequestRejected,
    Retired,
    ServerError,
    Unavailable,
    WrongAddress,
)

if TYPE_CHECKING:
    from chroma_cli.jobs.records import JobRow

#: Results are kept for one hour from the submit (API page).
RESULT_SECONDS = 3600.0

#: So wide is a file's name in the table of ``jobs``, which has to fit 80 columns.
_FILE_COLUMNS = 16
_FILE_FIELDS = ("path", "url", "format", "width", "height", "bytes", "sha256")

#: What a job can have ended with for good; of each exit code the most general one first. Neither "not
#: finished" nor an interrupt is among them: they say how a program ended, not how the job did.
_ENDS: Final[tuple[type[ChromaError], ...]] = (
    *(RequestRejected, WrongAddress),
    *(AuthError, KeyRefused, NotPermitted),
    *(LimitError, NotEnoughCredits),
    RateLimited,
    GenerationFailed,
    *(NotFound, Retired),
    *(Unavailable, NetworkError, ServerError, BadReply, BrokenImage),
    OutputError,
)


def job_object(job: JobRow) -> dict[str, Any]:
    """One job as in the JSON contract; what is not known is None."""
    return {
        "job": job.number or None,
        "request_id": job.request_id,
        "status": job.status,
        "mode": job.mode,
        "request": dict(job.request) if job.request is not None else None,
        "seed": job.seed,
        "created_at": utc_text(job.created_at),
        "expires_at": utc_text(job.expires_at) if job.expires_at is not None else None,
        "files": [{name: entry.get(name) for name in _FILE_FIELDS} for entry in job.files.values()],
        "charged": str(job.charged),
        "cost": job.cost,
        "remaining_credits": job.remaining_credits,
        "timings": {
            "queue": job.timings.queue,
            "inference": job.timings.inference,
            "total": job.timings.total,
        },
        "error": dict(job.error) if job.error is not None else None,
    }


def submitted_object(job: JobRow, base_url: str) -> dict[str, Any]:
    """The same with the two addresses where the job can be asked for, on our own base URL; null without an
    id."""
    address = f"{base_url}/v2/requests/{job.request_id}" if job.request_id is not None else None
    status = f"{address}/status" if address is not None else None
    return {**job_object(job), "status_url": status, "response_url": address}


def recorded_error(job: JobRow) -> ChromaError:
    """How a settled job ended, as the ledger has it: a refused submit stays what it was refused for."""
    said = job.error or {}
    message = str(said.get("message") or f"The job is {job.state}.")
    hint = said.get("hint")
    kind = Expired if job.state == "expired" else _end(said)
    error = kind(
        message,
        hint=hint if isinstance(hint, str) else None,
        request_id=job.request_id,
        job=job.number or None,
        charged=job.charged,
    )
    error.record = job
    return error


def _end(said: Mapping[str, Any]) -> type[ChromaError]:
    """The class of a recorded error: by type and exit code, else by the exit code alone (another version of
    chroma may have written it), else a failed generation."""
    alike = [one for one in _ENDS if one.exit_code == said.get("exit_code")]
    named = (one for one in alike if one.type == said.get("type"))
    return next(named, alike[0] if alike else GenerationFailed)


def left_words(job: JobRow, now: float) -> str:
    """How long a result that was not fetched yet still stays."""
    if job.expires_at is None:
        return ""
    left = min(job.expires_at - now, RESULT_SECONDS)
    if left <= 0:
        return "past its hour"
    return f"{left // 60:.0f} min left" if left >= 60 else "<1 min left"


def job_cells(job: JobRow, now: float) -> tuple[str, ...]:
    """One row of ``jobs``: number, state, age, cost, file, prompt."""
    state: str = job.state
    if job.state in ("queued", "processing", "completed"):
        state = f"{job.state}, {left_words(job, now)}".rstrip(", ")
    cost = text.money(job.cost) if job.cost is not None else ("-" if job.charged is Charged.NO else "?")
    prompt = str((job.request or {}).get("prompt", ""))
    return str(job.number), state, text.age(job.age(now)), cost, _files_cell(job), prompt


def _files_cell(job: JobRow) -> str:
    names = [str(entry.get("path", "")).replace("\\", "/").rpartition("/")[2] for entry in job.files.values()]
    if not names:
        return "-"
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return text.shortened(names[0], _FILE_COLUMNS - len(more)) + more


def status_detail(job: JobRow, error: ChromaError | None, now: float) -> str:
    """The words behind the state in ``status``."""
    if error is not None and not isinstance(error, NotFinished):
        return text.one_line(error.message)
    if job.state == "saved":
        return ", ".join(str(entry.get("path")) for entry in job.files.values())
    return left_words(job, now)


def waiting_words(jobs: Sequence[JobRow], now: float, command: str) -> str:
    """One line for a person: pictures are waiting, and how long."""
    first = min((job.expires_at for job in jobs if job.expires_at is not None), default=None)
    which = "1 picture is" if len(jobs) == 1 else f"{len(jobs)} pictures are"
    until = ""
    if first is not None:
        minutes = (min(first - now, RESULT_SECONDS)) / 60
        until = f", the first for {minutes:.0f} min more" if minutes >= 1 else ", the first about to expire"
    return f"{which} waiting{until}: {command}"


def found_words(job: JobRow) -> str:
    """Return what is to be said of an unknown job whose picture has been found."""
    where = ", ".join(str(entry.get("path")) for entry in job.files.values())
    return f"Job {job.number} is saved: its program could not record it, and its picture lies at {where}."


def unknown_words(job: JobRow) -> str:
    """What is to be said of a job whose submit nobody heard the answer of."""
    return (
        f"Job {job.number} is unknown: its submit went out and no answer was heard, so it may exist and may"
        f" have been charged. {_settle_words(job)}"
    )


def abandoned_words(job: JobRow) -> str:
    """The same of a job whose program has just been found to have ended meanwhile."""
    first = " What it may have left is saved by: chroma fetch --pending." if job.mode == "sync" else ""
    return (
        f"Job {job.number} was being submitted when its program ended: it may exist and may have been"
        f" charged. It is not sent again by itself.{first} {_settle_words(job)}"
    )


def _settle_words(job: JobRow) -> str:
    return (
        "Look at the provider's console, then settle it with:"
        f" chroma jobs --forget {job.number}, or: chroma jobs --resubmit {job.number}"
    )


def elsewhere_words(base_url: str, count: int) -> str:
    option = "--sandbox" if base_url == "sandbox" else f"--base-url {text.quoted(base_url)}"
    which = "1 job is" if count == 1 else f"{count} jobs are"
    return f"{which} pending at another gateway, which is not asked: add {option}"


def saved_words(job: JobRow) -> str:
    """The closing line of a picture that came home: what it is, its seed, what it cost, what is left."""
    facts = [_files_words(list(job.files.values()))]
    if job.seed is not None:
        facts.append(f"seed {job.seed}")
    if job.cost is not None:
        facts.append(text.money(job.cost))
    if job.remaining_credits is not None:
        facts.append(f"{text.money(job.remaining_credits)} left")
    return ", ".join(facts)


def _files_words(files: list[Mapping[str, Any]]) -> str:
    if len(files) != 1:
        return f"saved {len(files)} pictures"
    one = files[0]
    shape = f"{one.get('width')}x{one.get('height')} {str(one.get('format', '')).upper()}"
    return f"saved {shape}, {text.size(int(one.get('bytes') or 0))}"


def state_words(state: str) -> str:
    return {
        "SUBMITTING": "submitting",
        "QUEUED": "waiting in the queue",
        "PROCESSING": "being made",
        "COMPLETED": "ready, saving",
    }.get(state, state.lower())


def preset_cells(values: Mapping[str, object], columns: Sequence[str]) -> list[str]:
    """A preset's values by column; a ratio stands under its size, and what has no column goes to the last."""
    shown = dict(values)
    if "aspect" in shown:
        shown["size"] = shown.pop("aspect")
    elif "width" in shown or "height" in shown:
        shown["size"] = f"{shown.pop('width', '·')}x{shown.pop('height', '·')}"
    cells = [str(shown.pop(column, "·")) for column in columns]
    if shown:
        cells[-1] += " " + " ".join(f"{key}={value}" for key, value in sorted(shown.items()))
    return cells
