"""Pictures to save, and the pieces that saving takes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from chroma_cli.images.destination import Destination, plan
from chroma_cli.images.spool import Spool

PictureMaker = Callable[..., bytes]


def make_picture(image_format: str = "png", width: int = 64, height: int = 48, **options: object) -> bytes:
    picture = Image.effect_noise((width, height), 40).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, image_format.upper(), **options)
    return buffer.getvalue()


@pytest.fixture
def picture() -> PictureMaker:
    return make_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the pictures go; havens are beside it, so that listing it tells everything."""
    made = tmp_path / "pictures"
    made.mkdir()
    return made


@pytest.fixture
def rescue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first haven; the second one, the system's folder for temporary files, lies beside it."""
    second = tmp_path / "tmp"
    second.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(second))
    return tmp_path / "state" / "rescued"


@pytest.fixture
def planned(folder: Path) -> Callable[..., Destination]:
    """Plan an output in the folder, with the values of an ordinary request."""

    def make(output: str | None = "knight.png", **changes: object) -> Destination:
        values: dict[str, object] = {"prompt": "a young knight", "seed": 7, "cfg": 7.0, "steps": 40}
        values.update(changes.pop("values", {}))  # type: ignore[call-overload]
        settings: dict[str, object] = {
            "cwd": str(folder),
            "samples": 1,
            "image_format": "png",
            "now": 1_700_000_000.0,
        }
        settings.update(changes)
        return plan(output, values=values, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def spooled(rescue: Path) -> Callable[..., Spool]:
    """A spool that already holds these bytes."""

    def make(destination: Destination, data: bytes, ordinal: int = 0, **more: object) -> Spool:
        spool = Spool(destination, token="t0", ordinal=ordinal, rescue_dir=str(rescue), **more)  # type: ignore[arg-type]
        spool.write(data)
        return spool

    return make
