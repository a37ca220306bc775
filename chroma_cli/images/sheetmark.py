"""What a contact sheet says of itself, and how it is told from a picture: some properties in its XMP packet.

A sheet is made of pictures and is none, so whoever walks a folder leaves it out. It bears no date: the same
pictures make the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chroma_cli.errors import ChromaError
from chroma_cli.images import recipe, xmp

#: IPTC's name for a picture that is put together with the work of a trained model.
COMPOSITE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
_KIND: Final = "contact sheet"
#: All source types of which a trained model is a part, whatever the beginning of their address.
_OF_MODELS: Final = (
    "/trainedAlgorithmicMedia",
    "/compositeWithTrainedAlgorithmicMedia",
    "/compositeSynthetic",
)


@dataclass(frozen=True)
class SheetMark:
    """That a file is a contact sheet; ``sweep`` says of which sweep, where it is one's."""

    sweep: str | None = None


def properties(
    level: Literal["full", "source-only", "none"], *, of_model: bool, sweep: str | None = None
) -> dict[str, str]:
    """The XMP properties of a sheet, none where nothing is to be written.

    ``of_model``: at least one of its pictures is known to be the work of a trained model; of others, the
    sheet claims nothing.
    """
    source = {xmp.SOURCE_TYPE: COMPOSITE} if of_model else {}
    if level == "none":
        return {}
    if level == "source-only":
        return source
    own = {xmp.CREATOR_TOOL: recipe.TOOL, xmp.SHEET: _KIND}
    return {**source, **own, **({xmp.SWEEP: sweep} if sweep else {})}


def mark_of(path: Path) -> SheetMark | None:
    """The mark of a sheet of ours; None for any other file, readable or not.

    A sheet that bears nothing but its source type is known by its packet: nobody else writes these bytes.
    """
    try:
        packets = recipe.look(path).xmp
        if packets == (xmp.packet({xmp.SOURCE_TYPE: COMPOSITE}),):
            return SheetMark()
        found = _values(packets)
    except ChromaError:
        return None
    if found.get(xmp.SHEET) != _KIND or xmp.RECIPE in found:
        return None
    return SheetMark(found.get(xmp.SWEEP))


def is_of_model(path: Path) -> bool:
    """Whether the file says that a trained model had a part in it."""
    try:
        return _values(recipe.look(path).xmp).get(xmp.SOURCE_TYPE, "").endswith(_OF_MODELS)
    except ChromaError:
        return False


def _values(packets: tuple[bytes, ...]) -> Mapping[str, str]:
    wanted = (xmp.SOURCE_TYPE, xmp.SHEET, xmp.SWEEP, xmp.RECIPE)
    return {name: value for packet in packets for name, value in xmp.values(packet, wanted).items()}
