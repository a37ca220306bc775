"""Text from outside that wants to be more than text: terminal commands, markup, paths, in every field.

What a gateway, a person, a file or a header can say is sent in every place where it may be shown; the
:class:`Rig` looks at both streams, plain and as JSON, and at the files. On a pseudo-terminal, where rich is
at work, only rich's own sequences may appear, and markup must be seen as it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultserver import FaultServer, Reply, gateway_script, tiny_png
from hostile import COMMANDS, FOX, OWN_SEQUENCES, Rig
from recipes_kit import inscribed
from running import Terminal, on_terminal, run_process

SUBMIT = ("POST", "/v2/chroma")
SYNC = ("POST", "/v1/chroma")
STATUS = ("GET", "/v2/requests/*/status")
RESULT = ("GET", "/v2/requests/*")
FILES = ("GET", "/files/*")
CREDITS = ("GET", "/v1/get-user-credits")

NASTY = {
    "commands": (
        '\x1b[31mred\x1b[0m\x1b]0;owned\x07\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[H\x1bc\x05\x1b[6n\x1bP$q"p\x1b\\'
    ),
    "link": "\x1b]8;;http://evil.test\x1b\\click\x1b]8;;\x1b\\",
    "c1": "\x9b31m\x9d0;owned\x9c\x85",
    "overwrite": "all is fine\r\x08\x08\x7f\v\f\t\x00",
    "bidi": "\u202egnp.exe\u2066\u2069\u200f\u061ca\u200bb\ufeff\u2028\u2029\u00ad",
    "markup": "[red]x[/red] [/] [link=file:///etc/passwd]x[/link] [bold",
    "half": "\ud83d",
    "path": "../../outside/../../../etc/passwd\\..\\C:\\x",
    "absolute": "/etc/passwd",
    "json": '"}], "error": null}\n{"schema": 1, "fake": true}',
    "long": "A" * 100_000,
    "lines": "\n" * 1000 + "end",
}

Field = Callable[[FaultServer, str], Any]


def _failure(text: Any, key: str = "error", status: int = 422) -> Reply:
    return Reply.json({"status": "FAILED", key: text, "metrics": {"note": text}}, status)


def _completed(server: FaultServer, **more: Any) -> Reply:
    picture = f"{server.base_url}/files/a.png"
    return Reply.json({"status": "COMPLETED", "output": picture, **more})


def _image(server: FaultServer, **more: Any) -> Reply:
    return _completed(server, images=[{"url": f"{server.base_url}/files/a.png", **more}])


def _header(text: str) -> str:
    """As much of it as a header can carry."""
    return text.replace("\r", "").replace("\n", "").encode("utf-8", "replace").decode("latin-1")[:60_000]


#: Every place where the other side may put text: the route, the answer, the exit codes that it may end with.
FIELDS: dict[str, tuple[tuple[str, str], Field, set[int]]] = {
    "submit-request-id": (
        SUBMIT,
        lambda _, text: Reply.json({"request_id": text, "status": "QUEUED"}),
        {9},
    ),
    "submit-status": (
        SUBMIT,
        lambda _, text: Reply.json({"request_id": "job-1", "status": text, "status_url": text}),
        {0, 8},
    ),
    "submit-urls": (
        SUBMIT,
        lambda _, text: Reply.json({"request_id": "job-1", "status_url": text, "response_url": text}),
        {0, 8},
    ),
    "submit-refusal": (SUBMIT, lambda _, text: Reply.json({"error": text}, 400), {2}),
    "submit-refusal-in-detail": (
        SUBMIT,
        lambda _, text: Reply.json({"detail": [{"loc": ["body", text], "msg": text}]}, 422),
        {2},
    ),
    "submit-refusal-as-text": (
        SUBMIT,
        lambda _, text: Reply.text(text.encode("utf-8", "replace"), 403),
        {3},
    ),
    "submit-refusal-as-a-page": (
        SUBMIT,
        lambda _, text: Reply.text(f"<title>{text}</title>".encode("utf-8", "replace"), 405),
        {2},
    ),
    "submit-no-credits": (SUBMIT, lambda _, text: Reply.json({"message": text}, 402), {4}),
    "submit-failed-at-once": (SUBMIT, lambda _, text: _failure(text), {6}),
    "status-word": (STATUS, lambda _, text: Reply.json({"status": text}), {7, 9}),
    "status-failure": (STATUS, lambda _, text: _failure(text), {6}),
    "status-failure-as-a-dict": (STATUS, lambda _, text: _failure({text: text}), {6}),
    "status-not-found": (STATUS, lambda _, text: Reply.json({"error": text}, 404), {8}),
    "result-output": (RESULT, lambda _, text: Reply.json({"status": "COMPLETED", "output": text}), {7, 9}),
    "result-list": (RESULT, lambda _, text: Reply.json({"status": "COMPLETED", "images": [text]}), {7, 9}),
    "result-address": (
        RESULT,
        lambda server, text: Reply.json({"status": "COMPLETED", "output": f"{server.base_url}/files/{text}"}),
        {0, 7, 8, 9},
    ),
    "result-host": (
        RESULT,
        lambda _, text: Reply.json({"status": "COMPLETED", "output": f"https://{text}/x.png"}),
        {7, 9},
    ),
    "result-file-name": (RESULT, lambda server, text: _image(server, file_name=text), {0}),
    "result-content-type": (RESULT, lambda server, text: _image(server, content_type=text), {0}),
    "result-seed": (RESULT, lambda server, text: _completed(server, seed=text), {0}),
    "result-metrics": (
        RESULT,
        lambda server, text: _completed(
            server, metrics={"cost": text, "remaining_credits": text, "total_time": text, text: text}
        ),
        {0},
    ),
    "result-request-id": (RESULT, lambda server, text: _completed(server, request_id=text), {0}),
    "header-request-id": (
        STATUS,
        lambda _, text: Reply.json({"error": "no"}, 404, x_request_id=_header(text)),
        {8},
    ),
    "header-credits": (
        RESULT,
        lambda server, text: Reply.json(
            {"status": "COMPLETED", "output": f"{server.base_url}/files/a.png"},
            x_remaining_credits=_header(text),
            x_cost=_header(text),
            x_seed_value=_header(text),
        ),
        {0},
    ),
    "header-location": (STATUS, lambda _, text: Reply(302, [("Location", "http://" + _header(text))]), {9}),
    "header-content-type": (
        FILES,
        lambda _, text: Reply(200, [("Content-Type", _header(text))], tiny_png(1024, 1024)),
        {0},
    ),
    "header-rate-limit": (
        STATUS,
        lambda _, text: Reply.json(
            {"error": text}, 429, Retry_After=_header(text), x_rate_limit_reset_at_utc=_header(text)
        ),
        {5},
    ),
}


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("field", FIELDS)
def test_text_of_the_gateway(rig: Rig, field: str, nasty: str) -> None:
    route, answer, codes = FIELDS[field]
    rig.gateway.on(*route, answer(rig.gateway, NASTY[nasty]))
    if route == RESULT:  # its pattern takes in the status
        rig.gateway.on(*STATUS, Reply.json({"status": "COMPLETED"}))
    ran = rig(*FOX, "-v", "--timeout", "30")
    assert ran.code in codes, ran
    assert len(ran.out + ran.err) < 40_000
    assert rig.made() == ({"fox.png"} if ran.code == 0 else set())
    # what the ledger kept of it, for people and for programs
    for argv in (("jobs",), ("jobs", "--json")):
        later = rig(*argv, most_submits=0)
        assert len(later.out + later.err) < 20_000
        if "--json" in argv:
            assert all(one["schema"] == 1 and "fake" not in one for one in later.objects)


# --- what a person, a file or a variable says --------------------------------------------------------------

#: A prompt may hold anything but control characters.
TAKEN = {"bidi", "markup", "path", "absolute", "json", "lines", "long"}


@pytest.mark.parametrize("nasty", sorted(set(NASTY) - {"half"}))
@pytest.mark.parametrize("place", ["prompt", "negative-prompt", "prompt-file"])
def test_prompts(rig: Rig, nasty: str, place: str) -> None:
    text = NASTY[nasty]
    argv = [*FOX[:1], text] if place == "prompt" else ["generate", "x", "-n", text]
    if place == "prompt-file":
        (rig.work / "prompt.txt").write_text(text, encoding="utf-8")
        argv = ["generate", "--prompt-file", "prompt.txt"]
    ran = rig(*argv, "-o", "fox.png", "-v")
    if nasty in TAKEN:
        assert ran.code == 0, ran
        sent = rig.gateway.requests("POST")[0].json
        assert text.strip() in sent["negative_prompt" if place == "negative-prompt" else "prompt"]
        for later in (("jobs",), ("inspect", "fox.png"), ("inspect", "fox.png", "--json")):
            assert rig(*later, most_submits=0).code == 0
    else:
        assert ran.code == 2 and rig.submits == 0


def test_prompts_that_are_no_text(rig: Rig) -> None:
    for data in (b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80", b"", b" \n"):
        (rig.work / "prompt.txt").write_bytes(data)
        assert rig("generate", "--prompt-file", "prompt.txt").code == 2
    assert rig("generate", "a\udcffb").code == 2
    assert not rig.gateway.requests()


OPTIONS = (
    "--sampler",
    "--scheduler",
    "--aspect",
    "--size",
    "--cfg",
    "--steps",
    "--seed",
    "--samples",
    "--format",
    "--quality",
    "--preset",
    "--timeout",
    "--base-url",
    "--from",
    "--sweep",
    "--prompt-file",
    "--nonsense",
)


@pytest.mark.parametrize("nasty", ["commands", "c1", "bidi", "markup", "path", "half", "long"])
@pytest.mark.parametrize("option", OPTIONS)
def test_options(rig: Rig, option: str, nasty: str) -> None:
    rig.gateway.on(*SUBMIT, Reply.json({"error": "a sampler that nobody knows"}, 400))
    ran = rig(*FOX, option, NASTY[nasty])
    # a file that is not there is told so; a sampler's name may be one that is not known yet
    assert ran.code in ({2, 8} if option == "--from" else {2}), ran
    assert rig.submits == 0 or option == "--sampler"
    assert len(ran.err) < 20_000


@pytest.mark.parametrize("nasty", ["commands", "c1", "bidi", "markup", "path", "json"])
@pytest.mark.parametrize("command", ["status", "fetch", "jobs --forget", "jobs --resubmit"])
def test_ids(rig: Rig, command: str, nasty: str) -> None:
    ran = rig(*command.split(), NASTY[nasty])
    assert ran.code == 2
    assert not rig.gateway.requests()


@pytest.mark.parametrize("nasty", ["commands", "c1", "bidi", "markup", "half", "long"])
@pytest.mark.parametrize(
    "command", ["generate", "inspect", "sheet", "gallery", "batch", "nonsense", "--nonsense"]
)
def test_words_that_are_no_command_and_files_that_are_none(rig: Rig, command: str, nasty: str) -> None:
    text = NASTY[nasty]
    argv = [command + text] if "nonsense" in command else [command, text]
    if command == "generate":
        argv = ["generate", "--" + text]
    ran = rig(*argv)
    assert ran.code in (2, 8, 10), ran


@pytest.mark.parametrize("nasty", ["commands", "c1", "bidi", "markup"])
def test_file_names(rig: Rig, nasty: str) -> None:
    """Names are shown as text; what a script gets on stdout is the name as it is, so it must be asked for
    with another name here."""
    name = NASTY[nasty].replace("/", "-") + ".png"
    (rig.work / name).write_bytes(tiny_png(64, 64))
    (rig.work / "folder").mkdir()
    (rig.work / "folder" / name).write_bytes(tiny_png(64, 64))
    assert rig("generate", "x", "-o", name).code == 10
    assert rig("inspect", name).code == 8
    assert rig("inspect", "folder").code == 8
    assert rig("inspect", "folder", "--json").code == 8
    assert rig("sheet", name, "-o", "sheet.png").code == 0
    assert rig("gallery", "folder").code == 0
    (rig.work / "list.toml").write_text(
        f'[[image]]\nprompt = "x"\noutput = {json.dumps(name)}', encoding="utf-8"
    )
    assert rig("batch", "list.toml", "--check", allow_one=True).code in (1, 2)
    assert rig("batch", name).code == 2


@pytest.mark.parametrize("nasty", ["commands", "overwrite", "c1", "bidi", "markup", "long", "path"])
def test_recipes_in_pictures(rig: Rig, nasty: str) -> None:
    """Fields of a recipe that somebody else wrote into a picture."""
    text = NASTY[nasty]
    for field in ("prompt", "negative_prompt", "sampler_name", "scheduler", "aspect_ratio", "image_format"):
        data = inscribed({"prompt": "x", field: text}, request_id=text, created=text, tool=text)
        (rig.work / "fox.png").write_bytes(data)
        for form in ((), ("--json",)):
            assert rig("inspect", "fox.png", *form).code in (0, 2)
        # what goes to a shell is the very text, in quotes
        if nasty != "bidi":
            line = rig("inspect", "fox.png", "--command")
            assert line.code == 2 or line.out.startswith("chroma generate ")
        assert rig("generate", "--from", "fox.png", "-o", f"{field}.png", "--dry-run").code in (0, 2)


@pytest.mark.parametrize(
    "variable", ["CHROMA_SANDBOX", "CHROMA_BASE_URL", "CHROMA_NO_LEDGER", "COLUMNS", "TERM"]
)
@pytest.mark.parametrize("nasty", ["commands", "bidi", "markup", "long"])
def test_variables(rig: Rig, monkeypatch: pytest.MonkeyPatch, variable: str, nasty: str) -> None:
    monkeypatch.setenv(variable, NASTY[nasty][:60_000])
    ran = rig(*FOX)
    assert ran.code in (0, 2), ran


# --- on a terminal, where rich is at work ------------------------------------------------------------------

MARKUP = "[red]x[/red] [/] [link=file:///etc/passwd]here[/link] [bold] [not-closed :smile:"


def harmless(terminal: Terminal) -> str:
    """What is seen, without rich's own sequences; nothing else may be one."""
    seen = OWN_SEQUENCES.sub("", terminal.text)
    assert not COMMANDS.search(seen), (COMMANDS.search(seen), seen)
    assert "Traceback" not in seen
    return seen


@pytest.mark.parametrize("where", ["prompt", "error", "state", "option", "file", "table", "inspect", "batch"])
@pytest.mark.parametrize("text", [MARKUP, "\x1b]0;owned\x07\x9b2J" + MARKUP], ids=["markup", "commands"])
def test_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with FaultServer() as server:
        monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
        gateway_script(server, polls=1, png=tiny_png(1024, 1024))
        argv: tuple[str, ...] = ("generate", "x", "-o", "x.png")
        codes = {6}
        match where:
            case "prompt":
                argv, codes = ("generate", text, "-o", "x.png"), {0, 2}
            case "error":
                server.on(*STATUS, Reply.json({"status": "FAILED", "error": text}, 422))
            case "state":
                failure = Reply.json({"status": "FAILED", "error": text}, 422)
                server.on(*STATUS, Reply.json({"status": text}), failure)
            case "option":
                argv, codes = (*argv, "--scheduler", text), {2}
            case "file":
                argv, codes = ("generate", "x", "-o", text.replace("/", "-") + ".gif"), {2}
            case "table":
                made = run_process("submit", MARKUP, "-o", "y.png")
                assert made.code == 0
                server.on(*STATUS, Reply.json({"status": "FAILED", "error": text}, 422))
                assert run_process("status", "job-1").code == 6
                argv, codes = ("jobs",), {0}
            case "inspect":
                assert run_process("generate", MARKUP, "-o", "y.png", "-n", MARKUP).code == 0
                argv, codes = ("inspect", "y.png"), {0}
            case "batch":
                rows = [{"prompt": MARKUP, "output": f"{n}-[red][-].png"} for n in range(3)]
                Path("list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
                server.on(*STATUS, Reply.json({"status": "FAILED", "error": text}, 422))
                argv, codes = ("batch", "list.jsonl"), {11}
        with on_terminal(*argv, env={"COLUMNS": "200"}) as terminal:
            code = terminal.end()
        seen = harmless(terminal)
        assert code in codes, seen
        joined = "".join(seen.split())
        if code == 2:  # a value that is not taken is shown in part, a prompt not at all
            assert where == "prompt" or "[red]" in joined
        elif code:
            assert "".join(MARKUP.split()) in joined
        elif where in ("table", "inspect"):
            assert "".join(MARKUP.split()) in joined
        assert not os.path.lexists(tmp_path / "etc")
