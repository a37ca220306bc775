"""Signals that end the program become exceptions in the main thread, so that it ends as tidily as Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

from chroma_cli.errors import TerminationRequest

#: Those that end a program by default and come from outside: Ctrl-C and Ctrl-\ (INT, QUIT; BREAK on Windows),
#: a terminal or an ssh that is gone (HUP), supervisors (TERM; USR1 and USR2 from job schedulers, PWR from
#: containers), limits of time (ALRM, which outlives an exec; VTALRM, PROF, XCPU). The exit code is 128 plus
#: the number; 129, 130 and 143 are documented. SIGPIPE and SIGXFSZ are ignored by Python, and show as EPIPE
#: and EFBIG. Signals that tell of a fault of the program (SEGV, ABRT …) stay what they are.
_NAMES: Final = (
    *("SIGINT", "SIGHUP", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGPWR", "SIGBREAK"),
    *("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU"),
)
#: The same signal again within this time is the same wish: timeout(1) sends each to the program and to its
#: group. Ctrl-C is pressed by a person (seconds).
_SAME: Final = 0.2
#: Nobody who is impatient sends SIGHUP: the system and the shell both tell of a lost terminal, and systemd
#: sends one after its SIGTERM. So long after another signal it asks for nothing new (seconds).
_HANGING_UP: Final = 10.0
#: After these times a blocking call is interrupted, should the signal have come right before it (seconds).
_KICKS: Final = (0.02, 0.1, 0.5, 2.0)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise :class:`TerminationRequest` for such a signal, KeyboardInterrupt for Ctrl-C. One that was ignored
    from the start (nohup, ``&`` in a script) stays so, and one for which the program around has a handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    before = {number: signal.getsignal(number) for number in _known()}
    ours = [number for number, old in before.items() if old in (signal.SIG_DFL, signal.default_int_handler)]
    for number in ours:
        signal.signal(number, handler)
    try:
        with _prompt_delivery():
            yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def ignore_late_ones() -> None:
    """Let nothing disturb the end of a program that has said all: Ctrl-C would show a traceback of Python's
    own exit, and a lost terminal is told twice."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _known() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class _Handler:
    """Raises for a signal, unless it only repeats another."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._at = 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._last is not None and now - self._at < self._quiet(number):
            return
        self._last, self._at = number, now
        raise KeyboardInterrupt if number == signal.SIGINT else TerminationRequest(number)

    def _quiet(self, number: int) -> float:
        """For how long after the last signal this one says nothing new (seconds)."""
        if number == getattr(signal, "SIGHUP", None):
            return _HANGING_UP
        return _SAME if number == self._last and number != signal.SIGINT else 0.0


@contextlib.contextmanager
def _prompt_delivery() -> Iterator[None]:
    """See to it that no signal waits for a blocking call to return.

    Python runs handlers between its own instructions, and when a system call is interrupted. A signal that
    comes in between, after the last look and before the call, or to another thread, would be heard only when
    somebody has answered the question that is read there. So a thread hears of every signal, and interrupts
    the main thread with one that means nothing.
    """
    nudge = getattr(signal, "SIGURG", None)
    if nudge is None or signal.getsignal(nudge) is not signal.SIG_DFL:
        yield
        return
    main = threading.main_thread().ident
    assert main is not None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def deliver() -> None:
        while number := os.read(reader, 1):
            for pause in _KICKS if number[0] != nudge else ():
                time.sleep(pause)
                signal.pthread_kill(main, nudge)
        os.close(reader)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(nudge, lambda _number, _frame: None)
    threading.Thread(target=deliver, name="chroma-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.signal(nudge, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.close(writer)
