"""EXIF and XMP chunks of a WebP file: where they stand, what they say, and a copy with ours put in.

A plain WebP file becomes an extended one, whose first chunk says which others there are. Source: the WebP
container specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from chroma_cli.images import exif, xmp
from chroma_cli.images.parts import SANDBOX, Bounded, CannotExtend, Damaged, Edit, Found, Metadata, Plan

_HAS_PROFILE: Final = 0x20
_HAS_ALPHA: Final = 0x10
_HAS_EXIF: Final = 0x08
_HAS_XMP: Final = 0x04
_EXIF_PREFIX: Final = b"Exif\0\0"  # of JPEG; some writers put it here too
_MAX_RIFF: Final = 2**32 - 10
_SIGNATURE_OF_SANDBOX: Final = f"<tiff:Software>{SANDBOX}</tiff:Software>".encode()


@dataclass
class _Layout:
    """Places are byte offsets; ``end`` is that of the RIFF container, which may be followed by more."""

    end: int
    width: int = 0
    height: int = 0
    flags: int = 0
    #: Of the chunk that says what there is; None in a plain file.
    extended: int | None = None
    metadata: dict[bytes, tuple[int, int, bytes]] = field(default_factory=dict)


def read(source: BinaryIO) -> Found:
    """Raises :class:`Damaged`."""
    layout = _scan(Bounded(source))
    block = layout.metadata.get(b"EXIF")
    packet = layout.metadata.get(b"XMP ")
    comment = exif.user_comment(block[2].removeprefix(_EXIF_PREFIX)) if block else None
    return Found("webp", layout.width, layout.height, {}, (packet[2],) if packet else (), comment)


def plan(file: Bounded, metadata: Metadata) -> Plan:
    """Raises :class:`Damaged` or CannotExtend."""
    layout = _scan(file)
    theirs = layout.metadata.get(b"XMP ")
    metadata = metadata.fitting(sandbox=theirs is not None and _SIGNATURE_OF_SANDBOX in theirs[2])
    notes: list[str] = []
    new: dict[bytes, bytes] = {}
    if metadata.parameters is not None:
        block = _exif_block(layout, metadata.parameters)
        if block is not None:
            new[b"EXIF"] = block
        else:
            notes.append(
                "the picture has a user comment of its own, so the recipe stands in its XMP packet only"
            )
    new[b"XMP "] = xmp.merged(theirs[2] if theirs else None, metadata.properties)
    return _edits(layout, new), tuple(notes)


def _exif_block(layout: _Layout, text: str) -> bytes | None:
    if b"EXIF" in layout.metadata:
        return exif.extended(layout.metadata[b"EXIF"][2].removeprefix(_EXIF_PREFIX), text)
    has_profile = bool(layout.flags & _HAS_PROFILE)
    return exif.block(text, layout.width, layout.height, has_profile=has_profile)


def _edits(layout: _Layout, new: dict[bytes, bytes]) -> list[Edit]:
    flags = layout.flags | _HAS_XMP | (_HAS_EXIF if b"EXIF" in new else 0)
    edits: list[Edit] = []
    if layout.extended is None:
        sides = (layout.width - 1).to_bytes(3, "little") + (layout.height - 1).to_bytes(3, "little")
        edits.append(Edit(12, 12, _chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides)))
    else:
        edits.append(Edit(layout.extended + 8, layout.extended + 9, bytes((flags,))))
    # The padding of the last chunk is missing in some files; a chunk that takes its place brings its own.
    padding = bytes(layout.end % 2)
    added = b""
    for kind, data in new.items():
        if kind in layout.metadata:
            start, end, _ = layout.metadata[kind]
            padding = b"" if end == layout.end else padding
            edits.append(Edit(start, end, _chunk(kind, data)))
        else:
            added += _chunk(kind, data)
    edits.append(Edit(layout.end, layout.end, padding + added))
    length = layout.end - 8 + sum(len(one.new) - (one.end - one.start) for one in edits)
    if length > _MAX_RIFF:
        raise CannotExtend("it is too large")
    return [Edit(4, 8, struct.pack("<I", length)), *edits]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _scan(file: Bounded) -> _Layout:
    _, length, _ = struct.unpack("<4sI4s", file.at(0, 12))
    layout = _Layout(8 + length)
    if layout.end > file.size:
        raise Damaged("The file is cut off.")
    at = 12
    pictures = 0
    while at + 8 <= layout.end:
        kind, count = struct.unpack("<4sI", file.at(at, 8))
        end = min(at + 8 + count + count % 2, layout.end)
        if at + 8 + count > layout.end:
            raise Damaged("The WebP file makes no sense: a chunk is longer than the file.")
        file.part(end)
        pictures += kind in (b"VP8 ", b"VP8L", b"ANMF")
        if kind in (b"EXIF", b"XMP ") and kind not in layout.metadata:
            layout.metadata[kind] = (at, end, file.metadata(at + 8, count))
        else:
            _take(layout, kind, at, file.at(at + 8, min(count, 10)))
        at = end
    if not pictures or not layout.width:
        raise Damaged("The WebP file has no pixels.")
    return layout


def _take(layout: _Layout, kind: bytes, at: int, head: bytes) -> None:
    """Size and flags from the chunks that tell them; that of the whole canvas wins."""
    if kind == b"VP8X" and len(head) == 10:
        layout.extended, layout.flags = at, head[0]
        layout.width = 1 + int.from_bytes(head[4:7], "little")
        layout.height = 1 + int.from_bytes(head[7:10], "little")
    elif layout.extended is not None or layout.width:
        return
    elif kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[6:10])
        layout.width, layout.height = width & 0x3FFF, height & 0x3FFF
    elif kind == b"VP8L" and head[:1] == b"\x2f" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        layout.width, layout.height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        layout.flags = _HAS_ALPHA if bits >> 28 & 1 else 0
