"""Pictures for the tests of this folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image


def encoded(image_format: str = "png", size: tuple[int, int] = (1024, 1024), **options: Any) -> bytes:
    """A small file of a large picture, not all of one colour."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    out = io.BytesIO()
    image.save(out, image_format.upper(), **options)
    return out.getvalue()


def pixels(data: bytes | Path) -> tuple[str, tuple[int, int], bytes]:
    """Mode, size and every pixel."""
    with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:
        return image.mode, image.size, image.tobytes()
