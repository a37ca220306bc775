"""``chroma sheet``: a labelled contact sheet of pictures."""

from __future__ import annotations

from pathlib import Path

from chroma_cli.cli import options, sheets
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.images import disk, sheetmark

EXAMPLES = (
    "chroma sheet foxes/ -o foxes.png",
    "chroma sheet fox-1.png fox-2.png crow.jpg --columns 3 -o animals.webp",
)

_OWN = (
    Opt("files", (), "Pictures, or folders of pictures.", list[str], metavar="FILE...", complete="files"),
    Opt("columns", ("--columns",), "How many pictures side by side.", metavar="N"),
)


@takes(_OWN, options.SHEET_OUTPUT)
def sheet(run: Run) -> None:
    """Put pictures side by side, labelled by what differs."""
    given = run.given
    if not given["files"]:
        raise UsageError("FILE: name the pictures for the sheet.")
    columns = given["columns"]
    if columns is not None and not (columns.isascii() and columns.isdigit() and 0 < int(columns[:9]) <= 100):
        raise InvalidParameters([Problem("--columns", f"{columns!r} is not a whole number from 1 to 100")])
    target = Path(given["output"] or "sheet.png")
    if disk.is_folder(target):
        target = target / "sheet.png"
    for name in given["files"]:
        if sheetmark.mark_of(Path(name)) is not None:
            run.output.note(f"{name} is a contact sheet itself; of a folder, those are left out.")
    cards = sheets.cards(run, [Path(name) for name in given["files"]], target=target)
    made = sheets.write(
        run, cards, target, columns=int(columns) if columns else None, overwrite=given["overwrite"]
    )
    run.output.path(str(made), {"sheet": str(made), "pictures": len(cards)})
