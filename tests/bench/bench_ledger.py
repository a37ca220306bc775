"""A ledger of 100,000 jobs beside an empty one: the newest 20, a new job's rows, and what is pending.

"Empty" is a ledger with nothing but the same three pending jobs, or the same twenty: what is compared is the
weight of the rows that nobody asked for. Commands are whole processes; the rows of a new job are written
through the ledger itself.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_latency import picture
from gate import Gate
from measure import Figure, alternate, chroma, milliseconds, ratio, seconds_of, surroundings

from chroma_cli.clock import SystemClock
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.records import Intent, Timings

ROWS = 100_000
PENDING = 3
SHOWN = 20
ROUNDS = 15
_BODY = {
    "prompt": "a young knight in shining armor",
    "steps": 40,
    "samples": 1,
    "image_format": "png",
    "seed": 7,
}


def measure(folder: Path) -> list[Figure]:
    sizes = {"large": ROWS, "empty": SHOWN}
    with Gate.start(folder, picture()) as gate:
        ledgers, envs, places = {}, {}, {}
        for name, rows in sizes.items():
            places[name] = folder / name
            envs[name] = surroundings(places[name], CHROMA_BASE_URL=gate.base_url)
            envs[name]["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
            path = Path(envs[name]["CHROMA_STATE_DIR"]) / "jobs.sqlite3"
            ledgers[name] = Ledger.open(path, clock=SystemClock())
            fill(path, ledgers[name], rows, gate.base_url)
        jobs = _commands(lambda name: seconds_of(chroma("jobs", "--limit", str(SHOWN)), envs[name], folder))
        new = _commands(lambda name: _new_job(ledgers[name], gate.base_url, places[name]), rounds=60)
        fetch = _commands(lambda name: _fetch(ledgers[name], gate.base_url, places[name], envs[name]))
        for ledger in ledgers.values():
            ledger.close()
    return [
        Figure(
            f"{ROWS} rows / empty: {what}",
            ratio(taken, "large", "empty"),
            "x",
            1.3,
            milliseconds(taken, "large", "empty"),
        )
        for what, taken in (
            (f"jobs --limit {SHOWN}", jobs),
            ("a new job's rows", new),
            (f"fetch --pending, {PENDING} pending", fetch),
        )
    ]


def _commands(run: Callable[[str], float], rounds: int = ROUNDS) -> dict[str, list[float]]:
    return alternate({"large": lambda: run("large"), "empty": lambda: run("empty")}, rounds)


_numbers = itertools.count(1)


def _new_job(ledger: Ledger, base_url: str, place: Path) -> float:
    """Every row that ``generate`` writes for one job, and what it asks on the way."""
    began = time.perf_counter()
    number = next(_numbers)
    path = str(place / f"new-{number}.png")
    ledger.promised()
    job = ledger.begin(_intent(base_url, path))
    ledger.submitted(job.number, f"new-{number}", remaining_credits=9.5)
    ledger.learnt(base_url, 40, 1024 * 1024, 1)
    ledger.progress(job.number, "processing")
    ledger.completed(
        job.number, sources=["/pictures/x.png"], seed=7, cost=0.055, timings=Timings(0.1, 53.0, 53.1)
    )
    ledger.saved_file(job.number, 0, {"path": path, "format": "png", "sha256": "0" * 64})
    ledger.saved(job.number)
    return time.perf_counter() - began


def _fetch(ledger: Ledger, base_url: str, place: Path, env: dict[str, str]) -> float:
    """Three jobs that were submitted and left, then the command that brings them home."""
    for _ in range(PENDING):
        number = next(_numbers)
        job = ledger.begin(_intent(base_url, str(place / f"fetched-{number}.png")))
        ledger.submitted(job.number, f"done-{number}")
        ledger.release(job.number)
    ledger.close()
    took = seconds_of(chroma("fetch", "--pending", "--json", "-o", str(place / "{id}.{ext}")), env, place)
    assert not ledger.pending(base_url)
    return took


def _intent(base_url: str, path: str) -> Intent:
    return Intent(base_url, _BODY, 0.055, promised=(path,), seed=7, steps=40, pixels=1024 * 1024)


def fill(path: Path, ledger: Ledger, rows: int, base_url: str) -> None:
    """One job as the ledger itself writes it, then copies of its row over the past months."""
    place = path.parent.parent
    _new_job(ledger, base_url, place)
    ledger.close()
    with sqlite3.connect(path) as db:
        columns: dict[str, Any] = {column[1]: column[1] for column in db.execute("PRAGMA table_info(jobs)")}
        del columns["number"]
        age = "(?1 - n) * 60.0"
        for name in ("created_at", "submitted_at", "completed_at", "saved_at", "updated_at"):
            columns[name] = f"{name} - {age}"
        columns |= {"token": "'t' || n", "request_id": "'old-' || n", "seconds": "50.0 + n % 70 / 10.0"}
        columns["request"] = "json_set(request, '$.prompt', 'picture ' || n)"
        names, values = ", ".join(columns), ", ".join(columns.values())
        db.execute(
            f"WITH RECURSIVE count (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM count WHERE n < ?1) "
            f"INSERT INTO jobs ({names}) SELECT {values} FROM jobs, count WHERE number = 1",
            (rows,),
        )
    db.close()
