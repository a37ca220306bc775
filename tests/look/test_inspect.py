"""``inspect``: the recipe for people, as JSON, and as a command line that a real shell runs again."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from faultserver import Reply
from look_kit import encoded, peak_of
from PIL import PngImagePlugin

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


def shell(line: str, folder: Path) -> dict[str, Any]:
    """The request body that a command line sends, as ``sh`` runs it."""
    tools = folder.parent / "tools"
    tools.mkdir(exist_ok=True)
    program = tools / "chroma"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chroma_cli "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # noqa: TID251
    script = folder.parent / "again.sh"
    script.write_text(line.replace("chroma generate", "chroma generate --dry-run --json", 1))
    done = subprocess.run(["/bin/sh", script], capture_output=True, timeout=60, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout)["request"])


def picture_with(text: str, path: Path) -> Path:
    """A PNG with another tool's "parameters"."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", text)
    path.write_bytes(encoded(size=(64, 64), pnginfo=info))
    return path


# --- the command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_command_makes_the_same_request_in_a_real_shell(studio: Any, prompt: str) -> None:
    (studio.here / "prompt.txt").write_bytes(prompt.encode() + b"\n")
    path = studio.made("--prompt-file", "prompt.txt", "-o", "made.png")
    [body] = studio.bodies
    assert body["prompt"] == prompt
    ran = studio("inspect", path, "--command")
    assert ran.code == 0, ran.err
    assert shell(ran.out, studio.here) == body
    assert sorted(os.listdir(studio.here)) == ["made.png", "prompt.txt"]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_comes_back(studio: Any, options: list[str]) -> None:
    path = studio.made("a fox", *options, "-o", "made.{ext}")
    [body] = studio.bodies
    found = studio.recipe(path)
    assert found["request"] == body
    assert shell(found["command"], studio.here) == body


def test_a_seed_that_the_server_chose_is_what_makes_the_picture(studio: Any) -> None:
    url = f"{studio.server.base_url}/files/x.png"
    studio.server.on(
        "GET", "/v2/requests/job-1", Reply.json({"status": "COMPLETED", "output": url, "seed": 99})
    )
    path = studio.made("a fox", "--seed", "-1", "-o", "made.png")
    [body] = studio.bodies
    assert body["seed"] == -1
    found = studio.recipe(path)
    assert (found["seed"], found["request"]) == (99, body)
    assert shell(found["command"], studio.here) == {**body, "seed": 99}


@pytest.mark.parametrize(
    "table", ["cfg = 9\nsteps = 33", 'preset = "fine-art"', 'size = "900x800"\nbase64 = true']
)
def test_defaults_of_the_config_file_do_not_bend_the_command(studio: Any, table: str) -> None:
    path = studio.made("a fox", "-o", "made.png")
    studio.config(f"[defaults]\n{table}\n")
    assert shell(studio("inspect", path, "--command").out, studio.here) == studio.bodies[0]


def test_one_picture_of_several_samples_is_made_again_alone(studio: Any) -> None:
    assert studio("generate", "a fox", "--samples", "2", "--seed", "4", "-o", "fox.png").code == 0
    ran = studio("inspect", "fox-1.png", "--command")
    assert "--samples" not in ran.out
    assert shell(ran.out, studio.here) == {**studio.bodies[0], "samples": 1}


def test_a_book_of_a_prompt_comes_through_stdin(studio: Any) -> None:
    book = "it's a fox, " * 15_000
    (studio.here / "book.txt").write_text(book)
    path = studio.made("--prompt-file", "book.txt", "-o", "made.png")
    assert shell(studio("inspect", path, "--command").out, studio.here) == studio.bodies[0]


# --- for people and as JSON --------------------------------------------------------------------------------


def test_a_person_sees_the_recipe(studio: Any) -> None:
    path = studio.made(
        "a fox\nin the snow", "--cfg", "5", "--sampler", "heun", "--seed", "9", "-o", "fox.png"
    )
    ran = studio("inspect", path)
    assert ran.code == 0
    table = dict(
        line.split(None, 1) for line in ran.lines if line.split()[0] in ("cfg", "sampler_name", "seed")
    )
    assert table == {"cfg": "5", "sampler_name": "heun", "seed": "9"}
    assert "a fox" in ran.out
    assert "in the snow" in ran.out
    assert "job-1" in ran.out


def test_json_has_the_body_and_where_it_is_from(studio: Any) -> None:
    path = studio.made("a fox", "-o", "fox.png")
    found = studio.recipe(path)
    assert found["schema"] == 1
    assert found["file"] == str(path)
    assert found["request"] == studio.bodies[0]
    assert (found["origin"], found["request_id"], found["sandbox"]) == ("chroma", "job-1", False)
    assert found["tool"].startswith("chroma ")
    assert found["created_at"].endswith("Z")


def test_several_pictures_one_line_each(studio: Any) -> None:
    paths = [studio.made(prompt, "-o", f"{prompt}.png") for prompt in ("fox", "crow")]
    ran = studio("inspect", *paths, "--json")
    assert [one["request"]["prompt"] for one in ran.json] == ["fox", "crow"]
    shown = studio("inspect", *paths)
    assert all(str(path) in shown.out for path in paths)
    assert len(studio("inspect", *paths, "--command").lines) == 2


def test_a_folder_is_walked(studio: Any) -> None:
    for name in ("b/two.png", "a/one.png", "b/deep/three.png"):
        studio.made("fox", "-o", name)
    (studio.here / "b" / "notes.txt").write_text("no picture")
    ran = studio("inspect", ".", "--json")
    assert ran.code == 0, ran.err
    names = [Path(one["file"]).relative_to(studio.here).as_posix() for one in ran.json]
    assert sorted(names) == ["a/one.png", "b/deep/three.png", "b/two.png"]


def test_of_several_pictures_some_without_a_recipe(studio: Any) -> None:
    good = studio.made("fox", "-o", "fox.png")
    (studio.here / "plain.png").write_bytes(encoded())
    ran = studio("inspect", good, "plain.png", "--json")
    assert ran.code == 11
    first, second = ran.json
    assert first["request"]["prompt"] == "fox"
    assert (second["request"], second["error"]["exit_code"]) == (None, 8)
    assert "plain.png" in studio("inspect", good, "plain.png").err


# --- other tools -------------------------------------------------------------------------------------------


def test_another_tools_text_as_far_as_it_maps(studio: Any) -> None:
    text = (
        "a castle, masterpiece\nNegative prompt: blurry\nSteps: 28, Sampler: DPM++ SDE, "
        "Schedule type: Karras, CFG scale: 6.5, Seed: 42, "
        "Size: 832x1216, Model hash: abc, Model: other, Clip skip: 2"
    )
    path = picture_with(text, studio.here / "theirs.png")
    found = studio.recipe(path)
    assert found["origin"] == "parameters"
    assert found["request"]["prompt"] == "a castle, masterpiece"
    assert found["request"]["negative_prompt"] == "blurry"
    assert (found["request"]["steps"], found["request"]["cfg"], found["request"]["seed"]) == (28, 6.5, 42)
    assert (found["request"]["sampler_name"], found["request"]["scheduler"]) == ("dpmpp_sde", "karras")
    body = shell(found["command"], studio.here)
    assert (body["prompt"], body["steps"], body["width"], body["height"]) == (
        "a castle, masterpiece",
        28,
        832,
        1216,
    )
    shown = studio("inspect", path)
    assert "another tool" in shown.err


# --- no recipe, no picture, no mercy -----------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_no_recipe_is_8(studio: Any, image_format: str) -> None:
    path = studio.here / f"plain.{image_format}"
    path.write_bytes(encoded(image_format))
    for more in ([], ["--command"]):
        ran = studio("inspect", path, *more)
        assert (ran.code, ran.out) == (8, "")
        assert "no recipe" in ran.err
    assert studio("inspect", path, "--json").error["type"] == "no_recipe"


def test_what_is_no_picture_and_what_is_not_there(studio: Any) -> None:
    (studio.here / "words.png").write_text("not a picture")
    (studio.here / "empty.png").write_bytes(b"")
    (studio.here / "folder").mkdir()
    for name in ("words.png", "empty.png", "nowhere.png", "folder"):
        ran = studio("inspect", name, "--json")
        assert ran.code == 8, name
    assert studio("inspect").code == 2


def test_a_pipe_does_not_hang(studio: Any) -> None:
    os.mkfifo(studio.here / "pipe.png")
    ran = studio("inspect", "pipe.png")
    assert ran.code in (1, 8)
    assert "pipe.png" in ran.err


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_a_cut_file_is_a_clear_error_wherever_it_is_cut(studio: Any, image_format: str) -> None:
    studio.serve(encoded(image_format, (64, 64)))
    data = studio.made("a fox", "--format", image_format, "-o", "whole.{ext}").read_bytes()
    path = studio.here / "cut.bin"
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        ran = studio("inspect", path, "--json")
        assert ran.code in (1, 8), ran.out
        assert ran.error["type"] in ("damaged_file", "not_found", "no_recipe")
        assert "cut.bin" in ran.error["message"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    plain = encoded(size=(16, 16))
    return plain[:33] + b"".join(chunks) + plain[33:]


def packet(body: str) -> bytes:
    start = b"XML:com.adobe.xmp\0\0\0\0\0"
    return chunk(b"iTXt", start + body.encode())


def recipe_packet(record: str) -> bytes:
    return packet(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:chroma="https://chroma-cli.dev/ns/1.0/">'
        f"<chroma:Recipe>{record}</chroma:Recipe></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def bomb() -> bytes:
    """400 MB of settings in 400 kB."""
    press = zlib.compressobj(9)
    piece = b"Steps: 1, " * 100_000
    return b"".join(press.compress(piece) for _ in range(400)) + press.flush()


HOSTILE = {
    "text bomb": chunk(b"zTXt", b"parameters\0\0" + bomb()),
    "billion laughs": packet(
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
    ),
    "no object": recipe_packet("[]"),
    "no request": recipe_packet('{"request": 5}'),
    "not json": recipe_packet('{"request": {'),
    "deep": recipe_packet("[" * 100_000),
    "huge number": recipe_packet('{"request": {"prompt": "x", "seed": ' + "9" * 5000 + "}}"),
    "not a number": recipe_packet('{"request": {"prompt": "x", "cfg": NaN}}'),
    "length lies": struct.pack(">I", 0x7FFFFFFF) + b"iTXt" + b"XML:com.adobe.xmp\0",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_costs_little_and_ends_in_words(studio: Any, kind: str) -> None:
    path = studio.here / "hostile.png"
    path.write_bytes(png_with(HOSTILE[kind]))
    ran = studio("inspect", path, "--json")
    assert ran.code in (1, 8), ran.out
    assert ran.error["type"] != "internal"
    assert "hostile.png" in ran.error["message"]


def test_the_values_of_a_hostile_recipe_are_only_text(studio: Any) -> None:
    path = studio.here / "hostile.png"
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
    path.write_bytes(png_with(recipe_packet(json.dumps(record).replace("<", "&lt;"))))
    shown = studio("inspect", path)
    assert shown.code == 0, shown.err
    assert b"\x1b" not in shown.raw_out + shown.raw_err
    assert b"\x07" not in shown.raw_out
    assert "[red]" in shown.out
    asked = studio("inspect", path, "--command", "--json")
    assert asked.code == 2
    assert "recipe" in asked.error["message"]
    assert studio("generate", "--from", path, "--dry-run").code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM")
def test_a_gigabyte_is_not_read(studio: Any) -> None:
    path = studio.here / "huge.png"
    whole = studio.made("a fox", "-o", "fox.png").read_bytes()
    with path.open("wb") as file:
        file.write(whole[:-12])
        for _ in range(3):
            file.write(struct.pack(">I", 2**30) + b"junk")
            file.seek(2**30 + 4, os.SEEK_CUR)
        file.write(whole[-12:])
    code, peak = peak_of("inspect", str(path))
    assert code in (0, 1)
    assert peak < 100_000


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_a_recipe_survives_a_tool_that_rewrites_the_metadata(studio: Any) -> None:
    path = studio.made("a fox", "-o", "fox.png")
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP-dc:Title=Fox", str(path)], check=True)
    assert studio.recipe(path)["request"] == studio.bodies[0]


def test_a_folder_may_hold_pictures_without_recipes(studio: Any) -> None:
    folder = studio.here / "folder"
    folder.mkdir()
    picture_with(
        "a fox\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 7, Size: 1024x1024", folder / "fox.png"
    )
    (folder / "sheet.png").write_bytes(encoded(size=(64, 64)))
    assert studio("inspect", "folder").code == 0
    assert studio("inspect", "folder/sheet.png").code == 8
    assert studio("inspect", "folder", "folder/sheet.png").code == 11
    (folder / "fox.png").unlink()
    assert studio("inspect", "folder").code == 8
