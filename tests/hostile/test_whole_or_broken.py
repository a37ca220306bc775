"""What is whole is saved, whatever it is; what is not is never left under the final name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from kit import BROKEN, Reply, is_whole, picture
from PIL import Image


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise((64, 48), 40)
    shown = noise.convert(mode) if mode != "I;16" else Image.new(mode, (64, 48))
    shown.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes, *, right: bool = True) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not right))
    )


def png(width: int, height: int, rows: bytes, *, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wide_jpeg() -> bytes:
    frame = b"\x08" + struct.pack(">HH", 65_500, 65_500) + b"\x03" + b"\x01\x11\x00" * 3
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


PLAIN = encoded("png")
FLAVOURS: dict[str, bytes] = {
    "png": PLAIN,
    "jpeg": encoded("jpeg"),
    "progressive jpeg": encoded("jpeg", progressive=True),
    "webp": encoded("webp"),
    "lossless webp": encoded("webp", lossless=True),
    "webp with exif": encoded("webp", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
}
WHOLE: dict[str, bytes] = {
    **FLAVOURS,
    **{f"{name} and more": data + b"\r\n<!-- by a proxy -->" * 10 for name, data in FLAVOURS.items()},
    **{f"png {mode}": encoded("png", mode) for mode in ("1", "L", "P", "RGBA", "LA", "I;16")},
    # few kilobytes that unpack to 12 million bytes
    "large and flat": png(2048, 2048, (b"\0" + bytes(3 * 2048)) * 2048),
}
JUNK: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"\x89",
    "a page": b"<!DOCTYPE html><html>",
    "json": b'{"error": "no"}',
    "gif": b"GIF89a" + bytes(100),
    "bmp": b"BM" + bytes(100),
    "a png signature": b"\x89PNG\r\n\x1a\n",
    "a png signature and zeros": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "jpeg ends": b"\xff\xd8\xff\xd9",
    "jpeg markers": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 50,
    "jpeg fill bytes": b"\xff\xd8\xff" + b"\xff" * 100_000,
    "an empty riff": b"RIFF\x04\0\0\0WEBP",
    "a riff that lies": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(100),
    "an empty vp8x": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10),
    "no pixels": png(0, 5, b""),
    "a comment with a wrong checksum": PLAIN[:-12] + chunk(b"tEXt", b"C\0hello", right=False) + PLAIN[-12:],
    "a header with a wrong checksum": PLAIN[:29] + bytes([PLAIN[29] ^ 1]) + PLAIN[30:],
    # refused by what the header says
    "too large a png": png(65_000, 65_000, b""),
    "too wide a png": png(2**31 - 1, 1, b""),
    "too large a jpeg": wide_jpeg(),
    "too large a webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
}
CUTS: dict[str, Callable[[bytes], bytes]] = {
    "without its last byte": lambda data: data[:-1],
    "without its second half": lambda data: data[: len(data) // 2],
    "without all but its head": lambda data: data[:40],
}


def saved(gateway, chroma, work, pictures: dict[str, bytes]) -> set[str]:
    """Make all of them in one job; return the names of those that were saved as whole."""
    for place, data in enumerate(pictures.values()):
        reply = Reply(200, [("Content-Type", "image/png")], data)
        gateway.on(f"GET /files/*-{place}.png", reply, always=True)
    ended = chroma(
        "generate", "a fox", "-o", "{index}.png", "--samples", str(len(pictures)), "--yes", "--no-metadata"
    )
    assert ended.code in (0, 9), ended.said
    assert "Traceback" not in ended.err
    found = {int(path.stem) for path in work.iterdir() if path.suffix in (".png", ".jpg", ".webp")}
    assert len(found) == len(list(work.iterdir())), "something else is left"
    return {name for place, name in enumerate(pictures, 1) if place in found}


def test_what_is_whole_is_saved(gateway, clock, chroma, work) -> None:
    assert saved(gateway, chroma, work, WHOLE) == set(WHOLE)
    assert all(is_whole(path) for path in work.iterdir() if path.stem == "1")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_what_is_broken_is_not(gateway, clock, chroma, work, kind) -> None:
    whole = picture(1, kind)
    broken = {
        name: spoil(whole) for name, spoil in BROKEN.items() if kind == "png" or name != "a bit flipped"
    }
    cut = {
        f"{name} {how}": spoil(data)
        for name, data in FLAVOURS.items()
        for how, spoil in CUTS.items()
        if kind in name
    }
    # first, for the many tries of the others use up the time
    assert saved(gateway, chroma, work, {"a whole one": whole, **broken, **cut}) == {"a whole one"}


def test_junk_is_told_as_what_it_is(gateway, clock, chroma, work) -> None:
    assert saved(gateway, chroma, work, JUNK) == set()
    for name, words in [("a page", "web page"), ("json", "JSON"), ("nothing", "empty")]:
        gateway.behave()
        gateway.on("file", Reply(200, [], JUNK[name]), always=True)
        ended = chroma("generate", name, "--json")
        assert (ended.code, ended.error["charged"]) == (9, "yes")
        assert words in ended.error["message"]


def test_an_interlaced_png_is_whole(gateway, clock, chroma, work) -> None:
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    pictures = {}
    for width, height in [(1, 1), (3, 5), (8, 8), (13, 9)]:
        rows = b""
        for left, top, across, down in passes:
            columns, lines = len(range(left, width, across)), len(range(top, height, down))
            rows += (b"\0" + b"abc" * columns) * (lines if columns else 0)
        pictures[f"{width}x{height}"] = png(width, height, rows, interlaced=1)
    assert saved(gateway, chroma, work, pictures) == set(pictures)
