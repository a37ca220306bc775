"""The program on a real (pseudo-)terminal: spinner, questions, colour, and what must not go there."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("pty", reason="pseudo-terminals are a POSIX thing")

from kit import Reply, is_whole  # noqa: E402

FOX = ("generate", "a fox", "-o", "fox.png")
PROGRESS = r"being made · \d+\.\d s of about \d+(\.\d)? s"


@pytest.fixture
def on_terminal(gateway, process):
    """``on_terminal("generate", …)`` is the program on one, to its end; the first job takes a poll."""
    gateway.on("status", Reply.json({"status": "PROCESSING"}))

    def run(*argv, code=0, **more):
        with process.terminal(*argv, **more) as terminal:
            ended = terminal.end()
        assert ended.code == code, ended.said
        terminal.stdout = ended.raw_out
        return terminal

    return run


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


def test_a_spinner_tells_state_elapsed_and_typical_time_and_is_gone_at_the_end(on_terminal, work):
    terminal = on_terminal(*FOX)
    assert re.search(PROGRESS, terminal.plain)
    path, closing = rows(terminal.text)
    assert path == str(work / "fox.png")
    assert closing.startswith("saved 1024x1024 PNG")
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") > 0


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colour", "plain"])
def test_a_path_and_the_spinner_do_not_share_a_line(on_terminal, chroma, work, env):
    assert chroma("submit", "a fox", "-q", "-o", "fox.png").code == 0
    terminal = on_terminal("fetch", "--pending", "--wait", env=env)
    path, closing = rows(terminal.text)
    assert path == str(work / "fox.png")
    assert closing.startswith("saved 1024x1024 PNG")
    assert terminal.text.count("\x1b[?25l") == terminal.text.count("\x1b[?25h") > 0
    assert re.search(PROGRESS, terminal.plain)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.text)) == (not env)


def test_the_spinner_is_on_stderr_alone(on_terminal, work):
    terminal = on_terminal(*FOX, stdout=False)
    assert terminal.stdout == f"{work / 'fox.png'}\n".encode()
    assert re.search(PROGRESS, terminal.plain)


@pytest.mark.parametrize(
    ("more", "env"), [(["-q"], {}), (["--json"], {}), ([], {"CI": "true"}), ([], {"TERM": "dumb"})]
)
def test_no_spinner_where_none_is_wanted(on_terminal, more, env):
    terminal = on_terminal(*FOX, *more, env=env)
    assert "of about" not in terminal.plain
    assert not re.search(r"\x1b\[[?0-9]*[hlAJK]", terminal.text)
    assert ("being made" in terminal.plain) == (not more)


def test_an_error_is_coloured_and_the_spinner_gone(on_terminal, gateway):
    gateway.plan(error="[red]no[/red]")
    terminal = on_terminal("generate", "a fox", code=6)
    assert "\x1b[1;31merror" in terminal.text
    shown = rows(terminal.text)
    assert shown[0].startswith("error: The generation failed: [red]no[/red]")
    assert " ".join(shown).endswith(f"Nothing was charged. (job 1, request id {gateway.jobs()[0].id})")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_more_than_ten_pictures_are_asked_about(gateway, process, work, answer, code):
    with process.terminal("generate", "a fox", "--samples", "11", "--steps", "10") as terminal:
        terminal.wait_for(r"11 pictures, about \$0\.[0-9]+\?")
        assert gateway.requests() == []
        terminal.say(answer)
        assert terminal.end().code == code
    assert len(list(work.iterdir())) == (0 if code else 11)
    assert gateway.posts() == (0 if code else 1)


def test_no_bytes_onto_a_terminal(on_terminal, gateway):
    assert "terminal" in on_terminal("generate", "a fox", "-o", "-", code=2).plain
    assert gateway.requests() == []


def test_bytes_into_a_pipe_beside_a_spinner(on_terminal):
    assert is_whole(on_terminal("generate", "a fox", "-o", "-", stdout=False).stdout)


def test_a_dry_run_is_spread_out_for_a_person(on_terminal):
    assert '"request": {\r\n' in on_terminal("generate", "a fox", "--dry-run").text
    assert len(on_terminal("generate", "a fox", "--dry-run", "--json").text.splitlines()) == 1


def test_pictures_that_wait_are_mentioned(on_terminal, chroma):
    assert chroma("submit", "a fox").code == 0
    terminal = on_terminal("generate", "a hare")
    assert "1 picture is waiting" in terminal.plain
    assert "chroma fetch --pending" in terminal.plain
    assert "waiting" not in on_terminal("generate", "an owl", "-q").plain


def test_a_name_cannot_command_the_terminal(on_terminal, work):
    terminal = on_terminal("generate", "a fox", "-o", "f\x1b[31mx\u202e.png")
    assert (work / "f\x1b[31mx\u202e.png").exists()
    assert "\x1b[31m" not in terminal.text
    assert "\u202e" not in terminal.text
    assert "f\\x1b[31mx\\u202e.png" in terminal.plain
