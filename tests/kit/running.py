"""The program as a script or a person runs it: in this process, as a process, on a terminal.

However it was run, what comes back is one :class:`Ended`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.wire import PATIENCE

KEY = "SG_0123456789abcdef"
JOB_FIELDS = {
    *("schema", "job", "request_id", "status", "mode", "request", "seed", "created_at", "expires_at"),
    *("files", "charged", "cost", "remaining_credits", "timings", "error"),
}
ERROR_FIELDS = {"type", "message", "hint", "exit_code", "request_id", "job", "charged"}


@dataclass(frozen=True)
class Ended:
    """How a command line ended; text is decoded, the bytes are kept."""

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
    def paths(self) -> list[Path]:
        """stdout as paths, one a line."""
        return [Path(line) for line in self.lines]

    @property
    def json(self) -> list[Any]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.raw_out.splitlines()]

    @property
    def one(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        [found] = self.json
        return dict(found)

    @property
    def notes(self) -> list[Any]:
        """stderr as JSON lines."""
        return [json.loads(line) for line in self.raw_err.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a ``--json`` run, which is the last line of stderr."""
        last = json.loads(self.raw_err.splitlines()[-1])
        assert set(last) == {"schema", "error"}
        assert set(last["error"]) == ERROR_FIELDS
        assert last["error"]["exit_code"] == self.code
        return dict(last["error"])

    @property
    def warnings(self) -> list[str]:
        """The warnings, with and without ``--json``."""
        found = []
        for line in self.err.splitlines():
            if line.startswith("warning: "):
                found.append(line.removeprefix("warning: "))
            elif line.startswith('{"schema"') and "warning" in json.loads(line):
                found.append(json.loads(line)["warning"])
        return found

    @property
    def said(self) -> str:
        """Both streams, for messages of failed tests."""
        return f"exit {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}"


def eventually(look: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first true value of ``look()``."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def in_process(
    read: Callable[[], tuple[bytes, bytes]], *argv: str | Path, stdin: bytes | None = None
) -> Ended:
    """Run ``main([...])`` here; ``read`` takes what was captured on the two streams so far."""
    from chroma_cli.cli.main import main

    read()
    before = sys.stdin
    if stdin is not None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        code = main([str(word) for word in argv])
    finally:
        sys.stdin = before
    return Ended(code, *read())


# --- processes -------------------------------------------------------------------------------------------


class Started:
    """A process that may still run; ``out`` and ``err`` are what it said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid
        self._said = {"out": b"", "err": b""}
        assert process.stdout is not None and process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=("out", process.stdout), daemon=True),
            threading.Thread(target=self._read, args=("err", process.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: Any) -> None:
        while piece := stream.read1(65536):
            self._said[name] += piece
        stream.close()

    @property
    def out(self) -> str:
        return self._said["out"].decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self._said["err"].decode("utf-8", "replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, pattern: str) -> None:
        """Wait until stderr or stdout matches."""

        def seen() -> Any:
            return re.search(pattern, self.err) or re.search(pattern, self.out) or not self.running

        eventually(seen, pattern)
        assert re.search(pattern, self.err + self.out) or not self.running, self.err

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self.signal(signal.SIGINT)

    def kill(self) -> Ended:
        """``kill -9``, and only that."""
        self.signal(signal.SIGKILL)
        return self.end()

    def stop(self) -> None:
        """Stop it in its tracks, as Ctrl-Z or a laptop's lid does, and wait until it stands."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: _state(self.pid) in ("T", "Z"), "stopped")

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self, patience: float = 2 * PATIENCE) -> Ended:
        """Wait for its end; a process that goes on is killed and fails the test."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {patience:.0f} s: {self.err}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return Ended(code, self._said["out"], self._said["err"])

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.process.kill()
        self.end()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


class Programs:
    """Runs chroma as processes and ends what is left of them; ``env`` is added to this process's variables.

    Coverage is left out: it doubles the start, and killed processes say little to it.
    """

    def __init__(self, **env: str) -> None:
        self.env = env
        self._started: list[Started] = []

    def command(self, *argv: str | Path) -> list[str]:
        return [sys.executable, "-m", "chroma_cli", *(str(word) for word in argv)]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("COV")}  # noqa: TID251
        return {**kept, **self.env, **(env or {})}

    def __call__(
        self,
        *argv: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        patience: float = 2 * PATIENCE,
    ) -> Ended:
        """Run to the end."""
        started = self.start(*argv, stdin=stdin, env=env, cwd=cwd)
        return started.end(patience)

    def shell(self, line: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ended:
        """Run a line of sh, in which ``$CHROMA`` is the program, to its end."""
        env = {"CHROMA": f"{sys.executable} -m chroma_cli", **(env or {})}
        return self.start(line, command=["/bin/sh", "-c"], env=env, cwd=cwd).end()

    def peak(self, *argv: str | Path) -> tuple[Ended, int]:
        """Run to the end; return also the most memory that the process had, in MB (Linux)."""
        code = (
            "import re, sys; from chroma_cli.cli.main import main; code = main(sys.argv[1:]);"
            "said = re.search('VmHWM:\\\\s+([0-9]+)', open('/proc/self/status').read())[1];"
            "print(said, file=sys.stderr); sys.exit(code)"
        )
        ended = self.start(*argv, command=[sys.executable, "-c", code]).end(4 * PATIENCE)
        return ended, int(ended.err.split()[-1]) // 1024

    def start(
        self,
        *argv: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        command: list[str] | None = None,
    ) -> Started:
        """Start in the background; ``command`` in place of the program's own."""
        process = subprocess.Popen(
            [*command, *map(str, argv)] if command else self.command(*argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(env),
            cwd=cwd,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(stdin)
        started = Started(process)
        self._started.append(started)
        return started

    @contextlib.contextmanager
    def terminal(
        self,
        *argv: str | Path,
        stdout: bool = True,
        env: Mapping[str, str] | None = None,
        command: list[str] | None = None,
    ) -> Iterator[Terminal]:
        """Run with stdin and stderr, and stdout unless told otherwise, on a pseudo-terminal; ``command`` in
        place of the program's own."""
        master, slave = os.openpty()
        process = subprocess.Popen(
            [*command, *map(str, argv)] if command else self.command(*argv),
            stdin=slave,
            stdout=slave if stdout else subprocess.PIPE,
            stderr=slave,
            env=self.environment(env),
            start_new_session=True,
            preexec_fn=_own_terminal,
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

    def clear_up(self) -> None:
        """Let no process outlive its test."""
        for started in self._started:
            started.__exit__()


def _own_terminal() -> None:
    """Make the terminal the one whose Ctrl-C and hang-up reach the process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """The program on a pseudo-terminal; ``seen`` is everything it wrote there."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.master = master
        self.seen = b""
        self._stdout = b""

    @property
    def text(self) -> str:
        return self.seen.decode("utf-8", "replace")

    @property
    def plain(self) -> str:
        """Without colour and cursor commands."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def wait_for(self, pattern: str) -> None:
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.text) and time.monotonic() < end:
            if not self._read():
                break
        assert re.search(pattern, self.text), self.text

    def say(self, words: str) -> None:
        """Type; ``"\\x03"`` is Ctrl-C."""
        os.write(self.master, words.encode())

    def end(self) -> Ended:
        """Read to the end; what came on the terminal counts as stderr, a stdout of its own as stdout."""
        while self._read():
            pass
        if self.process.stdout is not None:
            self._stdout = self.process.stdout.read()
        return Ended(self.process.wait(PATIENCE), self._stdout, self.seen)

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
