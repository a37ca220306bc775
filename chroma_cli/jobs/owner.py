"""Who works on a job: the identity of a process, and whether that process is gone.

A process number alone says little: numbers are reused, other hosts and containers count their own. So an
owner is a host, a boot of that host, a number and the time that process started.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

#: After this many seconds without a sign of life, an owner that cannot be looked at counts as gone.
REMOTE_PATIENCE: Final = 15 * 60.0

#: The first process namespace of a Linux kernel always has this number (PROC_PID_INIT_INO).
_FIRST_NAMESPACE: Final = "pid:[4026531836]"
_DEAD_STATES: Final = frozenset("ZXx")


@dataclass(frozen=True)
class Owner:
    """One process. ``boot`` and ``started`` are empty where the system does not tell."""

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(_host(), _boot(), pid, _started(pid) or "")

    @cached_property
    def text(self) -> str:
        """As one text that compares equal for equal owners."""
        return json.dumps([self.host, self.boot, self.pid, self.started])

    @classmethod
    @lru_cache
    def from_text(cls, text: str | None) -> Owner | None:
        """What :attr:`text` gave; ``None`` for no owner, or one that cannot be read."""
        try:
            host, boot, pid, started = json.loads(text or "null")
        except (TypeError, ValueError):
            return None
        if not (isinstance(host, str) and isinstance(boot, str) and isinstance(started, str)):
            return None
        return cls(host, boot, pid, started) if type(pid) is int and pid > 0 else None


def is_gone(owner: Owner, *, seen_from: Owner, idle: float) -> bool:
    """Whether ``owner`` ended without saying so.

    ``idle`` is how many seconds ago (wall clock) it last gave a sign of life; it only matters for owners on
    another host. Clocks jump, so a sign of life from far in the future is worth as little as an old one.
    """
    if owner == seen_from:
        return False
    if owner.host != seen_from.host:
        return abs(idle) > REMOTE_PATIENCE
    if owner.boot and seen_from.boot and owner.boot != seen_from.boot:
        return True
    started = _started(owner.pid)
    if started is None:
        return True
    return bool(started and owner.started and started != owner.started)


def _host() -> str:
    """The name of the host; processes of a container do not see those outside, so it is a host of its own."""
    name = socket.gethostname()
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
        if namespace != _FIRST_NAMESPACE:
            return f"{name}/{namespace}"
    return name


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _started(pid: int) -> str | None:
    """When the process started, in a form that only compares; "" if it runs but that is not known, ``None``
    if there is no such process (a zombie is none: it does nothing any more)."""
    if sys.platform == "win32":  # pragma: no cover
        return _started_windows(pid)
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field is the program's name in brackets and may itself hold brackets and spaces.
        fields = line.rpartition(")")[2].split()
        return None if fields[0] in _DEAD_STATES else fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        return ""  # it runs, as somebody else
    return _started_by_ps(pid)


def _started_by_ps(pid: int) -> str:
    """For systems without /proc."""
    try:
        reply = subprocess.run(  # noqa: S603 - a fixed program, a number as its argument
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            env={"LC_ALL": "C", "TZ": "UTC"},
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(reply.stdout.split())


if sys.platform == "win32":  # pragma: no cover

    def _started_windows(pid: int) -> str | None:
        """Windows knows no harmless signal 0: os.kill would end the process."""
        import ctypes

        query_limited, still_active = 0x1000, 259
        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(kernel.OpenProcess(query_limited, False, pid))
        if not handle:
            return None if kernel.GetLastError() == 87 else ""  # 87: no such process
        try:
            code = ctypes.c_ulong()
            if kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value != still_active:
                return None
            times = [ctypes.c_ulonglong() for _ in range(4)]
            known = kernel.GetProcessTimes(handle, *(ctypes.byref(moment) for moment in times))
            return str(times[0].value) if known else ""
        finally:
            kernel.CloseHandle(handle)
