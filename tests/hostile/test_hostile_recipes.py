"""Files that want to hurt the reader of recipes: cut, looping, swollen, nested, lying; words, and an end."""

from __future__ import annotations

import os
import random
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import chunk, noise, png_with, with_parameters, with_recipe, xmp_chunk
from PIL import Image

FORMATS = ("png", "jpeg", "webp")
FIXTURES = [HealthCheck.function_scoped_fixture]
TEXT = b"a fox\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 7, Size: 1024x1024"


@pytest.fixture
def refused(chroma, work):
    """``refused(data)`` is what ``inspect`` says of a file; it has no recipe to tell, and no bug either."""

    def ask(data: bytes | Path) -> str:
        path = data if isinstance(data, Path) else work / "hostile.bin"
        if isinstance(data, bytes):
            path.write_bytes(data)
        ended = chroma("inspect", path, "--json")
        assert ended.code in (1, 8), ended.said
        assert ended.error["type"] in ("damaged_file", "not_found", "no_recipe"), ended.said
        assert path.name in ended.error["message"]
        return str(ended.error["message"])

    return ask


@pytest.fixture
def whole(gateway, clock, made):
    """``whole("png")`` are the bytes of a picture with its recipe."""

    def make(kind: str, *more: str | Path) -> bytes:
        gateway.serve(noise(kind, 24, 16))
        words = more or ("a fox",)
        return made(*words, "--format", kind, "--seed", "7", "-o", "{slug}-{index}.{ext}").read_bytes()

    return make


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_and_cuts_never_end_in_another_error(whole, chroma, work, kind):
    luck, data = random.Random(kind), whole(kind)
    path = work / "hostile.bin"
    for number in range(80):
        if number % 2:
            broken = bytearray(data)
            for _ in range(luck.randint(1, 12)):
                broken[luck.randrange(len(data))] = luck.choice((0, 1, 0x7F, 0xFF, luck.randrange(256)))
        else:
            broken = bytearray(data[: luck.randrange(12, len(data))])
        path.write_bytes(broken)
        ended = chroma("inspect", path, "--json")
        assert ended.code in (0, 1, 2, 8), ended.said  # 2: what is damaged is a value
        assert number % 2 or ended.code != 0, "a cut is noticed"
        if ended.code:
            assert ended.error["type"] != "internal"


@given(st.sampled_from([png_with()[:33], b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP"]), st.binary(max_size=400))
@settings(max_examples=60, suppress_health_check=FIXTURES)
def test_junk_behind_a_head(refused, head, junk):
    refused(head + junk)


@given(
    st.binary(max_size=300) | st.text(alphabet="<>/rdf:RDF xmlns=\"'&;!-?[]", max_size=200).map(str.encode)
)
@settings(max_examples=60, suppress_health_check=FIXTURES)
def test_junk_as_a_packet(refused, packet):
    refused(png_with(xmp_chunk(packet)))


@given(st.text(alphabet='Steps:, "\\\nSamplerSdCFGcl0123456789x', max_size=60))
@settings(max_examples=60, suppress_health_check=FIXTURES)
def test_junk_as_the_text_of_another_tool(chroma, work, end):
    (work / "theirs.png").write_bytes(with_parameters(TEXT.decode() + end))
    ended = chroma("inspect", "theirs.png", "--json")
    assert ended.code == 0, ended.said
    assert ended.one["request"]["prompt"].startswith("a fox")


@given(
    st.binary(max_size=200)
    | st.binary(max_size=100).map(lambda end: b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04" + end)
)
@settings(max_examples=40, suppress_health_check=FIXTURES)
def test_junk_as_an_exif_block(refused, block):
    plain = noise("jpeg", 16, 16)
    refused(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + plain[2:])


def test_an_exif_table_that_points_to_itself_ends(refused):
    pointer = struct.pack(">HHII", 0x8769, 4, 1, 8)
    block = b"MM\0*\0\0\0\x08" + struct.pack(">H", 1) + pointer + bytes(4)
    plain = noise("jpeg", 16, 16)
    refused(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + plain[2:])


# --- swollen -----------------------------------------------------------------------------------------------


def packed(megabytes: int) -> bytes:
    press = zlib.compressobj(9)
    return b"".join(press.compress(bytes(1024**2)) for _ in range(megabytes)) + press.flush()


def test_texts_that_are_no_texts(refused):
    for data in (b"junk", zlib.compress(b"x" * 1000)[:-8], b""):
        refused(png_with(chunk(b"zTXt", b"parameters\0\0" + data)))
    text = chunk(b"tEXt", b"parameters\0" + TEXT)
    refused(png_with(text.replace(b"Steps", b"steps")))  # its checksum is wrong
    refused(png_with(*[chunk(b"tEXt", b"parameters\0" + b"x" * 1024**2)] * 9))
    refused(png_with(chunk(b"zTXt", b"Comment\0\0" + packed(50))))
    refused(b"\xff\xd8" + b"\xff" * 500_000)
    for length in (0, 1):  # segments that go nowhere
        refused(b"\xff\xd8\xff\xe1" + struct.pack(">H", length) + bytes(100))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("keyword", [b"parameters", b"XML:com.adobe.xmp"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_text_bomb_is_not_unpacked(process, work, kind, keyword):
    middle = b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0"
    (work / "bomb.png").write_bytes(png_with(chunk(kind, keyword + middle + packed(300))))
    ended, peak = process.peak("inspect", "bomb.png")
    assert ended.code in (1, 8), ended.said
    assert peak < 100


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_gigabytes_are_passed_over(process, work):
    """Ten GB of pixels with a text behind them, and five of nothing; sparse files."""
    length = 2**31 - 1
    with (work / "huge.png").open("wb") as file:
        file.write(png_with()[:33])
        try:
            for _ in range(5):
                file.write(struct.pack(">I4s", length, b"IDAT"))
                file.seek(length + 4, os.SEEK_CUR)
            file.write(chunk(b"tEXt", b"parameters\0" + TEXT) + chunk(b"IEND", b""))
        except OSError:
            pytest.skip("this file system has no room for a sparse file of 10 GB")
    ended, peak = process.peak("inspect", "huge.png")
    assert (ended.code, peak < 100) == (0, True), ended.said
    starts = {"png": png_with()[:33], "jpg": noise("jpeg")[:-200], "webp": b"RIFF\xfe\xff\xff\xffWEBP"}
    for kind, start in starts.items():
        with (work / f"zeros.{kind}").open("wb") as file:
            file.write(start)
            file.truncate(5 * 10**9)
        ended, peak = process.peak("inspect", f"zeros.{kind}")
        assert (ended.code in (1, 8), peak < 100) == (True, True), ended.said


def test_a_file_that_may_not_be_read(refused, work):
    path = work / "secret.png"
    path.write_bytes(with_recipe({"request": {"prompt": "x"}}))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be read" in refused(path)


# --- recipes that lie --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", "no JSON", "[]", "null", '{"request": []}', '{"request": null}'),
        *('{"request": {"cfg": NaN}}', "[" * 200_000, '{"request": {"seed": ' + "9" * 10_000 + "}}"),
    ],
    ids=lambda text: text[:30],
)
def test_a_recipe_that_is_damaged_is_said(refused, text):
    assert "recipe in the file is damaged" in refused(with_recipe(text))


def test_fields_of_the_wrong_kind_count_as_unknown(recipe_of, work):
    record = {"request": {"prompt": "x"}, "request_id": 5, "seed": "7", "sandbox": 1, "tool": []}
    (work / "odd.png").write_bytes(with_recipe(record))
    found = recipe_of("odd.png")
    assert found["request"] == {"prompt": "x"}
    assert [found[name] for name in ("request_id", "seed", "sandbox", "tool")] == [None, None, False, None]


LYING = [
    {},
    {"prompt": 5},
    {"prompt": "x", "steps": [1], "cfg": {"a": 1}, "seed": True, "aspect_ratio": 3},
    {"prompt": "x\x1b[31m"},
    {"prompt": "x", "width": "a", "height": None, "aspect_ratio": "custom"},
    {"prompt": "x", "steps": 10**30},
    {"prompt": "x", "sampler_name": "\x07"},
    {"prompt": "x", "aspect_ratio": ["custom"]},
]


@pytest.mark.parametrize("body", LYING, ids=str)
def test_a_recipe_that_lies_makes_no_command_and_no_request(gateway, chroma, work, body):
    (work / "odd.png").write_bytes(with_recipe({"request": body}))
    assert chroma("inspect", "odd.png", "--command").code == 2
    assert chroma("generate", "--from", "odd.png").code == 2
    assert gateway.requests() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["prompt", "negative_prompt", "aspect_ratio", "width", "height", "cfg", "steps", "seed"]
)


@given(st.dictionaries(NAMES, JSON, max_size=8))
@settings(max_examples=30, suppress_health_check=FIXTURES)
def test_any_body_gives_a_command_or_says_why_not(chroma, work, body: dict[str, Any]):
    (work / "odd.png").write_bytes(with_recipe({"request": body}))
    ended = chroma("inspect", "odd.png", "--command", "--json")
    assert ended.code in (0, 1, 2), ended.said
    assert ended.code == 0 or ended.error["type"] in ("invalid_parameters", "damaged_file")


# --- XMP ---------------------------------------------------------------------------------------------------


def test_packets_that_are_none(refused):
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><x>&l9;</x>'.encode()
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    for packet in (
        *(b"<a>" * 100_000, b"<x", b"\xff\xfe<", b"\0" * 100, b"<x/><y/>", laughs),
        *(rdf + b"<rdf:Description>" * 250, rdf + b"<a/>" * 300_000),
    ):
        refused(png_with(xmp_chunk(packet)))


def test_a_broken_packet_does_not_hide_the_text_beside_it(recipe_of, work):
    text = chunk(b"tEXt", b"parameters\0" + TEXT)
    (work / "half.png").write_bytes(png_with(xmp_chunk(b"<x"), text))
    assert recipe_of("half.png")["request"]["seed"] == 7


def test_a_prompt_that_is_too_long_for_one_segment_of_a_jpeg(gateway, clock, chroma, recipe_of, work):
    tale = "once upon a time, " * 12_000
    (work / "tale.txt").write_text(tale)
    gateway.serve(noise("jpeg"))
    ended = chroma("generate", "--prompt-file", "tale.txt", "-o", "long.jpg")
    assert ended.code == 0, ended.said
    with Image.open(work / "long.jpg") as image:
        image.load()
    assert any("too long" in words or "without its recipe" in words for words in ended.warnings), ended.said
    if "without its recipe" not in ended.err:
        assert recipe_of("long.jpg")["request"]["prompt"] == tale
