"""Documents and headers into dataclasses: every documented shape of a reply in either version, and garbage.

What makes no sense raises BadReply; nothing else comes out of here, whatever goes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from chroma_cli.errors import BadReply, Charged
from chroma_cli.gateway.addresses import looks_like_address
from chroma_cli.gateway.documents import Document, body_words, error_words
from chroma_cli.gateway.pictures import Address, Source, Spooled, find_pictures
from chroma_cli.gateway.redact import Redactor
from chroma_cli.gateway.retry import server_time
from chroma_cli.gateway.values import amount, balance, usable_id, whole

State = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]
_STATES: Final[dict[str, State]] = {
    "QUEUED": "QUEUED",
    "PROCESSING": "PROCESSING",
    "COMPLETED": "COMPLETED",
    "FAILED": "FAILED",
}
_STATE_LIMIT: Final = 64


@dataclass(frozen=True)
class Metrics:
    """What a job cost (in credits) and how long it took (in seconds); None where the reply does not say."""

    cost: float | None = None
    remaining_credits: float | None = None
    queue_time: float | None = None
    inference_time: float | None = None
    total_time: float | None = None


@dataclass(frozen=True)
class Submitted:
    """A job that was accepted. The addresses are for showing; they are never asked. ``taken_at`` is when, by
    the gateway's own clock, in seconds since the epoch."""

    request_id: str
    status: str
    status_url: str | None
    response_url: str | None
    remaining_credits: float | None
    taken_at: float | None = None


@dataclass(frozen=True)
class Status:
    """How a job is. A state that is not known counts as PROCESSING; ``raw_state`` has its word.

    ``error`` is the server's text of a failure, "" when it gave none; None for other states.
    """

    state: State
    raw_state: str
    error: str | None
    metrics: Metrics
    request_id: str | None


@dataclass(frozen=True)
class Result:
    """What a job gave. ``sources`` is empty unless the state is COMPLETED, and then never empty."""

    state: State
    sources: tuple[Source, ...]
    seed: int | None
    metrics: Metrics
    error: str | None
    request_id: str | None = None


@dataclass(frozen=True)
class Credits:
    """The account's balance, in credits; what could not be read is None, and so is the total then."""

    credits: float | None
    free_credits: float | None

    @property
    def total(self) -> float | None:
        if self.credits is None or self.free_credits is None:
            return None
        return round(self.credits + self.free_credits, 6)  # sums of cents are not exact


def terminal_state(document: Document) -> State | None:
    """COMPLETED or FAILED when the body says so itself; it then counts whatever the HTTP status is."""
    word = document.fields.get("status")
    state = _state(word) if isinstance(word, str) else None
    return state if state in ("COMPLETED", "FAILED") else None


def is_about_another(document: Document, request_id: str, redactor: Redactor) -> bool:
    """Whether a reply names a job that is not this one. Hyphens and case make no difference: the gateway
    writes one id in several ways.
    """
    named = own_id(document.fields.get("request_id"), redactor)
    return named is not None and _plain_id(named) != _plain_id(request_id)


def _plain_id(request_id: str) -> str:
    return request_id.replace("-", "").lower()


def read_submitted(document: Document, headers: Mapping[str, str], redactor: Redactor) -> Submitted | None:
    """The answer to a submit; None when it names no usable request id."""
    fields = document.fields
    request_id = own_id(fields.get("request_id"), redactor)
    if request_id is None:
        return None
    word = fields.get("status")
    return Submitted(
        request_id=request_id,
        status=redactor.line(word, _STATE_LIMIT) if isinstance(word, str) and word else "QUEUED",
        status_url=_shown_address(fields.get("status_url"), redactor),
        response_url=_shown_address(fields.get("response_url"), redactor),
        remaining_credits=balance(headers.get("x-remaining-credits"))
        if "x-remaining-credits" in headers
        else _metrics(fields).remaining_credits,
        taken_at=server_time(headers),
    )


def read_status(document: Document, redactor: Redactor) -> Status:
    """A job's state; raises BadReply when the document has none."""
    fields = document.fields
    word = fields.get("status")
    if not isinstance(word, str) or not word.strip():
        raise BadReply(_nonsense("status", document, redactor))
    state = _state(word)
    return Status(
        state=state,
        raw_state=redactor.line(word, _STATE_LIMIT),
        error=error_words(fields, redactor) if state == "FAILED" else None,
        metrics=_metrics(fields),
        request_id=own_id(fields.get("request_id"), redactor),
    )


def read_result(
    document: Document, headers: Mapping[str, str], redactor: Redactor, samples: int | None = None
) -> Result:
    """A job's result from JSON or text; raises BadReply when it is none, or completed without a picture."""
    fields = document.fields
    word = fields.get("status")
    said = word if isinstance(word, str) and word.strip() else None
    state = _state(said) if said is not None else None
    if state == "FAILED":
        return _result("FAILED", (), fields, headers, redactor)
    whole_text = document.text if not document.is_json and document.fault is None else None
    sources = find_pictures(document.value if document.is_json else whole_text, samples)
    if sources and (state in (None, "COMPLETED") or said not in _STATES):
        _keep_the_key(sources, redactor)
        return _result("COMPLETED", sources, fields, headers, redactor)
    if state == "COMPLETED":
        words = error_words(fields, redactor)
        raise BadReply(
            "The job is completed, but there is no picture in the gateway's answer"
            + (f": {words}" if words else "."),
            hint="It was probably charged. If another try brings no picture either, ask the provider, with "
            "the request id.",
            charged=Charged.YES,
        )
    if state is None:
        raise BadReply(_nonsense("result", document, redactor))
    return _result(state, (), fields, headers, redactor)


def spooled_result(source: Spooled, headers: Mapping[str, str], redactor: Redactor) -> Result:
    """The result whose picture was the body itself; the rest stands in the headers."""
    return _result("COMPLETED", (source,), {}, headers, redactor)


def read_credits(document: Document, redactor: Redactor) -> Credits:
    """The balance; raises BadReply when neither number is there."""
    fields = document.fields
    paid = balance(fields.get("credits"))
    free = balance(fields.get("free-credits", fields.get("free_credits")))
    if paid is None and free is None:
        raise BadReply(_nonsense("balance", document, redactor))
    return Credits(paid, free)


# --- parts -----------------------------------------------------------------------------------------------


def _state(word: str) -> State:
    return _STATES.get(word.strip().upper(), "PROCESSING")


def _result(
    state: State,
    sources: tuple[Source, ...],
    fields: Mapping[str, Any],
    headers: Mapping[str, str],
    redactor: Redactor,
) -> Result:
    seed = whole(fields.get("seed"))
    request_id = own_id(fields.get("request_id"), redactor)
    return Result(
        state=state,
        sources=sources,
        seed=seed if seed is not None else whole(headers.get("x-seed-value")),
        metrics=_metrics(fields, headers),
        error=error_words(dict(fields), redactor) if state == "FAILED" else None,
        request_id=request_id or own_id(headers.get("x-request-id"), redactor),
    )


def _metrics(fields: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Metrics:
    """From ``metrics``, else ``timings``, else the body's top, else a v1 reply's headers."""
    places = [fields.get("metrics"), fields.get("timings"), fields]
    tables: list[Mapping[str, Any]] = [place for place in places if isinstance(place, dict)]
    headers = headers or {}

    def find(*names: str, header: str = "", read: Callable[[Any], float | None] = amount) -> float | None:
        for table in tables:
            for name in names:
                value = read(table.get(name))
                if value is not None:
                    return value
        return read(headers.get(header))

    return Metrics(
        cost=find("cost", header="x-cost"),
        remaining_credits=find("remaining_credits", header="x-remaining-credits", read=balance),
        queue_time=find("queue_time", "queue"),
        inference_time=find("inference_time", "inference", header="x-generation-time"),
        total_time=find("total_time", "total"),
    )


def _keep_the_key(sources: tuple[Source, ...], redactor: Redactor) -> None:
    """Refuse addresses that hold the key here already: they are written down before anything is fetched."""
    if any(isinstance(one, Address) and redactor.gives_away(one.url) for one in sources):
        raise BadReply(
            "The gateway named a picture whose address contains the key: not fetched.",
            hint="Nothing was sent there. Check which gateway you use: chroma config",
            charged=Charged.YES,
        )


def own_id(value: Any, redactor: Redactor) -> str | None:
    """A usable request id; one that holds the key would end in addresses and logs."""
    usable = usable_id(value)
    return None if usable is None or redactor.gives_away(usable) else usable


def _shown_address(value: Any, redactor: Redactor) -> str | None:
    if not isinstance(value, str) or not looks_like_address(value) or redactor.gives_away(value):
        return None
    return redactor.line(value, 1000)


def _nonsense(wanted: str, document: Document, redactor: Redactor) -> str:
    if document.fault is not None:
        return f"The gateway's answer is not whole: {document.fault}."
    words = redactor.line(body_words(document, redactor))
    return f"The gateway's answer holds no {wanted}" + (f"; it says: {words}" if words else "; it is empty.")
