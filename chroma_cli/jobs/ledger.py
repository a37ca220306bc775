"""The ledger: one SQLite file that knows every job from before it is paid until its files are in place.

This module owns the file: making it for the owner's eyes only, locking, waiting for others, and what happens
when it cannot be used or is damaged. What is written into it is in :mod:`chroma_cli.jobs.entries`, what can
be asked in :mod:`chroma_cli.jobs.answers`.

The journal is a rollback journal (DELETE): WAL needs shared memory, which network homes do not have
(https://sqlite.org/wal.html). ``synchronous=EXTRA`` also syncs the folder after the journal is gone, so that
what was committed stays committed. Every write takes the write lock at once (BEGIN IMMEDIATE): a read lock
that is upgraded later can deadlock with another one, and SQLite answers that with "database is locked".
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from chroma_cli.clock import Clock, Deadline, utc_text
from chroma_cli.jobs import migrations
from chroma_cli.jobs.answers import decoded
from chroma_cli.jobs.entries import Entries
from chroma_cli.jobs.owner import Owner
from chroma_cli.jobs.records import JobRow, LedgerIncomplete, LedgerUnusable, Reason
from chroma_cli.jobs.salvage import READ_IN_FULL, Salvage, read_rows, write_rows

Result = TypeVar("Result")
FileId = tuple[int, int]

#: How long others may hold the ledger before it counts as busy, in seconds.
PATIENCE: Final = 30.0
#: SQLite's own waiting cannot be interrupted, so it is kept short and repeated here.
_LOCK_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 0.1
#: How often a file may turn out to be another or damaged within one transaction.
_FRESH_STARTS: Final = 5

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_FORBIDDEN: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
#: What SQLite keeps beside the file.
_BESIDE: Final = ("-journal", "-wal", "-shm")
#: Pictures stay at the gateway for 7 days; a job that is older cannot be brought home any more.
_PICTURE_SECONDS: Final = 7 * 86400.0
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_RIGHT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

# Making a file means to open and close it, and closing it drops every POSIX lock this process has on it,
# those of SQLite included (https://sqlite.org/howtocorrupt.html, 2.2). So it happens only to a file that
# nobody in this process has open: a new one, behind this lock.
_MAKING: Final = threading.Lock()


class _NotWhole(Exception):
    """The file says it is a current ledger, and lacks a part of one."""


class Ledger(Entries):
    """An open ledger; may be used by several threads, one transaction at a time.

    ``notice`` says, once a damaged file was set aside, where it is now; ``tell`` gets the same words at that
    moment.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        owner: Owner | None = None,
        patience: float = PATIENCE,
        tell: Callable[[str], None] | None = None,
    ):
        super().__init__()
        # A link is followed once, here: SQLite puts the journal beside the real file.
        self.path = Path(os.path.realpath(path))
        self._linked = os.path.islink(path)  # noqa: PTH114 - it never raises
        self.notice: str | None = None
        self._tell = tell
        self._clock = clock
        self._me = owner or Owner.current()
        self._patience = patience
        self._turn = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: FileId | None = None
        #: The file that was opened first.
        self._first: FileId | None = None
        self._salvaged: Salvage | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock,
        owner: Owner | None = None,
        patience: float = PATIENCE,
        tell: Callable[[str], None] | None = None,
    ) -> Ledger:
        """Open the ledger at ``path``; make it, and its folder, where there is none.

        ``owner`` is who claims jobs, by default this process. ``patience`` is how long others may keep it
        locked, in seconds. Raises :class:`LedgerUnusable`. A file that can be read but not written opens; the
        first write then raises.
        """
        ledger = cls(path, clock=clock, owner=owner, patience=patience, tell=tell)
        ledger._read(lambda db: None)
        return ledger

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._turn:
            connection, self._connection, self._opened = self._connection, None, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- transactions ------------------------------------------------------------------------------------

    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return self._run("BEGIN", work)

    def _write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        return self._run("BEGIN IMMEDIATE", work)

    def check_complete(self) -> None:
        """Raise :class:`LedgerIncomplete` while jobs may be missing that could still be brought home: an
        older ledger was set aside lately, and not all of it could be read."""
        oldest = _name_aside(self.path, utc_text(max(0.0, self._clock.wall() - _PICTURE_SECONDS)))
        names: list[str] = []
        with contextlib.suppress(OSError):  # a folder that can be used, and not listed
            names = sorted((entry.name for entry in self.path.parent.iterdir()), reverse=True)
        for name in names:
            aside = name.startswith(_name_aside(self.path, "")) and not name.endswith(_BESIDE)
            if aside and name >= oldest and not self._read_in_full(name):
                raise LedgerIncomplete(str(self.path.with_name(name)))

    def _read_in_full(self, name: str) -> bool:
        query = "SELECT 1 FROM facts WHERE name = ?"
        return self._read(lambda db: db.execute(query, (READ_IN_FULL + name,)).fetchone() is not None)

    def _missing(self, number: int) -> LedgerUnusable:
        what = f"job {number} is not in it any more: the file was replaced while the job was running."
        return self._unusable("other", what)

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """One transaction, again after a lock or after the file was replaced."""
        with self._turn:
            deadline = Deadline(self._clock, self._patience)
            fresh_starts = 0
            while True:
                try:
                    connection = self._connected()
                    opened = self._opened
                    result = _transaction(connection, begin, work)
                    # A file that was set aside just now took our write along with it.
                    if opened == self._file_id() or begin == "BEGIN":
                        return result
                    fresh_starts += 1
                except (sqlite3.Error, UnicodeDecodeError, _NotWhole) as error:
                    opened = self._opened
                    self.close()
                    if not self._is_worth_waiting(error, deadline):
                        self._start_afresh(error, opened)
                        fresh_starts += 1
                except OSError as error:
                    self.close()
                    raise self._unusable_by_system(error) from error
                if fresh_starts > _FRESH_STARTS:
                    raise self._unusable("damaged", "the file is replaced or damaged again and again.")

    def _is_worth_waiting(self, error: Exception, deadline: Deadline) -> bool:
        """Waits a moment for others, and says whether to try again."""
        if _code(error) not in _BUSY:
            return False
        if deadline.passed:
            raise self._unusable(
                "busy", f"other processes kept it locked for {self._patience:.0f} s."
            ) from error
        self._clock.sleep(random.uniform(0.0, _PAUSE_SECONDS))
        return True

    def _start_afresh(self, error: Exception, opened: FileId | None) -> None:
        """Prepare for another try with another file; raises LedgerUnusable where that is no way out."""
        if isinstance(error, UnicodeDecodeError | _NotWhole) or _code(error) in _DAMAGED:
            # Names and messages that are no text come from a damaged schema.
            try:
                self._set_aside(opened)
            except OSError as problem:
                what = f"it is damaged, and could not be set aside ({_reason(problem)})."
                raise self._unusable("damaged", what) from error
        elif opened is None or opened == self._file_id():
            raise self._unusable_by_sqlite(error) from error
        # else: the file under the connection is not the one at the path any more

    # --- the file ----------------------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._opened == self._file_id():
                return self._connection
            self.close()
        with _MAKING:
            if self._linked and not self.path.exists():  # its disk is not there: an empty one would be a lie
                raise self._unusable("other", "a link leads there, and nothing is there.")
            self._make_folder()
            self._make_file()
            self._check_file()
            opened = self._file_id()
            # mode=rw: SQLite must not make the file itself, it would be readable by others.
            connection = sqlite3.connect(
                self.path.as_uri() + "?mode=rw",
                uri=True,
                timeout=_LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        self._connection, self._opened = connection, opened
        self._first = self._first or opened
        self.history_lost = self.history_lost or opened != self._first
        connection.text_factory = _lenient
        self._prepare(connection)
        if self._linked:  # now that it has turned out to be a ledger
            self._close_to_others()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Settings, migrations, and a look at whether all tables are there."""
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        found = migrations.version(connection)
        if found > len(migrations.MIGRATIONS):
            self.close()
            what = f"a newer chroma made it (version {found}, this one knows {len(migrations.MIGRATIONS)})."
            raise self._unusable("newer", what)
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "delete":
            connection.execute("PRAGMA journal_mode = DELETE")
        if self._linked and found == 0 and not migrations.is_blank(connection):
            self.close()
            raise self._unusable("other", "it is a link to the database of another program.")
        if found < len(migrations.MIGRATIONS):
            _transaction(connection, "BEGIN IMMEDIATE", self._migrate)
        with contextlib.closing(sqlite3.connect(":memory:")) as blank:
            if not migrations.is_whole(connection, blank):
                raise _NotWhole
        if self._salvaged is not None:
            rows, self._salvaged = self._salvaged, None
            now = self._clock.wall()
            _transaction(connection, "BEGIN IMMEDIATE", lambda db: write_rows(db, rows, now))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        try:
            migrations.migrate(connection)
        except sqlite3.OperationalError as error:
            # Tables of somebody else, or of a version that the file does not admit to.
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            raise _NotWhole from error

    def _file_id(self) -> FileId | None:
        """Which file the path names now; a rename or a removal changes it."""
        try:
            found = self.path.stat()
        except OSError:  # whoever opens it next will say why
            return None
        return found.st_dev, found.st_ino

    def _make_folder(self) -> None:
        """Missing folders are made for the owner alone, whatever the umask says."""
        missing = []
        folder = self.path.parent
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _make_file(self) -> None:
        """The journal takes over the mode of the file."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _check_file(self) -> None:
        """It must be ours, and for us alone; another user's file is not believed, as ssh would not."""
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise self._unusable("other", "it is not a regular file.")
        if sys.platform == "win32":
            return
        me = os.geteuid()
        # The superuser may work in the folders of others: mounted homes, containers.
        if me != 0 and found.st_uid not in (0, me):
            raise self._unusable("other", "it belongs to another user.")
        if not self._linked:
            self._close_to_others()

    def _close_to_others(self) -> None:
        """Refusing it would lose what is recorded from now on, so the mode is put right, and told."""
        mode = stat.S_IMODE(self.path.stat().st_mode)
        if sys.platform == "win32" or not mode & 0o077:
            return
        with contextlib.suppress(OSError):  # a read-only disk: it can still be read
            self.path.chmod(0o600)
            # Some disks have no modes at all and show the same for every file: nothing to tell there.
            if mode & 0o022 and stat.S_IMODE(self.path.stat().st_mode) != mode:
                self._notify(f"The job ledger {self.path} could be written by others; its mode is now 0600.")

    def _notify(self, words: str) -> None:
        self.notice = words
        if self._tell is not None:
            self._tell(words)

    # --- what cannot be used -----------------------------------------------------------------------------

    def _set_aside(self, damaged: FileId | None) -> None:
        """Move the damaged file out of the way; whoever comes second leaves the fresh one alone.

        What a link leads to may be anybody's file, and stays where it is.
        """
        if self._linked:
            raise self._unusable("damaged", "it is a link, and what it leads to is no ledger, or damaged.")
        with _one_at_a_time(self.path.with_name(self.path.name + ".lock")):
            if damaged is None or self._file_id() != damaged:
                return
            aside = _free_name(self.path, utc_text(self._clock.wall()))
            # The journal first: beside a fresh file, its pages would be played into that one.
            for ending in (*_BESIDE, ""):
                with contextlib.suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + ending).rename(aside.with_name(aside.name + ending))
            _sync_folder(self.path.parent)
        self._salvaged = salvage = replace(_read_damaged(aside), name=aside.name)
        self.history_lost = True
        carried = "The jobs in the old one are lost to chroma."
        if salvage.rows:
            which = "All" if salvage.whole else str(len(salvage.rows))
            rest = "" if salvage.whole else "; what it knew of others is lost to chroma"
            carried = (
                f"{which} of its jobs could be read and were taken over, {salvage.unsettled} of them"
                f" unfinished{rest}."
            )
        self._notify(
            f"The job ledger {self.path} was damaged. It is kept as {aside.name}, and a new one was begun. "
            f"{carried}"
        )

    def _unusable(self, reason: Reason, what: str) -> LedgerUnusable:
        return LedgerUnusable(reason, what, path=str(self.path))

    def _unusable_by_sqlite(self, error: Exception) -> LedgerUnusable:
        code = _code(error)
        if code == sqlite3.SQLITE_FULL:
            return self._unusable("full", "the disk is full.")
        if code in _FORBIDDEN:
            return self._unusable("read-only", "it cannot be written.")
        if code == sqlite3.SQLITE_CANTOPEN:
            if not self.path.parent.is_dir():
                return self._unusable("missing-dir", "its folder is gone.")
            return self._unusable("read-only", "it, or its journal, cannot be opened.")
        return self._unusable("other", f"{error}.")

    def _unusable_by_system(self, error: OSError) -> LedgerUnusable:
        reason: Reason = "other"
        if error.errno in _NO_SPACE:
            reason = "full"
        elif error.errno in _NO_RIGHT:
            reason = "read-only"
        elif error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            reason = "missing-dir"
        return self._unusable(reason, f"{_reason(error)}.")


def _transaction(
    connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], Result]
) -> Result:
    """All of ``work`` or nothing, whatever it raises."""
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return result


def glance(path: Path, limit: int) -> list[JobRow]:
    """The newest jobs, for a look in passing: nothing is made, changed, set aside, reported or waited for.

    What cannot be read at this moment is no rows.
    """
    try:
        address = path.absolute().as_uri() + "?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)
        with contextlib.closing(connection):
            connection.text_factory = _lenient
            if migrations.version(connection) > len(migrations.MIGRATIONS):
                return []
            return decoded(connection, "SELECT * FROM jobs ORDER BY number DESC LIMIT ?", (limit,))
    except (sqlite3.Error, OSError):
        return []


def _read_damaged(path: Path) -> Salvage:
    """What is left in a file that was set aside; immutable: no locks, no journal, no change."""
    try:
        connection = sqlite3.connect(path.as_uri() + "?mode=ro&immutable=1", uri=True, isolation_level=None)
    except sqlite3.Error:
        return Salvage()
    with contextlib.closing(connection), contextlib.closing(sqlite3.connect(":memory:")) as blank:
        connection.text_factory = _lenient
        return read_rows(connection, blank)


def _lenient(raw: bytes) -> str:
    """Text that a damaged disk made unreadable must not hide the rest of its row."""
    return raw.decode("utf-8", "replace")


def _code(error: Exception) -> int | None:
    """SQLite's primary result code; the extended ones have it in their low byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _free_name(path: Path, moment: str) -> Path:
    """``NAME.damaged-TIME``, with a number when that is taken."""
    stem = _name_aside(path, moment)
    taken = {entry.name for entry in path.parent.iterdir()}
    number = 1
    name = stem
    while any(name + ending in taken for ending in ("", "-journal")):
        number += 1
        name = f"{stem}-{number}"
    return path.with_name(name)


def _name_aside(path: Path, moment: str) -> str:
    """The name for a ledger that is set aside; colons are not allowed in names everywhere."""
    return f"{path.name}.damaged-{moment.replace(':', '').replace('-', '')}"


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """A lock between processes, where the system has one; the file stays, as removing it would be a race."""
    if sys.platform == "win32":  # pragma: no cover
        yield  # a file that somebody has open cannot be renamed there anyway
        return
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Make a rename last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
