"""``generate --from``: a picture's or a job's recipe as the level below the options."""

from __future__ import annotations

import pytest
from kit import picture, with_parameters, with_recipe

GIVEN = (
    *("--sampler", "heun", "--scheduler", "karras", "--cfg", "9.5", "--steps", "22", "--seed", "77"),
    *("-n", "bad hands", "-a", "3:4"),
)


@pytest.fixture
def knight(gateway, clock, made):
    return made("a knight", *GIVEN, "-o", "knight.png")


# --- the same again ----------------------------------------------------------------------------------------


def test_alone_it_makes_the_same_request(gateway, clock, made, recipe_of, knight):
    path = made("--from", knight, "-o", "again.png")
    first, second = gateway.bodies
    assert second == first
    assert recipe_of(path)["request"] == first


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_from_other_formats(gateway, clock, made, dry, image_format):
    gateway.serve(picture(1, image_format))
    path = made("a knight", *GIVEN, "--format", image_format, "-o", "knight.{ext}")
    assert dry("--from", path) == gateway.bodies[0]


def test_a_job_of_the_ledger_by_id_and_by_number(gateway, dry, knight):
    knight.unlink()
    assert dry("--from", gateway.jobs()[0].id) == gateway.bodies[0]
    assert dry("--from", "1") == gateway.bodies[0]


def test_a_pending_and_a_failed_job_have_recipes_too(gateway, clock, chroma, dry):
    assert chroma("submit", "a crow", "--seed", "5").code == 0
    assert dry("--from", "1")["prompt"] == "a crow"


def test_no_key_and_no_gateway_for_a_dry_run(gateway, dry, knight, monkeypatch):
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert dry("--from", knight) == gateway.bodies[0]


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
def test_options_win(gateway, dry, knight, options, changed):
    body = dry("--from", knight, *options)
    if changed is None:
        assert (body["cfg"], body["steps"], body["aspect_ratio"]) == (2, 55, "16:9 landscape 1344x768")
        assert body["seed"] == 77
    else:
        assert body == {**gateway.bodies[0], **changed}


def test_an_aspect_replaces_a_size_of_the_recipe(gateway, clock, made, dry):
    path = made("a knight", "--size", "800x900", "-o", "knight.png")
    body = dry("--from", path, "-a", "9:21")
    assert body["aspect_ratio"] == "9:21 portrait 640x1536"
    assert "width" not in body


def test_seed_random_undoes_the_recipes_seed(dry, knight):
    seeds = {dry("--from", knight, "--seed", "random")["seed"] for _ in range(3)}
    assert 77 not in seeds
    assert len(seeds) == 3
    assert dry("--from", knight, "--seed", "8")["seed"] == 8


def test_the_recipe_wins_over_the_config_file(gateway, dry, config, knight):
    config('[defaults]\ncfg = 2\nsize = "900x900"\nseed = 1\n')
    assert dry("--from", knight) == gateway.bodies[0]


def test_samples_are_never_taken(gateway, clock, chroma, dry):
    assert chroma("generate", "a fox", "--samples", "3", "-o", "fox.png").code == 0
    assert dry("--from", "fox-2.png")["samples"] == 1
    assert dry("--from", "1")["samples"] == 1
    assert dry("--from", "1", "--samples", "2")["samples"] == 2


def test_the_prompt_may_come_from_stdin(gateway, clock, chroma, dry, knight):
    assert dry("-", "--from", knight, stdin=b"a dragon\n")["prompt"] == "a dragon"


def test_another_tools_picture(work, dry):
    settings = "Steps: 28, Sampler: Euler a, CFG scale: 6.5, Seed: 42, Size: 1024x1024"
    text = f"a castle\nNegative prompt: fog\n{settings}"
    (work / "theirs.png").write_bytes(with_parameters(text))
    body = dry("--from", "theirs.png")
    assert (body["prompt"], body["negative_prompt"], body["seed"]) == ("a castle", "fog", 42)
    assert (body["sampler_name"], body["steps"], body["cfg"]) == ("euler_a", 28, 6.5)


# --- what cannot be ----------------------------------------------------------------------------------------


def test_values_are_checked_anew_and_told_by_the_recipe(gateway, clock, chroma, work):
    request = {
        "prompt": "x",
        "cfg": 99,
        "steps": "many",
        "sampler_name": 5,
        "image_format": "gif",
        "seed": 1.5,
    }
    path = work / "bad.png"
    path.write_bytes(with_recipe({"request": request}))
    ran = chroma("generate", "--from", path, "--json", "--quality", "0")
    assert ran.code == 2
    message = ran.error["message"]
    assert len(message.splitlines()) >= 6
    for name in ("cfg", "steps", "sampler", "format", "seed"):
        assert any(line.startswith(f"{name} in the recipe of ") for line in message.splitlines()), name
    assert "bad.png" in message
    assert "--quality" in message
    assert gateway.bodies == []


def test_what_is_no_parameter_is_never_sent(work, dry):
    path = work / "odd.png"
    path.write_bytes(with_recipe({"request": {"prompt": "x", "seed": 3, "prompts": "?", "evil": {"a": 1}}}))
    body = dry("--from", path)
    assert (body["prompt"], body["seed"]) == ("x", 3)
    assert "evil" not in body
    assert "prompts" not in body


def test_no_prompt_anywhere(gateway, clock, chroma, work, dry):
    path = work / "none.png"
    path.write_bytes(with_recipe({"request": {"cfg": 5}}))
    ran = chroma("generate", "--from", path)
    assert ran.code == 2
    assert "PROMPT" in ran.err
    assert dry("--from", path, "a fox")["cfg"] == 5


def test_no_recipe_no_file_no_job(gateway, clock, chroma, work):
    (work / "plain.png").write_bytes(picture(1))
    for word in ("plain.png", "nowhere.png", "job-99", "99", "folder/"):
        ran = chroma("generate", "--from", word, "--json")
        assert ran.code == 8, word
        assert word.rstrip("/") in ran.error["message"]
    assert chroma("generate", "--from", "what is this?").code == 2
    assert gateway.bodies == []


def test_a_file_that_is_called_like_a_job_is_the_file(gateway, clock, work, made, dry, knight):
    other = made("a queen", "-o", "queen.png")
    other.rename(work / "1")
    assert dry("--from", "1")["prompt"] == "a queen"


def test_the_picture_itself_is_never_overwritten(gateway, clock, chroma, knight):
    before = knight.read_bytes()
    ran = chroma("generate", "--from", knight, "-o", knight)
    assert ran.code == 10
    assert knight.read_bytes() == before
    assert len(gateway.bodies) == 1
