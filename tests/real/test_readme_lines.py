"""Every command line of the README and of the help is run for real, against a scripted gateway.

The declared exceptions are in :data:`NOT_RUN`, the small changes in :data:`INSTEAD`, each with its reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import Gateway, helps, with_recipe

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
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
    found += [example for name in helps.commands() for example in helps.examples(name)]
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
def desk(gateway: Gateway, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name, a home, and ``chroma`` in PATH."""
    program = tmp_path / "bin" / "chroma"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m chroma_cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")  # noqa: TID251
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = work
    (folder / "pictures").mkdir()
    assert MANIFEST is not None
    (folder / "assets.toml").write_text(MANIFEST[1], encoding="utf-8")
    (folder / "list.csv").write_text("output,prompt\na.png,a fox\nb.png,a boat\n")
    (folder / "list.jsonl").write_text('{"output": "c.png", "prompt": "a fox"}\n')
    return folder


@pytest.fixture
def pictures(desk: Path) -> Path:
    """The desk with a knight and two foxes on it; the ledger knows nothing of them."""
    record = {"request": {"prompt": "a knight", "seed": 7, "steps": 40}}
    for number, name in enumerate(("knight.png", "foxes/1.png", "foxes/2.png")):
        (desk / name).parent.mkdir(exist_ok=True)
        record["request"]["seed"] = number
        (desk / name).write_bytes(with_recipe(record, width=256, height=256))
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
        pytest.skip("runs until Ctrl-C: the tests of the sandbox do that")
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


def test_exceptions_and_changes_are_still_needed() -> None:
    everything = "\n".join(ALL)
    for piece in (*NOT_RUN, *(piece for piece in INSTEAD if piece != "--min 1")):
        assert piece in everything, piece
