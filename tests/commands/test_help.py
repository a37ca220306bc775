"""Help is plain, aligned, within 80 columns, and says what a person needs, whatever it is written to."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import pytest
from kit import helps

from chroma_cli.request import schema

ALL = [(), *((name,) for name in helps.commands())]


@pytest.fixture
def helped(chroma):
    """``helped("credits")`` is the help of a command."""

    def ask(*argv: str) -> str:
        told = chroma(*argv, "--help")
        assert (told.code, told.err) == (0, "")
        return told.out

    return ask


# --- one screen ------------------------------------------------------------------------------------------


def test_the_overview_fits_a_screen_with_room_for_the_prompt(helped):
    page = helped()
    assert len(page.splitlines()) < 24
    listed = [line.split(None, 1) for lines in helps.panels(page).values() for line in lines]
    for name in helps.commands():
        [summary] = [words[1] for words in listed if words[0] == name]
        assert " ".join(helped(name).split()).count(summary.rstrip(".")) == 1
    assert len(helps.panels(page)) == 5


@pytest.mark.parametrize("args", ALL, ids=" ".join)
def test_no_line_is_wider_than_80_columns(args: Sequence[str], helped):
    page = helped(*args)
    assert max(map(len, page.splitlines())) <= 80
    assert page.isascii()
    assert page == "\n".join(line.rstrip() for line in page.split("\n"))
    for noise in ("<str>", "<text>", "[default:", "None", "\\[", "\x1b"):
        assert noise not in page
    for option in ("--json", "--quiet", "--verbose", "--debug") if args else ("--version",):
        assert option in page


@pytest.mark.parametrize("columns", [1, 40, 60, 79])
def test_a_narrow_terminal_gets_narrow_lines(columns, helped, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(map(len, helped("config").splitlines())) <= max(40, columns)


def test_a_wide_terminal_gets_the_same_page(helped, monkeypatch):
    page = helped("generate")
    monkeypatch.setenv("COLUMNS", "300")
    assert helped("generate") == page


# --- what generate says ----------------------------------------------------------------------------------


def test_generate_has_its_panels_and_ends_with_three_examples(helped):
    found = helps.panels(helped("generate"))
    assert list(found) == ["", "Picture", "Output", "Run", "Examples"]
    assert sum(line.startswith("  chroma generate ") for line in found["Examples"]) == 3
    assert "--cfg X" in "\n".join(found["Picture"])
    assert "-o, --output PLACE" in "\n".join(found["Output"])
    assert "--timeout S" in "\n".join(found["Run"])
    assert found["Run"][-1].endswith("Show the help and exit.")


def test_each_parameter_has_default_range_and_advice(helped):
    words = " ".join(helped("generate").split())
    for parameter in schema.PARAMETERS:
        if parameter is schema.PROMPT:
            continue
        assert parameter.flag in words
        for fact in (parameter.help, parameter.advice):
            assert " ".join(fact.split())[1:] in words
        if parameter.kind in ("integer", "number"):
            assert parameter.allowed()[1:] in words
        elif parameter.kind == "choice" and parameter is not schema.ASPECT_RATIO:
            assert ", ".join(parameter.choices) in words
    for fact in ("from 10 to 75", "8-12 for photorealism", "60-75 ultra-fine", "euler, euler_a for speed"):
        assert fact in words


def test_all_descriptions_begin_in_the_same_column(helped):
    lines = helped("generate").splitlines()
    starts = set()
    for line in lines[: lines.index("Examples")]:
        found = re.match(r"  (?:-\w, |    )--[^ ]+(?: [^ ]+)?  +(?=\S)", line)
        if found:
            starts.add(found.end())
    assert len(starts) == 1


# --- where it goes ---------------------------------------------------------------------------------------


def test_headings_are_bold_on_a_terminal_and_nowhere_else(helped, process):
    page = helped("credits").encode()

    def on_terminal(**env: str) -> bytes:
        with process.terminal("credits", "--help", env=env) as terminal:
            ended = terminal.end()
        assert ended.code == 0
        return ended.raw_err.replace(b"\r", b"")

    seen = on_terminal()
    assert b"\x1b[1mRun\x1b[0m" in seen
    assert re.sub(rb"\x1b\[\d*m", b"", seen) == page
    assert on_terminal(NO_COLOR="1") == page
    assert on_terminal(TERM="dumb") == page


def test_forced_colour_reaches_a_pipe(helped, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1mRun\x1b[0m" in helped("credits")


def test_help_beside_json_quiet_and_wrong_values_is_help(chroma, helped):
    page = helped("generate")
    assert helped("generate", "--json", "-q", "--cfg", "nonsense") == page
    assert chroma("generate", "-h").out == page


def test_help_needs_neither_rich_nor_the_network(process):
    probe = (
        "import sys; from chroma_cli.cli.main import main; main(['generate', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('rich', 'requests', 'PIL', 'sqlite3')))"
    )
    told = process.start(command=[sys.executable, "-c", probe]).end()
    assert told.code == 0
    assert "Usage: chroma generate" in told.out
