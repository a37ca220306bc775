"""``--preview``: a picture where a terminal can show one, a hint where not, and never another code."""

from __future__ import annotations

import pytest
from kit import picture

HALF = "\u2580"
NO_TERMINAL = "There is no terminal"


@pytest.fixture
def fox(gateway, clock, made):
    """A picture on the disk."""
    made("a fox", "-o", "fox.png")
    return "fox.png"


# --- no terminal -------------------------------------------------------------------------------------------


def test_without_a_terminal_one_line_says_so(gateway, clock, chroma, fox):
    for argv in (["inspect", fox], ["generate", "a crow"], ["fetch", "1"]):
        ran = chroma(*argv, "--preview")
        assert ran.code == 0, ran.err
        assert ran.err.count(NO_TERMINAL) == 1
        assert HALF not in ran.out + ran.err


def test_the_code_stays_what_it_was(gateway, clock, chroma, work):
    (work / "plain.png").write_bytes(picture(1))
    assert chroma("inspect", "plain.png", "--preview").code == 8
    assert chroma("generate", "", "--preview").code == 2
    assert chroma("fetch", "nobody-knows", "--preview").code == 8


def test_quiet_and_json_have_no_hint(chroma, fox):
    quiet = chroma("inspect", fox, "--preview", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    asked = chroma("inspect", fox, "--preview", "--json")
    assert asked.code == 0
    assert asked.notes == []


# --- on a terminal -----------------------------------------------------------------------------------------


def test_half_blocks_on_any_terminal(fox, process):
    pytest.importorskip("textual_image")
    with process.terminal("inspect", fox, "--preview") as terminal:
        assert terminal.end().code == 0, terminal.text
    assert HALF in terminal.text
    assert "a fox" in terminal.plain


def test_stdout_stays_the_result(gateway, work, fox, process):
    pytest.importorskip("textual_image")
    with process.terminal("fetch", "1", "--preview", stdout=False) as terminal:
        ended = terminal.end()
    assert (ended.code, ended.paths) == (0, [work / fox]), ended.said
    assert HALF in terminal.text


def test_generate_shows_what_it_made(gateway, work, process):
    pytest.importorskip("textual_image")
    with process.terminal("generate", "a fox", "-o", "fox.png", "--preview") as terminal:
        assert terminal.end().code == 0, terminal.text
    assert HALF in terminal.text
    assert str(work / "fox.png") in terminal.plain.replace("\r\n", "")


@pytest.mark.parametrize("env", [{"TERM": "dumb"}])
def test_a_terminal_that_can_show_nothing(fox, env, process):
    with process.terminal("inspect", fox, "--preview", env=env) as terminal:
        assert terminal.end().code == 0
    assert NO_TERMINAL in terminal.text
    assert HALF not in terminal.text


def test_a_picture_that_cannot_be_shown(work, fox, process):
    pytest.importorskip("textual_image")
    data = (work / fox).read_bytes()
    at = data.index(b"IDAT") + 12
    (work / "bad.png").write_bytes(data[:at] + b"\xff" * 40 + data[at + 40 :])
    with process.terminal("inspect", "bad.png", "--preview") as terminal:
        assert terminal.end().code == 0, terminal.text
    assert "No preview of bad.png" in terminal.plain


# --- no library --------------------------------------------------------------------------------------------


def test_a_process_without_the_library(chroma, fox, tmp_path, process):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "textual_image.py").write_text("raise ImportError('not here')\n")
    with process.terminal("inspect", fox, "--preview", env={"PYTHONPATH": str(blocked)}) as terminal:
        assert terminal.end().code == 0
    assert "chroma-cli[preview]" in terminal.plain
    assert process("inspect", fox, "--preview").code == 0


def test_a_library_that_fails_is_no_reason_to_fail(fox, tmp_path, process):
    broken = tmp_path / "broken" / "textual_image"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "renderable.py").write_text(
        "def HalfcellImage(*_, **__):\n    raise ZeroDivisionError('no columns')\n\nImage = HalfcellImage\n"
    )
    with process.terminal("inspect", fox, "--preview", env={"PYTHONPATH": str(broken.parent)}) as terminal:
        assert terminal.end().code == 0
    assert "No preview of fox.png: no columns" in terminal.plain
