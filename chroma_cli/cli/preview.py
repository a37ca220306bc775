"""A picture in the terminal, through a library that is an optional extra; never a reason to fail."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from chroma_cli.cli.output import Output
from chroma_cli.errors import BrokenImage
from chroma_cli.images import cards

_HINT = "For --preview install the extra: pip install 'chroma-cli[preview]'"
#: No terminal shows more; the whole of a large picture is never held.
_LARGEST = (1600, 1600)


def show(output: Output, path: Path) -> None:
    """Draw the picture on stderr: with sixel or kitty's protocol where the terminal has it (iTerm2 has the
    first), else in half blocks.

    Without a terminal or without the library: one line that says so.
    """
    if not output.stderr_is_terminal or output.terminal.dumb:
        output.note("There is no terminal to show a preview on.")
        return
    try:
        picture = cards.thumbnail(path, _LARGEST)
    except BrokenImage as error:
        output.note(f"No preview of {path}: {error}")
        return
    # the library asks the terminal on stdout what it can, and hears the answer on stdin
    can_ask = output.stdout_is_terminal and sys.stdin is not None and sys.stdin.isatty()
    for asking in (True, False) if can_ask else (False,):
        try:
            with contextlib.nullcontext() if asking else _no_questions():
                from textual_image import renderable

                kind = renderable.Image if asking else renderable.HalfcellImage
                output.draw(kind(picture, width="80%", height="auto"))
            return
        except ImportError:
            output.note(_HINT)
            return
        except Exception as error:  # terminals and the library differ; the picture is safe on the disk
            trouble = error
    output.note(f"No preview of {path}: {trouble}")


@contextlib.contextmanager
def _no_questions() -> Iterator[None]:
    """The library takes stdout for no terminal meanwhile: its questions would find no answer."""
    before = sys.__stdout__
    sys.__stdout__ = io.StringIO()  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        sys.__stdout__ = before  # type: ignore[misc]
