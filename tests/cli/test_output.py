"""What goes where: stdout and stderr in every mode, JSON lines, colour, text from outside, broken streams."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultserver import FaultServer, Reply, gateway_script, tiny_png
from hypothesis import given
from hypothesis import strategies as st
from running import KEY, Ended, run_process, shell

from chroma_cli import text

Chroma = Callable[..., Ended]
SMALL = ("--size", "768x768")
EVIL = "\x1b]0;owned\x07\x1b[31mred\u202eder\x9b2J\x08[bold]loud[/bold] :smile:"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A well-behaved scripted gateway, named by the environment."""
    with FaultServer() as running:
        gateway_script(running, polls=0, png=tiny_png(768, 768))
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield running


# --- who says what ---------------------------------------------------------------------------------------


def test_a_person_gets_the_path_and_plain_lines(chroma: Chroma, server: FaultServer, here: Path) -> None:
    done = chroma("generate", "a fox", "-o", "fox.png", *SMALL)
    assert done.out == f"{here / 'fox.png'}\n"
    lines = done.err.splitlines()
    assert lines[0] == "submitting"
    assert "job-1" in lines[1]
    assert len(lines) == len(set(lines))
    assert re.match(r"saved 768x768 PNG, .*seed \d+, \$0\.055, \$9\.89 left$", lines[-1])
    assert "\x1b" not in done.err
    assert "\r" not in done.err


def test_quiet_leaves_stdout_and_errors(chroma: Chroma, server: FaultServer, here: Path) -> None:
    done = chroma("generate", "a fox", "-o", "fox.png", "-q", *SMALL)
    assert (done.lines, done.err) == ([str(here / "fox.png")], "")
    failed = chroma("generate", "a fox", "-o", "fox.png", "-q", *SMALL)
    assert failed.out == ""
    assert failed.err.startswith("error: ")


def test_json_is_json_on_both_streams(chroma: Chroma, server: FaultServer) -> None:
    done = chroma("generate", "a fox", "--json", "-v", "--sampler", "dpmpp_2m", *SMALL)
    assert done.code == 0
    [job] = done.json
    assert job["request"]["prompt"] == "a fox"
    assert all(note["schema"] == 1 for note in done.notes)
    kinds = [next(key for key in note if key != "schema") for note in done.notes]
    assert set(kinds) == {"warning", "http"}
    exchanges = [note["http"] for note in done.notes if "http" in note]
    assert exchanges[0]["method"] == "POST"
    assert exchanges[0]["path"] == "/v2/chroma"
    assert exchanges[0]["status"] == 200
    assert exchanges[0]["ms"] >= 0


def test_json_without_trouble_leaves_stderr_empty(chroma: Chroma, server: FaultServer) -> None:
    assert chroma("generate", "a fox", "--json", *SMALL).err == ""


def test_verbose_shows_each_exchange(chroma: Chroma, server: FaultServer) -> None:
    done = chroma("generate", "a fox", "-v", *SMALL)
    for exchange in (
        r"POST /v2/chroma -> 200 in \d+ ms",
        r"GET /v2/requests/job-1/status -> 200 in \d+ ms",
        r"GET /v2/requests/job-1 -> 200 in \d+ ms",
        r"GET .*/files/job-1-0\.png -> 200 in \d+ ms",
    ):
        assert re.search(exchange, done.err), exchange
    assert len(done.lines) == 1


def test_a_traceback_appears_only_with_debug(chroma: Chroma, server: FaultServer) -> None:
    server.on("POST", "/v2/chroma", Reply.json({"error": "no"}, 401))
    plain = chroma("generate", "a fox")
    debug = chroma("generate", "a fox", "--debug")
    both = chroma("generate", "a fox", "--debug", "--json")
    assert plain.code == debug.code == both.code == 3
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert "Traceback" in both.notes[-2]["debug"]
    assert both.error["type"] == "key_refused"
    for done in (plain, debug, both):
        assert KEY not in done.err


def test_a_bug_is_an_honest_error(chroma: Chroma, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("chroma_cli.request.builder.build", broken)
    done = chroma("generate", "a fox", "--dry-run", "--json")
    assert (done.code, done.error["type"]) == (1, "internal")
    assert "by nought" in done.error["message"]
    plain = chroma("generate", "a fox", "--dry-run")
    assert "Traceback" not in plain.err
    assert "--debug" in plain.err


def test_an_error_about_a_job_names_it_and_the_money(chroma: Chroma, server: FaultServer) -> None:
    server.on("GET", "/v2/requests/*/status", Reply.json({"status": "FAILED", "error": "too dark"}, 422))
    done = chroma("generate", "a fox", *SMALL)
    assert done.code == 6
    assert "too dark" in done.err
    assert done.err.splitlines()[-1] == "Nothing was charged. (job 1, request id job-1)"


# --- text from outside -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--json"], ["-v"], ["--debug"]])
def test_a_servers_words_are_text(chroma: Chroma, server: FaultServer, more: list[str]) -> None:
    server.on("POST", "/v2/chroma", Reply.json({"error": EVIL}, 400))
    done = chroma("generate", "a fox", *more)
    assert done.code == 2
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.err)
    assert "[bold]loud[/bold] :smile:" in done.err
    if "--json" in more:
        assert "[bold]loud[/bold] :smile:" in done.error["message"]


def test_colour_does_not_read_a_servers_markup(
    chroma: Chroma, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    server.on("POST", "/v2/chroma", Reply.json({"error": EVIL}, 400))
    done = chroma("generate", "a fox")
    assert "\x1b[1;31merror: " in done.err
    assert "[bold]loud[/bold] :smile:" in done.err
    assert set(re.findall("\x1b[^m]*m", done.err)) <= {"\x1b[1;31m", "\x1b[1;36m", "\x1b[0m"}
    assert not {"\x07", "\x08", "\x9b", "\u202e"} & set(done.err)


def test_a_prompt_with_markup_stays_as_it_is(chroma: Chroma, server: FaultServer) -> None:
    [job] = chroma("generate", "a [red]fox[/red] \u202e:smile:", "--json", *SMALL).json
    assert job["request"]["prompt"] == "a [red]fox[/red] \u202e:smile:"
    assert server.requests("POST")[0].json["prompt"] == "a [red]fox[/red] \u202e:smile:"


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only there")
@pytest.mark.parametrize("name", [b"f\xffx.png", b"f\x1b[31mx.png", b"f\nx.png", b"f\xe2\x80\xaex.png"])
def test_any_file_name_can_be_printed(server: FaultServer, here: Path, name: bytes) -> None:
    done = run_process("generate", "a fox", "-o", os.fsdecode(name), *SMALL)
    assert done.code == 0, done.err
    assert done.raw_out == os.fsencode(here) + b"/" + name + b"\n"
    assert (here / os.fsdecode(name)).exists()
    told = run_process("generate", "a fox", "-o", os.fsdecode(name), "--overwrite", "--json", *SMALL)
    assert told.json[0]["files"][0]["path"] == str(here / os.fsdecode(name))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told.out)
    again = run_process("generate", "a fox", "-o", os.fsdecode(name), *SMALL)
    assert again.code == 10
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", again.err)


@given(st.text())
def test_plain_text_holds_no_command_for_a_terminal(words: str) -> None:
    shown = text.plain(words)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()
    assert len(text.one_line(words).splitlines()) <= 1


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_json_line_is_one_harmless_line_that_says_the_same(value: Any) -> None:
    line = text.json_line(value)
    assert json.loads(line.encode()) == value
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


@given(st.text(), st.integers(1, 30))
def test_shortened_text_fits(words: str, columns: int) -> None:
    assert text.cells(text.shortened(words, columns)) <= columns


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (53.06, "53 s"), (125, "2 min 5 s")]
    + [(12000, "3 h 20 min"), (400000, "4 days")],
)
def test_durations_for_people(value: float, words: str) -> None:
    assert text.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.055, "$0.055"), (9.9, "$9.90"), (5, "$5.00"), (0, "$0.00"), (12345.678, "$12345.68")],
)
def test_amounts_for_people(value: float, words: str) -> None:
    assert text.money(value) == words


# --- colour ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "0"}, False),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colour_off_a_terminal(env: dict[str, str], coloured: bool) -> None:
    done = run_process("generate", "a fox", "--cfg", "0", env={**os.environ, **env})  # noqa: TID251
    assert done.code == 2
    assert ("\x1b[" in done.err) == coloured
    told = run_process("generate", "a fox", "--cfg", "0", "--json", env={**os.environ, **env})  # noqa: TID251
    assert "\x1b" not in told.err


# --- streams that are not there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "$CHROMA --version",
        "$CHROMA --help",
        "$CHROMA presets",
        "$CHROMA generate 'a fox' --dry-run --json",
        "$CHROMA generate --help",
    ],
)
class TestStdout:
    def test_closed_pipe_ends_quietly(self, line: str) -> None:
        done = shell(f"({line}; echo $? >&2) | true")
        assert done.err == "0\n"

    def test_head_gets_its_line(self, line: str) -> None:
        done = shell(f"{line} | head -1")
        assert (done.code, done.err) == (0, "")
        assert len(done.lines) == 1

    def test_closed_stdout_is_no_reason_to_fail(self, line: str) -> None:
        done = shell(f"{line} >&-")
        assert (done.code, done.err) == (0, "")

    def test_full_stdout_is_an_error_in_words(self, line: str) -> None:
        done = shell(f"{line} > /dev/full")
        assert done.code == 10
        assert "No space left" in done.err
        assert "Traceback" not in done.err
        assert "Exception ignored" not in done.err


def test_a_picture_whose_path_cannot_be_printed_is_safe_and_told(server: FaultServer, here: Path) -> None:
    done = shell("$CHROMA generate 'a fox' -o fox.png --size 768x768 --json > /dev/full")
    assert done.code == 10
    assert (here / "fox.png").exists()
    assert str(here / "fox.png") in done.error["message"]
    assert (done.error["charged"], done.error["request_id"], done.error["job"]) == ("yes", "job-1", 1)


def test_paths_for_a_closed_pipe(server: FaultServer, here: Path) -> None:
    done = shell("($CHROMA generate 'a fox' -o fox.png --samples 3 --size 768x768 -q; echo $? >&2) | true")
    assert done.err == "0\n"
    assert len(os.listdir(here)) == 3


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("colour", ["", "FORCE_COLOR=1 "])
def test_nobody_listening_on_stderr_is_no_reason_to_fail(
    server: FaultServer, here: Path, end: str, colour: str
) -> None:
    done = shell(f"{colour}$CHROMA generate 'a fox' -o fox.png --size 768x768 -v {end}")
    assert done.code == 0
    assert done.lines == [str(here / "fox.png")]


@pytest.mark.parametrize("colour", ["", "FORCE_COLOR=1 "])
def test_a_closed_pipe_on_stderr_does_not_lose_the_path(server: FaultServer, here: Path, colour: str) -> None:
    done = shell(f"{{ {colour}$CHROMA generate 'a fox' -o fox.png --size 768x768 -v 2>&1 >&3 | true; }} 3>&1")
    assert done.lines == [str(here / "fox.png")]


def test_an_ascii_locale_is_enough(server: FaultServer, here: Path) -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # noqa: TID251
    server.on("POST", "/v2/chroma", Reply.json({"error": "zu düster 赤い狐"}, 400))
    done = run_process("generate", "a fox", env=env)
    assert done.code == 2
    assert b"Traceback" not in done.raw_err
    told = run_process("generate", "a fox", "--json", env=env)
    assert "赤い狐" in told.error["message"]
    assert "赤い狐".encode() in told.raw_err
