"""What the README says is so: commands, options, exit codes, messages, links, the example of a config."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from kit import helps

import chroma_cli
from chroma_cli.errors import ExitCode

TOP = Path(__file__).parents[2]
PROSE = (TOP / "README.md").read_text(encoding="utf-8").split("<!-- reference")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PROSE, re.DOTALL | re.MULTILINE)


def test_the_two_commands_are_where_ci_looks_for_them() -> None:
    first = PROSE.split("<!-- first-picture -->")[1].split("<!-- /first-picture -->")[0]
    second = PROSE.split("<!-- test-command -->")[1].split("<!-- /test-command -->")[0]
    assert "chroma generate --sandbox" in first
    assert "-m pytest" in second


# --- what the words promise ------------------------------------------------------------------------------

INLINE = sorted(set(re.findall(r"`(chroma [a-z][^`]*)`", PROSE)))


@pytest.mark.parametrize("code", INLINE)
def test_commands_in_the_text_exist(code: str) -> None:
    words = shlex.split(code)
    assert {word for word in words[2:] if word.startswith("-")} <= helps.options(words[1])


def test_every_option_in_the_text_exists() -> None:
    known = {option for name in helps.commands() for option in helps.options(name)}
    text = re.sub(r"```.*?```", "", PROSE, flags=re.DOTALL)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {
        "--retry",
        "--record",
    }:  # of curl, of the tests
        assert option in known, option


def test_the_exit_codes_are_those_of_the_program() -> None:
    table = PROSE.split("| exit code | meaning |")[1].split("\n\n")[0]
    told = re.findall(r"\d+", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(int(code) for code in told) == sorted(ExitCode)


def test_the_troubles_are_in_the_program_word_for_word(chroma) -> None:
    table = PROSE.split("## When something is wrong")[1].split("\n\n")[1]
    said = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert len(said) > 10
    house = Path(chroma_cli.__file__).parent
    sources = " ".join(path.read_text(encoding="utf-8") for path in house.rglob("*.py"))
    refused = chroma("generate", "a fox", "--cfg", "99", "--dry-run")
    assert refused.code == 2
    sources = re.sub(r'"\s+f?"', "", sources) + refused.err
    for words in said:
        assert re.sub(r" \(\d+\)$", "", words) in sources, words


def test_the_config_example_is_accepted(dry, config) -> None:
    example = next(block for block in blocks("toml") if block.startswith("# config.toml"))
    assert set(tomllib.loads(example)) == {"defaults", "presets", "budget"}
    config(example)
    assert dry("a fox", "--preset", "cover", "--base-url", "http://127.0.0.1:9")["width"] == 1536


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", PROSE):
        assert (TOP / target).exists(), target
