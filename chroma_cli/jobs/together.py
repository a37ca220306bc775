"""Writes of several threads in one transaction: a synced commit costs the same for one as for thirty.

Whoever gets to the database first takes along what the others wait for. Each write succeeds or fails on its
own, and none is done before the commit that holds it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chroma_cli.errors import ChromaError

if TYPE_CHECKING:
    import sqlite3

#: Also a bound for how long the others wait.
_MOST_AT_ONCE = 64


class Wish:
    """One write. ``outcome`` is what it gave or raised, once the transaction is over (``done``)."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.done = False
        #: Its thread is to run the next transaction.
        self.leads = False
        self._outcome: Any = None
        self._failed = False
        # Not an Event: there are several for each picture, and a lock costs a tenth of it.
        self._called = threading.Lock()
        self._called.acquire()

    def wait(self) -> None:
        """Until it is done, or leads."""
        if not (self.leads or self.done):
            self._called.acquire()

    def lead(self) -> None:
        self.leads = True
        self._called.release()

    def settle(self, outcome: Any, *, failed: bool) -> None:
        self._outcome, self._failed, self.done = outcome, failed, True
        if not self.leads:  # who leads is not waiting
            self._called.release()

    def result(self) -> Any:
        if self._failed:
            raise self._outcome
        return self._outcome


class Wishes:
    """The writes that wait for the next transaction, in the order in which they came. One of their threads
    leads; it takes the others along, and then hands the lead to the first that is still waiting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Wish] = []
        self._led = False

    def add(self, wish: Wish) -> None:
        """Wait in line; it leads at once when nobody does."""
        with self._lock:
            if self._led:
                self._waiting.append(wish)
            else:
                self._led = True
                wish.lead()

    def remove(self, wish: Wish) -> None:
        """It is not wanted any more."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not wish]
        if wish.leads:
            self.pass_on()

    def with_others(self, wish: Wish) -> list[Wish]:
        """This one, with as many of the others as go into one transaction; they leave the line."""
        with self._lock:
            others = self._waiting[: _MOST_AT_ONCE - 1]
            del self._waiting[: _MOST_AT_ONCE - 1]
        return [wish, *others]

    def give_back(self, wishes: Sequence[Wish]) -> None:
        """Their transaction did not happen: they wait in line again."""
        with self._lock:
            self._waiting = [*wishes, *self._waiting]

    def pass_on(self) -> None:
        """Whoever led is done; the next one leads."""
        with self._lock:
            if self._waiting:
                self._waiting.pop(0).lead()
            else:
                self._led = False


def fulfil(db: sqlite3.Connection, wishes: Sequence[Wish]) -> list[tuple[Any, bool]]:
    """Run all of them in the open transaction; for each, what it gave or raised, and whether it failed.

    What one has written before it failed is undone. Errors of the database itself come out: they are about
    the transaction.
    """
    if len(wishes) == 1:  # the transaction is undone with it
        return [(wishes[0].work(db), False)]
    db.execute("SAVEPOINT together")
    try:
        outcomes: list[tuple[Any, bool]] = [(wish.work(db), False) for wish in wishes]
    except ChromaError:  # rarely; so only then is each run behind a savepoint of its own
        db.execute("ROLLBACK TO together")
        outcomes = [_apart(db, wish) for wish in wishes]
    db.execute("RELEASE together")
    return outcomes


def _apart(db: sqlite3.Connection, wish: Wish) -> tuple[Any, bool]:
    db.execute("SAVEPOINT apart")
    try:
        outcome = wish.work(db), False
    except ChromaError as error:
        db.execute("ROLLBACK TO apart")
        outcome = error, True
    # Not in a "finally": after an error of the database there may be no savepoint left to release.
    db.execute("RELEASE apart")
    return outcome
