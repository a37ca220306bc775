"""A recipe's ways: into a file and out again, to options, to a command line."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_kit import FORMATS, PROMPT, embedded, picture, recipe_with

from chroma_cli.cli.main import main
from chroma_cli.errors import InvalidParameters, NotFound
from chroma_cli.images import containers, recipe, xmp
from chroma_cli.images.parts import Damaged, Metadata
from chroma_cli.images.recipe import Recipe
from chroma_cli.request import builder

#: Whatever the builder lets through as a prompt.
PROMPTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), min_size=1, max_size=300
).filter(str.strip)
PLAIN = {image_format: picture(image_format, 16, 16) for image_format in FORMATS}


def read(data: bytes) -> Recipe | None:
    seen = containers.read(io.BytesIO(data))
    assert seen is not None
    return recipe.recipe_in(seen)


@settings(deadline=None, max_examples=150)
@given(PROMPTS, PROMPTS | st.just(""), st.sampled_from(FORMATS))
def test_every_allowed_prompt_comes_back_exactly(prompt: str, negative: str, image_format: str) -> None:
    made = recipe_with(prompt=prompt, negative_prompt=negative)
    assert read(embedded(PLAIN[image_format], image_format, made)) == made


@settings(deadline=None, max_examples=150)
@given(PROMPTS, PROMPTS)
def test_the_parameters_text_gives_back_all_but_white_space_at_the_ends(prompt: str, negative: str) -> None:
    made = recipe_with(prompt=prompt, negative_prompt=negative)
    only = Metadata({xmp.SOURCE_TYPE: "x"}, recipe.metadata(made, "full").parameters)
    seen = read(embedded(PLAIN["png"], "png", only))
    assert seen is not None
    assert seen.request["prompt"] == prompt.replace("Negative prompt:", "Negative prompt :").strip()
    assert (
        seen.request["negative_prompt"] == negative.replace("Negative prompt:", "Negative prompt :").strip()
    )


def test_the_recipe_of_a_file(tmp_path: Path) -> None:
    made = Recipe(
        recipe_with().request, request_id="r", created="2026-01-01T00:00:00Z", sandbox=True, seed=99
    )
    path = tmp_path / "a picture.png"
    path.write_bytes(embedded(picture("png"), "png", made))
    assert recipe.recipe_of(path) == made
    path.write_bytes(picture("png"))
    assert recipe.recipe_of(path) is None


def test_a_level_that_says_only_the_source_leaves_no_recipe() -> None:
    assert read(embedded(picture("png"), "png", recipe.metadata(recipe_with(), "source-only"))) is None


def test_files_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    for path in (text, tmp_path / "missing.png", tmp_path / ("x" * 10) / "y"):
        with pytest.raises(NotFound, match=path.name):
            recipe.recipe_of(path)
    with pytest.raises(NotFound, match="no usable name"):
        recipe.recipe_of(Path("a\0b"))
    with pytest.raises(Damaged):
        recipe.recipe_of(tmp_path)


# --- options -----------------------------------------------------------------------------------------------


def test_options_never_hold_samples_and_make_the_same_request() -> None:
    made = recipe_with(samples=3, aspect="16:9", cfg=9, steps=20, sampler="heun", format="webp", quality=80)
    options = made.options()
    assert "samples" not in options
    assert {**made.request, "samples": 1} == made.checked().payload()


@pytest.mark.parametrize(
    "shape", [{"aspect": "9:21"}, {"size": "1536x1024"}, {"aspect": "1:1"}, {"width": 800}]
)
def test_shapes_come_back(shape: dict[str, object]) -> None:
    made = recipe_with(**shape)
    assert made.checked().payload() == made.request


def test_the_seed_of_the_server_is_the_one_that_counts() -> None:
    made = Recipe({**recipe_with(seed=-1).request}, seed=4711)
    assert made.options()["seed"] == 4711
    assert "Seed: 4711," in str(recipe.metadata(made, "full").parameters)


def test_options_win_beside_it() -> None:
    level = builder.Level(recipe_with(size="1536x1024").options(), place="knight.png")
    beside = builder.Level({"aspect": "16:9", "seed": "random"})
    request = builder.build([level, beside], {}, draw_seed=lambda: 5).request
    assert (request.aspect_ratio, request.seed, request.prompt) == ("16:9 landscape 1344x768", 5, PROMPT)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": 5},
        {"prompt": "x", "steps": [1], "cfg": {"a": 1}, "seed": True, "aspect_ratio": 3},
        {"prompt": "x\x1b[31m"},
        {"prompt": "x", "width": "a", "height": None, "aspect_ratio": "custom"},
        {"prompt": "x", "steps": 10**30},
        {"prompt": "x", "sampler_name": "\x07"},
        {"prompt": "x", "aspect_ratio": ["custom"]},
    ],
)
def test_a_recipe_that_lies_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters):
        Recipe(body).command()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["prompt", "negative_prompt", "aspect_ratio", "width", "height", "cfg", "steps", "seed"]
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_any_body_gives_a_command_or_says_why_not(body: dict[str, Any]) -> None:
    try:
        line = Recipe(body).command()
    except InvalidParameters as error:
        assert error.problems
    else:
        assert line.startswith("printf ") and " | chroma generate " in line


# --- the command -------------------------------------------------------------------------------------------


def test_a_command_says_the_seed_and_what_differs() -> None:
    level = builder.Level({"prompt": "a knight", "seed": 7})
    plain = builder.build([level], {}, draw_seed=lambda: 1).request
    assert Recipe(plain.payload()).command() == "chroma generate --seed 7 'a knight'"
    assert Recipe(plain.payload()).command({"cfg", "width"}) == (
        "chroma generate --aspect 1:1 --cfg 7 --seed 7 'a knight'"
    )
    everything = shlex.split(Recipe(plain.payload()).command({"preset"}))
    assert {"--aspect", "--steps", "--sampler", "--negative-prompt", "--no-base64"} <= set(everything)


def sent(line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the command would send."""
    words = shlex.split(line)
    assert words[:2] == ["chroma", "generate"]
    code = main(["generate", "--dry-run", "--json", *words[2:]])
    out, err = capfd.readouterr()
    assert code == 0, err
    body: dict[str, Any] = json.loads(out)["request"]
    return body


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("CHROMA_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt": "-n is no option here"},
        {"prompt": "--help"},
        {"prompt": 'it\'s $HOME `id` \\ !! "x" # ~ *\n;rm'},
        {"negative_prompt": ""},
        {"negative_prompt": "-x"},
        {"aspect": "9:21", "steps": 20},
        {"size": "1536x1024", "cfg": "7.5", "scheduler": "karras", "sampler": "dpmpp_sde"},
        {"seed": -1},
        {"seed": 2**63 - 1, "format": "jpeg", "quality": 80, "base64": True},
        {"sampler": "-odd"},
    ],
)
def test_the_command_makes_the_same_request(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = recipe_with(**options)
    assert sent(made.command(), monkeypatch, capfd) == made.request


@pytest.mark.parametrize("prompt", ["-", "a long tale\n" * 20_000 + "PROMPT\nend"])
def test_a_prompt_that_cannot_be_an_argument_comes_through_stdin(prompt: str, tmp_path: Path) -> None:
    made = recipe_with(prompt=prompt)
    line = made.command()
    assert line.startswith("printf ") and " | chroma generate " in line
    script = 'chroma() { "$PYTHON" -m chroma_cli "$@" --dry-run --json; }\n' + line + "\n"
    places = {"CHROMA_CONFIG": str(tmp_path / "none.toml"), "CHROMA_STATE_DIR": str(tmp_path)}
    answer = subprocess.run(
        ["sh"],
        input=script.encode(),
        capture_output=True,
        timeout=60,
        check=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", **places},
    )
    assert json.loads(answer.stdout)["request"] == made.request
