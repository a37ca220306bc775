"""Where a picture comes from: what the recipe inside it and the job ledger say.

Anybody can write a recipe into a file. Believing one means that an image is not paid for again; a picture is
replaced or removed only where the lock says the same of these very bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chroma_cli.errors import Charged, ChromaError
from chroma_cli.gateway import values
from chroma_cli.images import disk
from chroma_cli.images.naming import FORMAT_OF_ENDING
from chroma_cli.images.spool import havens, sweep
from chroma_cli.jobs.manifest import Image
from chroma_cli.jobs.records import JobRow, request_digest

if TYPE_CHECKING:
    from chroma_cli.images.recipe import Recipe
    from chroma_cli.jobs.entries import Entries

Seen = TypeVar("Seen")

#: The times of files are as coarse as this on some disks (seconds).
_COARSE: Final = 2.0


@dataclass(frozen=True)
class Found:
    """The files of an image, as in the JSON of a job, and the id of the job that made the first of them."""

    files: tuple[Mapping[str, Any], ...]
    request_id: str | None


def find(image: Image, *, sandbox: bool, besides: Container[str | None]) -> Found | None:
    """Return the files that lie in the image's places, all whole and made from its very request.

    Their recipes say so. ``sandbox``: the practice gateway's pictures count, and only they. ``besides`` are
    jobs whose pictures do not: what they made is known, so a file with their id in it was changed since.
    """
    samples, found = len(image.paths), []
    for index, path in enumerate(image.paths):
        place = next((one for one in places(path) if disk.exists(one)), None)
        seen = None if place is None else _look(place)
        if seen is None:
            return None
        recipe, file = seen
        fits = recipe.sample == (index + 1 if samples > 1 else None) and recipe.sandbox == sandbox
        if not fits or recipe.request != image.request.payload() or recipe.request_id in besides:
            return None
        found.append((file, recipe.request_id))
    return Found(tuple(file for file, _ in found), values.usable_id(found[0][1]))


def settled_by_picture(ledger: Entries, job: JobRow, *, rescue_dir: str) -> JobRow | None:
    """Return an unsettled job as saved, and record it so, where its picture lies at its place or was rescued:
    its program could not tell the ledger any more. None where nothing, or not all, is found.
    """
    if job.settled or not job.request or not job.promised or ledger.in_work(job):
        return None
    samples, found = len(job.promised), {}
    request_id = job.request_id
    for index, path in enumerate(job.promised):
        sample = index + 1 if samples > 1 else None
        for place in _left_at(Path(path), rescue_dir):
            seen = _look(place) if _is_ours_since(place, job.created_at) else None
            if seen is not None and _is_of(seen, job, sample, ledger):
                found[index] = seen[1]
                request_id = request_id or values.usable_id(seen[0].request_id)
                break
    if len(found) < samples:
        return None
    for folder in {Path(path).parent for path in job.promised}:
        sweep(folder, job.token)
    made = replace(job, state="saved", charged=Charged.YES, files=found, request_id=request_id, error=None)
    return ledger.catch_up(replace(made, saved_at=job.updated_at))


def _left_at(path: Path, rescue_dir: str) -> Iterator[Path]:
    """Yield where the picture of this path may have been left."""
    yield from places(path)
    for folder in havens(rescue_dir):
        with contextlib.suppress(OSError):
            yield from sorted(one for one in folder.iterdir() if one.name.startswith(path.stem))


def _is_ours_since(path: Path, moment: float) -> bool:
    """Return whether a file is this user's and was written since then."""
    try:
        found = path.lstat()
    except (OSError, ValueError):  # a name that this locale cannot write, too
        return False
    ours = sys.platform == "win32" or found.st_uid == os.geteuid()
    return ours and found.st_mtime >= moment - _COARSE


def _is_of(seen: tuple[Recipe, Mapping[str, Any]], job: JobRow, sample: int | None, ledger: Entries) -> bool:
    """Return whether this is the job's own picture, not an equal one that another job has made."""
    recipe, file = seen
    if recipe.request != job.request or recipe.sample != sample:
        return False
    if recipe.sandbox != (job.base_url == "sandbox"):
        return False
    if job.request_id is not None and recipe.request_id != job.request_id:
        return False
    maker = ledger.get(recipe.request_id) if recipe.request_id is not None else None
    if maker is not None and maker.number != job.number:
        return False
    return not any(row.number != job.number for row in ledger.saved_at(job.base_url, {file["path"]}))


def is_known(path: Path, sha256: str, requests: Container[str], rows: Iterable[JobRow]) -> bool:
    """Return whether the ledger (``rows``) or the recipe inside says that this file was made from one of
    these requests (digests). The lock alone may be anybody's."""
    for row in rows:
        files = ((file.get("path"), file.get("sha256")) for file in row.files.values())
        if row.request and request_digest(row.request) in requests and (str(path), sha256) in files:
            return True
    seen = _opened(path, _recipe)
    try:
        return seen is not None and request_digest(seen.request) in requests
    except RecursionError:
        return False


def places(path: Path) -> tuple[Path, ...]:
    """Return where the picture of this path may lie: a picture of another format than asked for has its own
    ending."""
    return (path, *(path.with_suffix(f".{ending}") for ending in FORMAT_OF_ENDING))


def _look(path: Path) -> tuple[Recipe, Mapping[str, Any]] | None:
    """Return the recipe in a whole picture, and the file as a job's JSON has it; else None."""

    def look(source: BufferedReader) -> tuple[Recipe, Mapping[str, Any]] | None:
        from chroma_cli.images import decode

        recipe = _recipe(source)
        if recipe is None:
            return None
        info = decode.verify(source)
        source.seek(0)
        return recipe, {
            "path": str(path),
            "format": info.format,
            "width": info.width,
            "height": info.height,
            "bytes": os.fstat(source.fileno()).st_size,
            "sha256": hashlib.file_digest(source, "sha256").hexdigest(),
        }

    return _opened(path, look)


def _recipe(source: BufferedReader) -> Recipe | None:
    """Return the recipe that we wrote into this picture, if it is one."""
    from chroma_cli.images import containers
    from chroma_cli.images.recipe import recipe_in

    metadata = containers.read(source)
    recipe = recipe_in(metadata) if metadata is not None else None
    return recipe if recipe is not None and recipe.origin == "chroma" else None


def _opened(path: Path, look: Callable[[BufferedReader], Seen | None]) -> Seen | None:
    """Return what there is to see in a regular file; None also for one that cannot be read."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as source:
            return look(source) if stat.S_ISREG(os.fstat(source.fileno()).st_mode) else None
    except (OSError, ValueError, ChromaError):
        return None
