"""What can be asked of the ledger: every query that only reads, and the shapes of those that must be quick.

A ledger lives for years, so whatever is asked on the way to a picture goes through an index; where that
matters the statement names it (INDEXED BY), which turns "slow one day" into an error that tests see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from chroma_cli.clock import Clock
from chroma_cli.jobs.owner import Owner, is_gone
from chroma_cli.jobs.records import (
    JobRow,
    SeenCredits,
    Totals,
    files_from,
    finite,
    row_from,
    texts_from,
    to_json,
    whole_number,
)

if TYPE_CHECKING:
    import sqlite3

Result = TypeVar("Result")
Filter = Literal["all", "pending", "failed"]

#: So many past durations are given out; enough for a good guess, few enough to be quick.
LEARNT_ROWS: Final = 50

# The conditions of two partial indexes, letter by letter.
IS_UNSETTLED: Final = "state IN ('submitting', 'queued', 'processing', 'completed', 'unknown')"
_IS_FAILED: Final = "state IN ('failed', 'expired')"
UNSETTLED_ROWS: Final = f"SELECT * FROM jobs INDEXED BY jobs_unsettled WHERE {IS_UNSETTLED}"  # noqa: S608 - constants
_FAILED_ROWS: Final = f"SELECT * FROM jobs INDEXED BY jobs_failed WHERE {_IS_FAILED}"  # noqa: S608

_SAME_WORK: Final = (
    "SELECT work, seconds FROM jobs INDEXED BY jobs_durations WHERE seconds IS NOT NULL "
    "AND base_url = ? AND work = ? ORDER BY number DESC LIMIT ?"
)
_LESS_WORK: Final = (
    "SELECT work, seconds FROM jobs INDEXED BY jobs_durations WHERE seconds IS NOT NULL "
    "AND base_url = ? AND work < ? ORDER BY work DESC, number DESC LIMIT ?"
)
_MORE_WORK: Final = (
    "SELECT work, seconds FROM jobs INDEXED BY jobs_durations WHERE seconds IS NOT NULL "
    "AND base_url = ? AND work > ? ORDER BY work ASC, number DESC LIMIT ?"
)
_HIGHEST_COST: Final = (
    "SELECT max(cost) FROM jobs INDEXED BY jobs_prices WHERE cost > 0 "
    "AND base_url = ? AND work = ? AND samples = ?"
)

#: So many jobs of one request are looked at, the newest first.
_MOST_TWINS: Final = 50
_OF_DIGEST: Final = (
    "SELECT * FROM jobs INDEXED BY jobs_by_digest WHERE digest = ? AND base_url = ? "
    "AND state NOT IN ('failed', 'expired', 'forgotten') ORDER BY number DESC LIMIT ?"
)
_SAVED_SINCE: Final = (
    "SELECT number FROM jobs INDEXED BY jobs_by_saving WHERE saved_at IS NOT NULL AND saved_at >= ? "
    "AND instr(promised, ?) ORDER BY saved_at DESC LIMIT 1"
)


class Answers(ABC):
    """The reading half of the ledger.

    Every method is one transaction and raises :class:`~chroma_cli.jobs.records.LedgerUnusable` when the file
    cannot be used.
    """

    _clock: Clock
    _me: Owner

    def __init__(self) -> None:
        # The token of each row this object has seen: a number alone may stand for another job in a
        # ledger that was begun anew meanwhile.
        self._tokens: dict[int, str] = {}
        #: The file was damaged, or replaced since it was opened: what was spent is not known for sure.
        self.history_lost = False

    @abstractmethod
    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` in one read transaction."""

    @abstractmethod
    def _write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` in one write transaction; it may be run again from the start."""

    def get(self, ident: str | int, base_url: str | None = None) -> JobRow | None:
        """By request id (of that gateway, when one is given), else by job number. The newest of several."""

        def work(db: sqlite3.Connection) -> JobRow | None:
            row = by_request(db, ident, base_url) if isinstance(ident, str) else None
            number = _job_number(ident)
            return row if row is not None or number is None else find(db, number)

        row = self._read(work)
        return row if row is None else self._seen(row)

    def pending(self, base_url: str) -> list[JobRow]:
        """The unsettled jobs of that gateway, oldest first."""
        return self._rows(f"{UNSETTLED_ROWS} AND base_url = ? ORDER BY number", base_url)

    def elsewhere(self, base_url: str) -> list[JobRow]:
        """The unsettled jobs of all other gateways, oldest first."""
        return self._rows(f"{UNSETTLED_ROWS} AND base_url <> ? ORDER BY number", base_url)

    def recent(self, limit: int, which: Filter = "all", base_url: str | None = None) -> list[JobRow]:
        """The newest jobs, newest first, by number: the clock may have jumped."""
        if which == "all" and base_url is not None:
            query = "SELECT * FROM jobs INDEXED BY jobs_by_place WHERE base_url = ?"
        else:
            rows = {"all": "SELECT * FROM jobs WHERE 1", "pending": UNSETTLED_ROWS, "failed": _FAILED_ROWS}
            query = rows[which] + ("" if base_url is None else " AND base_url = ?")
        values = [base_url] if base_url is not None else []
        return self._rows(f"{query} ORDER BY number DESC LIMIT ?", *values, max(0, min(limit, 2**31)))

    def totals(self, base_url: str | None = None) -> Totals:
        """Sums over the rows of one gateway, or all."""

        def work(db: sqlite3.Connection) -> Totals:
            query = "SELECT total(jobs), total(cost) FROM totals WHERE base_url = coalesce(?, base_url)"
            jobs, cost = db.execute(query, (base_url,)).fetchone()
            # Sums of cents: what is beyond is rounding, which could show as -0.0.
            return Totals(int(jobs), abs(round(cost, 6)))

        return self._read(work)

    def promised(self, *, besides: int | None = None) -> frozenset[str]:
        """The absolute paths that unsettled jobs will write to; ``besides`` leaves out those of one job."""

        def work(db: sqlite3.Connection) -> frozenset[str]:
            rows = db.execute("SELECT path FROM promises WHERE job IS NOT ?", (besides,))
            return frozenset(path for (text,) in rows for path in texts_from(f"[{text}]"))

        return self._read(work)

    def last_credits(self, base_url: str) -> SeenCredits | None:
        """The balance seen last at that gateway."""

        def work(db: sqlite3.Connection) -> SeenCredits | None:
            query = "SELECT value, at FROM facts WHERE name = ?"
            found = db.execute(query, (f"credits {base_url}",)).fetchone()
            value, at = map(finite, map(float, found)) if found is not None else (None, None)
            return None if value is None or at is None else SeenCredits(value, at)

        try:
            return self._read(work)
        except ValueError:
            return None

    def learnt(self, base_url: str, steps: int, pixels: int, samples: int) -> list[float]:
        """How long such jobs took from submit to result, in seconds, the newest first, at most 50.

        Of the same steps x pixels x samples; when there are none, those of the nearest amount of work,
        scaled in proportion to it (``schema.workload`` says why).
        """
        work_wanted = steps * pixels * samples
        if not 0 < work_wanted < 2**63:
            return []

        def work(db: sqlite3.Connection) -> list[tuple[int, float]]:
            values = (base_url, work_wanted, LEARNT_ROWS)
            same = db.execute(_SAME_WORK, values).fetchall()
            if same:
                return same
            sides = [db.execute(query, values).fetchall() for query in (_LESS_WORK, _MORE_WORK)]
            return min(filter(None, sides), key=lambda rows: _ratio(rows[0][0], work_wanted), default=[])

        found = self._read(work)
        nearest = found[0][0] if found else 0
        return [seconds * work_wanted / nearest for size, seconds in found if size == nearest and nearest > 0]

    def highest_cost(self, base_url: str, steps: int, pixels: int, samples: int) -> float | None:
        """The most that a job of such work is known to have cost, in dollars; None where none has told."""
        return self._read(lambda db: highest_cost(db, base_url, steps * pixels * samples, samples))

    def saved_at(self, base_url: str, paths: Container[str]) -> list[JobRow]:
        """The jobs of that gateway with a file saved at one of these absolute paths, newest first.

        Looks through all saved jobs: not for the way to every picture.
        """
        query = "SELECT number, files FROM jobs INDEXED BY jobs_by_place WHERE base_url = ? AND files <> '{}'"

        def work(db: sqlite3.Connection) -> list[JobRow]:
            cursor = db.execute(f"{query} ORDER BY number DESC", (base_url,))
            found = [
                number
                for number, files in cursor
                if any(entry.get("path") in paths for entry in files_from(files).values())
            ]
            rows = (find(db, number) for number in found)
            return [row for row in rows if row is not None]

        return [self._seen(row) for row in self._read(work)]

    def saved_from(self, base_url: str, digest: str) -> list[JobRow]:
        """The jobs of that gateway that have saved the pictures of the request of this digest, the newest
        first."""
        rows = self._read(lambda db: of_digest(db, base_url, digest))
        return [self._seen(row) for row in rows if row.state == "saved"]

    def in_work(self, row: JobRow) -> bool:
        """Whether another process that is alive has claimed it."""
        if row.owner is None:
            return False
        idle = self._clock.wall() - (row.claimed_at if row.claimed_at is not None else 0.0)
        return row.owner != self._me and not is_gone(row.owner, seen_from=self._me, idle=idle)

    def is_claimed(self, row: JobRow) -> bool:
        """Whether a process that is alive has claimed it, this one included."""
        return row.owner is not None and (row.owner == self._me or self.in_work(row))

    def _rows(self, query: str, *values: Any) -> list[JobRow]:
        def work(db: sqlite3.Connection) -> list[JobRow]:
            return decoded(db, query, values)

        return [self._seen(row) for row in self._read(work)]

    def _seen(self, row: JobRow) -> JobRow:
        self._tokens.setdefault(row.number, row.token)
        return row


def decoded(db: sqlite3.Connection, query: str, values: Sequence[Any]) -> list[JobRow]:
    """The jobs of all rows of a query that can be read."""
    rows = map(row_from, _mappings(db, query, values))
    return [row for row in rows if row is not None]


def _mappings(db: sqlite3.Connection, query: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    cursor = db.execute(query, values)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, columns, strict=True)) for columns in cursor)


def columns_of(db: sqlite3.Connection, number: int) -> dict[str, Any]:
    """All columns of one job, undecoded; empty when there is none."""
    return next(_mappings(db, "SELECT * FROM jobs WHERE number = ?", (number,)), {})


def find(db: sqlite3.Connection, number: int) -> JobRow | None:
    return next(iter(decoded(db, "SELECT * FROM jobs WHERE number = ?", (number,))), None)


def row_of(db: sqlite3.Connection, number: int) -> JobRow:
    row = find(db, number)
    if row is None:  # pragma: no cover - it was written in this very transaction
        raise LookupError(number)
    return row


def by_request(db: sqlite3.Connection, request_id: str, base_url: str | None) -> JobRow | None:
    """The newest job of that id. A gateway that gives out one id twice is no reason to lose a row, so ids
    are not forced to be unique."""
    query = (
        "SELECT * FROM jobs INDEXED BY jobs_by_request WHERE request_id = ? "
        "AND base_url = coalesce(?, base_url) ORDER BY number DESC LIMIT 1"
    )
    return next(iter(decoded(db, query, (request_id, base_url))), None)


def of_digest(db: sqlite3.Connection, base_url: str, digest: str) -> list[JobRow]:
    """The jobs of one request that are unsettled or saved, the newest first."""
    return decoded(db, _OF_DIGEST, (digest, base_url, _MOST_TWINS))


def saved_since(db: sqlite3.Connection, paths: Sequence[str], since: float) -> int | None:
    """A job that has saved its picture at one of these promised places since then."""
    for path in paths:
        found = db.execute(_SAVED_SINCE, (since, to_json(path))).fetchone()
        if found is not None:
            return int(found[0])
    return None


def highest_cost(db: sqlite3.Connection, base_url: str, work: int | None, samples: int) -> float | None:
    """See :meth:`Answers.highest_cost`."""
    if whole_number(work) is None or whole_number(samples) is None:
        return None
    found = db.execute(_HIGHEST_COST, (base_url, work, samples)).fetchone()[0]
    return None if found is None else float(found)


def _job_number(ident: str | int) -> int | None:
    if isinstance(ident, str):
        return int(ident) if ident.isascii() and ident.isdigit() and len(ident) <= 18 else None
    return whole_number(ident)


def _ratio(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1)
