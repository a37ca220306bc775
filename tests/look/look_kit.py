"""Pictures for the tests of this folder."""

from __future__ import annotations

import io
import subprocess
import sys
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


def peak_of(*argv: str) -> tuple[int, int]:
    """Exit code and the most memory, in kB, of the program as a process of its own (Linux)."""
    code = (
        "import re, sys; from pathlib import Path; from chroma_cli.cli.main import main;"
        "code = main(sys.argv[1:]);"
        "print(re.search('VmHWM:\\\\s+([0-9]+)', Path('/proc/self/status').read_text())[1], file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, timeout=120)
    return done.returncode, int(done.stderr.split()[-1])
