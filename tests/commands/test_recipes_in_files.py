"""The recipe goes into any whole picture and comes out again; the pixels and what else is there stay."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import Ended, chunk, infotext, noise, pixels, png_with, properties, xmp_chunk
from PIL import Image, ImageCms, PngImagePlugin

FORMATS = ("png", "jpeg", "webp")
PROMPT = "a \"young\" knight, 'x' & <b>\nsecond line: 骑士 🏰 é"
NEGATIVE = 'bad "quotes", \\ and\n低质量 🙈'
SOURCE = "Iptc4xmpExt:DigitalSourceType"
WITHOUT = "without its recipe"

#: A packet of another program.
THEIRS = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><!-- a comment -->'
    '<r:Description r:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Their &lt;tool&gt;">'
    '<dc:title><r:Alt><r:li xml:lang="x-default">Título &amp; 图</r:li></r:Alt></dc:title>'
    '</r:Description></r:RDF></x:xmpmeta>                 <?xpacket end="w"?>'
).encode()
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

VARIANTS = [
    ("png", {}),
    ("png", {"mode": "RGBA"}),
    ("png", {"mode": "P"}),
    ("png", {"mode": "1"}),
    ("png", {"mode": "I;16"}),
    ("png", {"width": 1, "height": 1}),
    ("jpeg", {}),
    ("jpeg", {"mode": "L"}),
    ("jpeg", {"mode": "CMYK"}),
    ("jpeg", {"progressive": True, "quality": 95}),
    ("jpeg", {"restart_marker_rows": 1}),
    ("jpeg", {"width": 31, "height": 17}),
    ("webp", {}),
    ("webp", {"lossless": True}),
    ("webp", {"mode": "RGBA"}),
    ("webp", {"mode": "RGBA", "lossless": True, "width": 1, "height": 200}),
]


@pytest.fixture
def saved(gateway, clock, chroma, work):
    """``saved(data, "png")`` is the path of that picture, as it is saved with its recipe, and how it went."""

    def save(data: bytes, kind: str, *more: str) -> tuple[Path, Ended]:
        gateway.serve(data)
        words = ("generate", PROMPT, "-n", NEGATIVE, "--seed", "7", "--format", kind)
        ended = chroma(*words, "-o", "{slug}-{index}.{ext}", *more)
        assert ended.code == 0, ended.said
        return ended.paths[0], ended

    return save


@pytest.fixture
def inscribed(gateway, saved, recipe_of):
    """The same, and the recipe is in it."""

    def save(data: bytes, kind: str) -> Path:
        path, ended = saved(data, kind)
        assert WITHOUT not in ended.err
        assert recipe_of(path)["request"] == gateway.bodies[-1]
        return path

    return save


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_the_pixels_of_every_variant_stay(inscribed, kind, options):
    before = noise(kind, **options)
    assert pixels(inscribed(before, kind)) == pixels(before)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_animations_keep_every_frame(inscribed, kind):
    drawn = [Image.effect_noise((32, 24), sigma).convert("RGB") for sigma in (10, 50, 90)]
    buffer = io.BytesIO()
    drawn[0].save(buffer, kind.upper(), save_all=True, append_images=drawn[1:], duration=40)

    def frames(data: bytes) -> list[bytes]:
        with Image.open(io.BytesIO(data)) as image:
            shown = []
            for number in range(image.n_frames):
                image.seek(number)
                shown.append(image.convert("RGB").tobytes())
            return shown

    after = inscribed(buffer.getvalue(), kind).read_bytes()
    assert frames(after) == frames(buffer.getvalue())
    assert len(frames(after)) == 3


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        found.append((kind, body))
        at += 12 + length
    return found


def test_a_png_differs_by_text_chunks_alone(inscribed):
    before = noise("png")
    after = chunks_of(inscribed(before, "png").read_bytes())
    added = [one for one in after if one not in chunks_of(before)]
    assert {kind for kind, _ in added} <= {b"iTXt", b"tEXt"}
    assert [one for one in after if one not in added] == chunks_of(before)


def test_the_scan_of_a_jpeg_is_copied_byte_for_byte(inscribed):
    before = noise("jpeg", progressive=True)
    after = inscribed(before, "jpeg").read_bytes()
    assert after.endswith(before[20:])  # all behind the start and the JFIF segment


def test_a_webp_says_what_it_holds(inscribed):
    buffer = io.BytesIO()
    Image.effect_noise((30, 20), 40).convert("RGBA").rotate(30).save(buffer, "WEBP", lossless=True)
    path = inscribed(buffer.getvalue(), "webp")
    after = path.read_bytes()
    assert struct.unpack_from("<I", after, 4)[0] == len(after) - 8
    assert after[12:16] == b"VP8X" and after[20] & 0x04 and after[20] & 0x10
    assert pixels(path) == pixels(buffer.getvalue())


def test_odd_webp_chunks_are_padded(inscribed):
    for width in range(20, 60):
        data = noise("webp", width, 20, lossless=True)
        if struct.unpack_from("<I", data, 16)[0] % 2:
            after = inscribed(data, "webp").read_bytes()
            assert struct.unpack_from("<I", after, 4)[0] == len(after) - 8
            assert len(after) % 2 == 0
            return
    pytest.fail("no picture of odd length came out")


# --- metadata that is there --------------------------------------------------------------------------------


def with_metadata(kind: str, endian: str) -> bytes:
    block = Image.Exif()
    block.endian = endian
    block[0x013B] = "An artist"
    block[0x8298] = "A notice"
    block.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    block.get_ifd(0x8769)[0x927C] = b"maker note that must not move"
    options: dict[str, Any] = {"exif": block, "icc_profile": PROFILE}
    if kind == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Author", "somebody")
        info.add_itxt("XML:com.adobe.xmp", THEIRS.decode(), zip=True)
        options["pnginfo"] = info
    else:
        options["xmp"] = THEIRS
    if kind == "jpeg":
        options |= {"comment": b"a comment", "dpi": (300, 300)}
    return noise(kind, **options)


@pytest.mark.parametrize(("kind", "endian"), [("png", "<"), ("jpeg", ">"), ("webp", "<"), ("jpeg", "<")])
def test_existing_metadata_stays(inscribed, kind, endian):
    before = with_metadata(kind, endian)
    path = inscribed(before, kind)
    assert pixels(path) == pixels(before)
    told = properties(path)
    assert told["dc:title"] == "Título & 图"
    assert told["xmp:CreatorTool"] == "Their <tool>"
    assert told[SOURCE].endswith("trainedAlgorithmicMedia")
    with Image.open(path) as image:
        block = image.getexif()
        assert image.info["icc_profile"] == PROFILE
        assert (block[0x013B], block[0x8298]) == ("An artist", "A notice")
        assert block.get_ifd(0x8769)[0x927C] == b"maker note that must not move"
        if kind == "png":
            assert image.text["Author"] == "somebody"
        if kind == "jpeg":
            assert image.info["comment"] == b"a comment"


def test_their_packet_is_kept_byte_for_byte(inscribed):
    after = inscribed(noise("webp", xmp=THEIRS), "webp").read_bytes()
    at = THEIRS.index(b"</r:RDF>")
    assert THEIRS[:at] in after
    assert THEIRS[at:] in after


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_user_comment_of_theirs_stays(saved, recipe_of, kind):
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0their words"
    path, _ = saved(noise(kind, exif=block), kind)
    assert b"their words" in path.read_bytes()
    assert recipe_of(path)["request"]["prompt"] == PROMPT


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_has_a_recipe_gets_the_new_one(inscribed, kind):
    once = inscribed(noise(kind), kind).read_bytes()
    again = inscribed(once, kind).read_bytes()
    assert again.count(b"chroma:Recipe>") == 2  # begins and ends


@pytest.mark.parametrize("theirs", [{"xmp": THEIRS}, {"exif": b"MM\0*\0\0\0\x08\0\0\0\0\0\0"}])
@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_file_with_one_of_the_two_gets_the_other(inscribed, kind, theirs):
    assert str(infotext(inscribed(noise(kind, **theirs), kind))).startswith(PROMPT)


# --- files that stay as they came --------------------------------------------------------------------------

PACKETS = [
    b"",
    b"<broken",
    b"<x/>",
    THEIRS.decode().encode("utf-16"),
    b'<!DOCTYPE r [<!ENTITY a "b">]>' + THEIRS.split(b"?>", 1)[1],
    THEIRS.replace(b"</r:RDF>", b"").replace(b"<r:RDF ", b"<r:RDF/><r:RDF "),
    b"<a>" * 5000,
]


def segment(head: bytes, body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(head + body)) + head + body


def with_packet(kind: str, packet: bytes) -> bytes:
    if kind == "png":
        return png_with(xmp_chunk(packet))
    if kind == "jpeg":
        plain = noise("jpeg")
        return plain[:2] + segment(b"http://ns.adobe.com/xap/1.0/\0", packet) + plain[2:]
    data = noise("webp", exif=b"MM\0*\0\0\0\x08\0\0\0\0\0\0")
    data += b"XMP " + struct.pack("<I", len(packet)) + packet + bytes(len(packet) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_packet_that_cannot_be_added_to_keeps_the_file_as_it_came(saved, kind):
    for packet in PACKETS:
        came = with_packet(kind, packet)
        path, ended = saved(came, kind)
        assert WITHOUT in ended.err, packet[:40]
        assert path.read_bytes() == came


def test_a_jpeg_with_two_packets_or_a_full_one_stays_as_it_came(saved):
    packet = segment(b"http://ns.adobe.com/xap/1.0/\0", THEIRS)
    plain = noise("jpeg")
    full = THEIRS.replace(b"<!-- a comment -->", b"<!--" + b"x" * 64_500 + b"-->")
    for came in (plain[:2] + packet + packet + plain[2:], noise("jpeg", xmp=full)):
        path, ended = saved(came, "jpeg")
        assert WITHOUT in ended.err
        assert path.read_bytes() == came


# --- prompts -----------------------------------------------------------------------------------------------

#: Whatever may be a prompt.
PROMPTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1, max_size=300
).filter(lambda text: text.strip() not in ("", "-"))


@given(PROMPTS, PROMPTS | st.just(""), st.sampled_from(FORMATS))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_allowed_prompt_comes_back_exactly(gateway, clock, made, recipe_of, prompt, negative, kind):
    gateway.serve(noise(kind, 16, 16))
    path = made("--format", kind, f"--negative-prompt={negative}", "-o", "x.{ext}", "--", prompt)
    found = recipe_of(path)
    assert found["request"] == gateway.bodies[-1]
    assert found["request"]["prompt"] == prompt
    told = infotext(path)
    assert told is None or prompt.replace("Negative prompt:", "Negative prompt :") in told


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_long_prompts_can_be_read_back(gateway, clock, made, recipe_of, work, kind):
    (work / "book.txt").write_text("a dragon & " * 100_000)
    gateway.serve(noise(kind))
    path = made("--prompt-file", "book.txt", "-n", "图" * 50_000, "--format", kind, "-o", "x.{ext}")
    assert recipe_of(path)["request"] == gateway.bodies[0]


def test_a_text_of_theirs_beside_our_recipe(inscribed):
    theirs = chunk(b"tEXt", b"Comment\0their words")
    with Image.open(inscribed(png_with(theirs), "png")) as image:
        assert image.text["Comment"] == "their words"
