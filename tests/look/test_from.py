"""``generate --from``: a picture's or a job's recipe as the level below the options."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from look_kit import encoded
from PIL import PngImagePlugin

GIVEN = (
    *("--sampler", "heun", "--scheduler", "karras", "--cfg", "9.5", "--steps", "22", "--seed", "77"),
    *("-n", "bad hands", "-a", "3:4"),
)


@pytest.fixture
def knight(studio: Any) -> Path:
    path: Path = studio.made("a knight", *GIVEN, "-o", "knight.png")
    return path


def picture_of(request: dict[str, Any], path: Path) -> Path:
    """A picture whose recipe says this, as nobody's program has written it."""
    record = json.dumps({"schema": 1, "request": request}).replace("&", "&amp;").replace("<", "&lt;")
    body = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:chroma="https://chroma-cli.dev/ns/1.0/">'
        f"<chroma:Recipe>{record}</chroma:Recipe></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    data = b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + body.encode()
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    plain = encoded(size=(16, 16))
    path.write_bytes(plain[:33] + chunk + plain[33:])
    return path


# --- the same again ----------------------------------------------------------------------------------------


def test_alone_it_makes_the_same_request(studio: Any, knight: Path) -> None:
    path = studio.made("--from", knight, "-o", "again.png")
    first, second = studio.bodies
    assert second == first
    assert studio.recipe(path)["request"] == first


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_from_other_formats(studio: Any, image_format: str) -> None:
    studio.serve(encoded(image_format))
    path = studio.made("a knight", *GIVEN, "--format", image_format, "-o", "knight.{ext}")
    assert studio.dry("--from", path) == studio.bodies[0]


def test_a_job_of_the_ledger_by_id_and_by_number(studio: Any, knight: Path) -> None:
    knight.unlink()
    assert studio.dry("--from", "job-1") == studio.bodies[0]
    assert studio.dry("--from", "1") == studio.bodies[0]


def test_a_pending_and_a_failed_job_have_recipes_too(studio: Any) -> None:
    assert studio("submit", "a crow", "--seed", "5").code == 0
    assert studio.dry("--from", "1")["prompt"] == "a crow"


def test_no_key_and_no_gateway_for_a_dry_run(
    studio: Any, knight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert studio.dry("--from", knight) == studio.bodies[0]


# --- beside it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["a queen"], {"prompt": "a queen"}),
        (["--cfg", "3"], {"cfg": 3}),
        (["-n", "x"], {"negative_prompt": "x"}),
        (["--sampler", "euler", "--steps", "30"], {"sampler_name": "euler", "steps": 30}),
        (["--format", "webp"], {"image_format": "webp"}),
        (["-o", "other.jpg"], {"image_format": "jpeg"}),
        (["--size", "800x900"], {"aspect_ratio": "custom", "width": 800, "height": 900}),
        (["-a", "square"], {"aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024}),
        (["--width", "1000"], {"aspect_ratio": "custom", "width": 1000, "height": 1152}),
        (["--base64"], {"base64": True}),
        (
            ["-p", "photorealism"],
            {
                **{"aspect_ratio": "1:1 square 1024x1024", "width": 1024, "height": 1024, "cfg": 11},
                **{"steps": 55, "sampler_name": "dpmpp_2s_a", "scheduler": "karras"},
            },
        ),
        (["-p", "photorealism", "--cfg", "2", "-a", "16:9"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_win(studio: Any, knight: Path, options: list[str], changed: dict[str, Any] | None) -> None:
    body = studio.dry("--from", knight, *options)
    if changed is None:
        assert (body["cfg"], body["steps"], body["aspect_ratio"]) == (2, 55, "16:9 landscape 1344x768")
        assert body["seed"] == 77
    else:
        assert body == {**studio.bodies[0], **changed}


def test_an_aspect_replaces_a_size_of_the_recipe(studio: Any) -> None:
    path = studio.made("a knight", "--size", "800x900", "-o", "knight.png")
    body = studio.dry("--from", path, "-a", "9:21")
    assert body["aspect_ratio"] == "9:21 portrait 640x1536"
    assert "width" not in body


def test_seed_random_undoes_the_recipes_seed(studio: Any, knight: Path) -> None:
    seeds = {studio.dry("--from", knight, "--seed", "random")["seed"] for _ in range(3)}
    assert 77 not in seeds
    assert len(seeds) == 3
    assert studio.dry("--from", knight, "--seed", "8")["seed"] == 8


def test_the_recipe_wins_over_the_config_file(studio: Any, knight: Path) -> None:
    studio.config('[defaults]\ncfg = 2\nsize = "900x900"\nseed = 1\n')
    assert studio.dry("--from", knight) == studio.bodies[0]


def test_samples_are_never_taken(studio: Any) -> None:
    assert studio("generate", "a fox", "--samples", "3", "-o", "fox.png").code == 0
    assert studio.dry("--from", "fox-2.png")["samples"] == 1
    assert studio.dry("--from", "1")["samples"] == 1
    assert studio.dry("--from", "1", "--samples", "2")["samples"] == 2


def test_the_prompt_may_come_from_stdin(studio: Any, knight: Path) -> None:
    ran = studio("generate", "-", "--from", knight, "--dry-run", stdin=b"a dragon\n")
    assert json.loads(ran.out)["request"]["prompt"] == "a dragon"


def test_another_tools_picture(studio: Any) -> None:
    info = PngImagePlugin.PngInfo()
    settings = "Steps: 28, Sampler: Euler a, CFG scale: 6.5, Seed: 42, Size: 1024x1024"
    text = f"a castle\nNegative prompt: fog\n{settings}"
    info.add_itxt("parameters", text)
    (studio.here / "theirs.png").write_bytes(encoded(size=(32, 32), pnginfo=info))
    body = studio.dry("--from", "theirs.png")
    assert (body["prompt"], body["negative_prompt"], body["seed"]) == ("a castle", "fog", 42)
    assert (body["sampler_name"], body["steps"], body["cfg"]) == ("euler_a", 28, 6.5)


# --- what cannot be ----------------------------------------------------------------------------------------


def test_values_are_checked_anew_and_told_by_the_recipe(studio: Any) -> None:
    request = {
        "prompt": "x",
        "cfg": 99,
        "steps": "many",
        "sampler_name": 5,
        "image_format": "gif",
        "seed": 1.5,
    }
    path = picture_of(request, studio.here / "bad.png")
    ran = studio("generate", "--from", path, "--json", "--quality", "0")
    assert ran.code == 2
    message = ran.error["message"]
    assert len(message.splitlines()) >= 6
    for name in ("cfg", "steps", "sampler", "format", "seed"):
        assert any(line.startswith(f"{name} in the recipe of ") for line in message.splitlines()), name
    assert "bad.png" in message
    assert "--quality" in message
    assert studio.bodies == []


def test_what_is_no_parameter_is_never_sent(studio: Any) -> None:
    path = picture_of({"prompt": "x", "seed": 3, "prompts": "?", "evil": {"a": 1}}, studio.here / "odd.png")
    body = studio.dry("--from", path)
    assert (body["prompt"], body["seed"]) == ("x", 3)
    assert "evil" not in body
    assert "prompts" not in body


def test_no_prompt_anywhere(studio: Any) -> None:
    path = picture_of({"cfg": 5}, studio.here / "none.png")
    ran = studio("generate", "--from", path)
    assert ran.code == 2
    assert "PROMPT" in ran.err
    assert studio.dry("--from", path, "a fox")["cfg"] == 5


def test_no_recipe_no_file_no_job(studio: Any) -> None:
    (studio.here / "plain.png").write_bytes(encoded())
    for word in ("plain.png", "nowhere.png", "job-99", "99", "folder/"):
        ran = studio("generate", "--from", word, "--json")
        assert ran.code == 8, word
        assert word.rstrip("/") in ran.error["message"]
    assert studio("generate", "--from", "what is this?").code == 2
    assert studio.bodies == []


def test_a_file_that_is_called_like_a_job_is_the_file(studio: Any, knight: Path) -> None:
    other = studio.made("a queen", "-o", "queen.png")
    other.rename(studio.here / "1")
    assert studio.dry("--from", "1")["prompt"] == "a queen"


def test_the_picture_itself_is_never_overwritten(studio: Any, knight: Path) -> None:
    before = knight.read_bytes()
    ran = studio("generate", "--from", knight, "-o", knight)
    assert ran.code == 10
    assert knight.read_bytes() == before
    assert len(studio.bodies) == 1
