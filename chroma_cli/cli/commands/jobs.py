"""``chroma jobs``: the ledger, and what a person can do about its entries."""

from __future__ import annotations

from chroma_cli import text
from chroma_cli.cli import jobsel, options, settling
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.cli.render import elsewhere_words, job_cells, job_object, unknown_words
from chroma_cli.errors import InvalidParameters, Problem, UsageError

_OWN = (
    Opt("pending", ("--pending",), "Only jobs that are not home yet.", bool, False),
    Opt("failed", ("--failed",), "Only jobs that failed or expired.", bool, False),
    Opt("limit", ("--limit",), "Show at most this many. Default: 20.", metavar="N"),
    Opt("prune", ("--prune",), "Remove settled jobs older than this.", metavar="DAYS"),
    Opt(
        "forget",
        ("--forget",),
        "Settle an unknown job as not worth asking about.",
        metavar="ID",
        complete="ids",
    ),
    Opt(
        "resubmit", ("--resubmit",), "Settle an unknown job and send it again.", metavar="ID", complete="ids"
    ),
)
_DEFAULT_LIMIT = 20


@takes(_OWN, options.YES, options.GATEWAY)
def jobs(run: Run) -> None:
    """Show the job ledger, newest first."""
    given = run.given
    actions = [name for name in ("prune", "forget", "resubmit") if given[name] is not None]
    views = [name for name in ("pending", "failed") if given[name]]
    if len(actions) + len(views) > 1:
        both = " and ".join(f"--{name}" for name in (*actions, *views))
        raise UsageError(f"{both} exclude each other.")
    if not actions:
        _show(run, views[0] if views else "all", _whole("limit", given["limit"], _DEFAULT_LIMIT))
    elif given["prune"] is not None:
        settling.prune(run, _whole("prune", given["prune"], 0))
    elif given["forget"] is not None:
        settling.forget(run, given["forget"])
    else:
        settling.resubmit(run, given["resubmit"])


def _show(run: Run, which: str, limit: int) -> None:
    ledger = run.required_ledger()
    now = run.clock.wall()
    rows = ledger.recent(limit, which)  # type: ignore[arg-type]  # one of its three words
    jobsel.tell_of_missing(run, ledger, nothing=which == "pending" and not rows)
    if run.output.json:
        for job in rows:
            run.output.result("", job_object(job))
        return
    if not rows:
        run.output.note(
            {"pending": "Nothing is pending.", "failed": "Nothing failed."}.get(which, "No jobs yet.")
        )
        return
    header = ("JOB", "STATE", "AGE", "COST", "FILE", "PROMPT")
    run.output.table([job_cells(job, now) for job in rows], header, cut=True)
    totals = ledger.totals()
    run.output.note(f"{totals.jobs} jobs, {text.money(totals.cost)} in all")
    if which == "pending":
        for job in rows:
            if job.state == "unknown" and job.number not in run.abandoned:
                run.output.note(unknown_words(job))
        others = [job.base_url for job in rows if job.base_url != run.gateway_name]
        for base_url in dict.fromkeys(others):
            run.output.note(elsewhere_words(base_url, others.count(base_url)))


def _whole(name: str, given: str | None, otherwise: int) -> int:
    if given is None:
        return otherwise
    if not (given.isascii() and given.isdigit() and len(given) < 10 and (int(given) > 0 or name == "prune")):
        least = "0" if name == "prune" else "1"
        raise InvalidParameters([Problem(f"--{name}", f"{given!r} is not a whole number from {least} up")])
    return int(given)
