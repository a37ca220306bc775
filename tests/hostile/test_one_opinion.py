"""Whether a picture is whole is for its pixels to say: no text, profile or comment in the file, however
large, packed or broken, makes one that was saved as good a broken one for the sheet or the gallery.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import Ended, Gateway, Reply, picture
from PIL import Image

from chroma_cli.images import cards, decode

Chroma = Callable[..., Ended]

#: 100 MB that lie in 100 kB.
BOMB = zlib.compress(bytes(100_000_000))


def chunk(kind: bytes, data: bytes, *, right: bool = True) -> bytes:
    checksum = zlib.crc32(kind + data) ^ (not right)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_with(*chunks: bytes, of: bytes | None = None, at: int = 33) -> bytes:
    """A PNG with more chunks; at 33 the header ends."""
    whole = picture(1) if of is None else of
    return whole[:at] + b"".join(chunks) + whole[at:]


def png_as(mode: str, **more: object) -> bytes:
    colours = Image.radial_gradient("L").resize((64, 48))
    shown = Image.merge("RGB", (colours, colours.rotate(90), colours.rotate(180))).convert(mode)
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", **more)
    return buffer.getvalue()


def segment(code: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    whole = picture(1, "jpeg")
    return whole[:2] + b"".join(segments) + whole[2:]


def part(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp_with(*parts: bytes) -> bytes:
    whole = picture(1, "webp")
    extended = part(b"VP8X", bytes((0x2C, 0, 0, 0)) + (1023).to_bytes(3, "little") * 2)
    body = extended + whole[12:] + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BURDENED = {
    "a packed text": lambda: png_with(chunk(b"zTXt", b"Comment\0\0" + BOMB)),
    "a packed text of Unicode": lambda: png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + BOMB)),
    "a packed profile": lambda: png_with(chunk(b"iCCP", b"x\0\0" + BOMB)),
    "a packed recipe": lambda: png_with(chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "texts of 70 MB": lambda: png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 999_000) * 70),
    "texts behind the pixels": lambda: png_with(chunk(b"zTXt", b"C\0\0" + BOMB), at=-12),
    "a wrong transparency": lambda: png_with(chunk(b"tRNS", b"x")),
    "broken little things": lambda: png_with(
        *(chunk(kind, b"x") for kind in (b"pHYs", b"cHRM", b"tIME", b"acTL"))
    ),
    "junk for EXIF in a PNG": lambda: png_with(chunk(b"eXIf", b"junk")),
    "junk for EXIF in a JPEG": lambda: jpeg_with(
        segment(0xE1, b"Exif\0\0junk"), segment(0xE2, b"ICC_PROFILE\0\1\2x")
    ),
    "junk for other programs": lambda: jpeg_with(
        segment(0xED, b"Photoshop 3.0\x008BIM"), segment(0xE2, b"MPF\0II*\0")
    ),
    "junk for EXIF in a WebP": lambda: webp_with(part(b"EXIF", b"junk")),
    "junk for XMP in a WebP": lambda: webp_with(part(b"ICCP", b"junk"), part(b"XMP ", b"junk")),
}


@pytest.mark.parametrize("what", BURDENED)
def test_a_picture_that_was_saved_is_shown(
    gateway: Gateway, clock: object, chroma: Chroma, work: Path, what: str
) -> None:
    data = BURDENED[what]()
    ending = {b"\x89": "png", b"\xff": "jpg", b"R": "webp"}[data[:1]]
    gateway.on("file", Reply(200, [("Content-Type", "application/octet-stream")], data), always=True)
    made = chroma("generate", "a fox", "-o", f"pictures/fox.{ending}")
    assert made.code == 0, made.said
    for argv in (("sheet", "pictures", "-o", "sheet.png"), ("gallery", "pictures", "-o", "page.html")):
        shown = chroma(*argv)
        assert shown.code == 0 and shown.warnings == [], shown.said
    assert 'class="broken"' not in Path("page.html").read_text()
    assert "whole picture" not in chroma("inspect", "pictures").said


@pytest.mark.parametrize("at", [33, -12], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("kind", [b"tEXt", b"eXIf", b"tRNS", b"prVt"])
def test_a_wrong_checksum_is_damage_for_all(
    gateway: Gateway, clock: object, chroma: Chroma, work: Path, kind: bytes, at: int
) -> None:
    data = png_with(chunk(kind, b"Comment\0hello", right=False), at=at)
    gateway.on("file", Reply(200, [("Content-Type", "image/png")], data), always=True)
    made = chroma("generate", "a fox", "-o", "fox.png")
    assert made.code == 9 and "checksum" in made.said
    assert not Path("fox.png").exists()
    Path("theirs.png").write_bytes(data)
    shown = chroma("sheet", "theirs.png", "-o", "sheet.png")
    assert "theirs.png" in shown.err


def test_a_text_of_a_gigabyte_costs_no_memory(work: Path) -> None:
    whole, checksum = picture(1), zlib.crc32(b"tEXtComment\0")
    for _ in range(1000):
        checksum = zlib.crc32(bytes(1_000_000), checksum)
    with Path("fox.png").open("wb") as file:  # a hole, not a gigabyte on the disk
        file.write(whole[:33] + struct.pack(">I4s", 1_000_000_008, b"tEXt") + b"Comment\0")
        file.seek(1_000_000_000, os.SEEK_CUR)
        file.write(checksum.to_bytes(4, "big") + whole[33:])
    for command in ("sheet fox.png -o sheet.png", "gallery . -o page.html", "inspect fox.png"):
        program = f'ulimit -v 900000 && exec "$0" -m chroma_cli {command}'
        ended = subprocess.run(["sh", "-c", program, sys.executable], capture_output=True, timeout=120)
        assert ended.returncode == (8 if "inspect" in command else 0), ended.stderr
        assert b"whole picture" not in ended.stderr
    assert 'class="broken"' not in Path("page.html").read_text()


KINDS = "tEXt zTXt iTXt iCCP eXIf tRNS gAMA pHYs sBIT bKGD acTL fcTL fdAT prVt"
CHUNKS = st.lists(
    st.builds(chunk, st.sampled_from(KINDS.encode().split()), st.binary(max_size=40)),
    max_size=4,
)
PNGS: Sequence[Callable[[], bytes]] = [
    lambda: png_as("RGB"),
    lambda: png_as("RGBA"),
    lambda: png_as("L"),
    lambda: png_as("P"),
    lambda: png_as("1"),
    lambda: png_as("RGB", transparency=(1, 2, 3)),
    lambda: png_as("P", transparency=b"\0\x80"),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(PNGS), early=CHUNKS, late=CHUNKS)
def test_whatever_is_whole_is_shown(
    tmp_path: Path, kind: Callable[[], bytes], early: list[bytes], late: list[bytes]
) -> None:
    data = png_with(*early, of=png_with(*late, of=kind(), at=-12))
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        info = decode.verify(file)
    assert (info.width, info.height) == (64, 48)
    assert sorted(cards.measure(path)) == [48, 64]
    shown = cards.thumbnail(path, (64, 64))
    assert shown.size == cards.measure(path)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_a_picture_is_shown_upright(tmp_path: Path, kind: str, turn: int) -> None:
    lies = Image.new("RGB", (40, 20), "blue")
    lies.paste("red", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"x.{kind}"
    lies.save(path, kind, exif=exif, quality=100)
    shown = cards.thumbnail(path, (40, 40))
    assert shown.size == cards.measure(path) == ((20, 40) if turn >= 5 else (40, 20))
    corner = {1: "nw", 2: "ne", 3: "se", 4: "sw", 5: "nw", 6: "ne", 7: "se", 8: "sw"}[turn]
    x = 2 if "w" in corner else shown.width - 3
    y = 2 if "n" in corner else shown.height - 3
    red, _, blue = shown.getpixel((x, y))
    assert red > 200 and blue < 100
