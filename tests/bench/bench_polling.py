"""The polling schedule on a clock that takes no time: polls a job, and how late "completed" is seen.

The steps are the program's own (``Lifecycle``), only the gateway and the clock are stand-ins. Beside it the
schedule of the provider's SDK: one poll at once, then one every second.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Figure

from chroma_cli.clock import Deadline
from chroma_cli.gateway.replies import Metrics, Status, Submitted
from chroma_cli.jobs.book import Book
from chroma_cli.jobs.lifecycle import Lifecycle
from chroma_cli.jobs.polling import Expectation
from chroma_cli.request import builder

JOBS = 1500
TYPICAL = 53.0
SPREAD = 0.1


@dataclass
class FakeClock:
    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)


@dataclass
class FakeGateway:
    """Answers at once; the job is done ``duration`` seconds after its submit."""

    clock: FakeClock
    duration: float
    queue: float
    base_url: str = "http://127.0.0.1:1"
    submitted: float = 0.0
    polls: int = 0
    seen: float = field(default=math.nan)

    def begin_submit(self, *_: Any, **__: Any) -> FakeGateway:
        return self

    def wait(self) -> Submitted:
        self.submitted = self.clock.now
        return Submitted("r1", "QUEUED", None, None, None)

    def status(self, *_: Any, **__: Any) -> Status:
        self.polls += 1
        age = self.clock.now - self.submitted
        if age >= self.duration:
            self.seen = age
            return Status("COMPLETED", "COMPLETED", None, Metrics(), "r1")
        state = "QUEUED" if age < self.queue else "PROCESSING"
        return Status(state, state, None, Metrics(), "r1")  # type: ignore[arg-type]


def one_job(duration: float, queue: float = 0.0, expectation: Expectation | None = None) -> tuple[int, float]:
    """Polls, and seconds from "completed" to the poll that saw it."""
    clock = FakeClock()
    gateway: Any = FakeGateway(clock, duration, queue)
    unused: Any = None
    book = Book(None, clock, lambda words: None)
    work = Lifecycle(
        gateway,
        book,
        unused,
        clock,
        lambda event: None,
        "bench",
        lambda ident: ident,
        expectation=expectation,
    )
    built = builder.build([builder.Level({"prompt": "x", "seed": 1})], {}, draw_seed=lambda: 1)
    deadline = Deadline(clock, 600)
    work.pictures = _NoPictures()  # type: ignore[assignment]
    work.wait(work.submit(work.intend(built.request, None), deadline), deadline)
    return gateway.polls, gateway.seen - duration


class _NoPictures:
    def prepare(self) -> None:
        pass

    def drop(self, *_: Any) -> list[str]:
        return []


def sdk_job(duration: float) -> tuple[int, float]:
    """The SDK's loop: poll, sleep 1.0 s."""
    last = math.ceil(duration)
    return last + 1, last - duration


def measure(folder: Path) -> list[Figure]:
    draw = random.Random(7)
    uniform = [draw.uniform(TYPICAL * (1 - SPREAD), TYPICAL * (1 + SPREAD)) for _ in range(JOBS)]
    # 10 % as two standard deviations; a wider one beside it, without a target
    normal = [draw.gauss(TYPICAL, TYPICAL * SPREAD / 2) for _ in range(JOBS)]
    wide = [draw.gauss(TYPICAL, TYPICAL * SPREAD) for _ in range(JOBS)]
    figures = []
    for name, durations, aim in (
        ("uniform", uniform, True),
        ("normal", normal, True),
        ("normal, sigma 10 %", wide, True),
    ):
        figures += _figures(f"53 s +- 10 % {name}", durations, one_job, aim=aim)
    learnt = Expectation.learnt(uniform[:5])
    figures += _figures(
        "the same after 5 jobs, uniform", uniform[5:], lambda d: one_job(d, 0.0, learnt), aim=True
    )
    queued = [(duration + wait, wait) for duration, wait in ((d, draw.uniform(0, 20)) for d in uniform)]
    waits = dict(queued)
    figures += _figures("behind a queue of 0 to 20 s", list(waits), lambda d: one_job(d, waits[d]), aim=False)
    return figures


def _figures(
    name: str, durations: list[float], job: Callable[[float], tuple[int, float]], *, aim: bool
) -> list[Figure]:
    ours = [job(duration) for duration in durations]
    theirs = [sdk_job(duration) for duration in durations]
    polls, delay = (statistics.fmean(column) for column in zip(*ours, strict=True))
    sdk_polls, sdk_delay = (statistics.fmean(column) for column in zip(*theirs, strict=True))
    return [
        Figure(
            f"{name}: polls a job", polls, "polls", 20 if aim else None, f"SDK, every 1.0 s: {sdk_polls:.1f}"
        ),
        Figure(f"{name}: completed to seen", delay, "s", 0.4 if aim else None, f"SDK: {sdk_delay:.3f} s"),
    ]
