"""What the ledger remembers of a job, as values: the row, the intent it begins with, and what can go wrong.

Also the way from these values to columns and back. Nothing here opens a file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from chroma_cli.errors import (
    Charged,
    ChromaError,
    ExitCode,
    NotFinished,
    OutcomeUnknown,
    OutputExists,
    UsageError,
)
from chroma_cli.jobs.owner import Owner

Mode = Literal["async", "sync"]
State = Literal[
    "submitting", "queued", "processing", "completed", "saved", "failed", "expired", "unknown", "forgotten"
]
Reason = Literal["missing-dir", "read-only", "full", "newer", "damaged", "busy", "other"]

#: Money may be in these; they are never pruned, and their promised places are not free for others. The
#: partial index of the same condition spells them out in this order.
UNSETTLED: Final[tuple[State, ...]] = ("submitting", "queued", "processing", "completed", "unknown")
FAILED: Final[tuple[State, ...]] = ("failed", "expired")
STATES: Final[frozenset[State]] = frozenset((*UNSETTLED, *FAILED, "saved", "forgotten"))

#: Results are kept for one hour from the submit (API page).
RESULT_SECONDS: Final = 3600.0

#: The end of the year 9999, in seconds since the epoch: later times are no dates.
_LAST_MOMENT: Final = 253402300799.0
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


#: What a person can do about a ledger that cannot be used.
_HINTS: Final[Mapping[Reason, str]] = {
    "missing-dir": "Look at the folder that is named there, or at CHROMA_STATE_DIR.",
    "read-only": "Look at the rights of the file and its folder; the jobs in it are not lost.",
    "full": "Make room on that disk; the jobs in the ledger are not lost.",
    "newer": "Update chroma, or set CHROMA_STATE_DIR to another folder.",
    "damaged": "Move the file away: a new ledger is begun then. Jobs can be fetched by their request ids.",
    "busy": "Run this again when the other chroma processes have ended.",
    "other": "Look at what lies there, or set CHROMA_STATE_DIR to a folder of your own.",
}


class LedgerUnusable(ChromaError):
    """The ledger cannot be used; ``reason`` says why for programs, ``words`` for people."""

    type = "ledger"

    def __init__(self, reason: Reason, what: str, *, path: str, hint: str | None = None) -> None:
        self.reason: Reason = reason
        self.path = path
        self.words = (
            f"The job ledger {path} cannot be used: {what} "
            "If chroma is stopped between submitting and saving, it will not know the job any more."
        )
        super().__init__(f"The job ledger {path} cannot be used: {what}", hint=hint or _HINTS[reason])


class LedgerIncomplete(ChromaError):
    """Jobs may be missing in the ledger, since an older one was damaged: it lies at ``path``."""

    type = "ledger_incomplete"
    default_hint = (
        "Look in the provider's console for jobs of that time, and bring them home with: chroma fetch ID."
        " When none is missing, move that file away."
    )

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"An older job ledger was damaged and is kept as {path}. Not all of it could be read, so jobs"
            " that were in flight then may not be known here."
        )


class PlacePromised(OutputExists):
    """Another job that is not settled yet will write to one of these places.

    ``paths`` are the places, ``promised_to`` is the number of that job; ``unknown``: there is nothing to
    fetch of it.
    """

    type = "output_promised"

    def __init__(self, paths: Iterable[str], promised_to: int, *, unknown: bool = False) -> None:
        self.paths = frozenset(paths)
        self.promised_to = promised_to
        who = f"job {promised_to}"
        first = f"bring its picture home first with: chroma fetch {promised_to}"
        if unknown:
            who += ", and nobody knows whether it was accepted"
            first = f"settle that job with: chroma jobs --forget {promised_to}"
        super().__init__(
            f"{', '.join(sorted(self.paths))} is promised to {who}.",
            hint=f"Choose another name with -o, or {first}",
        )


class PlaceTaken(OutputExists):
    """Something lies at the place that was not there when it was planned, or was saved there since."""

    type = "output_taken"


class InWork(ChromaError):
    """A process that is alive works on ``row``, a job of the very request that was to be sent."""

    exit_code = ExitCode.NOT_FINISHED
    type = "in_work"

    def __init__(self, row: JobRow) -> None:
        self.row = row
        super().__init__(
            f"Job {row.number} is being worked on by another chroma process.",
            hint="Let it finish; if it is stopped, run this again.",
            request_id=row.request_id,
            job=row.number,
            charged=row.charged,
        )

    @property
    def told(self) -> NotFinished:
        """The error for those who do not wait for it."""
        return NotFinished(
            self.message, hint=self.hint, request_id=self.request_id, job=self.job, charged=self.charged
        )


class SavedBefore(ChromaError):
    """Jobs of the very request that was to be sent have saved their pictures: ``rows``, the newest first."""

    type = "saved_before"

    def __init__(self, rows: Sequence[JobRow]) -> None:
        self.rows = tuple(rows)
        super().__init__(f"Job {rows[0].number} has made this picture already.", job=rows[0].number)


def outcome_unknown(row: JobRow) -> OutcomeUnknown:
    """The error for a job of the very request that may exist and cannot be asked for."""
    return OutcomeUnknown(
        f"Job {row.number} is this very request. It went out and no answer was heard: it may exist and may"
        " have been charged, so it is not sent again by itself.",
        hint=f"Look at the provider's console; then settle it with: chroma jobs --forget {row.number}"
        " and run this again, or run this with --resubmit-unknown.",
        job=row.number,
    )


class NotResubmittable(UsageError):
    """The job is not one that may be sent again: it has an id, was sent again, or is being worked on."""

    type = "not_resubmittable"


@dataclass(frozen=True)
class Timings:
    """Seconds as the gateway reports them; each may be unknown."""

    queue: float | None = None
    inference: float | None = None
    total: float | None = None

    def whole(self) -> float | None:
        """From the submit to the result, as well as it is known; never 0 or less."""
        parts = (self.total, _sum(self.queue, self.inference), self.inference)
        return next((value for value in map(finite, parts) if value is not None and value > 0), None)


@dataclass(frozen=True)
class Intent:
    """What is about to be sent, recorded before it is.

    ``request`` is the exact body, ``destination`` what the writer needs to place the files (opaque here),
    ``promised`` the absolute paths it will write to. ``pixels`` are those of one image. ``expected_cost``
    (dollars) is what is reserved until the real cost is known. ``token`` names the job's temp files; one is
    drawn when it is left empty.
    """

    base_url: str
    request: Mapping[str, Any]
    expected_cost: float
    mode: Mode = "async"
    destination: Mapping[str, Any] | None = None
    promised: tuple[str, ...] = ()
    seed: int | None = None
    steps: int = 0
    pixels: int = 0
    samples: int = 1
    token: str = ""

    @property
    def work(self) -> int | None:
        """Steps x pixels x samples, where they are known and can be stored."""
        return whole_number(self.steps * self.pixels * self.samples) or None


@dataclass(frozen=True)
class LastLook:
    """What is looked at once more in the transaction that writes an intent.

    ``check`` looks at the place and raises what is in the way; it must not use the ledger. ``since`` (seconds
    since the epoch) is when the place was planned: nothing is sent when a job has saved there since.
    ``in_batch``: a picture that another process makes is waited for (:class:`InWork`), and one that was made
    is not made again (:class:`SavedBefore`), but for the jobs in ``passed_over``. ``resubmit_unknown``: jobs
    of the same request whose outcome nobody knows are settled by sending it again.
    """

    check: Callable[[], None] | None = None
    since: float | None = None
    in_batch: bool = False
    passed_over: frozenset[int] = frozenset()
    resubmit_unknown: bool = False


#: For one picture that a person asked for, whose place needs no look.
PLAIN_LOOK: Final = LastLook()


@dataclass(frozen=True)
class SeenCredits:
    """A balance in dollars and when it was seen, in seconds since the epoch."""

    value: float
    at: float


@dataclass(frozen=True)
class Totals:
    """How many jobs the ledger holds and what they cost in dollars, where the cost is known."""

    jobs: int
    cost: float


@dataclass(frozen=True)
class JobRow:
    """One job as the ledger knows it. Times are seconds since the epoch; unknown is ``None``. ``taken_at`` is
    ``submitted_at`` by the gateway's clock.

    ``files`` maps the index of a sample (from 0) to its saved file. ``sources`` are the addresses of the
    results in the order of the samples. ``token`` is the name of its temp files.
    """

    number: int
    token: str
    base_url: str
    mode: Mode
    state: State
    charged: Charged
    expected_cost: float
    created_at: float
    updated_at: float
    request_id: str | None = None
    request: Mapping[str, Any] | None = None
    destination: Mapping[str, Any] | None = None
    promised: tuple[str, ...] = ()
    seed: int | None = None
    samples: int | None = None
    sources: tuple[str, ...] = ()
    files: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    cost: float | None = None
    remaining_credits: float | None = None
    timings: Timings = Timings()
    error: Mapping[str, Any] | None = None
    submitted_at: float | None = None
    taken_at: float | None = None
    completed_at: float | None = None
    saved_at: float | None = None
    owner: Owner | None = None
    claimed_at: float | None = None
    resubmit_of: int | None = None
    superseded_by: int | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state not in UNSETTLED

    @property
    def fetchable(self) -> bool:
        """Whether the gateway can be asked for it. A blocking call that was answered has nothing to fetch
        again, unless its answer named addresses."""
        if self.mode == "sync" and self.state not in ("queued", "processing"):
            return bool(self.sources)
        return self.request_id is not None

    @property
    def status(self) -> str:
        """The state in the words of the JSON contract, which has no word for saved or forgotten."""
        return {"saved": "COMPLETED", "forgotten": "UNKNOWN"}.get(self.state, self.state.upper())

    @property
    def expires_at(self) -> float | None:
        """Until when the gateway keeps the result; unknown for a job that was submitted elsewhere."""
        return None if self.submitted_at is None else self.submitted_at + RESULT_SECONDS

    def age(self, now: float) -> float:
        """Seconds since it was begun; 0 when the clock was set back."""
        return max(0.0, now - self.created_at)


def finite(value: float | None) -> float | None:
    """A number that can be stored and added up, else ``None``."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def whole_number(value: int | None) -> int | None:
    """A whole number that fits a column (64 bits, signed), else ``None``."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def to_json(value: object) -> str:
    """Plain ASCII, so that text which is no valid Unicode can be stored and comes back as it was."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def request_digest(body: Mapping[str, Any]) -> str:
    """The sha256 of a request body as canonical JSON: one text for one body, whatever the order of keys."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(mapping: Mapping[str, Any] | None) -> str | None:
    """A mapping as JSON text; ``None`` stays ``None``."""
    return None if mapping is None else to_json(dict(mapping))


def row_from(columns: Mapping[str, Any]) -> JobRow | None:
    """The job of one row of the table; ``None`` when what it cannot be without is missing or nonsense.

    Anything else that cannot be read counts as unknown: a damaged row must not hide the others.
    """
    get = columns.__getitem__
    number, created, updated = get("number"), _moment(get("created_at")), _moment(get("updated_at"))
    if type(number) is not int or get("state") not in STATES:
        return None
    if get("mode") not in ("async", "sync") or not (_text(get("base_url")) and _text(get("token"))):
        return None
    return JobRow(
        number=number,
        token=get("token"),
        base_url=get("base_url"),
        mode=get("mode"),
        state=get("state"),
        charged=Charged(get("charged")) if get("charged") in ("no", "yes") else Charged.UNKNOWN,
        expected_cost=_number(get("expected_cost")) or 0.0,
        created_at=created or 0.0,
        updated_at=updated or created or 0.0,
        request_id=_text(get("request_id")),
        request=_mapping(get("request")),
        destination=_mapping(get("destination")),
        promised=texts_from(get("promised")),
        seed=_integer(get("seed")),
        samples=_integer(get("samples")),
        sources=texts_from(get("sources")),
        files=files_from(get("files")),
        cost=_number(get("cost")),
        remaining_credits=_number(get("remaining_credits")),
        timings=Timings(
            _number(get("queue_time")), _number(get("inference_time")), _number(get("total_time"))
        ),
        error=_mapping(get("error")),
        submitted_at=_moment(get("submitted_at")),
        taken_at=_moment(get("taken_at")),
        completed_at=_moment(get("completed_at")),
        saved_at=_moment(get("saved_at")),
        owner=Owner.from_text(get("owner")),
        claimed_at=_moment(get("claimed_at")),
        resubmit_of=_integer(get("resubmit_of")),
        superseded_by=_integer(get("superseded_by")),
    )


def files_from(text: object) -> dict[int, Mapping[str, Any]]:
    """The saved files by index of the sample, in order."""
    found = {
        int(index): entry
        for index, entry in (_mapping(text) or _NOTHING).items()
        if index.isascii() and index.isdigit() and len(index) < 10 and isinstance(entry, dict)
    }
    return dict(sorted(found.items()))


def files_to(files: Mapping[int, Mapping[str, Any]]) -> str:
    return to_json({str(index): dict(entry) for index, entry in files.items()})


def texts_to(texts: Sequence[str]) -> str:
    return to_json(list(texts))


def texts_from(text: object) -> tuple[str, ...]:
    """The texts of a JSON list; nothing where there is none."""
    value = _parsed(text)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def _number(value: object) -> float | None:
    return finite(value) if isinstance(value, int | float) else None


def _moment(value: object) -> float | None:
    """A time that can be shown as a date."""
    number = _number(value)
    return number if number is not None and 0.0 <= number <= _LAST_MOMENT else None


def _integer(value: object) -> int | None:
    return value if type(value) is int else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(text: object) -> dict[str, Any] | None:
    value = _parsed(text)
    return value if isinstance(value, dict) else None


def _parsed(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
