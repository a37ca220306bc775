"""What was asked for, from the command line's side: values, prompts, formats, and every refusal."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import helps

from chroma_cli.request import schema

# --- the dry run -----------------------------------------------------------------------------------------


def test_dry_run_shows_the_whole_call_and_sends_nothing(chroma, state):
    done = chroma("generate", "a fox", "--seed", "7", "--dry-run", "--json")
    assert done.code == 0
    assert done.err == ""
    assert done.json == [
        {
            "schema": 1,
            "method": "POST",
            "url": "https://api.segmind.com/v2/chroma",
            "request": {
                "prompt": "a fox",
                "negative_prompt": "low quality, ugly, deformed, blurry, bad anatomy, distorted, unrealistic",
                "aspect_ratio": "1:1 square 1024x1024",
                "width": 1024,
                "height": 1024,
                "cfg": 7,
                "sampler_name": "euler",
                "scheduler": "beta",
                "steps": 40,
                "seed": 7,
                "samples": 1,
                "image_format": "png",
                "image_quality": 95,
                "base64": False,
            },
        }
    ]
    assert not state.exists()


def test_dry_run_is_json_without_json_too(chroma):
    done = chroma("generate", "a fox", "--dry-run")
    assert json.loads(done.out)["request"]["prompt"] == "a fox"


def test_dry_run_of_a_sync_call_names_the_v1_address(chroma):
    [value] = chroma("generate", "a fox", "--dry-run", "--sync", "--json").json
    assert value["url"] == "https://api.segmind.com/v1/chroma"


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_blocking_call_cannot_be_sent_again_after_a_lost_answer(chroma, more: list[str]):
    done = chroma("generate", "a fox", "--sync", "--resubmit-unknown", "--steps", "9", "--json", *more)
    assert (done.code, done.out) == (2, "")
    message = done.error["message"]
    assert "--resubmit-unknown" in message and "--sync" in message
    assert "--steps" in message  # all problems at once


def test_dry_run_names_the_gateway_that_was_chosen(chroma, config, monkeypatch):
    def url(*args: str) -> str:
        [value] = chroma("generate", "a fox", "--dry-run", "--json", *args).json
        return str(value["url"])

    config('base_url = "https://config.example/"')
    assert url() == "https://config.example/v2/chroma"
    monkeypatch.setenv("CHROMA_BASE_URL", "https://env.example")
    assert url() == "https://env.example/v2/chroma"
    assert url("--base-url", "http://localhost:81/x/") == "http://localhost:81/x/v2/chroma"


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--aspect", "16:9"], {"aspect_ratio": "16:9 landscape 1344x768", "width": 1344, "height": 768}),
        (["-a", "portrait"], {"aspect_ratio": "3:4 portrait 896x1152", "width": 896, "height": 1152}),
        (["--size", "1536x1024"], {"aspect_ratio": "custom", "width": 1536, "height": 1024}),
        (["--width", "900"], {"aspect_ratio": "custom", "width": 900, "height": 1024}),
        (["--height", "2048"], {"aspect_ratio": "custom", "width": 1024, "height": 2048}),
        (["-p", "fine-art", "--width", "800"], {"aspect_ratio": "custom", "width": 800, "height": 2048}),
        (["-p", "prototype", "--cfg", "9.5"], {"cfg": 9.5, "steps": 23}),
        (["--cfg", "7.0"], {"cfg": 7}),
        (["--format", "JPG"], {"image_format": "jpeg"}),
        (["-o", "x.webp"], {"image_format": "webp"}),
        (["-o", "x.JPG"], {"image_format": "jpeg"}),
        (["-o", "x.jpeg", "--format", "jpg"], {"image_format": "jpeg"}),
        (["-o", "{slug}.{ext}", "--format", "webp"], {"image_format": "webp"}),
        (["-o", "folder.png/"], {"image_format": "png"}),
        (["--base64"], {"base64": True}),
        (["--no-base64"], {"base64": False}),
        (["-n", ""], {"negative_prompt": ""}),
        (["--seed", "9223372036854775807"], {"seed": 2**63 - 1}),
        (["--seed", "-1"], {"seed": -1}),
        (["--samples", "5", "--quality", "1"], {"samples": 5, "image_quality": 1}),
    ],
)
def test_options_become_the_request(dry, args, expected):
    request = dry("a fox", *args)
    assert {name: request[name] for name in expected} == expected


@pytest.mark.parametrize("aspect", ["9:21", "21:9"])
def test_the_two_narrow_ratios_go_out_without_sides(dry, aspect: str):
    request = dry("a fox", "--aspect", aspect)
    assert request["aspect_ratio"].startswith(aspect + " ")
    assert not {"width", "height"} & set(request)


def test_a_seed_left_out_is_drawn_anew(dry):
    seeds = {dry("a fox")["seed"] for _ in range(5)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_random_undoes_a_pinned_seed(dry, config):
    config("[defaults]\nseed = 5\n")
    assert dry("a fox")["seed"] == 5
    assert dry("a fox", "--seed", "6")["seed"] == 6
    assert len({dry("a fox", "--seed", "random")["seed"] for _ in range(3)}) > 1


def test_the_ending_of_the_output_goes_before_a_format_in_the_config(dry, config):
    config('[defaults]\nformat = "webp"\n')
    assert dry("a fox")["image_format"] == "webp"
    assert dry("a fox", "-o", "x.png")["image_format"] == "png"


def test_an_unknown_sampler_is_sent_with_a_warning(chroma):
    done = chroma("generate", "a fox", "--dry-run", "--sampler", "dpmpp_2m")
    assert json.loads(done.out)["request"]["sampler_name"] == "dpmpp_2m"
    assert done.err.startswith("warning: --sampler: 'dpmpp_2m'")
    quiet = chroma("generate", "a fox", "--dry-run", "--sampler", "dpmpp_2m", "-q")
    assert (quiet.code, quiet.err) == (0, "")
    told = chroma("generate", "a fox", "--dry-run", "--sampler", "eulr", "--json")
    [note] = told.notes
    assert note["schema"] == 1
    assert "'euler'" in note["warning"]


# --- refusals --------------------------------------------------------------------------------------------

BAD = {
    "--cfg": "nan",
    "--steps": "40.0",
    "--seed": "soon",
    "--samples": "0",
    "--quality": "101",
    "--format": "gif",
    "--scheduler": "karas",
    "--aspect": "17:9",
    "--preset": "photoreal",
    "--timeout": "-3",
}


def test_all_problems_of_a_call_are_told_at_once(chroma):
    args = [part for pair in BAD.items() for part in pair]
    done = chroma("generate", " ", *args, "-o", "picture.bmp", "--json")
    assert done.code == 2
    assert done.out == ""
    lines = done.error["message"].splitlines()
    for option, value in BAD.items():
        [line] = [line for line in lines if line.startswith(f"{option}: ")]
        assert repr(value) in line or f" {value} " in line
    assert [line for line in lines if line.startswith("PROMPT: ")]
    assert [line for line in lines if line.startswith("--output: ") and ".bmp" in line]
    assert len(lines) == len(BAD) + 2
    assert done.error["type"] == "invalid_parameters"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--scheduler", "karas"], ["'karas'", "sgm_uniform", "Did you mean 'karras'?"]),
        (["--preset", "fineart"], ["'fineart'", "prototype", "Did you mean 'fine-art'?"]),
        (["--aspect", "potrait"], ["'potrait'", "Did you mean 'portrait'?"]),
        (["--format", "pngg"], ["'pngg'", "webp", "Did you mean 'png'?"]),
        (["--steps", "9"], ["--steps", "9", "from 10 to 75"]),
        (["--steps", "76"], ["from 10 to 75"]),
        (["--steps", "1e1"], ["whole number"]),
        (["--steps", "true"], ["'true'"]),
        (["--cfg", "inf"], ["from 1 to 20"]),
        (["--cfg", "20.01"], ["20.01", "from 1 to 20"]),
        (["--width", "767"], ["--width", "767", "768 to 2048"]),
        (["--size", "800x3000"], ["--size", "3000", "768 to 2048"]),
        (["--size", "big"], ["'big'", "1536x1024"]),
        (["--seed", "9223372036854775808"], ["9223372036854775808", "random"]),
        (["--seed", "-2"], ["-2"]),
        (["--samples", "1.5"], ["'1.5'"]),
        (["--aspect", "16:9", "--size", "800x800"], ["--aspect", "--size"]),
        (["--aspect", "16:9", "--width", "800"], ["--aspect", "--width"]),
        (["--size", "800x800", "--height", "800"], ["--size", "--height"]),
        (["--format", "png", "-o", "x.jpg"], ["--format", "jpeg"]),
        (["-o", "x.tiff"], ["--output", ".tiff", ".webp"]),
        (["-o", "{sead}.png"], ["--output", "sead"]),
        (["--timeout", "nan"], ["--timeout", "'nan'"]),
        (["--timeout", "0"], ["--timeout", "'0'"]),
        (["--timeout", "soon"], ["--timeout", "'soon'"]),
        (["--prompt-file", "p.txt"], ["--prompt-file", "PROMPT"]),
        (["--base-url", "http://gateway.example"], ["--base-url", "http://gateway.example"]),
        (["--sandbox", "--base-url", "http://127.0.0.1:1"], ["--sandbox", "--base-url"]),
        (["--colour"], ["--colour"]),
        (["--steps"], ["--steps"]),
        (["and a hare"], ["and a hare"]),
    ],
)
def test_wrong_usage_is_exit_2_with_the_reason(chroma, args, words):
    plain = chroma("generate", "a fox", "--dry-run", *args)
    told = chroma("generate", "a fox", "--dry-run", "--json", *args)
    assert (plain.code, told.code, plain.out, told.out) == (2, 2, "", "")
    assert "Traceback" not in plain.err
    for word in words:
        assert word in plain.err
        assert word in told.error["message"]


@pytest.mark.parametrize("args", [[], ["paint"], ["--json"], ["--json", "generate"], ["generate", "--nope"]])
def test_a_wrong_call_names_a_way_out(chroma, args: list[str]):
    done = chroma(*args)
    assert done.code == 2
    assert done.out == ""
    said = done.error["hint"] if "--json" in args else done.err
    assert "--help" in said


def test_a_bare_call_names_the_commands(chroma):
    done = chroma()
    for name in helps.commands():
        assert name in done.err


def test_json_after_a_double_dash_is_a_prompt(chroma):
    done = chroma("generate", "--cfg", "0", "--", "--json")
    assert done.code == 2
    assert done.err.startswith("error: --cfg")


def test_unknown_options_are_json_errors_in_every_command(chroma):
    for name in helps.commands():
        done = chroma(name, "--json", "--no-such-option")
        assert (done.code, done.error["type"]) == (2, "usage"), name


OPTION_VALUES = st.dictionaries(
    st.sampled_from(
        [*(p.flag for p in schema.PARAMETERS if p.kind != "boolean" and p is not schema.PROMPT)]
        + ["--size", "--preset", "--timeout", "--output", "--base-url", "-n", "-a", "-p", "-o"]
    ),
    st.text(max_size=30)
    | st.sampled_from(["1", "40", "7.5", "-1", "1e400", "16:9", "1024x1024", "{seed}", "a.png", "-", "//"]),
    max_size=5,
)


@given(values=OPTION_VALUES, prompt=st.text(max_size=30))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_as_any_option_ends_with_0_or_2_and_never_in_a_traceback(chroma, values, prompt):
    args = [f"{name}={value}" if name[1] == "-" else f"{name}{value}" for name, value in values.items()]
    done = chroma("generate", "--dry-run", "--json", *args, "--", prompt)
    assert done.code in (0, 2), done.said
    assert "Traceback" not in done.err
    assert "internal" not in done.err
    assert all(line["schema"] == 1 for line in (*done.json, *done.notes))
    assert bool(done.out) == (done.code == 0)


# --- prompts from elsewhere ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"a red fox\n", "a red fox"),
        (b"a red fox", "a red fox"),
        (b"a red fox\n\n", "a red fox\n"),
        (b"a red\r\nfox\r\n", "a red\nfox"),
        (b"a red\rfox\r", "a red\nfox"),
        (b"\xef\xbb\xbfa red fox\r\n", "a red fox"),
        ("ein roter Fuchs, 赤い狐 🦊\n".encode(), "ein roter Fuchs, 赤い狐 🦊"),
        (b"  a\tfox  \n", "  a\tfox  "),
        (b"x" * 200_000, "x" * 200_000),
    ],
)
def test_a_prompt_from_stdin_or_a_file(dry, work, data, prompt):
    (work / "prompt.txt").write_bytes(data)
    assert dry("--prompt-file", "prompt.txt")["prompt"] == prompt
    assert dry("-", stdin=data)["prompt"] == prompt
    assert dry("--prompt-file", "-", stdin=data)["prompt"] == prompt


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b" \r\n\t", b"\xef\xbb\xbf", b"a \xff fox", b"\xff\xfea\x00", b"a\x00b", b"a\x1b[1mb"],
)
def test_a_prompt_that_cannot_be_one(chroma, work, data):
    (work / "prompt.txt").write_bytes(data)
    for done in (
        chroma("generate", "--prompt-file", "prompt.txt", "--dry-run", "--json"),
        chroma("generate", "-", "--dry-run", "--json", stdin=data),
    ):
        assert done.code == 2
        assert done.out == ""
        assert done.error["message"].startswith(("PROMPT: ", "--prompt-file: "))
        assert len(done.error["message"].splitlines()) == 1


@pytest.mark.parametrize("name", ["missing.txt", ".", "", "a\0b"])
def test_a_prompt_file_that_cannot_be_read(chroma, name):
    done = chroma("generate", "--prompt-file", name, "--cfg", "0", "--json")
    assert done.code == 2
    [first, second] = done.error["message"].splitlines()
    assert first.startswith("--prompt-file: ")
    assert second.startswith("--cfg: ")


def test_a_closed_stdin_is_wrong_usage(process):
    done = process.shell("$CHROMA generate - --dry-run --json <&-")
    assert done.code == 2
    assert "stdin is closed" in done.error["message"]
    assert process.shell("$CHROMA generate x --dry-run --json <&-").code == 0


@pytest.mark.skipif(os.name != "posix", reason="arguments are bytes only there")
def test_an_argument_that_is_not_utf8_is_refused(chroma):
    done = chroma("generate", os.fsdecode(b"a \xff fox"), "--dry-run", "--json")
    assert done.code == 2
    assert "UTF-8" in done.error["message"]
