"""Reading a reply's body within limits: what it is, is seen from its first bytes, never from Content-Type.

A picture streams into a sink and is never in memory; JSON and text are collected up to a limit that counts
after decompression; anything else is cut off early, because only a few words of it can be of use.
"""

from __future__ import annotations

import codecs
import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from chroma_cli.gateway.bounded import Gate, Sink

PIECE: Final = 64 * 1024
#: Asked of the socket at a time: pictures come in fewer turns.
_READ: Final = 1024 * 1024
#: Enough of an error page to find its title.
_NONSENSE_LIMIT: Final = 64 * 1024
_SNIFF: Final = 16
_KEPT: Final = 1024 * 1024
_GZIP: Final = b"\x1f\x8b"
#: HTML, told from the other markup that is met: XML of a file host, a drawing.
_PAGE: Final = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?<(?!\?xml|svg|error)", re.IGNORECASE)
_JSON_OR_TEXT: Final = frozenset(b"{[\"'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")


class Broken(Exception):  # noqa: N818  # never leaves this layer
    """The body ended before its end; ``reason`` says how, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _TooLarge(Exception):  # noqa: N818
    pass


@dataclass(frozen=True)
class Reading:
    """What to do with a body: at most ``limit`` bytes of it, pictures into a sink made by ``sink_factory``.

    ``keep_binary``: also bytes that are no picture known here, if they are no text, go into the sink (a v1
    answer is paid and cannot be had again). ``everything``: all of a successful body goes into the sink,
    unless it is a web page.
    """

    limit: int
    sink_factory: Callable[[], Sink] | None = None
    keep_binary: bool = False
    everything: bool = False


@dataclass
class Body:
    """What was read. ``fault`` says why it is not whole, None when it is."""

    data: bytearray = field(default_factory=bytearray)
    sink: Sink | None = None
    size: int = 0
    fault: str | None = None
    too_large: bool = False

    def take_text(self) -> str:
        """The collected bytes as text; many are let go of, so that only one copy is in memory. A few stay, so
        that an answer whose reading was interrupted can be read again.
        """
        if len(self.data) <= _KEPT:
            return decode(bytearray(self.data))
        return decode(self.data)


def is_picture(head: bytes) -> bool:
    """Whether bytes start like a PNG, a JPEG or a WebP."""
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return True
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_page(text: str) -> bool:
    """Whether a text is a web page."""
    return _PAGE.match(text.removeprefix("\ufeff")) is not None


def read_body(read: Callable[[int], bytes], encoding: str, ok: bool, reading: Reading, gate: Gate) -> Body:
    """Read a whole body through ``read(n)``, which gives at most n bytes, b"" at the end, or raises Broken.

    ``encoding`` is the Content-Encoding; ``ok`` whether the status was a success, without which nothing goes
    into a sink. What a sink raises passes through.
    """
    collector = _Collector(reading, ok, gate)
    try:
        for piece in _decoded(_pieces(read, gate), encoding):
            collector.take(piece)
        collector.end()
    except Broken as error:
        collector.end()
        collector.body.fault = error.reason
    except _TooLarge:
        collector.body.too_large = True
        collector.body.fault = f"it is larger than accepted ({collector.limit} bytes)"
    return collector.body


def _pieces(read: Callable[[int], bytes], gate: Gate) -> Iterator[bytes]:
    while True:
        gate.check()
        piece = read(_READ)
        if not piece:
            return
        yield piece


class _Collector:
    def __init__(self, reading: Reading, ok: bool, gate: Gate) -> None:
        self.body = Body()
        # An error page of a file host is of no use beyond its first words.
        self.limit = _NONSENSE_LIMIT if reading.everything and not ok else reading.limit
        self._reading = reading
        self._gate = gate
        self._may_sink = ok and reading.sink_factory is not None
        self._decided = False

    def take(self, piece: bytes) -> None:
        body = self.body
        body.size += len(piece)
        if body.sink is None:
            body.data += piece[: max(0, self.limit - len(body.data))]
            if not self._decided and len(body.data) >= _SNIFF:
                self._decide()
        elif body.size <= self.limit:
            self._gate.write(body.sink, piece)
        if body.size > self.limit:
            raise _TooLarge

    def end(self) -> None:
        if not self._decided:
            self._decide()

    def _decide(self) -> None:
        """The first bytes are here: picture, text, or nonsense?"""
        self._decided = True
        body, reading = self.body, self._reading
        head = bytes(body.data[:512])
        everything = reading.everything and not is_page(head.decode("utf-8", "replace"))
        wanted = everything or is_picture(head) or (reading.keep_binary and _is_binary(head))
        if self._may_sink and wanted and (head or reading.everything):
            assert reading.sink_factory is not None
            body.sink = self._gate.open(reading.sink_factory)
            if body.data:
                self._gate.write(body.sink, bytes(body.data))
            body.data = bytearray()
        elif not _starts_like_json_or_text(head):
            self.limit = min(self.limit, _NONSENSE_LIMIT)


def _is_binary(head: bytes) -> bool:
    if b"\x00" in head:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except UnicodeDecodeError:
        return True
    return False


def _starts_like_json_or_text(head: bytes) -> bool:
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    return not head or head[0] in _JSON_OR_TEXT


# --- Content-Encoding ------------------------------------------------------------------------------------


def _decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The body without its compression, in pieces of bounded size: a bomb grows no further than the limit.

    None is asked for, and the header says little: gzip is told by its first bytes, "deflate" is believed of
    what is neither text nor a picture, and all else is taken as it comes.
    """
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _SNIFF:
            break
    whole = itertools.chain((head,), pieces) if head else pieces
    if head.startswith(_GZIP):
        yield from _inflated(whole, zlib.MAX_WBITS | 16)
    elif encoding.strip().lower() == "deflate" and not (is_picture(head) or _starts_like_json_or_page(head)):
        # without the zlib frame it is wrong, but common
        framed = head[0] & 15 == zlib.DEFLATED and int.from_bytes(head[:2]) % 31 == 0
        yield from _inflated(whole, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
    else:
        yield from whole


def _starts_like_json_or_page(head: bytes) -> bool:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return start in (b"", b"{", b"[", b'"', b"<")


def _inflated(pieces: Iterator[bytes], window: int) -> Iterator[bytes]:
    engine = zlib.decompressobj(window)
    for piece in pieces:
        data = piece
        while data:
            if engine.eof:  # another gzip member, or garbage behind the last, which is ignored
                if not data.startswith(_GZIP[:1]) or window < zlib.MAX_WBITS | 16:
                    return
                engine = zlib.decompressobj(window)
            try:
                out = engine.decompress(data, PIECE)
            except zlib.error:
                raise Broken("its compression is damaged") from None
            data = engine.unused_data if engine.eof else engine.unconsumed_tail
            if out:
                yield out
    rest = engine.flush()
    if rest:
        yield rest
    if not engine.eof:
        raise Broken("its compression is cut off")


# --- bytes to text ---------------------------------------------------------------------------------------

#: Up to here a text may grow to four bytes a character without harm.
_SMALL: Final = 4 * 1024 * 1024
_ASCII: Final = bytes(range(128))


def decode(data: bytearray) -> str:
    """UTF-8 (with or without a byte order mark, damage replaced) to text, and ``data`` emptied.

    One character beyond ASCII can make a text four times as large in memory. In a large body, which is base64
    inside JSON, such characters become JSON escapes first, so that it stays at one byte a character.
    """
    if data.startswith(codecs.BOM_UTF8):
        del data[: len(codecs.BOM_UTF8)]
    if data.isascii():
        text = data.decode("ascii")
        data.clear()
        return text
    if len(data) <= _SMALL or len(data.translate(None, _ASCII)) > _SMALL // 4:
        text = bytes(data[: _SMALL * 2]).decode("utf-8", "replace")  # that much else is nonsense
        data.clear()
        return text
    return _escaped(data)


def _escaped(data: bytearray) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts: list[str] = []
    for start in range(0, len(data), PIECE):
        text = decoder.decode(bytes(data[start : start + PIECE]))
        parts.append(_escape(text))
    parts.append(_escape(decoder.decode(b"", final=True)))
    data.clear()
    return "".join(parts)


def _escape(text: str) -> str:
    if text.isascii():
        return text
    units = ((ch, ord(ch)) for ch in text)
    return "".join(ch if code < 128 else _json_escape(code) for ch, code in units)


def _json_escape(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
