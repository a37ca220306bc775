"""Copies with metadata put in: the pixels stay, what is there stays, the frame stays valid."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, PngImagePlugin
from recipe_kit import FORMATS, embedded, no_warnings, picture, pixels, recipe_with

from chroma_cli.images import containers, decode, recipe, xmp
from chroma_cli.images.parts import CannotExtend, Damaged, Metadata
from chroma_cli.images.recipe import TRAINED_MODEL, Recipe

Exiftool = Callable[[bytes, str], dict[str, Any]]

THEIRS = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><!-- a comment -->'
    '<r:Description r:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Their &lt;tool&gt;">'
    '<dc:title><r:Alt><r:li xml:lang="x-default">Título &amp; 图</r:li></r:Alt></dc:title>'
    '</r:Description></r:RDF></x:xmpmeta>                 <?xpacket end="w"?>'
).encode()

VARIANTS = [
    ("png", {}),
    ("png", {"mode": "RGBA"}),
    ("png", {"mode": "P"}),
    ("png", {"mode": "1"}),
    ("png", {"mode": "I;16"}),
    ("jpeg", {}),
    ("jpeg", {"mode": "L"}),
    ("jpeg", {"mode": "CMYK"}),
    ("jpeg", {"progressive": True, "quality": 95}),
    ("jpeg", {"restart_marker_rows": 1}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("webp", {"mode": "RGBA"}),
    ("webp", {"mode": "RGBA", "lossless": True}),
]


def animation(image_format: str) -> bytes:
    frames = [Image.effect_noise((32, 24), sigma).convert("RGB") for sigma in (10, 50, 90)]
    buffer = io.BytesIO()
    frames[0].save(buffer, image_format.upper(), save_all=True, append_images=frames[1:], duration=40)
    return buffer.getvalue()


def found_recipe(data: bytes) -> Recipe | None:
    seen = containers.read(io.BytesIO(data))
    assert seen is not None
    return recipe.recipe_in(seen)


@pytest.mark.parametrize(("image_format", "options"), VARIANTS)
def test_pixels_are_the_same_and_the_file_is_whole(image_format: str, options: dict[str, Any]) -> None:
    before = picture(image_format, **options)
    after = embedded(before, image_format, recipe_with())
    assert pixels(after) == pixels(before)
    assert decode.verify(io.BytesIO(after)) == decode.verify(io.BytesIO(before))
    assert found_recipe(after) == recipe_with()


@pytest.mark.parametrize("size", [(1, 1), (31, 17), (1, 200)])
@pytest.mark.parametrize("image_format", FORMATS)
def test_odd_sizes(image_format: str, size: tuple[int, int]) -> None:
    before = picture(image_format, *size)
    after = embedded(before, image_format, recipe_with())
    assert pixels(after) == pixels(before)
    seen = containers.read(io.BytesIO(after))
    assert seen is not None and (seen.width, seen.height) == size


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_animations_keep_every_frame(image_format: str) -> None:
    before = animation(image_format)
    after = embedded(before, image_format, recipe_with())

    def frames(data: bytes) -> list[bytes]:
        with Image.open(io.BytesIO(data)) as image:
            shown = []
            for number in range(image.n_frames):
                image.seek(number)
                shown.append(image.convert("RGB").tobytes())
            return shown

    assert frames(after) == frames(before) and len(frames(after)) == 3
    assert found_recipe(after) == recipe_with()


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (told,) = struct.unpack_from(">I", data, at + 8 + length)
        assert told == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + length
    return chunks


def test_a_png_differs_by_two_chunks() -> None:
    before, after = png_chunks(picture("png")), png_chunks(embedded(picture("png"), "png", recipe_with()))
    added = [chunk for chunk in after if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    assert [kind for kind, _ in added] == [b"iTXt", b"iTXt"]
    assert [chunk for chunk in after if chunk not in added] == before or len(before) == len(after) - 2


def test_the_scan_of_a_jpeg_is_copied_byte_for_byte() -> None:
    before = picture("jpeg", progressive=True)
    after = embedded(before, "jpeg", recipe_with())
    assert after.endswith(before[20:])  # all behind the start and the JFIF segment
    assert after[:20] == before[:20]
    assert after[20:24][:2] == b"\xff\xe1" and after[24:30] == b"Exif\0\0"


def test_a_webp_says_what_it_holds() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((30, 20), 40).convert("LA").convert("RGBA").rotate(30).save(
        buffer, "WEBP", lossless=True
    )
    after = embedded(buffer.getvalue(), "webp", recipe_with())
    assert struct.unpack_from("<I", after, 4)[0] == len(after) - 8
    assert after[12:16] == b"VP8X" and after[20] & 0x0C == 0x0C
    assert after[20] & 0x10
    assert pixels(after) == pixels(buffer.getvalue())
    assert pixels(after)[0] == "RGBA"


@pytest.mark.parametrize("image_format", FORMATS)
def test_what_hangs_on_behind_the_picture_stays(image_format: str) -> None:
    before = picture(image_format) + b"something else\0"
    after = embedded(before, image_format, recipe_with())
    assert after.endswith(b"something else\0")
    assert found_recipe(after) == recipe_with()


# --- metadata that is there --------------------------------------------------------------------------------


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_metadata(image_format: str, endian: str = "<") -> bytes:
    block = Image.Exif()
    block.endian = endian
    block[0x013B] = "An artist"
    block[0x8298] = "A notice"
    block.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    block.get_ifd(0x8769)[0x927C] = b"maker note that must not move"
    block.get_ifd(0x8825)[1] = "N"
    options: dict[str, Any] = {"exif": block, "icc_profile": PROFILE}
    if image_format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Author", "somebody")
        info.add_text("parameters", "theirs")
        info.add_itxt("XML:com.adobe.xmp", THEIRS.decode(), zip=True)
        options["pnginfo"] = info
    else:
        options["xmp"] = THEIRS
    if image_format == "jpeg":
        options |= {"comment": b"a comment", "dpi": (300, 300)}
    return picture(image_format, **options)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("image_format", FORMATS)
def test_existing_metadata_stays(exiftool: Exiftool, image_format: str, endian: str) -> None:
    before = with_metadata(image_format, endian)
    after = embedded(before, image_format, recipe_with())
    assert pixels(after) == pixels(before)
    was, now = exiftool(before, image_format), exiftool(after, image_format)
    changed = {
        name: (value, now.get(name))
        for name, value in was.items()
        if now.get(name) != value and not name.startswith(("System:", "SourceFile", "ExifTool:"))
    }
    # The library that made the picture leaves out tags of the standard: what counts is no new warning.
    assert {name for name in changed if name != "PNG:Parameters"} == set()
    assert now["IFD0:Artist"] == "An artist"
    assert now["XMP-dc:Title"] == "Título & 图"
    assert now["XMP-xmp:CreatorTool"] == "Their <tool>"
    assert now["XMP-iptcExt:DigitalSourceType"] == TRAINED_MODEL
    assert now.get("ExifTool:Warning") == was.get("ExifTool:Warning")
    assert found_recipe(after) == recipe_with()
    with Image.open(io.BytesIO(after)) as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif().get_ifd(0x8769)[0x927C] == b"maker note that must not move"


def test_their_packet_is_kept_byte_for_byte() -> None:
    ours = xmp.merged(THEIRS, {xmp.SOURCE_TYPE: TRAINED_MODEL})
    at = THEIRS.index(b"</r:RDF>")
    assert ours.startswith(THEIRS[:at]) and ours.endswith(THEIRS[at:])
    assert b'rdf:about="uuid:1"' in ours


def test_a_recipe_that_another_tool_turned_into_an_attribute_is_read_and_not_doubled() -> None:
    namespace = xmp.NAMESPACES["chroma"]
    rewritten = THEIRS.replace(b" xmp:Cr", f" xmlns:c='{namespace}' c:Recipe='{{}}' xmp:Cr".encode())
    assert xmp.values(rewritten, [xmp.RECIPE]) == {xmp.RECIPE: "{}"}
    with pytest.raises(CannotExtend, match="another recipe"):
        xmp.merged(rewritten, {xmp.RECIPE: "x"})


@pytest.mark.parametrize("image_format", FORMATS)
def test_another_tool_may_rewrite_the_packet(image_format: str, tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    path = tmp_path / f"picture.{image_format}"
    path.write_bytes(embedded(picture(image_format), image_format, recipe_with()))
    words = ["exiftool", "-overwrite_original", "-XMP-dc:Title=hello", str(path)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    assert recipe.recipe_of(path) == recipe_with()


def test_a_jpeg_without_the_usual_first_segment(exiftool: Exiftool) -> None:
    whole = picture("jpeg")
    assert whole[2:4] == b"\xff\xe0"
    before = whole[:2] + whole[20:]
    after = embedded(before, "jpeg", recipe_with())
    assert no_warnings(exiftool(after, "jpeg"))
    assert pixels(after) == pixels(before)


def test_embedding_twice_changes_only_the_recipe() -> None:
    for image_format in FORMATS:
        once = embedded(picture(image_format), image_format, recipe_with())
        assert found_recipe(embedded(once, image_format, recipe_with())) == recipe_with()
        other = recipe_with(steps=22)
        out = io.BytesIO()
        notes = containers.embed(io.BytesIO(once), image_format, recipe.metadata(other, "full"), out.write)
        assert bool(notes) == (image_format != "png")  # the user comment is there already
        assert found_recipe(out.getvalue()) == other
        assert out.getvalue().count(b"chroma:Recipe>") == 2


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_a_user_comment_of_theirs_stays_and_is_told(image_format: str) -> None:
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0their words"
    before = picture(image_format, exif=block)
    out = io.BytesIO()
    full = recipe.metadata(recipe_with(), "full")
    (note,) = containers.embed(io.BytesIO(before), image_format, full, out.write)
    assert "user comment of its own" in note
    assert b"their words" in out.getvalue()
    assert found_recipe(out.getvalue()) == recipe_with()


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_an_empty_user_comment_gives_way(image_format: str) -> None:
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0      "
    after = embedded(picture(image_format, exif=block), image_format, recipe_with())
    seen = containers.read(io.BytesIO(after))
    assert seen is not None
    assert seen.user_comment == recipe.metadata(recipe_with(), "full").parameters


def test_exif_with_the_jpeg_prefix_in_a_webp_is_extended(exiftool: Exiftool) -> None:
    block = Image.Exif()
    block[0x013B] = "An artist"
    plain = picture("webp", exif=block)
    at = plain.index(b"EXIF")
    data = b"Exif\0\0" + block.tobytes()[6:]
    chunk = b"EXIF" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    before = plain[:at] + chunk
    before = before[:4] + struct.pack("<I", len(before) - 8) + before[8:]
    tags = exiftool(embedded(before, "webp", recipe_with()), "webp")
    assert tags["IFD0:Artist"] == "An artist" and "Sampler: Euler" in tags["ExifIFD:UserComment"]


# --- files that stay as they came --------------------------------------------------------------------------


def refused(data: bytes, image_format: str, metadata: Metadata | None = None) -> str:
    pieces: list[bytes] = []
    with pytest.raises(CannotExtend) as caught:
        containers.embed(
            io.BytesIO(data), image_format, metadata or recipe.metadata(recipe_with(), "full"), pieces.append
        )
    assert pieces == [], "nothing may be written before it is known that all can be"
    return str(caught.value)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<broken",
        b"<x/>",
        THEIRS.decode().encode("utf-16"),
        b'<!DOCTYPE r [<!ENTITY a "b">]>' + THEIRS.split(b"?>", 1)[1],
        THEIRS.replace(b"</r:RDF>", b"").replace(b"<r:RDF ", b"<r:RDF/><r:RDF "),
        b"<a>" * 5000,
    ],
)
@pytest.mark.parametrize("image_format", FORMATS)
def test_a_packet_that_cannot_be_added_to_keeps_the_file_as_it_came(image_format: str, packet: bytes) -> None:
    if image_format == "png":
        body = b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        chunk = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", zlib.crc32(b"iTXt" + body))
        plain = picture("png")
        data = plain[:33] + chunk + plain[33:]
    elif image_format == "jpeg":
        body = b"http://ns.adobe.com/xap/1.0/\0" + packet
        data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + picture("jpeg")[2:]
    else:
        data = picture("webp", exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0")
        data += b"XMP " + struct.pack("<I", len(packet)) + packet + bytes(len(packet) % 2)
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert "XMP" in refused(data, image_format)


@pytest.mark.parametrize("block", [b"MM\0*\0\0\0\x07", b"II*\0\xff\xff\xff\xff", b"nonsense", b""])
def test_an_exif_block_that_is_not_understood_keeps_the_file_as_it_came(block: bytes) -> None:
    data = picture("jpeg")
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    assert "EXIF" in refused(data[:2] + segment + data[2:], "jpeg")


@pytest.mark.parametrize("image_format", FORMATS)
def test_cut_files_are_refused_in_words(image_format: str) -> None:
    whole = picture(image_format)
    for end in (12, 20, 40):
        assert refused(whole[:end], image_format)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_prompt_without_end_is_refused(image_format: str) -> None:
    long = recipe.metadata(recipe_with(prompt="&" * 3_000_000), "full")
    assert "too long" in refused(picture(image_format), image_format, long)


@pytest.mark.parametrize("image_format", FORMATS)
def test_the_longest_prompts_can_be_read_back(image_format: str) -> None:
    made = recipe_with(prompt="a dragon & " * 100_000, negative_prompt="图" * 50_000)
    out = io.BytesIO()
    containers.embed(
        io.BytesIO(picture(image_format)), image_format, recipe.metadata(made, "full"), out.write
    )
    assert found_recipe(out.getvalue()) == made
    decode.verify(out)


def test_copying_takes_small_pieces() -> None:
    data = picture("png", 1024, 1024)
    sizes: list[int] = []
    containers.embed(
        io.BytesIO(data),
        "png",
        recipe.metadata(recipe_with(), "full"),
        lambda piece: sizes.append(len(piece)),
    )
    assert max(sizes) <= 256 * 1024 < len(data)


def test_trouble_of_the_disk_is_no_cannot_extend() -> None:
    def full(_: bytes) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.raises(OSError, match=os.strerror(28)):
        containers.embed(io.BytesIO(picture("png")), "png", recipe.metadata(recipe_with(), "full"), full)


def segment(head: bytes, body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(head + body)) + head + body


def test_a_jpeg_with_two_blocks_of_a_kind_stays_as_it_came() -> None:
    data = with_metadata("jpeg")
    twice = data[:20] + segment(b"http://ns.adobe.com/xap/1.0/\0", THEIRS) + data[20:]
    assert "more than one" in refused(twice, "jpeg")


def test_a_jpeg_whose_packet_is_full_stays_as_it_came() -> None:
    packet = THEIRS.replace(b"<!-- a comment -->", b"<!--" + b"x" * 64_500 + b"-->")
    data = picture("jpeg", xmp=packet)
    assert "full" in refused(data, "jpeg")
    assert "full" in refused(data, "jpeg", Metadata({xmp.SOURCE_TYPE: "x" * 900}))


def test_a_jpeg_whose_packet_goes_on_elsewhere_is_not_given_a_second_extension() -> None:
    data = picture("jpeg", xmp=THEIRS)
    more = segment(b"http://ns.adobe.com/xmp/extension/\0", b"A" * 32 + struct.pack(">II", 1, 0) + b"x")
    long = recipe.metadata(recipe_with(prompt="long " * 20_000), "full")
    assert "full" in refused(data[:20] + more + data[20:], "jpeg", long)


def test_other_formats_and_nonsense_stay_as_they_came() -> None:
    assert "gif" in refused(b"GIF89a", "gif")
    chunk = b"VP8 " + struct.pack("<I", 8) + b"\0\0\0\x9d\x01\x2a\0\0"
    webp = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    assert refused(webp, "webp")
    with pytest.raises(Damaged):
        containers.read(io.BytesIO(webp))
    assert containers.read(io.BytesIO(b"GIF89a")) is None


@pytest.mark.parametrize("theirs", [{"xmp": THEIRS}, {"exif": b"MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_a_file_with_one_of_the_two_gets_the_other(image_format: str, theirs: dict[str, Any]) -> None:
    after = embedded(picture(image_format, **theirs), image_format, recipe_with())
    seen = containers.read(io.BytesIO(after))
    assert seen is not None
    assert seen.user_comment == recipe.metadata(recipe_with(), "full").parameters
    assert recipe.recipe_in(seen) == recipe_with()
    decode.verify(io.BytesIO(after))


def test_a_webp_whose_last_chunk_is_metadata_without_padding_is_put_right() -> None:
    data = picture("webp", xmp=THEIRS + b" " * (1 - len(THEIRS) % 2))
    assert data[-1:] == b"\0"
    before = b"RIFF" + struct.pack("<I", len(data) - 9) + data[8:-1]
    after = embedded(before, "webp", recipe_with())
    assert struct.unpack_from("<I", after, 4)[0] == len(after) - 8
    assert len(after) % 2 == 0
    assert found_recipe(after) == recipe_with()
    assert "Título".encode() in after


def test_a_webp_without_its_last_padding_byte_is_put_right() -> None:
    for width in range(20, 60):
        data = picture("webp", width, 20, lossless=True)
        (length,) = struct.unpack_from("<I", data, 16)
        if length % 2 and len(data) == 20 + length + 1:
            break
    else:
        pytest.fail("no picture of odd length came out")
    before = b"RIFF" + struct.pack("<I", len(data) - 9) + data[8:-1]
    after = embedded(before, "webp", recipe_with())
    assert found_recipe(after) == recipe_with()
    assert struct.unpack_from("<I", after, 4)[0] == len(after) - 8
    assert pixels(after) == pixels(data)
