"""``generate --sweep``: the product of at most two axes, made like a batch, and a contact sheet of it.

A sweep is a manifest of one row that nobody had to write; so it is made, taken up again and paid for by the
same rules. Its seed, when none is given, comes from its own words: one for all pictures, and the same when
the command is run again.
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chroma_cli.cli import batching, sheets, surveying, text
from chroma_cli.cli.surveying import Source
from chroma_cli.errors import Declined, InvalidParameters, Problem, SomeFailed, SomeUnfinished, UsageError
from chroma_cli.images import naming
from chroma_cli.images.arrangement import Axis
from chroma_cli.images.destination import wanted_format
from chroma_cli.jobs import manifest as manifests
from chroma_cli.jobs.sweep import KEYS, expand
from chroma_cli.jobs.upkeep import StatCache
from chroma_cli.request import values

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run

_MOST_AXES: Final = 2
_SHAPE: Final = frozenset({"aspect", "size", "width", "height"})
#: What ``batch`` asks for and a sweep has no options for.
_AS_BATCH: Final[dict[str, Any]] = {
    "manifest": "-",
    "manifest_format": None,
    "jobs": None,
    "rate": None,
    "keep_going": False,
    "fail_fast": False,
    "retry_failed": None,
    "budget": None,
    "shard": None,
    "summary": None,
    "junit": None,
    "prune": False,
    "check": False,
    "deep": False,
}


def generate(run: Run) -> None:
    """Make every combination and the sheet. Raises as ``batch`` does."""
    given = run.given
    for other in ("sync", "open", "preview"):
        if given[other]:
            raise UsageError(f"--sweep cannot stand beside --{other}.")
    if given["output"] == "-":
        raise UsageError("--sweep makes several pictures; --output cannot be -.")
    axes = _axes(given["sweep"])
    source = _source(run, axes)
    run.take({**_AS_BATCH, **given})
    asked = batching.read_options(run)
    if given["dry_run"]:
        surveying.dry_run(run, source, asked)
        return
    _consent(run, source)
    try:
        surveying.make(run, source, asked)
    except (SomeFailed, SomeUnfinished):
        _sheet(run, source, axes)
        raise
    _sheet(run, source, axes)


def _axes(given: list[str]) -> dict[str, list[str]]:
    """``cfg=5,7,9`` as name and values in order."""
    problems: list[Problem] = []
    axes: dict[str, list[str]] = {}
    for one in given:
        name, equals, listed = one.partition("=")
        name = name.strip().replace("-", "_")
        words = [word.strip() for word in listed.split(",") if word.strip()]
        if not equals or not words:
            problems.append(Problem("--sweep", f"{values.show(one)} is not like cfg=5,7,9 or seed=1..4"))
        elif name not in KEYS or name in ("prompt", "preset", "samples"):
            problems.append(
                Problem("--sweep", f"{values.show(name)} cannot be swept", values.nearest(name, KEYS))
            )
        elif name in axes:
            problems.append(Problem("--sweep", f"{name} is there twice"))
        else:
            axes[name] = words
    if len(given) > _MOST_AXES:
        problems.append(
            Problem("--sweep", f"{len(given)} axes; at most {_MOST_AXES} can be shown on a sheet")
        )
    if problems:
        raise InvalidParameters(problems)
    return axes


def _source(run: Run, axes: dict[str, list[str]]) -> Source:
    """The manifest of one row that the command line stands for."""
    row = _row(run, axes)
    line = json.dumps({**row, "sweep": axes}).encode()
    cwd = Path.cwd()
    try:
        manifest = manifests.load(
            None,
            io.BytesIO(line),
            format="jsonl",
            presets=run.presets,
            allow_outside=True,
            cwd=cwd,
            now=run.clock.wall(),
        )
    except InvalidParameters as error:
        raise InvalidParameters([_as_option(one) for one in error.problems], hint=error.hint) from None
    for words in manifest.warnings:
        run.output.warning(words.replace("stdin: line 1: ", "--"))
    cache = StatCache.load(run.settings.state_dir, manifest)
    named = dataclasses.replace(manifest, warnings=())
    return Source(named, manifest.images, None, cache, None, title="the sweep")


def _row(run: Run, axes: dict[str, list[str]]) -> dict[str, Any]:
    """The options as one row: the config file's defaults below, the swept ones left to the sweep."""
    levels = run.picture_levels()
    row: dict[str, Any] = {}
    for level in levels:
        here = {
            name: value for name, value in level.given.items() if value is not None and name != "metadata"
        }
        if _SHAPE & here.keys() or _SHAPE & axes.keys():
            row = {name: value for name, value in row.items() if name not in _SHAPE}
        row |= here
    row = {name: value for name, value in row.items() if name not in axes}
    if "seed" not in axes and row.get("seed") is None:
        row["seed"] = _seed(row, axes)
    row["output"] = _output(run, axes)
    return row


def _seed(row: dict[str, Any], axes: dict[str, list[str]]) -> int:
    words = json.dumps([row, axes], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")


def _output(run: Run, axes: dict[str, list[str]]) -> str:
    """``-o``, or a name that tells the combinations apart."""
    output = run.given["output"]
    default = "-".join(["{slug}", *(f"{name}-{{{name}}}" for name in axes)]) + ".{ext}"
    if output is None:
        return default
    if output.endswith(("/", os.sep)) or Path(output).is_dir():
        return f"{output.rstrip('/')}/{default}"
    wanted_format(output, cwd=str(Path.cwd()))
    if not naming.has_fields(output):
        fields = "-".join(f"{{{name}}}" for name in axes)
        raise UsageError(
            f"--output: {output!r} is one name for several pictures.",
            hint=f"Name a folder, or put the swept values into it, like {fields}.png",
        )
    return str(output)


def _as_option(problem: Problem) -> Problem:
    """A problem of the row, told by the option that it came from."""
    where = problem.where.partition("line 1: ")[2] or problem.where
    where = where.partition(", sweep ")[0]
    if where.startswith("sweep."):
        where = f"--sweep {where[6:]}"
    elif where == "prompt":
        where = "PROMPT"
    elif where and not where.startswith("-"):
        where = "--" + where.replace("_", "-")
    return dataclasses.replace(problem, where=where)


def _consent(run: Run, source: Source) -> None:
    """Say how many and what they cost; many want a yes."""
    from chroma_cli.cli.context import MANY

    pictures = sum(image.request.samples for image in source.images)
    cost = sum(image.request.expected_cost for image in source.images)
    what = f"{pictures} pictures, about {text.money(cost)}"
    run.output.note(f"The sweep is {what}.")
    if pictures <= MANY or run.given["yes"]:
        return
    if not run.output.can_ask:
        raise UsageError(f"--sweep: {what}; more than {MANY} need --yes.")
    if not run.output.confirm(f"Make {what}?"):
        raise Declined("Nothing was sent.")


def _sheet(run: Run, source: Source, axes: dict[str, list[str]]) -> None:
    """A contact sheet beside the pictures that are there; the first axis goes across."""
    made = [path for image in source.images for path in image.paths if path.exists()]
    if len(made) < 2:
        return
    first = source.images[0]
    folder = Path(os.path.commonpath([path.parent for path in made]))
    stem = f"{naming.slug(first.request.prompt)}-sheet"
    [number] = naming.free_numbers(1, 0, lambda number: (folder / _numbered(stem, number)).exists())
    across = [Axis(name, tuple(_values(name, words))) for name, words in axes.items()]
    found = sheets.cards(run, made)
    written = sheets.write(run, found, folder / _numbered(stem, number), axes=list(reversed(across)))
    before = folder / _numbered(stem, number - 1)
    if number and filecmp.cmp(written, before, shallow=False):  # nothing was made anew
        written.unlink()
        written = before
    run.output.result(str(written), {"sheet": str(written), "pictures": len(made)})


def _values(name: str, words: list[str]) -> list[Any]:
    return [one[name] for one in expand({name: words}, "", [])]


def _numbered(stem: str, number: int) -> str:
    return f"{stem}-{number}.png" if number else f"{stem}.png"
