"""What the benchmarks share: figures with targets, alternating runs, clean surroundings for a program."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KEY = "SG_0123456789abcdef"


@dataclass(frozen=True)
class Figure:
    """One measured value; a target is an upper limit, None for a value that is only shown."""

    what: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        return self.target is None or self.value <= self.target


def show(figures: Sequence[Figure]) -> bool:
    """Print the table; True when every target is met."""
    width = max(len(figure.what) for figure in figures)
    print(f"{'':{width}}  {'measured':>10} {'target':>8}  ")
    for figure in figures:
        target = f"{figure.target:.2f}" if figure.target is not None else "-"
        verdict = "" if figure.target is None else "ok" if figure.met else "MISSED"
        line = f"{figure.what:{width}}  {figure.value:10.3f} {target:>8}  {figure.unit:6} {verdict:6}"
        print(f"{line} {figure.note}".rstrip())
    return all(figure.met for figure in figures)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chroma-bench-") as name:
        yield Path(name)


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """An environment without anybody's settings, whose state, config and compiled modules lie in ``folder``.

    Compiled modules are kept: an installed program has them, and the tree stays clean.
    """
    theirs = ("CHROMA_", "SEGMIND_", "PYTHON")
    env = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251
        if name == "PYTHONPATH" or not name.startswith(theirs)
    }
    own = {
        "CHROMA_STATE_DIR": str(folder / "state"),
        "CHROMA_CONFIG": str(folder / "config.toml"),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "SEGMIND_API_KEY": KEY,
    }
    return env | own | more


def chroma(*args: str) -> list[str]:
    """The installed console script, or the module where there is none beside this interpreter."""
    script = Path(sys.executable).with_name("chroma.exe" if sys.platform == "win32" else "chroma")
    return [str(script), *args] if script.exists() else [sys.executable, "-m", "chroma_cli", *args]


def seconds_of(command: Sequence[str], env: Mapping[str, str], folder: Path) -> float:
    """How long one process takes from start to end; its failure ends the benchmark."""
    began = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return took


Run = Callable[[], float]


def alternate(runs: Mapping[str, Run], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """A B A B ...: what disturbs the machine hits all of them alike."""
    for _ in range(warm_up):
        for run in runs.values():
            run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run())
    return taken


def ratio(taken: Mapping[str, Sequence[float]], one: str, base: str) -> float:
    """The median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(taken[one], taken[base], strict=True))


def milliseconds(taken: Mapping[str, Sequence[float]], one: str, base: str) -> str:
    """The medians behind a ratio, for the reader."""
    a, b = (1000 * statistics.median(taken[name]) for name in (one, base))
    return f"{a:.1f} ms against {b:.1f} ms"
