"""The part of a picture's file that makes its pixels: what a decoder is given of it.

Texts, profiles, comments and whatever else a file may hold is passed over, of any size and however little
sense it makes: it costs no memory, and does not make a whole picture a broken one. Of a PNG's only the
checksums are looked at. So every reader of pixels has one opinion.
"""

from __future__ import annotations

import bisect
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import BinaryIO, Final

from chroma_cli.errors import BrokenImage

#: Chunks or segments; a real file has at most a few thousand.
_MAX_PARTS: Final = 100_000
#: Bytes of a chunk that are read at a time.
_AT_ONCE: Final = 64 * 1024
#: EXIF tells how a picture is to be turned; JPEG has no room for more.
_LONGEST_EXIF: Final = 65_535
#: Pillow reads a WebP file at once; the largest picture has no more than this without any compression.
_LARGEST_WEBP: Final = 200_000_000
#: Chunks of at most this length; what else is in a PNG changes no pixel.
_PNG_LONGEST: Final = {b"PLTE": 768, b"tRNS": 256, b"eXIf": _LONGEST_EXIF}
#: Bytes of transparency by the colour type; with a palette there may be fewer.
_PNG_TRANSPARENCY: Final = {0: 2, 2: 6}
_WEBP_KEPT: Final = frozenset((b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"VP8 ", b"VP8L"))
#: Markers that are no segment, and the one behind which the pixels stand.
_JPEG_NO_SEGMENT: Final = {b""} | {bytes((code,)) for code in (*range(0xC0), *range(0xD0, 0xDB), 0xFF)}
_JPEG_EXIF: Final = b"Exif\0\0"

#: A range of the file, or bytes that stand in its place.
_Piece = tuple[int, int] | bytes


def parts() -> Iterator[None]:
    """Go round once for each part of a file; raises BrokenImage when there are absurdly many."""
    yield from repeat(None, _MAX_PARTS)
    raise BrokenImage("The picture makes no sense: it has too many parts.")


def pixels_of(source: BinaryIO, image_format: str) -> BinaryIO:
    """Return a seekable file with the same pixels and the same direction as ``source``, and little else.

    A file that is cut or makes no sense is passed on as it is from there on: the decoder will say so. Raises
    BrokenImage for a wrong checksum in a PNG, for absurdly many parts, and for more of a WebP file than any
    picture needs.
    """
    pieces: list[_Piece] = []
    for piece in _KEPT[image_format](source):
        last = pieces[-1] if pieces else b""
        if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
            pieces[-1] = (last[0], piece[1])
        else:
            pieces.append(piece)
    return io.BufferedReader(_Joined(source, pieces), 64 * 1024)


class _Joined(io.RawIOBase):
    """Some pieces of a file as one."""

    def __init__(self, source: BinaryIO, pieces: list[_Piece]) -> None:
        self._source = source
        self._pieces = pieces
        self._starts = [0]
        for piece in pieces:
            length = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._starts.append(self._starts[-1] + length)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = bisect.bisect_right(self._starts, self._at) - 1
        if at >= len(self._pieces):
            return 0
        piece, inside = self._pieces[at], self._at - self._starts[at]
        count = min(len(buffer), self._starts[at + 1] - self._at)
        if isinstance(piece, bytes):
            data = piece[inside : inside + count]
        else:
            self._source.seek(piece[0] + inside)
            data = self._source.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _at(source: BinaryIO, offset: int, count: int) -> bytes:
    source.seek(offset)
    return source.read(count)


def _end(source: BinaryIO) -> int:
    return source.seek(0, io.SEEK_END)


def _png(source: BinaryIO) -> Iterator[_Piece]:
    yield (0, 33)  # the signature and the header
    colour = _at(source, 25, 1)[:1]
    at, begun = 33, False
    for _ in parts():
        head = _at(source, at, 8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        end = at + 12 + length
        begun |= kind == b"IDAT"
        if kind not in (b"IDAT", b"IEND"):  # whose checksums the decoder looks at
            _check_sum(source, at, end)
        if kind in (b"IDAT", b"IEND") or (
            length <= _PNG_LONGEST.get(kind, -1) and not begun and _fits(length, kind, colour)
        ):
            yield (at, end)
        if kind == b"IEND":
            return
        at = end


def _check_sum(source: BinaryIO, at: int, end: int) -> None:
    """Raise BrokenImage for a chunk whose checksum is wrong: the file was damaged on its way."""
    source.seek(at + 4)
    left, checksum = end - at - 8, 0
    while left:
        data = source.read(min(left, _AT_ONCE))
        if not data:
            raise BrokenImage("The picture is cut off.")
        checksum = zlib.crc32(data, checksum)
        left -= len(data)
    if source.read(4) != checksum.to_bytes(4, "big"):
        raise BrokenImage("The picture is damaged: a checksum in it is wrong.")


def _fits(length: int, kind: bytes, colour: bytes) -> bool:
    """Return whether a chunk has a length that makes sense: what is not essential is not worth a picture."""
    return kind != b"tRNS" or length == _PNG_TRANSPARENCY.get(colour[0], length)


def _jpeg(source: BinaryIO) -> Iterator[_Piece]:
    yield (0, 2)
    at = 2
    seen: set[bytes] = set()
    for _ in parts():
        head = _at(source, at, 10)
        code, length = head[1:2], int.from_bytes(head[2:4], "big")
        if head[:1] != b"\xff" or code in _JPEG_NO_SEGMENT or length < 2:
            break
        said = b"\xe0" <= code <= b"\xef" or code == b"\xfe"
        needed = code in (b"\xe0", b"\xee") or (code == b"\xe1" and head[4:] == _JPEG_EXIF)
        if not said or (needed and code not in seen):
            yield (at, at + 2 + length)
            seen.add(code)
        at += 2 + length
    yield (at, _end(source))


def _webp(source: BinaryIO) -> Iterator[_Piece]:
    head = _at(source, 0, 12)
    whole = 8 + int.from_bytes(head[4:8], "little")
    if whole > _end(source):
        yield (0, _end(source))
        return
    kept: list[tuple[int, int]] = []
    exif = False
    at = 12
    for _ in parts():
        if at + 8 > whole:
            break
        kind, length = struct.unpack("<4sI", _at(source, at, 8))
        end = min(at + 8 + length + length % 2, whole)
        if kind in _WEBP_KEPT or (kind == b"EXIF" and length <= _LONGEST_EXIF and not exif):
            kept.append((at, end))
            exif |= kind == b"EXIF"
        at = end
    size = sum(end - start for start, end in kept)
    if size > _LARGEST_WEBP:
        raise BrokenImage(f"The picture holds more than {_LARGEST_WEBP // 1_000_000} MB of pixels.")
    yield head[:4] + struct.pack("<I", size + 4) + head[8:]
    yield from kept


_KEPT: Final[dict[str, Callable[[BinaryIO], Iterator[_Piece]]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
}
