"""Reading a prompt: UTF-8, from stdin or a file without a byte order mark and with plain newlines."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from chroma_cli.errors import UsageError

#: Far more than any prompt; an endless stream must end somewhere.
LIMIT: Final = 16 * 1024 * 1024


def typed(words: str) -> str:
    """Return words of the command line as the UTF-8 that they are, where the locale could not read them."""
    try:
        return os.fsencode(words).decode() if re.search("[\udc80-\udcff]", words) else words
    except UnicodeError:
        return words


def from_stdin() -> str:
    """Raises :class:`UsageError` when stdin is closed, too long, or not UTF-8."""
    if sys.stdin is None:
        raise UsageError("PROMPT: - reads the prompt from stdin, but stdin is closed")
    try:
        return _decoded(sys.stdin.buffer.read(LIMIT + 1), "PROMPT")
    except OSError as error:
        raise UsageError(f"PROMPT: stdin cannot be read: {error.strerror}") from error


def from_file(name: str) -> str:
    """Raises :class:`UsageError` when the file cannot be read, is too long, or not UTF-8."""
    if name == "-":
        return from_stdin()
    try:
        with Path(name).open("rb") as file:
            return _decoded(file.read(LIMIT + 1), "--prompt-file")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no usable name"
        raise UsageError(f"--prompt-file: {name!r} cannot be read: {why}") from error


def _decoded(raw: bytes, where: str) -> str:
    if len(raw) > LIMIT:
        raise UsageError(f"{where}: the prompt is longer than {LIMIT // 1024 // 1024} MB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: the prompt is not UTF-8 (byte {error.start + 1})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
