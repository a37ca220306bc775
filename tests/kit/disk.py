"""A disk without room, and one that cannot be written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size; the test is skipped where one may not mount."""
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)])
    if done.returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left, with a file ``filler``."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """A folder that nobody may write; for root that takes a mount of its own."""
    if os.geteuid() != 0:
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o500)
        try:
            yield place
        finally:
            place.chmod(0o700)
        return
    with small_disk(place, "16m") as disk:
        remount = ["mount", "-o", "remount,ro", str(disk)]
        if subprocess.run(remount, capture_output=True).returncode != 0:
            pytest.skip("no read-only mount here")
        yield disk
