"""The calls with which a program reaches the world, numbered, and ``kill -9`` at any of them.

:func:`install` wraps what Python offers for it (files, names, folders, sockets, SQLite's writes) before the
program is imported, and knows nothing of the program. Only the process that calls :func:`arm` counts.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

#: Each call can be killed before it is made, in the middle of what it writes or sends, and after it.
MOMENTS = ("before", "within", "after")

_NAMES = ("link", "symlink", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "chmod", "truncate")
_DESCRIPTORS = ("fsync", "fdatasync", "ftruncate", "fchmod", "posix_fallocate", "sendfile", "copy_file_range")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SQL = (
    "BEGIN",
    "COMMIT",
    "END",
    "ROLLBACK",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CREATE",
    "DROP",
    "ALTER",
)


class _Counter:
    """Counts the calls of the one process that is armed, and kills it where it is to die."""

    def __init__(self) -> None:
        self.pid = 0
        self.at = 0
        self.moment = ""
        self.made: list[str] = []
        self._lock = threading.Lock()

    def call(
        self, name: str, make: Callable[[], Any], half: Callable[[], Any] | None = None, *, kind: str = ""
    ) -> Any:
        """Make a call, which is one more. ``half`` does the first half of it."""
        if os.getpid() != self.pid:
            return make()
        with self._lock:
            self.made.append(name + ("*" if half else ""))
            mine = len(self.made) == self.at
        if mine and self.moment == "before":
            self._die()
        if mine and self.moment == "within" and half is not None:
            half()
            self._die()
        try:
            return make()
        finally:
            if mine and self.moment == "after":
                self._die()

    def _die(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


_counter = _Counter()


def arm(at: int = 0, moment: str = "") -> None:
    """Count from here in this process, and die at call number ``at``."""
    _counter.pid, _counter.at, _counter.moment, _counter.made = os.getpid(), at, moment, []


def made() -> list[str]:
    """Return the calls so far; those with a star can be killed within."""
    return _counter.made


def install() -> None:
    """Wrap them all. To be called before the program is imported."""
    for name in (*_NAMES, *_DESCRIPTORS):
        _wrap_plain(os, name)
    _wrap_open()
    _wrap_os_writes()
    _wrap_sockets()
    _wrap_sqlite()
    sys.stdout = _io_open(1, "w", closefd=False)


def _wrap_plain(owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def wrapped(*args: Any, **more: Any) -> Any:
        return _counter.call(f"os.{name}", lambda: real(*args, **more))

    setattr(owner, name, wrapped)


# --- files -----------------------------------------------------------------------------------------------

_real_io_open = io.open
_real_os_open = os.open
_real_os_write = os.write


class _Raw(io.FileIO):
    """A file whose writes count; what is below every buffered and text file."""

    def write(self, data: Any) -> Any:
        half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
        real = super().write
        return _counter.call("file.write", lambda: real(data), lambda: real(half))


def _io_open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    if not set(mode) & set("wax+"):
        return _real_io_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    plain = mode.replace("t", "").replace("b", "")
    raw: Any = _counter.call("open", lambda: _Raw(file, plain, closefd, opener))
    if buffering == 0:
        return raw
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)


def _wrap_open() -> None:
    io.open = builtins.open = _io_open  # type: ignore[assignment]

    def opened(path: Any, flags: int, *args: Any, **more: Any) -> int:
        if not flags & _WRITING:
            return _real_os_open(path, flags, *args, **more)
        return int(_counter.call("os.open", lambda: _real_os_open(path, flags, *args, **more)))

    os.open = opened


def _wrap_os_writes() -> None:
    def write(descriptor: int, data: Any) -> int:
        half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
        return int(
            _counter.call(
                "os.write",
                lambda: _real_os_write(descriptor, data),
                lambda: _real_os_write(descriptor, half),
            )
        )

    os.write = write


# --- sockets ---------------------------------------------------------------------------------------------


def _wrap_sockets() -> None:
    plain: Any = socket.socket
    for name in ("connect", "connect_ex", "recv", "recv_into"):
        _wrap_method(plain, name)
    for name in ("send", "sendall"):
        _wrap_sending(plain, name)


def _wrap_method(owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def wrapped(self: Any, *args: Any) -> Any:
        return _counter.call(f"socket.{name}", lambda: real(self, *args))

    setattr(owner, name, wrapped)


def _wrap_sending(owner: Any, name: str) -> None:
    real = getattr(owner, name)
    send_all = owner.sendall

    def wrapped(self: Any, data: Any, *args: Any) -> Any:
        half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
        return _counter.call(f"socket.{name}", lambda: real(self, data, *args), lambda: send_all(self, half))

    setattr(owner, name, wrapped)


# --- SQLite ----------------------------------------------------------------------------------------------


def _verb(sql: Any) -> str:
    words = str(sql).split(None, 1)
    return words[0].upper().rstrip(";") if words else ""


def _running(method: str) -> Callable[..., Any]:
    """A method that runs SQL, counted when it writes."""

    def run(self: Any, sql: Any, *args: Any) -> Any:
        real = getattr(super(type(self), self), method)
        if _verb(sql) not in _SQL and method != "executescript":
            return real(sql, *args)
        return _counter.call(f"sqlite.{_verb(sql)}", lambda: real(sql, *args))

    return run


_RUNNING = {method: _running(method) for method in ("execute", "executemany", "executescript")}


def _wrap_sqlite() -> None:
    real = sqlite3.connect
    cursors: dict[Any, Any] = {}
    connections: dict[Any, Any] = {}

    def counting(base: Any, kept: dict[Any, Any], more: dict[str, Any]) -> Any:
        if base not in kept:
            kept[base] = type(f"Counting{base.__name__}", (base,), {**_RUNNING, **more})
        return kept[base]

    def cursor(self: Any, factory: Any = sqlite3.Cursor) -> Any:
        return super(type(self), self).cursor(counting(factory, cursors, {}))

    def commit(self: Any) -> None:
        _counter.call("sqlite.commit", super(type(self), self).commit)

    def leave(self: Any, *error: Any) -> Any:
        return _counter.call("sqlite.commit", lambda: super(type(self), self).__exit__(*error))

    def connect(*args: Any, **more: Any) -> Any:
        base = more.pop("factory", sqlite3.Connection)
        extra = {"cursor": cursor, "commit": commit, "__exit__": leave}
        factory = counting(base, connections, extra)
        return _counter.call("sqlite.connect", lambda: real(*args, factory=factory, **more))

    sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]
