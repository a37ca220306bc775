"""Pictures with recipes that no honest program wrote."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from faultserver import tiny_png

from chroma_cli.images import containers, xmp
from chroma_cli.images.parts import Metadata


def inscribed(request: Mapping[str, Any], **more: Any) -> bytes:
    """A PNG with a recipe of ours in it, unchecked; ``more`` are further fields of the record."""
    return with_record(json.dumps({"schema": 1, "request": dict(request), **more}))


def with_record(text: str, parameters: str | None = None) -> bytes:
    """The same from the very text of the record, and of the text that other tools read."""
    out = io.BytesIO()
    metadata = Metadata({xmp.RECIPE: text}, parameters)
    containers.embed(io.BytesIO(tiny_png(64, 64)), "png", metadata, out.write)
    return out.getvalue()
