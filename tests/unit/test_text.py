"""Text for people and for programs: harmless, shortened, in words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli import text


@given(st.text())
def test_plain_text_holds_no_command_for_a_terminal(words: str) -> None:
    shown = text.plain(words)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()
    assert len(text.one_line(words).splitlines()) <= 1


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_json_line_is_one_harmless_line_that_says_the_same(value: Any) -> None:
    line = text.json_line(value)
    assert json.loads(line.encode()) == value
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", line)


@given(st.text(), st.integers(1, 30))
def test_shortened_text_fits(words: str, columns: int) -> None:
    assert text.cells(text.shortened(words, columns)) <= columns


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (53.06, "53 s"), (125, "2 min 5 s")]
    + [(12000, "3 h 20 min"), (400000, "4 days")],
)
def test_durations_for_people(value: float, words: str) -> None:
    assert text.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.055, "$0.055"), (9.9, "$9.90"), (5, "$5.00"), (0, "$0.00"), (12345.678, "$12345.68")],
)
def test_amounts_for_people(value: float, words: str) -> None:
    assert text.money(value) == words
