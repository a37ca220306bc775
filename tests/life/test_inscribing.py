"""The recipe is put into a picture once it is checked, beside whatever words it came with."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from faultserver import Cut, Reply, gateway_script, tiny_png

from chroma_cli.images import containers, recipe, xmp
from chroma_cli.jobs import inscription

PICTURE = tiny_png(1024, 1024)
XMP_KEYWORD = b"XML:com.adobe.xmp"
THEIRS = xmp.packet({xmp.CREATOR_TOOL: "their tool"})


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_text(data: bytes, *, keyword: bytes, text: bytes, behind: bool) -> bytes:
    """The picture with an iTXt chunk before or behind its pixels."""
    at = data.index(b"IEND" if behind else b"IDAT") - 4
    return data[:at] + chunk(b"iTXt", keyword + b"\0\0\0\0\0" + text) + data[at:]


def made(path: Path) -> None:
    """It holds our recipe, once."""
    data = path.read_bytes()
    assert data.count(XMP_KEYWORD) == 1
    assert recipe.recipe_of(path) is not None


@pytest.mark.parametrize("behind", [False, True])
def test_their_packet_is_joined_wherever_it_stands(life: Any, behind: bool) -> None:
    theirs = with_text(PICTURE, keyword=XMP_KEYWORD, text=THEIRS, behind=behind)
    gateway_script(life.server, png=theirs)
    assert life("generate", "a red fox", "-o", "fox.png").code == 0
    made(life.work / "fox.png")
    found = containers.read(io.BytesIO((life.work / "fox.png").read_bytes()))
    assert found is not None
    assert xmp.values(found.xmp[0], [xmp.CREATOR_TOOL]) == {xmp.CREATOR_TOOL: "their tool"}
    assert life.downloads() == 1
    assert not list(life.work.glob(".chroma-*"))
    # the same as in one copy of the whole
    job = life.row(1)
    metadata = inscription.metadata_of(job, "full")
    assert metadata is not None
    copy = io.BytesIO()
    containers.embed(io.BytesIO(theirs), "png", metadata, copy.write)
    assert (life.work / "fox.png").read_bytes() == copy.getvalue()


def test_other_words_behind_the_pixels_stay(life: Any) -> None:
    theirs = with_text(PICTURE, keyword=b"Comment", text=b"hello", behind=True)
    gateway_script(life.server, png=theirs)
    assert life("generate", "a red fox", "-o", "fox.png").code == 0
    made(life.work / "fox.png")
    assert b"hello" in (life.work / "fox.png").read_bytes()
    assert life.downloads() == 1


def test_a_cut_download_begins_anew(life: Any) -> None:
    life.server.on("GET", "/files/*", Cut(Reply.text(PICTURE), 900), Reply.text(PICTURE))
    assert life("generate", "a red fox", "-o", "fox.png").code == 0
    made(life.work / "fox.png")
    assert life.shows(life.work / "fox.png")


@pytest.mark.parametrize("level", ["none", "source-only"])
def test_less_is_written_where_less_is_wanted(life: Any, level: str) -> None:
    life.config.write_text(f'[defaults]\nmetadata = "{level}"\n')
    assert life("generate", "a red fox", "-o", "fox.png").code == 0
    data = (life.work / "fox.png").read_bytes()
    assert (data == PICTURE) == (level == "none")
    assert recipe.recipe_of(life.work / "fox.png") is None
