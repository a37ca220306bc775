"""When to ask next: never a busy loop, never asleep for long, close to the end of a job that is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.jobs.polling import NOT_SEEN, Begun, Expectation, next_poll

SECONDS = st.floats(0.001, 100_000, allow_nan=False)


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    low, typical, high = sorted(draw(st.tuples(SECONDS, SECONDS, SECONDS)))
    return Expectation(low, typical, high)


@st.composite
def beginnings(draw: st.DrawFn) -> Begun:
    after, before = sorted(draw(st.tuples(st.floats(0, 4000), st.floats(0, 4000))))
    return Begun(after, before)


@given(expectations(), st.floats(0, 1_000_000), beginnings(), st.integers(1, 2000))
def test_a_wait_is_never_nothing_and_never_long(
    expected: Expectation, elapsed: float, begun: Begun, in_flight: int
) -> None:
    wait = next_poll(expected, elapsed, begun, in_flight=in_flight)
    assert 0.0999 <= wait <= 15.0 * max(1, in_flight / 100)


@settings(max_examples=60)
@given(expectations(), beginnings())
def test_ten_minutes_of_polling_are_bounded(expected: Expectation, begun: Begun) -> None:
    elapsed, polls = 0.0, 0
    while elapsed < 600:
        elapsed += next_poll(expected, elapsed, begun)
        polls += 1
    # the early ones, the window, and what is overdue: far from one a second
    assert polls <= 200


@given(st.lists(st.floats(allow_nan=False), max_size=60))
def test_learnt_is_in_order_whatever_was_seen(seconds: list[float]) -> None:
    seconds = [value for value in seconds if 1e-6 < abs(value) < 1e12]
    learnt = Expectation.learnt(seconds)
    if learnt is None:
        assert all(value <= 0 for value in seconds)
    else:
        assert 0 < learnt.low <= learnt.typical <= learnt.high


def test_nothing_is_learnt_from_nothing() -> None:
    assert Expectation.learnt([]) is None
    assert Expectation.learnt([0.0, -3.0]) is None


def test_more_jobs_make_the_window_narrower() -> None:
    one = Expectation.learnt([50.0])
    many = Expectation.learnt([50.0] * 50)
    assert one is not None
    assert many is not None
    assert many.high - many.low < one.high - one.low


def test_the_documented_duration_is_scaled() -> None:
    assert Expectation.documented(1.0).typical == pytest.approx(53.06)
    assert Expectation.documented(2.0).typical == pytest.approx(106.12)


def test_a_bad_request_is_seen_within_a_second() -> None:
    first = next_poll(Expectation.documented(1.0), 0.0)
    assert first <= 0.5
    assert first + next_poll(Expectation.documented(1.0), first) <= 1.2


def simulate(expected: Expectation, done: float) -> tuple[int, float]:
    """Polls made, and seconds between the end and the poll that saw it."""
    elapsed, polls = 0.0, 0
    while True:
        elapsed += next_poll(expected, elapsed, NOT_SEEN)
        polls += 1
        if elapsed >= done:
            return polls, elapsed - done


@pytest.mark.parametrize("workload", [0.5, 1.0])
def test_the_promise_of_at_most_20_polls_and_0_4_seconds(workload: float) -> None:
    draw = random.Random(20)
    expected = Expectation.documented(workload)
    runs = [simulate(expected, expected.typical * draw.uniform(0.9, 1.1)) for _ in range(500)]
    assert sum(polls for polls, _ in runs) / len(runs) <= 20
    assert sum(late for _, late in runs) / len(runs) <= 0.4


def test_what_was_learnt_brings_the_polls_close() -> None:
    draw = random.Random(21)
    expected = Expectation.learnt([draw.uniform(1.5, 3.5) for _ in range(5)])
    assert expected is not None
    runs = [simulate(expected, draw.uniform(1.5, 3.5)) for _ in range(500)]
    fixed = [(int(done) + 1) - done for done in (draw.uniform(1.5, 3.5) for _ in range(500))]
    assert sum(late for _, late in runs) / len(runs) < 0.7 * sum(fixed) / len(fixed)


def test_a_late_begin_moves_the_window() -> None:
    """A job that stood in the queue for 300 s is not overdue: its work has just begun."""
    expected = Expectation.documented(1.0)
    at_once = next_poll(expected, 310.0)
    begun = next_poll(expected, 310.0, Begun(299.0, 301.0))
    assert at_once == pytest.approx(10.0)
    assert begun > 1.0
    assert 310 + begun < 301 + expected.low


@pytest.mark.parametrize("in_flight", [100, 1000])
def test_many_jobs_are_asked_rarely(in_flight: int) -> None:
    expected = Expectation(19.0, 20.0, 21.0)
    elapsed, polls = 0.0, 0
    while elapsed < 20.0:
        elapsed += next_poll(expected, elapsed, in_flight=in_flight)
        polls += 1
    assert polls <= 8


def test_many_jobs_ask_more_sparsely() -> None:
    expected = Expectation.documented(1.0)
    assert next_poll(expected, 50.0, in_flight=500) > next_poll(expected, 50.0)
