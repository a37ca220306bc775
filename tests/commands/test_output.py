"""What goes where: stdout and stderr in every mode, JSON lines, colour, text from outside, broken streams."""

from __future__ import annotations

import os
import re

import pytest
from kit import KEY, Reply

EVIL = "\x1b]0;owned\x07\x1b[31mred\u202eder\x9b2J\x08[bold]loud[/bold] :smile:"


# --- who says what ---------------------------------------------------------------------------------------


def test_a_person_gets_the_path_and_plain_lines(gateway, clock, chroma, work):
    done = chroma("generate", "a fox", "-o", "fox.png")
    assert done.out == f"{work / 'fox.png'}\n"
    lines = done.err.splitlines()
    assert lines[0] == "submitting"
    assert gateway.jobs()[0].id in lines[1]
    assert len(lines) == len(set(lines))
    assert re.match(r"saved 1024x1024 PNG, .*seed \d+, \$0\.055, \$[\d.]+ left$", lines[-1])
    assert "\x1b" not in done.err
    assert "\r" not in done.err


def test_quiet_leaves_stdout_and_errors(gateway, clock, chroma, work):
    done = chroma("generate", "a fox", "-o", "fox.png", "-q")
    assert (done.lines, done.err) == ([str(work / "fox.png")], "")
    failed = chroma("generate", "a fox", "-o", "fox.png", "-q")
    assert failed.out == ""
    assert failed.err.startswith("error: ")


def test_json_is_json_on_both_streams(gateway, clock, chroma):
    done = chroma("generate", "a fox", "--json", "-v", "--sampler", "dpmpp_2m")
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


def test_json_without_trouble_leaves_stderr_empty(gateway, clock, chroma):
    assert chroma("generate", "a fox", "--json").err == ""


def test_verbose_shows_each_exchange(gateway, clock, chroma):
    done = chroma("generate", "a fox", "-v")
    for exchange in (
        r"POST /v2/chroma -> 200 in \d+ ms",
        r"GET /v2/requests/[\w-]+/status -> 200 in \d+ ms",
        r"GET /v2/requests/[\w-]+ -> 200 in \d+ ms",
        r"GET .*/files/[\w-]+\.png -> 200 in \d+ ms",
    ):
        assert re.search(exchange, done.err), exchange
    assert len(done.lines) == 1


def test_a_traceback_appears_only_with_debug(gateway, clock, chroma):
    gateway.on("submit", Reply.error(401), always=True)
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


def test_an_error_about_a_job_names_it_and_the_money(gateway, clock, chroma):
    gateway.plan(error="too dark")
    done = chroma("generate", "a fox")
    assert done.code == 6
    assert "too dark" in done.err
    assert done.err.splitlines()[-1] == f"Nothing was charged. (job 1, request id {gateway.jobs()[0].id})"


# --- text from outside -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--json"], ["-v"], ["--debug"]])
def test_a_servers_words_are_text(gateway, clock, chroma, more):
    gateway.on("submit", Reply.error(400, EVIL))
    done = chroma("generate", "a fox", *more)
    assert done.code == 2
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.err)
    assert "[bold]loud[/bold] :smile:" in done.err
    if "--json" in more:
        assert "[bold]loud[/bold] :smile:" in done.error["message"]


def test_colour_does_not_read_a_servers_markup(gateway, clock, chroma, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    gateway.on("submit", Reply.error(400, EVIL))
    done = chroma("generate", "a fox")
    assert "\x1b[1;31merror: " in done.err
    assert "[bold]loud[/bold] :smile:" in done.err
    assert set(re.findall("\x1b[^m]*m", done.err)) <= {"\x1b[1;31m", "\x1b[1;36m", "\x1b[0m"}
    assert not {"\x07", "\x08", "\x9b", "\u202e"} & set(done.err)


def test_a_prompt_with_markup_stays_as_it_is(gateway, clock, chroma):
    [job] = chroma("generate", "a [red]fox[/red] \u202e:smile:", "--json").json
    assert job["request"]["prompt"] == "a [red]fox[/red] \u202e:smile:"
    assert gateway.bodies[0]["prompt"] == "a [red]fox[/red] \u202e:smile:"


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only there")
@pytest.mark.parametrize("name", [b"f\xffx.png", b"f\x1b[31mx.png", b"f\nx.png", b"f\xe2\x80\xaex.png"])
def test_any_file_name_can_be_printed(gateway, clock, chroma, work, name):
    done = chroma("generate", "a fox", "-o", os.fsdecode(name))
    assert done.code == 0, done.err
    assert done.raw_out == os.fsencode(work) + b"/" + name + b"\n"
    assert (work / os.fsdecode(name)).exists()
    told = chroma("generate", "a fox", "-o", os.fsdecode(name), "--overwrite", "--json")
    assert told.json[0]["files"][0]["path"] == str(work / os.fsdecode(name))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told.out)
    again = chroma("generate", "a fox", "-o", os.fsdecode(name))
    assert again.code == 10
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", again.err)


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
def test_colour_off_a_terminal(chroma, monkeypatch, env, coloured):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = chroma("generate", "a fox", "--cfg", "0")
    assert done.code == 2
    assert ("\x1b[" in done.err) == coloured
    assert "\x1b" not in chroma("generate", "a fox", "--cfg", "0", "--json").err


# --- streams that are not there --------------------------------------------------------------------------


PRINTS = ["--version", "--help", "presets", "generate 'a fox' --dry-run --json", "generate --help"]


def test_a_closed_pipe_ends_quietly(process):
    lines = "; ".join(f"($CHROMA {words}; echo $? >&2) | true" for words in PRINTS)
    assert process.shell(lines).err.split() == ["0"] * len(PRINTS)


def test_head_gets_its_line(process):
    done = process.shell("; ".join(f"$CHROMA {words} | head -1" for words in PRINTS[:4]))
    assert (done.code, done.err) == (0, "")
    assert len(done.lines) == 4


def test_a_closed_stdout_is_no_reason_to_fail(process):
    done = process.shell("set -e; " + "; ".join(f"$CHROMA {words} >&-" for words in PRINTS[1:4]))
    assert (done.code, done.err) == (0, "")


def test_a_full_stdout_is_an_error_in_words(process):
    done = process.shell("; ".join(f"$CHROMA {words} > /dev/full; echo $?" for words in PRINTS))
    assert done.lines == ["10"] * len(PRINTS)
    assert done.err.count("No space left") >= len(PRINTS)
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err


def test_a_picture_whose_path_cannot_be_printed_is_safe_and_told(gateway, process, work):
    done = process.shell("$CHROMA generate 'a fox' -o fox.png --json > /dev/full")
    assert done.code == 10
    assert (work / "fox.png").exists()
    assert str(work / "fox.png") in done.error["message"]
    assert (done.error["charged"], done.error["request_id"], done.error["job"]) == (
        "yes",
        gateway.jobs()[0].id,
        1,
    )


def test_paths_for_a_closed_pipe(gateway, process, work):
    done = process.shell("($CHROMA generate 'a fox' -o fox.png --samples 3 -q; echo $? >&2) | true")
    assert done.err == "0\n"
    assert len(os.listdir(work)) == 3


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("colour", ["", "FORCE_COLOR=1 "])
def test_nobody_listening_on_stderr_is_no_reason_to_fail(gateway, process, work, end, colour):
    done = process.shell(f"{colour}$CHROMA generate 'a fox' -o fox.png -v {end}")
    assert done.code == 0
    assert done.lines == [str(work / "fox.png")]


@pytest.mark.parametrize("colour", ["", "FORCE_COLOR=1 "])
def test_a_closed_pipe_on_stderr_does_not_lose_the_path(gateway, process, work, colour):
    done = process.shell(f"{{ {colour}$CHROMA generate 'a fox' -o fox.png -v 2>&1 >&3 | true; }} 3>&1")
    assert done.lines == [str(work / "fox.png")]


def test_an_ascii_locale_is_enough(gateway, process, work):
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    gateway.on("submit", Reply.error(400, "zu düster 赤い狐"), always=True)
    done = process("generate", "a fox", env=env)
    assert done.code == 2
    assert b"Traceback" not in done.raw_err
    told = process("generate", "a fox", "--json", env=env)
    assert "赤い狐" in told.error["message"]
    assert "赤い狐".encode() in told.raw_err
