"""What a run over many images came to, as Markdown for a CI page and as JUnit XML. Pure text.

Keys, prompts and messages come from outside: everything is escaped, and what XML does not allow is left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from chroma_cli.text import one_line

Outcome = Literal["made", "unchanged", "kept", "failed", "unknown", "unfinished", "not started"]

#: The order in which outcomes are told.
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "made",
    "unchanged",
    "kept",
    "failed",
    "unknown",
    "unfinished",
    "not started",
)
#: Not made, and not because it was not wanted.
_FAILURES: Final[tuple[Outcome, ...]] = ("failed", "unknown", "unfinished")
#: More rows than these make a CI page unreadable (and GitHub cuts it at 1 MiB).
_MOST_ROWS: Final = 500
# What XML 1.0 does not take, and the surrogates, which are no text at all. (A set that is not negated: the
# other one takes 3 ms to compile.)
_NOT_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>#|~&$@])")


@dataclass(frozen=True)
class Line:
    """How one image ended. ``cost`` in dollars (what it counts as), ``unknown`` are those that may have been
    spent, ``seconds`` from submit to result."""

    key: str
    outcome: Outcome
    cost: float = 0.0
    seconds: float | None = None
    files: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None
    error_type: str | None = None
    unknown: float = 0.0


@dataclass(frozen=True)
class Report:
    """A whole run: ``title`` names the manifest, ``advice`` says what to do next where something is."""

    title: str
    lines: tuple[Line, ...]
    seconds: float
    advice: str | None = None

    def count(self, outcome: Outcome) -> int:
        return sum(line.outcome == outcome for line in self.lines)

    @property
    def cost(self) -> float:
        return sum(line.cost for line in self.lines)

    @property
    def unknown(self) -> float:
        return sum(line.unknown for line in self.lines)

    def counts(self) -> str:
        """``12 made, 3 unchanged, 1 failed``."""
        told = [f"{self.count(one)} {one}" for one in OUTCOMES if self.count(one)]
        return ", ".join(told) or "nothing to do"


def markdown(report: Report, money: str) -> str:
    """A section for a CI page; what did not go well comes first."""
    parts = [f"### {_plain(report.title)}", "", f"{report.counts()}; {_plain(money)}."]
    if report.advice:
        parts += ["", _plain(report.advice)]
    bad = [line for line in report.lines if line.outcome in (*_FAILURES, "not started", "kept")]
    if bad:
        rows = (
            (_plain(line.key), line.outcome, _plain(f"{line.error or ''} {line.hint or ''}".strip()))
            for line in bad[:_MOST_ROWS]
        )
        parts += ["", *_table(("Image", "Outcome", "Why"), rows), *_more(bad)]
    made = [line for line in report.lines if line.outcome == "made"]
    if made:
        done = (
            (
                _plain(line.key),
                f"{line.cost:.3f}",
                "" if line.seconds is None else f"{line.seconds:.1f}",
                _plain(", ".join(line.files)),
            )
            for line in made[:_MOST_ROWS]
        )
        parts += ["", *_table(("Made", "Cost ($)", "Seconds", "Files"), done), *_more(made)]
    return "\n".join(parts) + "\n"


def junit(report: Report) -> str:
    """One test case an image: made and unchanged pass, kept and not started are skipped, the rest fails."""
    failures = sum(map(report.count, _FAILURES))
    skipped = report.count("kept") + report.count("not started")
    head = (
        f'tests={_attribute(str(len(report.lines)))} failures={_attribute(str(failures))} errors="0" '
        f"skipped={_attribute(str(skipped))} time={_attribute(f'{report.seconds:.3f}')}"
    )
    name = _attribute(report.title)
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="chroma batch" {head}>',
        f"  <testsuite name={name} {head}>",
        *(_case(line, name) for line in report.lines),
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(parts) + "\n"


def _case(line: Line, suite: str) -> str:
    time = f"{line.seconds or 0.0:.3f}"
    head = f"    <testcase classname={suite} name={_attribute(line.key)} time={_attribute(time)}"
    words = line.error or line.outcome
    if line.outcome in _FAILURES:
        text = _xml(f"{words}\n{line.hint or ''}".strip())
        about = f"message={_attribute(words)} type={_attribute(line.error_type or line.outcome)}"
        inner = f"<failure {about}>{text}</failure>"
    elif line.outcome in ("kept", "not started"):
        inner = f"<skipped message={_attribute(words)}/>"
    elif line.files:
        inner = f"<system-out>{_xml(chr(10).join(line.files))}</system-out>"
    else:
        return f"{head}/>"
    return f"{head}>{inner}</testcase>"


def _xml(text: str) -> str:
    return html.escape(_NOT_XML.sub("", text), quote=False).replace("\r", "&#13;")


def _attribute(text: str) -> str:
    plain = html.escape(_NOT_XML.sub("", text))
    for char in "\t\n\r":
        plain = plain.replace(char, f"&#{ord(char)};")
    return f'"{plain}"'


def _plain(text: str) -> str:
    """Text that stays text in a table of Markdown, on one line."""
    return _MARKDOWN.sub(
        lambda hit: f"&#{ord(hit[1])};" if hit[1] in "<>|&@" else f"\\{hit[1]}", one_line(text)
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _more(lines: Sequence[Line]) -> list[str]:
    left = len(lines) - _MOST_ROWS
    return ["", f"… and {left} more."] if left > 0 else []
