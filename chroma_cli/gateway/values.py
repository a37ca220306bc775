"""Single values out of replies and headers: numbers, seeds, ids. Whatever is not usable is None."""

from __future__ import annotations

import re
from typing import Any, Final

_NUMBER: Final = re.compile(r"[+-]?\d{1,20}(\.\d{0,30})?([eE][+-]?\d{1,3})?\Z", re.ASCII)
#: A whole part in groups of three, parted by commas, spaces or apostrophes; "0,055" is none.
_GROUPED: Final = re.compile(
    r"([+-]?[1-9]\d{0,2})((?:[,'\u2019 \xa0\u2009\u202f]\d{3}){1,4})(\.\d{0,30})?\Z", re.ASCII
)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
#: No cost, balance or duration is larger; beyond it a number is nonsense.
_LARGEST: Final = 1e12
#: Seeds are kept in signed 64-bit columns.
_SEED_LIMIT: Final = 2**63 - 1


def _finite(value: Any) -> float | None:
    if isinstance(value, str):
        value = float(value) if _NUMBER.match(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -_LARGEST <= value <= _LARGEST:  # also False for NaN
        return None
    return float(value)


def amount(value: Any) -> float | None:
    """A cost or a duration: finite and not negative. Numeric text is accepted, true and false are not."""
    number = _finite(value)
    return number if number is not None and number >= 0 else None


def balance(value: Any) -> float | None:
    """A balance, which may be negative. As text it may have its thousands in groups."""
    grouped = _GROUPED.match(value.strip()) if isinstance(value, str) else None
    if grouped is not None:
        value = grouped[1] + re.sub(r"\D", "", grouped[2]) + (grouped[3] or "")
    return _finite(value)


def whole(value: Any) -> int | None:
    """A seed: 0 to 2^63-1, as a number or as digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value.strip()):
        value = int(value.strip())
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _SEED_LIMIT else None


def usable_id(value: Any) -> str | None:
    """A request id that may stand in a path; None for anything else."""
    return value if isinstance(value, str) and _REQUEST_ID.match(value) else None
