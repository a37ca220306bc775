"""What tells pictures apart: recipes as short names and texts, and which of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chroma_cli.request import schema

#: The name of the one field that shape, width and height make together.
SIZE: Final = "size"
_SHAPE: Final = (schema.ASPECT_RATIO.name, schema.WIDTH.name, schema.HEIGHT.name)
#: How the picture travelled, and how many more there were, is nothing that one sees in it.
_UNSEEN: Final = frozenset((schema.BASE64.name, schema.SAMPLES.name))


def short_name(name: str) -> str:
    """``sampler`` for ``sampler_name``: as the command line says it; a foreign name stays."""
    parameter = schema.BY_NAME.get(name) or schema.BY_OPTION.get(name.replace("-", "_"))
    return parameter.option.replace("_", " ") if parameter else name


def value_text(value: object) -> str:
    """A value as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, (str, int)):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def size_text(recipe: Mapping[str, Any]) -> str | None:
    """``1344x768``: the size a recipe asks for, None when it does not say."""
    aspect = schema.ASPECT_BY_NAME.get(str(recipe.get("aspect_ratio")))
    if aspect is not None:
        return f"{aspect.width}x{aspect.height}"
    width, height = recipe.get("width"), recipe.get("height")
    return None if width is None or height is None else f"{value_text(width)}x{value_text(height)}"


def fields_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Everything in a recipe that can be seen in the picture, by short name, in the order of the page."""
    known = [name for name in schema.BY_NAME if name in recipe]
    others = [name for name in recipe if name not in schema.BY_NAME]
    fields: dict[str, str] = {}
    for name in (*known, *others):
        if name in _UNSEEN:
            continue
        if name in _SHAPE:
            size = size_text(recipe)
            if size is not None:
                fields.setdefault(SIZE, size)
            continue
        fields[short_name(name)] = value_text(recipe[name])
    return fields


def differing(recipes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The short names of the fields that are not the same in all recipes; one that is missing differs."""
    seen = [fields_of(recipe) for recipe in recipes]
    names = dict.fromkeys(name for fields in seen for name in fields)
    return [name for name in _ordered(names) if len({fields.get(name) for fields in seen}) > 1]


def common(recipes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The fields that are the same in all recipes; none without recipes."""
    seen = [fields_of(recipe) for recipe in recipes]
    if not seen:
        return {}
    return {name: text for name, text in seen[0].items() if all(one.get(name) == text for one in seen)}


def _ordered(names: Iterable[str]) -> list[str]:
    order = list(dict.fromkeys(SIZE if name in _SHAPE else short_name(name) for name in schema.BY_NAME))
    known = set(names)
    return [name for name in order if name in known] + [name for name in names if name not in order]


def from_where_they_differ(texts: Sequence[str]) -> list[str]:
    """Long texts without the words that all begin with, save the last two of those."""
    split = [text.split() for text in texts]
    shared = 0
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        shared += 1
    skipped = shared - 2
    if skipped < 3:
        return list(texts)
    return ["… " + " ".join(words[skipped:]) for words in split]
