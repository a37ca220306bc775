"""Steps that come due at their time, served by a few threads: hundreds of jobs without a thread for each."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from chroma_cli.clock import Clock

Step = Callable[[], None]


class Steps:
    """A heap of due steps and up to ``threads`` daemon threads that take them.

    A step that raises ends nothing but itself: ``failed`` hears of it. The first thread is started by
    :meth:`start`, the others as they are needed, or fewer when the system allows no more; at most one of them
    watches the time, so that idle ones cost nothing.
    """

    def __init__(
        self, clock: Clock, threads: int, name: str, failed: Callable[[BaseException], None]
    ) -> None:
        self._clock = clock
        self._most = threads
        self._name = name
        self._failed = failed
        self._heap: list[tuple[float, int, Step]] = []
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        #: The one that sleeps until the next step is due, and those that have nothing to do.
        self._watcher = threading.Condition(self._lock)
        self._others = threading.Condition(self._lock)
        self._watched = False
        self._idle = 0
        self._threads = 0
        self._closed = False
        #: The system did not allow as many threads as were wanted.
        self.limited = False

    def start(self) -> None:
        """Start the first thread. Raises what the system says when it allows none."""
        with self._lock:
            self._start_thread()

    def add(self, wait: float, step: Step) -> None:
        """Take this step in ``wait`` seconds, or as soon as a thread is free."""
        with self._lock:
            if self._closed:
                return
            due = self._clock.monotonic() + max(0.0, wait)
            number = next(self._numbers)
            heapq.heappush(self._heap, (due, number, step))
            if wait > 0 and self._heap[0][1] != number:
                return  # somebody watches for an earlier one
            if wait > 0 and self._watched:
                self._watcher.notify()
            elif not self._wake_another() and self._watched:
                self._watcher.notify()

    def close(self) -> None:
        """Take no more steps; those being taken go on."""
        with self._lock:
            self._closed = True
            self._heap.clear()
            self._watcher.notify_all()
            self._others.notify_all()

    def _wake_another(self) -> bool:
        """See to it that one more thread looks at the heap; False when all are busy, or one is watching."""
        if self._idle:
            self._idle -= 1
            self._others.notify()
        elif self._threads < self._most:
            try:
                self._start_thread()
            except (RuntimeError, MemoryError):
                self._most, self.limited = self._threads, True
                return False
        else:
            return False
        return True

    def _start_thread(self) -> None:
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        self._threads += 1

    def _serve(self) -> None:
        while (step := self._next()) is not None:
            try:
                step()
            except BaseException as bug:  # raised again by whoever waits for the whole
                self._failed(bug)

    def _next(self) -> Step | None:
        """The next step that is due; None at the end."""
        with self._lock:
            while not self._closed:
                wait = self._heap[0][0] - self._clock.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    step = heapq.heappop(self._heap)[2]
                    if self._heap and not self._watched:
                        self._wake_another()  # the next step wants somebody, too
                    return step
                if wait is None or self._watched:
                    self._idle += 1
                    self._others.wait()
                    continue
                self._watched = True
                self._watcher.wait(wait)
                self._watched = False
            return None
