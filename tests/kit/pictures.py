"""Pictures whose colour is a number, so that a file tells which job of the gateway it is of.

A number up to 4095 is written as four bits for each of red, green and blue, far enough apart to survive JPEG.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

#: The highest number a picture can bear.
HIGHEST = 0xFFF
#: The ``image_format`` of a request, and what Pillow calls it.
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


def picture(number: int, kind: str = "png", width: int = 1024, height: int = 1024) -> bytes:
    """Return a whole picture of one colour, which is ``number``; ``kind`` is png, jpeg or webp."""
    if kind == "png":
        return png(number, width, height)
    return _by_pillow(number, kind, width, height)


def png(number: int, width: int = 1024, height: int = 1024, *, padding: int = 0) -> bytes:
    """Return a PNG with a palette of one colour; ``padding`` adds a text chunk of so many bytes."""
    filler = _chunk(b"tEXt", b"Comment\x00" + b"x" * padding) if padding else b""
    head, pixels, end = _png_parts(width, height)
    return head + _chunk(b"PLTE", bytes(_colour(number))) + filler + pixels + end


def number_of(picture: bytes | Path) -> int:
    """Return the number a picture bears; raise what Pillow raises when it is not whole."""
    from PIL import Image

    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with Image.open(io.BytesIO(data)) as check:
        check.verify()
    with Image.open(io.BytesIO(data)) as image:
        red, green, blue = image.convert("RGB").getpixel((0, 0))
    return (red // 16) << 8 | (green // 16) << 4 | blue // 16


def is_whole(picture: bytes | Path) -> bool:
    """Return whether all of a picture is there, to the last byte of its container."""
    data = picture.read_bytes() if isinstance(picture, Path) else picture
    try:
        number_of(data)
    except Exception:  # Pillow has many ways to say no
        return False
    if data.startswith(b"\x89PNG"):
        return data.endswith(_chunk(b"IEND", b""))
    if data.startswith(b"RIFF"):
        return len(data) == struct.unpack("<I", data[4:8])[0] + 8
    return data.endswith(b"\xff\xd9")


#: Ways in which a picture arrives broken; each takes the whole one.
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "last bytes missing": lambda data: data[:-12],
    "a bit flipped": lambda data: _flipped(data),
    "zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "empty": lambda data: b"",
    "a page": lambda data: b"<!DOCTYPE html><html><body>Sign in</body></html>",
}


def _flipped(data: bytes) -> bytes:
    place = len(data) - 20
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def _colour(number: int) -> tuple[int, int, int]:
    if not 0 <= number <= HIGHEST:
        raise ValueError(f"a picture cannot bear {number}")
    return (number >> 8) * 16 + 8, (number >> 4 & 15) * 16 + 8, (number & 15) * 16 + 8


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@lru_cache(maxsize=16)
def _png_parts(width: int, height: int) -> tuple[bytes, bytes, bytes]:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))
    rows = bytes(1 + (width + 7) // 8) * height
    return b"\x89PNG\r\n\x1a\n" + header, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")


@lru_cache(maxsize=64)
def _by_pillow(number: int, kind: str, width: int, height: int) -> bytes:
    from PIL import Image

    kept = io.BytesIO()
    Image.new("RGB", (width, height), _colour(number)).save(kept, FORMATS[kind])
    return kept.getvalue()
