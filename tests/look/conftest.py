"""Command lines about recipes, on a scripted gateway that counts what is bought; and other readers."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# The scripted server and the runner of processes live beside the tests that they were made for.
sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("gateway", "cli")]

from faultserver import FaultServer, Reply, gateway_script  # noqa: E402
from look_kit import encoded  # noqa: E402
from running import KEY, Ended  # noqa: E402

from chroma_cli.cli import context  # noqa: E402
from chroma_cli.cli.main import main  # noqa: E402


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


@dataclass
class Studio:
    """A working folder, a config file, and a gateway whose pictures and answers the test chooses."""

    server: FaultServer
    here: Path
    config_file: Path
    _run: Callable[..., Ended] = field(repr=False)

    def __call__(self, *argv: str | Path, stdin: bytes | None = None) -> Ended:
        return self._run(*argv, stdin=stdin)

    def serve(self, data: bytes) -> None:
        """What every picture's address and the blocking call give from now on."""
        self.server.on("GET", "/files/*", Reply(200, [("Content-Type", "image/png")], data))
        self.server.on("POST", "/v1/chroma", Reply(200, [("x-request-id", "sync-1")], data))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The request bodies of all submits so far."""
        return [request.json for request in self.server.requests("POST", "/v?/chroma")]

    def config(self, text: str) -> None:
        self.config_file.write_text(text, encoding="utf-8")

    def made(self, *argv: str | Path) -> Path:
        """One picture made; its path."""
        ran = self("generate", *argv)
        assert ran.code == 0, ran.err
        [line] = ran.lines
        return Path(line)

    def recipe(self, path: Path) -> dict[str, Any]:
        """What ``inspect --json`` says of a picture."""
        ran = self("inspect", path, "--json")
        assert ran.code == 0, ran.err
        [found] = ran.json
        return dict(found)

    def dry(self, *argv: str | Path) -> dict[str, Any]:
        """The request body that a command line would send."""
        ran = self("generate", *argv, "--dry-run", "--json")
        assert ran.code == 0, ran.err
        [call] = ran.json
        return dict(call["request"])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        gateway_script(running, polls=0, png=encoded())
        yield running


@pytest.fixture
def studio(
    server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Studio:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    clock = SkippingClock()
    monkeypatch.setattr(context, "SystemClock", lambda: clock)

    def run(*argv: str | Path, stdin: bytes | None = None) -> Ended:
        capfdbinary.readouterr()
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main([str(word) for word in argv])
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err)

    return Studio(server, here, tmp_path / "config.toml", run)


@pytest.fixture
def exiftool() -> Callable[[Path], dict[str, Any]]:
    """All tags of a file by group and name; it has nothing to warn of."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")

    def ask(path: Path) -> dict[str, Any]:
        words = ["exiftool", "-j", "-b", "-n", "-a", "-G1", "-validate", "-warning", "-error", "-all"]
        answer = subprocess.run([*words, str(path)], capture_output=True, check=True, timeout=60)
        tags: dict[str, Any] = json.loads(answer.stdout)[0]
        assert tags["ExifTool:Validate"] == "0 0 0", tags
        return tags

    return ask
