"""What is made from the command line is current, and the manual page is one that man accepts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kit import helps

TOP = Path(__file__).parents[2]
PAGE = TOP / "completions" / "chroma.1"


@pytest.mark.slow
@pytest.mark.skipif(not (TOP / ".ci").is_dir(), reason="not a clone")
def test_everything_that_is_made_is_current() -> None:
    done = subprocess.run(
        [sys.executable, TOP / ".ci" / "generate", "--check"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "chroma.bash"), ("zsh", "_chroma"), ("fish", "chroma.fish")]
)
def test_the_program_prints_the_script_that_is_installed(chroma, shell, name):
    told = chroma("completion", shell)
    assert told.code == 0
    kept = (TOP / "completions" / name).read_text(encoding="utf-8")
    assert told.out.rstrip("\n") == kept.rstrip("\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_the_page_without_a_warning() -> None:
    env = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}  # noqa: TID251
    done = subprocess.run(
        ["man", "--warnings", "-l", PAGE], capture_output=True, text=True, timeout=60, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    for name in helps.commands():
        assert f"chroma {name} [OPTIONS]" in words
    assert 'chroma generate "a young knight in shining armor" -o knight.png' in words
    for part in ("EXIT STATUS", "ENVIRONMENT", "SEGMIND_API_KEY", "[sandbox:fail]"):
        assert part in words
