"""What a quick command must not import; each import costs a person tens of milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import sys
from chroma_cli.cli.main import main
code = main(sys.argv[1:])
heavy = ("requests", "urllib3", "rich", "PIL", "typer", "sqlite3", "platformdirs", "tomllib", "keyring")
print(" ".join(name for name in heavy if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def imported_by(*args: str) -> set[str]:
    # coverage, where it measures child processes, imports things of its own
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # noqa: TID251
    command = [sys.executable, "-c", PROBE, *args]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, env=env)
    assert done.stdout
    return set(done.stderr.decode().split())


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_needs_no_library(flag: str) -> None:
    assert imported_by(flag) == set()


def test_a_dry_run_needs_no_network_no_colour_and_no_pictures() -> None:
    heavy = imported_by("generate", "a fox", "--dry-run", "--json", "-o", "fox.webp")
    assert "typer" in heavy
    assert not heavy & {"requests", "urllib3", "rich", "PIL", "sqlite3", "keyring"}


def test_nor_does_a_dry_run_with_an_unknown_sampler() -> None:
    heavy = imported_by("generate", "a fox", "--dry-run", "--sandbox", "-p", "fine-art")
    assert not heavy & {"requests", "urllib3", "rich", "PIL", "sqlite3", "keyring"}
