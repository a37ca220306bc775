"""``--help`` as plain text: options in panels, aligned, at most 80 columns, quick to make.

Made from the same description as the completions and the manual, without rich: it looks the same on a
terminal, in a pipe and in a log; on a terminal the headings are bold.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from chroma_cli.cli.options import OUTPUT_PANEL, PICTURE_PANEL, RUN_PANEL, Opt
from chroma_cli.cli.surface import HELP, CommandSpec

WIDEST = 80
NARROWEST = 40
_GAP = 27
_PANELS = (PICTURE_PANEL, OUTPUT_PANEL, RUN_PANEL)

#: A word of a command line, quotes and all.
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")


def overview(commands: Sequence[CommandSpec], columns: int, *, bold: bool) -> str:
    """``chroma --help``: all commands on one screen, grouped by what people do."""
    lines = [
        "Usage: chroma [--help] [--version] COMMAND [OPTIONS] [ARGUMENTS]",
        "Pictures from the hosted Chroma text-to-image model. COMMAND --help says more.",
        "",
    ]
    lines = [part for line in lines for part in (textwrap.wrap(line, _width(columns)) or [""])]
    groups: dict[str, list[CommandSpec]] = {}
    for one in commands:
        groups.setdefault(one.group, []).append(one)
    longest = max(len(one.name) for one in commands)
    for group, members in groups.items():
        lines.append(_heading(group, bold))
        for one in members:
            lines += _entry(one.name, one.summary, columns, longest + 4)
    return "\n".join(lines)


def command(spec: CommandSpec, columns: int, *, bold: bool) -> str:
    """``chroma COMMAND --help``."""
    width = _width(columns)
    lines = [f"Usage: {usage(spec)}", "", *textwrap.wrap(spec.summary, width)]
    if spec.argument is not None:
        lines += ["", *_entry(spelled(spec.argument), spec.argument.help, columns, _gap(columns))]
    for panel, members in _panels(spec):
        lines += ["", _heading(panel, bold)]
        for option in members:
            lines += _entry(_aligned(option), option.help, columns, _gap(columns))
    for note in spec.notes:
        if isinstance(note, str):
            lines += ["", *textwrap.wrap(note, width)]
        else:
            lines += _entry(*note, columns, _gap(columns))
    if spec.examples:
        lines += ["", _heading("Examples", bold)]
        for example in spec.examples:
            lines += _folded(example, width)
    return "\n".join(lines)


def usage(spec: CommandSpec) -> str:
    """``chroma generate [OPTIONS] [PROMPT]``."""
    argument = f" {spelled(spec.argument)}" if spec.argument else ""
    return f"chroma {spec.name} [OPTIONS]{argument}"


def spelled(option: Opt) -> str:
    """``-o, --output PLACE``, short spellings first; of an argument its name."""
    if not option.flags:
        return option.metavar or option.name.upper()
    flags = [flag.replace("/", ", ") for flag in sorted(option.flags, key=lambda flag: flag.startswith("--"))]
    value = f" {option.metavar or option.name.upper()}" if option.takes_value else ""
    return ", ".join(flags) + value


def _panels(spec: CommandSpec) -> Iterator[tuple[str, list[Opt]]]:
    """The panels that have options; ``--help`` is the last of all."""
    for panel in _PANELS:
        members = [one for one in spec.options if one.panel == panel]
        if panel == HELP.panel:
            members.append(HELP)
        if members:
            yield panel, members


def _aligned(option: Opt) -> str:
    """The spelling, with the long one always in the same column."""
    words = spelled(option)
    return words if words[1] != "-" else "    " + words


def _entry(name: str, words: str, columns: int, gap: int) -> list[str]:
    """``  name    words``, the words in a column of their own; a long name has a line for itself."""
    wrapped = textwrap.wrap(words, _width(columns) - gap, break_on_hyphens=False) or [""]
    first = "  " + name
    lines = [first.ljust(gap) + wrapped.pop(0)] if len(first) < gap - 1 else [first]
    return [line.rstrip() for line in (*lines, *(" " * gap + part for part in wrapped))]


def _folded(line: str, width: int) -> list[str]:
    """A command line, broken between words with a backslash where it is too long."""
    lines, current = [], " "
    for word in _WORD.findall(line):
        if len(current) + 1 + len(word) > width - 2 and current.strip():
            lines.append(current + " \\")
            current = "     "
        current += " " + word
    return [*lines, current]


def _heading(words: str, bold: bool) -> str:
    return f"\x1b[1m{words}\x1b[0m" if bold else words


def _width(columns: int) -> int:
    return max(NARROWEST, min(columns, WIDEST))


def _gap(columns: int) -> int:
    return _GAP if _width(columns) >= 60 else 8
