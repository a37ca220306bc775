"""What a batch has to do: how each image stands, what the ledger already knows of it, what is in the way.

Three places know something: the files, the lock beside the manifest, and the job ledger. The ledger is ahead
of the lock after a crash, so a picture that it has saved counts, and a job in flight is taken up again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from chroma_cli.clock import utc_epoch
from chroma_cli.errors import Charged, ChromaError, OutputError, OutputExists
from chroma_cli.images import disk
from chroma_cli.images.destination import Destination
from chroma_cli.images.naming import ENDING_OF
from chroma_cli.jobs import origin, records
from chroma_cli.jobs.lock import Lock, request_digest
from chroma_cli.jobs.manifest import Image
from chroma_cli.jobs.records import JobRow, PlaceTaken, outcome_unknown
from chroma_cli.jobs.upkeep import StatCache, State, inspect

if TYPE_CHECKING:
    from chroma_cli.jobs.book import Book
    from chroma_cli.request.builder import ImageRequest

#: In these states something is at the place that is not a batch's own work any more, or never was.
_NOT_OURS: Final[tuple[State, ...]] = ("edited", "foreign")
#: Places with what tells whether it changed: see :func:`disk.mark`.
Seen = tuple[tuple[Path, tuple[int, int, int] | None], ...]


@dataclass(frozen=True)
class Work:
    """One image to be made. ``key`` is its name in the manifest.

    ``job`` is a job of an earlier run to be taken up in place of a submit; ``instead_of`` one whose outcome
    nobody knows, to be settled by sending it again. ``seen`` is what lay at its places when it was planned,
    which was at ``planned_at`` (seconds since the epoch).
    """

    key: str
    request: ImageRequest
    destination: Destination
    job: JobRow | None = None
    instead_of: JobRow | None = None
    seen: Seen = ()
    planned_at: float = 0.0

    def check_place(self) -> None:
        """Raises :class:`PlaceTaken` when something else lies there by now than was planned with."""
        changed = [path for path, mark in self.seen if disk.mark(path) != mark]
        if changed:
            raise PlaceTaken(f"{changed[0]} has appeared or changed since this run has looked.")


@dataclass(frozen=True)
class Standing:
    """One image and how it stands. ``maker`` is the job that the ledger knows to have made it, its files as
    they lie here; ``seen`` is what lay at its places before the look."""

    image: Image
    state: State
    maker: JobRow | None = None
    seen: Seen = ()


@dataclass(frozen=True)
class Plan:
    """``works`` are to be made; ``kept`` are as they were made from this request but for somebody's changes
    to the files; ``blocked`` cannot be made, each with the reason."""

    works: tuple[Work, ...]
    unchanged: tuple[Image, ...]
    kept: tuple[Image, ...]
    blocked: tuple[tuple[Image, ChromaError], ...]


def survey(
    images: Iterable[Image], lock: Lock | None, cache: StatCache, *, deep: bool = False
) -> list[Standing]:
    """How each image stands by its files and the lock alone."""
    found = []
    for image in images:
        one = Standing(image, inspect(image, lock, deep=deep, stat_cache=cache))
        if one.state != "unchanged":  # what is noted as seen has been there for the look
            seen = _look_at(image)
            one = Standing(image, inspect(image, lock, deep=deep, stat_cache=cache), seen=seen)
        found.append(one)
    return found


def _look_at(image: Image) -> Seen:
    """What lies at the places of an image now, whatever format its pictures came in."""
    places = [place for path in image.paths for place in origin.places(path)]
    return tuple((path, disk.mark(path)) for path in dict.fromkeys(places))


def recognise(
    standings: Sequence[Standing], book: Book, base_url: str, lock: Lock | None, cache: StatCache
) -> list[Standing]:
    """The same after asking the ledger about files that the lock does not know, or knows otherwise.

    Those that a job saved from this very request, and nobody changed since, count as unchanged, and are
    noted in the lock: a run was stopped between the file and the lock, or the folder was moved or copied
    since. So do pictures that came in another format than was asked for, which lie there with its ending.
    """
    found = []
    for one in standings:
        doubtful = one.state in (*_NOT_OURS, "missing") and any(mark is not None for _, mark in one.seen)
        if doubtful:
            rows = book.saved_from(base_url, request_digest(one.image.request))
            maker = _maker(one.image, rows, cache)
            if maker is not None:
                record(lock, one.image, maker)
                one = dataclasses.replace(one, state="unchanged", maker=maker)
        found.append(one)
    return found


def recognise_by_recipe(
    standings: Sequence[Standing],
    lock: Lock | None,
    *,
    sandbox: bool,
    unsettled: Container[str | None] = frozenset(),
) -> list[Standing]:
    """The same by what the pictures themselves say: neither the lock nor the ledger outlives every crash.

    One that the lock knows, from the very job that the recipe names, was changed by hand. One of an
    ``unsettled`` job is left to whoever takes that job up.
    """
    found = []
    for one in standings:
        if one.state in (*_NOT_OURS, "missing"):
            image, known = one.image, lock.entries(one.image.key) if lock is not None else ()
            digest = request_digest(image.request)
            besides = {entry.request_id for entry in known if entry.request == digest}
            made = origin.find(image, sandbox=sandbox, besides=besides)
            if made is not None and made.request_id not in unsettled:
                if lock is not None:
                    lock.record(
                        image, made.files, seed=image.request.seed, request_id=made.request_id, cost=None
                    )
                one = dataclasses.replace(one, state="unchanged")
        found.append(one)
    return found


def record(lock: Lock | None, image: Image, row: JobRow) -> None:
    """Note in the lock that this job made the image."""
    if lock is not None:
        lock.record(image, list(row.files.values()), seed=row.seed, request_id=row.request_id, cost=row.cost)


def _maker(image: Image, rows: Sequence[JobRow], cache: StatCache) -> JobRow | None:
    """The job that made the pictures that lie at all places of the image, its files as they lie there."""
    for row in rows:
        files = {index: _as_here(image, index, file) for index, file in row.files.items()}
        if len(files) >= len(image.paths) and all(_is_whole(file, cache) for file in files.values()):
            return dataclasses.replace(row, files=files)
    return None


def _as_here(image: Image, index: int, file: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record of a saved file as it would be at the place of this image."""
    place, image_format = image.destination, file.get("format")
    if image_format not in ENDING_OF:
        return file
    return {**file, "path": str(place.target(place.number(index), image_format=image_format))}


def _is_whole(file: Mapping[str, Any], cache: StatCache) -> bool:
    return cache.sha256(str(file.get("path")), deep=False) == file.get("sha256")


def plan(
    standings: Sequence[Standing],
    book: Book,
    base_url: str,
    lock: Lock | None,
    cache: StatCache,
    *,
    overwrite: bool,
    resubmit_unknown: bool,
    now: float,
) -> Plan:
    """Sort the images: what is to be made, taken up, left alone, and what is in the way of the rest.

    ``now`` (seconds since the epoch) is a moment before the images were looked at.
    """
    known = _Pending([one.image for one in standings if one.state != "unchanged"], book, base_url)
    doubtful = frozenset() if overwrite else _doubtful(standings, book, base_url, lock, cache)
    works: list[Work] = []
    kept: list[Image] = []
    blocked: list[tuple[Image, ChromaError]] = []
    for one in standings:
        image, state = one.image, one.state
        if state == "unchanged":
            continue
        job, is_here = known.job_of(image)
        if job is None:
            job = _noted(image, book, base_url, lock)
            is_here = job is not None
        hindered = state in _NOT_OURS and not overwrite
        if hindered and not is_here:
            if state == "edited" and _same_request(image, lock):
                kept.append(image)
            else:
                blocked.append((image, _in_the_way(image, state)))
            continue
        if not is_here and image.key in doubtful:
            blocked.append((image, _in_the_way(image, "doubtful")))
            continue
        try:
            work = _work(image, job, is_here=is_here, ours=not hindered, resubmit_unknown=resubmit_unknown)
            works.append(dataclasses.replace(work, seen=one.seen, planned_at=now))
        except ChromaError as error:
            blocked.append((image, error))
    unchanged = tuple(one.image for one in standings if one.state == "unchanged")
    return Plan(tuple(works), unchanged, tuple(kept), tuple(blocked))


def _doubtful(
    standings: Sequence[Standing], book: Book, base_url: str, lock: Lock | None, cache: StatCache
) -> frozenset[str]:
    """Return the keys of images that would replace a file which the lock alone calls a batch's own: anybody
    may have written it."""
    found = set()
    for one in standings:
        if lock is None or one.state not in ("missing", "changed-request"):
            continue
        made = [
            (lock.place(file.path), file.sha256, entry.request)
            for entry in lock.entries(one.image.key)
            for file in entry.files
        ]
        for path in filter(disk.exists, one.image.paths):
            sha = cache.sha256(str(path), deep=False) or ""
            requests = {request for place, known, request in made if (place, known) == (str(path), sha)}
            rows = [row for request in requests for row in book.saved_from(base_url, request)]
            if not origin.is_known(path, sha, requests, rows):
                found.add(one.image.key)
    return frozenset(found)


def _place_of(image: Image, *, ours: bool) -> Destination:
    """Where the pictures of an image go; what is there is replaced if it is ``ours``."""
    there = any(path.is_symlink() or path.exists() for path in image.paths)
    return dataclasses.replace(image.destination, overwrite=ours and there)


def _work(image: Image, job: JobRow | None, *, is_here: bool, ours: bool, resubmit_unknown: bool) -> Work:
    """How to make an image. Raises what is in the way."""
    place = _place_of(image, ours=ours)
    if job is not None and not job.fetchable and job.state == "unknown":
        if not resubmit_unknown:
            raise outcome_unknown(job)
        return Work(image.key, image.request, place, instead_of=job)
    if job is not None and is_here:
        with contextlib.suppress(OutputError):  # damaged: the manifest says the same
            place = Destination.from_dict(job.destination or {})
    return Work(image.key, image.request, place, job=job)


class _Pending:
    """The unsettled jobs of the ledger that are of the very request of an image.

    One that is promised to the image's own places comes first. Others are taken up as well, each for one
    image: the folder was moved since, or is mounted elsewhere.
    """

    def __init__(self, images: Sequence[Image], book: Book, base_url: str) -> None:
        jobs: dict[str, list[JobRow]] = {}
        for job in book.pending(base_url):
            if job.request is not None:
                jobs.setdefault(records.request_digest(job.request), []).append(job)
        self._here: dict[str, JobRow] = {}
        self._elsewhere: dict[str, JobRow] = {}
        if not jobs:
            return
        wanted = [
            (image, jobs[digest]) for image in images if (digest := request_digest(image.request)) in jobs
        ]
        for image, twins in wanted:
            places = frozenset(image.destination.promises())
            here = [job for job in twins if frozenset(job.promised) == places]
            if here:
                self._here[image.key] = max(here, key=lambda job: (job.request_id is not None, job.number))
        taken = {job.number for job in self._here.values()}
        for image, twins in wanted:
            if image.key in self._here or image.request.seed < 0:  # another picture each time
                continue
            for job in reversed(twins):
                if job.number in taken or book.in_work(job):
                    continue
                self._elsewhere[image.key] = job
                if job.fetchable:
                    taken.add(job.number)
                break

    def job_of(self, image: Image) -> tuple[JobRow | None, bool]:
        """The job to be taken up for an image, and whether it is promised to the image's own places."""
        if image.key in self._here:
            return self._here[image.key], True
        return self._elsewhere.get(image.key), False


def _noted(image: Image, book: Book, base_url: str, lock: Lock | None) -> JobRow | None:
    """Return a job that the lock alone has in flight for the image, as a job that no ledger knows.

    An older ledger came back, or none. The lock may be anybody's: it is only asked for, never sent for.
    """
    noted = lock.in_flight(image, base_url) if lock is not None else None
    if noted is None:
        return None
    known = book.get(noted.request_id, base_url)
    if known is not None and known.request_id == noted.request_id:
        return None  # the ledger knows better
    submitted_at = utc_epoch(noted.submitted_at)
    return JobRow(
        number=0,
        token=secrets.token_hex(8),
        base_url=base_url,
        mode="async",
        state="queued",
        charged=Charged.UNKNOWN,
        expected_cost=image.request.expected_cost,
        created_at=submitted_at,
        updated_at=submitted_at,
        request_id=noted.request_id,
        request=image.request.payload(),
        samples=image.request.samples,
        submitted_at=submitted_at,
    )


def _same_request(image: Image, lock: Lock | None) -> bool:
    """Whether the lock has the image as made from its present request."""
    entry = lock.entry(image) if lock is not None else None
    return entry is not None and entry.request == request_digest(image.request)


def _in_the_way(image: Image, state: State | Literal["doubtful"]) -> ChromaError:
    words = {
        "edited": "its request has changed, and its file was changed by hand since it was made",
        "doubtful": "its request has changed, and neither the job ledger nor a recipe inside its file says"
        " that a batch made it",
    }.get(state, "a file is there that no batch of this manifest made")
    return OutputExists(
        f"{image.paths[0]}: {words}; it is left as it is.",
        hint="Move it away, or replace it with --overwrite.",
    )
