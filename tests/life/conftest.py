"""Command lines on a scripted gateway, with a ledger of their own and a clock that need not be waited for."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# The scripted server and the pseudo-terminal live beside the tests that they were made for.
sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("gateway", "cli")]

from faultserver import FaultServer, Reply, Request, gateway_script, tiny_png  # noqa: E402

from chroma_cli.cli import context  # noqa: E402
from chroma_cli.cli.main import main  # noqa: E402
from chroma_cli.jobs.ledger import Ledger  # noqa: E402
from chroma_cli.jobs.owner import Owner  # noqa: E402
from chroma_cli.jobs.records import Intent, JobRow  # noqa: E402
from chroma_cli.settings import environment  # noqa: E402

KEY = "SG_00112233445566aa"
#: What the gateway's files hold: the size that is asked for when nothing is said.
PICTURE = tiny_png(1024, 1024)


class SkippingClock:
    """Real time, but a sleep moves it ahead at once. ``sleeps`` are those of the program, in seconds."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    def skip(self, seconds: float) -> None:
        with self._lock:
            self._ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def wall(self) -> float:
        return time.time() + self._ahead

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self._ahead += max(0.0, seconds)


@dataclass(frozen=True)
class Ran:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.lines]

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which must be the last line of stderr."""
        return dict(json.loads(self.err.splitlines()[-1])["error"])

    @property
    def warnings(self) -> list[str]:
        """The warnings, with and without ``--json``."""
        found = []
        for line in self.err.splitlines():
            if line.startswith("warning: "):
                found.append(line.removeprefix("warning: "))
            elif line.startswith("{") and "warning" in json.loads(line):
                found.append(json.loads(line)["warning"])
        return found


@dataclass
class Life:
    """A person's machine: a state folder, a config file, a working folder, and a gateway."""

    server: FaultServer
    home: Path
    clock: SkippingClock
    _run: Callable[..., Ran] = field(repr=False)

    def __call__(self, *argv: str | Path, stdin: bytes | None = None) -> Ran:
        return self._run(*argv, stdin=stdin)

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def work(self) -> Path:
        return self.home / "work"

    @property
    def submits(self) -> int:
        return len(self.server.requests("POST", "/v2/chroma"))

    def downloads(self, path: str = "/files/*") -> int:
        return len(self.server.requests("GET", path))

    def asked(self, ident: str = "*") -> int:
        """How often the gateway was asked for a job, in either way."""
        return len(self.server.requests("GET", f"/v2/requests/{ident}"))

    def shows(self, saved: Path | bytes) -> bool:
        """Whether this is the gateway's picture, whatever was written into its head."""
        data = saved if isinstance(saved, bytes) else saved.read_bytes()
        pixels = PICTURE[PICTURE.index(b"IDAT") :]
        return data.startswith(PICTURE[:8]) and data.endswith(pixels)

    def submit(self, *argv: str | Path) -> str:
        """A job on the gateway; its request id."""
        ran = self("submit", *(argv or ("a red fox",)))
        assert ran.code == 0, ran.err
        return ran.out.strip()

    @contextlib.contextmanager
    def ledger(self, *, owner: Owner | None = None) -> Iterator[Ledger]:
        with Ledger.open(self.state / "jobs.sqlite3", clock=self.clock, owner=owner) as ledger:
            yield ledger

    def row(self, ident: str | int) -> JobRow:
        with self.ledger() as ledger:
            found = ledger.get(ident)
        assert found is not None
        return found

    def begin(self, *, base_url: str | None = None, owner: Owner | None = None, **more: Any) -> JobRow:
        """An intent in the ledger, as a program that was about to send it leaves it."""
        request = {"prompt": "a red fox", "steps": 40, "samples": 1, "seed": 7, "image_format": "png"}
        intent = Intent(
            base_url or self.server.base_url, request, 0.055, seed=7, steps=40, pixels=1024 * 1024, **more
        )
        with self.ledger(owner=owner) as ledger:
            return ledger.begin(intent)


#: A process that cannot be running: its boot is another one.
def dead_owner() -> Owner:
    me = Owner.current()
    return Owner(me.host, "00000000-dead-boot", me.pid, "1")


def living_owner() -> Owner:
    """Another process that runs: the one that started this one."""
    me = Owner.current()
    return Owner(me.host, me.boot, os.getppid(), "")


@pytest.fixture
def dead() -> Owner:
    return dead_owner()


@pytest.fixture
def alive() -> Owner:
    return living_owner()


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
def server(clock: SkippingClock) -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.wall = clock.wall
        gateway_script(running, polls=0, png=PICTURE)
        yield running


@pytest.fixture
def env(server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a person with a key, who has nothing yet; set for this process, and returned."""
    (tmp_path / "work").mkdir()
    for name in environment():
        if name.startswith(("CHROMA_", "SEGMIND_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "NO_COLOR", "CI", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    mine = {
        "CHROMA_STATE_DIR": str(tmp_path / "state"),
        "CHROMA_CONFIG": str(tmp_path / "config.toml"),
        "CHROMA_BASE_URL": server.base_url,
        "SEGMIND_API_KEY": KEY,
        "HOME": str(tmp_path),
    }
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path / "work")
    return environment()


@pytest.fixture
def life(
    server: FaultServer,
    env: dict[str, str],
    tmp_path: Path,
    clock: SkippingClock,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Life:
    def run(*argv: str | Path, stdin: bytes | None = None) -> Ran:
        if stdin is not None:
            given = tmp_path / "stdin"
            given.write_bytes(stdin)
            with given.open(encoding="utf-8") as stream:
                monkeypatch.setattr("sys.stdin", stream)
                code = main([str(word) for word in argv])
        else:
            code = main([str(word) for word in argv])
        said = capfdbinary.readouterr()
        return Ran(code, said.out.decode(), said.err.decode())

    monkeypatch.setattr(context, "SystemClock", lambda: clock)
    return Life(server, tmp_path, clock, run)


@pytest.fixture
def status_says(server: FaultServer) -> Callable[..., None]:
    """Make the status route of all jobs, or of one, answer so."""

    def says(state: str, ident: str = "*", *, code: int = 200, **more: Any) -> None:
        def reply(request: Request) -> Reply:
            name = request.path.split("/")[3]
            return Reply.json({"status": state, "request_id": name, "metrics": {}, **more}, code)

        server.on("GET", f"/v2/requests/{ident}/status", reply)

    return says


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def png() -> bytes:
    """What the gateway's files hold."""
    return PICTURE
