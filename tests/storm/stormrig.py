"""Real processes: a state directory, a folder for pictures and a place for temp files of this test alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HALTING = Path(__file__).with_name("halting.py")
KEY = "SG_0123456789abcdef"
#: What the tests themselves were started with.
AROUND = os.environ  # noqa: TID251 - of the tests, not of the program
#: Hundreds of processes, most of them killed, say little about coverage, and start twice as fast without.
LEFT_OUT = ("CHROMA_", "SEGMIND_", "XDG_", "COVERAGE_")


@dataclass(frozen=True)
class Ended:
    """A process that ended; the streams as text."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.lines]

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a ``--json`` run, which is the last line of stderr."""
        found: dict[str, Any] = json.loads(self.stderr.splitlines()[-1])["error"]
        return found


@dataclass
class Machine:
    """A computer to run chroma on: ``root/state`` is its ledger's, ``root/out`` gets the pictures."""

    root: Path
    base_url: str
    extra: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.out, self.state, self.temp, self.root / "home"):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def temp(self) -> Path:
        return self.root / "temp"

    @property
    def env(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in AROUND.items()
            if not name.startswith(LEFT_OUT) and not name.lower().endswith("_proxy")
        }
        return {
            **kept,
            "SEGMIND_API_KEY": KEY,
            "CHROMA_BASE_URL": self.base_url,
            "CHROMA_STATE_DIR": str(self.state),
            "CHROMA_CONFIG": str(self.root / "config.toml"),
            "TMPDIR": str(self.temp),
            "HOME": str(self.root / "home"),
            **self.extra,
        }

    def start(
        self, *args: str, halt: tuple[str, int, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """``halt``: place, port and prompt for ``halting.py``."""
        if halt is None:
            command = [sys.executable, "-m", "chroma_cli"]
        else:
            place, port, prompt = halt
            command = [sys.executable, str(HALTING), place, str(port), prompt, "--"]
        return self._start([*command, *args], cwd or self.out)

    def start_script(self, script: Path, *args: str) -> subprocess.Popen[bytes]:
        """A script of the test that runs chroma in its own way."""
        return self._start([sys.executable, str(script), *args], self.out)

    def _start(self, command: list[str], cwd: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env=self.env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def clear_up(self) -> None:
        """No process outlives its test."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def run(self, *args: str, cwd: Path | None = None, patience: float = 90) -> Ended:
        return ended(self.start(*args, cwd=cwd), patience)

    def jobs(self) -> list[dict[str, Any]]:
        """All of the ledger, as ``chroma jobs`` shows it."""
        told = self.run("jobs", "--json", "--limit", "9999")
        assert told.code == 0, told.stderr
        return told.objects

    def temp_files(self) -> list[Path]:
        """Whatever looks like a file of chroma's that should not have stayed."""
        found = [
            path for path in self.root.rglob("*") if path.name.startswith(".chroma") or ".part" in path.name
        ]
        return found + [path for path in self.temp.iterdir() if path not in found]


def ended(process: subprocess.Popen[bytes], patience: float = 90) -> Ended:
    with process:
        try:
            stdout, stderr = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"still running after {patience} s: {stderr.decode()}") from None
    return Ended(process.returncode, stdout.decode(), stderr.decode())


def killed(process: subprocess.Popen[bytes]) -> None:
    """``kill -9``, and only that."""
    os.kill(process.pid, signal.SIGKILL)
    told = ended(process, 30)
    assert told.code == -signal.SIGKILL, told.stderr
