"""Whether bytes are a whole picture: one full decode of each, and the checks a lenient decoder leaves out.

The frame of the file is walked first, in small pieces: it gives the size in pixels before anything is
decoded, and it sees a file that was cut where the decoder would fill in the rest by itself.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from chroma_cli.errors import BrokenImage, OutputError
from chroma_cli.images.pixels import parts, pixels_of

#: The model's largest picture has 4.2 million; the limit keeps one decode below 200 MB of memory.
MAX_PIXELS: Final = 40_000_000
MAX_SIDE: Final = 65_535

_PIECE: Final = 256 * 1024
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
#: Neither a stuffed zero nor a fill byte; inside compressed data a restart does not end it either.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_JPEG_MARKER_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
#: Start-of-frame markers carry the size; C4, C8 and CC among them are something else.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE: Final = frozenset((0x01, *range(0xD0, 0xD9)))
_PNG_LAST_FILTER: Final = 4
_PNG_TEXTS: Final = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_PNG_XMP: Final = b"XML:com.adobe.xmp\0"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Adam7: first column and row, steps between columns and rows.
_PNG_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)

#: One decode at a time bounds the memory, and the filter for warnings is global.
_ONE_AT_A_TIME: Final = threading.Lock()


@dataclass(frozen=True)
class ImageInfo:
    """What the bytes are: ``format`` is png, jpeg or webp; the sides are in pixels. ``late_packet``: a PNG
    has an XMP packet where its pixels have begun."""

    format: str
    width: int
    height: int
    late_packet: bool = False


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
    """Read the picture from the start of a seekable file, decode it whole, and say what it is.

    Bytes behind the end of the picture are ignored. Raises BrokenImage for anything that is not one whole
    picture of at most 40 million pixels, OutputError if the file itself cannot be read.
    """
    try:
        source.seek(0)
        image_format = sniff(source.read(12))
        if image_format is None:
            raise BrokenImage(f"What came is no PNG, JPEG or WebP picture, {_looks_like(source)}.")
        source.seek(0)
        info = _WALKERS[image_format](source)
        _check_size(info.width, info.height)
        if image_format == "png" and _walk_decodes_png(source):
            return info
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a sloppy text chunk is no reason to talk
            width, height = _decode(source, image_format)
    except BrokenImage:
        raise
    except Exception as error:
        # Decoders raise nearly every type for junk; only a real trouble of the system bears a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise OutputError(f"The picture could not be read back: {error.strerror}.") from error
        raise BrokenImage(f"The picture cannot be decoded: {_short(error)}.") from error
    return replace(info, width=width, height=height)


def _decode(source: BinaryIO, image_format: str) -> tuple[int, int]:
    from PIL import Image

    prepare()
    with Image.open(pixels_of(source, image_format), formats=(image_format.upper(),)) as image:
        _check_size(*image.size)
        image.load()
        return image.size


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


def _exactly(source: BinaryIO, count: int) -> bytes:
    data = source.read(count)
    if len(data) < count:
        raise BrokenImage("The picture is cut off.")
    return data


def _pieces(source: BinaryIO, count: int) -> Iterator[bytes]:
    while count:
        data = _exactly(source, min(count, _PIECE))
        yield data
        count -= len(data)


# --- PNG ---------------------------------------------------------------------------------------------------


class _PixelData:
    """Unpacks the compressed rows without keeping them: counts them, and looks at the filter of each.

    ``stride``: bytes of a row with its filter; 0 where rows differ in length, and filters are not looked at.
    """

    def __init__(self, wanted: int, stride: int) -> None:
        self._inflate = zlib.decompressobj()
        self._missing = wanted
        self._stride = stride
        self._to_next_row = 0

    def feed(self, data: bytes) -> None:
        more = bool(data)
        while more and self._missing > 0 and not self._inflate.eof:
            rows = self._inflate.decompress(data, _PIECE)
            if self._stride:
                self._check_filters(rows[: self._missing])
            self._missing -= len(rows)
            data = self._inflate.unconsumed_tail
            # A full piece may have more behind it that was taken in already.
            more = bool(data) or len(rows) == _PIECE

    def _check_filters(self, rows: bytes) -> None:
        if max(rows[self._to_next_row :: self._stride], default=0) > _PNG_LAST_FILTER:
            raise BrokenImage("The picture is damaged: a row makes no sense.")
        self._to_next_row = (self._to_next_row - len(rows)) % self._stride

    def finish(self) -> None:
        if self._missing > 0:
            raise BrokenImage("The picture is cut off: rows are missing.")


def _walk_decodes_png(source: BinaryIO) -> bool:
    """Whether walking through this PNG was as good as decoding it.

    With 8 bits a channel, rows in order and no palette, nothing can go wrong any more once every row has
    come out of the compression with a filter that exists: the rest is adding bytes.
    """
    source.seek(len(_PNG) + 8)
    _, _, depth, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", _exactly(source, 13))
    return bool(depth == 8 and colour in (0, 2, 4, 6)) and not (compression or filters or interlaced)


def _walk_png(source: BinaryIO) -> ImageInfo:
    _exactly(source, len(_PNG))
    length, kind = struct.unpack(">I4s", _exactly(source, 8))
    if (length, kind) != (13, b"IHDR"):
        raise BrokenImage("The picture has no header.")
    header = _exactly(source, length)
    _png_checksum(source, kind, zlib.crc32(kind + header))
    size, pixels = _png_header(header)
    begun = late_packet = False
    for _ in parts():
        length, kind = struct.unpack(">I4s", _exactly(source, 8))
        checksum = zlib.crc32(kind)
        for data in _pieces(source, length):
            checksum = zlib.crc32(data, checksum)
            if kind == b"IDAT":
                pixels.feed(data)
            late_packet |= begun and kind in _PNG_TEXTS and data.startswith(_PNG_XMP)
        _png_checksum(source, kind, checksum)
        begun |= kind in (b"IDAT", b"fcTL")
        if kind == b"IEND":
            break
    pixels.finish()
    return ImageInfo("png", *size, late_packet)


def _png_checksum(source: BinaryIO, kind: bytes, checksum: int) -> None:
    (told,) = struct.unpack(">I", _exactly(source, 4))
    # Capitals mark what a picture needs; a bad checksum elsewhere (a comment) does no harm.
    if kind[:1].isupper() and told != checksum:
        raise BrokenImage("The picture is damaged: a checksum is wrong.")


def _png_header(data: bytes) -> tuple[tuple[int, int], _PixelData]:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data)
    _check_size(width, height)
    if colour not in _PNG_CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise BrokenImage("The picture's header makes no sense.")
    bits = _PNG_CHANNELS[colour] * depth
    wanted = 0
    for left, top, across, down in _PNG_PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * bits + 7) // 8)  # each row begins with its filter
    stride = 0 if interlaced else 1 + (width * bits + 7) // 8
    return (width, height), _PixelData(wanted, stride)


# --- JPEG --------------------------------------------------------------------------------------------------


def _walk_jpeg(source: BinaryIO) -> ImageInfo:
    _exactly(source, 2)
    size = (0, 0)
    in_scan = False
    for _ in parts():
        code = _jpeg_next(source, in_scan=in_scan)
        if code == 0xD9:
            break
        if code in _JPEG_ALONE:
            continue
        (length,) = struct.unpack(">H", _exactly(source, 2))
        data = _exactly(source, max(0, length - 2))
        in_scan = code == 0xDA
        if code in _JPEG_FRAMES and len(data) >= 5:
            height, width = struct.unpack(">HH", data[1:5])
            _check_size(width, height)
            size = (width, height)
    return ImageInfo("jpeg", *size)


def _jpeg_next(source: BinaryIO, *, in_scan: bool) -> int:
    """The code of the next marker; leaves the file just behind it.

    Whatever stands before it is skipped, as decoders do: compressed data, fill bytes, strays.
    """
    carried = _exactly(source, 2)
    if not in_scan and carried[0] == 0xFF and carried[1] not in (0x00, 0xFF):
        return carried[1]
    pattern = _JPEG_MARKER_IN_SCAN if in_scan else _JPEG_MARKER
    while True:
        piece = source.read(_PIECE)
        data = carried + piece
        hit = pattern.search(data)
        if hit is not None:
            source.seek(hit.end() - len(data), 1)
            return data[hit.end() - 1]
        if not piece:
            raise BrokenImage("The picture is cut off.")
        carried = data[-1:]


# --- WebP --------------------------------------------------------------------------------------------------


def _walk_webp(source: BinaryIO) -> ImageInfo:
    _, length, _ = struct.unpack("<4sI4s", _exactly(source, 12))
    left = length - 4
    size = (0, 0)
    pictures = 0
    for _ in parts():
        if left < 8:
            break
        kind, count = struct.unpack("<4sI", _exactly(source, 8))
        padded = min(count + count % 2, left - 8)
        head = _exactly(source, min(padded, 32))
        for _data in _pieces(source, padded - len(head)):
            pass  # only to see that it is there
        found = _webp_size(kind, head)
        if found is not None:
            _check_size(*found)
            size = (max(size[0], found[0]), max(size[1], found[1]))
        pictures += kind in (b"VP8 ", b"VP8L", b"ANMF")
        left -= 8 + padded
    if not pictures:
        raise BrokenImage("The picture is cut off: there is only its header.")
    return ImageInfo("webp", *size)


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int] | None:
    """Width and height of a chunk that tells them, in pixels."""
    if kind == b"VP8X" and len(head) >= 10:
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8L" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None


_WALKERS: Final[dict[str, Callable[[BinaryIO], ImageInfo]]] = {
    "png": _walk_png,
    "jpeg": _walk_jpeg,
    "webp": _walk_webp,
}
