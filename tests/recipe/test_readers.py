"""Programs that are not ours read what is written: exiftool, sd-parsers, Pillow; and we read theirs."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
import sd_parsers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from recipe_kit import FORMATS, NEGATIVE, PROMPT, embedded, no_warnings, picture, recipe_with

from chroma_cli.images import containers, exif, parameters, recipe
from chroma_cli.images.parts import Metadata
from chroma_cli.images.recipe import TRAINED_MODEL, Recipe
from chroma_cli.request import schema

Exiftool = Callable[[bytes, str], dict[str, Any]]
PROMPTS = [
    PROMPT,
    "plain",
    'say "hello, world", "twice"',
    "one\ntwo\n\nfour",
    "骑士穿着闪亮的盔甲",
    "🏰🐉 \U0001f469\u200d\U0001f680",
    "Steps: 1, Sampler: Heun, Seed: 2, CFG scale: 3",
    "a\nNegative prompt: inside\nb",
    "commas, colons: and {braces} <lora:x:1>",
    "-starts with a dash",
    "quote\\ and back\\slash \\n",
]


#: The parser takes an image with the address of an earlier one for the same: all of them stay.
SEEN: list[Image.Image] = []


def parsed(data: bytes) -> Any:
    SEEN.append(Image.open(io.BytesIO(data)))
    return sd_parsers.ParserManager().parse(SEEN[-1])


# --- exiftool ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", FORMATS)
def test_exiftool_finds_all_of_it_and_nothing_to_warn_of(exiftool: Exiftool, image_format: str) -> None:
    made = recipe_with(sampler="euler_a")
    tags = exiftool(embedded(picture(image_format), image_format, made), image_format)
    assert no_warnings(tags)
    assert tags["XMP-iptcExt:DigitalSourceType"] == TRAINED_MODEL
    assert tags["XMP-xmp:CreatorTool"] == recipe.TOOL
    assert tags["XMP-xmp:CreateDate"] == "2026:07:31 12:00:00Z"
    record = json.loads(tags["XMP-chroma:Recipe"])
    assert (record["request"], record["request_id"]) == (made.request, "req-1")
    text = tags["PNG:Parameters" if image_format == "png" else "ExifIFD:UserComment"]
    assert text.startswith(f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 40, Sampler: Euler a, ")


@pytest.mark.parametrize("image_format", FORMATS)
def test_source_only_writes_one_property(exiftool: Exiftool, image_format: str) -> None:
    plain = picture(image_format)
    marked = embedded(plain, image_format, recipe.metadata(recipe_with(), "source-only"))
    tags = exiftool(marked, image_format)
    assert no_warnings(tags)
    assert [name for name in tags if name.startswith("XMP")] == ["XMP-iptcExt:DigitalSourceType"]
    assert PROMPT.split("\n")[0].encode() not in marked
    assert not any("UserComment" in name or "Parameters" in name for name in tags)


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_sandbox_picture_says_so(exiftool: Exiftool, image_format: str) -> None:
    made = Recipe({**recipe_with().request}, sandbox=True, created="2026-07-31T12:00:00Z")
    tags = exiftool(embedded(picture(image_format), image_format, made), image_format)
    assert "sandbox" in tags["XMP-xmp:CreatorTool"]
    assert json.loads(tags["XMP-chroma:Recipe"])["sandbox"] is True
    text = tags["PNG:Parameters" if image_format == "png" else "ExifIFD:UserComment"]
    assert text.endswith("Model: Chroma sandbox")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_exiftool_has_no_complaint_about_other_kinds_of_png(exiftool: Exiftool, mode: str) -> None:
    assert no_warnings(exiftool(embedded(picture("png", mode=mode), "png", recipe_with()), "png"))


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"mode": "L"}, {"dpi": (300, 300)}, {"mode": "CMYK"}]
)
def test_exiftool_has_no_complaint_about_other_kinds_of_jpeg(
    exiftool: Exiftool, options: dict[str, Any]
) -> None:
    assert no_warnings(exiftool(embedded(picture("jpeg", **options), "jpeg", recipe_with()), "jpeg"))


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"mode": "RGBA"}, {"mode": "RGBA", "lossless": True}]
)
def test_exiftool_has_no_complaint_about_other_kinds_of_webp(
    exiftool: Exiftool, options: dict[str, Any]
) -> None:
    assert no_warnings(exiftool(embedded(picture("webp", **options), "webp", recipe_with()), "webp"))


def test_exiftool_joins_a_packet_that_is_too_long_for_one_segment(exiftool: Exiftool) -> None:
    made = recipe_with(prompt="ein langes Märchen, " * 9_000)
    out = io.BytesIO()
    notes = containers.embed(io.BytesIO(picture("jpeg")), "jpeg", recipe.metadata(made, "full"), out.write)
    assert len(notes) == 1 and "too long" in notes[0]
    tags = exiftool(out.getvalue(), "jpeg")
    assert no_warnings(tags)
    assert json.loads(tags["XMP-chroma:Recipe"])["request"] == made.request


# --- sd-parsers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("image_format", FORMATS)
def test_sd_parsers_gets_settings_and_both_prompts(image_format: str, prompt: str) -> None:
    made = recipe_with(prompt=prompt, negative_prompt=prompt + "!", steps=33, seed=2**63 - 1, cfg="7.5")
    info = parsed(embedded(picture(image_format), image_format, made))
    (sampler,) = info.samplers
    assert (sampler.name, sampler.model.name) == ("Euler", "Chroma")
    assert sampler.parameters == {
        "steps": "33",
        "seed": str(2**63 - 1),
        "cfg_scale": "7.5",
        "scheduler": "Beta",
    }
    # The one text that cannot stand in a prompt, because every reader ends the prompt there.
    shown = prompt.replace("Negative prompt:", "Negative prompt :")
    assert [str(one) for one in info.prompts] == [shown]
    assert [str(one) for one in info.negative_prompts] == [shown + "!"]


@pytest.mark.parametrize("sampler", schema.SAMPLER.choices)
@pytest.mark.parametrize("scheduler", ["sgm_uniform", "karras"])
def test_sampler_names_come_back_through_sd_parsers(sampler: str, scheduler: str) -> None:
    data = embedded(picture("png"), "png", recipe_with(sampler=sampler, scheduler=scheduler))
    (seen,) = parsed(data).samplers
    assert seen.name == parameters.SAMPLER_LABELS[sampler]
    text = f"x\nSteps: 20, Sampler: {seen.name}, Schedule type: {seen.parameters['scheduler']}"
    reading = parameters.read(text)
    assert reading is not None
    assert (reading.request["sampler_name"], reading.request["scheduler"]) == (sampler, scheduler)


def test_every_name_of_the_schema_has_a_label() -> None:
    assert set(parameters.SAMPLER_LABELS) == set(schema.SAMPLER.choices)
    assert set(parameters.SCHEDULE_LABELS) == set(schema.SCHEDULER.choices)


# --- Pillow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", FORMATS)
def test_pillow_sees_text_exif_and_xmp(image_format: str) -> None:
    made = recipe_with()
    data = embedded(picture(image_format), image_format, made)
    with Image.open(io.BytesIO(data)) as image:
        assert TRAINED_MODEL.encode() in image.info["xmp"]
        if image_format == "png":
            assert isinstance(image, PngImagePlugin.PngImageFile)
            text = image.text["parameters"]
        else:
            raw = image.getexif().get_ifd(0x8769)[0x9286]
            assert raw[:8] == b"UNICODE\0"
            text = raw[8:].decode("utf-16-be")
    assert text == recipe.metadata(made, "full").parameters


# --- what other tools wrote --------------------------------------------------------------------------------

WEB_UI = (
    "girl with a beret, ((eyeshadow)), <lora:x:0.8>\nsecond line\n"
    "Negative prompt: ugly, (((deformed)))\nblurry\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.0, Seed: 965400086, Size: 1216x832, "
    'Model hash: 45dee52b, Model: sd_xl, Lora hashes: "a: 1234, b: 5678", Hires prompt: "Steps: 99", '
    "Version: v1.10.1"
)


def as_png(text: str, kind: str = "tEXt") -> bytes:
    info = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        info.add_itxt("parameters", text, zip=True)
    else:
        info.add_text("parameters", text, zip=kind == "zTXt")
    return picture("png", pnginfo=info)


def found(data: bytes) -> Recipe | None:
    seen = containers.read(io.BytesIO(data))
    assert seen is not None
    return recipe.recipe_in(seen)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_text_of_the_web_ui_is_mapped(kind: str) -> None:
    made = found(as_png(WEB_UI, kind))
    assert made is not None and made.origin == "parameters"
    assert made.request == {
        "prompt": "girl with a beret, ((eyeshadow)), <lora:x:0.8>\nsecond line",
        "negative_prompt": "ugly, (((deformed)))\nblurry",
        "steps": 20,
        "sampler_name": "euler_a",
        "scheduler": "karras",
        "cfg": 7,
        "seed": 965400086,
        "aspect_ratio": "3:2 landscape 1216x832",
    }
    assert made.left_out == ()
    assert made.checked().size == (1216, 832)


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("image_format", ["jpeg", "webp", "png"])
@pytest.mark.parametrize("tiff", ["<", ">"])
def test_user_comments_of_others_are_read_in_either_order(image_format: str, order: str, tiff: str) -> None:
    block = Image.Exif()
    block.endian = tiff
    block[0x0131] = "a tool"
    block.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + ("骑士 🏰 " + WEB_UI).encode(order)
    made = found(picture(image_format, exif=block))
    assert made is not None
    assert made.request["prompt"].startswith("骑士 🏰 girl")
    assert made.request["seed"] == 965400086


@pytest.mark.parametrize("prefix", [b"ASCII\0\0\0", bytes(8)])
def test_plain_user_comments_are_read(prefix: bytes) -> None:
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = prefix + WEB_UI.encode()
    made = found(picture("jpeg", exif=block))
    assert made is not None and made.request["steps"] == 20


@pytest.mark.parametrize("comment", [b"", b"ASCII\0\0\0a holiday", b"UNICODE\0\0", b"JIS\0\0\0\0\0x", b"x"])
def test_a_camera_comment_is_no_recipe(comment: bytes) -> None:
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = comment
    assert found(picture("jpeg", exif=block)) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ SDE Karras", ("dpmpp_sde", "karras")),
        ("DPM2 a Karras", ("dpm_2_a", "karras")),
        ("euler_ancestral", ("euler_a", None)),
        ("k_dpm_2_ancestral", ("dpm_2_a", None)),
        ("dpmpp_2s_ancestral", ("dpmpp_2s_a", None)),
        ("DPM++ 2S a Exponential", ("dpmpp_2s_a", "exponential")),
        ("LMS", ("lms", None)),
        ("DPM++ 2M Karras", (None, None)),
        ("UniPC", (None, None)),
        ("", (None, None)),
    ],
)
def test_sampler_names_of_other_tools(name: str, expected: tuple[str | None, str | None]) -> None:
    reading = parameters.read(f"x\nSteps: 20, Sampler: {name}, Seed: 1, Size: 1024x1024")
    assert reading is not None
    assert (reading.request.get("sampler_name"), reading.request.get("scheduler")) == expected
    assert bool(reading.left_out) == (expected[0] is None)


def test_a_schedule_of_its_own_wins_over_the_end_of_a_name() -> None:
    reading = parameters.read("x\nSteps: 20, Sampler: DPM++ SDE Karras, Schedule type: Simple")
    assert reading is None or reading.request["scheduler"] == "simple"
    reading = parameters.read("x\nSteps: 20, Sampler: DPM++ SDE Karras, Schedule type: Simple, Seed: 1")
    assert reading is not None and reading.request["scheduler"] == "simple"


def test_what_the_model_does_not_allow_is_left_out_and_named() -> None:
    reading = parameters.read(
        "x\nSteps: 5, Sampler: UniPC, Schedule type: Automatic, CFG scale: 30, Seed: -1, Size: 512x512"
    )
    assert reading is not None
    assert reading.request == {"prompt": "x", "negative_prompt": ""}
    assert [one.split(":")[0] for one in reading.left_out] == [
        "Steps",
        "Sampler",
        "Schedule type",
        "CFG scale",
        "Seed",
        "Size",
    ]


@pytest.mark.parametrize("image_format", FORMATS)
def test_our_text_alone_is_enough(image_format: str) -> None:
    """As when a service has stripped the XMP packet but kept the text."""
    made = recipe_with(size="1111x999", cfg="6.5", sampler="some_new_one", scheduler="karras")
    only = Metadata({"xmp:Label": "x"}, recipe.metadata(made, "full").parameters)
    seen = found(embedded(picture(image_format), image_format, only))
    assert seen is not None and seen.origin == "parameters"
    assert {**seen.options(), "format": "png", "quality": 95, "base64": False} == made.options()


@settings(deadline=None, max_examples=300)
@given(st.text() | st.text(alphabet='Steps:, "\\\nSamplerSdCFGcl0123456789x').map(lambda end: WEB_UI + end))
def test_no_text_breaks_the_reader(text: str) -> None:
    reading = parameters.read(text)
    assert reading is None or Recipe(reading.request, "parameters").options() is not None


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200)
    | st.binary(max_size=100).map(lambda end: b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04" + end)
)
def test_no_exif_block_breaks_the_reader(block: bytes) -> None:
    text = exif.user_comment(block)
    assert text is None or isinstance(text, str)


def test_an_exif_table_that_points_to_itself_ends() -> None:
    pointer = struct.pack(">HHII", 0x8769, 4, 1, 8)
    block = b"MM\0*\0\0\0\x08" + struct.pack(">H", 1) + pointer + bytes(4)
    assert exif.user_comment(block) is None
