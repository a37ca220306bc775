"""Pictures whose colour is a number, so that a file tells which job of the gateway it is of.

A number up to 4095 is written as four bits for each of red, green and blue, far enough apart to survive JPEG.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

#: The highest number a picture can bear.
HIGHEST = 0xFFF
#: The ``image_format`` of a request, and what Pillow calls it.
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
#: That of our own properties in XMP.
NAMESPACE = "https://chroma-cli.dev/ns/1.0/"
PREFIXES = {
    NAMESPACE: "chroma",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
}


def picture(number: int, kind: str = "png", width: int = 1024, height: int = 1024) -> bytes:
    """Return a whole picture of one colour, which is ``number``; ``kind`` is png, jpeg or webp."""
    if kind == "png":
        return png(number, width, height)
    return _by_pillow(number, kind, width, height)


def png(number: int, width: int = 1024, height: int = 1024, *, padding: int = 0) -> bytes:
    """Return a PNG with a palette of one colour; ``padding`` adds a text chunk of so many bytes."""
    filler = chunk(b"tEXt", b"Comment\x00" + b"x" * padding) if padding else b""
    head, pixels, end = _png_parts(width, height)
    return head + chunk(b"PLTE", bytes(_colour(number))) + filler + pixels + end


def noise(kind: str = "png", width: int = 64, height: int = 48, mode: str = "RGB", **options: Any) -> bytes:
    """Return a picture with every pixel different, as Pillow saves it with these options."""
    from PIL import Image

    kept = io.BytesIO()
    Image.effect_noise((width, height), 40).convert(mode).save(kept, FORMATS[kind], **options)
    return kept.getvalue()


def pixels(picture: bytes | Path) -> tuple[str, tuple[int, int], bytes]:
    """Return mode, size and every pixel."""
    from PIL import Image

    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.size, image.tobytes()


def png_with(*chunks: bytes, width: int = 16, height: int = 16) -> bytes:
    """Return a whole PNG with these chunks behind its head."""
    head, rows, end = _png_parts(width, height)
    return head + b"".join(chunks) + chunk(b"PLTE", bytes(_colour(1))) + rows + end


def xmp_chunk(packet: bytes | str) -> bytes:
    """Return the chunk that holds an XMP packet."""
    data = packet.encode() if isinstance(packet, str) else packet
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + data)


def with_recipe(record: Any, **size: int) -> bytes:
    """Return a PNG whose recipe is this: an object is written as JSON, text as it is."""
    told = record if isinstance(record, str) else json.dumps(record)
    return png_with(
        xmp_chunk(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:chroma="{NAMESPACE}">'
            f"<chroma:Recipe>{escape(told)}</chroma:Recipe></rdf:Description></rdf:RDF></x:xmpmeta>"
        ),
        **size,
    )


def with_parameters(text: str, **size: int) -> bytes:
    """Return a PNG with the "parameters" text of another tool."""
    return png_with(chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode()), **size)


def properties(picture: bytes | Path) -> dict[str, str]:
    """Return the properties of a picture's XMP packet as text, by their names with the usual prefixes."""
    from PIL import Image

    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info.get("xmp")
    found: dict[str, str] = {}
    for element in ElementTree.fromstring(packet).iter() if packet else ():
        inside = "".join(element.itertext())
        for name, text in (
            (element.tag, inside.strip() if len(element) else inside),
            *element.attrib.items(),
        ):
            space, _, local = name.rpartition("}")
            if space[1:] in PREFIXES:
                found[f"{PREFIXES[space[1:]]}:{local}"] = text
    return found


def infotext(picture: bytes | Path) -> str | None:
    """Return the text that other tools read: a text chunk "parameters", or the user comment of EXIF."""
    from PIL import Image

    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            told = getattr(image, "text", {}).get("parameters")
            return None if told is None else str(told)
        comment = image.getexif().get_ifd(0x8769).get(0x9286)
    return None if comment is None else bytes(comment)[8:].decode("utf-16-be")


def number_of(picture: bytes | Path) -> int:
    """Return the number a picture bears; raise what Pillow raises when it is not whole."""
    from PIL import Image

    data = picture.read_bytes() if isinstance(picture, Path) else picture
    with Image.open(io.BytesIO(data)) as check:
        check.verify()
    with Image.open(io.BytesIO(data)) as image:
        red, green, blue = image.convert("RGB").getpixel((0, 0))
    return (red // 16) << 8 | (green // 16) << 4 | blue // 16


def is_whole(picture: bytes | Path) -> bool:
    """Return whether all of a picture is there, to the last byte of its container."""
    data = picture.read_bytes() if isinstance(picture, Path) else picture
    try:
        number_of(data)
    except Exception:  # Pillow has many ways to say no
        return False
    if data.startswith(b"\x89PNG"):
        return data.endswith(chunk(b"IEND", b""))
    if data.startswith(b"RIFF"):
        return len(data) == struct.unpack("<I", data[4:8])[0] + 8
    return data.endswith(b"\xff\xd9")


#: Ways in which a picture arrives broken; each takes the whole one.
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "last bytes missing": lambda data: data[:-12],
    "a bit flipped": lambda data: _flipped(data),
    "zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "empty": lambda data: b"",
    "a page": lambda data: b"<!DOCTYPE html><html><body>Sign in</body></html>",
}


def _flipped(data: bytes) -> bytes:
    place = len(data) - 20
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def _colour(number: int) -> tuple[int, int, int]:
    if not 0 <= number <= HIGHEST:
        raise ValueError(f"a picture cannot bear {number}")
    return (number >> 8) * 16 + 8, (number >> 4 & 15) * 16 + 8, (number & 15) * 16 + 8


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@lru_cache(maxsize=16)
def _png_parts(width: int, height: int) -> tuple[bytes, bytes, bytes]:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))
    rows = bytes(1 + (width + 7) // 8) * height
    return b"\x89PNG\r\n\x1a\n" + header, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")


@lru_cache(maxsize=64)
def _by_pillow(number: int, kind: str, width: int, height: int) -> bytes:
    from PIL import Image

    kept = io.BytesIO()
    Image.new("RGB", (width, height), _colour(number)).save(kept, FORMATS[kind])
    return kept.getvalue()
