"""Running the program in this process, in a folder of its own, against a practice gateway."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import KEY, Ended

from chroma_cli.cli.main import main
from chroma_cli.sandbox.server import SandboxServer
from chroma_cli.sandbox.world import WorldOptions

# the scriptable fault server is shared with the gateway's tests
sys.path.append(str(Path(__file__).parent.parent / "gateway"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def chroma(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """``chroma(*args)`` runs ``main`` in this process."""

    def run(*args: str) -> Ended:
        capfdbinary.readouterr()
        code = main(list(args))
        out, err = capfdbinary.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """``config(text)`` writes the config file."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """``stdin(data)``: what this process reads from stdin."""

    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return give


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    """A quick practice gateway that the environment names, with a key."""
    with SandboxServer(None, WorldOptions(latency=0.2, rpm=0)) as server:
        monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield server
