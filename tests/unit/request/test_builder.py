"""From levels to one request: precedence, presets, the size rules, the three traps, all problems at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli.errors import ExitCode, InvalidParameters
from chroma_cli.request import builder, presets, schema
from chroma_cli.request.builder import ImageRequest, Level
from chroma_cli.request.presets import Preset

DRAWN = 4242
PRESETS = presets.collect({}, "config.toml")


def built(*levels: Mapping[str, object], mine: Mapping[str, Preset] = PRESETS, **more: Any) -> builder.Built:
    """A request from tables, low to high; the prompt is given."""
    given = [Level({"prompt": "a fox"}), *(Level(level) for level in levels)]
    return builder.build(given, mine, draw_seed=lambda: DRAWN, **more)


def shape(*levels: Mapping[str, object], **more: Any) -> tuple[str, int | None, int | None]:
    request = built(*levels, **more).request
    return request.aspect_ratio.split(" ")[0], request.width, request.height


def problems(*levels: Level, **more: Any) -> list[str]:
    with pytest.raises(InvalidParameters) as caught:
        builder.build(levels, PRESETS, draw_seed=lambda: DRAWN, **more)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.message.splitlines()


# --- precedence ------------------------------------------------------------------------------------------


def test_a_higher_level_wins_and_none_is_not_given() -> None:
    request = built({"cfg": 5, "steps": 20}, {"cfg": "9", "steps": None}).request
    assert (request.cfg, request.steps) == (9, 20)


def test_an_option_beside_a_preset_wins() -> None:
    request = built({"preset": "fine-art", "steps": 12}).request
    assert (request.steps, request.cfg, request.scheduler) == (12, 14, "karras")


def test_a_preset_goes_above_the_levels_below_the_one_that_names_it() -> None:
    low = {"steps": 12, "cfg": 3, "quality": 50}
    request = built(low, {"preset": "fine-art", "cfg": 4}).request
    assert (request.steps, request.cfg, request.image_quality) == (68, 4, 50)


def test_a_preset_of_the_lower_level_stays_below_its_own_level() -> None:
    request = built({"preset": "fine-art", "cfg": 3}, {"steps": 11}).request
    assert (request.cfg, request.steps, request.scheduler) == (3, 11, "karras")


def test_only_the_highest_preset_counts() -> None:
    request = built({"preset": "fine-art"}, {"preset": "prototype"}).request
    assert (request.steps, request.scheduler, request.size) == (23, "beta", (768, 768))


def test_a_preset_of_the_config_file() -> None:
    mine = {"mine": Preset("mine", "", {"steps": 50, "seed": 9, "size": "800x900"}, "config.toml")}
    request = built({"preset": "mine"}, mine=mine).request
    assert (request.steps, request.seed, request.size) == (50, 9, (800, 900))


def test_a_bad_value_in_a_preset_is_told_with_its_place() -> None:
    mine = {"mine": Preset("mine", "", {"steps": 5, "stepps": 6}, "config.toml")}
    with pytest.raises(InvalidParameters) as caught:
        built({"preset": "mine"}, mine=mine)
    first, second = caught.value.message.splitlines()
    assert first.startswith("stepps in [presets.mine] of config.toml: ")
    assert first.endswith("Did you mean 'steps'?")
    assert second.startswith("steps in [presets.mine] of config.toml: 5 ")


# --- the size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], ("1:1", 1024, 1024)),
        ([{"aspect": "16:9"}], ("16:9", 1344, 768)),
        ([{"size": "800x900"}], ("custom", 800, 900)),
        ([{"width": 800}], ("custom", 800, 1024)),
        ([{"height": "900"}], ("custom", 1024, 900)),
        ([{"width": 800, "height": 900}], ("custom", 800, 900)),
        ([{"aspect": "custom"}], ("custom", 1024, 1024)),
        ([{"aspect": "custom", "size": "800x900"}], ("custom", 800, 900)),
        ([{"aspect": "custom", "width": 800}], ("custom", 800, 1024)),
        # a named size is asked for as a size, and so is the square of the named ratio
        ([{"size": "1024x1024"}], ("custom", 1024, 1024)),
        ([{"size": "1344x768"}], ("custom", 1344, 768)),
        # the two with a side below the limit go out alone
        ([{"aspect": "9:21"}], ("9:21", None, None)),
        ([{"aspect": "21:9"}], ("21:9", None, None)),
        # a higher level replaces either from below
        ([{"size": "800x900"}, {"aspect": "3:2"}], ("3:2", 1216, 832)),
        ([{"aspect": "3:2"}, {"size": "800x900"}], ("custom", 800, 900)),
        ([{"aspect": "9:21"}, {"size": "800x900"}], ("custom", 800, 900)),
        ([{"size": "800x900"}, {"aspect": "9:21"}], ("9:21", None, None)),
        ([{"width": 800, "height": 900}, {"size": "1000x1100"}], ("custom", 1000, 1100)),
        # a lone side takes the other from below
        ([{"size": "800x900"}, {"width": 1000}], ("custom", 1000, 900)),
        ([{"width": 800}, {"height": 900}], ("custom", 800, 900)),
        ([{"aspect": "16:9"}, {"width": 1000}], ("custom", 1000, 768)),
        ([{"preset": "fine-art", "width": 1000}], ("custom", 1000, 2048)),
        ([{"preset": "illustration", "height": 1000}], ("custom", 896, 1000)),
        ([{"preset": "illustration", "aspect": "16:9"}], ("16:9", 1344, 768)),
        ([{"aspect": "9:21"}, {"width": 1000}], ("custom", 1000, 1536)),
    ],
)
def test_which_size_goes_out(
    levels: list[dict[str, object]], expected: tuple[str, int | None, int | None]
) -> None:
    assert shape(*levels) == expected


def test_a_lone_side_beside_a_side_of_640_px_is_refused() -> None:
    [line] = problems(Level({"prompt": "x", "aspect": "9:21"}), Level({"height": 1000}))
    assert line.startswith("--width: ")
    assert "640" in line


@pytest.mark.parametrize(
    "level",
    [
        {"aspect": "16:9", "size": "800x900"},
        {"aspect": "16:9", "width": 800},
        {"aspect": "square", "height": 800},
        {"size": "800x900", "width": 800},
        {"aspect": "16:9", "size": "1344x768"},
    ],
)
def test_a_ratio_and_a_size_at_one_level_are_an_error(level: dict[str, object]) -> None:
    [line] = problems(Level({"prompt": "x", **level}))
    assert "cannot stand beside" in line


def test_the_size_of_the_picture_is_known_for_every_ratio() -> None:
    for one in schema.ASPECTS:
        assert built({"aspect": one.name}).request.size == (one.width, one.height)


# --- the seed --------------------------------------------------------------------------------------------


def test_a_seed_is_drawn_once_when_nobody_pins_it() -> None:
    drawn: list[int] = []

    def draw() -> int:
        drawn.append(7)
        return 7

    request = builder.build([Level({"prompt": "x"})], PRESETS, draw_seed=draw).request
    assert request.seed == 7
    builder.build([Level({"prompt": "x", "seed": 3})], PRESETS, draw_seed=draw)
    assert drawn == [7]


@pytest.mark.parametrize(
    ("levels", "seed"),
    [
        ([{"seed": 5}], 5),
        ([{"seed": 0}], 0),
        ([{"seed": -1}], -1),
        ([{"seed": 5}, {"seed": "random"}], DRAWN),
        ([{"seed": "random"}, {"seed": 5}], 5),
        ([{"seed": 5}, {"seed": "random"}, {"seed": "6"}], 6),
    ],
)
def test_which_seed_goes_out(levels: list[dict[str, object]], seed: int) -> None:
    assert built(*levels).request.seed == seed


# --- the format ------------------------------------------------------------------------------------------


def test_the_ending_decides_over_lower_levels() -> None:
    assert built({"format": "webp"}, {}, file_format="jpeg").request.image_format == "jpeg"
    assert built({"format": "jpg"}, file_format="jpeg").request.image_format == "jpeg"


def test_the_ending_may_not_contradict_the_format_of_the_same_level() -> None:
    [line] = problems(Level({"prompt": "x", "format": "png"}), file_format="jpeg")
    assert line.startswith("--format: 'png' contradicts")


# --- problems --------------------------------------------------------------------------------------------


def test_every_problem_of_every_level_is_told_with_its_place() -> None:
    config = Level({"cfg": 0, "speed": 1}, "[defaults] of config.toml")
    lines = problems(config, Level({"prompt": "", "steps": "x", "size": "1x2", "preset": "artfine"}))
    assert len(lines) == 7
    starts = ["speed in [defaults] of config.toml", "cfg in [defaults] of config.toml", "PROMPT", "--steps"]
    starts += ["--size (width)", "--size (height)", "--preset"]
    for start in starts:
        assert [line for line in lines if line.startswith(f"{start}: ")], start


def test_a_missing_prompt_is_told_once() -> None:
    assert len(problems(Level({}))) == 1
    assert len(problems(Level({"prompt": " "}))) == 1


def test_tables_that_are_not_used_are_checked_all_the_same() -> None:
    tables = [Level({"cfg": 0}, "a"), Level({"cfg": 7}, "b"), Level({"stepps": 1}, "c")]
    found = [str(problem) for problem in builder.check_tables(tables, PRESETS)]
    assert len(found) == 2
    assert found[0].startswith("cfg in a: ")
    assert found[1].startswith("stepps in c: ")


def test_an_unknown_sampler_warns_with_its_place() -> None:
    low, high = Level({"prompt": "x", "sampler": "one"}, "[defaults] of c"), Level({"sampler": "eulerr"})
    made = builder.build([low, high], PRESETS, draw_seed=lambda: 1)
    [words] = made.warnings
    assert words.startswith("--sampler: 'eulerr'")
    assert "Did you mean 'euler'?" in words
    assert builder.build([low, Level({"sampler": "heun"})], PRESETS, draw_seed=lambda: 1).warnings == ()


# --- the payload -----------------------------------------------------------------------------------------

NAMES = {parameter.name for parameter in schema.PARAMETERS}
GOOD = st.fixed_dictionaries(
    {},
    optional={
        "cfg": st.floats(1, 20) | st.integers(1, 20).map(str),
        "steps": st.integers(10, 75) | st.integers(10, 75).map(str),
        "seed": st.integers(-1, 2**63 - 1) | st.just("random"),
        "samples": st.integers(1, 99),
        "sampler": st.sampled_from([*schema.SAMPLER.choices, "new_one"]),
        "scheduler": st.sampled_from(schema.SCHEDULER.choices),
        "format": st.sampled_from(["png", "jpg", "jpeg", "webp"]),
        "quality": st.integers(1, 100),
        "base64": st.booleans(),
        "preset": st.sampled_from(sorted(PRESETS)),
        "negative_prompt": st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20),
    },
)
SHAPES = st.sampled_from(
    [*({"aspect": one.name} for one in schema.ASPECTS), {"aspect": "custom"}]
) | st.builds(
    lambda width, height: {"size": f"{width}x{height}"}, st.integers(768, 2048), st.integers(768, 2048)
)


@given(low=GOOD, high=GOOD, shaped=SHAPES)
def test_every_request_keeps_the_three_traps_shut(
    low: dict[str, object], high: dict[str, object], shaped: dict[str, object]
) -> None:
    request = built(low, {**high, **shaped}).request
    body = request.payload()
    named = schema.ASPECT_BY_NAME.get(request.aspect_ratio)
    missing = NAMES - set(body)
    assert missing == ({"width", "height"} if named and 640 in (named.width, named.height) else set())
    if "size" in shaped:
        assert body["aspect_ratio"] == "custom"
        assert f"{body['width']}x{body['height']}" == shaped["size"]
    elif named and not missing:
        assert (body["width"], body["height"]) == (named.width, named.height)
    assert isinstance(body["base64"], bool)
    assert list(body) == [parameter.name for parameter in schema.PARAMETERS if parameter.name in body]
    assert json.loads(json.dumps(body, allow_nan=False)) == body
    assert ImageRequest.from_payload(body) == request
    assert request.expected_cost >= schema.TYPICAL_COST * request.samples


ANY_VALUE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers())
)
ANY_TABLE = st.dictionaries(st.sampled_from([*builder.SETTABLE, "nonsense"]), ANY_VALUE, max_size=6)


@given(
    low=ANY_TABLE, high=ANY_TABLE, prompt=st.text(max_size=10), ending=st.sampled_from([None, "png", "webp"])
)
def test_any_tables_make_a_request_or_problems(
    low: dict[str, object], high: dict[str, object], prompt: str, ending: str | None
) -> None:
    levels = [Level(low, "[defaults] of c"), Level({**high, "prompt": prompt})]
    try:
        made = builder.build(levels, PRESETS, draw_seed=lambda: 1, file_format=ending)
    except InvalidParameters as error:
        assert error.problems
        assert len(error.message.splitlines()) == len(error.problems)
    else:
        assert made.request.prompt == prompt
