"""Checks of many pictures at a time, most of them by a helper: a process that does nothing else.

A check unpacks a whole picture, in dozens of turns between which Python serves its other threads; the helper
takes no turns from them. It is no more than an aid: it is started when pictures begin to crowd, or earlier
where many are awaited. Only "this is whole" is believed of it; whatever else it says or does, the check is
done here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import chroma_cli
from chroma_cli.errors import BrokenImage, OutputError
from chroma_cli.images import decode
from chroma_cli.images.decode import ImageInfo
from chroma_cli.images.spool import Spool

#: So many checks at a time wait for the helper; the next one is done here.
_MOST_WAITING: Final = 8
#: A helper that has not answered within these seconds is stuck: the largest picture takes two.
_PATIENCE: Final = 30.0
_BUFFER: Final = 256 * 1024

#: It looks for modules where this program does, so that it has the same ones.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from chroma_cli.images.checker import serve; serve(int(sys.argv[2]))"
)


def check(picture: Spool) -> ImageInfo:
    """What the picture is, in this thread; raises as :func:`chroma_cli.images.decode.verify`."""
    with picture.reader() as source:
        return decode.verify(source)


class Checker:
    """The same for several threads at once. To be closed at the end; it then goes on without a helper."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self._helper: _Helper | None = None
        # "frozen": the program in a file of its own, which is no Python that could be started
        self._may_start = os.name == "posix" and bool(sys.executable) and not hasattr(sys, "frozen")

    def check(self, picture: Spool) -> ImageInfo:
        with self._turn() as helper:
            info = helper.ask(picture.path) if helper is not None else None
            return info if info is not None else check(picture)

    def get_ready(self) -> None:
        """Start the helper now: many pictures will come, and there is nothing to do yet."""
        with self._lock:
            self._start()

    def close(self) -> None:
        with self._lock:
            helper, self._helper, self._may_start = self._helper, None, False
        if helper is not None:
            helper.close()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[_Helper | None]:
        """Give the helper when it is to do the check."""
        with self._lock:
            others = self._under_way
            if others:
                self._start()
            self._under_way += 1
            helper = self._helper if others < _MOST_WAITING else None
        try:
            yield helper
        finally:
            with self._lock:
                self._under_way -= 1

    def _start(self) -> None:
        if self._helper is None and self._may_start:
            self._may_start = False  # once
            self._helper = _Helper.start()


class _Helper:
    """The other process, and the line to it: JSON in lines, a path down, what is known of a picture up."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self._process = process
        self._line = line
        self._answers = line.makefile("rb")
        self._lock = threading.Lock()
        self._lost = False

    @classmethod
    def start(cls) -> _Helper | None:
        """None where the system does not let us."""
        places = [place for place in sys.path if place]  # not "", the working folder
        places.append(str(Path(chroma_cli.__file__).parents[1]))
        try:
            line, end = socket.socketpair()
        except OSError:
            return None
        line.settimeout(_PATIENCE)
        try:
            process = subprocess.Popen(  # noqa: S603 - this Python, with a program of ours
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(places), str(end.fileno())],
                pass_fds=[end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C is for us alone to hear
            )
        except OSError:
            line.close()
            return None
        finally:
            end.close()
        return cls(process, line)

    def ask(self, path: Path) -> ImageInfo | None:
        """What the picture is; None when it is not whole, or nobody there can say so."""
        with self._lock:
            if self._lost:
                return None
            try:
                self._line.sendall(_line(str(path)))
                known = json.loads(self._answers.readline())
                return None if known is None else ImageInfo(**known)
            except (OSError, ValueError, TypeError):  # it ended, is stuck, or talks nonsense
                self._lost = True
                self._process.kill()
                return None

    def close(self) -> None:
        """End it; it has nothing to lose. A check that is under way is then done by who asked for it."""
        self._process.kill()
        self._process.wait()
        with self._lock:
            self._lost = True
            self._answers.close()
            self._line.close()


def _line(value: Any) -> bytes:
    return json.dumps(value).encode("ascii") + b"\n"


# --- in the helper ---------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Answer on this socket until its other end is closed."""
    with socket.socket(fileno=descriptor) as line, line.makefile("rwb") as stream:
        for asked in stream:
            stream.write(_line(_answer(json.loads(asked))))
            stream.flush()


def _answer(path: str) -> dict[str, Any] | None:
    """What the picture is. None without a reason: who asked looks for that, with nothing taken on trust."""
    try:
        with Path(path).open("rb", _BUFFER) as source:
            return asdict(decode.verify(source))
    except (BrokenImage, OutputError, OSError):
        return None
