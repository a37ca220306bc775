"""Handing over what came home: paths or JSON on stdout, the closing note, the viewer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chroma_cli.cli import render
from chroma_cli.errors import Charged, ChromaError, OutputError, OutputExists

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run
    from chroma_cli.jobs.progress import Done
    from chroma_cli.jobs.records import JobRow


def deliver(run: Run, done: Done) -> None:
    """Print a finished job, also one that was home already; bytes that went to stdout are their own result.

    Raises :class:`OutputExists` (exit 10) at the end for a picture that had to give way to another file: it
    is saved all the same.
    """
    try:
        _print(run, done)
    except OutputError as error:
        error.charged = done.job.charged
        error.about(request_id=done.job.request_id, job=done.job.number or None)
        raise
    if done.saved:
        run.output.note(render.saved_words(done.job))
    displaced = [one.file for one in done.saved if one.file.displaced_from]
    if displaced:
        words = ", ".join(
            f"{one.displaced_from} appeared meanwhile, saved as {one.path}" for one in displaced
        )
        raise OutputExists(
            f"Not saved under the name that was asked for: {words}.",
            hint="The picture is whole; move it if you like.",
            request_id=done.job.request_id,
            job=done.job.number or None,
            charged=Charged.YES,
        )


def _print(run: Run, done: Done) -> None:
    if run.output.json:
        run.output.result("", render.job_object(done.job))
        return
    for entry in done.job.files.values():
        if entry["path"] != "-":
            run.output.path(entry["path"])


def delivered(run: Run, done: Done) -> ChromaError | None:
    """As :func:`deliver`, with the error as a result, for one job of several."""
    try:
        deliver(run, done)
    except OutputError as error:
        error.record = done.job
        return error
    return None


def tell_failure(run: Run, error: ChromaError, *, alone: bool = True) -> None:
    """With ``--json`` the job as it was left goes to stdout; of several, each says here what went wrong."""
    if error.record is not None and not isinstance(error, OutputExists):
        _print_json(run, render.job_object(error.record))
    if not alone:
        which = error.request_id or (f"job {error.job}" if error.job is not None else "a job")
        run.output.trouble(f"{which}: {error.message}" + (f" {error.hint}" if error.hint else ""))


@contextlib.contextmanager
def submitting(run: Run) -> Iterator[None]:
    """A submit that fails inside leaves its job, with ``--json``, on stdout as one that succeeds does."""
    try:
        yield
    except ChromaError as error:
        if error.record is not None:
            _print_json(run, render.submitted_object(error.record, run.base_url))
        raise


def tell_submitted(run: Run, job: JobRow) -> None:
    """Print the request id, which is nowhere else. Raises :class:`OutputError` when nobody reads it."""
    run.output.result(str(job.request_id), render.submitted_object(job, run.base_url))
    if run.output.reader_gone:
        raise OutputError("Nobody reads the request id from stdout any more.")


def _print_json(run: Run, job: Mapping[str, Any]) -> None:
    if run.output.json:
        run.output.result("", job)


def show(run: Run, done: Done) -> None:
    """What ``--open`` and ``--preview`` ask for; neither changes the exit code."""
    if run.given.get("preview"):
        from chroma_cli.cli import preview

        for entry in done.job.files.values():
            if entry["path"] != "-":
                preview.show(run.output, Path(entry["path"]))
    if run.given.get("open"):
        open_viewer(run, done)


def open_viewer(run: Run, done: Done) -> None:
    """Show the pictures in the system's viewer; where there is none, say so."""
    import typer

    for one in done.saved:
        if one.file.path == "-":
            continue
        try:
            failed = typer.launch(one.file.path)
        except OSError:
            failed = 1
        if failed:
            run.output.warning(f"No viewer could be started for {one.file.path}.")
            return
