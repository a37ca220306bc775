"""What a job looks like: as the JSON object of the contract, and as words for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chroma_cli.cli import text
from chroma_cli.clock import utc_text

if TYPE_CHECKING:
    from chroma_cli.jobs.records import JobRow

_FILE_FIELDS = ("path", "url", "format", "width", "height", "bytes", "sha256")


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
