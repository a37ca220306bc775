"""``generate --sweep``: the product of at most two axes, made like a batch, and a contact sheet of it.

Every combination is a request from the same levels as a single picture's, with the swept values among the
options. What is there already is not made again, as in a batch. The seed, when none is given, comes from the
command's own words: one for all pictures, and the same when the command is run again.
"""

from __future__ import annotations

import dataclasses
import filecmp
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from chroma_cli import text
from chroma_cli.cli import batchopts, sheets, surveying
from chroma_cli.cli.surveying import Source
from chroma_cli.errors import (
    Declined,
    InvalidParameters,
    OutputExists,
    Problem,
    SomeFailed,
    SomeUnfinished,
    UsageError,
)
from chroma_cli.images import disk, naming, sheetmark
from chroma_cli.images.arrangement import Axis
from chroma_cli.jobs.lock import request_digest
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.jobs.outputs import Outputs, OutputTemplate
from chroma_cli.jobs.planning import Plan
from chroma_cli.jobs.sweep import KEYS, expand, label
from chroma_cli.jobs.upkeep import StatCache
from chroma_cli.request import builder, values
from chroma_cli.request.builder import ImageRequest, Level

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run
_MOST_AXES: Final = 2
_MOST_NUMBERS: Final = 1000
_SWEPT: Final = tuple(name for name in KEYS if name not in ("prompt", "samples"))
#: In a file's name the shape is told by what it comes to.
_IN_NAMES: Final = {"size": "{width}x{height}", "aspect": "{width}x{height}"}
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
    run.check_config()
    run.take({**_AS_BATCH, **given})
    asked = dataclasses.replace(batchopts.read_options(run), finishes=False)
    source, plan, cost = _settled(run, axes)
    if given["dry_run"]:
        _dry_run(run, source, plan, cost, asked.timeout)
        return
    _consent(run, source, plan, cost)
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
        elif name not in _SWEPT:
            near = values.nearest(name, _SWEPT)
            problems.append(Problem("--sweep", f"{values.show(name)} cannot be swept", near))
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


# --- what is to be made ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Options(Level):
    """The command line's level, some of its values from ``--sweep``."""

    swept: frozenset[str] = frozenset()

    def where(self, option: str) -> str:
        return f"--sweep {option}" if option in self.swept else super().where(option)


def _settled(run: Run, axes: Mapping[str, list[str]]) -> tuple[Source, Plan, float]:
    """The images, what is still to be done of them, and its cost.

    Where a name is taken by something else, all get the next free number, as names from templates do.
    """
    problems: list[Problem] = []
    levels = run.picture_levels(problems)
    combinations = _combinations(axes, levels[-1], problems)
    for number in range(1, _MOST_NUMBERS + 1):
        source = _source(run, axes, levels, combinations, number, list(problems))
        plan, cost = surveying.outstanding(run, source)
        taken = [image.key for image, error in plan.blocked if isinstance(error, OutputExists)]
        if not taken:
            return source, plan, cost
    raise OutputExists(f"{', '.join(taken)}: there already, like {_MOST_NUMBERS} sweeps of the same names.")


def _source(
    run: Run,
    axes: Mapping[str, list[str]],
    levels: Sequence[Level],
    combinations: Sequence[Mapping[str, object]],
    number: int,
    problems: list[Problem],
) -> Source:
    """Every combination as an image, like those of a manifest. Raises with every problem at once."""
    *below, options = levels
    cwd = os.path.realpath(Path.cwd())
    outputs = Outputs(cwd, allow_outside=True, now=run.clock.wall())
    template = outputs.template(_output(run, axes, number), "--output", problems)
    seed = _seed(levels, axes)
    images: list[Image] = []
    warnings: list[str] = []
    for combination in combinations:
        top = _Options({**options.given, **combination}, swept=frozenset(combination))
        ending = template.format if template is not None else None
        try:
            built = builder.build([*below, top], run.presets, draw_seed=lambda: seed, file_format=ending)
        except InvalidParameters as error:
            problems += error.problems
            continue
        warnings += built.warnings
        if template is None:
            continue
        where = f"--sweep {label(combination)}"
        settled = outputs.settle(template, built.request, built.preset, where, problems)
        if settled is not None:
            images.append(Image(settled.key, where, built.request, settled.destination, settled.paths))
    problems += _conflicts(outputs, template, axes)
    if problems:
        raise InvalidParameters(list(dict.fromkeys(problems)))
    for words in dict.fromkeys(warnings) if number == 1 else ():
        run.output.warning(words)
    manifest = Manifest(None, Path(cwd), _as_they_came(run, images), ())
    cache = StatCache.load(run.settings.known_state_dir, manifest)
    return Source(manifest, manifest.images, None, cache, None, title="the sweep")


def _as_they_came(run: Run, images: Iterable[Image]) -> tuple[Image, ...]:
    """The images where their pictures lie: one that came in another format has its ending, says the ledger.

    Without this they would count as missing, and be paid again.
    """

    def found(image: Image) -> Image:
        others = [path.with_suffix(f".{end}") for path in image.paths for end in naming.FORMAT_OF_ENDING]
        if any(map(disk.exists, image.paths)) or not any(map(disk.exists, others)):
            return image
        wanted = {path.with_suffix("") for path in image.paths}
        for row in run.book.saved_from(run.gateway_name, request_digest(image.request)):
            paths = tuple(Path(str(file["path"])) for file in row.files.values())
            if {path.with_suffix("") for path in paths} == wanted and all(map(disk.exists, paths)):
                return dataclasses.replace(image, paths=paths)
        return image

    return tuple(map(found, images))


def _combinations(
    axes: Mapping[str, list[str]], options: Level, problems: list[Problem]
) -> list[dict[str, object]]:
    problems += [
        Problem(f"--{name.replace('_', '-')}", "it is given beside the sweep over it; give one or the other")
        for name in axes
        if options.given.get(name) is not None
    ]
    wrong: list[Problem] = []
    found = expand(axes, "", wrong)
    for one in wrong:
        where = one.where.removeprefix(": ").replace("sweep.", "--sweep ")
        problems.append(dataclasses.replace(one, where="--sweep" if where == "sweep" else where))
    return found


def _seed(levels: Sequence[Level], axes: Mapping[str, list[str]]) -> int:
    """What is drawn where no level pins the seed: the same for the same words."""
    words = [{name: value for name, value in level.given.items() if value is not None} for level in levels]
    text = json.dumps([words, axes], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _output(run: Run, axes: Mapping[str, list[str]], number: int) -> str:
    """``-o``, or a name that tells the combinations apart; the number stands before the ending, from 2 on."""
    output = run.given["output"]
    told = (f"{name}-{_IN_NAMES.get(name, f'{{{name}}}')}" for name in axes)
    default = "-".join(["{slug}", *told]) + ".{ext}"
    if output is None:
        output = default
    elif output.endswith(("/", os.sep)) or disk.is_folder(Path(output)):
        output = f"{output.rstrip('/')}/{default}"
    if number == 1:
        return str(output)
    folder, slash, name = output.rpartition("/")
    stem, ending = naming.split_ending(name)
    return f"{folder}{slash}{stem}-{number}" + (f".{ending}" if ending else "")


def _conflicts(
    outputs: Outputs, template: OutputTemplate | None, axes: Mapping[str, list[str]]
) -> list[Problem]:
    """Two combinations of one name."""
    found = outputs.conflicts()
    if not found or template is None:
        return found
    fields = "-".join(_IN_NAMES.get(name, f"{{{name}}}") for name in axes)
    if template.parsed.fields:
        return [dataclasses.replace(one, where=one.where.removesuffix(": output")) for one in found]
    why = f"{values.show(template.name)} is one name for several pictures; name a folder, or tell them apart,"
    return [Problem("--output", f"{why} like {fields}.png")]


# --- before anything is spent ------------------------------------------------------------------------------


def _dry_run(run: Run, source: Source, plan: Plan, cost: float, timeout: float) -> None:
    """Each call as it would go out; nothing sent, no key needed."""
    from chroma_cli.cli.context import Order

    for work in plan.works:
        call = run.call_of(Order(work.request, None, work.key, timeout), sync=False)
        run.output.result_json({**call, "output": work.key})
    for image, error in plan.blocked:
        run.output.trouble(f"{image.key}: {error.message}")
    run.output.note(_what(source, plan, cost))


def _consent(run: Run, source: Source, plan: Plan, cost: float) -> None:
    """Say how many and what they cost; many want a yes."""
    from chroma_cli.cli.context import MANY

    run.output.note(_what(source, plan, cost))
    pictures = _pictures(work.request for work in plan.works if work.job is None)
    if pictures <= MANY or run.given["yes"]:
        return
    what = f"{pictures} pictures, about {text.money(cost)}"
    if not run.output.can_ask:
        raise UsageError(f"--sweep: {what}; more than {MANY} need --yes.")
    if not run.output.confirm(f"Make {what}?"):
        raise Declined("Nothing was sent.")


def _what(source: Source, plan: Plan, cost: float) -> str:
    total = _pictures(image.request for image in source.images)
    left = _pictures(work.request for work in plan.works)
    price = f"about {text.money(cost)}"
    if left == total:
        return f"The sweep is {total} pictures, {price}."
    if not left:
        return f"The sweep is {total} pictures; there is nothing to be made."
    return f"The sweep is {total} pictures; {left} are still to be made, {price}."


def _pictures(requests: Iterable[ImageRequest]) -> int:
    return sum(request.samples for request in requests)


# --- the sheet ---------------------------------------------------------------------------------------------


def _sheet(run: Run, source: Source, axes: dict[str, list[str]]) -> None:
    """A contact sheet beside the pictures that are there; the first axis goes across.

    One of the same sweep is made anew: it may show less, from a run that was not finished.
    """
    images = _as_they_came(run, source.images)
    made = [path for image in images for path in image.paths if path.exists()]
    if len(made) < 2:
        return
    first = source.images[0]
    folder = Path(os.path.commonpath([path.parent for path in made]))
    stem = f"{naming.slug(first.request.prompt)}-sheet"
    overwrite = bool(run.given["overwrite"])
    name = _identity(source)

    def ours(path: Path) -> bool:
        mark = sheetmark.mark_of(path)
        return mark is not None and mark.sweep == name

    def taken(number: int) -> bool:
        path = folder / _numbered(stem, number)
        return not overwrite and disk.exists(path) and not ours(path)

    [number] = naming.free_numbers(1, 0, taken)
    across = [Axis(name, tuple(_values(name, words))) for name, words in axes.items()]
    found = sheets.cards(run, made)
    target = folder / _numbered(stem, number)
    written = sheets.write(
        run, found, target, axes=list(reversed(across)), overwrite=overwrite or ours(target), sweep=name
    )
    before = folder / _numbered(stem, number - 1)
    if number and before.is_file() and filecmp.cmp(written, before, shallow=False):  # nothing was made anew
        written.unlink()
        written = before
    run.output.path(str(written), {"sheet": str(written), "pictures": len(made)})


def _identity(source: Source) -> str:
    """The same for the same requests under the same names, wherever the folder lies."""
    sweep = [[image.request.payload(), PurePath(image.key).name] for image in source.images]
    return hashlib.sha256(json.dumps(sweep, sort_keys=True).encode()).hexdigest()[:32]


def _values(name: str, words: list[str]) -> list[Any]:
    return [one[name] for one in expand({name: words}, "", [])]


def _numbered(stem: str, number: int) -> str:
    return f"{stem}-{number}.png" if number else f"{stem}.png"
