"""One value of one parameter: from text or a typed value to what the gateway takes, or a reason why not.

Command lines and CSV files hand in text, TOML and JSON typed values; both get the same answer. Every function
raises :class:`Unfit` with the reason in words; the builder adds where the value stood.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from chroma_cli.request import schema
from chroma_cli.request.schema import Parameter

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SIZE = re.compile(r"([0-9]{1,9})\s*[xX×]\s*([0-9]{1,9})")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Unfit(Exception):
    """This value cannot stand here; the first argument says why, ``suggestion`` what was perhaps meant."""

    def __init__(self, why: str, suggestion: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.suggestion = suggestion


def show(value: object) -> str:
    """A value as it stands in a message: quoted, on one line, not too long."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = "".join(ch if ch.isprintable() else "?" for ch in text)
    return text if len(text) <= 60 else text[:57] + "…"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one name that ``word`` was most likely meant to be."""
    import difflib

    found = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.6)
    return found[0] if found else None


def integer(parameter: Parameter, value: object) -> int:
    """A whole number: ``40`` or ``"40"``, never ``40.0``, never a boolean."""
    found = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else value
    if not isinstance(found, int) or isinstance(found, bool) or not _in_range(parameter, found):
        raise Unfit(f"{show(value)} is not {parameter.allowed()}")
    return found


def number(parameter: Parameter, value: object) -> int | float:
    """A finite number; whole ones come back as int, so that ``7`` and ``7.0`` make the same request."""
    found = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
    if not isinstance(found, int | float) or isinstance(found, bool) or not _in_range(parameter, found):
        raise Unfit(f"{show(value)} is not {parameter.allowed()}")
    return int(found) if float(found).is_integer() else found


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False


def _in_range(parameter: Parameter, value: float) -> bool:
    low, high = parameter.minimum, parameter.maximum
    return _finite(value) and (low is None or value >= low) and (high is None or value <= high)


def boolean(parameter: Parameter, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().casefold() if isinstance(value, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise Unfit(f"{show(value)} is not {parameter.allowed()}")


def choice(parameter: Parameter, value: object) -> str:
    """One of the listed names; of an open list, any name."""
    if not isinstance(value, str):
        raise Unfit(f"{show(value)} is not {parameter.allowed()}")
    word = value.strip()
    folded = dict(parameter.aliases).get(word.casefold(), word.casefold())
    if folded in parameter.choices:
        return folded
    if parameter.open_choices and word and len(word) <= 100 and word.isprintable():
        return word
    raise Unfit(f"{show(value)} is not {parameter.allowed()}", nearest(word, parameter.choices))


def text(parameter: Parameter, value: object, *, may_be_blank: bool) -> str:
    """A prompt: any length and script, but no control characters other than newline and tab."""
    if not isinstance(value, str):
        raise Unfit(f"{show(value)} is not text")
    if not may_be_blank and not value.strip():
        raise Unfit("it is empty; say what the picture shows")
    if value.isprintable():  # almost every prompt; looking at each character is slow
        return value
    for at, ch in enumerate(value):
        category = unicodedata.category(ch)
        if category == "Cs":
            raise Unfit(f"it is not valid UTF-8 (character {at + 1})")
        if category == "Cc" and ch not in "\n\t":
            raise Unfit(f"it holds the control character U+{ord(ch):04X} (character {at + 1})")
    return value


def seed(value: object) -> int | None:
    """A seed, or None where it is to be drawn (``random``)."""
    if isinstance(value, str) and value.strip().casefold() == schema.SEED_RANDOM:
        return None
    try:
        return integer(schema.SEED, value)
    except Unfit:
        raise Unfit(
            f"{show(value)} is not a seed; a whole number from 0 to {schema.SEED_MAX},"
            " -1 (the server picks), or random"
        ) from None


def size(value: object) -> tuple[int, int]:
    """``1536x1024`` as width and height in px; the sides are checked later, each under its own name."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise Unfit(f"{show(value)} is not a size; write WIDTHxHEIGHT, like 1536x1024")
    return int(match[1]), int(match[2])


def aspect(value: object) -> str:
    """The gateway's name for ``16:9``, ``square``, ``1344x768``, unambiguous words of a name, or a name."""
    if not isinstance(value, str):
        raise Unfit(f"{show(value)} is not an aspect ratio")
    word = " ".join(value.casefold().replace("×", "x").split())
    names = schema.ASPECT_RATIO.choices
    if word in names:
        return word
    alias = dict(schema.ASPECT_RATIO.aliases).get(word)
    if alias is not None:
        return alias
    parts = set(word.replace("/", ":").split(" "))
    hits = [name for name in names if word and parts <= set(name.split(" "))]
    if len(hits) == 1:
        return hits[0]
    ratios = [one.ratio for one in schema.ASPECTS]
    if hits:
        raise Unfit(f"{show(value)} fits several: " + ", ".join(hits))
    known = [*ratios, *(alias for alias, _ in schema.ASPECT_RATIO.aliases), schema.CUSTOM]
    raise Unfit(f"{show(value)} is not one of " + ", ".join(known), nearest(word, [*known, *names]))
