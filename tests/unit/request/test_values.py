"""One value at a time: text and typed values, what fits, what does not, and what is said then."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.request import schema, values
from chroma_cli.request.values import Unfit


@pytest.mark.parametrize(("value", "number"), [("40", 40), (" 40 ", 40), ("+40", 40), (40, 40), ("0040", 40)])
def test_whole_numbers(value: object, number: int) -> None:
    assert values.integer(schema.STEPS, value) == number


@pytest.mark.parametrize(
    "value",
    ["40.0", 40.0, "4e1", "0x28", "4_0", "٤٠", "", " ", "-", "forty", True, None, [40], {}, "nan", "40 41"]
    + ["9", "76", 9, 76, "-40", "9" * 41],
)
def test_what_is_no_step_count(value: object) -> None:
    with pytest.raises(Unfit, match="a whole number from 10 to 75"):
        values.integer(schema.STEPS, value)


@given(st.integers())
def test_every_int_is_taken_or_refused_by_its_range(number: int) -> None:
    if 10 <= number <= 75:
        assert values.integer(schema.STEPS, str(number)) == values.integer(schema.STEPS, number) == number
    else:
        for value in (number, str(number)):
            with pytest.raises(Unfit):
                values.integer(schema.STEPS, value)


@pytest.mark.parametrize(
    ("value", "number"), [("7", 7), ("7.0", 7), (7.0, 7), ("7.25", 7.25), ("1e1", 10), ("+2.", 2), (20, 20)]
)
def test_numbers(value: object, number: float) -> None:
    found = values.number(schema.CFG, value)
    assert found == number
    assert isinstance(found, int) == float(number).is_integer()


@pytest.mark.parametrize(
    "value",
    ["nan", "NaN", "inf", "-inf", "Infinity", "1e999", math.nan, math.inf, -math.inf, 10**400, True, False]
    + ["", ".", "1,5", "1_0", "0x7", "7 8", "true", None, [7], "0.99", "20.01", -3, "٧"],
)
def test_what_is_no_cfg(value: object) -> None:
    with pytest.raises(Unfit, match="a number from 1 to 20"):
        values.number(schema.CFG, value)


@given(st.floats(1, 20))
def test_a_float_survives_its_own_text(number: float) -> None:
    assert values.number(schema.CFG, repr(number)) == number


@pytest.mark.parametrize("value", [True, "true", "Yes", " on ", "1"])
def test_true(value: object) -> None:
    assert values.boolean(schema.BASE64, value) is True


@pytest.mark.parametrize("value", [False, "false", "NO", "off", "0"])
def test_false(value: object) -> None:
    assert values.boolean(schema.BASE64, value) is False


@pytest.mark.parametrize("value", ["maybe", "", 1, 0, None, "t"])
def test_neither_true_nor_false(value: object) -> None:
    with pytest.raises(Unfit, match="true or false"):
        values.boolean(schema.BASE64, value)


@pytest.mark.parametrize(("word", "name"), [("PNG", "png"), (" jpg ", "jpeg"), ("jpeg", "jpeg")])
def test_formats(word: str, name: str) -> None:
    assert values.choice(schema.IMAGE_FORMAT, word) == name


@pytest.mark.parametrize("value", ["gif", "", 1, None, True, ["png"]])
def test_what_is_no_format(value: object) -> None:
    with pytest.raises(Unfit, match="png, jpeg, webp"):
        values.choice(schema.IMAGE_FORMAT, value)


def test_an_open_list_takes_any_plain_name() -> None:
    assert values.choice(schema.SAMPLER, "dpmpp_2m") == "dpmpp_2m"
    assert values.choice(schema.SAMPLER, "Euler_A") == "euler_a"
    for word in ("", " ", "a\x1b[31m", "a\nb", "x" * 101):
        with pytest.raises(Unfit):
            values.choice(schema.SAMPLER, word)


def test_a_misspelt_name_is_recognised() -> None:
    with pytest.raises(Unfit) as caught:
        values.choice(schema.SCHEDULER, "sgm-uniform")
    assert caught.value.suggestion == "sgm_uniform"


@pytest.mark.parametrize(
    "value", ["a fox", "líne\nbreak\ttab", "赤い狐", "🦊" * 5000, "\u202eabc", "a\u00ada"]
)
def test_any_script_is_a_prompt(value: str) -> None:
    assert values.text(schema.PROMPT, value, may_be_blank=False) == value


@pytest.mark.parametrize(
    "value", ["", " \n\t", "\u3000\u00a0", "a\x00", "a\rb", "\x7f", "a\x85b", "\ud800", 5]
)
def test_what_is_no_prompt(value: object) -> None:
    with pytest.raises(Unfit):
        values.text(schema.PROMPT, value, may_be_blank=False)


def test_a_control_character_is_named_with_its_place() -> None:
    with pytest.raises(Unfit, match=r"U\+001B \(character 3\)"):
        values.text(schema.PROMPT, "ab\x1b[0m", may_be_blank=False)


@pytest.mark.parametrize(
    ("value", "seed"), [("random", None), (" Random ", None), ("-1", -1), (0, 0), (str(2**63 - 1), 2**63 - 1)]
)
def test_seeds(value: object, seed: int | None) -> None:
    assert values.seed(value) == seed


@pytest.mark.parametrize("value", ["-2", 2**63, "soon", 1.0, "", True, None])
def test_what_is_no_seed(value: object) -> None:
    with pytest.raises(Unfit, match="random"):
        values.seed(value)


@pytest.mark.parametrize("value", ["1536x1024", "1536X1024", "1536×1024", " 1536 x 1024 "])
def test_sizes(value: str) -> None:
    assert values.size(value) == (1536, 1024)


@pytest.mark.parametrize(
    "value", ["1536", "1536x", "x1024", "1536*1024", "1536x1024x3", "-1x2", "", 1536, None]
)
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(Unfit, match="1536x1024"):
        values.size(value)


@pytest.mark.parametrize(
    ("value", "ratio"),
    [
        ("16:9", "16:9"),
        ("16/9", "16:9"),
        ("square", "1:1"),
        ("Portrait", "3:4"),
        ("LANDSCAPE", "16:9"),
        ("9:21 portrait", "9:21"),
        ("1344x768", "16:9"),
        ("640×1536", "9:21"),
        ("21:9 landscape 1536x640", "21:9"),
        ("  3:2   Landscape ", "3:2"),
    ],
)
def test_aspects(value: str, ratio: str) -> None:
    assert values.aspect(value).split(" ")[0] == ratio


@pytest.mark.parametrize("one", schema.ASPECTS, ids=lambda one: one.ratio)
def test_every_ratio_and_every_full_name_is_known(one: schema.Aspect) -> None:
    assert values.aspect(one.ratio) == values.aspect(one.name) == values.aspect(one.name.upper()) == one.name


def test_custom_is_an_aspect() -> None:
    assert values.aspect("custom") == "custom"


@pytest.mark.parametrize("value", ["17:9", "16:9 portrait", "", " ", "wide", 16, None, ["16:9"], "1024x1025"])
def test_what_is_no_aspect(value: object) -> None:
    with pytest.raises(Unfit):
        values.aspect(value)


CHECKS: list[Any] = [
    lambda value: values.integer(schema.SAMPLES, value),
    lambda value: values.number(schema.CFG, value),
    lambda value: values.boolean(schema.BASE64, value),
    lambda value: values.choice(schema.SAMPLER, value),
    lambda value: values.choice(schema.SCHEDULER, value),
    lambda value: values.text(schema.PROMPT, value, may_be_blank=False),
    values.seed,
    values.size,
    values.aspect,
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=ANYTHING, check=st.sampled_from(CHECKS))
def test_anything_at_all_fits_or_is_told_why_not_on_one_line(value: object, check: Any) -> None:
    try:
        check(value)
    except Unfit as unfit:
        assert unfit.why
        assert len(unfit.why.splitlines()) == 1
        assert unfit.why.isprintable()


@settings(max_examples=50)
@given(ANYTHING)
def test_a_shown_value_is_short_and_printable(value: object) -> None:
    shown = values.show(value)
    assert len(shown) <= 60
    assert shown.isprintable()
