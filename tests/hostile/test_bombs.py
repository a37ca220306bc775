"""Answers that unpack, nest or go on without end: memory stays bounded, and the deadline holds."""

from __future__ import annotations

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kit import Drip, Endless, Programs, Reply, Silence, chunk, png, png_with
from kit.guard import Guard

FOX = ("generate", "a red fox", "-o", "fox.png")

# --- bombs: bounded memory and time ------------------------------------------------------------------------


@cache
def zipped(data: bytes, times: int) -> bytes:
    """``data`` so many times, as gzip, without ever being in memory as a whole."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([*(packer.compress(data) for _ in range(times)), packer.flush()])


def gzipped(data: bytes, times: int) -> Reply:
    return Reply(200, [("Content-Encoding", "gzip")], zipped(data, times))


def endless(start: bytes, piece: bytes, kind: str = "application/json") -> Endless:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()
    return Endless(head + start, piece)


def picture(width: int, height: int, rows: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *chunks, data, chunk(b"IEND", b"")])


@cache
def zeros(count: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(count >> 20)), packer.flush()])


def text_bomb(kind: bytes, keyword: bytes) -> bytes:
    """A picture with a text that unpacks to 100 MB."""
    middle = b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0"
    return png_with(chunk(kind, keyword + middle + zeros(100 << 20)), width=1024, height=1024)


MIB = bytes(2**20)
#: Name: where, what the server does, exit code, and the megabytes that it may cost beyond a usual run.
BOMBS: dict[str, tuple[str, Callable[[], Any], int, int]] = {
    "gzip-bomb-as-status": ("status", lambda: gzipped(b'"' + MIB, 300), 9, 40),
    "gzip-bomb-of-json-as-status": ("status", lambda: gzipped(b"[" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-balance": ("credits", lambda: gzipped(b"{" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-answer-to-a-submit": ("submit", lambda: gzipped(b"{" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-picture": ("file", lambda: gzipped(png(7, 4, 4) + MIB, 300), 9, 40),
    "gzip-within-gzip": ("status", lambda: gzipped(zipped(MIB, 100), 100), 9, 40),
    "endless-nonsense-as-result": ("result", lambda: endless(b"<html>", b"x" * 65536), 9, 40),
    "endless-json-as-result": ("result", lambda: endless(b'{"output": "', b"x" * 65536), 9, 300),
    "endless-list-as-status": ("status", lambda: endless(b"[", b"[" * 65536), 9, 40),
    "endless-picture": ("file", lambda: endless(png(7, 4, 4), b"x" * 65536, "image/png"), 9, 40),
    "endless-headers": ("status", lambda: Endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 100), 9, 40),
    "endless-header": ("status", lambda: Endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536), 9, 40),
    "endless-status-line": ("status", lambda: Endless(b"HTTP/1.1 200 ", b"y" * 65536), 9, 40),
    "endless-hints-of-what-is-to-come": (
        "status",
        lambda: Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        9,
        40,
    ),
    "error-of-fifty-megabytes": ("status", lambda: Reply.json({"error": "x" * 50_000_000}, 400), 2, 60),
    "a-million-pictures": (
        "result",
        lambda: Reply.json({"status": "COMPLETED", "output": ["/"] * 1_000_000}),
        9,
        80,
    ),
    "png-of-sixty-thousand-by-sixty-thousand": (
        "file",
        lambda: Reply(200, [], picture(60000, 60000, zeros(1 << 20))),
        9,
        40,
    ),
    "png-with-more-rows-than-it-says": (
        "file",
        lambda: Reply(200, [], picture(768, 768, zeros(200 << 20))),
        0,
        60,
    ),
    "png-within-the-limit": ("file", lambda: Reply(200, [], picture(8000, 5000, zeros(121 << 20))), 0, 200),
    "png-just-beyond-the-limit": (
        "file",
        lambda: Reply(200, [], picture(8001, 5000, zeros(121 << 20))),
        9,
        40,
    ),
    "png-with-a-text-bomb": ("file", lambda: Reply(200, [], text_bomb(b"iTXt", b"parameters")), 0, 60),
    "png-with-a-packed-text-bomb": ("file", lambda: Reply(200, [], text_bomb(b"zTXt", b"Comment")), 0, 60),
    "png-with-a-colour-profile-bomb": ("file", lambda: Reply(200, [], text_bomb(b"iCCP", b"x")), 0, 60),
    "jpeg-of-sixty-thousand-by-sixty-thousand": (
        "file",
        lambda: Reply(
            200,
            [],
            b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65000, 65000, 3) + bytes(9) + b"\xff\xd9",
        ),
        9,
        40,
    ),
    "webp-of-sixteen-million-by-sixteen-million": (
        "file",
        lambda: Reply(
            200,
            [],
            b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff" * 6,
        ),
        9,
        40,
    ),
}


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc to ask for the memory"
)


@pytest.fixture(scope="module")
def usual() -> dict[str, int]:
    """The memory of a usual run, once known."""
    return {}


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("name", BOMBS)
def test_bomb(guarded: Guard, process: Programs, usual: dict[str, int], name: str) -> None:
    if not usual:
        ended, usual["MB"] = process.peak("generate", "x", "-o", "usual.png")
        assert ended.code == 0, ended.said
        (guarded.work / "usual.png").unlink()
    route, lay, code, more = BOMBS[name]
    guarded.gateway.on(route, lay(), always=True)
    argv = ("credits",) if route == "credits" else (*FOX, "--timeout", "4")
    ended, peak = process.peak(*argv)
    assert ended.code == code, ended.said
    guarded.check_words(ended)
    guarded.check_files()
    guarded.check_servers()
    assert guarded.made() == ({"fox.png"} if code == 0 and route != "credits" else set())
    assert peak - usual["MB"] < more, f"{peak} MB, {usual['MB']} MB without the bomb"


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("shape", ["file", "v1 bytes", "v1 json", "v2 emoji"])
def test_a_large_picture_is_not_held_several_times(
    guarded: Guard, process: Programs, usual: dict[str, int], shape: str
) -> None:
    if not usual:
        _, usual["MB"] = process.peak("generate", "x", "-o", "usual.png")
    noise = chunk(b"tEXt", b"Comment\0" + base64.b64encode(os.urandom(9_000_000)))
    data = png_with(noise, width=1024, height=1024)
    coded = base64.b64encode(data).decode()
    told = {
        "v1 json": {"image": coded},
        "v2 emoji": {"status": "COMPLETED", "x": "\U0001f3f0", "output": coded},
    }
    route = "file" if shape == "file" else "sync" if shape.startswith("v1") else "result"
    body = json.dumps(told[shape], ensure_ascii=False).encode() if shape in told else data
    guarded.gateway.on(route, Reply(200, body=body), always=True)
    ended, peak = process.peak(*FOX, *(["--sync"] if route == "sync" else []))
    assert ended.code == 0, ended.said
    assert (guarded.work / "fox.png").stat().st_size >= len(data)
    assert peak - usual["MB"] < (12 if body is data else 3 * len(body) / 2**20 + 8)


# --- slowness: the deadline holds --------------------------------------------------------------------------

_SPACES = Reply(200, body=b"{" + b" " * 10_000)
_HEADERS = Reply(200, [("X", "y" * 10_000)])
SLOW: dict[str, tuple[str, Any]] = {
    "silence after the submit": ("submit", Silence()),
    "slow headers of the status": ("status", Drip(0.02, 1, _HEADERS)),
    "slow picture": ("file", Drip(0.02, 1, Reply(200, body=png(7, padding=9999)))),
}
MORE_SLOW: dict[str, tuple[str, Any]] = {
    "slow answer to the submit": ("submit", Drip(0.02, 1, _SPACES)),
    "slow headers of the submit": ("submit", Drip(0.02, 1, _HEADERS)),
    "slow body of the status": ("status", Drip(0.02, 1, _SPACES)),
    "slow length of a chunk": (
        "status",
        Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ),
    "slow body of the result": ("result", Drip(0.02, 1, _SPACES)),
    "silence instead of a picture": ("file", Silence()),
}


@pytest.mark.parametrize("name", [*SLOW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_SLOW)])
@pytest.mark.parametrize("how", [(), pytest.param(("--sync",), marks=pytest.mark.slow)], ids=["v2", "v1"])
def test_slow(gateway: Any, chroma: Any, work: Path, name: str, how: tuple[str, ...]) -> None:
    """In real time: each of these takes minutes to the end, or never comes to one."""
    route, action = {**SLOW, **MORE_SLOW}[name]
    if how and route != "submit":
        pytest.skip("a blocking call is one answer")
    gateway.on("sync" if how else route, action, always=True)
    ended = chroma(*FOX, "--timeout", "3", "--json", *how)
    assert ended.code == 9, ended.said
    assert ended.error["charged"] == ("yes" if route in ("file", "result") else "unknown")
    assert gateway.posts() == 1
    assert list(work.iterdir()) == []
