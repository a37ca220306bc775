"""A gateway that is out to hurt, a person's machine that it must not hurt, and what must hold after each try.

A :class:`Rig` is one machine (home, state, config, a working folder) with a key, the gateway it talks to, and
other servers that nobody should talk to with the key. ``rig(...)`` runs one command line in this process and
checks what must hold whatever the other side does; the caller adds what this case is about:

* the exit code is one of the contract, and not that of a bug; no traceback is shown;
* nothing that a terminal could take for a command reaches stdout or stderr;
* the key is in no output, no file, and no request but in the one header to the one gateway;
* nothing is written outside of the working folder and the state folder, and no temp file is left;
* at most one submit per job went out.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faultserver import FaultServer, Request

from chroma_cli import credentials
from chroma_cli.cli.main import main

KEY = "SG_5ec2e7c0ffee1234"
#: 1 is no answer to anything that a server, a file or a variable can do, but for what ``allow_one`` marks.
CONTRACT = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
#: Everything but a newline and a tab that moves a cursor, rings, colours, hides or turns text around.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")
#: What rich itself sends to a terminal: colours, and cursor movements of the spinner.
OWN_SEQUENCES = re.compile(r"\x1b\[[0-9;]*[mKAG]|\x1b\[\?25[lh]|\r")

FOX = ("generate", "a red fox", "-o", "fox.png")


class SkippingClock:
    """Real time, but a sleep moves it ahead at once."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        return time.time() + self._ahead

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._ahead += max(0.0, seconds)


@dataclass(frozen=True)
class Ran:
    """How one command line ended; what it said is text that was checked to be harmless."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.notes[-1]["error"])


@dataclass
class Rig:
    """See the module's text. ``others`` are servers that must not see the key."""

    gateway: FaultServer
    others: list[FaultServer]
    home: Path
    read: Callable[[], tuple[bytes, bytes]] = field(repr=False)
    key: str = KEY
    _before: dict[str, bytes] = field(default_factory=dict, init=False, repr=False)

    @property
    def work(self) -> Path:
        return self.home / "work"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def outside(self) -> Path:
        """A folder of the person's that no picture belongs into."""
        return self.home / "outside"

    @property
    def stranger(self) -> FaultServer:
        return self.others[0]

    @property
    def submits(self) -> int:
        return len(self.gateway.requests("POST"))

    def made(self) -> set[str]:
        """The files in the working folder, by their names."""
        return {str(path.relative_to(self.work)) for path in self.work.rglob("*") if not path.is_dir()}

    def __call__(
        self, *argv: str | Path, most_submits: int = 1, allow_one: bool = False, debug: bool = False
    ) -> Ran:
        self.remember()
        submits = self.submits
        self.read()
        code = main([str(word) for word in argv])
        raw_out, raw_err = self.read()
        ran = Ran(code, raw_out.decode(), raw_err.decode())
        assert code in CONTRACT or (allow_one and code == 1), ran
        self.check_words(ran, debug=debug)
        self.check_home()
        assert self.submits - submits <= most_submits
        return ran

    # --- what must hold ---

    def remember(self) -> None:
        """Take down what lies outside of the folders that may change."""
        self._before = self._elsewhere()

    def _elsewhere(self) -> dict[str, bytes]:
        found = {}
        for folder, folders, files in os.walk(self.home):
            if Path(folder) == self.home:
                folders[:] = [name for name in folders if name not in ("work", "state")]
            for name in [*files, *folders]:
                path = Path(folder, name)
                readable = path.is_file() and not path.is_symlink()
                found[str(path)] = path.read_bytes() if readable else b""
        return found

    def check_words(self, ran: Ran, *, debug: bool = False) -> None:
        for text in (ran.out, ran.err):
            assert not COMMANDS.search(text), (COMMANDS.search(text), text[-3000:])
            assert self.key.lower() not in text.lower(), text[-3000:]
            assert debug or "Traceback" not in text, text[-3000:]
            assert "this is a bug" not in text.lower(), text[-3000:]

    def check_home(self) -> None:
        """Nothing outside was touched, no temp file is left, and the key is in no file."""
        assert self._elsewhere() == self._before
        for path in self.home.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != credentials.FILE:
                assert self.key.encode() not in path.read_bytes(), path
        left = {name for name in self.made() if name.rpartition("/")[2].startswith(".")}
        assert not left
        self.check_servers()

    def check_servers(self) -> None:
        """The key went to the gateway, in its header, and nowhere else."""
        for request in self.gateway.requests():
            elsewhere = {**request.headers, "x-api-key": ""}
            assert self.key not in _everything(request, elsewhere)
            assert request.headers.get("x-api-key", self.key) == self.key
        for server in self.others:
            for request in server.requests():
                assert self.key not in _everything(request, request.headers)
                assert "x-api-key" not in request.headers
                assert "authorization" not in request.headers


def _everything(request: Request, headers: dict[str, str]) -> str:
    return f"{request.method} {request.path} {headers} {request.body!r}"


# --- in a process of its own, with its memory --------------------------------------------------------------

_MEASURED = """
import sys
from chroma_cli import credentials
from chroma_cli.cli.main import main
code = main(sys.argv[2:])
with open("/proc/self/status") as status, open(sys.argv[1], "w") as told:
    told.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""


def measured(told: Path, *argv: str | Path, seconds: float = 150.0) -> tuple[int, str, str, float]:
    """The program as a process: exit code, stdout, stderr, and the most memory it ever had, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(told), *map(str, argv)], capture_output=True, timeout=seconds
    )
    peak = int(told.read_text()) / 1024
    return done.returncode, done.stdout.decode(), done.stderr.decode(), peak
