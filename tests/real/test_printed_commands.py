"""Commands that chroma prints, in the real shells: each hands over exactly the words that were meant.

A shell runs many commands in one start; a ``chroma`` of ours records its arguments and, where the last of
them is ``-``, what comes from stdin. A file ``canary`` would appear where a shell did what a word says.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import Ended, Gateway, Reply, png

from chroma_cli.cli import prompt as prompts
from chroma_cli.images.containers import embed
from chroma_cli.images.recipe import Recipe, metadata
from chroma_cli.text import command_line

SHELLS = {
    "sh": ["sh"],
    "bash": ["bash", "--norc", "--noprofile"],
    # as when pasted: with the history expansion that a script does not have
    "bash with history": ["bash", "--norc", "--noprofile", "-H", "-o", "history"],
    "zsh": ["zsh", "-f"],
    "zsh with all its globs": ["zsh", "-f", "-o", "extendedglob", "-o", "rcquotes", "-o", "magicequalsubst"],
    "fish": ["fish", "--no-config"],
}

PATH = "/usr/local/bin:/usr/bin:/bin"

CANARY = [
    "\\'\"; touch canary; #",
    "'; touch canary; '",
    '"; touch canary; "',
    "$(touch canary)",
    "`touch canary`",
    '"$(touch canary)"',
    "(touch canary)",
    "{ touch canary; }",
    "| touch canary",
    "\ntouch canary\n",
    "\\\ntouch canary",
    "& touch canary &",
    "\\\\'; touch canary; \\\\'",
    "!touch",
    "!!",
    "it\n!touch canary",
    "'\n!!",
]
WORDS = [
    *CANARY,
    *(
        "=ls",
        "=nowhere",
        "a=~",
        "~",
        "~root",
        "~+",
        "%self",
        "%1",
        "^a^b",
        "^",
        "!",
        "a!b",
        "!$",
        "#",
        "a #b",
        "$",
    ),
    *(
        "$HOME",
        "${HOME}",
        "$$",
        "$?",
        "{a,b}",
        "{1..3}",
        "*",
        "?",
        "[a]",
        "**/*",
        "\\",
        "\\\\",
        "\\'",
        "a\\",
        "\\n",
    ),
    *(
        "'",
        "''",
        '"',
        '""',
        "`",
        "<",
        ">",
        ">&2",
        "2>x",
        ";",
        "a;b",
        "(",
        ")",
        "&&",
        "||",
        "|",
        "&",
        "--",
        "-",
        "-n",
    ),
    *(
        "-p x",
        "--help",
        "",
        " ",
        "  a  b  ",
        "\n",
        "\n\n",
        "a\n",
        "\na",
        "a\nb",
        "a\\\nb",
        "\t",
        "a\tb",
        "\u3000",
    ),
    *(
        "é",
        "e\u0301",
        "猫",
        "🦊",
        "👩\u200d💻",
        "\u200b",
        "\u202egnp.exe\u202c",
        "\ufeffa",
        "\u00ad",
        "\x85",
        "\u2028",
    ),
    *(
        "\U000e0041",
        "\uf600",
        "\ue000",
        "\ufdd0",
        "\uffff",
        "\U0010ffff",
        "a\n::error::x",
        "a\n \t::set-output name=x::y",
    ),
    *(
        "##[error]x",
        "##vso[task.complete]x",
        "a ##[group]",
        "a\n\u00a0::error::x",
        "::error::x",
        "if",
        "end",
        "function",
    ),
    *(
        "%s",
        "%d%n",
        "\\u0041",
        "\\x41",
        "\\101",
        "$'a'",
        "a\\\\'b",
        "/tmp/a b",
        "C:\\x\\",
        "-\\'",
        "@-",
        "+x",
        ":",
        ".",
    ),
]

#: Quick, for thousands of calls: the number of words, the words, and what came through the pipe.
RECORDER = """#!/bin/sh
{{
    printf '%s\\0' "$#" "$@"
    for last; do :; done
    test "$last" != - || cat
    printf '\\0'
}} >> {log}
"""


class Room:
    """A folder with a ``chroma`` that records; it takes the place of the real one on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        binaries = folder / "bin"
        binaries.mkdir()
        recorder = binaries / "chroma"
        recorder.write_text(RECORDER.format(log=self.log))
        recorder.chmod(0o755)
        self.path = f"{binaries}:{PATH}"

    def run(self, shell: Sequence[str], lines: Sequence[str]) -> list[tuple[list[str], str]]:
        """Every call that the lines made: its words, and what it read from a pipe."""
        self.log.write_text("")
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [*shell],
            input="".join(f"{line}\n" for line in lines).encode(),
            capture_output=True,
            cwd=home,
            env={"PATH": self.path, "HOME": str(home), "LC_ALL": "C.UTF-8"},
            timeout=120,
        )
        assert not (home / "canary").exists(), lines
        told = iter(os.fsdecode(self.log.read_bytes()).split("\0")[:-1])
        calls = [([next(told) for _ in range(int(count))], next(told)) for count in told]
        assert len(calls) == len(lines), done.stderr.decode("utf-8", "replace")
        return calls


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(tmp_path_factory.mktemp("shells"))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    words = SHELLS[request.param]
    if shutil.which(words[0], path=PATH) is None:
        pytest.skip(f"{words[0]} is not installed")
    return words


#: A prompt as a picture may hold it: what shells give a meaning, and anything else that a prompt can be.
TEXT = st.text(
    st.one_of(
        st.sampled_from("'\"\\$`!~=%^#*?[]{}()<>|&; \n\t-:/ab\u200b"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    )
)


def harmless(line: str) -> None:
    """No line of it is obeyed by a CI system, and a terminal shows what it is."""
    assert not re.search(r"^\s*::|##\[|##vso\[", line, re.MULTILINE)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]", line
    )


def check(room: Room, shell: list[str], words: Sequence[str]) -> None:
    lines = [command_line("chroma", word, "between", word) for word in words]
    for line in lines:
        harmless(line)
    for word, (seen, _) in zip(words, room.run(shell, lines), strict=True):
        assert seen == [word, "between", word]


def test_words(room: Room, shell: list[str]) -> None:
    check(room, shell, [word for word in WORDS if word != "-"])


def test_a_name_that_is_no_utf8(room: Room, shell: list[str]) -> None:
    check(room, shell, [os.fsdecode(b"caf\xe9 '\xff.png")])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=st.lists(TEXT.filter(lambda text: text != "-"), min_size=30, max_size=60))
def test_any_words(room: Room, shell: list[str], words: list[str]) -> None:
    check(room, shell, words)


def taken(words: Sequence[str], piped: str, folder: Path) -> str:
    """The prompt that ``chroma generate`` would take from this call."""
    if words[-1] == "-":
        file = folder / "piped"
        file.write_bytes(piped.encode())
        return prompts.from_file(str(file))
    assert words[-2] == "--" or not words[-1].startswith("-")
    return words[-1]


def test_recipes(room: Room, shell: list[str], tmp_path: Path) -> None:
    """``inspect --command`` and the gallery's copy: the prompt, also the negative one, comes back."""
    said = [word for word in WORDS if word.strip() and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", word)]
    said += ["-", "-n x", "long '\\ " * 20_000, "\ufeff" + "long '\\ " * 20_000, "x" * 200_000 + "\n\n"]
    lines = [
        Recipe({"prompt": word, "negative_prompt": word if len(word) < 100_000 else "", "seed": 7}).command()
        for word in said
    ]
    for line in lines:
        harmless(line)
    found = room.run(shell, lines)
    for word, (words, piped) in zip(said, found, strict=True):
        assert words[0] == "generate"
        assert taken(words, piped, tmp_path) == word
        if 0 < len(word) < 100_000:
            named = [one for one in words if one.startswith("--negative-prompt=")]
            assert (
                (named == [f"--negative-prompt={word}"])
                if named
                else words[words.index("--negative-prompt") + 1] == word
            )


@pytest.fixture
def picture(work: Path) -> Path:
    """A picture of a stranger, whose prompt would leave its quotes."""
    path = work / "it's.png"
    found = metadata(Recipe({"prompt": "".join(CANARY)}, seed=7), "full")
    with path.open("wb") as file:
        embed(io.BytesIO(png(1)), "png", found, file.write)
    return path


def test_inspect_and_the_gallery(room: Room, chroma: Callable[..., Ended], picture: Path) -> None:
    line = chroma("inspect", "--command", picture).out.removesuffix("\n")
    harmless(line)
    assert chroma("inspect", "--json", picture).one["command"] == line
    assert chroma("gallery", picture.parent, "-o", "page.html").code == 0
    assert (
        json.dumps(line).replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
        in Path("page.html").read_text()
    )
    for shell in SHELLS.values():
        if shutil.which(shell[0], path=PATH):
            [(words, _)] = room.run(shell, [line])
            assert words == ["generate", "--seed", "7", "".join(CANARY)]


def test_hints(room: Room, gateway: Gateway, chroma: Callable[..., Ended], work: Path) -> None:
    names = [
        "-x.jsonl",
        "=ls '\\'!$(touch canary).jsonl",
        "\\'; touch canary; '.jsonl",
        "\u202ecat\t.jsonl",
    ]
    lines = []
    for name in names:
        Path(name).write_text('{"prompt": "a fox", "output": "fox.png"}')
        ended = chroma("batch", "--check", "--", name)
        lines.append(ended.err.partition("Make them with: ")[2].removesuffix("\n"))
    identifier = "--pending"
    gateway.on("submit", Reply.json({"request_id": identifier, "status": "QUEUED"}))
    ended = chroma("submit", "a fox", "--base-url", gateway.base_url)
    assert ended.out == identifier + "\n"
    lines.append(ended.err.rpartition("with: ")[2].removesuffix("\n"))
    meant = [["batch", name if name[0] != "-" else f"./{name}"] for name in names]
    meant.append(["fetch", "--wait", "--base-url", gateway.base_url, "--", identifier])
    for shell in SHELLS.values():
        if shutil.which(shell[0], path=PATH):
            assert [words for words, _ in room.run(shell, lines)] == meant
    gateway.on("status", Reply.json({"status": "FAILED", "error": "no"}), always=True)
    assert chroma(*meant[-1]).code == 6  # and it is taken as an id
