"""Every command line of the README and of the help is run for real, against a practice gateway.

The declared exceptions are in :data:`NOT_RUN`, the small changes in :data:`INSTEAD`, each with its reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import chroma_cli
from chroma_cli.cli.main import main
from chroma_cli.cli.manual import EXIT_CODES
from chroma_cli.cli.surface import command, commands
from chroma_cli.sandbox.server import SandboxServer
from chroma_cli.sandbox.world import WorldOptions

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text(encoding="utf-8")
PROSE = README.split("<!-- reference")[0]

#: A piece of a line, and why the line is not run here.
NOT_RUN = {
    "pip install": "the two commands are what .ci/run and the packaging test run",
    "python3 -m venv": "the two commands are what .ci/run and the packaging test run",
    "pipx install .": "installs for the person; the packaging test does it in a folder of its own",
    "uv tool install .": "installs for the person; the packaging test does it in a folder of its own",
    "export SEGMIND_API_KEY": "the key stands for the reader's own",
    "curl -s https://": "would go to the real gateway",
}
#: What a line says, and what is run instead.
INSTEAD = {
    "magick - -resize 50% boat.jpg": "cat > boat.png",  # ImageMagick is not installed everywhere
    "--min 1": "--min 0.01",  # any practice balance will do
    '"${fpath[1]}/_chroma"': "_chroma",  # fpath is zsh's; these lines are run by bash
    "fetch 17 ": "fetch 1 ",  # the number of a job that exists here
    "assets/ -o assets.html": "foxes/ -o assets.html",
    "sheet fox-1.png fox-2.png crow.jpg": "sheet foxes/1.png foxes/2.png knight.png",
    " | sh": " | bash -n",  # what comes out is checked, and would only wait for another picture
    "${{ matrix.share }}": "2",
    "pictures/assets.toml": "assets.toml",
    "gallery pictures ": "gallery foxes ",
}
#: Lines that are there to show a failure: their exit code.
ENDS_WITH = {"--check --summary": 1}
#: A command that looks at what the one before it made.
BEFORE = {
    "chroma batch assets.toml --check": "chroma batch assets.toml",
    'chroma fetch "$id" --wait': 'id=$(chroma submit "a boat")',
    'chroma status "$id"': 'id=$(chroma submit "a boat")',
    "chroma fetch 1 ": 'chroma submit "a boat"; sleep 1',
    "chroma completion bash >": "mkdir -p ~/.local/share/bash-completion/completions",
    "chroma completion fish >": "mkdir -p ~/.config/fish/completions",
}
MANIFEST = re.search(r"```toml\n(# assets.toml\n.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PROSE, re.DOTALL | re.MULTILINE)


def lines() -> Iterator[str]:
    """The command lines of the README, its workflow and the help, each once."""
    found = [line for block in blocks("sh") for line in block.splitlines()]
    found += [line for block in blocks("yaml") for line in re.findall(r"run: (.*)", block)]
    found += [example for one in commands() for example in one.examples]
    for line in found:
        yield re.sub(r"\s+#.*", "", line).strip()


ALL = list(dict.fromkeys(line for line in lines() if line))
RUN = [line for line in ALL if not any(piece in line for piece in NOT_RUN)]


def bash(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **env},  # noqa: TID251
    )


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    with SandboxServer(None, WorldOptions(latency=0.1, rpm=0)) as server:
        monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
        yield server


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name, a home, and ``chroma`` in PATH."""
    program = tmp_path / "bin" / "chroma"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m chroma_cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")  # noqa: TID251
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "desk"
    (folder / "pictures").mkdir(parents=True)
    assert MANIFEST is not None
    (folder / "assets.toml").write_text(MANIFEST[1], encoding="utf-8")
    (folder / "list.csv").write_text("output,prompt\na.png,a fox\nb.png,a boat\n")
    (folder / "list.jsonl").write_text('{"output": "c.png", "prompt": "a fox"}\n')
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a knight and two foxes."""
    folder = tmp_path_factory.mktemp("made")
    with (
        SandboxServer(None, WorldOptions(latency=0.1, rpm=0)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("CHROMA_BASE_URL", server.base_url)
        patch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
        patch.setenv("CHROMA_STATE_DIR", str(folder / "state"))
        patch.setenv("CHROMA_CONFIG", str(folder / "none.toml"))
        for name in ("knight.png", "foxes/1.png", "foxes/2.png"):
            place = str(folder / "desk" / name)
            assert main(["generate", "a knight", "-q", "--size", "768x768", "-o", place]) == 0
    return folder / "desk"


@pytest.fixture
def pictures(desk: Path, made: Path, gateway: SandboxServer) -> Path:
    """The desk with the pictures on it; the ledger knows nothing of them."""
    shutil.copytree(made, desk, dirs_exist_ok=True)
    return desk


def ready(line: str) -> str:
    for said, instead in INSTEAD.items():
        line = line.replace(said, instead)
    return line


def first(line: str) -> str:
    """What must have happened before ``line`` makes sense."""
    if any(piece in line for piece in ENDS_WITH):
        return ""
    return next((do + "\n" for look, do in BEFORE.items() if look in line), "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("line", RUN)
def test_it_runs(line: str, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if line.startswith("parallel ") and shutil.which("parallel") is None:
        pytest.skip("GNU parallel is not installed")
    if line.startswith("chroma sandbox"):
        pytest.skip("runs until Ctrl-C: tests/sandbox does that")
    if "knight.png" in line and "-o knight.png" in line:
        (pictures / "knight.png").unlink()
    if "--sandbox" in line:
        monkeypatch.delenv("CHROMA_BASE_URL")
    script = ready(line)
    done = bash(first(script) + script, pictures)
    code = next((code for piece, code in ENDS_WITH.items() if piece in script), 0)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    target = re.search(r"-o (\w+\.\w+)", line)
    if target and code == 0 and "submit" not in line:
        assert (pictures / target[1]).stat().st_size > 0


def test_the_steps_of_the_tour_work_one_after_another(pictures: Path) -> None:
    block = next(block for block in blocks("sh") if block.startswith("id=$(chroma submit"))
    done = bash(ready(block), pictures)
    assert done.returncode == 0, done.stderr
    assert (pictures / "lighthouse.png").read_bytes().startswith(b"\x89PNG")


def test_the_manifest_is_made_then_current(pictures: Path) -> None:
    assert bash("chroma batch assets.toml && chroma batch assets.toml --check", pictures).returncode == 0
    assert sorted(path.name for path in pictures.glob("boat-*")) == ["boat-5.webp", "boat-9.webp"]


def test_the_two_commands_are_where_ci_looks_for_them() -> None:
    first = PROSE.split("<!-- first-picture -->")[1].split("<!-- /first-picture -->")[0]
    second = PROSE.split("<!-- test-command -->")[1].split("<!-- /test-command -->")[0]
    assert "chroma generate --sandbox" in first
    assert "-m pytest" in second
    assert "--cov" in second


def test_exceptions_and_changes_are_still_needed() -> None:
    everything = "\n".join(ALL)
    for piece in (*NOT_RUN, *(piece for piece in INSTEAD if piece != "--min 1")):
        assert piece in everything, piece


# --- what the words promise ------------------------------------------------------------------------------

INLINE = sorted(set(re.findall(r"`(chroma [a-z][^`]*)`", PROSE)))


@pytest.mark.parametrize("code", INLINE)
def test_commands_in_the_text_exist(code: str) -> None:
    words = shlex.split(code)
    flags = {"--help", *(flag for one in command(words[1]).options for flag in one.flags)}
    assert {word for word in words[2:] if word.startswith("-")} <= flags


def test_every_option_in_the_text_exists() -> None:
    known = {
        part
        for one in commands()
        for option in one.options
        for flag in option.flags
        for part in flag.split("/")
    }
    text = re.sub(r"```.*?```", "", PROSE, flags=re.DOTALL)
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--retry"}:  # curl's
        assert option in {*known, "--help"}, option


def test_the_exit_codes_are_those_of_the_program() -> None:
    table = PROSE.split("| exit code | meaning |")[1].split("\n\n")[0]
    told = re.findall(r"\d+", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(int(code) for code in told) == sorted(int(code) for code in EXIT_CODES)


def test_the_troubles_are_in_the_program_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    table = PROSE.split("## When something is wrong")[1].split("\n\n")[1]
    said = [row.split("|")[1].strip() for row in table.splitlines()[2:]]
    assert len(said) > 10
    house = Path(chroma_cli.__file__).parent
    sources = " ".join(path.read_text(encoding="utf-8") for path in house.rglob("*.py"))
    assert main(["generate", "a fox", "--cfg", "99", "--dry-run"]) == 2
    sources = re.sub(r'"\s+f?"', "", sources) + capsys.readouterr().err
    for words in said:
        assert re.sub(r" \(\d+\)$", "", words) in sources, words


def test_the_config_example_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = next(block for block in blocks("toml") if block.startswith("# config.toml"))
    assert set(tomllib.loads(example)) == {"defaults", "presets", "budget"}
    (tmp_path / "config.toml").write_text(example, encoding="utf-8")
    assert (
        main(["generate", "a fox", "--dry-run", "--preset", "cover", "--base-url", "http://127.0.0.1:9"]) == 0
    )
    assert '"width": 1536' in capsys.readouterr().out


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", PROSE):
        assert (TOP / target).exists(), target
