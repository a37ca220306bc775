"""Writes of several threads in one transaction: a synced commit costs the same for one as for thirty.

Whoever gets to the database first takes along what the others wait for. Each write succeeds or fails on its
own, and none is done before the commit that holds it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chroma_cli.errors import ChromaError

if TYPE_CHECKING:
    import sqlite3

#: Also a bound for how long the others wait.
_MOST_AT_ONCE = 64


@dataclass
class Wish:
    """One write. ``outcome`` is what it gave or raised, once the transaction is over (``done``)."""

    work: Callable[[sqlite3.Connection], Any]
    outcome: Any = None
    failed: bool = False
    done: bool = False

    def settle(self, outcome: Any, *, failed: bool) -> None:
        self.outcome, self.failed, self.done = outcome, failed, True

    def result(self) -> Any:
        if self.failed:
            raise self.outcome
        return self.outcome


class Wishes:
    """The writes that wait for the next transaction, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Wish] = []

    def add(self, wish: Wish) -> None:
        with self._lock:
            self._waiting.append(wish)

    def remove(self, wish: Wish) -> None:
        """It is not wanted any more, if it is still here."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not wish]

    def with_others(self, wish: Wish) -> list[Wish]:
        """This one, with as many of the others as go into one transaction; they leave the queue."""
        with self._lock:
            others = [one for one in self._waiting if one is not wish]
            self._waiting = others[_MOST_AT_ONCE - 1 :]
        return [wish, *others[: _MOST_AT_ONCE - 1]]

    def give_back(self, wishes: Sequence[Wish]) -> None:
        """Their transaction did not happen; their own threads will see to them."""
        with self._lock:
            self._waiting = [*wishes, *self._waiting]


def fulfil(db: sqlite3.Connection, wishes: Sequence[Wish]) -> list[tuple[Any, bool]]:
    """Run all of them in the open transaction; for each, what it gave or raised, and whether it failed.

    What one has written before it failed is undone. Errors of the database itself come out: they are about
    the transaction.
    """
    if len(wishes) == 1:  # the transaction is undone with it
        return [(wishes[0].work(db), False)]
    outcomes: list[tuple[Any, bool]] = []
    for wish in wishes:
        db.execute("SAVEPOINT wish")
        try:
            outcomes.append((wish.work(db), False))
        except ChromaError as error:
            db.execute("ROLLBACK TO wish")
            outcomes.append((error, True))
        db.execute("RELEASE wish")
    return outcomes
