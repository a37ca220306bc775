"""``chroma status``: how jobs are."""

from __future__ import annotations

from dataclasses import replace

from chroma_cli.cli import jobsel, options, render, several
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.clock import Deadline
from chroma_cli.errors import ChromaError, NotFinished, SomeUnfinished
from chroma_cli.gateway.client import DEFAULT_SECONDS
from chroma_cli.jobs.records import JobRow

_IDS = (Opt("ids", (), "Request ids or job numbers.", list[str], metavar="ID...", complete="ids"),)


@takes(_IDS, options.NO_LEDGER, options.GATEWAY)
def status(run: Run) -> None:
    """Show how jobs are: one line each, ID, STATE, detail."""
    jobs = jobsel.named(run, run.given["ids"])
    idents = list(jobs)
    run.prepare_to_ask(jobs.values())
    errors: list[ChromaError] = []
    for ident, answer in several.each(idents, lambda ident: _ask(run, jobs[ident])):
        job, error = _known(jobs[ident], answer)
        detail = render.status_detail(job, error, run.clock.wall())
        run.output.result(
            f"{job.request_id or ident}  {job.status}  {detail}".rstrip(), render.job_object(job)
        )
        if error is not None:
            errors.append(error)
    try:
        several.conclude(errors, len(idents))
    except (NotFinished, SomeUnfinished) as unfinished:
        if run.output.json:
            raise
        run.exit_code = unfinished.exit_code  # the lines on stdout have said it


def _ask(run: Run, job: JobRow) -> JobRow:
    """The job as the ledger has it when nothing can change any more, else as the gateway says now.

    A job whose addresses are recorded is complete, and can be had for longer than the gateway knows of it.
    """
    if job.state in ("saved", "failed", "expired") or (job.state == "completed" and job.sources):
        return job
    jobsel.check_reachable(run, job)
    return run.lifecycle.ask(job, Deadline(run.clock, DEFAULT_SECONDS))


def _known(asked: JobRow, answer: JobRow | ChromaError) -> tuple[JobRow, ChromaError | None]:
    """What is known of the job now, and what its exit code comes from."""
    if isinstance(answer, ChromaError):
        job = answer.record if isinstance(answer.record, JobRow) else replace(asked, error=answer.as_dict())
        return job, answer
    if answer.state in ("failed", "expired"):
        return answer, render.recorded_error(answer)
    if answer.state in ("queued", "processing"):
        return answer, NotFinished(
            "Not finished yet; the job goes on.",
            request_id=answer.request_id,
            job=answer.number or None,
            charged=answer.charged,
        )
    return answer, None
