"""From one row of a manifest to one request: its levels, its derived seed, its problems told by the row.

Rows of one manifest mostly differ in prompt and seed; what the other values come to is worked out once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chroma_cli.errors import InvalidParameters, Problem
from chroma_cli.request import builder, schema, values
from chroma_cli.request.builder import ImageRequest, Level
from chroma_cli.request.presets import Preset


@dataclass(frozen=True)
class RowLevel(Level):
    """A level of a manifest: messages name the place first, and whether a value came from the sweep."""

    swept: frozenset[str] = frozenset()

    def where(self, option: str) -> str:
        return f"{self.place}: sweep.{option}" if option in self.swept else f"{self.place}: {option}"


@dataclass(frozen=True)
class Derived:
    """The request of a row, the preset it started from, and what is worth a warning."""

    request: ImageRequest
    preset: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Rest:
    """What the values beside the prompt and a pinned seed come to. ``body`` is the request's without both."""

    request: ImageRequest
    preset: str | None
    warnings: tuple[str, ...]
    has_seed: bool
    body: Mapping[str, Any]

    def seed(self, prompt: str, output: str) -> int:
        """That of an image whose row pins none."""
        return self.request.seed if self.has_seed else derived_seed({**self.body, "prompt": prompt}, output)


class Deriver:
    """Makes the requests of one manifest."""

    def __init__(self, defaults: RowLevel, presets: Mapping[str, Preset]) -> None:
        self._defaults = defaults
        self._presets = presets
        self._known: dict[object, _Rest] = {}

    def derive(self, level: RowLevel, file_format: str | None, output: str) -> Derived:
        """The request of one row.

        ``file_format`` is what the output's ending asks for, ``output`` the output's template in its one
        spelling, from which a missing seed is derived. Raises InvalidParameters with every problem.
        """
        pinned = _pinned(level.given.get("seed"))
        signature = _signature(level.given, file_format, is_pinned=pinned is not None)
        rest = self._known.get(signature)
        prompt = _usable(level.given.get("prompt", self._defaults.given.get("prompt")))
        if rest is None or prompt is None:
            rest = self._build(level, file_format)
            prompt = rest.request.prompt
            if signature is not None and not rest.warnings:  # a warning names its row
                self._known[signature] = rest
        seed = rest.seed(prompt, output) if pinned is None else pinned
        request = ImageRequest(**{**vars(rest.request), "prompt": prompt, "seed": seed})
        return Derived(request, rest.preset, rest.warnings)

    def _build(self, level: RowLevel, file_format: str | None) -> _Rest:
        drawn: list[int] = []

        def draw() -> int:
            drawn.append(0)
            return 0

        try:
            built = builder.build(
                [self._defaults, level], self._presets, draw_seed=draw, file_format=file_format
            )
        except InvalidParameters as error:
            raise InvalidParameters(_placed(error.problems, level)) from error
        body = {key: value for key, value in built.request.payload().items() if key not in _APART}
        return _Rest(built.request, built.preset, built.warnings, not drawn, body)


_APART: Final = ("prompt", "seed")
#: One text for one value, whatever the order of its keys.
CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def derived_seed(body: Mapping[str, Any], output: str) -> int:
    """The seed of an image that names none, from 0 to 2^32-1.

    From everything else in its request's body and its output's template, so that it is the same in every
    run, on every machine and in any order of rows.
    """
    text = CANONICAL.encode([output, body])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _signature(given: Mapping[str, object], file_format: str | None, *, is_pinned: bool) -> object | None:
    """Equal for rows that differ in prompt and pinned seed only; None where values are no plain ones."""
    apart = _APART if is_pinned else ("prompt",)
    rest = ((key, type(given[key]), given[key]) for key in given if key not in apart)
    signature = (file_format, is_pinned, *rest)
    try:
        hash(signature)
    except TypeError:
        return None
    return signature


def _usable(prompt: object) -> str | None:
    try:
        return values.text(schema.PROMPT, prompt, may_be_blank=False)
    except values.Unfit:
        return None  # the builder will say why


def _pinned(seed: object) -> int | None:
    """The seed that a row names, if it names one."""
    try:
        return None if seed is None else values.seed(seed)
    except values.Unfit:
        return None  # the builder will say why


def _placed(problems: Sequence[Problem], level: RowLevel) -> list[Problem]:
    """The builder's problems, those that speak of the command line told by the row instead."""
    of_prompt = any(one.where.endswith((": prompt", ": sweep.prompt")) for one in problems)
    found = []
    for one in problems:
        if one.where == "PROMPT":
            if of_prompt:  # it is there, but not usable; that is told already
                continue
            one = dataclasses.replace(one, where=level.where("prompt"))
        elif one.where.startswith("--"):
            one = dataclasses.replace(one, where=level.where(one.where[2:].replace("-", "_")))
        found.append(one)
    return found
