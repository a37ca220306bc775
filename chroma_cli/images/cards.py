"""Pictures that lie on a disk together with what is known of them: found in folders, and made small.

Sheets and galleries show many files that may be anybody's, so each is opened with limits, one at a time, and
a broken one is an answer, not the end.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chroma_cli.errors import BrokenImage, NotFound, UsageError
from chroma_cli.images import exif
from chroma_cli.images.decode import MAX_PIXELS, MAX_SIDE, sniff
from chroma_cli.images.pixels import pixels_of

if TYPE_CHECKING:
    from PIL import Image

ENDINGS: Final = frozenset((".png", ".jpg", ".jpeg", ".webp"))
#: More than anyone looks through on one page.
MAX_FOUND: Final = 10_000
_EXIF_PREFIX: Final = b"Exif\0\0"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Card:
    """One picture and what is known of it; None is unknown.

    ``recipe`` is a request body (the gateway's names), ``command`` the line that makes it again, ``created``
    a time as ``2026-01-02T03:04:05Z``; sides are in pixels.
    """

    path: Path
    recipe: Mapping[str, Any] | None = None
    command: str | None = None
    request_id: str | None = None
    created: str | None = None
    sandbox: bool = False
    width: int | None = None
    height: int | None = None
    bytes: int | None = None


def walk(
    directory: Path, *, limit: int = MAX_FOUND, unreadable: Callable[[str], None] | None = None
) -> list[Path]:
    """Every PNG, JPEG and WebP file below a folder, by its ending, in the order a person would count.

    Hidden files and folders (our temp files among them) are left out and links to folders not followed.
    ``unreadable`` hears of each folder that could not be looked into. Raises NotFound if there is no such
    folder or it cannot be read, UsageError if there are more than ``limit`` pictures.
    """
    found: list[Path] = []

    def failed(error: OSError) -> None:
        if error.filename is None or Path(error.filename) == directory:
            raise NotFound(f"{directory} cannot be looked into: {error.strerror}.") from error
        if unreadable is not None:
            unreadable(str(error.filename))

    for folder, folders, files in os.walk(directory, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in ENDINGS or not path.is_file():
                continue
            found.append(path)
            if len(found) > limit:
                raise UsageError(
                    f"{directory} holds more than {limit} pictures.", hint="Name a folder further down."
                )
    return sorted(found, key=lambda path: [_natural(part) for part in path.parts])


def _natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key that counts: ``knight-2`` comes before ``knight-10``."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", text)
    return [
        (0, int(piece), "")
        if piece.isascii() and piece.isdigit() and len(piece) < 20
        else (1, 0, piece.lower())
        for piece in pieces
    ], text


def measure(path: Path) -> tuple[int, int]:
    """Width and height in pixels as the picture is shown, from its header. Raises BrokenImage."""

    def look(image: Image.Image) -> tuple[int, int]:
        return (image.height, image.width) if _turn(image) >= 5 else image.size

    return _opened(path, look)


def thumbnail(path: Path, box: tuple[int, int], *, background: str = "#000") -> Image.Image:
    """The picture in RGB, upright, made to fit into ``box`` (never enlarged). Raises BrokenImage.

    A JPEG is decoded at a fraction of its size where that will do; what is transparent shows ``background``.
    """

    def shrink(image: Image.Image) -> Image.Image:
        from PIL import Image

        turn = _turn(image)
        # Both sides, since it may turn out to lie on its side.
        side = max(box)
        image.draft("RGB", (side * 2, side * 2))
        small = _plain(image, background)
        if turn > 1:
            small = small.transpose(_upright(turn))
        small.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=2.0)
        return small

    return _opened(path, shrink)


def _plain(image: Image.Image, background: str) -> Image.Image:
    """A copy in RGB, whatever the file had."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image.load()
        flat = image.point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    elif image.has_transparency_data:
        above = image.convert("RGBA")
        flat = Image.new("RGB", image.size, background)
        flat.paste(above, mask=above.getchannel("A"))
    else:
        flat = image.convert("RGB")
    return flat


def _turn(image: Image.Image) -> int:
    """How EXIF says that the picture lies, 1 being upright."""
    return exif.orientation(image.info.get("exif", b"").removeprefix(_EXIF_PREFIX)) or 1


def _upright(turn: int) -> Image.Transpose:
    from PIL import Image

    how = Image.Transpose
    return {
        2: how.FLIP_LEFT_RIGHT,
        3: how.ROTATE_180,
        4: how.FLIP_TOP_BOTTOM,
        5: how.TRANSPOSE,
        6: how.ROTATE_270,
        7: how.TRANSVERSE,
        8: how.ROTATE_90,
    }[turn]


def _opened(path: Path, work: Callable[[Image.Image], Answer]) -> Answer:
    """Open with every limit, hand over to ``work``, and turn whatever a decoder raises into BrokenImage."""
    from PIL import Image

    try:
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BrokenImage("not a file")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image_format = sniff(file.read(12))
            if image_format is None:
                raise BrokenImage("not a whole picture")
            with Image.open(pixels_of(file, image_format), formats=(image_format.upper(),)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    raise BrokenImage(f"too large: {width}x{height}")
                return work(image)
    except BrokenImage:
        raise
    except FileNotFoundError as error:
        raise BrokenImage("missing") from error
    except OSError as error:
        raise BrokenImage(error.strerror.lower() if error.strerror else "not a whole picture") from error
    except Exception as error:
        # Decoders raise nearly every type for junk.
        raise BrokenImage("not a whole picture") from error
