"""``chroma submit``: send a job and leave; its picture is fetched later."""

from __future__ import annotations

from typing import Final

from chroma_cli.cli import delivery, options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.clock import Deadline
from chroma_cli.errors import UsageError

#: A submit that is neither taken nor refused for so long (seconds) is in trouble.
PATIENCE: Final = 60.0

EXAMPLES = (
    'id=$(chroma submit "a lighthouse at dawn" -o lighthouse.png)',
    'chroma fetch "$id" --wait',
)

_OWN = (Opt("sync", ("--sync",), "Not here: it would wait.", bool, False, hidden=True),)


@takes(
    options.PROMPT,
    options.picture(),
    options.OUTPUT,
    options.NO_METADATA,
    _OWN,
    options.YES,
    options.SPENDING,
    options.GATEWAY,
)
def submit(run: Run) -> None:
    """Submit a job and print its request id; fetch brings the picture."""
    if run.given["sync"]:
        raise UsageError("--sync: submit does not wait for the picture.", hint="Use: chroma generate --sync")
    if run.given["output"] == "-":
        raise UsageError(
            "--output: - cannot be remembered for later.", hint="Give it to fetch: chroma fetch ID -o -"
        )
    from chroma_cli.jobs.records import LastLook

    run.output.require_stdout("print the request id")
    order = run.order()
    run.consent(order.request)
    work = run.lifecycle
    again, planned = run.given["resubmit_unknown"], run.clock.wall()
    destination = run.place(order)
    look = LastLook(since=planned, resubmit_unknown=again)
    deadline = Deadline(run.clock, PATIENCE)
    job = work.intend(order.request, destination, limits=run.limits(), look=look, deadline=deadline)
    with delivery.submitting(run):
        job = work.submit(job, deadline, resubmit_unknown=again)
    run.book.release(job)
    delivery.tell_submitted(run, job)
    command = run.fetch_command(str(job.request_id), "--wait")
    run.output.note(f"Bring it home within the hour with: {command}")
