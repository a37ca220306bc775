"""What the gateway layer tells an observer while it works; every text in an event is redacted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """One HTTP exchange that ended. ``path`` is the path on our base URL, or a download's address without
    its query. ``status`` is None when no answer came; ``error`` then says why. ``ms`` are milliseconds.
    """

    method: str
    path: str
    status: int | None
    ms: float
    request_id: str | None
    error: str | None


@dataclass(frozen=True)
class Retrying:
    """``what`` is tried again in ``seconds``, because of ``reason``. Sent before the wait."""

    what: str
    seconds: float
    reason: str


@dataclass(frozen=True)
class CreditsSeen:
    """The balance that a reply's ``x-remaining-credits`` named."""

    value: float


@dataclass(frozen=True)
class Throttled:
    """A 429 came; ``seconds`` is how long the server asks to wait, None when it does not say."""

    seconds: float | None


Event = Exchange | Retrying | CreditsSeen | Throttled
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An observer for those who do not care."""
