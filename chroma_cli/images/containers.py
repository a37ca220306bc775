"""Put metadata into PNG, JPEG and WebP files, and read it, without touching the pixels.

Whatever the file, reading costs bounded memory and time: headers are read, pixels are passed over.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import BinaryIO, Final

from chroma_cli.images import jpegfile, pngfile, webpfile, xmp
from chroma_cli.images.decode import sniff
from chroma_cli.images.parts import (
    MAX_WRITTEN,
    Bounded,
    CannotExtend,
    Damaged,
    Found,
    Metadata,
    Plan,
    Write,
    splice,
)

_READERS: Final = {"png": pngfile.read, "jpeg": jpegfile.read, "webp": webpfile.read}
_PLANS: Final = {"png": pngfile.plan, "jpeg": jpegfile.plan, "webp": webpfile.plan}


def embed(source: BinaryIO, image_format: str, metadata: Metadata, write: Write) -> tuple[str, ...]:
    """Write a copy of the picture in ``source`` (seekable, from its start) that also holds ``metadata``.

    What the file holds already stays, the pixel data byte for byte. Returns what is worth a warning. Raises
    :class:`CannotExtend`, before anything is written, when the file has to stay as it came; ``OSError`` comes
    from ``source`` and ``write`` alone.
    """
    _check_length(metadata)
    if image_format not in _PLANS:
        raise CannotExtend(f"{image_format} is not PNG, JPEG or WebP")
    edits, notes = _planned(lambda: _PLANS[image_format](Bounded(source), metadata))
    splice(source, edits, write)
    return notes


def embed_front(front: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]] | None:
    """The same for a file of which only the first bytes are here, where all that changes stands in them: in a
    PNG or JPEG, up to the pixels. None while too few are here, or when it cannot be done in this way; whether
    it can be done in the other is for :func:`embed` to say.
    """
    image_format = sniff(front[:12])
    try:
        _check_length(metadata)
        file = Bounded(io.BytesIO(front))
        if image_format == "png":
            edits, notes = _planned(lambda: pngfile.plan(file, metadata, front=True))
        elif image_format == "jpeg":
            edits, notes = _planned(lambda: jpegfile.plan(file, metadata))
        else:
            return None
    except CannotExtend:
        return None
    extended = io.BytesIO()
    splice(io.BytesIO(front), edits, extended.write)
    return extended.getvalue(), notes


def _check_length(metadata: Metadata) -> None:
    text = (metadata.parameters or "").encode("utf-8", "replace")
    if max(len(text), len(xmp.packet(metadata.properties))) > MAX_WRITTEN:
        raise CannotExtend("the recipe is too long")


def _planned(plan: Callable[[], Plan]) -> Plan:
    try:
        return plan()
    except Damaged as damage:
        raise CannotExtend(damage.message[:1].lower() + damage.message[1:].rstrip(".")) from damage
    except struct.error as error:
        raise CannotExtend("its parts do not fit together") from error


def read(source: BinaryIO) -> Found | None:
    """What the picture holds, or None where this is no PNG, JPEG or WebP at all.

    Raises :class:`Damaged` for a file that is cut, broken, or holds more than any honest one.
    """
    source.seek(0)
    image_format = sniff(source.read(12))
    if image_format is None:
        return None
    try:
        return _READERS[image_format](source)
    except struct.error as error:
        raise Damaged("The file is damaged: its parts do not fit together.") from error
