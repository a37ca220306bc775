"""Running the program as a script or a person does: as a process, through a shell, on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

KEY = "SG_0123456789abcdef"
PATIENCE = 60.0
JOB_FIELDS = {
    *("schema", "job", "request_id", "status", "mode", "request", "seed", "created_at", "expires_at"),
    *("files", "charged", "cost", "remaining_credits", "timings", "error"),
}
ERROR_FIELDS = {"type", "message", "hint", "exit_code", "request_id", "job", "charged"}


@dataclass(frozen=True)
class Ended:
    """How a call ended; text is decoded, the bytes are kept."""

    code: int
    raw_out: bytes
    raw_err: bytes

    @property
    def out(self) -> str:
        return self.raw_out.decode()

    @property
    def err(self) -> str:
        return self.raw_err.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> list[Any]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.raw_out.splitlines()]

    @property
    def notes(self) -> list[Any]:
        """stderr as JSON lines."""
        return [json.loads(line) for line in self.raw_err.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which is the last line of stderr."""
        last = self.notes[-1]
        assert set(last) == {"schema", "error"}
        assert last["schema"] == 1
        assert set(last["error"]) == ERROR_FIELDS
        assert last["error"]["exit_code"] == self.code
        return dict(last["error"])


# --- real processes --------------------------------------------------------------------------------------


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "chroma_cli", *args]


def run_process(*args: str, **more: Any) -> Ended:
    """The program as a process, to its end."""
    done = subprocess.run(command(*args), capture_output=True, timeout=PATIENCE, **more)
    return Ended(done.returncode, done.stdout, done.stderr)


def shell(line: str) -> Ended:
    """A line for sh in which ``$CHROMA`` is the program."""
    env = {**os.environ, "CHROMA": f"{sys.executable} -m chroma_cli"}  # noqa: TID251
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, timeout=PATIENCE, env=env)
    return Ended(done.returncode, done.stdout, done.stderr)


def eventually(look: Callable[[], Any], what: str) -> Any:
    """The first true value of ``look()``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


@dataclass
class Terminal:
    """The program on a pseudo-terminal; ``seen`` is everything it wrote there."""

    process: subprocess.Popen[bytes]
    master: int
    seen: bytes = b""
    stdout: bytes = field(default=b"", init=False)

    def wait_for(self, pattern: str) -> None:
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text) and time.monotonic() < end:
            if not self._read():
                break
        assert re.search(pattern, self.text), self.text

    def say(self, words: str) -> None:
        os.write(self.master, words.encode())

    def end(self) -> int:
        while self._read():
            pass
        if self.process.stdout is not None:
            self.stdout = self.process.stdout.read()
            self.process.stdout.close()
        return self.process.wait(PATIENCE)

    @property
    def text(self) -> str:
        return self.seen.decode("utf-8", "replace")

    @property
    def plain(self) -> str:
        """Without colour and cursor commands."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        if not ready:
            return False
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the other side is gone
            return False
        self.seen += piece
        return bool(piece)


@contextlib.contextmanager
def on_terminal(*args: str, stdout: bool = True, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    """The program with stdin and stderr, and stdout unless told otherwise, on a pseudo-terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command(*args),
        stdin=slave,
        stdout=slave if stdout else subprocess.PIPE,
        stderr=slave,
        env={**os.environ, **(env or {})},  # noqa: TID251
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        os.close(master)


class Collector:
    """A background process's stderr, readable while it runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.err = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line

    def end(self) -> Ended:
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(PATIENCE)
        self._thread.join()
        return Ended(code, out, self.err)


@contextlib.contextmanager
def background(args: Sequence[str]) -> Iterator[Collector]:
    """The program as a process that is still running inside the block."""
    process = subprocess.Popen(command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    collector = Collector(process)
    try:
        yield collector
    finally:
        if process.poll() is None:
            process.kill()
        collector._thread.join()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
