"""Time that need not be waited for."""

from __future__ import annotations

import threading
import time


class SkippingClock:
    """Real time, but a sleep moves it ahead at once. ``sleeps`` are those of the program, in seconds.

    The fixture ``clock`` gives it to the program in this process and to the gateway, so that a job of 53 s
    and an hour of polling take no time, and both sides agree on how much has passed.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()
        self.sleeps: list[float] = []
        #: The wall clock of the program is wrong by so many seconds; that of the gateway is not.
        self.wrong = 0.0

    def skip(self, seconds: float) -> None:
        """Let so much time pass."""
        with self._lock:
            self._ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        return time.time() + self._ahead

    def shown(self) -> float:
        """Return what the program takes for the wall clock."""
        return self.wall() + self.wrong

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self._ahead += max(0.0, seconds)
