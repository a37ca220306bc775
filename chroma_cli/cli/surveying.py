"""The three things that ``batch`` does with a manifest: check it, say what it would cost, make its images."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chroma_cli import text
from chroma_cli.cli import reporting
from chroma_cli.errors import ChromaError, OutputError, UsageError
from chroma_cli.jobs import manifest as manifests
from chroma_cli.jobs import planning, upkeep
from chroma_cli.jobs.lock import Lock
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.jobs.planning import Plan, Standing, Work
from chroma_cli.jobs.records import RESULT_SECONDS, JobRow
from chroma_cli.jobs.summary import Line, Report
from chroma_cli.jobs.upkeep import StatCache

if TYPE_CHECKING:
    from chroma_cli.cli.batching import Making
    from chroma_cli.cli.batchopts import Asked
    from chroma_cli.cli.context import Run
    from chroma_cli.jobs.budget import Costs

#: More leftovers are not named one by one.
_MOST_NAMED: Final = 10

_WORDS: Final = {
    "missing": "missing",
    "changed-request": "made from another request",
    "edited": "changed by hand",
    "foreign": "not made by this batch",
    "left-over": "no longer in the manifest",
}
_UNKNOWN: Final = "neither the job ledger nor a recipe inside it says that this batch made it"


class OutOfDate(ChromaError):
    """``--check`` found something to be done."""

    type = "out_of_date"


class NotRemoved(ChromaError):
    """``--prune`` has kept files whose removal wants a yes."""

    type = "not_removed"


@dataclass
class Source:
    """A manifest with what is known of it; ``images`` are those of this share."""

    manifest: Manifest
    images: tuple[Image, ...]
    lock: Lock | None
    cache: StatCache
    shard: tuple[int, int] | None
    title: str | None = None

    @classmethod
    def load(cls, run: Run, shard: tuple[int, int] | None) -> Source:
        """Read and check the manifest; nothing is written."""
        given = run.given
        if given["manifest"] is None:
            raise UsageError("MANIFEST: name the file that lists the images, or - for stdin.")
        run.check_config()
        from_stdin = given["manifest"] == "-"
        manifest = manifests.load(
            None if from_stdin else Path(given["manifest"]),
            sys.stdin.buffer if from_stdin and sys.stdin is not None else None,
            format=given["manifest_format"],
            presets=run.presets,
            allow_outside=bool(given["allow_outside"]),
            cwd=Path.cwd(),
            now=run.clock.wall(),
        )
        for words in manifest.warnings:
            run.output.warning(words)
        if manifest.path is None and (given["check"] or given["prune"]):
            raise UsageError("A manifest that is no regular file has no lock: --check and --prune need one.")
        images = manifest.images if shard is None else manifests.shard(manifest.images, *shard)
        return cls(manifest, images, None, StatCache.load(run.settings.known_state_dir, manifest), shard)

    def read_lock(self) -> None:
        """The lock as it is now; for a run that makes images, after others are kept out."""
        if self.manifest.path is not None:
            self.lock = Lock.load(self.manifest, self.shard)

    @property
    def name(self) -> str:
        name = self.title or ("stdin" if self.manifest.path is None else self.manifest.path.name)
        return name if self.shard is None else f"{name}, share {self.shard[0]} of {self.shard[1]}"

    def leftovers(self) -> tuple[str, ...]:
        return (
            () if self.lock is None else tuple(one.name for one in upkeep.leftovers(self.lock, self.manifest))
        )


# --- check and dry run -----------------------------------------------------------------------------------


def check(run: Run, source: Source) -> None:
    """Exit 1 when something is missing, changed or left over; spends nothing and writes no lock."""
    started = run.clock.monotonic()
    source.read_lock()
    standings = planning.survey(source.images, source.lock, source.cache, deep=bool(run.given["deep"]))
    standings = planning.recognise_by_recipe(standings, source.lock, sandbox=_practises(run))
    source.cache.save()
    found = [(one.image.key, str(one.state)) for one in standings if one.state != "unchanged"]
    found += [(name, "left-over") for name in source.leftovers()]
    with reporting.reports(run) as reports:
        for key, state in found:
            run.output.result(f"{key}: {_WORDS[state]}", {"output": key, "state": state})
        lines = [Line(one.image.key, "unchanged") for one in standings if one.state == "unchanged"]
        lines += [Line(key, "failed", error=_WORDS[state], error_type=state) for key, state in found]
        reports.append(Report(source.name, tuple(lines), run.clock.monotonic() - started))
    if found:
        raise OutOfDate(
            f"{len(found)} of {len(source.images)} images are not as {source.name} says.",
            hint=f"Make them with: chroma batch {_shown(run)}",
        )
    run.output.note(f"All {len(source.images)} images are as {source.name} says.")


def dry_run(run: Run, source: Source, asked: Asked) -> None:
    """List what would be made and the expected cost; no key needed, nothing sent."""
    source.read_lock()
    plan = _plan(run, source)
    costs = _costs(run)
    total = 0.0
    for work in plan.works:
        cost = 0.0 if work.job is not None else costs.expected(work.request)
        total += cost
        job = work.job
        what = f"about {text.money(cost)}" if job is None else f"take up {_named(job)}"
        value = {
            "output": work.key,
            "expected_cost": cost,
            "job": (job.number or None) if job is not None else None,
            "request": work.request.payload(),
        }
        run.output.result(f"{work.key}: {what}", value)
    for image, error in plan.blocked:
        run.output.trouble(f"{image.key}: {error.message}")
    for name in source.leftovers():
        run.output.note(f"{name}: no longer in the manifest; --prune removes it.")
    run.output.note(
        f"{len(plan.works)} of {len(source.images)} images would be made, for about {text.money(total)}."
    )
    if asked.budget is not None and total > asked.budget:
        run.output.warning(f"That is more than the --budget of {text.money(asked.budget)}.")


def outstanding(run: Run, source: Source) -> tuple[Plan, float]:
    """What is still to be done, and what new jobs of it will cost."""
    plan, costs = _plan(run, source), _costs(run)
    return plan, sum(costs.expected(work.request) for work in plan.works if work.job is None)


def _costs(run: Run) -> Costs:
    from chroma_cli.jobs.budget import Costs, work_of

    book, gateway = run.book, run.gateway_name
    return Costs(lambda request: book.highest_cost(gateway, *work_of(request)))


def _plan(run: Run, source: Source, *, to_make: bool = False) -> Plan:
    return _look(run, source, source.images, to_make=to_make)[1]


def _look(
    run: Run, source: Source, images: Sequence[Image], *, to_make: bool = False
) -> tuple[Sequence[Standing], Plan]:
    """Look at files, lock and ledger; ``to_make``: nothing is to be bought before the ledger was asked."""
    now = run.clock.wall()
    standings: Sequence[Standing] = planning.survey(images, source.lock, source.cache)
    if all(one.state == "unchanged" for one in standings):  # nothing to ask the ledger
        return standings, Plan((), tuple(images), (), ())
    book, gateway = run.book, run.gateway_name
    if to_make:
        run.require_ledger()
        if run.ledger is not None:
            for job in book.pending(gateway):
                run.found_saved(run.ledger, job)
    standings = planning.recognise(standings, book, gateway, source.lock, source.cache)
    unsettled = frozenset(row.request_id for row in book.pending(gateway))
    standings = planning.recognise_by_recipe(
        standings, source.lock, sandbox=_practises(run), unsettled=unsettled
    )
    given = run.given
    return standings, planning.plan(
        standings,
        book,
        gateway,
        source.lock,
        source.cache,
        overwrite=bool(given["overwrite"]),
        resubmit_unknown=bool(given["resubmit_unknown"]),
        now=now,
    )


def _practises(run: Run) -> bool:
    return bool(run.settings.sandbox.value)


# --- make ------------------------------------------------------------------------------------------------


def make(run: Run, source: Source, asked: Asked) -> None:
    """Make what is missing or has changed, and say how it went."""
    if run.settings.no_ledger.value:
        run.require_ledger()  # says why that is no way
    from chroma_cli.cli import batching  # the engine, which --check has no use for
    from chroma_cli.cli.batching import Making

    with _alone(run, source), reporting.reports(run) as reports:
        source.read_lock()
        started = run.clock.monotonic()
        plan = _plan(run, source, to_make=True)
        _forget_settled(run, source, plan)
        making = Making(
            run,
            asked,
            {one.key: one for one in source.images},
            source.manifest.folder,
            source.lock,
            source.cache,
            len(source.images),
            partial(_look, run, source),
        )
        doubtful = 0
        try:
            making.lines += [Line(image.key, "unchanged") for image in plan.unchanged]
            for image in plan.kept:
                _keep(making, image)
            for image, error in plan.blocked:
                making.fail(image, error)
            if plan.works and not (making.errors and run.given["fail_fast"]):
                _check_places(run, plan.works)
                if source.lock is not None:
                    source.lock.check_writable()
                making.prepare()
                making.make(plan.works)
            else:
                making.save()
            if run.given["prune"] and making.all_made(plan.works):
                doubtful = _prune(run, source)
        finally:
            left = making.left(plan.works)
            lines = (*making.lines, *making.left_behind(), *map(_not_started, left))
            advice = batching.RUN_AGAIN if len(lines) > len(making.lines) or making.errors else None
            report = Report(source.name, lines, run.clock.monotonic() - started, advice)
            reports.append(report)
            run.output.note(
                f"{source.name}: {report.counts()}; {reporting.money_words(report)},"
                f" {text.seconds(report.seconds)}."
            )
        _tell_leftovers(run, source)
        batching.conclude(making, left, len(source.images))
        if doubtful:
            raise NotRemoved(
                f"{doubtful} {'file' if doubtful == 1 else 'files'} that the manifest dropped"
                f" {'is' if doubtful == 1 else 'are'} kept: only the lock says that this batch made"
                f" {'it' if doubtful == 1 else 'them'}.",
                hint="Look at the warnings above; --prune --yes removes such files as well.",
            )


def _named(job: JobRow) -> str:
    return f"job {job.number}" if job.number else f"request {job.request_id}"


def _not_started(work: Work) -> Line:
    if work.job is not None:
        return Line(work.key, "unfinished", error=f"Its {_named(work.job)} was not taken up in this run.")
    return Line(work.key, "not started", error="It was not begun in this run.")


def _forget_settled(run: Run, source: Source, plan: Plan) -> None:
    """Drop jobs that the lock has in flight of images that are there, and old ones of no image."""
    if source.lock is not None:
        current = {image.key for image in source.manifest.images}
        old = source.lock.outdated(current, run.clock.wall() - RESULT_SECONDS)
        source.lock.settled({image.key for image in plan.unchanged} | old)


def _keep(making: Making, image: Image) -> None:
    words = "changed by hand since it was made; it is left as it is (--overwrite makes it anew)"
    making.lines.append(Line(image.key, "kept", error=words))
    making.run.output.warning(f"{image.key}: {words}.")


@contextlib.contextmanager
def _alone(run: Run, source: Source) -> Iterator[None]:
    """Nobody else works on the same manifest meanwhile."""
    if source.manifest.path is None:
        yield
        return
    from chroma_cli.jobs.runlock import RunLock

    with RunLock(source.manifest.path, source.shard) as alone:
        if not alone.certain:
            run.output.warning("This file system has no locks: a second run at the same time is not noticed.")
        yield


def _check_places(run: Run, works: Sequence[Work]) -> None:
    """Find out, before anything is spent, whether all pictures can be saved. Raises :class:`OutputError`."""
    from chroma_cli.images import preflight

    token, rescue = secrets.token_hex(8), str(run.settings.rescue_dir)
    seen: set[str] = set()
    wrong: list[str] = []
    hint = None
    for work in works:
        if work.job is not None:
            continue
        request, place = work.request, work.destination
        folder = str(place.folder(0))
        width, height = request.size
        room = preflight.estimate_bytes(width, height, request.samples, request.image_format)
        try:
            preflight.check(place, estimate=0 if folder in seen else room, token=token, rescue_dir=rescue)
        except OutputError as error:
            wrong.append(f"{work.key}: {error.message}")
            hint = error.hint
        seen.add(folder)
    if wrong:
        raise OutputError(*wrong, hint=f"Nothing was sent. {hint or ''}".strip())


def _prune(run: Run, source: Source) -> int:
    """Remove what the manifest dropped, where it is still as it was made; return how many want a yes."""
    lock = source.lock
    assert lock is not None
    places = {str(lock.folder / name) for name in source.leftovers()}
    rows = run.book.saved_at(run.gateway_name, places) if places else []
    pruned = upkeep.prune(lock, source.manifest, rows, lambda paths: _may_remove(run, paths))
    lock.save()
    for path in pruned.removed:
        run.output.note(f"{path}: removed, it is no longer in the manifest.")
    kept = (*pruned.kept, *((path, _UNKNOWN) for path in pruned.doubtful))
    for path, why in kept:
        run.output.warning(f"{path}: no longer in the manifest, and kept: {why}.")
    return 0 if run.output.can_ask else len(pruned.doubtful)


def _may_remove(run: Run, paths: Sequence[Path]) -> bool:
    """The lock may be anybody's: a picture that it alone calls ours is removed only with a yes."""
    if run.given["yes"] or not run.output.can_ask:
        return bool(run.given["yes"])
    for path in paths:
        run.output.note(f"{path}: {_UNKNOWN}.")
    return run.output.confirm(
        f"Remove {'it' if len(paths) == 1 else f'these {len(paths)} files'} all the same?"
    )


def _tell_leftovers(run: Run, source: Source) -> None:
    names = source.leftovers()
    if not names or run.given["prune"]:
        return
    shown = ", ".join(names[:_MOST_NAMED]) + (" …" if len(names) > _MOST_NAMED else "")
    run.output.note(f"{len(names)} files are no longer in the manifest (--prune removes them): {shown}")


def _shown(run: Run) -> str:
    """Return the manifest as a word of a command line that no - makes an option."""
    named = str(run.given["manifest"])
    return text.quoted(f"./{named}" if named.startswith("-") else named)
