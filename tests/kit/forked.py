"""The program in fresh processes that start in milliseconds, and can be killed at any call to the world.

A process that has imported everything, and has run nothing, forks one child for each command line. Sleeps of
the program take no time there.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kit.running import Ended
from kit.wire import PATIENCE


class Forks:
    """``forks.run(folder, "generate", …)`` runs chroma in ``folder/work``; with ``at`` it is killed there."""

    def __init__(self, **env: str) -> None:
        self.env = env
        tests = str(Path(__file__).resolve().parent.parent)
        around = {name: text for name, text in os.environ.items() if not name.startswith("COV")}  # noqa: TID251
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kit.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**around, "PYTHONPATH": tests},
        )

    def run(
        self, folder: Path, *argv: str, at: int = 0, moment: str = "", env: Mapping[str, str] | None = None
    ) -> tuple[Ended, list[str]]:
        """Run to the end, or to the death at a call. Returns how it ended and the calls of a whole run."""
        for name in ("work", "temp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        mine = {
            "CHROMA_STATE_DIR": str(folder / "state"),
            "CHROMA_CONFIG": str(folder / "config.toml"),
            "HOME": str(folder),
            "TMPDIR": str(folder / "temp"),
        }
        order = {"argv": argv, "folder": str(folder), "env": {**self.env, **mine, **(env or {})}}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "at": at, "moment": moment}).encode() + b"\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        said = [(folder / name).read_bytes() for name in ("out.txt", "err.txt")]
        assert told["code"] is not None, f"{argv} went on for {PATIENCE:.0f} s: {said}"
        return Ended(told["code"], *said), told["made"]

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


# --- the process that forks ------------------------------------------------------------------------------


def _import_everything() -> None:
    import chroma_cli
    from chroma_cli.clock import SystemClock
    from kit.clock import SkippingClock

    for library in ("requests", "PIL.Image", "rich.console", "typer", "platformdirs", "truststore"):
        if importlib.util.find_spec(library.partition(".")[0]) is not None:
            importlib.import_module(library)
    for module in pkgutil.walk_packages(chroma_cli.__path__, "chroma_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    clock = SkippingClock()
    for name in ("monotonic", "wall", "sleep"):
        ours: Callable[..., Any] = getattr(clock, name)
        setattr(SystemClock, name, lambda _self, *given, ours=ours: ours(*given))


def _become(order: dict[str, Any]) -> None:
    """Be the program, from the start to the end of the process."""
    from chroma_cli.cli.main import entry
    from kit import boundary

    folder = Path(order["folder"])
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, folder / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, folder / "err.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(name, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()  # noqa: TID251
    os.environ.update({**order["env"], "PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "dumb"})  # noqa: TID251
    os.chdir(folder / "work")
    sys.argv[1:] = order["argv"]
    boundary.arm(order["at"], order["moment"])
    try:
        entry()
    finally:
        calls = list(boundary.made())
        boundary.arm()
        (folder / "made.json").write_text(json.dumps(calls))


def _serve() -> None:
    from kit import boundary

    boundary.install()
    _import_everything()
    answers = os.dup(1)
    with open(os.dup(0), "rb") as orders:
        for line in orders:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                os.close(answers)
                _become(order)  # leaves by SystemExit
                return
            code = _wait(pid)
            listed = Path(order["folder"], "made.json")
            made = json.loads(listed.read_text()) if listed.exists() else []
            listed.unlink(missing_ok=True)
            os.write(answers, json.dumps({"code": code, "made": made}).encode() + b"\n")


def _wait(pid: int) -> int | None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


if __name__ == "__main__":
    _serve()
