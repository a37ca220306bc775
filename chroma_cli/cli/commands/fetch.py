"""``chroma fetch``: bring finished jobs home."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chroma_cli.cli import delivery, fetching, jobsel, options, several
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import ChromaError, UsageError
from chroma_cli.jobs.progress import Done
from chroma_cli.jobs.records import JobRow

EXAMPLES = (
    "chroma fetch --pending --wait",
    "chroma fetch 17 -o elsewhere.png",
)

_OWN = (
    Opt("ids", (), "Request ids or job numbers.", list[str], metavar="[ID]...", complete="ids"),
    Opt("pending", ("--pending",), "All jobs of this ledger that are not home yet.", bool, False),
    Opt("wait", ("--wait",), "Wait for those that are not finished.", bool, False),
    Opt("force", ("--force",), "Download again what is saved already.", bool, False),
)


@takes(
    _OWN,
    options.OUTPUT,
    options.NO_METADATA,
    options.PREVIEW,
    options.TIMEOUT,
    options.NO_LEDGER,
    options.GATEWAY,
)
def fetch(run: Run) -> None:
    """Save the pictures of finished jobs; print the paths."""
    jobs = _jobs(run, run.given["ids"], pending=run.given["pending"])
    if not jobs:
        return
    task = fetching.Task.of(run, len(jobs))
    run.prepare_to_ask(jobs)
    errors: list[ChromaError] = []
    home: list[Done] = []
    with run.showing_progress(), fetching.telling_what_is_left(run):
        for job, answer in several.each(jobs, task.bring_home):
            if isinstance(answer, ChromaError):
                error: ChromaError | None = answer
            else:
                home.append(answer)
                error = delivery.delivered(run, answer)
            if error is not None:
                error.record = error.record or replace(job, error=error.as_dict())
                delivery.tell_failure(run, error, alone=len(jobs) == 1)
                errors.append(error)
    for done in home:  # the spinner is gone by now
        delivery.show(run, done)
    several.conclude(errors, len(jobs))


def _jobs(run: Run, idents: Sequence[str], *, pending: bool) -> list[JobRow]:
    if bool(idents) == pending:
        raise UsageError(
            "Name the jobs to fetch, or use --pending for all that are not home yet; not both.",
            hint="See them with: chroma jobs --pending",
        )
    if pending:
        return fetching.pending(run)
    found = jobsel.named(run, idents).values()
    unique = {(job.number, job.request_id): job for job in found}
    return list(unique.values())
