"""The way in: the version, the script, threads; and errors that nobody foresaw."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import chroma_cli
from chroma_cli.cli.main import main


@pytest.mark.parametrize("args", [["--version"], ["-V"], ["--version", "generate"]])
def test_the_version(chroma, args):
    done = chroma(*args)
    assert (done.code, done.out, done.err) == (0, f"chroma {chroma_cli.__version__}\n", "")


def test_as_a_module_and_as_a_script(process):
    script = str(Path(sys.executable).with_name("chroma"))
    assert process("--version").out == f"chroma {chroma_cli.__version__}\n"
    assert process.start("--version", command=[script]).end().out == f"chroma {chroma_cli.__version__}\n"


def test_arguments_come_from_the_command_line_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["chroma", "generate", "a fox", "--dry-run"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["request"]["prompt"] == "a fox"


def test_main_works_outside_the_main_thread(capfdbinary):
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["presets", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert len(capfdbinary.readouterr().out.splitlines()) == 4


def test_the_handlers_of_signals_are_put_back(chroma):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert chroma("presets").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(
    ("kind", "code", "told"),
    [
        (KeyboardInterrupt, 130, "interrupted"),
        (MemoryError, 1, "out_of_resources"),
        (RecursionError, 1, "internal"),
        (ZeroDivisionError, 1, "internal"),
        (EOFError, 1, "internal"),  # Python itself raises it, for a module that was written in part
    ],
)
def test_nothing_leaves_main_as_an_exception(chroma, monkeypatch, kind, code, told):
    def read(_count: int) -> bytes:
        raise kind("by nought")

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    done = chroma("generate", "-", "--dry-run", "--json")
    assert (done.code, done.error["type"], done.error["charged"]) == (code, told, "no")
    plain = chroma("generate", "-", "--dry-run")
    assert plain.code == code
    assert "Traceback" not in plain.err
    if kind is ZeroDivisionError:
        assert "by nought" in done.error["message"]
        assert "--debug" in plain.err
    if told == "internal":
        assert "Traceback" in chroma("generate", "-", "--dry-run", "--debug").err


def test_ctrl_c_while_the_last_words_are_said(chroma, monkeypatch):
    class Screen(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _data: object) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(Screen(), write_through=True))
    assert chroma("generate", "a fox", "--cfg", "0").code == 130
