"""Recipes as the commands need them: from files and from the ledger, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chroma_cli import text
from chroma_cli.cli import jobsel
from chroma_cli.errors import ChromaError, NotFound
from chroma_cli.images import disk, recipe, sheetmark
from chroma_cli.images.recipe import Recipe
from chroma_cli.request import schema

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run


class NoRecipe(NotFound):
    """The picture is whole, but nothing in it says how it was made."""

    type = "no_recipe"


def pictures(run: Run, named: Sequence[Path]) -> list[Path]:
    """The files that are meant: folders stand for the pictures below them, contact sheets left out.

    Raises :class:`NotFound`.
    """
    from chroma_cli.images import cards

    found: list[Path] = []
    for path in named:
        if disk.is_folder(path):
            inside = cards.walk(
                path, unreadable=lambda name: run.output.warning(f"{name} cannot be looked into.")
            )
            kept = [one for one in inside if sheetmark.mark_of(one) is None]
            if not kept:
                raise NotFound(f"{path} holds no pictures{' but contact sheets' if inside else ''}.")
            _tell_left_out(run, path, len(inside) - len(kept))
            found += kept
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _tell_left_out(run: Run, folder: Path, count: int) -> None:
    if count:
        what = "1 contact sheet is" if count == 1 else f"{count} contact sheets are"
        run.output.note(f"{folder}: {what} left out.")


def of_file(path: Path) -> Recipe:
    """Raises :class:`NoRecipe`, and what reading the file raises."""
    found = recipe.recipe_of(path)
    if found is None and sheetmark.mark_of(path) is not None:
        raise NoRecipe(
            f"{path}: this is a contact sheet; the recipes are in the pictures that it shows.",
            hint="Inspect the pictures, or their folder.",
        )
    if found is None:
        raise NoRecipe(f"{path}: there is no recipe in this picture.")
    return found


def of_word(run: Run, word: str) -> Recipe:
    """The recipe that ``--from`` means: a file's, else a ledger's job's. Raises :class:`NotFound`."""
    path = Path(word)
    if disk.leads_somewhere(path) or path.suffix or "/" in word:
        return of_file(path)
    [ident] = jobsel.check([word])
    job = jobsel.find(run, ident)
    if job is None:
        run.required_ledger()  # else nobody has looked
    if job is None or not job.request:
        raise NotFound(f"--from: {word} is no file, and no job of the ledger.", hint="See: chroma jobs")
    return Recipe(dict(job.request), request_id=job.request_id, seed=job.seed)


def as_object(path: Path, found: Recipe, command: str | None) -> dict[str, Any]:
    """One picture's recipe for ``--json``; ``sample`` counts from 1 and is null for a picture made alone."""
    return {
        "file": str(path.absolute()),
        "origin": found.origin,
        "request": dict(found.request),
        "request_id": found.request_id,
        "seed": found.seed,
        "sample": found.sample,
        "created_at": found.created,
        "tool": found.tool,
        "sandbox": found.sandbox,
        "command": command,
        "left_out": list(found.left_out),
    }


def show(run: Run, path: Path, found: Recipe, *, many: bool) -> None:
    """The recipe for a person, in the order of the gateway's page."""
    output = run.output
    if many:
        output.result(f"{path}:")
    values = dict(found.request)
    if found.seed is not None:
        values["seed"] = found.seed
    if found.sample is not None:
        values["samples"] = f"number {found.sample} of {values.get('samples', 'several')}"
    lines = [(name, values[name]) for name in schema.BY_NAME if values.get(name) is not None]
    more = {"request id": found.request_id, "created": found.created, "tool": found.tool}
    lines += [(name, value) for name, value in more.items() if value is not None]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        words = text.plain(str(value)).replace("\n", "\n" + " " * (width + 2))
        output.result(f"{name:<{width}}  {words}")
    if found.sandbox:
        output.note("A placeholder of the sandbox, not the model's work.")
    if found.origin != "chroma":
        output.note("Read from the text that another tool has written.")
    if found.left_out:
        output.note(f"Not of this model, left out: {', '.join(found.left_out)}")
    if many:
        output.result("")


def tell_failure(run: Run, path: Path, error: ChromaError, *, alone: bool) -> None:
    """What is wrong with one file of several."""
    if run.output.json:
        run.output.result("", {"file": str(path.absolute()), "request": None, "error": error.as_dict()})
    if not alone:
        run.output.trouble(error.message)
