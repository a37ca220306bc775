"""One piece of work for each of several jobs, at the same time, and what becomes of the exit code."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from chroma_cli.errors import ChromaError, ExitCode, OutOfResources, SomeFailed, SomeUnfinished, together
from chroma_cli.jobs import capacity
from chroma_cli.jobs.capacity import Pool

Item = TypeVar("Item")
Result = TypeVar("Result")

#: A picture may come home in each.
_POOL: Final = Pool(wanted=8, files=5, memory=40)


def each(
    items: Sequence[Item], work: Callable[[Item], Result]
) -> Iterator[tuple[Item, Result | ChromaError]]:
    """``work(item)`` for all items, at most 8 at a time, handed out as they end; an error is a result too.

    A single item runs in this very thread, so that Ctrl-C reaches it, and so do all of them, one by one,
    where the system allows no more. Else they run in daemon threads: at an interrupt nobody waits for them,
    and what they held is free when the process is gone.
    """
    at_once = _at_once(len(items))
    if at_once == 1:
        for item in items:
            yield item, _attempt(work, item)
        return
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[Item, Result | ChromaError | BaseException]] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def run() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((item, _attempt(work, item)))
            except BaseException as bug:  # raised again in the thread that waits
                ended.put((item, bug))

    try:
        for _ in range(at_once):
            threading.Thread(target=run, daemon=True).start()
    except (RuntimeError, MemoryError):  # no more threads: those that run do all of it
        if waiting.qsize() == len(items):
            run()
    for _ in items:
        item, result = ended.get()
        if isinstance(result, BaseException) and not isinstance(result, ChromaError):
            raise result
        yield item, result


def _at_once(items: int) -> int:
    """Return how many of so many items may be worked on at the same time."""
    room = capacity.room()
    try:
        (fit,) = capacity.fitting([_POOL], room)
    except OutOfResources:
        return 1
    return min(fit, items)


def _attempt(work: Callable[[Item], Result], item: Item) -> Result | ChromaError:
    try:
        return work(item)
    except ChromaError as error:
        return error


def conclude(errors: Sequence[ChromaError], total: int, *, noun: str = "jobs") -> None:
    """End the whole call: with a single job's own error, else with 7 or 11; return when all went well."""
    if not errors:
        return
    if total == 1:
        raise errors[0]
    failed = [error for error in errors if error.exit_code is not ExitCode.NOT_FINISHED]
    charged = together(error.charged for error in errors)
    if not failed:
        raise SomeUnfinished(f"{len(errors)} of {total} {noun} are not finished yet.", charged=charged)
    raise SomeFailed(f"{len(failed)} of {total} {noun} did not end well.", charged=charged)
