"""What the program does in many cases, written down in JSON that people review, and compared with it.

    def test_something(matrix):
        for name in cases:
            with matrix.cell(name) as cell:      # a person with an empty folder and an empty ledger
                cell.gateway.on(...)
                cell("generate", cell.prompt)    # each command line adds a step to the cell
        matrix.compare(Path(__file__).with_name("something.json"))

``pytest --record`` writes the files anew; what has changed is to be read in the difference before it is kept.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SkippingClock
from kit.gateway import Gateway
from kit.pictures import is_whole
from kit.running import Ended


class Cell:
    """One case: command lines in a folder of its own. ``prompt`` is that of its job."""

    def __init__(self, name: str, work: Path, gateway: Gateway, clock: SkippingClock, run: Any) -> None:
        self.prompt, self.work, self.gateway, self.clock, self._run = name, work, gateway, clock, run
        self.steps: list[dict[str, Any]] = []
        self._posts = 0

    def __call__(self, *argv: str, note: str | None = None, stdin: bytes | None = None) -> Ended:
        """Run a command line with ``--json``, and write down what came of it."""
        json_too = () if "--json" in argv or "-" in argv else ("--json",)
        ended: Ended = self._run(*argv, *json_too, stdin=stdin)
        posts = self.gateway.posts()
        step: dict[str, Any] = {
            "run": note or " ".join(argv).replace(self.prompt, "PROMPT"),
            "exit": ended.code,
        }
        with contextlib.suppress(ValueError, IndexError, KeyError, AssertionError):
            step["error"] = ended.error["type"]
            step["charged"] = ended.error["charged"]
        count, self._posts = posts - self._posts, posts
        # how often is chance where the waits between are; server errors are sent three times at most
        step["posts"] = count if count <= 3 else "more than 3"
        rows = self._run("jobs", "--json", "--limit", "999").json
        rows.sort(key=lambda row: row["job"])
        step["rows"] = [f"{row['status']} {row['charged']} {_money(row['cost'])}" for row in rows]
        step["files"] = self._files()
        self.steps.append(step)
        return ended

    def start(self) -> None:
        """Count POSTs from here."""
        self._posts = self.gateway.posts()

    def _files(self) -> list[str]:
        found = []
        for path in sorted(self.work.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(self.work))
                found.append(name if is_whole(path) else f"{name} (no picture)")
        return found


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:g}"


class Matrix:
    """All cells of one test."""

    def __init__(
        self,
        root: Path,
        gateway: Gateway,
        clock: SkippingClock,
        run: Callable[..., Ended],
        monkeypatch: pytest.MonkeyPatch,
        record: bool,
    ) -> None:
        self._root, self.gateway, self._clock, self._run = root, gateway, clock, run
        self._monkeypatch, self._record = monkeypatch, record
        self._cells: dict[str, Any] = {}

    @contextlib.contextmanager
    def cell(self, name: str) -> Iterator[Cell]:
        """A person with an empty folder and ledger before a gateway that behaves."""
        assert name not in self._cells, f"two cells are called {name}"
        home = self._root / f"cell{len(self._cells)}"
        work = home / "work"
        work.mkdir(parents=True)
        self._monkeypatch.setenv("CHROMA_STATE_DIR", str(home / "state"))
        self._monkeypatch.setenv("CHROMA_CONFIG", str(home / "config.toml"))
        self._monkeypatch.chdir(work)
        self.gateway.behave()
        made = Cell(name, work, self.gateway, self._clock, self._run)
        made.start()
        yield made
        self._cells[name] = made.steps[0] if len(made.steps) == 1 else made.steps

    def compare(self, path: Path) -> None:
        """Compare all cells with the file, or write it when that was asked for."""
        compare(self._cells, path, record=self._record)


def compare(cells: dict[str, Any], path: Path, *, record: bool) -> None:
    """Compare cells of any kind with a reviewed file, or write it."""
    if record:
        path.parent.mkdir(exist_ok=True)
        path.write_text(_text(cells))
        return
    known = json.loads(path.read_text())
    got = json.loads(json.dumps(cells))
    wrong = [
        f"{name}\n  was {json.dumps(known.get(name))}\n  is  {json.dumps(got.get(name))}"
        for name in {**known, **got}
        if known.get(name) != got.get(name)
    ]
    assert not wrong, "\n".join([f"{len(wrong)} cells differ from {path.name} (pytest --record):", *wrong])


def _text(cells: dict[str, Any]) -> str:
    """One line for each step, so that a difference can be read."""
    parts = []
    for name, steps in cells.items():
        if isinstance(steps, list):
            inside = ",\n    ".join(json.dumps(step) for step in steps)
            parts.append(f"  {json.dumps(name)}: [\n    {inside}\n  ]")
        else:
            parts.append(f"  {json.dumps(name)}: {json.dumps(steps)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
