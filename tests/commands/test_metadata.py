"""The recipe in every picture that is saved, by whatever way it came; and when there is to be none."""

from __future__ import annotations

import hashlib
import json
import urllib.request

import pytest
from kit import KEY, eventually, infotext, noise, pixels, properties
from PIL import Image, PngImagePlugin

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SOURCE = "Iptc4xmpExt:DigitalSourceType"
FORMATS = ("png", "jpeg", "webp")
ENDING = {"png": "png", "jpeg": "jpg", "webp": "webp"}
WORDS = 'a "young" knight, 骑士 🏰\nsecond line'


def scan_data(data: bytes) -> bytes:
    """The compressed pixels of a JPEG, from the first start of scan on."""
    return data[data.index(b"\xff\xda") :]


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_gets_its_recipe_and_keeps_its_pixels(gateway, clock, chroma, made, image_format):
    came = noise(image_format)
    gateway.serve(came)
    options = ("--format", image_format, "--sampler", "heun", "-n", "bad hands", "--seed", 11)
    path = made(WORDS, *options, "-o", f"knight.{ENDING[image_format]}")
    saved = path.read_bytes()
    assert saved != came
    assert pixels(saved) == pixels(came)
    if image_format == "jpeg":
        assert scan_data(saved) == scan_data(came)
    tags = properties(path)
    assert tags[SOURCE] == TRAINED
    assert tags["xmp:CreatorTool"].startswith("chroma ")
    record = json.loads(tags["chroma:Recipe"])
    assert record["request"] == gateway.bodies[0]
    assert record["request_id"] == gateway.jobs()[0].id
    text = infotext(path)
    assert text.startswith(
        f"{WORDS}\nNegative prompt: bad hands\nSteps: 40, Sampler: Heun, Schedule type: Beta"
    )
    assert "CFG scale: 7, Seed: 11, Size: 1024x1024, Model: Chroma" in text


@pytest.mark.parametrize("way", [["--sync"], ["--base64"], ["--sync", "--base64"], ["--no-ledger"]])
def test_every_way_of_generate_writes_it(gateway, clock, chroma, made, recipe_of, way):
    path = made("a fox", "--seed", 3, "-o", "fox.png", *way)
    found = recipe_of(path)
    assert found["request"] == gateway.bodies[0]
    assert found["origin"] == "chroma"
    assert found["seed"] == 3


def test_the_bytes_on_stdout_have_it_too(gateway, clock, chroma, work, recipe_of):
    ran = chroma("generate", "a fox", "-o", "-")
    assert ran.code == 0, ran.err
    path = work / "piped.png"
    path.write_bytes(ran.raw_out)
    assert recipe_of(path)["request"]["prompt"] == "a fox"


def test_the_recorded_hash_is_that_of_the_file_with_its_recipe(gateway, clock, chroma, work):
    ran = chroma("generate", "a fox", "-o", "fox.png", "--json")
    [file] = ran.json[0]["files"]
    data = (work / "fox.png").read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["bytes"] == len(data)
    again = chroma("fetch", "1")
    assert again.code == 0
    assert len(gateway.requests("file")) == 1


def test_a_picture_fetched_anew_has_the_same_bytes(gateway, clock, chroma, made):
    path = made("a fox", "-o", "fox.png")
    first = path.read_bytes()
    ran = chroma("fetch", "1", "--force")
    assert ran.code == 0, ran.err
    assert path.read_bytes() == first


def test_every_sample_and_every_picture_of_a_batch_has_one(gateway, clock, chroma, work, recipe_of):
    assert chroma("generate", "a fox", "--samples", "3", "-o", "fox.png").code == 0
    (work / "m.jsonl").write_text('{"prompt": "a crow", "output": "crow.png"}\n')
    ran = chroma("batch", "m.jsonl")
    assert ran.code == 0, ran.err
    for name, prompt in (("fox-1", "a fox"), ("fox-2", "a fox"), ("fox-3", "a fox"), ("crow", "a crow")):
        assert recipe_of(work / f"{name}.png")["request"]["prompt"] == prompt
    again = chroma("batch", "m.jsonl")
    assert again.code == 0
    assert len(gateway.bodies) == 2


# --- when there is to be none, or less ---------------------------------------------------------------------


@pytest.mark.parametrize("way", [[], ["--sync"]])
def test_no_metadata_leaves_the_file_as_it_came(gateway, clock, made, way):
    came = noise()
    gateway.serve(came)
    path = made("a fox", "--no-metadata", "-o", "fox.png", *way)
    assert path.read_bytes() == came


@pytest.mark.parametrize("image_format", FORMATS)
def test_source_only_says_that_a_model_made_it_and_not_how(
    gateway, clock, chroma, made, config, image_format
):
    config('[defaults]\nmetadata = "source-only"\n')
    gateway.serve(noise(image_format))
    path = made("a secret fox", "--format", image_format, "-o", f"fox.{ENDING[image_format]}")
    assert properties(path) == {SOURCE: TRAINED}
    assert infotext(path) is None
    data = path.read_bytes()
    assert b"secret" not in data
    assert not any("secret".encode(order) in data for order in ("utf-16-le", "utf-16-be"))
    assert chroma("inspect", path).code == 8


def test_none_in_the_config_file(gateway, clock, made, config):
    came = noise()
    gateway.serve(came)
    config('[defaults]\nmetadata = "none"\n')
    assert made("a fox", "-o", "fox.png").read_bytes() == came


@pytest.mark.parametrize(
    "argv",
    [["generate", "a fox"], ["submit", "a fox"], ["fetch", "1"], ["config"]],
    ids=lambda argv: argv[0],
)
@pytest.mark.parametrize(("value", "meant"), [('"source-olny"', "source-only"), ("true", None)])
def test_a_misspelt_level_is_an_error(gateway, chroma, config, argv, value, meant):
    config(f"[defaults]\nmetadata = {value}\n")
    ran = chroma(*argv, "--json")
    assert ran.code == 2
    assert "metadata" in ran.error["message"]
    if meant:
        assert meant in ran.error["message"].split("Did you mean")[1]
    assert gateway.bodies == []


@pytest.mark.parametrize("asked", ["none", "source-only", "full"])
@pytest.mark.parametrize("config_later", [None, "full", "none"])
def test_fetch_does_what_submit_was_told(gateway, clock, chroma, work, config, asked, config_later):
    came = noise()
    gateway.serve(came)
    config(f'[defaults]\nmetadata = "{asked}"\n')
    assert chroma("submit", "a fox", "-o", "fox.png").code == 0
    config(f'[defaults]\nmetadata = "{config_later}"\n' if config_later else "")
    ran = chroma("fetch", "1")
    assert ran.code == 0, ran.err
    data = (work / "fox.png").read_bytes()
    assert (data == came) == (asked == "none")
    assert (b"chroma:Recipe" in data) == (asked == "full")


def test_no_metadata_on_submit_is_remembered_and_on_fetch_wins(gateway, clock, chroma, work):
    came = noise()
    gateway.serve(came)
    assert chroma("submit", "a fox", "-o", "one.png", "--no-metadata").code == 0
    assert chroma("submit", "a fox", "-o", "two.png").code == 0
    assert chroma("fetch", "1").code == 0
    assert chroma("fetch", "2", "--no-metadata").code == 0
    assert (work / "one.png").read_bytes() == came
    assert (work / "two.png").read_bytes() == came


def test_of_a_job_submitted_elsewhere_only_the_source_is_known(gateway, clock, chroma, work):
    call = urllib.request.Request(f"{gateway.base_url}/v2/chroma", b'{"prompt": "x"}', {"x-api-key": KEY})
    with urllib.request.urlopen(call) as answer:
        ident = json.load(answer)["request_id"]
    ran = chroma("fetch", ident, "-o", "fox.png")
    assert ran.code == 0, ran.err
    assert properties(work / "fox.png")[SOURCE] == TRAINED


# --- what is in the way ------------------------------------------------------------------------------------


def test_metadata_that_is_there_stays(gateway, clock, made):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "their words")
    gateway.serve(noise(pnginfo=info, dpi=(300, 300)))
    path = made("a fox", "-o", "fox.png")
    with Image.open(path) as image:
        assert image.text["Comment"] == "their words"
        assert round(image.info["dpi"][0]) == 300
    assert properties(path)[SOURCE] == TRAINED


def test_a_file_that_cannot_be_extended_is_saved_as_it_came_with_a_warning(gateway, clock, chroma, work):
    one = noise("jpeg")
    block = b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff"
    came = one[:2] + block + block + one[2:]
    gateway.serve(came)
    ran = chroma("generate", "a fox", "--format", "jpeg", "-o", "fox.jpg")
    assert ran.code == 0, ran.err
    assert "without its recipe" in ran.err
    assert (work / "fox.jpg").read_bytes() == came
    asked = chroma("generate", "a fox", "--format", "jpeg", "-o", "fox2.jpg", "--json")
    assert asked.code == 0
    assert any("without its recipe" in note.get("warning", "") for note in asked.notes)


def test_a_prompt_too_long_for_any_container_costs_the_recipe_and_not_the_picture(
    gateway, clock, chroma, work
):
    came = noise()
    gateway.serve(came)
    long = work / "long.txt"
    long.write_text("fox " * 700_000)
    ran = chroma("generate", "--prompt-file", long, "-o", "fox.png")
    assert ran.code == 0, ran.err
    assert "without its recipe" in ran.err
    assert (work / "fox.png").read_bytes() == came


# --- the sandbox -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", FORMATS)
def test_sandbox_pictures_say_so(gateway, clock, made, recipe_of, monkeypatch, image_format):
    monkeypatch.delenv("CHROMA_BASE_URL")
    path = made("a fox", "--sandbox", "--size", "768x768", "--format", image_format, "-o", "fox.{ext}")
    assert "sandbox" in properties(path)["xmp:CreatorTool"]
    assert recipe_of(path)["sandbox"] is True
    assert infotext(path).endswith("Model: Chroma sandbox")
    assert gateway.posts() == 0


def test_pictures_of_a_sandbox_that_runs_for_itself_say_so_too(gateway, clock, made, recipe_of, process):
    sandbox = process.start("sandbox", "--port", "0", "--latency", "0")
    url = eventually(lambda: sandbox.out.partition("\n")[0], "its address")
    for way in (("--format", "png"), ("--format", "jpeg", "--sync"), ("--format", "webp", "--base64")):
        path = made("a fox", *way, "--size", "768x768", "--base-url", url)
        assert properties(path)["xmp:CreatorTool"].endswith("(sandbox)")
        assert recipe_of(path)["sandbox"] is True
        assert infotext(path).endswith("Model: Chroma sandbox")


def test_words_about_the_sandbox_are_not_its_signature(gateway, clock, chroma, made, recipe_of):
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "not the chroma sandbox")
    gateway.serve(noise(pnginfo=info))
    assert recipe_of(made("chroma sandbox", "-o", "fox.png"))["sandbox"] is False
    gateway.serve(noise("jpeg", comment="chroma sandbox?"))
    assert recipe_of(made("chroma sandbox", "-o", "fox.jpg"))["sandbox"] is False


# --- several samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [[], ["--base64"]])
def test_a_picture_of_several_knows_which_it_is(gateway, clock, chroma, work, recipe_of, dry, config, way):
    for level in ("full", "source-only"):
        config(f'[defaults]\nmetadata = "{level}"\n')
        assert chroma("generate", "a fox", "--samples", "3", "-o", f"{level}.png", *way).code == 0
    found = [recipe_of(work / f"full-{number}.png") for number in (1, 2, 3)]
    assert [one["sample"] for one in found] == [1, 2, 3]
    assert all(one["request"] == gateway.bodies[0] for one in found), "and the body is what was sent"
    assert "number 2 of 3" in chroma("inspect", "full-2.png").out
    assert dry("--from", "full-2.png")["samples"] == 1
    assert b"sample" not in (work / "source-only-2.png").read_bytes()


def test_a_picture_that_is_alone_has_no_number(gateway, clock, chroma, made, recipe_of):
    path = made("a fox", "-o", "fox.png")
    assert recipe_of(path)["sample"] is None
    assert "sample" not in json.loads(properties(path)["chroma:Recipe"])
