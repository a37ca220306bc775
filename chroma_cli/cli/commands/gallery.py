"""``chroma gallery``: one self-contained page of a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from chroma_cli.cli import options, sheets
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import NotFound, UsageError
from chroma_cli.images import disk

EXAMPLES = ("chroma gallery assets/ -o assets.html",)

_OWN = (Opt("folder", (), "The folder of pictures.", metavar="DIR", complete="files"),)


@takes(_OWN, options.PAGE_OUTPUT)
def gallery(run: Run) -> None:
    """Make an HTML page of pictures, to look through, filter and sort."""
    from chroma_cli.images.gallery import is_gallery, make_gallery

    given = run.given
    if given["folder"] is None:
        raise UsageError("DIR: name the folder of pictures.")
    folder = Path(given["folder"])
    if not disk.is_folder(folder):
        raise NotFound(f"{folder} is no folder.")
    target = Path(given["output"]) if given["output"] else folder / "index.html"
    if disk.is_folder(target):
        target = target / "index.html"
    overwrite = bool(given["overwrite"] or (given["output"] is None and is_gallery(target)))
    sheets.check_target(target, overwrite=overwrite)
    found = sheets.cards(run, [folder])
    with sheets.whole_file(target, overwrite=overwrite) as page:
        for piece in make_gallery(
            found,
            title=folder.resolve().name or "Gallery",
            base=target.parent,
            on_broken=lambda path, why: run.output.warning(f"{path}: {why}"),
        ):
            page.write(piece)
    run.output.path(str(target.absolute()), {"page": str(target.absolute()), "pictures": len(found)})
