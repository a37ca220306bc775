"""Budgets: what a job is expected to cost, what is spent or reserved, and whether a limit allows for more.

:func:`check` runs in the transaction that writes the intent, so for all processes that share a ledger the
check and the reservation are one step. A job counts as what it cost. While that is not known, or was told as
nothing, it counts as expected, or as the highest price seen for such work if that is more.

What a job of work whose price was never seen will cost is a guess. So there is one such job in flight at a
time, and a limit is passed by the surplus of one job at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from chroma_cli.errors import Charged, LimitError
from chroma_cli.jobs.answers import IS_UNSETTLED, decoded, highest_cost
from chroma_cli.jobs.records import RESULT_SECONDS, Intent, JobRow

if TYPE_CHECKING:
    import sqlite3

    from chroma_cli.request.builder import ImageRequest

Work = tuple[int, int, int]

_SEEN: Final = "seen.base_url = jobs.base_url AND seen.work = jobs.work AND seen.samples = jobs.samples"
_PRICED: Final = (
    f"SELECT max(seen.cost) FROM jobs AS seen INDEXED BY jobs_prices WHERE seen.cost > 0 AND {_SEEN}"  # noqa: S608 - constants
)
_FINISHED: Final = (
    "SELECT 1 FROM jobs AS seen INDEXED BY jobs_durations "  # noqa: S608
    f"WHERE seen.seconds IS NOT NULL AND {_SEEN}"
)
_COUNTED: Final = f"CASE WHEN cost > 0 THEN cost ELSE max(expected_cost, coalesce(({_PRICED}), 0.0)) END"
_ANY_FINISHED: Final = (
    "SELECT 1 FROM jobs INDEXED BY jobs_durations WHERE seconds IS NOT NULL "
    "AND base_url = ? AND work = ? AND samples = ? LIMIT 1"
)
_PRICE_AWAITED: Final = (
    f"SELECT * FROM jobs INDEXED BY jobs_unsettled WHERE {IS_UNSETTLED} "  # noqa: S608
    "AND state IN ('submitting', 'queued', 'processing') AND work IS NOT NULL "
    f"AND coalesce(submitted_at, created_at) > ? AND ({_PRICED}) IS NULL AND NOT EXISTS ({_FINISHED}) "
)


@dataclass(frozen=True)
class Limit:
    """At most ``amount`` dollars: in a day or a month (UTC) over the whole ledger, or for one run."""

    name: Literal["day", "month", "run"]
    amount: float
    #: Which run; its jobs bear this name in the ledger.
    run: str | None = None

    def scope(self, now: float) -> tuple[str, str | float | None]:
        """Return the condition for the rows that count, and its value."""
        if self.name == "run":
            return "run = ?", self.run
        return "created_at >= ?", (day_start if self.name == "day" else month_start)(now)

    @property
    def words(self) -> str:
        return "--budget" if self.name == "run" else f"{self.name} limit"

    @property
    def hint(self) -> str:
        if self.name == "run":
            return "Run it again with a larger --budget: what is made stays made."
        return (
            f"Raise CHROMA_BUDGET_{self.name.upper()}, or {self.name} under [budget] in the config file; or"
            " settle unknown jobs: chroma jobs --pending"
        )


class PriceNotKnown(LimitError):
    """A limit is set, and the job ``waits_for`` is in flight, of which nobody knows what it will cost.

    ``awaited``: a process that is alive works on it.
    """

    type = "price_not_known"
    waits_for: JobRow
    awaited: bool

    @classmethod
    def of(cls, job: JobRow, *, awaited: bool) -> PriceNotKnown:
        error = cls(
            f"With a budget, jobs whose price was never seen go one at a time, and job {job.number} is still"
            " in flight: it will tell the price."
        )
        error.waits_for, error.awaited = job, awaited
        return error


def day_start(now: float) -> float:
    """Return when the day (UTC) of that moment began, in seconds since the epoch."""
    return now - now % 86400.0


def month_start(now: float) -> float:
    """Return when the month (UTC) of that moment began, in seconds since the epoch."""
    return datetime.fromtimestamp(day_start(now), tz=UTC).replace(day=1).timestamp()


def work_of(request: ImageRequest) -> Work:
    """Return what decides how long a job takes and what it costs: steps, pixels of one picture, samples."""
    width, height = request.size
    return request.steps, width * height, request.samples


class Costs:
    """What requests are expected to cost: the documented price, or ``highest`` seen of such work if more."""

    def __init__(self, highest: Callable[[ImageRequest], float | None]) -> None:
        self._highest = highest
        self._known: dict[Work, float | None] = {}

    def expected(self, request: ImageRequest) -> float:
        work = work_of(request)
        if work not in self._known:
            self._known[work] = self._highest(request)
        return max(request.expected_cost, self._known[work] or 0.0)


def counted(job: JobRow) -> float:
    """Return the dollars that a job counts as."""
    if job.charged is Charged.NO:
        return 0.0
    return job.cost if job.cost is not None and job.cost > 0 else job.expected_cost


def check(
    db: sqlite3.Connection,
    intent: Intent,
    limits: Sequence[Limit],
    now: float,
    at_work: Callable[[JobRow], bool],
) -> None:
    """Raise :class:`LimitError` when the intent would pass a limit, :class:`PriceNotKnown` when it has to
    wait. ``intent.expected_cost`` is what it counts as; ``at_work`` says whether anybody works on a job."""
    for limit in limits:
        spent = _spent(db, limit, now)
        if spent + intent.expected_cost > limit.amount + 1e-9:  # sums of cents are not exact
            raise LimitError(
                f"This would cost about ${intent.expected_cost:.3f}; of the {limit.words} of"
                f" ${limit.amount:.2f}, ${spent:.3f} is spent or reserved.",
                hint=limit.hint,
            )
    if not limits or _has_price(db, intent):
        return
    # a result is kept for so long, and then nobody will learn what it cost
    since = now - RESULT_SECONDS
    for limit in limits:
        condition, value = limit.scope(now)
        unpriced = decoded(db, f"{_PRICE_AWAITED} AND {condition} ORDER BY number", (since, value))
        if unpriced:
            left_alone = [job for job in unpriced if not at_work(job)]
            raise PriceNotKnown.of((left_alone or unpriced)[0], awaited=not left_alone)


def _spent(db: sqlite3.Connection, limit: Limit, now: float) -> float:
    condition, value = limit.scope(now)
    index = "jobs_by_run" if limit.name == "run" else "jobs_spent"
    query = f"SELECT total({_COUNTED}) FROM jobs INDEXED BY {index} WHERE {condition} AND charged <> 'no'"  # noqa: S608
    return float(db.execute(query, (value,)).fetchone()[0])


def _has_price(db: sqlite3.Connection, intent: Intent) -> bool:
    """Return whether a job of such work has shown its price, or has ended without telling one."""
    work: tuple[Any, ...] = (intent.base_url, intent.work, intent.samples)
    return highest_cost(db, *work) is not None or db.execute(_ANY_FINISHED, work).fetchone() is not None
