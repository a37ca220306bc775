"""What a picture itself says of where it comes from: whether the recipe inside it is that of an image.

Anybody can write a recipe into a file. Believing one means that the image is not paid for again, and no more.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chroma_cli.errors import ChromaError
from chroma_cli.gateway import values
from chroma_cli.images import disk
from chroma_cli.images.naming import FORMAT_OF_ENDING
from chroma_cli.jobs.manifest import Image

if TYPE_CHECKING:
    from chroma_cli.images.recipe import Recipe


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


def places(path: Path) -> tuple[Path, ...]:
    """Return where the picture of this path may lie: a picture of another format than asked for has its own
    ending."""
    return (path, *(path.with_suffix(f".{ending}") for ending in FORMAT_OF_ENDING))


def _look(path: Path) -> tuple[Recipe, Mapping[str, Any]] | None:
    """Return the recipe in a whole picture, and the file as a job's JSON has it; else None."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as source:
            return _read(path, source)
    except (OSError, ChromaError):
        return None


def _read(path: Path, source: BufferedReader) -> tuple[Recipe, Mapping[str, Any]] | None:
    from chroma_cli.images import containers, decode
    from chroma_cli.images.recipe import recipe_in

    status = os.fstat(source.fileno())
    metadata = containers.read(source) if stat.S_ISREG(status.st_mode) else None
    recipe = recipe_in(metadata) if metadata is not None else None
    if recipe is None or recipe.origin != "chroma":
        return None
    info = decode.verify(source)
    source.seek(0)
    return recipe, {
        "path": str(path),
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "bytes": status.st_size,
        "sha256": hashlib.file_digest(source, "sha256").hexdigest(),
    }
