"""EXIF and XMP segments of a JPEG file: where they stand, what they say, and a copy with ours put in.

What follows the first start of scan is copied byte for byte. A segment holds 64 KB at most: a packet that is
longer goes on in extension segments, and a comment that is longer is left out. Sources: ITU T.81, Exif 2.32,
the XMP specification, part 3.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from chroma_cli.images import exif, xmp
from chroma_cli.images.parts import (
    MAX_METADATA,
    SANDBOX,
    Bounded,
    CannotExtend,
    Damaged,
    Edit,
    Found,
    Metadata,
    Plan,
)

_APP0: Final = 0xE0
_APP1: Final = 0xE1
_APP2: Final = 0xE2
_COMMENT: Final = 0xFE
_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP: Final = b"http://ns.adobe.com/xmp/extension/\0"
_PROFILE: Final = b"ICC_PROFILE\0"
_MAX_SEGMENT: Final = 65_533
_MAX_XMP: Final = 65_502
_MORE_PIECE: Final = 65_400
#: Start-of-frame markers carry the size; C4, C8 and CC among them are something else.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_END: Final = b"\xff\xd9"
_TAIL: Final = 64 * 1024
#: How far the end of the picture is looked for when the file goes on behind it.
_FAR: Final = 64 * 1024 * 1024


@dataclass
class _Layout:
    """Places are byte offsets of whole segments (start, end)."""

    width: int = 0
    height: int = 0
    #: Behind the segments that must come first.
    front: int = 2
    scan: int = 0
    exif: list[tuple[int, int, bytes]] = field(default_factory=list)
    xmp: list[tuple[int, int, bytes]] = field(default_factory=list)
    more: list[bytes] = field(default_factory=list)
    has_profile: bool = False
    sandbox: bool = False


def read(source: BinaryIO) -> Found:
    """Raises :class:`Damaged`."""
    file = Bounded(source)
    layout = _scan(file)
    _check_end(source, file.size, layout.scan)
    packets = [data for _, _, data in layout.xmp[:1]]
    if packets and layout.more:
        packets += _joined(packets[0], layout.more)
    comment = exif.user_comment(layout.exif[0][2]) if layout.exif else None
    return Found("jpeg", layout.width, layout.height, {}, tuple(packets), comment)


def plan(file: Bounded, metadata: Metadata) -> Plan:
    """Raises :class:`Damaged` or CannotExtend."""
    layout = _scan(file)
    if len(layout.exif) > 1 or len(layout.xmp) > 1:
        raise CannotExtend("it has more than one EXIF or XMP segment")
    metadata = metadata.fitting(sandbox=layout.sandbox)
    notes: list[str] = []
    edits: list[Edit] = []
    front = layout.front
    if metadata.parameters is not None:
        edits += _exif_edits(layout, metadata.parameters, notes)
    if layout.exif:
        front = layout.exif[0][1]
    segments = _xmp_segments(layout, metadata)
    start, end = layout.xmp[0][:2] if layout.xmp else (front, front)
    return [*edits, Edit(start, end, segments)], tuple(notes)


def _exif_edits(layout: _Layout, text: str, notes: list[str]) -> list[Edit]:
    if not layout.exif:
        block: bytes | None = exif.block(text, layout.width, layout.height, has_profile=layout.has_profile)
        start = end = layout.front
    else:
        start, end, old = layout.exif[0]
        block = exif.extended(old, text)
    if block is None:
        notes.append("the picture has a user comment of its own, so the recipe stands in its XMP packet only")
    elif len(_EXIF) + len(block) > _MAX_SEGMENT:
        notes.append("the prompts are too long for a JPEG user comment: they stand in the XMP packet only")
    else:
        return [Edit(start, end, _segment(_EXIF + block))]
    return []


def _xmp_segments(layout: _Layout, metadata: Metadata) -> bytes:
    theirs = layout.xmp[0][2] if layout.xmp else None
    whole = xmp.merged(theirs, metadata.properties)
    if len(whole) <= _MAX_XMP:
        return _segment(_XMP + whole)
    if layout.more:
        raise CannotExtend("its XMP packet is full")
    long = {name: value for name, value in metadata.properties.items() if name == xmp.RECIPE}
    more = xmp.bare(long)
    name = hashlib.md5(more, usedforsecurity=False).hexdigest().upper()
    short = {key: value for key, value in metadata.properties.items() if key not in long}
    main = xmp.merged(theirs, {**short, xmp.EXTENDED: name})
    if not long or len(main) > _MAX_XMP:
        raise CannotExtend("its XMP packet is full")
    pieces = [_segment(_XMP + main)]
    for at in range(0, len(more), _MORE_PIECE):
        head = _MORE_XMP + name.encode() + struct.pack(">II", len(more), at)
        pieces.append(_segment(head + more[at : at + _MORE_PIECE]))
    return b"".join(pieces)


def _segment(data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, _APP1, len(data) + 2) + data


def _scan(file: Bounded) -> _Layout:
    """Walk the segments up to the first scan."""
    layout = _Layout()
    at = 2
    leading = True
    while True:
        at, code = _marker(file, at)
        if code in _ALONE:
            file.part(at)
            continue
        if code == 0xD9:
            raise Damaged("The JPEG file has no pixels.")
        (length,) = struct.unpack(">H", file.at(at, 2))
        end = at + length
        file.part(end)
        if length < 2:
            raise Damaged("The JPEG file makes no sense: a segment has no length.")
        if code == 0xDA:
            layout.scan = end
            break
        _take(file, layout, code, at + 2, length - 2)
        leading = leading and code == _APP0
        if leading:
            layout.front = end
        at = end
    if not layout.width or not layout.height:
        raise Damaged("The JPEG file does not say how large the picture is.")
    return layout


def _marker(file: Bounded, at: int) -> tuple[int, int]:
    """The code of the marker at ``at``, fill bytes skipped, and the place behind it."""
    while True:
        first, code = file.at(at, 2)
        if first != 0xFF or code == 0x00:
            raise Damaged("The JPEG file is damaged: a segment does not begin where it should.")
        if code != 0xFF:
            return at + 2, code
        at += 1
        file.part(at)


def _take(file: Bounded, layout: _Layout, code: int, at: int, count: int) -> None:
    if code in _FRAMES and count >= 5:
        layout.height, layout.width = struct.unpack(">HH", file.at(at + 1, 4))
    elif code == _APP2:
        layout.has_profile |= file.at(at, min(count, len(_PROFILE))) == _PROFILE
    elif code == _COMMENT and count == len(SANDBOX):
        layout.sandbox |= file.at(at, count) == SANDBOX.encode()
    elif code == _APP1:
        start, end = at - 4, at + count
        head = file.at(at, min(count, len(_MORE_XMP)))
        if head.startswith(_EXIF):
            layout.exif.append((start, end, file.metadata(at + len(_EXIF), count - len(_EXIF))))
        elif head.startswith(_XMP):
            layout.xmp.append((start, end, file.metadata(at + len(_XMP), count - len(_XMP))))
        elif head == _MORE_XMP:
            layout.more.append(file.metadata(at + len(_MORE_XMP), count - len(_MORE_XMP)))


def _joined(main: bytes, segments: list[bytes]) -> list[bytes]:
    """The extension that the packet names, if all of it is there."""
    name = xmp.values(main, [xmp.EXTENDED]).get(xmp.EXTENDED, "").encode()
    pieces = sorted(
        (int.from_bytes(one[36:40], "big"), int.from_bytes(one[32:36], "big"), one[40:])
        for one in segments
        if len(one) > 40 and one[:32] == name
    )
    data = b""
    for start, total, piece in pieces:
        if start != len(data) or total != pieces[0][1] or total > MAX_METADATA:
            raise Damaged("The JPEG file is damaged: the pieces of its XMP packet do not fit.")
        data += piece
    if not pieces or len(data) != pieces[0][1]:
        raise Damaged("The JPEG file is damaged: a piece of its XMP packet is missing.")
    return [data]


def _check_end(source: BinaryIO, size: int, scan: int) -> None:
    """Raise :class:`Damaged` for a picture that was cut: its end marker is near the end of the file or, where
    something else was hung on, further up."""
    source.seek(max(scan, size - _TAIL))
    if _END in source.read(_TAIL):
        return
    source.seek(scan, os.SEEK_SET)
    last = b""
    for _ in range(_FAR // _TAIL):
        piece = source.read(_TAIL)
        if not piece:
            raise Damaged("The file is cut off.")
        if _END in last + piece:
            return
        last = piece[-1:]
