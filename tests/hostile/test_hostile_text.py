"""Text from outside that wants to be more than text: terminal commands, markup, paths, in every field.

What a gateway, a person, a file or a header can say is sent in every place where it may be shown; the
:class:`Guard` looks at both streams, plain and as JSON, and at the files. On a pseudo-terminal, where rich is
at work, only rich's own sequences may appear, and markup must be seen as it was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from kit import Ended, Gateway, Programs, Reply, Terminal, png, with_recipe
from kit.guard import COMMANDS, Guard

FOX = ("generate", "a red fox", "-o", "fox.png")
#: What rich itself sends to a terminal: colours, and cursor movements of the spinner.
OWN_SEQUENCES = re.compile(r"\x1b\[[0-9;]*[mKAG]|\x1b\[\?25[lh]|\r")

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
NASTY["all"] = "".join(text for name, text in NASTY.items() if name not in ("long", "lines"))

Field = Callable[[Gateway, str], Any]


def _failure(text: Any, key: str = "error", status: int = 422) -> Reply:
    return Reply.json({"status": "FAILED", key: text, "metrics": {"note": text}}, status)


def _completed(server: Gateway, **more: Any) -> Reply:
    picture = f"{server.base_url}/files/a.png"
    return Reply.json({"status": "COMPLETED", "output": picture, **more})


def _image(server: Gateway, **more: Any) -> Reply:
    return _completed(server, images=[{"url": f"{server.base_url}/files/a.png", **more}])


def _header(text: str) -> str:
    """As much of it as a header can carry."""
    return text.replace("\r", "").replace("\n", "").encode("utf-8", "replace").decode("latin-1")[:60_000]


#: Every place where the other side may put text: the route, the answer, the exit codes that it may end with.
FIELDS: dict[str, tuple[str, Field, set[int]]] = {
    "submit-request-id": (
        "submit",
        lambda _, text: Reply.json({"request_id": text, "status": "QUEUED"}),
        {9},
    ),
    "submit-status": (
        "submit",
        lambda _, text: Reply.json({"request_id": "job-1", "status": text, "status_url": text}),
        {0, 8},
    ),
    "submit-urls": (
        "submit",
        lambda _, text: Reply.json({"request_id": "job-1", "status_url": text, "response_url": text}),
        {0, 8},
    ),
    "submit-refusal": ("submit", lambda _, text: Reply.json({"error": text}, 400), {2}),
    "submit-refusal-in-detail": (
        "submit",
        lambda _, text: Reply.json({"detail": [{"loc": ["body", text], "msg": text}]}, 422),
        {2},
    ),
    "submit-refusal-as-text": (
        "submit",
        lambda _, text: Reply.text(text.encode("utf-8", "replace"), 403),
        {3},
    ),
    "submit-refusal-as-a-page": (
        "submit",
        lambda _, text: Reply.text(f"<title>{text}</title>".encode("utf-8", "replace"), 405),
        {2},
    ),
    "submit-no-credits": ("submit", lambda _, text: Reply.json({"message": text}, 402), {4}),
    "submit-failed-at-once": ("submit", lambda _, text: _failure(text), {6}),
    "status-word": ("status", lambda _, text: Reply.json({"status": text}), {7, 9}),
    "status-failure": ("status", lambda _, text: _failure(text), {6}),
    "status-failure-as-a-dict": ("status", lambda _, text: _failure({text: text}), {6}),
    "status-not-found": ("status", lambda _, text: Reply.json({"error": text}, 404), {8}),
    "result-output": ("result", lambda _, text: Reply.json({"status": "COMPLETED", "output": text}), {7, 9}),
    "result-list": ("result", lambda _, text: Reply.json({"status": "COMPLETED", "images": [text]}), {7, 9}),
    "result-address": (
        "result",
        lambda server, text: Reply.json({"status": "COMPLETED", "output": f"{server.base_url}/files/{text}"}),
        {0, 7, 8, 9},
    ),
    "result-host": (
        "result",
        lambda _, text: Reply.json({"status": "COMPLETED", "output": f"https://{text}/x.png"}),
        {7, 9},
    ),
    "result-file-name": ("result", lambda server, text: _image(server, file_name=text), {0}),
    "result-content-type": ("result", lambda server, text: _image(server, content_type=text), {0}),
    "result-seed": ("result", lambda server, text: _completed(server, seed=text), {0}),
    "result-metrics": (
        "result",
        lambda server, text: _completed(
            server, metrics={"cost": text, "remaining_credits": text, "total_time": text, text: text}
        ),
        {0},
    ),
    "result-request-id": ("result", lambda server, text: _completed(server, request_id=text), {0}),
    "header-request-id": (
        "status",
        lambda _, text: Reply.json({"error": "no"}, 404, x_request_id=_header(text)),
        {8},
    ),
    "header-credits": (
        "result",
        lambda server, text: Reply.json(
            {"status": "COMPLETED", "output": f"{server.base_url}/files/a.png"},
            x_remaining_credits=_header(text),
            x_cost=_header(text),
            x_seed_value=_header(text),
        ),
        {0},
    ),
    "header-location": ("status", lambda _, text: Reply(302, [("Location", "http://" + _header(text))]), {9}),
    "header-content-type": (
        "file",
        lambda _, text: Reply(200, [("Content-Type", _header(text))], png(7)),
        {0},
    ),
    "header-rate-limit": (
        "status",
        lambda _, text: Reply.json(
            {"error": text}, 429, Retry_After=_header(text), x_rate_limit_reset_at_utc=_header(text)
        ),
        {5},
    ),
}


#: All of it in every place, and each of it in every fourth place.
PLACES = [
    (field, nasty)
    for place, field in enumerate(FIELDS)
    for turn, nasty in enumerate(NASTY)
    if nasty == "all" or (place + turn) % 4 == 0
]


@pytest.mark.parametrize(("field", "nasty"), PLACES)
def test_text_of_the_gateway(guarded: Guard, field: str, nasty: str) -> None:
    route, answer, codes = FIELDS[field]
    guarded.gateway.on("GET /files/a.png", Reply.text(png(7), kind="image/png"), always=True)
    guarded.gateway.on(route, answer(guarded.gateway, NASTY[nasty]), always=True)
    ran = guarded(*FOX, "-v", "--timeout", "30")
    assert ran.code in codes, ran.said
    assert len(ran.out + ran.err) < 40_000
    assert guarded.made() == ({"fox.png"} if ran.code == 0 else set())
    # what the ledger kept of it, for people and for programs
    words, told = guarded("jobs"), guarded("jobs", "--json")
    assert len(words.out + words.err) < 20_000
    assert len(told.out + told.err) < 20_000
    assert all(one["schema"] == 1 and "fake" not in one for one in told.json)


# --- what a person, a file or a variable says --------------------------------------------------------------

#: A prompt may hold anything but control characters.
TAKEN = {"bidi", "markup", "path", "absolute", "json", "lines", "long"}


@pytest.mark.parametrize("nasty", sorted(set(NASTY) - {"half", "all"}))
@pytest.mark.parametrize("place", ["prompt", "negative-prompt", "prompt-file"])
def test_prompts(guarded: Guard, nasty: str, place: str) -> None:
    text = NASTY[nasty]
    argv = ["generate", text] if place == "prompt" else ["generate", "x", "-n", text]
    if place == "prompt-file":
        (guarded.work / "prompt.txt").write_text(text, encoding="utf-8")
        argv = ["generate", "--prompt-file", "prompt.txt"]
    ran = guarded(*argv, "-o", "fox.png", "-v")
    if nasty in TAKEN:
        assert ran.code == 0, ran
        sent = guarded.gateway.requests(method="POST")[0].json
        assert text.strip() in sent["negative_prompt" if place == "negative-prompt" else "prompt"]
        for later in (("jobs",), ("inspect", "fox.png"), ("inspect", "fox.png", "--json")):
            assert guarded(*later, most_posts=0).code == 0
    else:
        assert ran.code == 2 and guarded.gateway.posts() == 0


def test_prompts_that_are_no_text(guarded: Guard) -> None:
    for data in (b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80", b"", b" \n"):
        (guarded.work / "prompt.txt").write_bytes(data)
        assert guarded("generate", "--prompt-file", "prompt.txt").code == 2
    assert guarded("generate", "a\udcffb").code == 2
    assert not guarded.gateway.requests()


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


def covering(places: Sequence[str], *others: str) -> list[tuple[str, str]]:
    """All of it and the markup in every place, the others in turns."""
    turns = [(place, others[turn % len(others)]) for turn, place in enumerate(places)]
    return [*((place, nasty) for place in places for nasty in ("all", "markup")), *turns]


@pytest.mark.parametrize(
    ("option", "nasty"), covering(OPTIONS, "commands", "c1", "bidi", "path", "half", "long")
)
def test_options(guarded: Guard, option: str, nasty: str) -> None:
    guarded.gateway.on("submit", Reply.error(400, "a sampler that nobody knows"))
    ran = guarded(*FOX, option, NASTY[nasty])
    # a file that is not there is told so; a sampler's name may be one that is not known yet
    assert ran.code in ({2, 8} if option == "--from" else {2}), ran
    assert guarded.gateway.posts() == 0 or option == "--sampler"
    assert len(ran.err) < 20_000


@pytest.mark.parametrize(
    ("command", "nasty"),
    covering(["status", "fetch", "jobs --forget", "jobs --resubmit"], "commands", "c1", "bidi", "json"),
)
def test_ids(guarded: Guard, command: str, nasty: str) -> None:
    ran = guarded(*command.split(), NASTY[nasty])
    assert ran.code == 2
    assert not guarded.gateway.requests()


@pytest.mark.parametrize(
    ("command", "nasty"),
    covering(
        ["generate", "inspect", "sheet", "gallery", "batch", "nonsense", "--nonsense"],
        *("commands", "c1", "bidi", "half", "long"),
    ),
)
def test_words_that_are_no_command_and_files_that_are_none(guarded: Guard, command: str, nasty: str) -> None:
    text = NASTY[nasty]
    argv = [command + text] if "nonsense" in command else [command, text]
    if command == "generate":
        argv = ["generate", "--" + text]
    ran = guarded(*argv)
    assert ran.code in (2, 8, 10), ran


@pytest.mark.parametrize("nasty", ["commands", "c1", "bidi", "markup"])
def test_file_names(guarded: Guard, nasty: str) -> None:
    """Names are shown as text; what a script gets on stdout is the name as it is, so it must be asked for
    with another name here."""
    name = NASTY[nasty].replace("/", "-") + ".png"
    (guarded.work / name).write_bytes(png(7, 64, 64))
    (guarded.work / "folder").mkdir()
    (guarded.work / "folder" / name).write_bytes(png(7, 64, 64))
    assert guarded("generate", "x", "-o", name).code == 10
    assert guarded("inspect", name).code == 8
    assert guarded("inspect", "folder").code == 8
    assert guarded("inspect", "folder", "--json").code == 8
    assert guarded("sheet", name, "-o", "sheet.png").code == 0
    assert guarded("gallery", "folder").code == 0
    (guarded.work / "list.toml").write_text(
        f'[[image]]\nprompt = "x"\noutput = {json.dumps(name)}', encoding="utf-8"
    )
    assert guarded("batch", "list.toml", "--check", allow_one=True).code in (1, 2)
    assert guarded("batch", name).code == 2


@pytest.mark.parametrize("nasty", ["commands", "overwrite", "c1", "bidi", "markup", "long", "path"])
def test_recipes_in_pictures(guarded: Guard, nasty: str) -> None:
    """Fields of a recipe that somebody else wrote into a picture."""
    text = NASTY[nasty]
    several = ("negative_prompt", "sampler_name", "scheduler", "aspect_ratio", "image_format")
    for fields in (("prompt",), several):
        request = {"prompt": "x", **dict.fromkeys(fields, text)}
        data = with_recipe({"request": request, "request_id": text, "created": text, "tool": text})
        (guarded.work / "fox.png").write_bytes(data)
        for form in ((), ("--json",)):
            assert guarded("inspect", "fox.png", *form).code in (0, 2)
        # what goes to a shell is the very text, in quotes
        if nasty != "bidi":
            line = guarded("inspect", "fox.png", "--command")
            assert line.code == 2 or line.out.startswith("chroma generate ")
        assert guarded("generate", "--from", "fox.png", "-o", "a.png", "--dry-run").code in (0, 2)


@pytest.mark.parametrize(
    "variable", ["CHROMA_SANDBOX", "CHROMA_BASE_URL", "CHROMA_NO_LEDGER", "COLUMNS", "TERM"]
)
@pytest.mark.parametrize("nasty", ["commands", "bidi", "markup", "long"])
def test_variables(guarded: Guard, monkeypatch: pytest.MonkeyPatch, variable: str, nasty: str) -> None:
    monkeypatch.setenv(variable, NASTY[nasty][:60_000])
    ran = guarded(*FOX)
    assert ran.code in (0, 2), ran


# --- on a terminal, where rich is at work ------------------------------------------------------------------

MARKUP = "[red]x[/red] [/] [link=file:///etc/passwd]here[/link] [bold] [not-closed :smile:"


def harmless(terminal: Terminal) -> str:
    """What is seen, without rich's own sequences; nothing else may be one."""
    seen = OWN_SEQUENCES.sub("", terminal.text)
    assert not COMMANDS.search(seen), (COMMANDS.search(seen), seen)
    assert "Traceback" not in seen
    return seen


TERMINAL = "\x1b]0;owned\x07\x9b2J" + MARKUP


@pytest.mark.parametrize(
    ("where", "text"),
    [
        pytest.param("prompt", MARKUP, id="prompt-markup"),
        *(
            pytest.param(where, TERMINAL, id=where)
            for where in ("prompt", "error", "state", "option", "file", "table", "inspect", "batch")
        ),
    ],
)
def test_on_a_terminal(
    gateway: Gateway, chroma: Callable[..., Ended], process: Programs, work: Path, where: str, text: str
) -> None:
    failure = Reply.json({"status": "FAILED", "error": text}, 422)
    argv: tuple[str, ...] = ("generate", "x", "-o", "x.png")
    codes = {6}
    match where:
        case "prompt":
            argv, codes = ("generate", text, "-o", "x.png"), {0, 2}
        case "error":
            gateway.on("status", failure)
        case "state":
            gateway.on("status", Reply.json({"status": text}), failure)
        case "option":
            argv, codes = (*argv, "--scheduler", text), {2}
        case "file":
            argv, codes = ("generate", "x", "-o", text.replace("/", "-") + ".gif"), {2}
        case "table":
            assert chroma("submit", MARKUP, "-o", "y.png").code == 0
            gateway.on("status", failure)
            assert chroma("status", "1").code == 6
            argv, codes = ("jobs",), {0}
        case "inspect":
            assert chroma("generate", MARKUP, "-o", "y.png", "-n", MARKUP).code == 0
            argv, codes = ("inspect", "y.png"), {0}
        case "batch":
            rows = [{"prompt": MARKUP, "output": f"{n}-[red][-].png"} for n in range(3)]
            (work / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
            gateway.on("status", failure, always=True)
            argv, codes = ("batch", "list.jsonl"), {11}
    with process.terminal(*argv, env={"COLUMNS": "200"}) as terminal:
        code = terminal.end().code
    seen = harmless(terminal)
    assert code in codes, seen
    joined = "".join(seen.split())
    if code == 2:  # a value that is not taken is shown in part, a prompt not at all
        assert where == "prompt" or "[red]" in joined
    elif code or where in ("table", "inspect"):
        assert "".join(MARKUP.split()) in joined
