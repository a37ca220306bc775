"""Check that bytes are a whole picture: a PNG by the checksum of every chunk, to its end; JPEG and
WebP by one full decode."""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Final

from chroma_cli.errors import BrokenImage, OutputError
from chroma_cli.images.pixels import pixels_of

#: The model's largest picture has 4.2 million; the limit keeps one decode below 200 MB of memory.
MAX_PIXELS: Final = 40_000_000
MAX_SIDE: Final = 65_535

_PNG: Final = b"\x89PNG\r\n\x1a\n"
#: The checksum of the last chunk, which is always empty.
_PNG_END: Final = b"\xae\x42\x60\x82"
_JPEG: Final = b"\xff\xd8\xff"

#: One decode at a time bounds the memory, and the filter for warnings is global.
_ONE_AT_A_TIME: Final = threading.Lock()


@dataclass(frozen=True)
class ImageInfo:
    """What the bytes are: ``format`` is png, jpeg or webp; the sides are in pixels."""

    format: str
    width: int
    height: int


def prepare() -> None:
    """Load the decoders; worth it ahead of time, for who has to wait anyway."""
    from PIL import Image, WebPImagePlugin  # noqa: F401  # for WebP alone Pillow would load all formats it knows

    Image.preinit()


def sniff(head: bytes) -> str | None:
    """The image format that the first 12 bytes tell: png, jpeg, webp, or None."""
    if head.startswith(_PNG):
        return "png"
    if head.startswith(_JPEG):
        return "jpeg"
    return "webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def verify(source: BinaryIO) -> ImageInfo:
    """Read the picture from the start of a seekable file, see that it is whole, and say what it is.

    Bytes behind the end of the picture are ignored. Raises BrokenImage for anything that is not one whole
    picture of at most 40 million pixels, OutputError if the file itself cannot be read.
    """
    try:
        source.seek(0)
        image_format = sniff(source.read(12))
        if image_format is None:
            raise BrokenImage(f"What came is no PNG, JPEG or WebP picture, {_looks_like(source)}.")
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a sloppy text chunk is no reason to talk
            return ImageInfo(image_format, *_checked(source, image_format))
    except BrokenImage:
        raise
    except Exception as error:
        # Decoders raise nearly every type for junk; only a real trouble of the system bears a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise OutputError(f"The picture could not be read back: {error.strerror}.") from error
        raise BrokenImage(f"The picture cannot be decoded: {_short(error)}.") from error


def _checked(source: BinaryIO, image_format: str) -> tuple[int, int]:
    """Return width and height; raise what Pillow says of a picture that is not whole."""
    from PIL import Image

    prepare()
    pixels = pixels_of(source, image_format)
    with Image.open(pixels, formats=(image_format.upper(),)) as image:
        size = image.size
        _check_size(*size)
        if image_format != "png":
            image.load()
            return size
        image.verify()  # up to the name of the last chunk
        if pixels.read(4) != _PNG_END:
            raise BrokenImage("The picture is cut off.")
    return size


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BrokenImage("The picture has no pixels.")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BrokenImage(
            f"The picture is {width}x{height}: over the limit of {MAX_PIXELS // 1_000_000} million pixels."
        )


def _looks_like(source: BinaryIO) -> str:
    source.seek(0)
    start = source.read(64)
    if not start:
        return "but nothing at all"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "but a web page"
    if text.startswith((b"{", b"[")):
        return "but JSON text"
    return f"but begins with {start[:8].hex(' ')}"


def _short(error: Exception) -> str:
    text = re.sub(r" ?<[^>]*>", "", " ".join(str(error).split()))  # Pillow names our file object
    return (text or type(error).__name__)[:200].rstrip(".")
