"""A folder for pictures, and places planned in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chroma_cli.images.destination import Destination, plan


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
