"""Pictures and recipes for the tests of this folder."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from chroma_cli.images import containers, recipe
from chroma_cli.images.parts import Metadata
from chroma_cli.images.recipe import Recipe
from chroma_cli.request import builder

FORMATS = ("png", "jpeg", "webp")

PROMPT = "a \"young\" knight, 'x' & <b>\nsecond line: 骑士 🏰 é"
NEGATIVE = 'bad "quotes", \\ and\n低质量 🙈'


def picture(image_format: str, width: int = 64, height: int = 48, **options: Any) -> bytes:
    image = Image.effect_noise((width, height), 40).convert(options.pop("mode", "RGB"))
    buffer = io.BytesIO()
    image.save(buffer, image_format.upper(), **options)
    return buffer.getvalue()


def recipe_with(**options: object) -> Recipe:
    """A recipe as the program makes it: the request went through the builder."""
    level = builder.Level({"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": 7, **options})
    request = builder.build([level], {}, draw_seed=lambda: 1).request
    return Recipe(request.payload(), request_id="req-1", created="2026-07-31T12:00:00Z", seed=request.seed)


def embedded(data: bytes, image_format: str, metadata: Metadata | Recipe) -> bytes:
    if isinstance(metadata, Recipe):
        metadata = recipe.metadata(metadata, "full")
    out = io.BytesIO()
    notes = containers.embed(io.BytesIO(data), image_format, metadata, out.write)
    assert notes == ()
    return out.getvalue()


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.size, image.tobytes()


def no_warnings(tags: dict[str, Any]) -> bool:
    return tags["ExifTool:Validate"] == "0 0 0" and not any("Warning" in name for name in tags)
