"""Which picture goes where on a contact sheet, and what is said about it; nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chroma_cli.images import fields
from chroma_cli.images.cards import Card
from chroma_cli.images.lettering import pen
from chroma_cli.request import schema

_MAX_COLUMNS_OF_ONE_AXIS: Final = 8


@dataclass(frozen=True)
class Axis:
    """One axis of a sweep: a parameter (either spelling) and its values in order, as they were asked for."""

    name: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Slot:
    """One place of the grid. ``says`` are the fields below the picture."""

    column: int
    row: int
    card: Card | None
    says: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Head:
    """A heading beside the grid, over ``span`` columns or rows from ``start``."""

    start: int
    span: int
    name: str
    text: str


@dataclass(frozen=True)
class Plan:
    """Which picture goes where, and what stands around; nothing is measured yet."""

    columns: int
    rows: int
    slots: tuple[Slot, ...]
    column_heads: tuple[Head, ...] = ()
    row_heads: tuple[Head, ...] = ()


# --- which picture goes where ------------------------------------------------------------------------------


def as_grid(cards: Sequence[Card], columns: int | None, axes: Sequence[Axis] = ()) -> Plan:
    columns = min(len(cards), columns or math.ceil(math.sqrt(len(cards))))
    first = [fields.short_name(axis.name) for axis in axes]
    says = _labels(cards, skip=(), first=first)
    slots = tuple(
        Slot(number % columns, number // columns, card, says[number]) for number, card in enumerate(cards)
    )
    return Plan(columns, math.ceil(len(cards) / columns), slots)


def by_axes(cards: Sequence[Card], axes: Sequence[Axis], columns: int | None) -> Plan | None:
    """The plan with headings; None where the axes do not describe these cards."""
    if not 1 <= len(axes) <= 2:
        return None
    places = [[_axis_text(axis.name, card.recipe) for axis in axes] for card in cards]
    if any(text is None for place in places for text in place):
        return None
    values = [list(dict.fromkeys([_value(axis.name, value) for value in axis.values])) for axis in axes]
    if any(text not in known for place in places for text, known in zip(place, values, strict=True) if known):
        return None
    for number, known in enumerate(values):
        known.extend(dict.fromkeys(str(place[number]) for place in places if place[number] not in known))
    across = values[-1]
    down = values[0] if len(axes) == 2 else [""]
    if len(axes) == 1 and len(across) > (columns or _MAX_COLUMNS_OF_ONE_AXIS):
        return None
    groups: dict[tuple[str, str], list[int]] = {}
    for number, place in enumerate(places):
        groups.setdefault((str(place[0]) if len(axes) == 2 else "", str(place[-1])), []).append(number)
    # Several samples of one combination stand side by side below one heading.
    span = max(len(group) for group in groups.values())
    skip = {fields.short_name(axis.name) for axis in axes}
    if skip & {"aspect", "width", "height"}:
        skip.add(fields.SIZE)
    says = _labels(cards, skip=tuple(skip), names=False)
    slots = []
    for row, below in enumerate(down):
        for column, beside in enumerate(across):
            group = groups.get((below, beside), [])
            slots += [Slot(column * span + i, row, cards[n], says[n]) for i, n in enumerate(group)]
            if not group:
                slots.append(Slot(column * span, row, None))
    heads = tuple(
        Head(i * span, span, fields.short_name(axes[-1].name), text) for i, text in enumerate(across)
    )
    sides = tuple(Head(i, 1, fields.short_name(axes[0].name), text) for i, text in enumerate(down))
    return Plan(len(across) * span, len(down), tuple(slots), heads, sides if len(axes) == 2 else ())


def _value(name: str, value: object) -> str:
    """A value of an axis as its heading says it; a ratio without the size that stands in its name."""
    aspect = schema.ASPECT_BY_NAME.get(str(value))
    if aspect is not None and fields.short_name(name) == "aspect":
        return aspect.ratio
    text = fields.value_text(value)
    try:
        return fields.value_text(float(text)) if isinstance(value, str) and name in _NUMBERS else text
    except ValueError:
        return text


_NUMBERS: Final = frozenset(
    spelling
    for parameter in schema.PARAMETERS
    if parameter.kind == "number"
    for spelling in (parameter.name, parameter.option)
)


def _axis_text(name: str, recipe: Mapping[str, Any] | None) -> str | None:
    if recipe is None:
        return None
    if name == fields.SIZE:
        return fields.size_text(recipe)
    parameter = schema.BY_NAME.get(name) or schema.BY_OPTION.get(name.replace("-", "_"))
    key = parameter.name if parameter else name
    return _value(name, recipe[key]) if key in recipe else None


# --- what the labels say -----------------------------------------------------------------------------------


def _labels(
    cards: Sequence[Card], *, skip: Sequence[str], first: Sequence[str] = (), names: bool = True
) -> list[tuple[tuple[str, str], ...]]:
    """The fields below each picture: what differs, and the file's name where that does not tell it apart."""
    differ = [
        name for name in fields.differing(card.recipe for card in cards if card.recipe) if name not in skip
    ]
    differ.sort(key=lambda name: name not in first)
    own = [fields.fields_of(card.recipe) if card.recipe else {} for card in cards]
    for name in differ:
        holders = [one for one in own if name in one]
        for one, text in zip(
            holders, fields.from_where_they_differ([one[name] for one in holders]), strict=True
        ):
            one[name] = text
    made = [tuple((name, one[name]) for name in differ if name in one) for one in own]
    if not names:
        return made
    shown = [tuple((name, pen(16).readable(text)) for name, text in label) for label in made]
    return [
        label if label and shown.count(shown[number]) == 1 else (("", card.path.name), *label)
        for number, (label, card) in enumerate(zip(made, cards, strict=True))
    ]


def shared_by_all(cards: Sequence[Card]) -> dict[str, str]:
    """What all pictures share, if every one has a recipe."""
    recipes = [card.recipe for card in cards if card.recipe]
    if len(recipes) < len(cards):
        return {}
    shared = fields.common(recipes)
    if shared.get("negative prompt") in (schema.NEGATIVE_PROMPT.default, ""):
        del shared["negative prompt"]
    for name in ("format", "quality"):
        shared.pop(name, None)
    return shared
