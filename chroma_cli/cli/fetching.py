"""What ``fetch`` does with one job: whose it is, where its pictures go, which of them are missing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chroma_cli.cli import jobsel, render
from chroma_cli.clock import Deadline
from chroma_cli.errors import (
    Charged,
    NotFinished,
    OutputError,
    UsageError,
    stopped,
)
from chroma_cli.images import destination as places
from chroma_cli.images import preflight
from chroma_cli.images.destination import Destination
from chroma_cli.jobs.progress import Done
from chroma_cli.jobs.records import InWork, JobRow
from chroma_cli.request.builder import ImageRequest

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run
    from chroma_cli.jobs.lifecycle import Lifecycle


def pending(run: Run) -> list[JobRow]:
    """The jobs of this gateway that can be brought home now; the others, or that there are none, is told."""
    run.tells = lambda job: job.base_url == run.gateway_name
    ledger = run.required_ledger()
    own = [
        job
        for job in run.book.pending(run.gateway_name)
        if job.state != "unknown" or not run.found_saved(ledger, job)
    ]
    left_behind = [job for job in own if _remains(run, job) is not None]
    for job in own:
        if job.state == "unknown" and job not in left_behind:
            run.output.warning(render.unknown_words(job))
    others: dict[str, int] = {}
    for job in run.book.elsewhere(run.gateway_name):
        others[job.base_url] = others.get(job.base_url, 0) + 1
    for base_url, count in others.items():
        run.output.warning(render.elsewhere_words(base_url, count))
    free = [job for job in own if (job.request_id or job.sources) and job.state != "unknown"] + left_behind
    busy = [job for job in free if run.book.in_work(job)]
    for job in busy:
        run.output.note(f"Job {job.number} is being worked on by another chroma; left alone.")
    waiting = [job for job in free if job not in busy]
    jobsel.tell_of_missing(run, ledger, nothing=not waiting)
    if not waiting:
        run.output.note("Nothing else is pending." if own or others else "Nothing is pending.")
    return waiting


def _remains(run: Run, job: JobRow) -> Destination | None:
    """Where a blocking call, whose program ended, left pictures that cannot be had again; None if nowhere."""
    if job.mode != "sync" or job.state != "unknown" or job.destination is None or run.book.in_work(job):
        return None
    try:
        place = Destination.from_dict(job.destination)
    except OutputError:
        return None
    pictures = run.lifecycle.pictures
    if pictures.remains(job, place):
        return place
    pictures.sweep(job, place)
    return None


@contextlib.contextmanager
def telling_what_is_left(run: Run) -> Iterator[None]:
    """Several jobs at once are in threads, so a signal reaches none of them: say here how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise stopped(
            stop,
            " while fetching; the jobs go on, and each is charged when it completes.",
            hint=f"Bring the rest home with: {run.fetch_command(None)}",
            charged=Charged.UNKNOWN,
        ) from None


@dataclass(frozen=True)
class Task:
    """One call of ``fetch``: what was asked for, for all of its jobs."""

    run: Run
    output: str | None
    wait: bool
    force: bool
    overwrite: bool
    deadline: Deadline

    @classmethod
    def of(cls, run: Run, count: int) -> Task:
        """Checks what can be checked before anything is asked. Raises :class:`UsageError`."""
        run.check_config()
        output = run.given["output"]
        if output == "-":
            run.check_stdout()
            if count > 1:
                raise UsageError("--output: - takes exactly one picture.")
        if count > 1 and _is_one_file(run, output):
            raise UsageError(
                f"--output: {output!r} is one file, and {count} jobs are to be fetched.",
                hint="Name a folder, or a template like {slug}-{id}.{ext}.",
            )
        seconds = run.timeout() if run.given["wait"] or run.given["timeout"] else 60.0
        return cls(
            run,
            output,
            run.given["wait"],
            run.given["force"],
            run.given["overwrite"],
            Deadline(run.clock, seconds),
        )

    def bring_home(self, job: JobRow) -> Done:
        """Save what is missing of one job. Raises what stands in the way."""
        run = self.run
        remains = _remains(run, job)
        if remains is None and not (job.sources and job.base_url == run.gateway_name):
            jobsel.check_reachable(run, job)
        done = self._ended_already(job)
        if done is not None:
            return done
        claimed = run.book.claim(job)
        if claimed is None:
            raise InWork(job).told
        job = claimed  # as it is now: between the look and the claim another process may have done the work
        try:
            return self._ended_already(job) or (
                self._collected(job) if remains is None else self._salvaged(job, remains)
            )
        finally:
            run.book.release(job)

    def _ended_already(self, job: JobRow) -> Done | None:
        """What needs no more work. Raises how it ended when that was not well."""
        if job.state == "saved" and job.files and len(self._kept(job)) == len(job.files):
            if self.output is not None:
                self._tell_where(job, self.output)
            return Done(job)
        if job.state in ("failed", "expired") and not self.force:
            raise render.recorded_error(job)
        return None

    def _tell_where(self, job: JobRow, output: str) -> None:
        """Say so when what is saved already is not where it is wanted now."""
        asked = Path.cwd() / output
        saved = [Path(str(entry.get("path"))) for entry in job.files.values()]
        if not any(asked in (path, path.parent) for path in saved):
            self.run.output.warning(
                f"Job {job.number} is saved already; add --force to fetch it again to {output}."
            )

    def _kept(self, job: JobRow) -> frozenset[int]:
        """The samples that are not to be downloaded."""
        return frozenset() if self.force or self.output == "-" else _in_place(job)

    def _work(self, job: JobRow) -> Lifecycle:
        work = self.run.lifecycle
        work.pictures.resumed = True
        if not self.run.given["no_metadata"] and "metadata" in (job.destination or {}):
            work.pictures.metadata = None  # as it was asked for then
        return work

    def _salvaged(self, job: JobRow, remains: Destination) -> Done:
        """Put in place what its program left behind."""
        work = self._work(job)
        work.pictures.take_up(job, remains)
        job, destination = self._place(job)
        try:
            return work.salvage(job, destination, self.deadline)
        finally:
            work.pictures.sweep(job, remains)

    def _collected(self, job: JobRow) -> Done:
        work = self._work(job)
        if job.state not in ("completed", "saved"):
            job = work.wait(job, self.deadline) if self.wait else self._asked(work, job)
        if job.number == 0:  # it exists: from here on the ledger knows it, too
            job = replace(self.run.book.adopt(job), state="completed", charged=job.charged)
            self.run.book.claim(job)
        before = self._remembered(job)
        job, destination = self._place(job)
        if before is not None and before != destination:
            work.pictures.sweep(job, before)
        work.pictures.sweep(job, destination)
        return work.collect(job, destination, self.deadline, keep=self._kept(job))

    def _asked(self, work: Lifecycle, job: JobRow) -> JobRow:
        if job.sources:
            return job
        answer = work.ask(job, self.deadline)
        if answer.state != "completed":
            unfinished = NotFinished(
                "Not finished yet; the job goes on.",
                hint=f"Wait for it with: {self.run.fetch_command(str(job.request_id), '--wait')}",
                request_id=job.request_id,
                job=job.number or None,
                charged=answer.charged,
            )
            unfinished.record = replace(answer, error=unfinished.as_dict())
            raise unfinished
        return answer

    def _place(self, job: JobRow) -> tuple[JobRow, Destination]:
        """Where the pictures go: ``-o`` of now, else of then, else a name by the id in this folder."""
        remembered = self._remembered(job)
        if self.output is None and remembered is not None:
            if self.overwrite or (self.force and _only_ours(remembered, job)):
                remembered = replace(remembered, overwrite=True)
            return job, remembered
        planned = self._planned(job)
        if job.number and not job.settled:
            job = self.run.book.plan_again(
                job, planned.as_dict(), planned.promises(), exclusive=planned.kind == "file"
            )
            job = replace(job, state="completed")
        return replace(job, destination=planned.as_dict()), planned

    def _remembered(self, job: JobRow) -> Destination | None:
        if job.destination is None:
            return None
        try:
            remembered = Destination.from_dict(job.destination)
        except OutputError:
            return None
        return None if remembered.kind == "stdout" else remembered

    def _planned(self, job: JobRow) -> Destination:
        run = self.run
        known = ImageRequest.from_payload(job.request) if job.request else None
        values: dict[str, Any] = dict(job.request or {})
        values["id"] = job.request_id
        if job.seed is not None:
            values["seed"] = job.seed
        samples = job.samples or max(1, len(job.sources))
        planned = places.plan(
            self.output,
            cwd=str(Path.cwd()),
            values=values,
            samples=samples,
            image_format=_format(known, self.output),
            now=run.clock.wall(),
            size=known.size if known is not None else None,
            overwrite=self.overwrite,
            promised=run.book.promised(job),
        )
        width, height = known.size if known is not None else (1024, 1024)
        preflight.check(
            planned,
            estimate=preflight.estimate_bytes(width, height, samples, planned.image_format),
            token=job.token,
            rescue_dir=str(run.settings.rescue_dir),
        )
        return planned


def _is_one_file(run: Run, output: str | None) -> bool:
    """Whether ``-o`` names one file outright."""
    cwd = str(Path.cwd())
    image_format = places.wanted_format(output, cwd=cwd) or "png"
    sample = {"id": "0", "seed": 0}
    now = run.clock.wall()
    return (
        places.plan(output, cwd=cwd, values=sample, samples=1, image_format=image_format, now=now).kind
        == "file"
    )


def _format(known: ImageRequest | None, output: str | None) -> str:
    """The format to plan a name for; what the bytes are decides in the end."""
    wanted = places.wanted_format(output, cwd=str(Path.cwd()))
    if known is not None and known.image_format:
        return known.image_format if wanted is None else wanted
    return wanted or "png"


def _in_place(job: JobRow) -> frozenset[int]:
    """The samples whose files are there, with the bytes that were saved."""
    return frozenset(index for index, entry in job.files.items() if _is_whole(entry))


def _is_whole(entry: Mapping[str, Any]) -> bool:
    path = entry.get("path")
    if not isinstance(path, str) or path == "-":  # what went to a pipe is no file
        return False
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.get("sha256")
    except (OSError, ValueError):
        return False


def _only_ours(remembered: Destination, job: JobRow) -> bool:
    """Whether all that lies at the job's places is its own work."""
    recorded = {entry.get("path"): entry for entry in job.files.values()}
    return all(
        not Path(path).exists() or (path in recorded and _is_whole(recorded[path]))
        for path in remembered.paths()
    )
