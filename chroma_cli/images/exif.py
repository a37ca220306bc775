"""The EXIF block: making one that holds a user comment, adding it to one that is there, reading it.

A block of another program keeps every byte where it was, because maker notes point to absolute places: new
tables go to the end, and one pointer is changed. Source: Exif 2.32 and TIFF 6.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal

from chroma_cli.images.parts import CannotExtend

_EXIF_IFD: Final = 0x8769
_ORIENTATION: Final = 0x0112
_USER_COMMENT: Final = 0x9286
_SHORT: Final = 3
_LONG: Final = 4
_RATIONAL: Final = 5
_UNDEFINED: Final = 7
_IFD: Final = 13
#: Bytes of one value of each type.
_WIDTHS: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}

_UNICODE: Final = b"UNICODE\0"
_ASCII: Final = b"ASCII\0\0\0"
#: So many bytes at the end of a comment tell its byte order.
_SAMPLE: Final = 4096
_SRGB: Final = 1
_UNCALIBRATED: Final = 0xFFFF


class _Broken(Exception):
    """The block points outside itself."""


@dataclass(frozen=True)
class _Entry:
    """One row of a table; ``field`` is the value or, where that is longer than 4 bytes, its place."""

    tag: int
    kind: int
    count: int
    field: bytes


def encoded(text: str) -> bytes:
    """A user comment as this field's web UI writes it: UTF-16, big-endian whatever the block's byte order."""
    return _UNICODE + text.encode("utf-16-be", "replace")


def block(text: str, width: int, height: int, *, has_profile: bool) -> bytes:
    """A new block: the comment, and the tags that the standard demands; sides in pixels."""
    resolution = struct.pack(">II", 72, 1)
    main = [
        (0x011A, _RATIONAL, resolution),
        (0x011B, _RATIONAL, resolution),
        (0x0128, _SHORT, struct.pack(">H", 2)),
        (0x0213, _SHORT, struct.pack(">H", 1)),
    ]
    pointer = (_EXIF_IFD, _LONG, bytes(4))
    start = 8 + len(_table([*main, pointer], 8))
    inner = _table(_own_tags(text, width, height, has_profile=has_profile), start)
    pointer = (_EXIF_IFD, _LONG, struct.pack(">I", start))
    return b"MM\0\x2a\0\0\0\x08" + _table([*main, pointer], 8) + inner


def _own_tags(text: str, width: int, height: int, *, has_profile: bool) -> list[tuple[int, int, bytes]]:
    colours = _UNCALIBRATED if has_profile else _SRGB
    return [
        (0x9000, _UNDEFINED, b"0232"),
        (0x9101, _UNDEFINED, b"\1\2\3\0"),
        (_USER_COMMENT, _UNDEFINED, encoded(text)),
        (0xA000, _UNDEFINED, b"0100"),
        (0xA001, _SHORT, struct.pack(">H", colours)),
        (0xA002, _LONG, struct.pack(">I", width)),
        (0xA003, _LONG, struct.pack(">I", height)),
    ]


def _table(rows: list[tuple[int, int, bytes]], at: int) -> bytes:
    """A big-endian table that will stand at ``at``, with its long values behind it."""
    after = at + 2 + 12 * len(rows) + 4
    head = struct.pack(">H", len(rows))
    tail = b""
    for tag, kind, value in rows:
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack(">I", after + len(tail))
            tail += value + bytes(len(value) % 2)
        head += struct.pack(">HHI", tag, kind, len(value) // _WIDTHS[kind]) + field
    return head + bytes(4) + tail


def extended(old: bytes, text: str) -> bytes | None:
    """The old block with our comment added, or None where it has a user comment of its own.

    Raises :class:`CannotExtend` when the block is not understood.
    """
    try:
        return _Block(old).extended(text)
    except (_Broken, struct.error) as error:
        raise CannotExtend("its EXIF block is damaged") from error


def user_comment(data: bytes) -> str | None:
    """The text of the user comment, or None where there is none or the block is junk."""
    try:
        raw = _Block(data).comment()
    except (_Broken, struct.error):
        return None
    return None if raw is None else _decoded(raw)


def orientation(data: bytes) -> int | None:
    """Return how the picture is to be turned (1 to 8), or None where the block does not say or is junk."""
    try:
        return _Block(data).orientation()
    except (_Broken, struct.error):
        return None


class _Block:
    def __init__(self, data: bytes) -> None:
        self.data = data
        orders: dict[bytes, Literal["<", ">"]] = {b"II*\0": "<", b"MM\0*": ">"}
        if data[:4] not in orders:
            raise _Broken
        self.order = orders[data[:4]]
        (self.main,) = struct.unpack_from(f"{self.order}I", data, 4)

    def _long(self, value: int) -> bytes:
        return struct.pack(f"{self.order}I", value)

    def table(self, at: int) -> tuple[list[_Entry], bytes]:
        """The rows of the table at ``at``, and its pointer to the next one."""
        if at < 8:
            raise _Broken
        (count,) = struct.unpack_from(f"{self.order}H", self.data, at)
        end = at + 2 + 12 * count
        if end + 4 > len(self.data):
            raise _Broken
        rows = [
            _Entry(*struct.unpack_from(f"{self.order}HHI4s", self.data, at + 2 + 12 * row))
            for row in range(count)
        ]
        return rows, self.data[end : end + 4]

    def pointer(self) -> tuple[int, int] | None:
        """Where the main table points to the EXIF one: the place of that row, and the place it names."""
        rows, _ = self.table(self.main)
        for row, entry in enumerate(rows):
            if entry.tag == _EXIF_IFD and entry.kind in (_LONG, _IFD) and entry.count == 1:
                (place,) = struct.unpack(f"{self.order}I", entry.field)
                return self.main + 2 + 12 * row, place
        return None

    def orientation(self) -> int | None:
        for entry in self.table(self.main)[0]:
            if entry.tag == _ORIENTATION and entry.kind == _SHORT and entry.count == 1:
                (turn,) = struct.unpack(f"{self.order}H", entry.field[:2])
                return int(turn) if 1 <= turn <= 8 else None
        return None

    def comment(self) -> bytes | None:
        found = self.pointer()
        if found is None:
            return None
        return next((self.value(one) for one in self.table(found[1])[0] if one.tag == _USER_COMMENT), None)

    def value(self, entry: _Entry) -> bytes:
        length = entry.count * _WIDTHS.get(entry.kind, 1)
        if length <= 4:
            return entry.field[:length]
        (place,) = struct.unpack(f"{self.order}I", entry.field)
        if place + length > len(self.data):
            raise _Broken
        return self.data[place : place + length]

    def extended(self, text: str) -> bytes | None:
        theirs = self.comment()
        value = encoded(text)
        if theirs is not None and theirs != value and _decoded(theirs).strip():
            return None
        data = bytearray(self.data + bytes(len(self.data) % 2))
        place = len(data)
        data += value + bytes(len(value) % 2)
        ours = _Entry(_USER_COMMENT, _UNDEFINED, len(value), self._long(place))
        found = self.pointer()
        if found is not None:
            rows, following = self.table(found[1])
            table = self._append(data, rows, ours, following)
            data[found[0] + 8 : found[0] + 12] = self._long(table)
            return bytes(data)
        version = _Entry(0x9000, _UNDEFINED, 4, b"0232")
        table = self._append(data, [version], ours, bytes(4))
        rows, following = self.table(self.main)
        pointer = _Entry(_EXIF_IFD, _LONG, 1, self._long(table))
        data[4:8] = self._long(self._append(data, rows, pointer, following))
        return bytes(data)

    def _append(self, data: bytearray, rows: list[_Entry], new: _Entry, following: bytes) -> int:
        """Put a table with one more row at the end; its place."""
        place = len(data)
        rows = sorted([*(one for one in rows if one.tag != new.tag), new], key=lambda one: one.tag)
        data += struct.pack(f"{self.order}H", len(rows))
        for one in rows:
            data += struct.pack(f"{self.order}HHI4s", one.tag, one.kind, one.count, one.field)
        data += following
        return place


def _decoded(raw: bytes) -> str:
    """The text of a comment field; writers disagree on the byte order, so the likelier reading is taken."""
    prefix, body = raw[:8], raw[8:]
    if prefix == _UNICODE:
        # The names in a recipe are ASCII in any language: the order that shows more of it is right.
        end = body[: len(body) // 2 * 2][-_SAMPLE:]
        big = _ascii(high=end[0::2], low=end[1::2]) >= _ascii(high=end[1::2], low=end[0::2])
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0\ufeff")
    if prefix not in (_ASCII, bytes(8)):
        return ""
    return body.decode("utf-8", "replace").strip("\0")


def _ascii(*, high: bytes, low: bytes) -> int:
    """How many of the code units with these halves are plain ASCII."""
    return sum(1 for top, bottom in zip(high, low, strict=True) if top == 0 and 0 < bottom < 128)
