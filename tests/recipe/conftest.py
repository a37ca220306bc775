"""The programs of others that must understand what is written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def exiftool(tmp_path: Path) -> Callable[[bytes, str], dict[str, Any]]:
    """What exiftool says of a picture: its tags by group and name, all values as they stand."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")

    def ask(data: bytes, image_format: str) -> dict[str, Any]:
        path = tmp_path / f"asked.{image_format}"
        path.write_bytes(data)
        words = ["exiftool", "-j", "-b", "-n", "-a", "-G1", "-validate", "-warning", "-error", "-all"]
        answer = subprocess.run([*words, str(path)], capture_output=True, check=True, timeout=60)
        tags: dict[str, Any] = json.loads(answer.stdout)[0]
        return tags

    return ask
