"""What a person can do about entries of the ledger: forget, send again, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chroma_cli import text
from chroma_cli.cli import delivery, jobsel, render
from chroma_cli.clock import Deadline
from chroma_cli.errors import Declined, NotFound, UsageError
from chroma_cli.images.destination import Destination
from chroma_cli.jobs.records import JobRow, LastLook
from chroma_cli.request.builder import ImageRequest

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run

#: As for ``submit``, in seconds.
_PATIENCE = 60.0


def prune(run: Run, days: int) -> None:
    """Remove old settled jobs; never unsettled ones, nor this month's costs."""
    removed = run.required_ledger().prune(days)
    run.output.result(f"{removed} jobs removed", {"removed": removed})


def forget(run: Run, ident: str) -> None:
    """Settle a job as not worth asking about any more."""
    jobsel.tell_of(run, [ident])
    ledger = run.required_ledger()
    job = _known(run, ident)
    if job.settled:
        raise UsageError(f"Job {job.number} is settled already: it is {job.state}.", job=job.number)
    if not ledger.claim(job.number):
        raise UsageError(f"Job {job.number} is being worked on by another chroma process.", job=job.number)
    job = ledger.settle_forgotten(job.number)
    run.output.result(f"job {job.number} forgotten", render.job_object(job))


def resubmit(run: Run, ident: str) -> None:
    """Settle a job whose outcome nobody knows, and send the same request again as a new job."""
    run.output.require_stdout("print the request id")
    jobsel.tell_of(run, [ident])
    ledger = run.required_ledger()
    old = _known(run, ident)
    if old.base_url != run.gateway_name:
        jobsel.check_reachable(run, old)
    if run.found_saved(ledger, old):
        old = _known(run, ident)
    if not old.request:
        raise UsageError(f"Job {old.number} cannot be sent again: its request is not known.", job=old.number)
    ledger.check_resubmittable(old)
    request, planned = ImageRequest.from_payload(old.request), run.clock.wall()
    _ask(run, old, request)
    work = run.lifecycle
    destination = Destination.from_dict(old.destination) if old.destination else None
    if destination is not None:
        run.check_place(destination, request)
    job = work.intend(
        request,
        destination,
        limits=run.limits(),
        look=LastLook(since=planned),
        instead_of=old,
    )
    with delivery.submitting(run):
        job = work.submit(job, Deadline(run.clock, _PATIENCE))
    run.book.release(job)
    delivery.tell_submitted(run, job)
    run.output.note(f"Bring it home with: {run.fetch_command(str(job.request_id), '--wait')}")


def _ask(run: Run, old: JobRow, request: ImageRequest) -> None:
    """Sending again may pay twice, so a person has to want it."""
    if run.given["yes"]:
        return
    what = f"job {old.number} again, for about {text.money(request.expected_cost)}"
    if not run.output.can_ask:
        raise UsageError(f"Sending {what}, needs --yes: the first one may have been charged as well.")
    if not run.output.confirm(f"Send {what}? The first one may have been charged as well."):
        raise Declined("Nothing was sent.")


def _known(run: Run, ident: str) -> JobRow:
    [ident] = jobsel.check([ident])
    job = run.required_ledger().get(ident)
    if job is None:
        raise NotFound(f"There is no job {ident} in the ledger.", hint="See: chroma jobs")
    return job
