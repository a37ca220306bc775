"""When to ask next. Pure: seconds in, seconds out.

A job is asked soon at first, because a bad request fails within a second; then less and less often; then
closely around its expected end, which is the documented 53 s scaled by the work, or what earlier jobs took;
after that ever more sparsely. Each poll counts against a rate limit that is not documented, and each second
between "completed" and the poll that sees it is a second that somebody waits. For a given number of polls the
mean delay is smallest when they come the closer, the likelier the job, if it still runs, ends in the next
moment: so the spacing falls all the way to the end of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chroma_cli.request import schema

#: The first polls, seconds after the submit; from the last on each wait is this many times the time so far.
_EARLY: Final = (0.4, 1.0, 3.0)
_EARLY_GROWTH: Final = 4.0
#: A job that may be done this soon, in seconds, is asked when it may be done, and not before.
_SOON: Final = 2.0
#: No early poll in the last part of the time before the window opens.
_EARLY_SHARE: Final = 0.55
#: Never closer than this, in seconds, whatever is known.
_CLOSEST: Final = 0.1
#: Around the expected end: the unit of spacing is this share of the window, at most this many seconds.
_UNIT_SHARE: Final = 0.16
_UNIT: Final = 0.64
#: A window so wide that this would mean more units than these is watched less closely.
_MOST_UNITS: Final = 40
#: The spacing in units at three points of the window (a share of it, from its start; negative: before), in a
#: straight line between them. What comes before the window is left out where it has no room for one spacing.
_LEAD: Final = (-0.38, 5.0)
_BEND: Final = (0.16, 1.1)
_END: Final = (1.0, 0.63)
#: Overdue: a wait of this share of how long it is overdue, at most this many seconds.
_OVERDUE_SHARE: Final = 0.25
_OVERDUE_CAP: Final = 10.0
#: Before the window no wait is longer than this, for the job that is quicker than anybody thought.
_LONGEST: Final = 15.0
#: The documented duration is met within 10 %, and a little is left on both sides.
_DOCUMENTED_SPREAD: Final = 0.14
#: From so many jobs in flight on each is asked more sparsely around its expected end.
_CLOSE_WATCH: Final = 100
#: Polls a second over all jobs that are not near their end; more would cost CPU and help nobody.
_POLLS_A_SECOND: Final = 200.0


@dataclass(frozen=True)
class Expectation:
    """When a job is expected to be done: seconds of work, from the earliest to the latest likely."""

    low: float
    typical: float
    high: float

    @classmethod
    def documented(cls, workload: float) -> Expectation:
        """What the provider's page says (53.06 s), scaled; ``workload`` is 1.0 for the typical picture."""
        typical = schema.TYPICAL_SECONDS * workload
        return cls(typical * (1 - _DOCUMENTED_SPREAD), typical, typical * (1 + _DOCUMENTED_SPREAD))

    @classmethod
    def learnt(cls, seconds: Sequence[float]) -> Expectation | None:
        """What jobs of the same work took, or None when there is none to go by.

        The likely range reaches beyond the shortest and the longest seen by as much as a sample of this size
        misses on average.
        """
        seen = sorted(value for value in seconds if value > 0)
        if not seen:
            return None
        shortest, longest = seen[0], seen[-1]
        typical = seen[len(seen) // 2]
        beyond = (longest - shortest) / len(seen) + typical * 0.1 / len(seen)
        return cls(max(shortest - beyond, shortest * 0.5), typical, longest + beyond)


@dataclass(frozen=True)
class Begun:
    """The work began between these two polls, in seconds since the submit: the last that saw it queued, the
    first that saw it running."""

    after: float
    before: float


NOT_SEEN: Final = Begun(0.0, 0.0)


def next_poll(expected: Expectation, elapsed: float, begun: Begun = NOT_SEEN, *, in_flight: int = 1) -> float:
    """Return the seconds to wait before the next poll of a job, ``elapsed`` seconds after its submit; always
    above 0. The more jobs are in flight, the sparser each is asked."""
    wait = _planned(expected, elapsed, begun, max(1.0, in_flight / _CLOSE_WATCH))
    if begun.after + expected.low <= elapsed + wait and elapsed < begun.before + expected.high:
        return wait
    return max(wait, in_flight / _POLLS_A_SECOND)


def _planned(expected: Expectation, elapsed: float, begun: Begun, spread: float) -> float:
    """Return the same for one job; ``spread`` above 1 makes its polls sparser."""
    start = begun.after + expected.low
    end = begun.before + expected.high
    window = end - start
    close = min(max(window * _UNIT_SHARE, _CLOSEST), _UNIT)
    unit = min(max(close, window / _MOST_UNITS), _OVERDUE_CAP) * spread
    if elapsed >= end:
        wait = max(unit * _END[1], (elapsed - end) * _OVERDUE_SHARE, _CLOSEST)
        return min(wait, _OVERDUE_CAP * spread)
    lead = window * _LEAD[0]
    # a poll at the very start of the window would nearly always be in vain
    first = start + lead if -lead >= unit * _LEAD[1] else start + min(unit * _BEND[1], window)
    if elapsed >= first:
        return min(max(unit * _spacing((elapsed - start) / window), _CLOSEST), _LONGEST * spread)
    if elapsed >= start:
        return max(unit * _BEND[1], first - elapsed)
    early = _next_early(elapsed)
    if (start < _SOON or early > start * _EARLY_SHARE) and first - elapsed <= _LONGEST:
        return max(first - elapsed, _CLOSEST)
    return max(min(early - elapsed, _LONGEST), _CLOSEST)


def _spacing(share: float) -> float:
    """Units between two polls, at this share of the window."""
    (x0, y0), (x1, y1) = (_LEAD, _BEND) if share < _BEND[0] else (_BEND, _END)
    return y0 + (y1 - y0) * (share - x0) / (x1 - x0)


def _next_early(elapsed: float) -> float:
    """The next of the early polls after ``elapsed``, all in seconds since the submit."""
    for moment in _EARLY:
        if elapsed < moment - _CLOSEST / 2:
            return moment
    moment = _EARLY[-1]
    while moment <= elapsed + _CLOSEST / 2:
        moment *= _EARLY_GROWTH
    return moment
