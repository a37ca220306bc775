"""The check of a picture: whole pictures pass, everything else is a BrokenImage and nothing else."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from chroma_cli.errors import BrokenImage, ChromaError, OutputError
from chroma_cli.images import decode
from chroma_cli.images.decode import ImageInfo, sniff, verify

FLAVOURS = {
    "png": ("png", {}),
    "jpeg": ("jpeg", {}),
    "jpeg progressive": ("jpeg", {"progressive": True}),
    "webp": ("webp", {}),
    "webp lossless": ("webp", {"lossless": True}),
    "webp extended": ("webp", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
}


def encoded(image_format: str, width: int = 64, height: int = 48, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, image_format.upper(), **options)
    return buffer.getvalue()


SAMPLES = {name: encoded(image_format, **options) for name, (image_format, options) in FLAVOURS.items()}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, interlaced: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def check(data: bytes) -> ImageInfo:
    return verify(io.BytesIO(data))


@pytest.mark.parametrize("name", FLAVOURS)
def test_whole_pictures_pass(name: str) -> None:
    assert check(SAMPLES[name]) == ImageInfo(FLAVOURS[name][0], 64, 48)


@pytest.mark.parametrize("name", FLAVOURS)
def test_bytes_behind_the_end_do_no_harm(name: str) -> None:
    assert check(SAMPLES[name] + b"\r\n<!-- served by a proxy -->" * 10).width == 64


@pytest.mark.parametrize("name", FLAVOURS)
def test_every_cut_is_seen(name: str) -> None:
    data = SAMPLES[name]
    cuts = {*range(0, len(data), max(1, len(data) // 150)), *range(max(0, len(data) - 30), len(data))}
    for cut in sorted(cuts):
        with pytest.raises(BrokenImage):
            check(data[:cut])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "I;16"])
def test_other_kinds_of_png(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (33, 17)).save(buffer, "PNG")
    assert check(buffer.getvalue()) == ImageInfo("png", 33, 17)


def test_a_damaged_checksum_counts_only_where_it_matters() -> None:
    data = bytearray(SAMPLES["png"])
    data[8 + 8 + 13] ^= 1  # in the checksum of the header
    with pytest.raises(BrokenImage):
        check(bytes(data))
    comment = bytearray(chunk(b"tEXt", b"Comment\0hello"))
    comment[-1] ^= 1
    end = SAMPLES["png"].index(b"IEND") - 4
    assert check(SAMPLES["png"][:end] + bytes(comment) + SAMPLES["png"][end:]).width == 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        b"<!DOCTYPE html><html>",
        b'{"error": "no"}',
        b"GIF89a" + bytes(100),
        b"BM" + bytes(100),
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff" + bytes(100),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff\xe0\x00\x00" * 50,
        b"\xff\xd8\xff" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\x01" * 200_000,
        b"RIFF\x04\0\0\0WEBP",
        b"RIFF\0\0\0\0WEBP" + bytes(100),
        b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(100),
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10),
        png(0, 5, b""),
        png(5, 5, bytes(80), depth=3),
        png(5, 5, bytes(80), colour=5),
    ],
    ids=lambda data: repr(data[:16]),
)
def test_junk_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenImage) as caught:
        check(data)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["a web page", "JSON text", "nothing at all"])
def test_the_message_says_what_came_instead(text: str) -> None:
    data = {"a web page": b"\n<!doctype HTML>", "JSON text": b' {"a": 1}', "nothing at all": b""}[text]
    with pytest.raises(BrokenImage, match=text):
        check(data)


def jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\x01\x11\x00" * 3


@pytest.mark.parametrize(
    "data",
    [
        png(65_000, 65_000, b""),
        png(2**31 - 1, 1, b""),
        png(8000, 5001, b""),
        jpeg_header(65_500, 65_500) + b"\xff\xd9",
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
        b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + b"\xff\xff\xff\x0f" + bytes(5),
        b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0" + bytes(3) + b"\x9d\x01\x2a" + b"\xff\x3f" * 2,
    ],
    ids=lambda data: repr(data[:16]),
)
def test_bombs_are_refused_by_their_header(data: bytes) -> None:
    with pytest.raises(BrokenImage, match="pixels"):
        check(data)


def test_a_png_bomb_in_few_bytes_is_not_unpacked() -> None:
    # 5x5 pixels, and 50 million bytes behind them: what is too much is ignored, as decoders do.
    assert check(png(5, 5, bytes(50_000_000))).width == 5


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(SAMPLES)), st.integers(0, 2**32), st.integers(1, 40))
def test_damage_is_told_or_harmless(name: str, seed: int, times: int) -> None:
    chance = random.Random(seed)
    data = bytearray(SAMPLES[name])
    for _ in range(times):
        at = chance.randrange(len(data)) if chance.random() < 0.5 else chance.randrange(min(64, len(data)))
        data[at] = chance.randrange(256)
    try:
        info = check(bytes(data))
    except BrokenImage:
        return
    assert info.width * info.height <= decode.MAX_PIXELS


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBPVP8X"]), st.binary())
def test_random_bytes_are_broken(start: bytes, rest: bytes) -> None:
    with pytest.raises(BrokenImage):
        check(start + rest)


@pytest.mark.parametrize(
    "error", [struct.error("x"), SyntaxError("x"), MemoryError(), EOFError(), ValueError("a\nb")]
)
def test_whatever_a_decoder_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.Image.open", fail)
    with pytest.raises(BrokenImage) as caught:
        check(SAMPLES["jpeg"])
    assert "\n" not in caught.value.message


def test_a_disk_that_cannot_be_read_is_no_broken_picture() -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OutputError, match="Input/output error"):
        verify(Failing(SAMPLES["png"]))


def test_warnings_of_the_decoder_are_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Image.open

    def talkative(*args: Any, **more: Any) -> Image.Image:
        warnings.warn("sloppy", UserWarning, stacklevel=1)
        return real(*args, **more)

    monkeypatch.setattr("PIL.Image.open", talkative)
    assert check(SAMPLES["png"]).width == 64


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (SAMPLES["png"], "png"),
        (SAMPLES["jpeg"], "jpeg"),
        (SAMPLES["webp"], "webp"),
        (b"RIFF1234WAVE", None),
        (b"", None),
    ],
)
def test_sniff(head: bytes, expected: str | None) -> None:
    assert sniff(head[:12]) == expected


MEMORY = """
import resource, sys, os
from pathlib import Path

def peak():
    # Not ru_maxrss on Linux: that one remembers the process this one was forked from.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

import PIL.Image, PIL.PngImagePlugin  # the imports themselves do not count
from chroma_cli.images.destination import plan
from chroma_cli.images.spool import Spool
from chroma_cli.images import writer, decode
source, target = sys.argv[1:]
destination = plan(target, cwd="/", values={"prompt": "x", "seed": 1}, samples=1, image_format="png", now=0.0)
PIL.Image.init()
before = peak()
with Spool(destination, token="t", ordinal=0, rescue_dir=os.path.dirname(target)) as spool:
    with open(source, "rb") as file:
        while data := file.read(65536):
            spool.write(data)
    with spool.reader() as reader:
        info = decode.verify(reader)
    saved = writer.place(spool, destination, info)
print(peak() - before, saved.bytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_a_large_picture_costs_little_memory(tmp_path: object, picture: Callable[..., bytes]) -> None:
    chance = random.Random(1)
    rows = b"".join(b"\0" + chance.randbytes(3 * 2048) for _ in range(2048))
    source, target = f"{tmp_path}/source", f"{tmp_path}/target.png"
    with open(source, "wb") as file:
        file.write(png(2048, 2048, rows))
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, source, target], capture_output=True, text=True, check=True
    )
    cost, size = (int(number) for number in run.stdout.split())
    assert size > 12_000_000
    assert cost <= 40_000_000, f"{cost} bytes"


def test_errors_belong_to_the_tree() -> None:
    with pytest.raises(ChromaError) as caught:
        check(b"junk")
    assert caught.value.exit_code == 9
