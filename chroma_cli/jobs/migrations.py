"""How the ledger's tables came to be: an ordered list of small steps, counted by ``PRAGMA user_version``.

A step that was released is never edited again: a change of the tables is a new step at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from chroma_cli.jobs.records import request_digest

if TYPE_CHECKING:
    import sqlite3

#: So many of the newest rows get a digest when the column is added: two seconds of work.
_MOST_DIGESTS: Final = 100_000


def _jobs(db: sqlite3.Connection) -> None:
    """One row a job. AUTOINCREMENT: the number of a job that was pruned is not given out again."""
    db.execute(
        """
        CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            token TEXT NOT NULL,
            request_id TEXT,
            base_url TEXT NOT NULL,
            mode TEXT NOT NULL,
            state TEXT NOT NULL,
            request TEXT,
            destination TEXT,
            promised TEXT NOT NULL,
            seed INTEGER,
            samples INTEGER,
            work INTEGER,
            sources TEXT NOT NULL,
            files TEXT NOT NULL,
            charged TEXT NOT NULL,
            cost REAL,
            expected_cost REAL NOT NULL,
            remaining_credits REAL,
            queue_time REAL,
            inference_time REAL,
            total_time REAL,
            seconds REAL,
            error TEXT,
            created_at REAL NOT NULL,
            submitted_at REAL,
            completed_at REAL,
            saved_at REAL,
            updated_at REAL NOT NULL,
            owner TEXT,
            claimed_at REAL,
            resubmit_of INTEGER,
            superseded_by INTEGER
        )
        """
    )


def _look_ups(db: sqlite3.Connection) -> None:
    """Whatever is asked on the way to a picture finds its rows without walking through old ones."""
    db.execute("CREATE INDEX jobs_by_request ON jobs (request_id) WHERE request_id IS NOT NULL")
    db.execute("CREATE INDEX jobs_by_place ON jobs (base_url, number)")
    db.execute(
        "CREATE INDEX jobs_unsettled ON jobs (number) "
        "WHERE state IN ('submitting', 'queued', 'processing', 'completed', 'unknown')"
    )
    db.execute("CREATE INDEX jobs_failed ON jobs (number) WHERE state IN ('failed', 'expired')")
    db.execute(
        "CREATE INDEX jobs_durations ON jobs (base_url, work, number, seconds) WHERE seconds IS NOT NULL"
    )
    db.execute("CREATE INDEX jobs_spent ON jobs (created_at, charged, cost, expected_cost)")


def _promises(db: sqlite3.Connection) -> None:
    """The places that unsettled jobs will write to; a path is stored as JSON, as it may be no valid text."""
    db.execute(
        "CREATE TABLE promises (path TEXT NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (path, job)) "
        "WITHOUT ROWID"
    )
    db.execute("CREATE INDEX promises_by_job ON promises (job)")


def _facts(db: sqlite3.Connection) -> None:
    """Single values with the time they were seen, such as the balance of an account."""
    db.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL)")


def _totals(db: sqlite3.Connection) -> None:
    """Running sums, so that showing them does not add up every row; pruning counts them anew."""
    db.execute("CREATE TABLE totals (base_url TEXT PRIMARY KEY, jobs INTEGER NOT NULL, cost REAL NOT NULL)")
    db.execute(
        """
        CREATE TRIGGER totals_new_job AFTER INSERT ON jobs BEGIN
            INSERT OR IGNORE INTO totals (base_url, jobs, cost) VALUES (NEW.base_url, 0, 0.0);
            UPDATE totals SET jobs = jobs + 1, cost = cost + coalesce(NEW.cost, 0.0)
             WHERE base_url = NEW.base_url;
        END
        """
    )
    db.execute(
        """
        CREATE TRIGGER totals_new_cost AFTER UPDATE OF cost ON jobs WHEN NEW.cost IS NOT OLD.cost BEGIN
            UPDATE totals SET cost = cost + coalesce(NEW.cost, 0.0) - coalesce(OLD.cost, 0.0)
             WHERE base_url = NEW.base_url;
        END
        """
    )


def _budgets(db: sqlite3.Connection) -> None:
    """Which jobs count for the budget of one run, and the prices seen of such work."""
    db.execute("ALTER TABLE jobs ADD COLUMN run TEXT")
    db.execute("CREATE INDEX jobs_by_run ON jobs (run) WHERE run IS NOT NULL")
    db.execute("CREATE INDEX jobs_prices ON jobs (base_url, work, samples, cost) WHERE cost > 0")


def _gateway_time(db: sqlite3.Connection) -> None:
    """When the gateway took a job by its own clock: its hour is counted by that, and ours may be wrong."""
    db.execute("ALTER TABLE jobs ADD COLUMN taken_at REAL")


def _digests(db: sqlite3.Connection) -> None:
    """Jobs of one request are found by its digest, and those saved lately by their time.

    Of a very long ledger only the newest settled rows get a digest, so that this ends soon.
    """
    db.execute("ALTER TABLE jobs ADD COLUMN digest TEXT")
    numbers = db.execute(
        "SELECT number FROM jobs WHERE request IS NOT NULL AND (state IN "
        "('submitting', 'queued', 'processing', 'completed', 'unknown') OR number > "
        "(SELECT coalesce(max(number), 0) FROM jobs) - ?)",
        (_MOST_DIGESTS,),
    ).fetchall()
    for (number,) in numbers:
        (text,) = db.execute("SELECT request FROM jobs WHERE number = ?", (number,)).fetchone()
        db.execute("UPDATE jobs SET digest = ? WHERE number = ?", (digest_of(text), number))
    db.execute("CREATE INDEX jobs_by_digest ON jobs (digest, base_url) WHERE digest IS NOT NULL")
    db.execute("CREATE INDEX jobs_by_saving ON jobs (saved_at) WHERE saved_at IS NOT NULL")


def digest_of(text: object) -> str | None:
    """The digest of a request as the table holds it; ``None`` for what cannot be read."""
    try:
        body = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return request_digest(body) if isinstance(body, dict) else None


MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _jobs,
    _look_ups,
    _promises,
    _facts,
    _totals,
    _budgets,
    _gateway_time,
    _digests,
)


def version(db: sqlite3.Connection) -> int:
    """How many steps the file has seen."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_blank(db: sqlite3.Connection) -> bool:
    """Whether there is no table in it at all."""
    return not _schema(db)


def migrate(db: sqlite3.Connection) -> None:
    """Take the steps that are missing; to be called inside a write transaction: all of them, or none.

    Another process may have been faster: then there is nothing left to do.
    """
    done = version(db)
    for step in MIGRATIONS[done:]:
        step(db)
    if done < len(MIGRATIONS):
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def is_whole(db: sqlite3.Connection, blank: sqlite3.Connection) -> bool:
    """Whether every table, index and trigger is there as these steps make it; reads the schema only.

    ``blank`` is an empty database to compare with. A statement with one letter changed still opens, and then
    fails in any odd way.
    """
    migrate(blank)
    return _schema(blank) <= _schema(db)


def _schema(db: sqlite3.Connection) -> set[tuple[str, str, str, str | None]]:
    return set(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
