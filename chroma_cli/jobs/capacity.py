"""How many threads may work at once, with the files and the memory that this process may have."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chroma_cli.errors import OutOfResources

_MB: Final = 1024 * 1024
#: glibc's name for "at most so many heaps": else each thread reserves one of 64 MB.
_M_ARENA_MAX: Final = -8


@dataclass(frozen=True)
class Room:
    """Open files and megabytes of memory: what is left, or what is needed. None: no limit is known."""

    files: float | None
    memory: float | None


NO_LIMITS: Final = Room(None, None)
#: Beside that of the threads: the lock and the ledger as they are written, name look-ups, the main thread.
_BESIDE: Final = Room(4, 32)


@dataclass(frozen=True)
class Pool:
    """Threads of one kind: how many are wanted, and what each of them has at a time."""

    wanted: int
    files: int
    memory: int


def room() -> Room:
    """Return what is left within the limits of this process. Memory that is limited is used sparingly by the
    threads that are started later."""
    try:
        import resource
    except ImportError:  # Windows
        return NO_LIMITS
    files: float | None = None
    memory: float | None = None
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most_memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    with contextlib.suppress(OSError):
        if most_files != resource.RLIM_INFINITY:
            files = most_files - len(list(Path("/dev/fd").iterdir()))
    with contextlib.suppress(OSError, AttributeError):
        if most_memory != resource.RLIM_INFINITY:
            import ctypes  # slow, and wanted only here

            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            memory = (most_memory - used) / _MB
    return Room(files, memory)


def require_one(left: Room) -> None:
    """Raise :class:`OutOfResources` when there is not room for one job, done in the main thread."""
    _after(left.files, 5, "open files", "-n")
    _after(left.memory, 40, "MB", "-v")


def fitting(pools: Sequence[Pool], left: Room) -> list[int]:
    """Return how many threads each pool may have.

    Raises :class:`OutOfResources` when there is not room for one thread each.
    """
    fit = [1 for _ in pools]
    files = _after(left.files, (_BESIDE.files or 0) + sum(pool.files for pool in pools), "open files", "-n")
    memory = _after(left.memory, (_BESIDE.memory or 0) + sum(pool.memory for pool in pools), "MB", "-v")
    grown = True
    while grown:
        grown = False
        for at, pool in enumerate(pools):
            if fit[at] < pool.wanted and pool.files <= files and pool.memory <= memory:
                fit[at] += 1
                files -= pool.files
                memory -= pool.memory
                grown = True
    return fit


def _after(left: float | None, needed: float, what: str, limit: str) -> float:
    """What is left when the needed is taken."""
    if left is None:
        return float("inf")
    if left < needed:
        raise OutOfResources(
            f"This process may have only {max(0, left):.0f} more {what}, and needs {needed:.0f}.",
            hint=f"Allow more (ulimit {limit}).",
        )
    return left - needed
