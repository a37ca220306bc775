"""One exchange in a thread of its own, so that the one who waits can stop at any moment.

A socket's time-out restarts with every byte, and a name look-up knows none: neither can hold a deadline or be
interrupted. So the exchange runs in a daemon thread; the waiting side gives it up when it must. The
:class:`Gate` between the two decides, once and for all, whether anything may still go out.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

T = TypeVar("T")

#: Longest nap of the waiting side: a Ctrl-C on a platform that cannot interrupt a lock is seen this soon.
_NAP: Final = 0.25
#: So much longer than planned a nap may take on a busy machine (seconds).
_LATE: Final = 1.0


class Sink(Protocol):
    """Where picture bytes go. ``reset`` forgets what was written: the bytes come again from the start."""

    def write(self, data: bytes, /) -> object: ...

    def reset(self) -> object: ...


class Abandoned(Exception):  # noqa: N818  # never leaves this layer
    """The waiting side has given this exchange up: stop, send nothing, write nothing."""


class Gate:
    """What the two sides of one exchange share; all of it under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._abandoned = False
        self._connected = False
        self._connection: Any = None

    @property
    def connected(self) -> bool:
        """Whether a connection stood, so that the request may have gone out."""
        return self._connected

    @property
    def abandoned(self) -> bool:
        return self._abandoned

    def check(self) -> None:
        """Raise Abandoned when the exchange was given up."""
        if self._abandoned:
            raise Abandoned

    def watch(self, connection: Any) -> None:
        """Remember the connection (its ``sock``), to be cut off when the exchange is given up."""
        with self._lock:
            self.check()
            self._connection = connection

    def let_go(self) -> None:
        """Forget the connection: it goes back, and the next exchange may have it."""
        with self._lock:
            self._connection = None

    def mark_connected(self) -> None:
        """From here on bytes of the request may go out. Raises Abandoned, and then none may."""
        with self._lock:
            self.check()
            self._connected = True

    def write(self, sink: Sink, data: bytes) -> None:
        """Write to a sink unless the exchange was given up: its owner may have closed the sink since."""
        with self._lock:
            self.check()
            sink.write(data)

    def open(self, factory: Callable[[], Sink]) -> Sink:
        with self._lock:
            self.check()
            return factory()

    def abandon(self) -> bool:
        """Give the exchange up; True when the request may have gone out.

        After False it never will. After either, no sink is written to.
        """
        with self._lock:
            self._abandoned = True
            # Under the lock, so that it is this exchange's connection that is cut, and not yet another's.
            _cut(getattr(self._connection, "sock", None))
            return self._connected


def _cut(sock: Any) -> None:
    """Wake a thread that reads from this socket; it then closes it itself."""
    sock = getattr(sock, "socket", sock)  # TLS inside TLS wraps the true one
    if isinstance(sock, socket.socket):
        try:
            # The plain method: the TLS one would drop the TLS state under the other thread's hands.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return  # closed, or not connected yet


class _Napping:
    """Short sleeps that tell the time in which the program ran.

    A program that was stopped (Ctrl-Z, SIGSTOP) goes on with all its time-outs over, and with answers in its
    sockets that nobody has read yet: what a nap took too long does not count.
    """

    def __init__(self, nap: Callable[[float], object]) -> None:
        self._nap = nap
        self.elapsed = 0.0

    def nap(self, seconds: float) -> None:
        since = time.monotonic()
        self._nap(seconds)
        self.elapsed += min(time.monotonic() - since, seconds + _LATE)


class _Watchdog:
    """Gives up exchanges whose time is over, for those that run in the thread of their caller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[Gate, float] = {}
        self._awake = False
        self._time = _Napping(time.sleep)

    def wake(self) -> None:
        """Start watching. Raises what the system says when it allows no thread."""
        with self._lock:
            if not self._awake:
                threading.Thread(target=self._watch, name="chroma-http-watch", daemon=True).start()
                self._awake = True

    @contextlib.contextmanager
    def watching(self, gate: Gate, seconds: float) -> Iterator[None]:
        self.wake()
        with self._lock:
            self._ends[gate] = self._time.elapsed + seconds
        try:
            yield
        finally:
            with self._lock:
                del self._ends[gate]

    def _watch(self) -> None:
        while True:
            self._time.nap(_NAP)
            with self._lock:
                over = [gate for gate, end in self._ends.items() if end <= self._time.elapsed]
            for gate in over:
                gate.abandon()


watchdog = _Watchdog()


class Flight(Generic[T]):
    """Work that runs on its own, once launched, until someone lands or abandons it."""

    def __init__(self, work: Callable[[Gate], T], gate: Gate) -> None:
        self._gate = gate
        self._work = work
        # Not an Event: a Ctrl-C in the Python code of its wait can end as a RuntimeError of its lock.
        self._out = threading.Lock()
        self._out.acquire()
        self._ended = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._launched = False

    @property
    def launched(self) -> bool:
        return self._launched

    def launch(self) -> None:
        """Start the work; a second call does nothing. The caller holds the flight before it starts, so that
        an interrupt at any point leaves no work behind that nobody knows of. Where the system allows no more
        threads the work is done in this one.
        """
        if not self._launched:
            self._launched = True
            try:
                threading.Thread(target=self._run, name="chroma-http", daemon=True).start()
            except (RuntimeError, MemoryError):
                self._run()

    def run(self, seconds: float) -> None:
        """Do the work in this thread; it is given up after that many seconds."""
        self._launched = True
        with watchdog.watching(self._gate, seconds):
            self._run()

    def _run(self) -> None:
        try:
            self._result = self._work(self._gate)
        except BaseException as error:  # handed to the waiting side, whatever it is
            self._error = error
        finally:
            self._ended = True
            self._out.release()

    @property
    def connected(self) -> bool:
        return self._gate.connected

    @property
    def given_up(self) -> bool:
        return self._gate.abandoned

    def wait(self, seconds: float) -> bool:
        """Wait that long in real time; True when the work has ended. Ctrl-C comes through at once."""
        waited = _Napping(lambda nap: self._out.acquire(timeout=nap))
        while not self._ended:
            left = seconds - waited.elapsed
            if left <= 0:
                return False
            waited.nap(min(left, _NAP))
        return True

    def result(self) -> T:
        """What the work gave or raised; only after :meth:`wait` said True."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set whenever no error is

    def abandon(self) -> bool:
        """See :meth:`Gate.abandon`."""
        return self._gate.abandon()
