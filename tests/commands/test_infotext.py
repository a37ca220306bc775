"""The "parameters" text: other programs read ours, and we read theirs as far as the model allows it."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
import sd_parsers
from kit import chunk, infotext, noise, png_with, with_parameters, with_recipe
from PIL import Image, PngImagePlugin

from chroma_cli.request import schema

FORMATS = ("png", "jpeg", "webp")
PROMPTS = [
    "a \"young\" knight, 'x' & <b>\nsecond line: 骑士 🏰 é",
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
WEB_UI = (
    "girl with a beret, ((eyeshadow)), <lora:x:0.8>\nsecond line\n"
    "Negative prompt: ugly, (((deformed)))\nblurry\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.0, Seed: 965400086, Size: 1216x832, "
    'Model hash: 45dee52b, Model: sd_xl, Lora hashes: "a: 1234, b: 5678", Hires prompt: "Steps: 99", '
    "Version: v1.10.1"
)

#: The parser takes an image with the address of an earlier one for the same: all of them stay.
SEEN: list[Image.Image] = []


def parsed(data: bytes) -> Any:
    SEEN.append(Image.open(io.BytesIO(data)))
    return sd_parsers.ParserManager().parse(SEEN[-1])


# --- sd-parsers reads ours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("prompt", "kind"), [*zip(PROMPTS, itertools.cycle(FORMATS), strict=False)])
def test_settings_and_both_prompts(gateway, clock, made, prompt, kind):
    gateway.serve(noise(kind))
    options = ("--steps", "33", "--seed", str(2**63 - 1), "--cfg", "7.5", "--format", kind)
    path = made(*options, f"--negative-prompt={prompt}!", "-o", "x.{ext}", "--", prompt)
    info = parsed(path.read_bytes())
    (sampler,) = info.samplers
    assert (sampler.name, sampler.model.name) == ("Euler", "Chroma")
    told = {"steps": "33", "seed": str(2**63 - 1), "cfg_scale": "7.5", "scheduler": "Beta"}
    assert sampler.parameters == told
    # The one text that cannot stand in a prompt, because every reader ends the prompt there.
    shown = prompt.replace("Negative prompt:", "Negative prompt :")
    assert [str(one) for one in info.prompts] == [shown]
    assert [str(one) for one in info.negative_prompts] == [shown + "!"]


def test_names_of_samplers_and_schedulers_come_back(gateway, clock, made, recipe_of, work):
    gateway.serve(noise("png"))
    pairs = zip(schema.SAMPLER.choices, itertools.cycle(schema.SCHEDULER.choices))  # noqa: B905
    for sampler, scheduler in (*pairs, *(("euler", one) for one in schema.SCHEDULER.choices)):
        path = made("x", "--sampler", sampler, "--scheduler", scheduler, "-o", "{index}.png")
        data = path.read_bytes()
        (seen,) = parsed(data).samplers
        text = f"x\nSteps: 20, Sampler: {seen.name}, Schedule type: {seen.parameters['scheduler']}, Seed: 1"
        (work / "theirs.png").write_bytes(with_parameters(text))
        request = recipe_of("theirs.png")["request"]
        assert (request["sampler_name"], request["scheduler"]) == (sampler, scheduler)


# --- we read theirs ----------------------------------------------------------------------------------------


@pytest.fixture
def read(chroma, work):
    """``read(data)`` is what ``inspect --json`` says of a file."""

    def inspect(data: bytes) -> dict[str, Any]:
        (work / "theirs.bin").write_bytes(data)
        ended = chroma("inspect", "theirs.bin", "--json")
        assert ended.code == 0, ended.said
        return ended.one

    return inspect


def with_comment(kind: str, comment: bytes, endian: str = "<") -> bytes:
    block = Image.Exif()
    block.endian = endian
    block[0x0131] = "a tool"
    block.get_ifd(0x8769)[0x9286] = comment
    return noise(kind, exif=block)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt"])
def test_text_of_the_web_ui_is_mapped(read, kind):
    info = PngImagePlugin.PngInfo()
    add = info.add_itxt if kind == "iTXt" else info.add_text
    add("parameters", WEB_UI, zip=kind != "tEXt")
    found = read(noise("png", pnginfo=info))
    assert found["origin"] == "parameters"
    assert found["request"] == {
        "prompt": "girl with a beret, ((eyeshadow)), <lora:x:0.8>\nsecond line",
        "negative_prompt": "ugly, (((deformed)))\nblurry",
        "steps": 20,
        "sampler_name": "euler_a",
        "scheduler": "karras",
        "cfg": 7,
        "seed": 965400086,
        "aspect_ratio": "3:2 landscape 1216x832",
    }


@pytest.mark.parametrize(
    ("kind", "order", "endian"),
    [("jpeg", "be", "<"), ("jpeg", "le", ">"), ("webp", "be", ">"), ("webp", "le", "<"), ("png", "be", "<")],
)
def test_user_comments_of_others_are_read_in_either_order(read, kind, order, endian):
    comment = b"UNICODE\0" + ("骑士 🏰 " + WEB_UI).encode(f"utf-16-{order}")
    request = read(with_comment(kind, comment, endian))["request"]
    assert request["prompt"].startswith("骑士 🏰 girl")
    assert request["seed"] == 965400086


def test_plain_user_comments_are_read_and_those_of_cameras_are_no_recipes(read, chroma, work):
    for prefix in (b"ASCII\0\0\0", bytes(8)):
        assert read(with_comment("jpeg", prefix + WEB_UI.encode()))["request"]["steps"] == 20
    for comment in (b"", b"ASCII\0\0\0a holiday", b"UNICODE\0\0", b"JIS\0\0\0\0\0x", b"x"):
        (work / "photo.jpg").write_bytes(with_comment("jpeg", comment))
        assert chroma("inspect", "photo.jpg").code == 8


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
        ("DPM++ SDE Karras, Schedule type: Simple", ("dpmpp_sde", "simple")),
    ],
)
def test_sampler_names_of_other_tools(read, name, expected):
    request = read(with_parameters(f"x\nSteps: 20, Sampler: {name}, Seed: 1, Size: 1024x1024"))["request"]
    assert (request.get("sampler_name"), request.get("scheduler")) == expected


def test_what_the_model_does_not_allow_is_left_out_and_named(read, chroma):
    text = "x\nSteps: 5, Sampler: UniPC, Schedule type: Automatic, CFG scale: 30, Seed: -1, Size: 512x512"
    assert read(with_parameters(text))["request"] == {"prompt": "x", "negative_prompt": ""}
    told = chroma("inspect", "theirs.bin")
    for name in ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size"):
        assert name in told.said


@pytest.mark.parametrize("kind", FORMATS)
def test_our_text_alone_is_enough(gateway, clock, made, recipe_of, dry, work, kind):
    """As when a service has stripped the XMP packet but kept the text."""
    gateway.serve(noise(kind))
    options = ("--size", "1111x999", "--cfg", "6.5", "--sampler", "some_new_one", "--scheduler", "karras")
    path = made("a fox", *options, "--format", kind, "-o", "x.{ext}")
    text = infotext(path)
    assert text is not None
    (work / "stripped.png").write_bytes(with_parameters(text))
    assert recipe_of("stripped.png")["origin"] == "parameters"
    again = dry("--from", "stripped.png")
    ours = {"image_format": again["image_format"]}
    assert again == {**gateway.bodies[0], **ours}


def test_our_recipe_goes_before_the_text_beside_it(read):
    both = chunk(b"tEXt", b"parameters\0" + WEB_UI.encode())
    data = with_recipe({"request": {"prompt": "ours"}})
    assert read(data[:33] + both + data[33:])["request"] == {"prompt": "ours"}
    assert read(png_with(both))["origin"] == "parameters"
