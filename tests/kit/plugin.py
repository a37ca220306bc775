"""Fixtures for every test; ``tests/conftest.py`` loads them. A folder's own fixture of the same name wins."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kit.clock import SkippingClock
from kit.gateway import Gateway
from kit.guard import Guard
from kit.matrix import Matrix, compare
from kit.pictures import png
from kit.running import KEY, Ended, Programs, in_process
from kit.wire import CLOSE, Reply


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write the reviewed JSON files of tests anew")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory; it is made by the program."""
    return tmp_path / "state"


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A scripted gateway that the program finds by its environment, with a key."""
    with Gateway() as running:
        for name, text in {
            "CHROMA_BASE_URL": running.base_url,
            "CHROMA_ACCOUNT_URL": running.account_url,
            "SEGMIND_API_KEY": KEY,
            "HOME": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, text)
        yield running


@pytest.fixture
def clock(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> SkippingClock:
    """Time that need not be waited for, for the program in this process and for the gateway."""
    from chroma_cli.clock import SystemClock

    made = SkippingClock()
    for name, mine in {"monotonic": "monotonic", "wall": "shown", "sleep": "sleep"}.items():
        ours: Callable[..., Any] = getattr(made, mine)
        monkeypatch.setattr(SystemClock, name, lambda _self, *given, ours=ours: ours(*given))
    gateway.world.clock = made
    return made


@pytest.fixture
def chroma(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """``chroma("generate", …, stdin=b"")`` runs ``main`` in this process, in real time unless the test has
    ``clock``."""

    def read() -> tuple[bytes, bytes]:
        said = capfdbinary.readouterr()
        return said.out, said.err

    return partial(in_process, read)


@pytest.fixture
def listing(work: Path) -> Callable[..., Path]:
    """``listing("fox", "owl", cfg=9)`` writes ``list.jsonl``, a manifest of ``fox.png`` and ``owl.png``."""

    def write(*prompts: str, name: str = "list.jsonl", **more: Any) -> Path:
        rows = [{"prompt": prompt, "output": f"{prompt}.png", **more} for prompt in prompts]
        (work / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return work / name

    return write


@pytest.fixture
def made(chroma: Callable[..., Ended]) -> Callable[..., Path]:
    """``made("a fox", "-o", "fox.png")`` is the path of one picture, made in this process."""

    def make(*argv: str | Path) -> Path:
        ended = chroma("generate", *argv)
        assert ended.code == 0, ended.said
        [path] = ended.paths
        return path

    return make


@pytest.fixture
def recipe_of(chroma: Callable[..., Ended]) -> Callable[[str | Path], dict[str, Any]]:
    """``recipe_of(path)`` is what ``inspect --json`` says of a picture."""

    def inspect(path: str | Path) -> dict[str, Any]:
        ended = chroma("inspect", path, "--json")
        assert ended.code == 0, ended.said
        return ended.one

    return inspect


@pytest.fixture
def dry(chroma: Callable[..., Ended]) -> Callable[..., dict[str, Any]]:
    """``dry("a fox", "--cfg", "5")`` is the request body that ``generate`` would send."""

    def request(*argv: str | Path, stdin: bytes | None = None) -> dict[str, Any]:
        ended = chroma("generate", *argv, "--dry-run", "--json", stdin=stdin)
        assert ended.code == 0, ended.said
        return dict(ended.one["request"])

    return request


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """``config(text)`` writes the config file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def exiftool() -> Callable[[Path], dict[str, Any]]:
    """``exiftool(path)`` is every tag by group and name; it has nothing to warn of. Such tests are slow."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")

    def ask(path: Path) -> dict[str, Any]:
        words = ["exiftool", "-j", "-b", "-n", "-a", "-G1", "-validate", "-warning", "-error", "-all"]
        answer = subprocess.run([*words, str(path)], capture_output=True, check=True, timeout=60)
        tags: dict[str, Any] = json.loads(answer.stdout)[0]
        assert tags["ExifTool:Validate"] == "0 0 0", tags
        return tags

    return ask


@pytest.fixture
def guarded(
    tmp_path: Path, work: Path, gateway: Gateway, clock: SkippingClock, chroma: Callable[..., Ended]
) -> Iterator[Guard]:
    """``guarded("generate", …)`` runs ``main`` here, and checks what must hold after anything: see
    :mod:`kit.guard`."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine.png").write_bytes(b"mine")
    with Gateway() as stranger:
        stranger.on("GET *", Reply(200, [("Content-Type", "image/png")], png(7)), always=True)
        stranger.on("POST *", Reply.json({"request_id": "stolen", "status": "QUEUED"}), always=True)
        yield Guard(tmp_path, gateway, stranger, chroma)


@pytest.fixture
def process(work: Path) -> Iterator[Programs]:
    """``process("generate", …)`` runs the program as a process; ``.start`` and ``.terminal`` do not wait."""
    made = Programs()
    yield made
    made.clear_up()


@pytest.fixture
def ledger_rows(chroma: Callable[..., Ended]) -> Callable[[], list[dict[str, Any]]]:
    """``ledger_rows()`` is all of the ledger, oldest first, as ``chroma jobs --json`` shows it."""

    def rows() -> list[dict[str, Any]]:
        told = chroma("jobs", "--json", "--limit", "99999")
        assert told.code == 0, told.said
        return sorted(told.json, key=lambda row: row["job"])

    return rows


@pytest.fixture
def submitted(chroma: Callable[..., Ended]) -> Callable[..., str]:
    """``submitted("a fox", …)`` leaves a job at the gateway and returns its request id."""

    def submit(*argv: str | Path) -> str:
        ended = chroma("submit", *(argv or ("a fox",)))
        assert ended.code == 0, ended.said
        return ended.out.strip()

    return submit


@pytest.fixture
def killed_submit(gateway: Gateway, process: Programs) -> Callable[..., None]:
    """``killed_submit("a fox", …)`` kills a program whose submit is out; nobody hears what became of it."""

    def kill(*argv: str | Path) -> None:
        with gateway.hold("submit", then=CLOSE) as hold:
            started = process.start("submit", *(argv or ("a fox",)))
            hold.wait()
            started.kill()

    return kill


@pytest.fixture
def matrix(
    tmp_path: Path,
    gateway: Gateway,
    clock: SkippingClock,
    chroma: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Matrix:
    """Cases written down in reviewed JSON: see :mod:`kit.matrix`."""
    record = bool(request.config.getoption("--record"))
    return Matrix(tmp_path / "cells", gateway, clock, chroma, monkeypatch, record)


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Callable[[dict[str, Any], Path], None]:
    """``recorded(cells, path)`` compares with a reviewed JSON file, or writes it (``--record``)."""
    return partial(compare, record=bool(request.config.getoption("--record")))
