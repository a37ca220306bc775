"""What the readers and writers of containers share: what goes in, what is found, bounded reading, splicing.

A container is never rebuilt: a copy is made that differs in a few byte ranges, so that the pixels and all
that is not understood stay as they came.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar, Final

from chroma_cli.errors import ChromaError

#: All metadata of one file that is looked at, in bytes.
MAX_METADATA: Final = 8 * 1024 * 1024
#: What one compressed text may unpack to, in bytes.
MAX_INFLATED: Final = 4 * 1024 * 1024
#: The most that is written as one text, in bytes: UTF-16 doubles it, and all must stay readable.
MAX_WRITTEN: Final = 2 * 1024 * 1024
#: Chunks or segments of one file; a walk over so many takes less than a second.
MAX_PARTS: Final = 250_000
#: The practice gateway's signature: "Software" of a PNG, comment of a JPEG, ``tiff:Software`` in WebP.
SANDBOX: Final = "chroma sandbox"

_PIECE: Final = 256 * 1024

#: Takes the next bytes of the copy.
Write = Callable[[bytes], object]


class CannotExtend(Exception):
    """Nothing can be put into this file without harm; the argument says why, to stand in a warning."""


class Damaged(ChromaError):
    """The file is cut, broken, hostile or unreadable: what it holds cannot be said."""

    type: ClassVar[str] = "damaged_file"


@dataclass(frozen=True)
class Metadata:
    """What to put into a picture: XMP properties by qualified name (``xmp:CreatorTool``) in the order of the
    packet, and the "parameters" text, where one is wanted.

    ``in_sandbox`` makes what goes in instead where the file itself bears the signature of the practice
    gateway: one that runs for itself has an address like any other.
    """

    properties: Mapping[str, str]
    parameters: str | None = None
    in_sandbox: Callable[[], Metadata] | None = field(default=None, compare=False)

    def fitting(self, *, sandbox: bool) -> Metadata:
        """What goes into a file that is signed by the practice gateway, or is not."""
        return self.in_sandbox() if sandbox and self.in_sandbox is not None else self


@dataclass(frozen=True)
class Found:
    """What a picture holds; ``format`` is png, jpeg or webp, the sides are in pixels.

    ``texts`` are the wanted text chunks of a PNG by keyword; ``xmp`` the packet and, in a JPEG, what is too
    long for it; ``user_comment`` that of the EXIF block.
    """

    format: str
    width: int
    height: int
    texts: Mapping[str, str] = field(default_factory=dict)
    xmp: tuple[bytes, ...] = ()
    user_comment: str | None = None


class Bounded:
    """A seekable file that is read in small, counted amounts. Raises :class:`Damaged` where it ends too soon,
    holds more metadata than is accepted, or consists of absurdly many parts."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._left = MAX_METADATA
        self._parts = 0
        self.size = source.seek(0, os.SEEK_END)

    def at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``; for headers and other small things."""
        self._source.seek(offset)
        data = self._source.read(count)
        if len(data) < count:
            raise Damaged("The file is cut off.")
        return data

    def metadata(self, offset: int, count: int) -> bytes:
        """Like :meth:`at`, but counted against what may be read in all."""
        if count > self._left:
            raise Damaged(f"The file holds more than {MAX_METADATA // 1024**2} MB of metadata.")
        self._left -= count
        return self.at(offset, count)

    def part(self, end: int) -> None:
        """Note one more part, which ends at ``end``."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise Damaged("The file makes no sense: it has too many parts.")
        if end > self.size:
            raise Damaged("The file is cut off.")


@dataclass(frozen=True)
class Edit:
    """The bytes from ``start`` up to ``end`` become ``new``; an insertion where both are the same."""

    start: int
    end: int
    new: bytes


#: How a copy differs, and what is worth a warning.
Plan = tuple[list[Edit], tuple[str, ...]]


def splice(source: BinaryIO, edits: Iterable[Edit], write: Write) -> None:
    """Copy the file with the edits made; edits at one place apply in the order given, insertions first."""
    at = 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        _copy(source, at, edit.start, write)
        write(edit.new)
        at = edit.end
    _copy(source, at, None, write)


def _copy(source: BinaryIO, start: int, end: int | None, write: Write) -> None:
    source.seek(start)
    left = end - start if end is not None else None
    while left is None or left > 0:
        piece = source.read(_PIECE if left is None else min(left, _PIECE))
        if not piece:
            return
        write(piece)
        if left is not None:
            left -= len(piece)
