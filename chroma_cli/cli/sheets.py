"""What sheets and galleries share: cards of files with their recipes, and a page that appears whole."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from chroma_cli.cli import recipes
from chroma_cli.errors import BrokenImage, ChromaError, NotFound, OutputError, OutputExists, UsageError
from chroma_cli.images import cards as pictures
from chroma_cli.images import disk, recipe, sheetmark
from chroma_cli.images.arrangement import Axis
from chroma_cli.images.cards import Card
from chroma_cli.images.naming import FORMAT_OF_ENDING

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run


def cards(run: Run, named: Sequence[Path], *, target: Path | None = None) -> list[Card]:
    """A card for each picture but ``target``, which is being made; one without a readable recipe is shown all
    the same.

    Raises :class:`NotFound` for a file that does not exist.
    """
    always = list(run.settings.config.defaults)
    found = []
    for path in recipes.pictures(run, named):
        if not disk.leads_somewhere(path):
            raise NotFound(f"{path}: there is no such file.")
        if target is None or not (target.exists() and path.samefile(target)):
            found.append(_card(path, always))
    return found


def _card(path: Path, always: Sequence[str]) -> Card:
    width = height = None
    with contextlib.suppress(BrokenImage):
        width, height = pictures.measure(path)
    size = path.stat().st_size
    known = command = None
    # what is wrong with a recipe is for inspect to say; the picture can be shown without it
    with contextlib.suppress(ChromaError):
        known = recipe.recipe_of(path)
    if known is None:
        return Card(path, width=width, height=height, bytes=size)
    with contextlib.suppress(ChromaError):
        command = known.command(always)
    request = dict(known.request) if known.seed is None else {**known.request, "seed": known.seed}
    return Card(path, request, command, known.request_id, known.created, known.sandbox, width, height, size)


def write(
    run: Run,
    found: Sequence[Card],
    target: Path,
    *,
    columns: int | None = None,
    axes: Sequence[Axis] = (),
    overwrite: bool = False,
    sweep: str | None = None,
) -> Path:
    """Draw a contact sheet into ``target`` and return its absolute path. ``sweep`` names the sweep that it
    shows, by :func:`chroma_cli.images.sheetmark.properties`, as far as metadata is wanted at all."""
    from chroma_cli.images.sheet import make_sheet

    ending = target.suffix.lower().lstrip(".")
    if ending not in FORMAT_OF_ENDING:
        raise UsageError(f"--output: {target.name!r} ends in none of .png, .jpg, .jpeg, .webp.")
    check_target(target, overwrite=overwrite)
    of_model = any(card.recipe or sheetmark.is_of_model(card.path) for card in found)
    marks = sheetmark.properties(run.metadata or "full", of_model=of_model, sweep=sweep)
    with whole_file(target, overwrite=overwrite) as file:
        drawn = make_sheet(
            found,
            file,
            image_format=FORMAT_OF_ENDING[ending],
            columns=columns,
            axes=axes,
            properties=marks,
        )
    for name, why in drawn.unreadable:
        run.output.warning(f"{name}: {why}")
    return target.absolute()


def check_target(target: Path, *, overwrite: bool) -> None:
    """Whether the file may be made. Raises :class:`OutputError` before any work is done."""
    if disk.exists(target) and not overwrite:
        raise OutputExists(f"{target} exists already.")
    if not disk.replaceable(target):
        raise OutputError(f"{target} is no regular file, so it is not replaced.")


@contextlib.contextmanager
def whole_file(target: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole, or not at all. Raises :class:`OutputError`."""
    temp = target.parent / f".chroma-page-{secrets.token_hex(8)}.part"
    try:
        disk.make_folders(target.parent)
        descriptor = disk.create(temp)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {disk.words(error)}.") from error
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - by its descriptor
            yield file
            file.flush()
            disk.sync_file(file.fileno())
        (disk.replace if overwrite else disk.move)(temp, target)
        disk.sync_folder(target.parent)
    except FileExistsError as error:
        raise OutputExists(f"{target} appeared meanwhile.") from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {disk.words(error)}.") from error
    finally:
        disk.remove(temp)
