"""What a batch has to do: how each image stands, what the ledger already knows of it, what is in the way.

Three places know something: the files, the lock beside the manifest, and the job ledger. The ledger is ahead
of the lock after a crash, so a picture that it has saved counts, and a job in flight is taken up again.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from chroma_cli.clock import utc_epoch
from chroma_cli.errors import Charged, ChromaError, NotFinished, OutcomeUnknown, OutputError, OutputExists
from chroma_cli.images import disk
from chroma_cli.images.destination import Destination
from chroma_cli.jobs import origin
from chroma_cli.jobs.lock import Lock, request_digest
from chroma_cli.jobs.manifest import Image
from chroma_cli.jobs.records import JobRow
from chroma_cli.jobs.upkeep import StatCache, State, inspect

if TYPE_CHECKING:
    from chroma_cli.jobs.book import Book
    from chroma_cli.request.builder import ImageRequest

#: In these states something is at the place that is not a batch's own work any more, or never was.
_NOT_OURS: Final[tuple[State, ...]] = ("edited", "foreign")


@dataclass(frozen=True)
class Work:
    """One image to be made. ``key`` is its name in the manifest.

    ``job`` is a job of an earlier run to be taken up in place of a submit; ``instead_of`` one whose outcome
    nobody knows, to be settled by sending it again.
    """

    key: str
    request: ImageRequest
    destination: Destination
    job: JobRow | None = None
    instead_of: JobRow | None = None


@dataclass(frozen=True)
class Standing:
    """One image and how it stands."""

    image: Image
    state: State


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
    return [Standing(image, inspect(image, lock, deep=deep, stat_cache=cache)) for image in images]


def recognise(
    standings: Sequence[Standing], book: Book, base_url: str, lock: Lock | None, cache: StatCache
) -> list[Standing]:
    """The same after asking the ledger about files that the lock does not know, or knows otherwise.

    Those that a job saved from this very request, and nobody changed since, count as unchanged, and are
    noted in the lock: a run was stopped between the file and the lock. So do pictures that came in another
    format than was asked for, which lie there with its ending.
    """
    places = {one.image.key: _places(one) for one in standings if one.state in (*_NOT_OURS, "missing")}
    doubtful = {place for found in places.values() for place in found}
    if not doubtful:
        return list(standings)
    saved: dict[str, list[JobRow]] = {}
    for row in book.saved_at(base_url, doubtful):
        for file in row.files.values():
            saved.setdefault(str(file.get("path")), []).append(row)
    found = []
    for one in standings:
        rows = [row for place in places.get(one.image.key, ()) for row in saved.get(place, ())]
        maker = _maker(one.image, rows, cache)
        if maker is not None:
            record(lock, one.image, maker)
            one = Standing(one.image, "unchanged")
        found.append(one)
    return found


def recognise_by_recipe(standings: Sequence[Standing], lock: Lock | None, *, sandbox: bool) -> list[Standing]:
    """The same by what the pictures themselves say: neither the lock nor the ledger outlives every crash.

    One that the lock knows, from the very job that the recipe names, was changed by hand.
    """
    found = []
    for one in standings:
        if one.state in (*_NOT_OURS, "missing"):
            image, known = one.image, lock.entries(one.image.key) if lock is not None else ()
            digest = request_digest(image.request)
            besides = {entry.request_id for entry in known if entry.request == digest}
            made = origin.find(image, sandbox=sandbox, besides=besides)
            if made is not None:
                if lock is not None:
                    lock.record(
                        image, made.files, seed=image.request.seed, request_id=made.request_id, cost=None
                    )
                one = Standing(image, "unchanged")
        found.append(one)
    return found


def _places(one: Standing) -> list[str]:
    """Where files lie that may be the image's own, though its lock does not say so."""
    if one.state in _NOT_OURS:
        return [str(path) for path in one.image.paths]
    return [str(place) for path in one.image.paths for place in origin.places(path) if disk.exists(place)]


def record(lock: Lock | None, image: Image, row: JobRow) -> None:
    """Note in the lock that this job made the image."""
    if lock is not None:
        lock.record(image, list(row.files.values()), seed=row.seed, request_id=row.request_id, cost=row.cost)


def _maker(image: Image, rows: Sequence[JobRow], cache: StatCache) -> JobRow | None:
    """The job that made all files of the image from its request, if they are still as it made them."""
    body = image.request.payload()
    wanted = {path.with_suffix("") for path in image.paths}
    for row in rows:
        files = row.files.values()
        made = {Path(str(file.get("path"))).with_suffix("") for file in files}
        whole = row.state == "saved" and row.request == body and made >= wanted
        if whole and all(_is_whole(file, cache) for file in files):
            return row
    return None


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
) -> Plan:
    """Sort the images: what is to be made, taken up, left alone, and what is in the way of the rest."""
    known = _Pending(book, base_url)
    doubtful = frozenset() if overwrite else _doubtful(standings, book, base_url, lock, cache)
    works: list[Work] = []
    kept: list[Image] = []
    blocked: list[tuple[Image, ChromaError]] = []
    for one in standings:
        image, state = one.image, one.state
        if state == "unchanged":
            continue
        job = known.job_of(image) or _noted(image, book, base_url, lock)
        hindered = state in _NOT_OURS and not overwrite
        if job is None and hindered:
            if state == "edited" and _same_request(image, lock):
                kept.append(image)
            else:
                blocked.append((image, _in_the_way(image, state)))
            continue
        if job is None and image.key in doubtful:
            blocked.append((image, _in_the_way(image, "doubtful")))
            continue
        try:
            works.append(_work(image, job, book, ours=not hindered, resubmit_unknown=resubmit_unknown))
        except ChromaError as error:
            blocked.append((image, error))
    unchanged = tuple(one.image for one in standings if one.state == "unchanged")
    return Plan(tuple(works), unchanged, tuple(kept), tuple(blocked))


def _doubtful(
    standings: Sequence[Standing], book: Book, base_url: str, lock: Lock | None, cache: StatCache
) -> frozenset[str]:
    """Return the keys of images that would replace a file which the lock alone calls a batch's own: anybody
    may have written it."""
    replaced: list[tuple[str, Path, str, set[str]]] = []
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
            replaced.append((one.image.key, path, sha, requests))
    rows = book.saved_at(base_url, {str(path) for _, path, _, _ in replaced}) if replaced else []
    return frozenset(
        key for key, path, sha, requests in replaced if not origin.is_known(path, sha, requests, rows)
    )


def _work(image: Image, job: JobRow | None, book: Book, *, ours: bool, resubmit_unknown: bool) -> Work:
    """How to make an image. Raises what is in the way."""
    there = any(path.is_symlink() or path.exists() for path in image.paths)
    place = dataclasses.replace(image.destination, overwrite=ours and there)
    if job is None:
        return Work(image.key, image.request, place)
    if book.in_work(job):
        raise NotFinished(
            f"Job {job.number} for it is being worked on by another chroma process.",
            hint="Let it finish; if it is stopped, run this again.",
            request_id=job.request_id,
            job=job.number,
            charged=job.charged,
        )
    if job.request_id is None:
        if resubmit_unknown:
            return Work(image.key, image.request, place, instead_of=job)
        raise OutcomeUnknown(
            f"Its last submit (job {job.number}) went out and no answer was heard: it may exist and may have"
            " been charged, so it is not sent again by itself.",
            hint=f"Look at the provider's console; then settle it with: chroma jobs --forget {job.number}"
            " and run this again, or run this with --resubmit-unknown.",
            job=job.number,
        )
    try:
        place = Destination.from_dict(job.destination or {})
    except OutputError:
        pass  # damaged: the manifest says the same
    return Work(image.key, image.request, place, job=job)


class _Pending:
    """The unsettled jobs of the ledger, by the places that they will write to."""

    def __init__(self, book: Book, base_url: str) -> None:
        self._jobs: dict[frozenset[str], list[JobRow]] = {}
        for job in book.pending(base_url):
            self._jobs.setdefault(frozenset(job.promised), []).append(job)

    def job_of(self, image: Image) -> JobRow | None:
        """The newest job for this very request at this very place; one that has an id goes first."""
        if not self._jobs:
            return None
        body = image.request.payload()
        places = frozenset(image.destination.promises())
        jobs = [job for job in self._jobs.get(places, ()) if job.request == body]
        return max(jobs, key=lambda job: (job.request_id is not None, job.number), default=None)


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
