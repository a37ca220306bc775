"""What can still be read from a damaged ledger is carried over into the new one.

A damaged page costs the rows on it, not all the others: jobs that are paid for and not saved stay known, and
so do the costs of the month. Nothing here writes into the damaged file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.jobs import migrations
from chroma_cli.jobs.records import UNSETTLED, row_from, texts_from, to_json

if TYPE_CHECKING:
    import sqlite3

#: The newest rows count; more would make people wait.
_MOST_ROWS: Final = 20_000
#: Steps of SQLite's machine per pass: damage may lead it in circles.
_MOST_STEPS: Final = 20_000_000
#: A larger job number is damage, and as the start of the next numbers it would do harm.
_MOST_NUMBER: Final = 10**9


@dataclass(frozen=True)
class Salvage:
    """Columns of the readable rows, newest first, and the last job number that was given out."""

    rows: tuple[Mapping[str, Any], ...] = ()
    last_number: int = 0

    @property
    def unsettled(self) -> int:
        return sum(row["state"] in UNSETTLED for row in self.rows)


def read_rows(db: sqlite3.Connection, blank: sqlite3.Connection) -> Salvage:
    """Whatever jobs can be read, from both ends up to the damage. Raises nothing: no file is too broken.

    ``blank`` is an empty database; from it come the names of the columns, which may be damaged as well.
    """
    migrations.migrate(blank)
    names = [row[1] for row in blank.execute("PRAGMA table_info(jobs)")]
    found: dict[int, Mapping[str, Any]] = {}
    db.set_progress_handler(lambda: 1, _MOST_STEPS)
    for order in ("DESC", "ASC"):
        query = f"SELECT * FROM jobs NOT INDEXED ORDER BY 1 {order} LIMIT {_MOST_ROWS}"  # noqa: S608
        for values in _readable(db, query):
            # a file of an older version lacks the columns that were added at the end
            columns = {**dict.fromkeys(names), **dict(zip(names, values, strict=False))}
            row = row_from(columns) if len(values) <= len(names) else None
            if row is not None and 0 < row.number <= _MOST_NUMBER:
                found.setdefault(row.number, columns)
    numbers = [row[0] for row in _readable(db, "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")]
    plausible = [number for number in numbers if type(number) is int and 0 < number <= _MOST_NUMBER]
    newest = sorted(found, reverse=True)[:_MOST_ROWS]
    return Salvage(tuple(found[number] for number in newest), max((*newest[:1], *plausible), default=0))


def write_rows(db: sqlite3.Connection, salvage: Salvage) -> None:
    """Put them into a new ledger under their old numbers; numbers go on where the old ones ended."""
    for columns in salvage.rows:
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        db.execute(f"INSERT OR IGNORE INTO jobs ({names}) VALUES ({marks})", tuple(columns.values()))  # noqa: S608
        if columns["state"] in UNSETTLED:
            promised = [(to_json(path), columns["number"]) for path in texts_from(columns["promised"])]
            db.executemany("INSERT OR IGNORE INTO promises (path, job) VALUES (?, ?)", promised)
    last = db.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'jobs'").fetchone()[0] or 0
    if salvage.last_number > last:
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'jobs'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', ?)", (salvage.last_number,))


def _readable(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows up to the first that cannot be read."""
    import sqlite3

    # UnicodeDecodeError: not of a value, but of a damaged name or message.
    with suppress(sqlite3.Error, UnicodeDecodeError):
        yield from db.execute(query)
