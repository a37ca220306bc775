"""Put metadata into PNG, JPEG and WebP files, and read it, without touching the pixels.

Whatever the file, reading costs bounded memory and time: headers are read, pixels are passed over.
"""

from __future__ import annotations

import struct
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
    text = (metadata.parameters or "").encode("utf-8", "replace")
    if max(len(text), len(xmp.packet(metadata.properties))) > MAX_WRITTEN:
        raise CannotExtend("the recipe is too long")
    if image_format not in _PLANS:
        raise CannotExtend(f"{image_format} is not PNG, JPEG or WebP")
    try:
        edits, notes = _PLANS[image_format](Bounded(source), metadata)
    except Damaged as damage:
        raise CannotExtend(damage.message[:1].lower() + damage.message[1:].rstrip(".")) from damage
    except struct.error as error:
        raise CannotExtend("its parts do not fit together") from error
    splice(source, edits, write)
    return notes


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
