"""Help is plain, aligned, within 80 columns, and says what a person needs, whatever it is written to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from chroma_cli.cli.main import COMMANDS, main
from chroma_cli.cli.surface import commands
from chroma_cli.request import schema

ALL = [(), *((name,) for name in COMMANDS)]


def helped(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main([*args, "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def panels(page: str) -> dict[str, list[str]]:
    """The lines below each heading."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in page.splitlines():
        if re.fullmatch(r"[A-Z][\w ]+", line):
            heading = line
            found[heading] = []
        elif line:
            found[heading].append(line)
    return found


# --- one screen ------------------------------------------------------------------------------------------


def test_the_overview_fits_a_screen_with_room_for_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    page = helped(capsys)
    assert len(page.splitlines()) < 24
    groups = panels(page)
    assert list(groups)[1:] == list(dict.fromkeys(place.group for place in COMMANDS.values()))
    for one in commands():
        assert f"  {one.name} " in "\n".join(groups[one.group])
        assert one.summary in page


@pytest.mark.parametrize("args", ALL, ids=" ".join)
def test_no_line_is_wider_than_80_columns(args: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    page = helped(capsys, *args)
    assert max(map(len, page.splitlines())) <= 80
    assert page.isascii()
    assert page == "\n".join(line.rstrip() for line in page.split("\n"))
    for noise in ("<str>", "<text>", "[default:", "None", "\\[", "\x1b"):
        assert noise not in page


@pytest.mark.parametrize("columns", [1, 40, 60, 79])
def test_a_narrow_terminal_gets_narrow_lines(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = helped(capsys, "config")
    assert max(map(len, page.splitlines())) <= max(40, columns)


def test_a_wide_terminal_gets_the_same_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = helped(capsys, "generate")
    monkeypatch.setenv("COLUMNS", "300")
    assert helped(capsys, "generate") == page


# --- what generate says ----------------------------------------------------------------------------------


def test_generate_has_its_panels_and_ends_with_three_examples(capsys: pytest.CaptureFixture[str]) -> None:
    found = panels(helped(capsys, "generate"))
    assert list(found) == ["", "Picture", "Output", "Run", "Examples"]
    assert sum(line.startswith("  chroma generate ") for line in found["Examples"]) == 3
    assert "--cfg X" in "\n".join(found["Picture"])
    assert "-o, --output PLACE" in "\n".join(found["Output"])
    assert "--timeout S" in "\n".join(found["Run"])
    assert found["Run"][-1].endswith("Show the help and exit.")


@pytest.mark.parametrize("parameter", [one for one in schema.PARAMETERS if one is not schema.PROMPT])
def test_each_parameter_has_default_range_and_advice(
    parameter: schema.Parameter, capsys: pytest.CaptureFixture[str]
) -> None:
    words = " ".join(helped(capsys, "generate").split())
    assert parameter.flag in words
    for fact in (parameter.help, parameter.advice):
        assert " ".join(fact.split())[1:] in words
    if parameter.kind in ("integer", "number"):
        assert parameter.allowed()[1:] in words
    elif parameter.kind == "choice" and parameter is not schema.ASPECT_RATIO:
        assert ", ".join(parameter.choices) in words


def test_all_descriptions_begin_in_the_same_column(capsys: pytest.CaptureFixture[str]) -> None:
    lines = helped(capsys, "generate").splitlines()
    starts = set()
    for line in lines[: lines.index("Examples")]:
        found = re.match(r"  (?:-\w, |    )--[^ ]+(?: [^ ]+)?  +(?=\S)", line)
        if found:
            starts.add(found.end())
    assert len(starts) == 1


# --- where it goes ---------------------------------------------------------------------------------------


def on_pty(env: dict[str, str]) -> bytes:
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chroma_cli", "credits", "--help"],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env={**os.environ, **env},  # noqa: TID251
    )
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:  # all is read
        pass
    assert process.wait(60) == 0
    os.close(master)
    return seen.replace(b"\r", b"")


def test_headings_are_bold_on_a_terminal_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    page = helped(capsys, "credits").encode()
    seen = on_pty({})
    assert b"\x1b[1mRun\x1b[0m" in seen
    assert re.sub(rb"\x1b\[\d*m", b"", seen) == page
    assert on_pty({"NO_COLOR": "1"}) == page
    assert on_pty({"TERM": "dumb"}) == page


def test_forced_colour_reaches_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1mRun\x1b[0m" in helped(capsys, "credits")


def test_help_beside_json_quiet_and_wrong_values_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    page = helped(capsys, "generate")
    assert helped(capsys, "generate", "--json", "-q", "--cfg", "nonsense") == page
    assert main(["generate", "-h"]) == 0
    assert capsys.readouterr().out == page


def test_help_needs_neither_rich_nor_the_network() -> None:
    probe = (
        "import sys; from chroma_cli.cli.main import main; main(['generate', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('rich', 'requests', 'PIL', 'sqlite3')))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # noqa: TID251
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=60, env=env)
    assert done.returncode == 0
    assert b"Usage: chroma generate" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a Linux device")
def test_a_full_disk_is_told() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chroma_cli", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 10
    assert b"Traceback" not in done.stderr
