"""A folder with a manifest, a gateway that keeps count, and the program in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batchgate import Gate

from chroma_cli.cli.main import main

sys.path.append(str(Path(__file__).parent.parent / "cli"))
from running import KEY, Ended  # noqa: E402


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = (tmp_path / "work").resolve()
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return folder


@pytest.fixture
def gate(work: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with Gate() as server:
        monkeypatch.setenv("CHROMA_BASE_URL", server.url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield server


@pytest.fixture
def chroma(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """``chroma("batch", …)`` runs ``main`` in this process."""

    def run(*args: str) -> Ended:
        capfdbinary.readouterr()
        code = main(list(args))
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def listing(work: Path) -> Callable[..., Path]:
    """``listing("fox", "owl")`` writes ``list.jsonl``: an image of each, named after its first word."""

    def write(*prompts: str, name: str = "list.jsonl", **more: object) -> Path:
        rows = [
            {"prompt": prompt, "output": f"{prompt.split()[0]}.png", "size": "768x768", **more}
            for prompt in prompts
        ]
        path = work / name
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path

    return write
