"""The options of ``batch`` as values: how many, how fast, how much, which share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.request import values

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run

_MOST_JOBS: Final = 1000
_MOST_SHARDS: Final = 100_000
_DEFAULT_JOBS: Final = 8
_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(?:/(s|sec|min|m|h|hour))?")
_A_MINUTE: Final = {None: 1.0, "s": 60.0, "sec": 60.0, "min": 1.0, "m": 1.0, "h": 1 / 60, "hour": 1 / 60}


@dataclass(frozen=True)
class Asked:
    """The options that are values. ``shard`` is (K, N); ``finishes``: the first Ctrl-C waits for what is in
    flight."""

    jobs: int
    per_minute: float | None
    budget: float | None
    retry_failed: int
    shard: tuple[int, int] | None
    timeout: float
    finishes: bool = True


def read_options(run: Run) -> Asked:
    """Raises :class:`InvalidParameters` with every problem, among them options that exclude each other."""
    given, problems = run.given, []

    def whole(name: str, otherwise: int, low: int, high: int) -> int:
        words = given[name]
        if words is None:
            return otherwise
        if not (words.isascii() and words.isdigit() and len(words) < 10 and low <= int(words) <= high):
            flag = "--" + name.replace("_", "-")
            problems.append(Problem(flag, f"{values.show(words)} is not a whole number from {low} to {high}"))
            return otherwise
        return int(words)

    jobs = whole("jobs", _DEFAULT_JOBS, 1, _MOST_JOBS)
    retry_failed = whole("retry_failed", 0, 0, 100)
    rate = _rate(given["rate"], problems)
    budget = _amount(given["budget"], problems)
    shard = _shard(given["shard"], problems)
    timeout = 0.0
    try:
        timeout = run.timeout()
    except UsageError as error:
        where, _, what = error.message.partition(": ")
        problems.append(Problem(where, what))
    problems += _conflicts(given)
    if problems:
        raise InvalidParameters(problems)
    return Asked(jobs, rate, budget, retry_failed, shard, timeout)


def _rate(words: str | None, problems: list[Problem]) -> float | None:
    if words is None:
        return None
    found = _RATE.fullmatch(words.strip())
    if found is None or not float(found[1]) > 0:
        problems.append(Problem("--rate", f"{values.show(words)} is not a number of submits like 30/min"))
        return None
    return float(found[1]) * _A_MINUTE[found[2]]


def _amount(words: str | None, problems: list[Problem]) -> float | None:
    if words is None:
        return None
    plain = words.strip().removeprefix("$")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", plain):
        problems.append(Problem("--budget", f"{values.show(words)} is not an amount like 5.00"))
        return None
    return float(plain)


def _shard(words: str | None, problems: list[Problem]) -> tuple[int, int] | None:
    if words is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", words.strip())
    share = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= share[0] <= share[1] <= _MOST_SHARDS:
        problems.append(Problem("--shard", f"{values.show(words)} is no share like 2/8"))
        return None
    return share


def _conflicts(given: Any) -> list[Problem]:
    found = []
    both = [name for name in ("check", "dry_run", "prune") if given[name]]
    if len(both) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in both)
        found.append(Problem("--" + both[0].replace("_", "-"), f"{flags} exclude each other"))
    if given["deep"] and not given["check"]:
        found.append(Problem("--deep", "stands only beside --check"))
    if given["fail_fast"] and given["keep_going"]:
        found.append(Problem("--fail-fast", "--fail-fast and --keep-going exclude each other"))
    if given["manifest"] == "-":
        found += [
            Problem(f"--{name}", "a manifest from stdin has no lock that says what was made")
            for name in ("check", "prune")
            if given[name]
        ]
    return found
