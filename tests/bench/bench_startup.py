"""How long the program takes to start, beside a Typer app of two commands on the same Typer."""

from __future__ import annotations

import sys
from pathlib import Path

from measure import Figure, alternate, chroma, milliseconds, ratio, seconds_of, surroundings

HELLO = """\
import typer

app = typer.Typer()


@app.command()
def hello(name: str) -> None:
    print(f"Hello {name}")


@app.command()
def goodbye(name: str) -> None:
    print(f"Goodbye {name}")


if __name__ == "__main__":
    app()
"""
ROUNDS = 25


def measure(folder: Path) -> list[Figure]:
    hello = folder / "hello.py"
    hello.write_text(HELLO)
    env = surroundings(folder)
    commands = {
        "hello": [sys.executable, str(hello), "hello", "World"],
        "version": chroma("--version"),
        "dry run": chroma("generate", "--dry-run", "--json", "x"),
    }
    runs = {
        name: lambda command=command: seconds_of(command, env, folder) for name, command in commands.items()
    }
    taken = alternate(runs, ROUNDS)
    return [
        Figure(what, ratio(taken, name, "hello"), "x", target, milliseconds(taken, name, "hello"))
        for what, name, target in (
            ("chroma --version / hello world in Typer", "version", 1.3),
            ("chroma generate --dry-run --json / hello world", "dry run", 1.6),
        )
    ]
