"""``inspect``: the recipe for people, as JSON, and as a command line that a real shell runs again."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from kit import Changed, chunk, noise, picture, png_with, with_parameters, with_recipe, xmp_chunk

PROMPTS = [
    "a young knight",
    "it's \"quoted\" and 'more' \\ back",
    "$(touch pwned) `touch pwned` ${HOME} $HOME !! *",
    "a; touch pwned | cat & #comment",
    "one\ntwo\n\nfour",
    "ends with a newline\n",
    "-starts with a dash",
    "--help",
    "-",
    "骑士 🏰 é\u0301 ‮rtl",
    "\ttabs\tand   blanks ",
    "Negative prompt: no\nSteps: 3, Sampler: x, Seed: 1",
    "PROMPT",
]
OPTIONS: list[list[str]] = [
    [],
    ["--size", "800x1000", "--cfg", "7.5", "--sampler", "mystery", "--seed", str(2**63 - 1)],
    [
        "-a",
        "9:21",
        "--scheduler",
        "karras",
        "--steps",
        "10",
        "--seed",
        "0",
        "--format",
        "webp",
        "--quality",
        "1",
    ],
    ["--base64", "-n", "-dash and 'quote'\nline", "-p", "photorealism"],
    ["-n", ""],
]


@pytest.fixture
def again(chroma, tmp_path):
    """The request body that a command line sends, as ``sh`` reads it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "chroma").write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {tools}/words\ncat > {tools}/stdin\n")
    (tools / "chroma").chmod(0o755)

    def run(line: str) -> dict[str, Any]:
        env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # noqa: TID251
        (tools / "again.sh").write_text(line)  # a whole prompt may be too long for an argument
        subprocess.run(
            ["/bin/sh", tools / "again.sh"], stdin=subprocess.DEVNULL, check=True, timeout=60, env=env
        )
        [command, *words] = (tools / "words").read_text().split("\0")[:-1]
        assert command == "generate"
        ended = chroma("generate", "--dry-run", "--json", *words, stdin=(tools / "stdin").read_bytes())
        assert ended.code == 0, ended.said
        return dict(ended.one["request"])

    return run


# --- the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_command_makes_the_same_request_in_a_real_shell(
    gateway, clock, chroma, work, made, prompt, again
):
    (work / "prompt.txt").write_bytes(prompt.encode() + b"\n")
    path = made("--prompt-file", "prompt.txt", "-o", "made.png")
    [body] = gateway.bodies
    assert body["prompt"] == prompt
    ran = chroma("inspect", path, "--command")
    assert ran.code == 0, ran.err
    assert again(ran.out) == body
    assert sorted(os.listdir(work)) == ["made.png", "prompt.txt"]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_comes_back(gateway, clock, work, made, recipe_of, options, again):
    path = made("a fox", *options, "-o", "made.{ext}")
    [body] = gateway.bodies
    found = recipe_of(path)
    assert found["request"] == body
    assert again(found["command"]) == body


def test_a_seed_that_the_server_chose_is_what_makes_the_picture(gateway, clock, work, made, recipe_of, again):
    gateway.on("result", Changed(lambda told: {**told, "seed": 99}))
    path = made("a fox", "--seed", "-1", "-o", "made.png")
    [body] = gateway.bodies
    assert body["seed"] == -1
    found = recipe_of(path)
    assert (found["seed"], found["request"]) == (99, body)
    assert again(found["command"]) == {**body, "seed": 99}


@pytest.mark.parametrize(
    "table", ["cfg = 9\nsteps = 33", 'preset = "fine-art"', 'size = "900x800"\nbase64 = true']
)
def test_defaults_of_the_config_file_do_not_bend_the_command(
    gateway, clock, chroma, work, made, config, table, again
):
    path = made("a fox", "-o", "made.png")
    config(f"[defaults]\n{table}\n")
    assert again(chroma("inspect", path, "--command").out) == gateway.bodies[0]


def test_one_picture_of_several_samples_is_made_again_alone(gateway, clock, chroma, work, again):
    assert chroma("generate", "a fox", "--samples", "2", "--seed", "4", "-o", "fox.png").code == 0
    ran = chroma("inspect", "fox-1.png", "--command")
    assert "--samples" not in ran.out
    assert again(ran.out) == {**gateway.bodies[0], "samples": 1}


def test_a_book_of_a_prompt_comes_through_stdin(gateway, clock, chroma, work, made, again):
    book = "it's a fox, " * 15_000
    (work / "book.txt").write_text(book)
    path = made("--prompt-file", "book.txt", "-o", "made.png")
    assert again(chroma("inspect", path, "--command").out) == gateway.bodies[0]


# --- for people and as JSON --------------------------------------------------------------------------------


def test_a_person_sees_the_recipe(gateway, clock, chroma, made):
    path = made("a fox\nin the snow", "--cfg", "5", "--sampler", "heun", "--seed", "9", "-o", "fox.png")
    ran = chroma("inspect", path)
    assert ran.code == 0
    table = dict(
        line.split(None, 1) for line in ran.lines if line.split()[0] in ("cfg", "sampler_name", "seed")
    )
    assert table == {"cfg": "5", "sampler_name": "heun", "seed": "9"}
    assert "a fox" in ran.out
    assert "in the snow" in ran.out
    assert gateway.jobs()[0].id in ran.out


def test_json_has_the_body_and_where_it_is_from(gateway, clock, chroma, made, recipe_of):
    path = made("a fox", "-o", "fox.png")
    found = recipe_of(path)
    assert found["schema"] == 1
    assert found["file"] == str(path)
    assert found["request"] == gateway.bodies[0]
    assert (found["origin"], found["sandbox"]) == ("chroma", False)
    assert found["request_id"] == gateway.jobs()[0].id
    assert found["tool"].startswith("chroma ")
    assert found["created_at"].endswith("Z")


def test_several_pictures_one_line_each(gateway, clock, chroma, made):
    paths = [made(prompt, "-o", f"{prompt}.png") for prompt in ("fox", "crow")]
    ran = chroma("inspect", *paths, "--json")
    assert [one["request"]["prompt"] for one in ran.json] == ["fox", "crow"]
    shown = chroma("inspect", *paths)
    assert all(str(path) in shown.out for path in paths)
    assert len(chroma("inspect", *paths, "--command").lines) == 2


def test_a_folder_is_walked(gateway, clock, chroma, work, made):
    for name in ("b/two.png", "a/one.png", "b/deep/three.png"):
        made("fox", "-o", name)
    (work / "b" / "notes.txt").write_text("no picture")
    ran = chroma("inspect", ".", "--json")
    assert ran.code == 0, ran.err
    names = [Path(one["file"]).relative_to(work).as_posix() for one in ran.json]
    assert sorted(names) == ["a/one.png", "b/deep/three.png", "b/two.png"]


def test_of_several_pictures_some_without_a_recipe(gateway, clock, chroma, work, made):
    good = made("fox", "-o", "fox.png")
    (work / "plain.png").write_bytes(picture(1))
    ran = chroma("inspect", good, "plain.png", "--json")
    assert ran.code == 11
    first, second = ran.json
    assert first["request"]["prompt"] == "fox"
    assert (second["request"], second["error"]["exit_code"]) == (None, 8)
    assert "plain.png" in chroma("inspect", good, "plain.png").err


# --- other tools -------------------------------------------------------------------------------------------


def test_another_tools_text_as_far_as_it_maps(chroma, work, recipe_of, again):
    text = (
        "a castle, masterpiece\nNegative prompt: blurry\nSteps: 28, Sampler: DPM++ SDE, "
        "Schedule type: Karras, CFG scale: 6.5, Seed: 42, "
        "Size: 832x1216, Model hash: abc, Model: other, Clip skip: 2"
    )
    path = work / "theirs.png"
    path.write_bytes(with_parameters(text))
    found = recipe_of(path)
    assert found["origin"] == "parameters"
    assert found["request"]["prompt"] == "a castle, masterpiece"
    assert found["request"]["negative_prompt"] == "blurry"
    assert (found["request"]["steps"], found["request"]["cfg"], found["request"]["seed"]) == (28, 6.5, 42)
    assert (found["request"]["sampler_name"], found["request"]["scheduler"]) == ("dpmpp_sde", "karras")
    body = again(found["command"])
    assert (body["prompt"], body["steps"], body["width"], body["height"]) == (
        "a castle, masterpiece",
        28,
        832,
        1216,
    )
    shown = chroma("inspect", path)
    assert "another tool" in shown.err


# --- no recipe, no picture, no mercy -----------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_no_recipe_is_8(chroma, work, image_format):
    path = work / f"plain.{image_format}"
    path.write_bytes(picture(1, image_format))
    for more in ([], ["--command"]):
        ran = chroma("inspect", path, *more)
        assert (ran.code, ran.out) == (8, "")
        assert "no recipe" in ran.err
    assert chroma("inspect", path, "--json").error["type"] == "no_recipe"


def test_what_is_no_picture_and_what_is_not_there(chroma, work):
    (work / "words.png").write_text("not a picture")
    (work / "empty.png").write_bytes(b"")
    (work / "folder").mkdir()
    for name in ("words.png", "empty.png", "nowhere.png", "folder"):
        ran = chroma("inspect", name, "--json")
        assert ran.code == 8, name
    assert chroma("inspect").code == 2


def test_a_pipe_does_not_hang(chroma, work):
    os.mkfifo(work / "pipe.png")
    ran = chroma("inspect", "pipe.png")
    assert ran.code in (1, 8)
    assert "pipe.png" in ran.err


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_a_cut_file_is_a_clear_error_wherever_it_is_cut(gateway, clock, chroma, work, made, image_format):
    gateway.serve(noise(image_format))
    data = made("a fox", "--format", image_format, "-o", "whole.{ext}").read_bytes()
    path = work / "cut.bin"
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        ran = chroma("inspect", path, "--json")
        assert ran.code in (1, 8), ran.out
        assert ran.error["type"] in ("damaged_file", "not_found", "no_recipe")
        assert "cut.bin" in ran.error["message"]


def bomb() -> bytes:
    """400 MB of settings in 400 kB."""
    press = zlib.compressobj(9)
    piece = b"Steps: 1, " * 100_000
    return b"".join(press.compress(piece) for _ in range(400)) + press.flush()


HOSTILE = {
    "text bomb": png_with(chunk(b"zTXt", b"parameters\0\0" + bomb())),
    "billion laughs": png_with(
        xmp_chunk(
            '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
        )
    ),
    "no object": with_recipe("[]"),
    "no request": with_recipe('{"request": 5}'),
    "not json": with_recipe('{"request": {'),
    "deep": with_recipe("[" * 100_000),
    "huge number": with_recipe('{"request": {"prompt": "x", "seed": ' + "9" * 5000 + "}}"),
    "not a number": with_recipe('{"request": {"prompt": "x", "cfg": NaN}}'),
    "length lies": png_with(struct.pack(">I", 0x7FFFFFFF) + b"iTXt" + b"XML:com.adobe.xmp\0"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_costs_little_and_ends_in_words(chroma, work, kind):
    path = work / "hostile.png"
    path.write_bytes(HOSTILE[kind])
    ran = chroma("inspect", path, "--json")
    assert ran.code in (1, 8), ran.out
    assert ran.error["type"] != "internal"
    assert "hostile.png" in ran.error["message"]


def test_the_values_of_a_hostile_recipe_are_only_text(gateway, clock, chroma, work, dry):
    path = work / "hostile.png"
    record = {
        "request": {
            "prompt": "\x1b]0;owned\x07[red]\ud800 \u202e",
            "steps": "\x1b[2J",
            "cfg": {"a": [1]},
            "x": None,
        },
        "request_id": "\x1b[31m",
        "tool": 7,
        "seed": "nine",
    }
    path.write_bytes(with_recipe(record))
    shown = chroma("inspect", path)
    assert shown.code == 0, shown.err
    assert b"\x1b" not in shown.raw_out + shown.raw_err
    assert b"\x07" not in shown.raw_out
    assert "[red]" in shown.out
    asked = chroma("inspect", path, "--command", "--json")
    assert asked.code == 2
    assert "recipe" in asked.error["message"]
    assert chroma("generate", "--from", path, "--dry-run").code == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM")
def test_a_gigabyte_is_not_read(gateway, clock, work, made, process):
    path = work / "huge.png"
    whole = made("a fox", "-o", "fox.png").read_bytes()
    with path.open("wb") as file:
        file.write(whole[:-12])
        for _ in range(3):
            file.write(struct.pack(">I", 2**30) + b"junk")
            file.seek(2**30 + 4, os.SEEK_CUR)
        file.write(whole[-12:])
    ended, peak = process.peak("inspect", path)
    assert ended.code in (0, 1)
    assert peak < 100


def test_a_folder_may_hold_pictures_without_recipes(chroma, work):
    folder = work / "folder"
    folder.mkdir()
    text = "a fox\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 7, Size: 1024x1024"
    (folder / "fox.png").write_bytes(with_parameters(text))
    (folder / "sheet.png").write_bytes(picture(1))
    assert chroma("inspect", "folder").code == 0
    assert chroma("inspect", "folder/sheet.png").code == 8
    assert chroma("inspect", "folder", "folder/sheet.png").code == 11
    (folder / "fox.png").unlink()
    assert chroma("inspect", "folder").code == 8
