"""Where a sandbox world lives between calls: in memory, or in a folder that several processes share.

In a folder, ``world.json`` holds the account and ``world-jobs/`` one file for each job, so that a call costs
the same however many jobs there are. An OS lock around each call makes load, change and save one step.
Trouble with the disk never stops the sandbox: damaged files are set aside, and where nothing can be written
the world goes on in memory, with a ``warning``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from chroma_cli.sandbox.state import Account, Job
from chroma_cli.sandbox.world import FILE_SECONDS, World, WorldOptions

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Old jobs are looked for at most this often (seconds).
_PRUNE_EVERY: Final = 600.0


T = TypeVar("T")


class _Store(Protocol):
    """One way of keeping a world."""

    def open(self, now: float) -> contextlib.AbstractContextManager[World]:
        """The world, for one call at ``now`` (seconds since the epoch); changes are kept at the end."""
        ...


def fresh_account(options: WorldOptions) -> Account:
    """A full balance, and a salt of its own."""
    return Account(salt=secrets.token_hex(16), balance=float(options.credits))


class MemoryStore:
    """A world that ends with the process."""

    def __init__(
        self,
        options: WorldOptions,
        account: Account | None = None,
        jobs: dict[str, Job] | None = None,
    ) -> None:
        self._jobs = jobs if jobs is not None else {}
        self._world = World(options, account or fresh_account(options), self._jobs)
        self._lock = threading.Lock()
        self._pruned = 0.0

    @contextlib.contextmanager
    def open(self, now: float) -> Iterator[World]:
        with self._lock:
            if abs(now - self._pruned) >= _PRUNE_EVERY:
                self._pruned = now
                for job in [job for job in self._jobs.values() if now - job.submitted > FILE_SECONDS]:
                    del self._jobs[job.id]
            yield self._world


class FileStore:
    """A world in ``folder``, shared by every process that opens it. Raises OSError if that cannot be."""

    def __init__(self, folder: Path, options: WorldOptions) -> None:
        self._folder = folder
        self._options = options
        self._threads = threading.Lock()
        self._pruned = 0.0
        with self._locked():
            account = self._load()
            self._save(account)

    @contextlib.contextmanager
    def open(self, now: float) -> Iterator[World]:
        """Raises OSError when the folder cannot be used (any more); the world inside is then not saved."""
        with self._locked():
            account = self._load()
            jobs = _JobFiles(self._folder / "world-jobs")
            if abs(now - self._pruned) >= _PRUNE_EVERY:
                self._pruned = now
                jobs.prune(now - FILE_SECONDS)
            world = World(self._options, account, jobs)
            yield world
            # Jobs first: a kill in between then leaves a job that was never charged, not the reverse.
            jobs.save()
            self._save(account)

    def _load(self) -> Account:
        path = self._folder / "world.json"
        try:
            return Account.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return fresh_account(self._options)
        except (OSError, ValueError, RecursionError):
            _set_aside(path)
            return fresh_account(self._options)

    def _save(self, account: Account) -> None:
        _write(self._folder / "world.json", account.to_dict())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._folder / "world.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _lock(handle)
                try:
                    yield
                finally:
                    _unlock(handle)
            finally:
                os.close(handle)


class Keeper:
    """A folder as long as it works, memory from then on: practising never stops for want of a disk.

    ``folder`` None is memory from the start. ``warning`` says what is lost when the folder failed.
    """

    def __init__(self, folder: Path | None, options: WorldOptions) -> None:
        self.warning: str | None = None
        self._options = options
        self._falling = threading.Lock()
        self._store: _Store
        if folder is None:
            self._store = MemoryStore(options)
            return
        try:
            self._store = FileStore(folder, options)
        except OSError as problem:
            self._store = self._in_memory(problem, None)

    def run(self, now: float, action: Callable[[World], T]) -> T:
        """``action`` on the world at ``now``, as one step beside every other process."""
        store = self._store
        world: World | None = None
        results: list[T] = []
        try:
            with store.open(now) as world:
                results.append(action(world))
        except OSError as problem:
            with self._falling:
                if self._store is store:
                    self._store = self._in_memory(problem, world)
            if not results:
                return self.run(now, action)
        return results[0]

    def _in_memory(self, problem: OSError, world: World | None) -> MemoryStore:
        reason = problem.strerror or type(problem).__name__
        self.warning = f"The sandbox's jobs and credits last only until this program ends: {reason}."
        if world is None:
            return MemoryStore(self._options)
        jobs = world.jobs.everything() if isinstance(world.jobs, _JobFiles) else dict(world.jobs)
        return MemoryStore(self._options, world.account, jobs)


class _JobFiles(MutableMapping[str, Job]):
    """Jobs by id, read from their files when asked for; what was assigned is written by :meth:`save`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed: dict[str, Job] = {}

    def __getitem__(self, job_id: str) -> Job:
        if job_id in self._changed:
            return self._changed[job_id]
        path = self._path(job_id)
        try:
            job = Job.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise KeyError(job_id) from None
        except (OSError, ValueError, RecursionError):
            _set_aside(path)
            raise KeyError(job_id) from None
        return job

    def __setitem__(self, job_id: str, job: Job) -> None:
        self._changed[job_id] = job

    def __delitem__(self, job_id: str) -> None:
        self._changed.pop(job_id, None)
        self._path(job_id).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        stored = {path.stem for path in self._folder.glob("*.json") if _JOB_ID.fullmatch(path.stem)}
        return iter(sorted(stored | set(self._changed)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def save(self) -> None:
        for job in self._changed.values():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _write(self._path(job.id), job.to_dict())
        self._changed.clear()

    def prune(self, before: float) -> None:
        """Remove the files last written before ``before`` (seconds since the epoch)."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another file system's moods: it is only tidying
                if path.stat().st_mtime < before:
                    path.unlink()

    def everything(self) -> dict[str, Job]:
        """All jobs that can be read, for a world that moves into memory."""
        found = {}
        with contextlib.suppress(OSError):
            for job_id in self:
                with contextlib.suppress(KeyError):
                    found[job_id] = self[job_id]
        return found | self._changed

    def _path(self, job_id: str) -> Path:
        if _JOB_ID.fullmatch(job_id) is None:  # from a URL: it must not name any other file
            raise KeyError(job_id)
        return self._folder / f"{job_id}.json"


def _write(path: Path, record: dict[str, Any]) -> None:
    """Replace ``path`` as a whole; the lock is held, so one name for the unfinished file is enough."""
    unfinished = path.with_name("world.tmp")
    data = json.dumps(record, separators=(",", ":")).encode()
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _set_aside(path: Path) -> None:
    """Rename what cannot be read, so that it can be looked at; raises OSError if that fails too."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
        if not aside.exists():
            path.rename(aside)
            return
    path.unlink()


_BINARY: Final = getattr(os, "O_BINARY", 0)

if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        while True:
            try:
                os.lseek(handle, 0, os.SEEK_SET)
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                return
            except OSError:
                time.sleep(0.01)

    def _unlock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
