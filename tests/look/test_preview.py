"""``--preview``: a picture where a terminal can show one, a hint where not, and never another code."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from look_kit import encoded
from running import on_terminal, run_process

from chroma_cli.cli import preview

HALF = "\u2580"
NO_TERMINAL = "There is no terminal"


@pytest.fixture
def fox(studio: Any) -> str:
    """A picture on the disk."""
    studio.made("a fox", "-o", "fox.png")
    return "fox.png"


# --- no terminal -------------------------------------------------------------------------------------------


def test_without_a_terminal_one_line_says_so(studio: Any, fox: str) -> None:
    for argv in (["inspect", fox], ["generate", "a crow"], ["fetch", "job-1"]):
        ran = studio(*argv, "--preview")
        assert ran.code == 0, ran.err
        assert ran.err.count(NO_TERMINAL) == 1
        assert HALF not in ran.out + ran.err


def test_the_code_stays_what_it_was(studio: Any) -> None:
    (studio.here / "plain.png").write_bytes(encoded())
    assert studio("inspect", "plain.png", "--preview").code == 8
    assert studio("generate", "", "--preview").code == 2
    assert studio("fetch", "nobody-knows", "--preview").code == 8


def test_quiet_and_json_have_no_hint(studio: Any, fox: str) -> None:
    quiet = studio("inspect", fox, "--preview", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    asked = studio("inspect", fox, "--preview", "--json")
    assert asked.code == 0
    assert asked.notes == []


# --- on a terminal -----------------------------------------------------------------------------------------


def test_half_blocks_on_any_terminal(studio: Any, fox: str) -> None:
    pytest.importorskip("textual_image")
    with on_terminal("inspect", fox, "--preview") as terminal:
        assert terminal.end() == 0, terminal.text
    assert HALF in terminal.text
    assert "a fox" in terminal.plain


def test_stdout_stays_the_result(studio: Any, fox: str) -> None:
    pytest.importorskip("textual_image")
    with on_terminal("fetch", "job-1", "--preview", stdout=False) as terminal:
        assert terminal.end() == 0, terminal.text
    assert terminal.stdout.decode() == f"{studio.here / fox}\n"
    assert HALF in terminal.text


def test_generate_shows_what_it_made(studio: Any) -> None:
    pytest.importorskip("textual_image")
    with on_terminal("generate", "a fox", "-o", "fox.png", "--preview") as terminal:
        assert terminal.end() == 0, terminal.text
    assert HALF in terminal.text
    assert str(studio.here / "fox.png") in terminal.plain.replace("\r\n", "")


@pytest.mark.parametrize("env", [{"TERM": "dumb"}])
def test_a_terminal_that_can_show_nothing(studio: Any, fox: str, env: dict[str, str]) -> None:
    with on_terminal("inspect", fox, "--preview", env=env) as terminal:
        assert terminal.end() == 0
    assert NO_TERMINAL in terminal.text
    assert HALF not in terminal.text


def test_a_picture_that_cannot_be_shown(studio: Any, fox: str) -> None:
    pytest.importorskip("textual_image")
    data = (studio.here / fox).read_bytes()
    at = data.index(b"IDAT") + 12
    (studio.here / "bad.png").write_bytes(data[:at] + b"\xff" * 40 + data[at + 40 :])
    with on_terminal("inspect", "bad.png", "--preview") as terminal:
        assert terminal.end() == 0, terminal.text
    assert "No preview of bad.png" in terminal.plain


# --- no library --------------------------------------------------------------------------------------------


class Screen:
    """An output that believes to be on a terminal."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.drawn: list[object] = []
        self.stderr_is_terminal = True
        self.stdout_is_terminal = False
        self.terminal = self
        self.dumb = False

    def note(self, words: str) -> None:
        self.notes.append(words)

    def draw(self, renderable: object) -> None:
        self.drawn.append(renderable)


def test_without_the_library_a_hint_names_the_extra(
    studio: Any, fox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("textual_image")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual_image", None)
    screen: Any = Screen()
    preview.show(screen, studio.here / fox)
    [hint] = screen.notes
    assert "chroma-cli[preview]" in hint
    assert screen.drawn == []


def test_a_library_that_fails_is_no_reason_to_fail(
    studio: Any, fox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("textual_image")
    screen: Any = Screen()

    def broken(_: object) -> None:
        raise ZeroDivisionError("no columns")

    monkeypatch.setattr(screen, "draw", broken)
    stdout = sys.__stdout__
    preview.show(screen, studio.here / fox)
    assert screen.notes == [f"No preview of {studio.here / fox}: no columns"]
    assert sys.__stdout__ is stdout


def test_a_process_without_the_library(studio: Any, fox: str, tmp_path: Any) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "textual_image.py").write_text("raise ImportError('not here')\n")
    with on_terminal("inspect", fox, "--preview", env={"PYTHONPATH": str(blocked)}) as terminal:
        assert terminal.end() == 0
    assert "chroma-cli[preview]" in terminal.plain
    assert run_process("inspect", fox, "--preview").code == 0
