"""The summary of a batch in files: Markdown, JUnit XML, and the page of a CI step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chroma_cli import text
from chroma_cli.errors import OutputError
from chroma_cli.jobs.summary import Report

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run


@contextlib.contextmanager
def reports(run: Run) -> Iterator[list[Report]]:
    """The files that a summary goes to, tried before anything is spent; written at the end, whatever the end.

    The caller puts the report into the list. Raises :class:`OutputError` for a file that was asked for and
    cannot be written, unless the run ends with another error already.
    """
    targets = [(Path(run.given[name]), name) for name in ("summary", "junit") if run.given[name]]
    for path, name in targets:
        try:
            with path.open("ab"):
                pass
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no usable name"
            raise OutputError(f"--{name}: {path} cannot be written: {why}.") from error
    found: list[Report] = []
    try:
        yield found
    except BaseException:
        for words in _write_reports(run, found, targets):
            run.output.warning(words)
        raise
    wrong = _write_reports(run, found, targets)
    if wrong:
        raise OutputError(*wrong)


def money_words(report: Report) -> str:
    """What the run cost: ``$0.11 spent, $0.055 unknown``."""
    unknown = f", {text.money(report.unknown)} unknown" if report.unknown else ""
    return f"{text.money(report.cost)} spent{unknown}"


def _write_reports(run: Run, found: Sequence[Report], targets: Sequence[tuple[Path, str]]) -> list[str]:
    """Write all files; which of those that were asked for could not be written, and why."""
    return [words for report in found for words in _write_report(run, report, targets)]


def _write_report(run: Run, report: Report, targets: Sequence[tuple[Path, str]]) -> list[str]:
    from chroma_cli.jobs import summary

    page = summary.markdown(report, money_words(report))
    step = run.settings.step_summary
    everything = [
        (path, "wb", page if name == "summary" else summary.junit(report)) for path, name in targets
    ]
    if step is not None and not (run.given["summary"] and Path(run.given["summary"]) == step):
        everything.append((step, "ab", page + "\n"))
    wrong = []
    for path, mode, words in everything:
        try:
            with path.open(mode) as file:
                file.write(words.encode("utf-8", "replace"))
        except OSError as error:
            said = f"The summary could not be written to {path}: {error.strerror}."
            if mode == "ab":  # nobody asked for that one
                run.output.warning(said)
            else:
                wrong.append(said)
    return wrong
