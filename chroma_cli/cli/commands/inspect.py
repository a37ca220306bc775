"""``chroma inspect``: the recipe that is in a picture."""

from __future__ import annotations

from pathlib import Path

from chroma_cli.cli import options, preview, recipes, several
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import ChromaError, UsageError

EXAMPLES = (
    "chroma inspect knight.png",
    "chroma inspect knight.png --command | sh",
)

_OWN = (
    Opt("files", (), "Pictures, or folders of pictures.", list[str], metavar="FILE...", complete="files"),
    Opt("command", ("--command",), "Print the command line that makes it again.", bool, False),
)


@takes(_OWN, options.PREVIEW)
def inspect(run: Run) -> None:
    """Show how pictures were made, from the recipe inside."""
    given = run.given
    if not given["files"]:
        raise UsageError("FILE: name at least one picture or folder.")
    named = [Path(name) for name in given["files"]]
    paths = recipes.pictures(run, named)
    always = list(run.settings.config.defaults)
    errors: list[ChromaError] = []
    bare = 0
    for path in paths:
        try:
            found = recipes.of_file(path)
            line = found.command(always) if given["command"] or run.output.json else None
        except ChromaError as error:
            if isinstance(error, recipes.NoRecipe) and path not in named:  # a folder may hold anything
                bare += 1
                run.output.note(error.message)
                continue
            recipes.tell_failure(run, path, error, alone=len(paths) == 1)
            errors.append(error)
            continue
        if run.output.json:
            run.output.result("", recipes.as_object(path, found, line))
        elif line is not None:
            run.output.result(line)
        else:
            recipes.show(run, path, found, many=len(paths) > 1)
        if given["preview"]:
            preview.show(run.output, path)
    if bare == len(paths):
        raise recipes.NoRecipe("None of these pictures has a recipe.")
    several.conclude(errors, len(paths), noun="pictures")
