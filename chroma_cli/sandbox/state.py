"""What the sandbox remembers: the account and the jobs, as records that go to JSON and back.

Pure. A record that does not read back as what it should be raises ValueError; the store then starts afresh.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from chroma_cli.request import schema
from chroma_cli.sandbox import intake

VERSION: Final = 1
#: No time and no amount comes near; also keeps infinities and integers too long for a float out.
_LARGEST: Final = 1e15
#: Prompts with a count of refusals that are remembered; more are forgotten, oldest first.
_REFUSALS_KEPT: Final = 200


@dataclass(frozen=True)
class OpenCharge:
    """A running job that will be charged ``cost`` dollars at ``ends`` (seconds since the epoch)."""

    ends: float
    job: str
    cost: float


@dataclass
class Account:
    """Balance in dollars, the rate window, and what a fresh id is made of.

    ``refilled`` is when the balance was last full (seconds since the epoch; 0: before the first call).
    ``salt`` keeps ids and seeds of one world apart from those of any other.
    """

    salt: str
    balance: float
    refilled: float = 0.0
    counter: int = 0
    open: list[OpenCharge] = field(default_factory=list)
    window_start: float = 0.0
    window_count: int = 0
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def available(self) -> float:
        """What running jobs have not spoken for."""
        return self.balance - sum(charge.cost for charge in self.open)

    def refuse(self, key: str) -> int:
        """Count one more refusal under ``key``; how many there were before."""
        before = self.refusals.pop(key, 0)
        self.refusals[key] = before + 1
        while len(self.refusals) > _REFUSALS_KEPT:
            del self.refusals[next(iter(self.refusals))]
        return before

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: object) -> Account:
        """Raises ValueError for anything that :meth:`to_dict` would not have written."""
        record = _record(data)
        charges = [_record(item, versioned=False) for item in _list(record, "open")]
        return cls(
            salt=_text(record, "salt"),
            balance=_number(record, "balance"),
            refilled=_number(record, "refilled"),
            counter=_whole(record, "counter"),
            open=[
                OpenCharge(_number(charge, "ends"), _text(charge, "job"), _number(charge, "cost"))
                for charge in charges
            ],
            window_start=_number(record, "window_start"),
            window_count=_whole(record, "window_count"),
            refusals=_counts(record, "refusals"),
        )


Mode = Literal["async", "sync"]


@dataclass(frozen=True)
class Job:
    """One accepted request; times in seconds since the epoch, ``cost`` and ``remaining`` in dollars.

    ``request`` is the effective one (see ``intake.effective``). ``failure`` is the error it ends with.
    ``remaining`` is the balance after it was charged. ``asked`` counts GETs by route, ``bad_run`` the
    failed ones since the last good one, ``delivered`` how often each picture went out.
    """

    id: str
    mode: Mode
    request: dict[str, Any]
    submitted: float
    started: float
    ends: float
    cost: float
    failure: str | None = None
    remaining: float | None = None
    asked: dict[str, int] = field(default_factory=dict)
    bad_run: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: object) -> Job:
        """Raises ValueError for anything that :meth:`to_dict` would not have written."""
        record = _record(data)
        mode = record.get("mode")
        if mode not in ("async", "sync"):
            raise ValueError("mode")
        failure, remaining = record.get("failure"), record.get("remaining")
        request = _record(record.get("request"), versioned=False)
        _text(request, "prompt")
        runnable = schema.BY_NAME.keys() <= request.keys() and not intake.problems_in(request)
        if failure is None and not runnable:
            raise ValueError("request")
        return cls(
            id=_text(record, "id"),
            mode="async" if mode == "async" else "sync",
            request=request,
            submitted=_number(record, "submitted"),
            started=_number(record, "started"),
            ends=_number(record, "ends"),
            cost=_number(record, "cost"),
            failure=None if failure is None else _text(record, "failure"),
            remaining=None if remaining is None else _number(record, "remaining"),
            asked=_counts(record, "asked"),
            bad_run=_counts(record, "bad_run"),
            delivered=_counts(record, "delivered"),
        )


def _record(data: object, *, versioned: bool = True) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError("not a record")
    if versioned and _whole(data, "version") != VERSION:
        raise ValueError("version")
    return data


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(key)
    return value


def _number(record: dict[str, Any], key: str) -> float:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise ValueError(key)
    if math.isnan(value):
        raise ValueError(key)
    return float(value)


def _whole(record: dict[str, Any], key: str) -> int:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError(key)
    return value


def _list(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise ValueError(key)
    return value


def _counts(record: dict[str, Any], key: str) -> dict[str, int]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(key)
    return {name: _whole(value, name) for name in value}
