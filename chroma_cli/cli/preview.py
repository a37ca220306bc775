"""A picture in the terminal, through a library that is an optional extra; never a reason to fail."""

from __future__ import annotations

from pathlib import Path

from chroma_cli.cli.output import Output

_HINT = "For --preview install the extra: pip install 'chroma-cli[preview]'"


def show(output: Output, path: Path) -> None:
    """Draw the picture on stderr: kitty's protocol or sixel where the terminal has it, else half blocks.

    Without a terminal or without the library: one line that says so.
    """
    if not output.stderr_is_terminal or output.terminal.dumb:
        output.note("There is no terminal to show a preview on.")
        return
    try:
        from PIL import UnidentifiedImageError
        from textual_image import renderable
        from textual_image.renderable.halfcell import Image as HalfcellImage
    except ImportError:
        output.note(_HINT)
        return
    # the library asks the terminal on stdout what it can; where that is a pipe, half blocks always work
    kind = renderable.Image if output.stdout_is_terminal else HalfcellImage
    try:
        output.draw(kind(str(path), width="80%", height="auto"))
    except (OSError, ValueError, UnidentifiedImageError) as error:
        output.note(f"No preview: {error}")
