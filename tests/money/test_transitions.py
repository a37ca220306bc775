"""Every state of a job and every event of the ledger: what the row is afterwards, in ``transitions.json``.

The net for a ledger with another inside: of this file only the two tables that name its methods change then.
A cell holds what the event changed, "-" where it changed nothing, or the error that it raised.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chroma_cli.clock import SystemClock
from chroma_cli.errors import ChromaError
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.owner import Owner
from chroma_cli.jobs.records import Intent, Timings

HERE = Path(__file__).with_name("transitions.json")
URL = "http://127.0.0.1:9"
ERROR = {"type": "of_the_event", "message": "m", "hint": None, "exit_code": 9, "charged": "unknown"}
EARLIER = {**ERROR, "type": "of_the_state"}
FILE = {"path": "/x/one.png", "sha256": "0" * 64, "bytes": 1, "format": "png", "width": 1, "height": 1}
#: A process of this machine that runs, and one that cannot, for it was of another boot.
ME = Owner.current()
GONE = Owner(ME.host, "00000000-dead-boot", ME.pid, "1")

Step = Callable[[Ledger, int], Any]


def intent(mode: str = "async", place: str = "/x/one.png") -> Intent:
    request = {"prompt": "a fox", "seed": 7, "samples": 1}
    return Intent(URL, request, 0.055, mode=mode, promised=(place,), seed=7, steps=40, pixels=1024 * 1024)  # type: ignore[arg-type]


def complete(ledger: Ledger, number: int) -> Any:
    return ledger.completed(
        number, sources=["http://x/1.png"], cost=0.055, seed=7, timings=Timings(total=53.0)
    )


SUBMITTED: Step = lambda ledger, number: ledger.submitted(number, "id-1")  # noqa: E731
UNKNOWN: Step = lambda ledger, number: ledger.unknown(number, EARLIER)  # noqa: E731

#: How a row comes into each state, after it was begun.
STATES: dict[str, tuple[Step, ...]] = {
    "submitting": (),
    "queued": (SUBMITTED,),
    "processing": (SUBMITTED, lambda ledger, number: ledger.progress(number, "processing")),
    "completed": (SUBMITTED, complete),
    "completed, one file": (SUBMITTED, complete, lambda ledger, number: ledger.saved_file(number, 0, FILE)),
    "saved": (SUBMITTED, complete, lambda ledger, number: ledger.saved_file(number, 0, FILE, settle=True)),
    "failed": (SUBMITTED, lambda ledger, number: ledger.failed(number, EARLIER)),
    "failed, unsent": (lambda ledger, number: ledger.unsent(number, EARLIER),),
    "failed, paid": (SUBMITTED, complete, lambda ledger, number: ledger.paid_in_vain(number, EARLIER)),
    "expired": (SUBMITTED, lambda ledger, number: ledger.expired(number, EARLIER)),
    "expired, complete": (SUBMITTED, complete, lambda ledger, number: ledger.expired(number, EARLIER)),
    "unknown": (UNKNOWN,),
    "forgotten": (UNKNOWN, lambda ledger, number: ledger.settle_forgotten(number)),
    "forgotten, with id": (SUBMITTED, lambda ledger, number: ledger.settle_forgotten(number)),
    "sent again": (UNKNOWN, lambda ledger, number: ledger.resubmit(number, intent())),
}
#: What can happen to it. "here" is this process, which has the row unless the column says otherwise.
EVENTS: dict[str, Step] = {
    "submitted": lambda ledger, number: ledger.submitted(number, "id-2", remaining_credits=9.0),
    "progress queued": lambda ledger, number: ledger.progress(number, "queued"),
    "progress processing": lambda ledger, number: ledger.progress(number, "processing"),
    "completed": lambda ledger, number: ledger.completed(
        number, sources=["http://x/2.png"], cost=0.11, seed=8, remaining_credits=8.0
    ),
    "completed, nothing known": lambda ledger, number: ledger.completed(number),
    "file saved": lambda ledger, number: ledger.saved_file(number, 0, {**FILE, "bytes": 2}),
    "last file saved": lambda ledger, number: ledger.saved_file(number, 0, {**FILE, "bytes": 2}, settle=True),
    "saved": lambda ledger, number: ledger.saved(number),
    "failed": lambda ledger, number: ledger.failed(number, ERROR),
    "paid in vain": lambda ledger, number: ledger.paid_in_vain(number, ERROR),
    "expired": lambda ledger, number: ledger.expired(number, ERROR),
    "unknown": lambda ledger, number: ledger.unknown(number, ERROR),
    "unsent": lambda ledger, number: ledger.unsent(number, ERROR),
    "error noted": lambda ledger, number: ledger.note_error(number, ERROR),
    "forgotten": lambda ledger, number: ledger.settle_forgotten(number),
    "sent again": lambda ledger, number: ledger.resubmit(number, intent(place="/x/two.png")),
    "planned elsewhere": lambda ledger, number: ledger.plan_again(number, {"x": 1}, ["/x/three.png"]),
    "adopted": lambda ledger, number: ledger.adopt("id-1", URL),
    "claimed": lambda ledger, number: ledger.claim(number),
    "released": lambda ledger, number: ledger.release(number),
    "swept": lambda ledger, number: ledger.sweep(),
    "same place begun": lambda ledger, number: ledger.begin(intent()),
}


def shown(ledger: Ledger, number: int) -> dict[str, Any]:
    row = ledger.get(number)
    assert row is not None
    return {
        "state": row.state,
        "charged": str(row.charged),
        "cost": row.cost,
        "id": row.request_id,
        "seed": row.seed,
        "remaining": row.remaining_credits,
        "sources": list(row.sources),
        "files": {place: file["bytes"] for place, file in row.files.items()},
        "error": (row.error or {}).get("type"),
        "owner": "-" if row.owner is None else "here" if row.owner == ME else "gone",
        "promised": sorted(ledger.promised()),
        "superseded": row.superseded_by is not None,
    }


@pytest.mark.parametrize("owner", ["here", "gone"])
@pytest.mark.parametrize("mode", ["async", "sync"])
def test_every_event_in_every_state(tmp_path: Path, mode: str, owner: str, recorded: Any) -> None:
    """With rows of this process, and of one that is gone before the event."""
    cells = {}
    for state, steps in STATES.items():
        begun = tmp_path / "begun.sqlite3"
        with Ledger.open(begun, clock=SystemClock(), owner=ME if owner == "here" else GONE) as ledger:
            number = ledger.begin(intent(mode)).number
            for step in steps:
                step(ledger, number)
        for event, happen in EVENTS.items():
            path = Path(shutil.copyfile(begun, tmp_path / "ledger.sqlite3"))
            with Ledger.open(path, clock=SystemClock(), owner=ME) as ledger:
                before = shown(ledger, number)
                cells[f"{state} | {event}"] = changed(ledger, number, before, happen)
        begun.unlink()
    recorded(cells, HERE.with_name(f"transitions-{mode}-{owner}.json"))


def changed(ledger: Ledger, number: int, before: dict[str, Any], happen: Step) -> Any:
    try:
        happen(ledger, number)
        raised = {}
    except ChromaError as error:
        raised = {"raises": type(error).type}
    after = shown(ledger, number)
    return {**{name: after[name] for name in after if after[name] != before[name]}, **raised} or "-"
