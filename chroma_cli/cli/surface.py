"""The whole command line as data: what completions, the manual and the README's reference are made from."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache

from chroma_cli.cli.main import COMMANDS
from chroma_cli.cli.options import Opt


@dataclass(frozen=True)
class CommandSpec:
    """One command: its options in the order of its help, its argument if it has one."""

    name: str
    group: str
    summary: str
    options: tuple[Opt, ...]
    argument: Opt | None
    epilog: str


@cache
def commands() -> tuple[CommandSpec, ...]:
    """All commands in the order of ``chroma --help``."""
    found = []
    for name, place in COMMANDS.items():
        module = importlib.import_module(f"chroma_cli.cli.commands.{place.module}")
        function = getattr(module, place.module)
        declared: list[Opt] = function.options
        found.append(
            CommandSpec(
                name=name,
                group=place.group,
                summary=" ".join((function.__doc__ or "").split()),
                options=tuple(one for one in declared if one.flags and not one.hidden),
                argument=next((one for one in declared if not one.flags), None),
                epilog=getattr(module, "EPILOG", ""),
            )
        )
    return tuple(found)


HELP = Opt("help", ("--help", "-h"), "Show the help and exit.", bool, False)
VERSION = Opt("version", ("--version", "-V"), "Show the version.", bool, False)
