"""When to try again: back-off with full jitter, and what the server asks for. Pure.

The rate-limit header's format is not documented (GATEWAY facts, "Rate limits"): ISO 8601 with or without a
zone, HTTP dates, and epoch seconds or milliseconds are read; anything else counts as unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

Jitter = Callable[[], float]

#: A reset further ahead is taken for a misread format, not for a wait.
_FURTHEST_RESET: Final = 3600.0
#: 1e11 seconds are the year 5138; as milliseconds they are 1973.
_MILLISECONDS_FROM: Final = 1e11
#: Between the server's clock and ours; less is the Date header's own coarseness.
_TOLERATED_SKEW: Final = 30.0
_NUMBER: Final = re.compile(r"\d{1,17}(\.\d{1,9})?\Z", re.ASCII)


@dataclass(frozen=True)
class Backoff:
    """Exponential, capped, with full jitter: between nothing and ``base * 2**n`` seconds, at most ``cap``."""

    base: float = 0.5
    cap: float = 8.0

    def delay(self, attempt: int, jitter: Jitter) -> float:
        """Seconds to wait after the ``attempt``-th failure, counted from 1; jitter gives 0.0 to 1.0."""
        highest = min(self.cap, self.base * 2.0 ** min(attempt - 1, 30))
        return highest * jitter()


def _date(text: str) -> float | None:
    """An ISO 8601 or HTTP date as epoch seconds; without a zone it is UTC."""
    moment: datetime | None = None
    iso = re.sub(r"\s*(UTC|GMT)\Z", "+00:00", text) if re.match(r"\d{4}-", text) else None
    try:
        moment = datetime.fromisoformat(iso) if iso is not None else parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _moment(text: str) -> float | None:
    if _NUMBER.match(text):
        number = float(text)
        return number / 1000.0 if number >= _MILLISECONDS_FROM else number
    return _date(text)


def reset_in(text: str, now: float) -> float | None:
    """Seconds until the moment that ``x-rate-limit-reset-at-utc`` names; None when that is unknown, past, or
    more than an hour ahead. ``now`` is epoch seconds.
    """
    moment = _moment(text.strip()[:64])
    if moment is None:
        return None
    ahead = moment - now
    return ahead if 0.0 < ahead <= _FURTHEST_RESET else None


def retry_after(text: str, now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for, as a number or a date; None when it cannot be read."""
    text = text.strip()[:64]
    if _NUMBER.match(text):
        return float(text)
    moment = _date(text)
    return max(0.0, moment - now) if moment is not None else None


def server_time(headers: Mapping[str, str]) -> float | None:
    """Return the server's own clock as its ``Date`` has it, in epoch seconds; None when it cannot be read."""
    text = headers.get("date", "").strip()[:64]
    return _date(text) if text else None


def wait_asked(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a reply asks to wait, None when it does not say.

    Retry-After is the standard's word and goes first. Where the server's own clock (its Date header) is far
    from ours, the reset is counted from the server's.
    """
    told = server_time(headers)
    if told is not None and abs(told - now) > _TOLERATED_SKEW:
        now = told
    asked = retry_after(headers["retry-after"], now) if "retry-after" in headers else None
    if asked is None and "x-rate-limit-reset-at-utc" in headers:
        asked = reset_in(headers["x-rate-limit-reset-at-utc"], now)
    return asked if asked is not None and math.isfinite(asked) else None
