"""Pictures checked by a helper: the same verdicts as here, whatever becomes of the helper."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from chroma_cli.errors import BrokenImage
from chroma_cli.images import checker
from chroma_cli.images.checker import Checker, check, serve
from chroma_cli.images.decode import ImageInfo

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a helper is only started on POSIX systems")


def make_picture(kind: str = "png", width: int = 64, height: int = 48) -> bytes:
    kept = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(kept, kind.upper())
    return kept.getvalue()


@dataclass
class Held:
    """What a check needs of a spool."""

    path: Path

    def reader(self) -> BinaryIO:
        return self.path.open("rb")


def verdict(judge: Callable[[Any], ImageInfo | None], picture: object) -> object:
    try:
        return judge(picture)
    except BrokenImage as error:
        return error.message


@pytest.fixture
def pictures(tmp_path: Path) -> list[Held]:
    """Sixty files, of which some are no pictures."""
    whole = [make_picture(kind, 200, 100) for kind in ("png", "jpeg", "webp")]
    cut = [data[: len(data) // 2] for data in whole]
    found = []
    for number in range(60):
        path = tmp_path / f"{number} \u00e9\n.part"
        path.write_bytes([*whole, *cut, b"<html>", b""][number % 8])
        found.append(Held(path))
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The helpers that were started."""
    real, found = subprocess.Popen, []

    def popen(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        process = real(*args, **more)
        found.append(process)
        return process

    monkeypatch.setattr(checker.subprocess, "Popen", popen)
    return found


@pytest.fixture
def crowded() -> Iterator[Checker]:
    """A checker that has a helper, because another check never ends."""
    made = Checker()
    with made._turn():
        yield made
    made.close()


def in_a_crowd(judge: Callable[[Any], ImageInfo], pictures: list[Held]) -> list[object]:
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(lambda one: verdict(judge, one), pictures))


def test_one_after_the_other_needs_no_helper(
    pictures: list[Held], started: list[subprocess.Popen[bytes]]
) -> None:
    made = Checker()
    assert [verdict(made.check, one) for one in pictures] == [verdict(check, one) for one in pictures]
    made.close()
    assert started == []


def test_a_helper_that_was_got_ready_does_every_check(
    pictures: list[Held], started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Checker()
    made.get_ready()
    made.get_ready()
    assert len(started) == 1
    verdicts = [verdict(check, one) for one in pictures]
    done_here: list[object] = []
    monkeypatch.setattr(checker, "check", lambda one: (done_here.append(one), check(one))[1])
    assert [verdict(made.check, one) for one in pictures] == verdicts
    assert done_here == [one for one, said in zip(pictures, verdicts, strict=True) if isinstance(said, str)]
    made.close()
    made.get_ready()
    assert started[0].returncode is not None
    assert len(started) == 1


def test_a_crowd_gets_one_helper_and_the_same_verdicts(
    pictures: list[Held], crowded: Checker, started: list[subprocess.Popen[bytes]]
) -> None:
    assert in_a_crowd(crowded.check, pictures) == [verdict(check, one) for one in pictures]
    (helper,) = started
    assert helper.poll() is None
    crowded.close()
    assert helper.returncode is not None
    assert in_a_crowd(crowded.check, pictures[:8]) == [verdict(check, one) for one in pictures[:8]]
    assert len(started) == 1


def test_a_helper_does_the_work(
    pictures: list[Held], crowded: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is whole is not looked at here; what is not is judged here, whatever the helper thinks of it."""
    here: list[Held] = []

    def look(one: Held) -> ImageInfo:
        here.append(one)
        return check(one)  # type: ignore[arg-type]

    broken = [one for one in pictures if isinstance(verdict(check, one), str)]
    monkeypatch.setattr(checker, "check", look)
    for one in pictures:
        verdict(crowded.check, one)
    assert here == broken


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_helper_that_dies_or_hangs_is_done_without(
    pictures: list[Held],
    started: list[subprocess.Popen[bytes]],
    crowded: Checker,
    monkeypatch: pytest.MonkeyPatch,
    sign: int,
) -> None:
    monkeypatch.setattr(checker, "_PATIENCE", 1.0)
    expected = [verdict(check, one) for one in pictures]
    crowded.check(pictures[0])
    os.kill(started[0].pid, sign)
    assert in_a_crowd(crowded.check, pictures) == expected
    started[0].wait(10)
    assert len(started) == 1


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(3)",
        "print('hello')",
        "import os, sys; os.write(int(sys.argv[2]), b'[]\\n' * 99)",
    ],
)
def test_a_helper_that_makes_no_sense_is_done_without(
    pictures: list[Held], crowded: Checker, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(checker, "_PROGRAM", program)
    assert in_a_crowd(crowded.check, pictures) == [verdict(check, one) for one in pictures]


def test_a_helper_that_lacks_a_decoder_is_not_believed(
    tmp_path: Path, pictures: list[Held], crowded: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "PIL.py").write_text("raise ImportError('no Pillow')")
    monkeypatch.setattr(checker, "_PROGRAM", f"import sys; sys.path[:0] = [{str(trap)!r}]; " + _program())
    assert in_a_crowd(crowded.check, pictures) == [verdict(check, one) for one in pictures]


def _program() -> str:
    """The real one, with the trap still first on its path."""
    return checker._PROGRAM.replace("sys.path[:] =", "sys.path +=")


@pytest.mark.parametrize("name", [(subprocess, "Popen"), (socket, "socketpair")], ids=["start", "line"])
def test_where_none_can_be_started_it_is_done_without(
    pictures: list[Held], crowded: Checker, monkeypatch: pytest.MonkeyPatch, name: tuple[Any, str]
) -> None:
    tried: list[object] = []

    def refuse(*_: object, **__: object) -> None:
        tried.append(_)
        raise PermissionError("no processes here")

    monkeypatch.setattr(*name, refuse)
    assert in_a_crowd(crowded.check, pictures) == [verdict(check, one) for one in pictures]
    assert len(tried) == 1


def test_nothing_in_the_working_folder_gets_into_the_helper(
    tmp_path: Path, pictures: list[Held], crowded: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("json", "socket", "zlib", "PIL", "chroma_cli"):
        (trap / f"{name}.py").write_text(f"open({str(trap / 'caught')!r}, 'w').close()")
    monkeypatch.chdir(trap)
    assert crowded.check(pictures[0]) == ImageInfo("png", 200, 100)
    assert not (trap / "caught").exists()


def test_a_helper_ends_with_the_program(tmp_path: Path) -> None:
    """Killed outright: nothing is left that could end it but the closed line."""
    (tmp_path / "one.png").write_bytes(make_picture())
    program = f"""
import os, signal
from pathlib import Path
from chroma_cli.images.checker import _Helper
helper = _Helper.start()
assert helper.ask(Path({str(tmp_path / "one.png")!r})).width == 64
print(helper._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    pid = int(ended.stdout)
    for _ in range(500):
        if not is_running(pid):
            return
        time.sleep(0.02)
    raise AssertionError("the helper lives on")


def is_running(pid: int) -> bool:
    """A zombie, which waits for a parent that is gone, is not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return state != "Z"


@pytest.fixture(scope="module")
def helper() -> Iterator[checker._Helper]:
    made = checker._Helper.start()
    assert made is not None
    yield made
    made.close()


SOUND = [make_picture(kind) for kind in ("png", "jpeg", "webp")]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SOUND), st.lists(st.tuples(st.integers(0, 20_000), st.binary(max_size=9)), max_size=3))
def test_damage_is_judged_alike(
    helper: checker._Helper, tmp_path: Path, sound: bytes, damage: list[tuple[int, bytes]]
) -> None:
    data = bytearray(sound)
    for at, put in damage:
        data[at : at + len(put)] = put
    held = Held(tmp_path / "damaged")
    held.path.write_bytes(data)
    known = verdict(check, held)
    assert helper.ask(held.path) == (known if isinstance(known, ImageInfo) else None)


def test_what_cannot_be_opened_is_no_verdict(helper: checker._Helper, tmp_path: Path) -> None:
    assert helper.ask(tmp_path / "missing") is None
    (tmp_path / "there").write_bytes(SOUND[0])
    assert helper.ask(tmp_path / "there") == ImageInfo("png", 64, 48)


def test_serving_ends_with_the_line(tmp_path: Path) -> None:
    """The helper's side, in this process."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs.detach(),))
    thread.start()
    (tmp_path / "whole").write_bytes(SOUND[1])
    (tmp_path / "broken").write_bytes(SOUND[1][:99])
    with ours, ours.makefile("rwb") as stream:
        for name in ("whole", "broken", "missing"):
            stream.write(checker._line(str(tmp_path / name)))
        stream.flush()
        answers = [stream.readline() for _ in range(3)]
        ours.shutdown(socket.SHUT_WR)
        thread.join(10)
    assert not thread.is_alive()
    assert b'"format": "jpeg"' in answers[0]
    assert answers[1:] == [b"null\n", b"null\n"]
