"""From what was given at each level to one request: defaults, precedence, the three traps, every problem.

Levels come from low to high (config file, then options); the preset slides in directly below the level that
names it, so that an option beside it wins. Everything here is pure: the caller's function draws the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from chroma_cli.errors import InvalidParameters, Problem
from chroma_cli.request import schema, values
from chroma_cli.request.presets import Preset
from chroma_cli.request.values import Unfit

T = TypeVar("T")

#: Everything that can stand at one level, by option name; ``prompt`` only where a picture is asked for.
SETTABLE: Final = (*(p.option for p in schema.PARAMETERS if p is not schema.PROMPT), "size", "preset")


@dataclass(frozen=True)
class Level:
    """One level of values by option name (``negative_prompt``, ``size`` …); None counts as not given.

    ``place`` is empty for the command line, else says where the values stand, for messages.
    """

    given: Mapping[str, object]
    place: str = ""
    may_hold: Sequence[str] = (*SETTABLE, "prompt")

    def where(self, option: str) -> str:
        if self.place:
            return f"{option} in {self.place}"
        return "PROMPT" if option == "prompt" else "--" + option.replace("_", "-")


@dataclass(frozen=True)
class ImageRequest:
    """One call of the model, every value checked. ``width`` and ``height`` are px, None where the named ratio
    must go out alone."""

    prompt: str
    negative_prompt: str
    aspect_ratio: str
    width: int | None
    height: int | None
    cfg: int | float
    sampler_name: str
    scheduler: str
    steps: int
    seed: int
    samples: int
    image_format: str
    image_quality: int
    base64: bool

    def payload(self) -> dict[str, Any]:
        """The exact JSON body. Nothing is left to the server's defaults: the shown ones are examples only."""
        named = ((parameter.name, getattr(self, parameter.name)) for parameter in schema.PARAMETERS)
        return {name: value for name, value in named if value is not None}

    @classmethod
    def from_payload(cls, body: Mapping[str, Any]) -> ImageRequest:
        """The request that a recorded body is, without checking it anew."""
        known: dict[str, Any] = {p.name: body.get(p.name) for p in schema.PARAMETERS}
        return cls(**known)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture to come, in px."""
        named = schema.ASPECT_BY_NAME.get(self.aspect_ratio)
        if named is not None:
            return named.width, named.height
        return self.width or schema.SIZE_DEFAULT, self.height or schema.SIZE_DEFAULT

    @property
    def workload(self) -> float:
        """How much work it is, 1.0 being the documented typical picture."""
        width, height = self.size
        return schema.workload(self.steps, width * height, self.samples)

    @property
    def expected_cost(self) -> float:
        """In the gateway's credits (US dollars); at least the documented price for each sample."""
        return schema.TYPICAL_COST * max(self.samples, self.workload)


@dataclass(frozen=True)
class Built:
    """A request, what is worth a warning about it, and the preset it started from."""

    request: ImageRequest
    warnings: tuple[str, ...]
    preset: str | None


def build(
    levels: Iterable[Level],
    presets: Mapping[str, Preset],
    *,
    draw_seed: Callable[[], int],
    file_format: str | None = None,
) -> Built:
    """One request from ``levels`` (low to high).

    ``file_format`` is what the ending of ``-o`` asks for; a format option at the highest level must agree
    with it. ``draw_seed`` gives a number from 0 to 2^32-1 and is called once, when no level pins the seed.
    Raises :class:`InvalidParameters` with every problem of every level.
    """
    return _Builder(list(levels), presets).build(draw_seed, file_format)


def check_tables(levels: Iterable[Level], presets: Mapping[str, Preset]) -> list[Problem]:
    """Every problem of tables that may not be used by this call (the config file's), with none left out."""
    problems: list[Problem] = []
    for level in levels:
        builder = _Builder([Level({"prompt": "x"}), level], presets)
        builder.run()
        problems += builder.problems
    return problems


@dataclass(frozen=True)
class _Shape:
    """The size as far as the levels up to here decide it: a named ratio, or custom with two sides in px."""

    aspect: str
    width: int
    height: int

    @classmethod
    def named(cls, name: str) -> _Shape:
        one = schema.ASPECT_BY_NAME[name]
        return cls(name, one.width, one.height)


class _Builder:
    def __init__(self, levels: Sequence[Level], presets: Mapping[str, Preset]) -> None:
        self.levels = levels
        self.presets = presets
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}
        self.preset: str | None = None
        self.found: dict[str, Any] = {p.name: p.default for p in schema.PARAMETERS}
        self.shape = _Shape.named(str(schema.ASPECT_RATIO.default))

    def build(self, draw_seed: Callable[[], int], file_format: str | None) -> Built:
        self.run()
        self._take_file_format(file_format)
        if self.problems:
            raise InvalidParameters(self.problems)
        if self.found["seed"] is None:
            self.found["seed"] = draw_seed()
        return Built(ImageRequest(**self.found), tuple(self._unknown_choices()), self.preset)

    def run(self) -> None:
        for level in self._with_preset():
            self._check_keys(level)
            self._take_values(level)
            self._take_shape(level)
        self._settle_shape()
        if self.found["prompt"] is None and not any(one.where.startswith("PROMPT") for one in self.problems):
            self.problems.append(Problem("PROMPT", "missing; say what the picture shows"))

    # --- levels ------------------------------------------------------------------------------------------

    def _with_preset(self) -> list[Level]:
        """The levels with the chosen preset directly below the highest level that names one."""
        for at in range(len(self.levels) - 1, -1, -1):
            level = self.levels[at]
            name = level.given.get("preset")
            if name is None:
                continue
            preset = self._preset(level, name)
            if preset is None:
                break
            self.preset = preset.name
            place = f"[presets.{preset.name}] of {preset.source}"
            below = Level(preset.values, place, may_hold=[key for key in SETTABLE if key != "preset"])
            return [*self.levels[:at], below, *self.levels[at:]]
        return list(self.levels)

    def _preset(self, level: Level, name: object) -> Preset | None:
        if isinstance(name, str) and name in self.presets:
            return self.presets[name]
        self.problems.append(
            Problem(
                level.where("preset"),
                f"{values.show(name)} is not a preset; there are " + ", ".join(sorted(self.presets)),
                values.nearest(str(name), self.presets),
            )
        )
        return None

    def _check_keys(self, level: Level) -> None:
        for key in level.given:
            if key not in level.may_hold:
                self.problems.append(
                    Problem(level.where(key), "there is no such key", values.nearest(key, level.may_hold))
                )

    def _check(self, where: str, convert: Callable[..., T], *arguments: Any) -> T | None:
        """What ``convert(*arguments)`` gives, or None after noting why it cannot."""
        try:
            return convert(*arguments)
        except Unfit as unfit:
            self.problems.append(Problem(where, unfit.why, unfit.suggestion))
            return None

    # --- values ------------------------------------------------------------------------------------------

    def _take_values(self, level: Level) -> None:
        for parameter in schema.PARAMETERS:
            value = level.given.get(parameter.option)
            if value is None or parameter in _SHAPE_PARAMETERS:
                continue
            where = level.where(parameter.option)
            taken = self._check(where, _convert, parameter, value)
            if taken is not None or parameter is schema.SEED:
                self.found[parameter.name] = taken
                self.places[parameter.name] = where

    def _unknown_choices(self) -> list[str]:
        """Warnings for the values in force that the documentation does not name."""
        warnings = []
        for parameter in schema.PARAMETERS:
            name = self.found[parameter.name]
            if parameter.open_choices and name not in parameter.choices:
                close = values.nearest(name, parameter.choices)
                warnings.append(
                    f"{self.places[parameter.name]}: {name!r} is none of the {parameter.option}s that the"
                    " documentation names; it is sent as it is."
                    + (f" Did you mean {close!r}?" if close else "")
                )
        return warnings

    def _take_file_format(self, file_format: str | None) -> None:
        if file_format is None:
            return
        top = self.levels[-1]
        given = top.given.get("format")
        if given is not None and self.found["image_format"] != file_format:
            self.problems.append(
                Problem(
                    top.where("format"),
                    f"{values.show(given)} contradicts the output's ending, which asks for {file_format}",
                )
            )
        self.found["image_format"] = file_format

    # --- the size ----------------------------------------------------------------------------------------

    def _take_shape(self, level: Level) -> None:
        given = {key: level.given.get(key) for key in ("aspect", "size", "width", "height")}
        named = [key for key, value in given.items() if value is not None]
        name = None
        if given["aspect"] is not None:
            name = self._check(level.where("aspect"), values.aspect, given["aspect"])
        size = self._given_size(level, given["size"])
        width = self._given_side(level, schema.WIDTH, given["width"])
        height = self._given_side(level, schema.HEIGHT, given["height"])
        if "size" in named and ("width" in named or "height" in named):
            self._conflict(level, "size", [key for key in ("width", "height") if key in named])
        if "aspect" in named and len(named) > 1 and name not in (None, schema.CUSTOM):
            self._conflict(level, "aspect", [key for key in named if key != "aspect"])
            return
        if size is not None:
            self.shape = _Shape(schema.CUSTOM, *size)
        if width is not None or height is not None or name == schema.CUSTOM:
            self.shape = _Shape(schema.CUSTOM, width or self.shape.width, height or self.shape.height)
        elif name is not None:
            self.shape = _Shape.named(name)

    def _given_size(self, level: Level, value: object) -> tuple[int, int] | None:
        if value is None:
            return None
        where = level.where("size")
        size = self._check(where, values.size, value)
        if size is None:
            return None
        width = self._check(f"{where} (width)", values.integer, schema.WIDTH, size[0])
        height = self._check(f"{where} (height)", values.integer, schema.HEIGHT, size[1])
        return None if width is None or height is None else size

    def _given_side(self, level: Level, parameter: schema.Parameter, value: object) -> int | None:
        if value is None:
            return None
        return self._check(level.where(parameter.option), values.integer, parameter, value)

    def _conflict(self, level: Level, one: str, others: Sequence[str]) -> None:
        second = " and ".join(level.where(other) for other in others)
        self.problems.append(
            Problem(level.where(one), f"cannot stand beside {second}; give one or the other")
        )

    def _settle_shape(self) -> None:
        """Trap 1: an asked size must be "custom". Trap 2: a ratio with a side of 640 px goes out alone."""
        shape = self.shape
        if shape.aspect == schema.CUSTOM:
            for parameter, length in ((schema.WIDTH, shape.width), (schema.HEIGHT, shape.height)):
                if not schema.SIZE_MIN <= length <= schema.SIZE_MAX:
                    why = (
                        f"not given, and the {length} px of the ratio below it are not "
                        f"{parameter.allowed()}; give both sides"
                    )
                    self.problems.append(Problem(parameter.flag, why))
        goes_alone = shape.aspect != schema.CUSTOM and not schema.has_own_size(
            schema.ASPECT_BY_NAME[shape.aspect]
        )
        self.found["aspect_ratio"] = shape.aspect
        self.found["width"] = None if goes_alone else shape.width
        self.found["height"] = None if goes_alone else shape.height


_SHAPE_PARAMETERS: Final = (schema.ASPECT_RATIO, schema.WIDTH, schema.HEIGHT)


def _convert(parameter: schema.Parameter, value: object) -> Any:
    if parameter is schema.SEED:
        return values.seed(value)
    if parameter.kind == "text":
        return values.text(parameter, value, may_be_blank=parameter is not schema.PROMPT)
    if parameter.kind == "integer":
        return values.integer(parameter, value)
    if parameter.kind == "number":
        return values.number(parameter, value)
    if parameter.kind == "boolean":
        return values.boolean(parameter, value)
    return values.choice(parameter, value)
