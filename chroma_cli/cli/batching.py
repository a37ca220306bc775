"""What ``batch`` asks for and shows: its options as values, one line an image, the summary, how it went."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.cli import render, text
from chroma_cli.cli.watch import Watch
from chroma_cli.errors import (
    Charged,
    ChromaError,
    ExitCode,
    Interrupted,
    InvalidParameters,
    OutputError,
    Problem,
    SomeFailed,
    SomeUnfinished,
    Terminated,
    TerminationRequest,
    UsageError,
)
from chroma_cli.jobs.batch import Batch, Ended, Options, Work
from chroma_cli.jobs.records import JobRow
from chroma_cli.jobs.summary import Line, Outcome, Report
from chroma_cli.request import values

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run
    from chroma_cli.cli.output import Board
    from chroma_cli.images.destination import Destination
    from chroma_cli.jobs.lifecycle import Lifecycle
    from chroma_cli.jobs.lock import Lock
    from chroma_cli.jobs.manifest import Image
    from chroma_cli.jobs.planning import Plan
    from chroma_cli.jobs.upkeep import StatCache

_MOST_JOBS: Final = 1000
_MOST_SHARDS: Final = 100_000
_DEFAULT_JOBS: Final = 8
#: The lock is written at most so often (seconds), and this many times rarer than it takes.
_SAVE_EVERY: Final = 1.0
_SAVE_SHARE: Final = 20.0
_GLANCE: Final = 0.2

_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(?:/(s|sec|min|m|h|hour))?")
_A_MINUTE: Final = {None: 1.0, "s": 60.0, "sec": 60.0, "min": 1.0, "m": 1.0, "h": 1 / 60, "hour": 1 / 60}


RUN_AGAIN: Final = (
    "Run the same command again: what is made is not made again, and jobs in flight are taken up."
)


# --- options ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The options that are values. ``shard`` is (K, N); ``finishes``: the first Ctrl-C waits for what is in
    flight."""

    jobs: int
    per_minute: float | None
    budget: float | None
    retry_failed: int
    shard: tuple[int, int] | None
    timeout: float
    finishes: bool = True


def read_options(run: Run) -> Asked:
    """Raises :class:`InvalidParameters` with every problem, among them options that exclude each other."""
    given, problems = run.given, []

    def whole(name: str, otherwise: int, low: int, high: int) -> int:
        words = given[name]
        if words is None:
            return otherwise
        if not (words.isascii() and words.isdigit() and len(words) < 10 and low <= int(words) <= high):
            flag = "--" + name.replace("_", "-")
            problems.append(Problem(flag, f"{values.show(words)} is not a whole number from {low} to {high}"))
            return otherwise
        return int(words)

    jobs = whole("jobs", _DEFAULT_JOBS, 1, _MOST_JOBS)
    retry_failed = whole("retry_failed", 0, 0, 100)
    rate = _rate(given["rate"], problems)
    budget = _amount(given["budget"], problems)
    shard = _shard(given["shard"], problems)
    timeout = 0.0
    try:
        timeout = run.timeout()
    except UsageError as error:
        where, _, what = error.message.partition(": ")
        problems.append(Problem(where, what))
    problems += _conflicts(given)
    if problems:
        raise InvalidParameters(problems)
    return Asked(jobs, rate, budget, retry_failed, shard, timeout)


def _rate(words: str | None, problems: list[Problem]) -> float | None:
    if words is None:
        return None
    found = _RATE.fullmatch(words.strip())
    if found is None or not float(found[1]) > 0:
        problems.append(Problem("--rate", f"{values.show(words)} is not a number of submits like 30/min"))
        return None
    return float(found[1]) * _A_MINUTE[found[2]]


def _amount(words: str | None, problems: list[Problem]) -> float | None:
    if words is None:
        return None
    plain = words.strip().removeprefix("$")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", plain):
        problems.append(Problem("--budget", f"{values.show(words)} is not an amount like 5.00"))
        return None
    return float(plain)


def _shard(words: str | None, problems: list[Problem]) -> tuple[int, int] | None:
    if words is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", words.strip())
    share = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= share[0] <= share[1] <= _MOST_SHARDS:
        problems.append(Problem("--shard", f"{values.show(words)} is no share like 2/8"))
        return None
    return share


def _conflicts(given: Any) -> list[Problem]:
    found = []
    both = [name for name in ("check", "dry_run", "prune") if given[name]]
    if len(both) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in both)
        found.append(Problem("--" + both[0].replace("_", "-"), f"{flags} exclude each other"))
    if given["deep"] and not given["check"]:
        found.append(Problem("--deep", "stands only beside --check"))
    if given["fail_fast"] and given["keep_going"]:
        found.append(Problem("--fail-fast", "--fail-fast and --keep-going exclude each other"))
    if given["manifest"] == "-":
        found += [
            Problem(f"--{name}", "a manifest from stdin has no lock that says what was made")
            for name in ("check", "prune")
            if given[name]
        ]
    return found


class BatchWatch(Watch):
    """As for one job, but a 429 closes the gate for all, and states are not told one by one."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.output, self._seen)
        self.batch: Batch | None = None
        self.credits: float | None = None

    def _seen(self, value: float) -> None:
        self.credits = value

    def __call__(self, event: object) -> None:
        from chroma_cli.gateway import events
        from chroma_cli.jobs import lifecycle

        if isinstance(event, events.Throttled):
            if self.batch is not None:
                self.batch.gate.throttled(event.seconds)
        elif not isinstance(event, lifecycle.StateChanged | lifecycle.Waiting | events.Retrying):
            super().__call__(event)


# --- the run ---------------------------------------------------------------------------------------------


@dataclass
class Making:
    """Making the images of a plan, and keeping the lock up to date meanwhile."""

    run: Run
    asked: Asked
    images: dict[str, Image]
    folder: Path
    lock: Lock | None
    cache: StatCache
    total: int
    lines: list[Line] = field(default_factory=list)
    errors: list[ChromaError] = field(default_factory=list)
    watch: BatchWatch = field(init=False)
    _saved_at: float = 0.0
    _save_took: float = 0.0

    def __post_init__(self) -> None:
        self.watch = BatchWatch(self.run)

    def make(self, plan: Plan) -> Batch:
        """Everything from the first submit to the last picture; the caller says how it went."""
        run = self.run
        watch = self.watch
        run.watch = watch  # before the client, which talks to it
        assert run.client
        batch = watch.batch = self._batch(plan.works)
        started = run.clock.monotonic()
        batch.start()
        try:
            with run.output.board() as board:
                while not batch.finished:
                    try:
                        ended = batch.next(_GLANCE)
                        if ended is not None:
                            self._take(ended)
                        self._show(board, batch, started)
                        self.save(lazily=True)
                    except TerminationRequest:
                        raise
                    except KeyboardInterrupt:
                        if batch.stopping or not self.asked.finishes:
                            raise
                        batch.stop()
                        run.output.warning(
                            f"Stopping: {batch.counts.running} jobs in flight are finished first, no other is"
                            " submitted. Ctrl-C again: leave at once."
                        )
        except KeyboardInterrupt as stop:
            batch.close()
            raise self._left(stop, batch) from None
        finally:
            batch.close()
            self.save()
            if watch.credits is not None:
                run.book.note_credits(watch.credits, run.gateway_name)
        return batch

    def _batch(self, works: Sequence[Work]) -> Batch:
        from chroma_cli.jobs.pacing import Costs, Durations, work_of

        run, asked, given = self.run, self.asked, self.run.given
        book, gateway = run.book, run.gateway_name
        otherwise = run.lifecycle

        options = Options(
            jobs=asked.jobs,
            timeout=asked.timeout,
            per_minute=asked.per_minute,
            budget=asked.budget,
            limits=run.limits(),
            fail_fast=given["fail_fast"],
            retry_failed=asked.retry_failed,
            resubmit_unknown=given["resubmit_unknown"],
        )
        return Batch(
            works,
            options,
            lifecycle=self._lifecycle,
            durations=Durations(otherwise.expected),
            costs=Costs(lambda request: book.mean_cost(gateway, *work_of(request))),
            clock=run.clock,
            resubmit=self._resubmit,
            check_place=self._check_place,
        )

    def _lifecycle(self, resumed: bool) -> Lifecycle:
        run = self.run
        life = run.lifecycle
        life.attempts = 1
        life.pictures.resumed = resumed
        life.pictures.promised = lambda job: _Promised(run, job)
        return life

    def _resubmit(self, old: JobRow, intent: Any, limits: Any) -> JobRow:
        assert self.run.ledger is not None
        return self.run.ledger.resubmit(old.number, intent, limits=limits)

    def _check_place(self, work: Work, place: Destination) -> Destination:
        """Only what is still a batch's own is replaced: somebody may have changed it meanwhile."""
        from dataclasses import replace

        from chroma_cli.jobs.upkeep import inspect

        if not place.overwrite or self.run.given["overwrite"]:
            return place
        state = inspect(self.images[work.key], self.lock, deep=False, stat_cache=self.cache)
        return replace(place, overwrite=state not in ("edited", "foreign"))

    # --- one image ---------------------------------------------------------------------------------------

    def _take(self, ended: Ended) -> None:
        """Note in the lock, tell, and keep for the summary."""
        run, image, job = self.run, self.images[ended.work.key], ended.job
        error = ended.error
        made = job is not None and job.state == "saved"
        if made and error is None and job is not None:
            if self.lock is not None:
                from chroma_cli.jobs.planning import record

                record(self.lock, image, job)
            for file in job.files.values():
                self.cache.remember(Path(str(file["path"])), str(file["sha256"]))
        if job is not None and run.output.json:
            run.output.result("", render.job_object(job))
        elif made and job is not None:
            for file in job.files.values():
                run.output.result(str(file["path"]))
        self._note(image, ended)

    def _note(self, image: Image, ended: Ended) -> None:
        job, error = ended.job, ended.error
        seconds = job.timings.whole() if job is not None else None
        if error is not None:
            self.fail(image, error, cost=ended.cost, seconds=seconds)
            return
        assert job is not None
        files = tuple(os.path.relpath(str(file["path"]), self.folder) for file in job.files.values())
        self.lines.append(Line(image.key, "made", ended.cost, seconds, files))
        self.run.output.step(f"{self._place()} {image.key}: {render.saved_words(job)}")

    def fail(
        self, image: Image, error: ChromaError, *, cost: float = 0.0, seconds: float | None = None
    ) -> None:
        """An image that was not made, told at once and kept for the summary."""
        outcome: Outcome = "unfinished" if error.exit_code is ExitCode.NOT_FINISHED else "failed"
        self.errors.append(error)
        self.lines.append(Line(image.key, outcome, cost, seconds, (), error.message, error.hint, error.type))
        words = error.message if error.message.endswith((".", "!", "?")) else f"{error.message}."
        hint = f" {error.hint}" if error.hint else ""
        self.run.output.trouble(f"{self._place()} {image.key}: {words}{hint}")

    def _place(self) -> str:
        return f"[{len(self.lines)}/{self.total}]"

    def _show(self, board: Board, batch: Batch, started: float) -> None:
        counts = batch.counts
        done, failed = len(self.lines), len(self.errors)
        ended = done - failed
        left = counts.queued + counts.running
        elapsed = self.run.clock.monotonic() - started
        eta = elapsed / ended * left if ended and left else None
        budget = self.asked.budget
        money = f"{text.money(counts.spent)} spent"
        if budget is not None:
            money += f" of {text.money(budget)}"
        if self.watch.credits is not None:
            money += f", {text.money(self.watch.credits)} left"
        words = f"{counts.running} running · {counts.queued} queued · {failed} failed · {money}"
        if batch.gate.wait > 1:
            words += f" · rate limited, {text.seconds(batch.gate.wait)}"
        if eta is not None:
            words += f" · {text.seconds(eta)} to go"
        board.update(done, self.total, words)

    def save(self, *, lazily: bool = False) -> None:
        """Write the lock; while the run goes on only now and then, since the ledger knows it all, too."""
        if self.lock is None:
            return
        now = self.run.clock.monotonic()
        if lazily and now - self._saved_at < max(_SAVE_EVERY, _SAVE_SHARE * self._save_took):
            return
        self.lock.save()
        self.cache.save()
        self._saved_at = self.run.clock.monotonic()
        self._save_took = self._saved_at - now

    def _left(self, stop: KeyboardInterrupt, batch: Batch) -> ChromaError:
        kind = Terminated if isinstance(stop, TerminationRequest) else Interrupted
        running = batch.counts.running
        jobs = "no job was in flight" if not running else f"{running} jobs go on at the gateway"
        return kind(
            f"{kind.__name__}: {jobs}. Each that completes is charged; the job ledger knows them all.",
            hint="Run the same command again: it takes up where this one stopped, without paying again.",
            charged=Charged.UNKNOWN if running else Charged.NO,
        )


class _Promised:
    """The places of other jobs, read only when somebody asks."""

    def __init__(self, run: Run, job: JobRow) -> None:
        self._run = run
        self._job = job

    def __contains__(self, path: object) -> bool:
        return path in self._run.book.promised(self._job)


# --- how it went -----------------------------------------------------------------------------------------


def conclude(making: Making, batch: Batch | None, left: Sequence[Work], total: int) -> None:
    """End the command: nothing when all is made, else the error that says it all."""
    errors = making.errors
    if batch is not None and batch.halted is not None:
        halted = batch.halted
        if left:
            halted.message += f" {len(left)} of {total} images were not begun."
            halted.args = (halted.message,)
        raise halted
    if batch is not None and batch.stopping and not making.run.given["fail_fast"]:
        begun = f"{len(left)} of {total} images were not begun" if left else "every image was begun"
        raise Interrupted(
            f"Interrupted: what was in flight is finished; {begun}.",
            hint=RUN_AGAIN,
        )
    if not errors:
        return
    if total == 1:
        raise errors[0]
    failed = [error for error in errors if error.exit_code is not ExitCode.NOT_FINISHED]
    if not failed and not left:
        raise SomeUnfinished(f"{len(errors)} of {total} images are not finished yet.", hint=RUN_AGAIN)
    begun = f", and {len(left)} were not begun" if left else ""
    charged = Charged.UNKNOWN if any(one.charged is Charged.UNKNOWN for one in errors) else Charged.NO
    raise SomeFailed(
        f"{len(errors)} of {total} images were not made{begun}.",
        hint=f"The reasons are above. {RUN_AGAIN}",
        charged=charged,
    )


@contextlib.contextmanager
def reports(run: Run) -> Iterator[list[Report]]:
    """The files that a summary goes to, tried before anything is spent; written at the end, whatever the end.

    The caller puts the report into the list.
    """
    targets = [(Path(run.given[name]), name) for name in ("summary", "junit") if run.given[name]]
    for path, name in targets:
        try:
            with path.open("ab"):
                pass
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no usable name"
            raise OutputError(f"--{name}: {path} cannot be written: {why}.") from error
    found: list[Report] = []
    try:
        yield found
    finally:
        for report in found:
            _write_reports(run, report, targets)


def _write_reports(run: Run, report: Report, targets: Sequence[tuple[Path, str]]) -> None:
    from chroma_cli.jobs import summary

    money = f"{text.money(report.cost)} spent"
    page = summary.markdown(report, money)
    step = run.settings.step_summary
    everything = [
        (path, "wb", page if name == "summary" else summary.junit(report)) for path, name in targets
    ]
    if step is not None and not (run.given["summary"] and Path(run.given["summary"]) == step):
        everything.append((step, "ab", page + "\n"))
    for path, mode, words in everything:
        try:
            with path.open(mode) as file:
                file.write(words.encode("utf-8", "replace"))
        except OSError as error:
            run.output.warning(f"The summary could not be written to {path}: {error.strerror}.")
