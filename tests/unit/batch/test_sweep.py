"""What a sweep multiplies into, and what it refuses."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli.errors import Problem
from chroma_cli.jobs.sweep import KEYS, MOST, expand, label, suggest

PLACE = "a.toml: [[image]] 1"


def expanded(sweep: object) -> list[dict[str, object]]:
    problems: list[Problem] = []
    found = expand(sweep, PLACE, problems)
    assert problems == []
    return found


def refused(sweep: object) -> list[str]:
    problems: list[Problem] = []
    assert expand(sweep, PLACE, problems) == []
    assert problems
    return [str(problem) for problem in problems]


def test_lists_multiply_and_the_last_changes_fastest() -> None:
    assert expanded({"cfg": [5, 7], "seed": [1, 2]}) == [
        {"cfg": 5, "seed": 1},
        {"cfg": 5, "seed": 2},
        {"cfg": 7, "seed": 1},
        {"cfg": 7, "seed": 2},
    ]


@pytest.mark.parametrize("text", ["1..4", " 1 .. 4 ", "+1..4"])
def test_a_range_holds_both_its_ends(text: str) -> None:
    assert expanded({"seed": text}) == [{"seed": number} for number in (1, 2, 3, 4)]


def test_ranges_stand_in_lists_too() -> None:
    assert expanded({"steps": ["10..12", 40]}) == [{"steps": number} for number in (10, 11, 12, 40)]
    assert expanded({"cfg": "5..6"}) == [{"cfg": 5}, {"cfg": 6}]


def test_a_range_in_a_prompt_is_text() -> None:
    assert expanded({"prompt": ["1..4"]}) == [{"prompt": "1..4"}]
    assert "list" in refused({"prompt": "1..4"})[0]


def test_no_keys_is_one_image() -> None:
    assert expanded({}) == [{}]


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        (5, "not a table"),
        ("cfg", "not a table"),
        ({"cgf": [1]}, "Did you mean 'cfg'?"),
        ({"sampler_name": ["euler"]}, "Did you mean 'sampler'?"),
        ({"output": ["a.png"]}, "sweep.output: there is no such key"),
        ({"cfg": []}, "empty"),
        ({"cfg": 7}, "7 is not a list"),
        ({"seed": "4..1"}, "ends before it begins"),
        ({"seed": "1..99999999999"}, "more than 10000"),
        ({"seed": "1..9999999999999999999"}, "more than 10000"),
        ({"seed": "1..20000000000000000000"}, "not a list"),
        ({"seed": ["1..10000", "1..10000"], "cfg": [1, 2]}, "multiplies into 40000 images"),
        ({"seed": "1..10000", "cfg": [1, 2]}, "multiplies into 20000 images"),
        ({"cfg": [1] * (MOST + 1)}, "more than 10000 values"),
        ({"cfg": [1, None]}, "null"),
    ],
)
def test_what_cannot_be_swept_is_told_with_its_place(sweep: object, words: str) -> None:
    said = refused(sweep)
    assert words in said[0]
    assert said[0].startswith(f"{PLACE}: sweep")


def test_every_wrong_key_is_told() -> None:
    assert len(refused({"cgf": [1], "seed": "4..1", "steps": []})) == 3


def test_the_largest_sweep_is_taken() -> None:
    assert len(expanded({"seed": f"1..{MOST}"})) == MOST


def test_the_label_reads_as_it_was_written() -> None:
    assert (
        label({"cfg": 7, "sampler": "euler_a", "size": "768x768"}) == "cfg=7, sampler=euler_a, size=768x768"
    )
    assert label({"prompt": "a\x1b[31m knight"}) == "prompt='a\\x1b[31m knight'"


def test_names_of_the_gateway_lead_to_the_short_ones() -> None:
    assert suggest("aspect_ratio", KEYS) == "aspect"
    assert suggest("Image-Format", KEYS) == "format"
    assert suggest("negative-prompt", KEYS) == "negative_prompt"
    assert suggest("xyzzy", KEYS) is None


@given(
    st.dictionaries(
        st.sampled_from(["cfg", "steps", "seed", "samples"]),
        st.lists(st.integers(0, 9), min_size=1, max_size=5),
        max_size=3,
    )
)
def test_there_are_as_many_combinations_as_the_product(sweep: dict[str, list[int]]) -> None:
    found = expanded(sweep)
    assert len(found) == math.prod(len(values) for values in sweep.values())
    assert all(list(one) == list(sweep) for one in found)
    assert all(one[key] in sweep[key] for one in found for key in sweep)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda more: st.lists(more, max_size=3), max_leaves=5)
)
def test_any_value_is_expanded_or_refused(value: object) -> None:
    problems: list[Problem] = []
    found = expand({"seed": value}, PLACE, problems)
    assert bool(found) != bool(problems)
