"""What can still be read from a damaged ledger is carried over into the new one.

A damaged page costs the rows on it, not all the others: jobs that are paid for and not saved stay known, and
so do the costs of the month. Nothing here writes into the damaged file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.jobs import migrations
from chroma_cli.jobs.records import UNSETTLED, row_from, texts_from, to_json

if TYPE_CHECKING:
    import sqlite3

#: With the name of a damaged file: the fact that all of its jobs were taken over.
READ_IN_FULL: Final = "read in full: "
#: The newest rows count; more would make people wait.
_MOST_ROWS: Final = 20_000
#: Steps of SQLite's machine per pass: damage may lead it in circles.
_MOST_STEPS: Final = 20_000_000
#: A larger job number is damage, and as the start of the next numbers it would do harm.
_MOST_NUMBER: Final = 10**9


@dataclass(frozen=True)
class Salvage:
    """Columns of the readable rows, newest first, and the last job number that was given out.

    ``name`` is that of the damaged file, ``whole`` says that these are all of its jobs.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    last_number: int = 0
    whole: bool = False
    name: str = ""

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
    whole = False
    db.set_progress_handler(lambda: 1, _MOST_STEPS)
    for order in ("DESC", "ASC"):
        query = f"SELECT * FROM jobs NOT INDEXED ORDER BY 1 {order} LIMIT {_MOST_ROWS}"  # noqa: S608
        rows, to_the_end = _readable(db, query)
        for values in rows:
            # a file of an older version lacks the columns that were added at the end
            columns = {**dict.fromkeys(names), **dict(zip(names, values, strict=False))}
            row = row_from(columns) if len(values) <= len(names) else None
            if row is not None and 0 < row.number <= _MOST_NUMBER:
                found.setdefault(row.number, columns)
        whole = to_the_end and len(found) == len(rows) < _MOST_ROWS
        if whole:
            break
    sequence, _ = _readable(db, "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
    numbers = [row[0] for row in sequence]
    plausible = [number for number in numbers if type(number) is int and 0 < number <= _MOST_NUMBER]
    newest = sorted(found, reverse=True)[:_MOST_ROWS]
    last = max((*newest[:1], *plausible), default=0)
    return Salvage(tuple(found[number] for number in newest), last, whole)


def write_rows(db: sqlite3.Connection, salvage: Salvage, now: float) -> None:
    """Put them into a new ledger under their old numbers; numbers go on where the old ones ended."""
    if salvage.whole:
        db.execute(
            "INSERT OR REPLACE INTO facts (name, value, at) VALUES (?, '', ?)",
            (READ_IN_FULL + salvage.name, now),
        )
    for found in salvage.rows:
        columns = {**found, "digest": migrations.digest_of(found["request"])}
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


def _readable(db: sqlite3.Connection, query: str) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the rows up to the first that cannot be read, and whether these are all."""
    import sqlite3

    rows: list[tuple[Any, ...]] = []
    try:
        rows.extend(db.execute(query))
    except (sqlite3.Error, UnicodeDecodeError):  # which is not of a value, but of a damaged name or message
        return rows, False
    return rows, True
