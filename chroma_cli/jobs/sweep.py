"""From the ``sweep`` of one image to its combinations: lists and ranges, multiplied in the order written."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from chroma_cli.errors import Problem
from chroma_cli.request import schema, values
from chroma_cli.request.builder import SETTABLE

#: More combinations than this in one sweep are taken for a slip.
MOST: Final = 10_000
#: What a sweep can go over.
KEYS: Final = ("prompt", *SETTABLE)

_RANGE: Final = re.compile(r"\s*([+-]?[0-9]{1,19})\s*\.\.\s*([+-]?[0-9]{1,19})\s*")
_COUNTED: Final = frozenset(p.option for p in schema.PARAMETERS if p.kind in ("integer", "number"))


def expand(sweep: object, place: str, problems: list[Problem]) -> list[dict[str, object]]:
    """Every combination of a ``sweep = {cfg = [5, 7], seed = "1..4"}``, the last key changing fastest.

    A range ``"1..4"`` holds both its ends; it may stand alone or in a list, for whole numbers and ``cfg``.
    ``place`` says where the image stands, for messages. What is wrong joins ``problems`` and gives no
    combinations.
    """
    if not isinstance(sweep, Mapping):
        problems.append(Problem(f"{place}: sweep", 'it is not a table like {cfg = [5, 7], seed = "1..4"}'))
        return []
    before = len(problems)
    choices = {str(key): _choices(str(key), value, place, problems) for key, value in sweep.items()}
    if len(problems) > before:
        return []
    count = math.prod(len(choice) for choice in choices.values())
    if count > MOST:
        why = f"it multiplies into {count} images; more than {MOST} are not taken from one sweep"
        problems.append(Problem(f"{place}: sweep", why))
        return []
    return [
        dict(zip(choices, combination, strict=True)) for combination in itertools.product(*choices.values())
    ]


def label(combination: Mapping[str, object]) -> str:
    """One combination as words for messages: ``cfg=7, seed=1``."""
    return ", ".join(f"{key}={_plain(value)}" for key, value in combination.items())


def _plain(value: object) -> str:
    text = values.show(value)
    bare = text[1:-1]
    return bare if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_:.x+-]+", bare) else text


def _choices(key: str, value: object, place: str, problems: list[Problem]) -> Sequence[object]:
    """The values of one key, ranges spelt out."""
    where = f"{place}: sweep.{key}"
    if key not in KEYS:
        problems.append(Problem(where, "there is no such key to sweep over", suggest(key, KEYS)))
        return ()
    ranged = _range(key, value, where, problems)
    if ranged is not None:
        return ranged
    if not isinstance(value, list):
        kind = 'a list like [5, 7] or a range like "1..4"' if key in _COUNTED else "a list of values"
        problems.append(Problem(where, f"{values.show(value)} is not {kind}"))
        return ()
    if not value:
        problems.append(Problem(where, "the list is empty"))
    found: list[object] = []
    for one in value[: MOST + 1]:
        if one is None:
            problems.append(Problem(where, "a value is null"))
            continue
        more = _range(key, one, where, problems)
        found.extend((one,) if more is None else more)
    if len(value) > MOST:
        problems.append(Problem(where, f"the list holds more than {MOST} values"))
    return found


def _range(key: str, value: object, where: str, problems: list[Problem]) -> Sequence[int] | None:
    """The numbers of a range, empty after noting what is wrong with it; None for what is no range."""
    hit = _RANGE.fullmatch(value) if isinstance(value, str) and key in _COUNTED else None
    if hit is None:
        return None
    low, high = int(hit[1]), int(hit[2])
    if low > high:
        problems.append(Problem(where, f"the range {values.show(value)} ends before it begins"))
        return ()
    if high - low >= MOST:
        problems.append(Problem(where, f"the range {values.show(value)} holds more than {MOST} values"))
        return ()
    return range(low, high + 1)


def suggest(key: str, known: Sequence[str]) -> str | None:
    """What a key that does not exist was meant to be; the gateway's own names lead to the short ones."""
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    parameter = schema.BY_NAME.get(plain)
    if parameter is not None and parameter.option in known:
        return parameter.option
    return values.nearest(plain, known)
