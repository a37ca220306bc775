"""Text, XMP and EXIF chunks of a PNG file: where they stand, what they say, and a copy with ours put in.

Source: the PNG specification, third edition; the XMP keyword is that of the XMP specification, part 3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from chroma_cli.images import exif, xmp
from chroma_cli.images.parts import (
    MAX_INFLATED,
    SANDBOX,
    Bounded,
    Damaged,
    Edit,
    Found,
    Metadata,
    Plan,
)

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
PARAMETERS: Final = "parameters"
XMP_KEYWORD: Final = "XML:com.adobe.xmp"
_WANTED: Final = (PARAMETERS, XMP_KEYWORD)
_SIGNATURE_OF_SANDBOX: Final = f"Software\0{SANDBOX}".encode()
_TEXTS: Final = (b"tEXt", b"zTXt", b"iTXt")
_LONGEST_KEYWORD: Final = 79
_MAX_LENGTH: Final = 2**31 - 1


@dataclass
class _Layout:
    """Places are byte offsets; ``pixels`` is that of the first chunk that belongs to the pixels."""

    width: int
    height: int
    pixels: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    packets: list[tuple[int, int, bytes]] = field(default_factory=list)
    exif: bytes | None = None
    sandbox: bool = False


def read(source: BinaryIO) -> Found:
    """Raises :class:`Damaged`."""
    layout = _scan(Bounded(source))
    comment = exif.user_comment(layout.exif) if layout.exif is not None else None
    packets = tuple(packet for _, _, packet in layout.packets[:1])
    return Found("png", layout.width, layout.height, layout.texts, packets, comment)


def plan(file: Bounded, metadata: Metadata) -> Plan:
    """Raises :class:`Damaged` or CannotExtend."""
    layout = _scan(file)
    metadata = metadata.fitting(sandbox=layout.sandbox)
    theirs = layout.packets[0][2] if layout.packets else None
    new = _itxt(XMP_KEYWORD, xmp.merged(theirs, metadata.properties))
    if metadata.parameters is not None:
        new += _text(PARAMETERS, metadata.parameters)
    # More than one packet is against the rules: the one that readers see has been extended, others stay.
    edits = [Edit(start, end, b"") for start, end, _ in layout.packets[:1]]
    return [*edits, Edit(layout.pixels, layout.pixels, new)], ()


def _text(keyword: str, text: str) -> bytes:
    """tEXt where its Latin-1 is enough for sure, iTXt elsewhere, as the ecosystem's writers do."""
    text = text.replace("\0", "\ufffd")
    if text.isascii():
        return _chunk(b"tEXt", keyword.encode() + b"\0" + text.encode())
    return _itxt(keyword, text.encode("utf-8", "replace"))


def _itxt(keyword: str, text: bytes) -> bytes:
    return _chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scan(file: Bounded) -> _Layout:
    if file.at(0, 16) != SIGNATURE + b"\0\0\0\x0dIHDR":
        raise Damaged("The PNG file has no header.")
    layout = _Layout(*struct.unpack(">II", file.at(16, 8)))
    at = len(SIGNATURE)
    while True:
        length, kind = struct.unpack(">I4s", file.at(at, 8))
        end = at + 12 + length
        if length > _MAX_LENGTH:
            raise Damaged("The PNG file makes no sense: a chunk is too long.")
        if kind in (b"IDAT", b"fcTL") and not layout.pixels:
            layout.pixels = at
        file.part(end)
        if kind in _TEXTS:
            _take_text(file, layout, at, length, kind)
        elif kind == b"eXIf":
            layout.exif = _body(file, at, length, kind)
        elif kind == b"IEND":
            break
        at = end
    if not layout.pixels:
        raise Damaged("The PNG file has no pixels.")
    return layout


def _body(file: Bounded, at: int, length: int, kind: bytes) -> bytes:
    data = file.metadata(at + 8, length + 4)
    if zlib.crc32(kind + data[:-4]) != int.from_bytes(data[-4:], "big"):
        raise Damaged("The PNG file is damaged: the checksum of its metadata is wrong.")
    return data[:-4]


def _take_text(file: Bounded, layout: _Layout, at: int, length: int, kind: bytes) -> None:
    """Read a chunk if its keyword is a wanted one; all others are passed over, however large."""
    head = file.at(at + 8, min(length, _LONGEST_KEYWORD + 1))
    keyword = head.partition(b"\0")[0].decode("latin-1")
    layout.sandbox |= kind == b"tEXt" and head == _SIGNATURE_OF_SANDBOX
    if keyword not in _WANTED or len(keyword) == len(head):
        return
    rest = _body(file, at, length, kind)[len(keyword) + 1 :]
    text = _unpacked(kind, rest)
    if keyword == XMP_KEYWORD:
        layout.packets.append((at, at + 12 + length, text))
    else:
        layout.texts[keyword] = text.decode("latin-1" if kind != b"iTXt" else "utf-8", "replace")


def _unpacked(kind: bytes, rest: bytes) -> bytes:
    """The text of a chunk, behind the keyword and its zero byte."""
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:])
    compressed, rest = rest[:1] == b"\x01", rest[2:]
    _, _, rest = rest.partition(b"\0")  # the language
    _, _, rest = rest.partition(b"\0")  # the keyword in it
    return _inflated(rest) if compressed else rest


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_INFLATED + 1)
    except zlib.error as error:
        raise Damaged("The PNG file is damaged: a compressed text cannot be unpacked.") from error
    if len(text) > MAX_INFLATED:
        raise Damaged(f"A compressed text unpacks to more than {MAX_INFLATED // 1024**2} MB; it is not read.")
    if not unpacker.eof:
        raise Damaged("The PNG file is damaged: a compressed text is cut off.")
    return text
