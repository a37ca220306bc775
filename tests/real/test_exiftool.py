"""exiftool reads all that is written into pictures and sheets, and has nothing to warn of."""

from __future__ import annotations

import json
import subprocess

import pytest
from kit import noise

pytestmark = pytest.mark.slow

FORMATS = ("png", "jpeg", "webp")
PROMPT = "a \"young\" knight, 'x' & <b>\nsecond line: 骑士 🏰 é"
SOURCE = "XMP-iptcExt:DigitalSourceType"
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
VARIANTS = [
    *(("png", {"mode": mode}) for mode in ("RGB", "L", "RGBA", "P", "1", "I;16")),
    *(("jpeg", options) for options in ({}, {"progressive": True}, {"mode": "L"}, {"dpi": (300, 300)})),
    ("jpeg", {"mode": "CMYK"}),
    *(("webp", options) for options in ({}, {"lossless": True}, {"mode": "RGBA"})),
]


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_all_of_it_is_found(gateway, clock, made, exiftool, kind, options):
    gateway.serve(noise(kind, **options))
    path = made(PROMPT, "-n", "bad 低质量", "--sampler", "euler_a", "--format", kind, "-o", "x.{ext}")
    tags = exiftool(path)
    assert tags[SOURCE] == TRAINED
    assert tags["XMP-xmp:CreatorTool"].startswith("chroma ")
    assert tags["XMP-xmp:CreateDate"].endswith("Z")
    record = json.loads(tags["XMP-chroma:Recipe"])
    assert (record["request"], record["request_id"]) == (gateway.bodies[0], gateway.jobs()[0].id)
    text = tags["PNG:Parameters" if kind == "png" else "ExifIFD:UserComment"]
    assert text.startswith(f"{PROMPT}\nNegative prompt: bad 低质量\nSteps: 40, Sampler: Euler a, ")


@pytest.mark.parametrize("kind", FORMATS)
def test_source_only_is_one_property(gateway, clock, made, config, exiftool, kind):
    config('[defaults]\nmetadata = "source-only"\n')
    gateway.serve(noise(kind))
    tags = exiftool(made(PROMPT, "--format", kind, "-o", "x.{ext}"))
    assert [name for name in tags if name.startswith("XMP-")] == [SOURCE]
    assert not any("UserComment" in name or "Parameters" in name for name in tags)


def test_a_jpeg_without_the_usual_first_segment(gateway, clock, made, exiftool):
    plain = noise("jpeg")
    assert plain[2:4] == b"\xff\xe0"
    gateway.serve(plain[:2] + plain[20:])
    assert exiftool(made("a fox", "-o", "fox.jpg"))[SOURCE] == TRAINED


@pytest.mark.parametrize("kind", FORMATS)
def test_a_recipe_survives_a_tool_that_rewrites_the_metadata(gateway, clock, made, recipe_of, exiftool, kind):
    gateway.serve(noise(kind))
    path = made("a fox", "--format", kind, "-o", "fox.{ext}")
    call = ["exiftool", "-q", "-overwrite_original", "-XMP-dc:Title=Fox", str(path)]
    subprocess.run(call, check=True, timeout=60)
    assert exiftool(path)["XMP-dc:Title"] == "Fox"
    assert recipe_of(path)["request"] == gateway.bodies[0]


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_sheet_says_what_it_is(gateway, clock, chroma, made, work, exiftool, ending):
    for cfg in ("5", "7"):
        made("a fox", "--cfg", cfg, "-o", f"fox-{cfg}.png")
    assert chroma("sheet", "fox-5.png", "fox-7.png", "-o", f"both.{ending}").code == 0
    tags = exiftool(work / f"both.{ending}")
    assert tags[SOURCE].endswith("compositeSynthetic")
    assert tags["XMP-chroma:Sheet"] == "contact sheet"
    assert not [name for name in tags if "Warning" in name]
