"""The recipe in every picture that is saved, by whatever way it came; and when there is to be none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from look_kit import encoded, pixels
from PIL import PngImagePlugin
from running import run_process

from chroma_cli.sandbox.server import SandboxServer
from chroma_cli.sandbox.world import WorldOptions

Exiftool = Callable[[Path], dict[str, Any]]
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SOURCE = "XMP-iptcExt:DigitalSourceType"
FORMATS = ("png", "jpeg", "webp")
ENDING = {"png": "png", "jpeg": "jpg", "webp": "webp"}
WORDS = 'a "young" knight, 骑士 🏰\nsecond line'


def scan_data(data: bytes) -> bytes:
    """The compressed pixels of a JPEG, from the first start of scan on."""
    return data[data.index(b"\xff\xda") :]


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_gets_its_recipe_and_keeps_its_pixels(
    studio: Any, exiftool: Exiftool, image_format: str
) -> None:
    came = encoded(image_format)
    studio.serve(came)
    options = ("--format", image_format, "--sampler", "heun", "-n", "bad hands", "--seed", 11)
    path = studio.made(WORDS, *options, "-o", f"knight.{ENDING[image_format]}")
    saved = path.read_bytes()
    assert saved != came
    assert pixels(saved) == pixels(came)
    if image_format == "jpeg":
        assert scan_data(saved) == scan_data(came)
    tags = exiftool(path)
    assert tags[SOURCE] == TRAINED
    assert tags["XMP-xmp:CreatorTool"].startswith("chroma ")
    record = json.loads(tags["XMP-chroma:Recipe"])
    assert record["request"] == studio.bodies[0]
    assert record["request_id"] == "job-1"
    text = tags["PNG:Parameters" if image_format == "png" else "ExifIFD:UserComment"]
    assert text.startswith(
        f"{WORDS}\nNegative prompt: bad hands\nSteps: 40, Sampler: Heun, Schedule type: Beta"
    )
    assert "CFG scale: 7, Seed: 11, Size: 1024x1024, Model: Chroma" in text


@pytest.mark.parametrize("way", [["--sync"], ["--base64"], ["--sync", "--base64"], ["--no-ledger"]])
def test_every_way_of_generate_writes_it(studio: Any, way: list[str]) -> None:
    path = studio.made("a fox", "--seed", 3, "-o", "fox.png", *way)
    found = studio.recipe(path)
    assert found["request"] == studio.bodies[0]
    assert found["origin"] == "chroma"
    assert found["seed"] == 3


def test_the_bytes_on_stdout_have_it_too(studio: Any) -> None:
    ran = studio("generate", "a fox", "-o", "-")
    assert ran.code == 0, ran.err
    path = studio.here / "piped.png"
    path.write_bytes(ran.raw_out)
    assert studio.recipe(path)["request"]["prompt"] == "a fox"


def test_the_recorded_hash_is_that_of_the_file_with_its_recipe(studio: Any) -> None:
    import hashlib

    ran = studio("generate", "a fox", "-o", "fox.png", "--json")
    [file] = ran.json[0]["files"]
    data = (studio.here / "fox.png").read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["bytes"] == len(data)
    again = studio("fetch", "job-1")
    assert again.code == 0
    assert len(studio.server.requests("GET", "/files/*")) == 1


def test_a_picture_fetched_anew_has_the_same_bytes(studio: Any) -> None:
    path = studio.made("a fox", "-o", "fox.png")
    first = path.read_bytes()
    ran = studio("fetch", "job-1", "--force")
    assert ran.code == 0, ran.err
    assert path.read_bytes() == first


def test_every_sample_and_every_picture_of_a_batch_has_one(studio: Any) -> None:
    assert studio("generate", "a fox", "--samples", "3", "-o", "fox.png").code == 0
    (studio.here / "m.jsonl").write_text('{"prompt": "a crow", "output": "crow.png"}\n')
    ran = studio("batch", "m.jsonl")
    assert ran.code == 0, ran.err
    for name, prompt in (("fox-1", "a fox"), ("fox-2", "a fox"), ("fox-3", "a fox"), ("crow", "a crow")):
        assert studio.recipe(studio.here / f"{name}.png")["request"]["prompt"] == prompt
    again = studio("batch", "m.jsonl")
    assert again.code == 0
    assert len(studio.bodies) == 2


# --- when there is to be none, or less ---------------------------------------------------------------------


@pytest.mark.parametrize("way", [[], ["--sync"]])
def test_no_metadata_leaves_the_file_as_it_came(studio: Any, way: list[str]) -> None:
    came = encoded()
    studio.serve(came)
    path = studio.made("a fox", "--no-metadata", "-o", "fox.png", *way)
    assert path.read_bytes() == came


@pytest.mark.parametrize("image_format", FORMATS)
def test_source_only_says_that_a_model_made_it_and_not_how(
    studio: Any, exiftool: Exiftool, image_format: str
) -> None:
    studio.config('[defaults]\nmetadata = "source-only"\n')
    studio.serve(encoded(image_format))
    path = studio.made("a secret fox", "--format", image_format, "-o", f"fox.{ENDING[image_format]}")
    tags = exiftool(path)
    assert [name for name in tags if name.startswith("XMP-")] == [SOURCE]
    assert tags[SOURCE] == TRAINED
    data = path.read_bytes()
    assert b"secret" not in data
    assert "secret".encode("utf-16-le") not in data
    assert "secret".encode("utf-16-be") not in data
    assert studio("inspect", path).code == 8


def test_none_in_the_config_file(studio: Any) -> None:
    came = encoded()
    studio.serve(came)
    studio.config('[defaults]\nmetadata = "none"\n')
    assert studio.made("a fox", "-o", "fox.png").read_bytes() == came


@pytest.mark.parametrize(
    "argv",
    [["generate", "a fox"], ["submit", "a fox"], ["fetch", "job-1"], ["config"]],
    ids=lambda argv: argv[0],
)
@pytest.mark.parametrize(("value", "meant"), [('"source-olny"', "source-only"), ("true", None)])
def test_a_misspelt_level_is_an_error(studio: Any, argv: list[str], value: str, meant: str | None) -> None:
    studio.config(f"[defaults]\nmetadata = {value}\n")
    ran = studio(*argv, "--json")
    assert ran.code == 2
    assert "metadata" in ran.error["message"]
    if meant:
        assert meant in ran.error["message"].split("Did you mean")[1]
    assert studio.bodies == []


@pytest.mark.parametrize("asked", ["none", "source-only", "full"])
@pytest.mark.parametrize("config_later", [None, "full", "none"])
def test_fetch_does_what_submit_was_told(studio: Any, asked: str, config_later: str | None) -> None:
    came = encoded()
    studio.serve(came)
    studio.config(f'[defaults]\nmetadata = "{asked}"\n')
    assert studio("submit", "a fox", "-o", "fox.png").code == 0
    studio.config(f'[defaults]\nmetadata = "{config_later}"\n' if config_later else "")
    ran = studio("fetch", "job-1")
    assert ran.code == 0, ran.err
    data = (studio.here / "fox.png").read_bytes()
    assert (data == came) == (asked == "none")
    assert (b"chroma:Recipe" in data) == (asked == "full")


def test_no_metadata_on_submit_is_remembered_and_on_fetch_wins(studio: Any) -> None:
    came = encoded()
    studio.serve(came)
    assert studio("submit", "a fox", "-o", "one.png", "--no-metadata").code == 0
    assert studio("submit", "a fox", "-o", "two.png").code == 0
    assert studio("fetch", "job-1").code == 0
    assert studio("fetch", "job-2", "--no-metadata").code == 0
    assert (studio.here / "one.png").read_bytes() == came
    assert (studio.here / "two.png").read_bytes() == came


def test_of_a_job_submitted_elsewhere_only_the_source_is_known(studio: Any, exiftool: Exiftool) -> None:
    body = {"prompt": "x"}
    import urllib.request

    call = urllib.request.Request(
        f"{studio.server.base_url}/v2/chroma", data=json.dumps(body).encode(), method="POST"
    )
    with urllib.request.urlopen(call) as answer:
        ident = json.load(answer)["request_id"]
    ran = studio("fetch", ident, "-o", "fox.png")
    assert ran.code == 0, ran.err
    assert exiftool(studio.here / "fox.png")[SOURCE] == TRAINED


# --- what is in the way ------------------------------------------------------------------------------------


def test_metadata_that_is_there_stays(studio: Any, exiftool: Exiftool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "their words")
    studio.serve(encoded(pnginfo=info, dpi=(300, 300)))
    tags = exiftool(studio.made("a fox", "-o", "fox.png"))
    assert tags["PNG:Comment"] == "their words"
    assert round(tags["PNG-pHYs:PixelsPerUnitX"]) == 11811
    assert tags[SOURCE] == TRAINED


def test_a_file_that_cannot_be_extended_is_saved_as_it_came_with_a_warning(studio: Any) -> None:
    one = encoded("jpeg")
    block = b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff"
    came = one[:2] + block + block + one[2:]
    studio.serve(came)
    ran = studio("generate", "a fox", "--format", "jpeg", "-o", "fox.jpg")
    assert ran.code == 0, ran.err
    assert "without its recipe" in ran.err
    assert (studio.here / "fox.jpg").read_bytes() == came
    asked = studio("generate", "a fox", "--format", "jpeg", "-o", "fox2.jpg", "--json")
    assert asked.code == 0
    assert any("without its recipe" in note.get("warning", "") for note in asked.notes)


def test_a_prompt_too_long_for_any_container_costs_the_recipe_and_not_the_picture(studio: Any) -> None:
    came = encoded()
    studio.serve(came)
    long = studio.here / "long.txt"
    long.write_text("fox " * 700_000)
    ran = studio("generate", "--prompt-file", long, "-o", "fox.png")
    assert ran.code == 0, ran.err
    assert "without its recipe" in ran.err
    assert (studio.here / "fox.png").read_bytes() == came


# --- the sandbox -------------------------------------------------------------------------------------------


def test_sandbox_pictures_say_so(studio: Any, exiftool: Exiftool) -> None:
    names = {one: f"fox.{ENDING[one]}" for one in FORMATS}
    for name in names.values():
        assert run_process("submit", "a fox", "--sandbox", "--size", "768x768", "-o", name).code == 0
    assert run_process("fetch", "--pending", "--wait", "--sandbox").code == 0
    for image_format, name in names.items():
        tags = exiftool(studio.here / name)
        assert "sandbox" in tags["XMP-xmp:CreatorTool"]
        assert studio.recipe(studio.here / name)["sandbox"] is True
        text = tags["PNG:Parameters" if image_format == "png" else "ExifIFD:UserComment"]
        assert "Model: Chroma sandbox" in text


@pytest.mark.parametrize("way", [[], ["--sync"], ["--base64"]])
def test_pictures_of_a_sandbox_that_runs_for_itself_say_so_too(
    studio: Any, exiftool: Exiftool, way: list[str]
) -> None:
    with SandboxServer(None, WorldOptions(latency=0.0)) as server:
        for image_format in FORMATS:
            name = f"{image_format}.{ENDING[image_format]}"
            options = ("--format", image_format, "--size", "768x768", "--base-url", server.base_url)
            path = studio.made("a fox", *options, *way, "-o", name)
            tags = exiftool(path)
            assert tags["XMP-xmp:CreatorTool"].endswith("(sandbox)")
            assert studio.recipe(path)["sandbox"] is True
            text = tags["PNG:Parameters" if image_format == "png" else "ExifIFD:UserComment"]
            assert text.endswith("Model: Chroma sandbox")


def test_words_about_the_sandbox_are_not_its_signature(studio: Any) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "not the chroma sandbox")
    studio.serve(encoded(pnginfo=info))
    assert studio.recipe(studio.made("chroma sandbox", "-o", "fox.png"))["sandbox"] is False
    studio.serve(encoded("jpeg", comment="chroma sandbox?"))
    assert studio.recipe(studio.made("chroma sandbox", "-o", "fox.jpg"))["sandbox"] is False


# --- several samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [[], ["--base64"]])
def test_a_picture_of_several_knows_which_it_is(studio: Any, way: list[str]) -> None:
    for level in ("full", "source-only"):
        studio.config(f'[defaults]\nmetadata = "{level}"\n')
        assert studio("generate", "a fox", "--samples", "3", "-o", f"{level}.png", *way).code == 0
    found = [studio.recipe(studio.here / f"full-{number}.png") for number in (1, 2, 3)]
    assert [one["sample"] for one in found] == [1, 2, 3]
    assert all(one["request"] == studio.bodies[0] for one in found), "and the body is what was sent"
    assert "number 2 of 3" in studio("inspect", "full-2.png").out
    assert studio.dry("--from", "full-2.png")["samples"] == 1
    assert b"sample" not in (studio.here / "source-only-2.png").read_bytes()


def test_a_picture_that_is_alone_has_no_number(studio: Any, exiftool: Exiftool) -> None:
    path = studio.made("a fox", "-o", "fox.png")
    assert studio.recipe(path)["sample"] is None
    assert "sample" not in json.loads(exiftool(path)["XMP-chroma:Recipe"])
