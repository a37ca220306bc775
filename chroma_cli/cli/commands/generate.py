"""``chroma generate``: from a prompt to a picture in a folder."""

from __future__ import annotations

from chroma_cli.cli import options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.clock import Deadline
from chroma_cli.errors import ChromaError

EXAMPLES = (
    'chroma generate "a young knight in shining armor" -o knight.png',
    'chroma generate "a lighthouse at dawn" --preset photorealism --aspect 16:9 --seed 7',
    'chroma generate "a paper boat" --sweep cfg=5,7,9 --sweep sampler=euler,heun -o boats/',
)

_OWN = (
    Opt(
        "sweep",
        ("--sweep",),
        "Make every combination, like cfg=5,7,9 or seed=1..4; at most twice.",
        list[str],
        metavar="NAME=VALUES",
        panel=options.PICTURE_PANEL,
    ),
    Opt(
        "sync",
        ("--sync",),
        "One blocking v1 call; there is nothing to fetch if it breaks. Not with --resubmit-unknown.",
        bool,
        False,
    ),
    Opt("dry_run", ("--dry-run",), "Show the request; send nothing, no key needed.", bool, False),
)


@takes(
    options.PROMPT,
    options.picture(),
    options.FROM,
    options.OUTPUT,
    options.NO_METADATA,
    options.OPEN,
    options.PREVIEW,
    _OWN,
    options.TIMEOUT,
    options.YES,
    options.SPENDING,
    options.GATEWAY,
)
def generate(run: Run) -> None:
    """Make a picture: submit, wait, save, print the path."""
    given = run.given
    if given["sweep"]:
        from chroma_cli.cli import sweeping

        sweeping.generate(run)
        return
    order = run.order()
    if given["dry_run"]:
        run.output.result_json(run.call_of(order, sync=given["sync"]))
        return
    from chroma_cli.cli import delivery

    run.consent(order.request)
    work = run.lifecycle  # wants the key, before any place is touched
    planned = run.clock.wall()
    destination = run.place(order)
    limits = run.limits()
    deadline = Deadline(run.clock, order.timeout)
    try:
        with run.showing_progress():
            if given["sync"]:
                done = work.generate_sync(order.request, destination, deadline, limits=limits, since=planned)
            else:
                again = given["resubmit_unknown"]
                done = work.generate(
                    order.request,
                    destination,
                    deadline,
                    limits=limits,
                    since=planned,
                    resubmit_unknown=again,
                )
    except ChromaError as error:
        delivery.tell_failure(run, error)
        raise
    delivery.show(run, done)
    delivery.deliver(run, done)
