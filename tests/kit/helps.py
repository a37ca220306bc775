"""What ``--help`` says, taken apart: commands, options, examples."""

from __future__ import annotations

import contextlib
import io
import os
import re
from functools import cache
from unittest import mock


@cache
def page(*command: str) -> str:
    """Return the help of a command; without one, the overview."""
    from chroma_cli.cli.main import main

    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with mock.patch.dict(os.environ, TERM="dumb"), contextlib.redirect_stdout(told):  # noqa: TID251
        for name in ("COLUMNS", "FORCE_COLOR"):
            os.environ.pop(name, None)  # noqa: TID251
        assert main([*command, "--help"]) == 0
    told.flush()
    return told.buffer.getvalue().decode()  # type: ignore[attr-defined]


def panels(text: str) -> dict[str, list[str]]:
    """Return the lines below each heading; those before the first are below ""."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z][\w ]+", line):
            heading = line
            found[heading] = []
        elif line:
            found[heading].append(line)
    return found


def commands() -> list[str]:
    """Return the names of all commands, in the order of the overview."""
    return re.findall(r"^  ([a-z]+)  ", page(), re.MULTILINE)


def options(command: str) -> set[str]:
    """Return the options of a command, each spelling of them."""
    told = re.findall(r"^ {2,6}(-.*?)(?:  |$)", page(command), re.MULTILINE)
    return {flag for line in told for flag in re.findall(r"--?[a-z][\w-]*", line)}


def examples(command: str) -> list[str]:
    """Return the command lines that stand as examples."""
    text = "\n".join(panels(page(command)).get("Examples", ()))
    lines = re.sub(r" *\\\n *", " ", text).splitlines()
    return [line.strip() for line in lines if "chroma " in line]
