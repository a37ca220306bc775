"""The program on a real (pseudo-)terminal: spinner, questions, colour, and what must not go there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="pseudo-terminals are a POSIX thing")

from faultserver import FaultServer, Reply, gateway_script, tiny_png  # noqa: E402
from running import KEY, on_terminal  # noqa: E402

from chroma_cli.cli.main import main

SMALL = ("--size", "768x768")
PROGRESS = r"being made · \d+\.\d s of about \d+(\.\d)? s"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> object:
    """A scripted gateway with a job that takes a few polls."""
    with FaultServer() as running:
        gateway_script(running, polls=1, png=tiny_png(768, 768))
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield running


def rows(text: str) -> list[str]:
    """What stands on the screen at the end, row by row: a tiny model of a terminal's cursor."""
    screen, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece.startswith("\x1b"):
            count = int(re.sub(r"\D", "", piece) or 1)
            if piece.endswith("A"):
                row = max(0, row - count)
            elif piece.endswith("K"):
                screen[row] = "" if "2" in piece else screen[row][:column]
        else:
            screen[row] = screen[row][:column].ljust(column) + piece + screen[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in screen if line.strip()]


def test_the_model_of_a_terminal() -> None:
    assert rows("one\r\ntwo\r\x1b[2Kthree\r\n\x1b[1A\x1b[2Kfour") == ["one", "four"]


def test_a_spinner_tells_state_elapsed_and_typical_time_and_is_gone_at_the_end(
    server: FaultServer, here: Path
) -> None:
    with on_terminal("generate", "a fox", "-o", "fox.png", *SMALL, "--steps", "10") as terminal:
        assert terminal.end() == 0
    assert re.search(PROGRESS, terminal.plain)
    path, closing = rows(terminal.text)
    assert path == str(here / "fox.png")
    assert closing.startswith("saved 768x768 PNG")
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") > 0


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "plain"])
def test_a_path_and_the_spinner_do_not_share_a_line(
    server: FaultServer, here: Path, env: dict[str, str]
) -> None:
    assert main(["submit", "a fox", "-q", "-o", "fox.png", *SMALL]) == 0
    with on_terminal("fetch", "--pending", "--wait", env=env) as terminal:
        assert terminal.end() == 0
    path, closing = rows(terminal.text)
    assert path == str(here / "fox.png")
    assert closing.startswith("saved 768x768 PNG")
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") > 0


def test_the_spinner_is_on_stderr_alone(server: FaultServer, here: Path) -> None:
    args = ("generate", "a fox", "-o", "fox.png", *SMALL, "--steps", "10")
    with on_terminal(*args, stdout=False) as terminal:
        assert terminal.end() == 0
    assert terminal.stdout == f"{here / 'fox.png'}\n".encode()
    assert re.search(PROGRESS, terminal.plain)


@pytest.mark.parametrize(
    ("more", "env"),
    [
        (["-q"], {}),
        (["--json"], {}),
        ([], {"CI": "true"}),
        ([], {"TERM": "dumb"}),
    ],
)
def test_no_spinner_where_none_is_wanted(
    server: FaultServer, here: Path, more: list[str], env: dict[str, str]
) -> None:
    args = ("generate", "a fox", "-o", "fox.png", *SMALL, "--steps", "10", *more)
    with on_terminal(*args, env=env) as terminal:
        assert terminal.end() == 0
    assert "of about" not in terminal.plain
    assert not re.search(r"\x1b\[[?0-9]*[hlAJK]", terminal.text)
    assert ("being made" in terminal.plain) == (not more)


def test_no_color_keeps_the_spinner_without_colour(server: FaultServer) -> None:
    args = ("generate", "a fox", *SMALL, "--steps", "10")
    with on_terminal(*args, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.end() == 0
    assert re.search(PROGRESS, terminal.plain)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.text)


def test_an_error_is_coloured_and_the_spinner_gone(server: FaultServer) -> None:
    server.on("GET", "/v2/requests/*/status", Reply.json({"status": "FAILED", "error": "[red]no[/red]"}, 422))
    with on_terminal("generate", "a fox", *SMALL) as terminal:
        assert terminal.end() == 6
    assert "\x1b[1;31merror" in terminal.text
    shown = rows(terminal.text)
    assert shown[0].startswith("error: The generation failed: [red]no[/red]")
    assert shown[-1] == "Nothing was charged. (job 1, request id job-1)"


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_more_than_ten_pictures_are_asked_about(
    server: FaultServer, here: Path, answer: str, code: int
) -> None:
    with on_terminal("generate", "a fox", "--samples", "11", *SMALL, "--steps", "10") as terminal:
        terminal.wait_for(r"11 pictures, about \$0\.[0-9]+\?")
        assert server.requests() == []
        terminal.say(answer)
        assert terminal.end() == code
    assert len(os.listdir(here)) == (0 if code else 11)
    assert len(server.requests("POST")) == (0 if code else 1)


def test_ctrl_c_at_the_question_spends_nothing(server: FaultServer) -> None:
    with on_terminal("generate", "a fox", "--samples", "11") as terminal:
        terminal.wait_for(r"11 pictures")
        terminal.process.send_signal(2)
        assert terminal.end() == 130
    assert server.requests() == []
    assert "Traceback" not in terminal.text


def test_no_bytes_onto_a_terminal(server: FaultServer) -> None:
    with on_terminal("generate", "a fox", "-o", "-") as terminal:
        assert terminal.end() == 2
    assert "terminal" in terminal.plain
    assert server.requests() == []


def test_bytes_into_a_pipe_beside_a_spinner(server: FaultServer) -> None:
    with on_terminal("generate", "a fox", "-o", "-", *SMALL, "--steps", "10", stdout=False) as terminal:
        assert terminal.end() == 0
    assert terminal.stdout[:8] == tiny_png()[:8]
    assert terminal.stdout.endswith(tiny_png()[-12:])


def test_a_dry_run_is_spread_out_for_a_person() -> None:
    with on_terminal("generate", "a fox", "--dry-run") as terminal:
        assert terminal.end() == 0
    assert '"request": {\r\n' in terminal.text
    with on_terminal("generate", "a fox", "--dry-run", "--json") as terminal:
        assert terminal.end() == 0
    assert len(terminal.text.splitlines()) == 1


def test_pictures_that_wait_are_mentioned(server: FaultServer) -> None:
    with on_terminal("submit", "a fox", *SMALL) as terminal:
        assert terminal.end() == 0
    with on_terminal("generate", "a hare", *SMALL, "--steps", "10") as terminal:
        assert terminal.end() == 0
    assert "1 picture is waiting" in terminal.plain
    assert "chroma fetch --pending" in terminal.plain
    with on_terminal("generate", "an owl", "-q", *SMALL, "--steps", "10") as terminal:
        assert terminal.end() == 0
    assert "waiting" not in terminal.plain


def test_a_name_cannot_command_the_terminal(server: FaultServer, here: Path) -> None:
    with on_terminal("generate", "a fox", "-o", "f\x1b[31mx\u202e.png", *SMALL, "--steps", "10") as terminal:
        assert terminal.end() == 0
    assert (here / "f\x1b[31mx\u202e.png").exists()
    assert "\x1b[31m" not in terminal.text
    assert "\u202e" not in terminal.text
    assert "f\\x1b[31mx\\u202e.png" in terminal.plain
