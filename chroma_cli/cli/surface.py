"""The whole command line as data: what help, completions, manual and reference are made from."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache

from chroma_cli.cli.main import COMMANDS
from chroma_cli.cli.options import RUN_PANEL, Opt


@dataclass(frozen=True)
class CommandSpec:
    """One command: its options in the order of its help, its argument if it has one."""

    name: str
    group: str
    summary: str
    options: tuple[Opt, ...]
    argument: Opt | None
    examples: tuple[str, ...]
    #: What stands below the options: a paragraph, or a word with its meaning.
    notes: tuple[str | tuple[str, str], ...]


@cache
def commands() -> tuple[CommandSpec, ...]:
    """All commands in the order of ``chroma --help``."""
    return tuple(command(name) for name in COMMANDS)


@cache
def command(name: str) -> CommandSpec:
    """The command of that name; imports its module alone."""
    place = COMMANDS[name]
    module = importlib.import_module(f"chroma_cli.cli.commands.{place.module}")
    function = getattr(module, place.module)
    declared: list[Opt] = function.options
    return CommandSpec(
        name=name,
        group=place.group,
        summary=" ".join((function.__doc__ or "").split()),
        options=tuple(one for one in declared if one.flags and not one.hidden),
        argument=next((one for one in declared if not one.flags), None),
        examples=getattr(module, "EXAMPLES", ()),
        notes=getattr(module, "NOTES", ()),
    )


HELP = Opt("help", ("--help", "-h"), "Show the help and exit.", bool, False, panel=RUN_PANEL)
VERSION = Opt("version", ("--version", "-V"), "Show the version.", bool, False)
