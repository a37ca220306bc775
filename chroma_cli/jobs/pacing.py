"""How many jobs at once share one gateway: the pause after a 429, the pace of submits.

Each of these is one object for the whole run, used by all of its threads.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Final

from chroma_cli.clock import Clock

#: A pause that the gateway asks for is taken to be a mistake beyond this (seconds).
_LONGEST_PAUSE: Final = 3600.0
#: Pauses where it asks for none: these seconds, twice as many after each that did not help.
_FIRST_PAUSE: Final = 1.0
_GROWN_PAUSE: Final = 60.0


class Gate:
    """One 429 slows down everything: while the gate is closed, no call of the run goes out."""

    def __init__(self, clock: Clock, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._until = 0.0
        self._pause = 0.0
        self.throttled_calls = 0

    def throttled(self, seconds: float | None) -> None:
        """A 429 came, which asks for that many seconds (None: it does not say)."""
        with self._lock:
            now = self._clock.monotonic()
            self.throttled_calls += 1
            if seconds is not None:
                self._until = max(self._until, now + min(max(seconds, 0.1), _LONGEST_PAUSE))
            elif now >= self._until:  # else the call went out before the gate closed
                self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _GROWN_PAUSE)
                self._until = now + self._pause * (0.5 + self._jitter() / 2)

    def answered(self) -> None:
        """A call was let through: the next pause begins small again."""
        if self._pause:
            with self._lock:
                if self._clock.monotonic() >= self._until:
                    self._pause = 0.0

    @property
    def wait(self) -> float:
        """Seconds until calls may go out; 0 when the gate is open."""
        return max(0.0, self._until - self._clock.monotonic())


class Turns:
    """At most so many submits a minute, evenly spaced; None for as many as come."""

    def __init__(self, per_minute: float | None, clock: Clock) -> None:
        self._spacing = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0

    def take(self) -> float:
        """Take a turn and return 0, or say in how many seconds the next one comes."""
        if not self._spacing:
            return 0.0
        with self._lock:
            now = self._clock.monotonic()
            if now < self._next:
                return self._next - now
            self._next = max(self._next + self._spacing, now)
            if self._next <= now:
                self._next = now + self._spacing
            return 0.0
