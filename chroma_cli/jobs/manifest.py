"""From a manifest to images to be made: every request built, every output settled, all problems at once.

Owns the rules that need no look at what was made before: defaults and presets, derived seeds, one output for
one image, nothing outside of the manifest's folder, and the share of one machine among several.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.images import disk
from chroma_cli.images.destination import Destination
from chroma_cli.jobs import rows
from chroma_cli.jobs.derive import Deriver, RowLevel
from chroma_cli.jobs.outputs import Outputs, OutputTemplate
from chroma_cli.jobs.rows import Row, Sheet
from chroma_cli.jobs.sweep import expand, label
from chroma_cli.request import builder, values
from chroma_cli.request.builder import ImageRequest, Level
from chroma_cli.request.presets import Preset

One = TypeVar("One", bound="Image")

#: What is called the file when there is none.
STDIN: Final = "stdin"
#: More samples of one image than this are taken for a slip.
MOST_SAMPLES: Final = 1000
_MOST_FILES: Final = 1_000_000
#: A list of problems longer than this helps nobody.
_MOST_PROBLEMS: Final = 1000


@dataclass(frozen=True)
class Image:
    """One image to be made.

    ``key`` is its output after templates, relative to the manifest's folder, with ``/``; no other image of
    the manifest has it. ``where`` names the row, for messages. ``paths`` are the absolute final paths, one
    for each sample.
    """

    key: str
    where: str
    request: ImageRequest
    destination: Destination
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Manifest:
    """A manifest that was checked. ``path`` is absolute, None for stdin; ``folder`` is absolute, links
    resolved."""

    path: Path | None
    folder: Path
    images: tuple[Image, ...]
    warnings: tuple[str, ...]


def load(
    path: Path | None,
    text_source: BinaryIO | None,
    *,
    format: str | None,
    presets: Mapping[str, Preset],
    allow_outside: bool,
    cwd: Path,
    now: float,
) -> Manifest:
    """Read and check the manifest at ``path``, or from ``text_source`` (stdin) when that is None.

    ``format``: toml, jsonl or csv; None means by the file's ending, else by its first line. ``presets``: all
    that can be named. ``allow_outside``: whether outputs may leave the manifest's folder (``cwd`` for stdin).
    ``now``: seconds since the epoch, for ``{date}``. A ``path`` that is no regular file (a pipe) counts as
    stdin. Defaults of the config file play no part, so that all machines make the same images.

    Raises InvalidParameters with every problem, UsageError for a manifest that cannot be read, is too large
    or lists no image.
    """
    if format is not None and format not in rows.FORMATS:
        near = values.nearest(format, rows.FORMATS)
        problem = Problem(rows.FORMAT_OPTION, f"{values.show(format)} is none of toml, jsonl, csv", near)
        raise InvalidParameters([problem])
    form = next((one for one in rows.FORMATS if one == format), None)
    if path is None:
        data = _read(text_source, STDIN)
        name, place = STDIN, None
    else:
        data, name, place = _read_path(cwd / path)
    folder = Path(os.path.realpath(cwd if place is None else place.parent))
    sheet = rows.parse(data, name=name, form=form)
    maker = _Maker(sheet, presets, Outputs(str(folder), allow_outside=allow_outside, now=now))
    images = maker.run()
    return Manifest(None if place is None else folder / place.name, folder, images, maker.warnings())


def _read_path(path: Path) -> tuple[bytes, str, Path | None]:
    """The bytes of a manifest, its name, and its path if it is a file that a lock can stand beside."""
    name = path.name or str(path)
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        with path.open("rb") as file:
            return _read(file, name), name, path if regular else None
    except ValueError as error:
        raise UsageError(f"{values.show(str(path))} is no usable file name.") from error
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else disk.words(error)
        raise UsageError(f"The manifest {path} cannot be read: {reason}.") from error


def _read(source: BinaryIO | None, name: str) -> bytes:
    data = b"" if source is None else source.read(rows.MOST_BYTES + 1)
    if len(data) > rows.MOST_BYTES:
        raise UsageError(
            f"{name}: the manifest is larger than {rows.MOST_BYTES // 2**20} MiB.",
            hint="Split it into several.",
        )
    return data


def shard(images: Sequence[One], k: int, n: int) -> tuple[One, ...]:
    """Share ``k`` of ``n`` (from 1): every image in exactly one share, shares equal to within one.

    Which one depends on the keys alone, not on the order of the rows; the order stays. Raises UsageError.
    """
    if not 1 <= k <= n:
        raise UsageError(f"--shard: {k}/{n} is no share; the first of {n} is 1/{n}.")
    ranked = sorted(images, key=lambda image: hashlib.sha256(image.key.encode()).digest())
    mine = {image.key for image in ranked[k - 1 :: n]}
    return tuple(image for image in images if image.key in mine)


# --- rows to images ----------------------------------------------------------------------------------------


class _Maker:
    def __init__(self, sheet: Sheet, presets: Mapping[str, Preset], outputs: Outputs) -> None:
        self.sheet = sheet
        self.outputs = outputs
        self.problems = sheet.problems
        self.images: list[Image] = []
        self.files = 0
        #: What each warning says, with the first row that it is about and how many rows.
        self.said: dict[tuple[str, str], int] = {}
        self.said_at: dict[tuple[str, str], str] = {}
        plain = _plain_newlines(sheet.defaults)
        self.output = plain.pop("output", None)
        self.deriver = Deriver(RowLevel(plain, sheet.defaults_place), presets)

    def run(self) -> tuple[Image, ...]:
        """All images in the order of the manifest. Raises InvalidParameters with every problem."""
        for row in self.sheet.rows:
            self._take(row)
            if len(self.images) > rows.MOST_ROWS or self.files > _MOST_FILES:
                raise UsageError(
                    f"{self.sheet.name}: the manifest makes more than {rows.MOST_ROWS} images"
                    f" or {_MOST_FILES} files.",
                    hint="Split it into several, or make the sweeps smaller.",
                )
        self.problems += self.outputs.conflicts()
        found = list(dict.fromkeys(self.problems))
        if found:
            left_out = len(found) - _MOST_PROBLEMS
            hint = f"{left_out} more problems are not shown." if left_out > 0 else None
            raise InvalidParameters(found[:_MOST_PROBLEMS], hint=hint)
        if not self.images:
            raise rows.nothing_in(self.sheet.name)
        return tuple(self.images)

    def warnings(self) -> tuple[str, ...]:
        """Each warning once, with how many more rows it is about."""
        if self.outputs.dated:
            self._warn("", f"{self.sheet.name}: with {{date}} in an output, every day makes its images anew.")
        return tuple(
            f"{self.said_at[key]}{key[1]}" + (f" ({count - 1} more like this.)" if count > 1 else "")
            for key, count in self.said.items()
        )

    def _warn(self, place: str, words: str) -> None:
        """``words`` may begin with the place of the row; the same about another row counts as the same."""
        about_row = bool(place) and words.startswith(place)
        key = ("row" if about_row else "", words.removeprefix(place) if about_row else words)
        self.said_at.setdefault(key, place if about_row else "")
        self.said[key] = self.said.get(key, 0) + 1 if about_row else 1

    def _take(self, row: Row) -> None:
        given = _plain_newlines(row.given)
        output = given.pop("output", self.output)
        combinations: list[dict[str, object]] = [{}]
        if row.sweep is not None:
            combinations = expand(row.sweep, row.where, self.problems)
            twice = [key for key in (combinations[0] if combinations else {}) if key in given]
            self.problems += [
                Problem(f"{row.where}: {key}", "it is given beside the sweep over it; give one or the other")
                for key in twice
            ]
        inherited = "output" not in row.given and self.output is not None
        stands = self.sheet.defaults_place if inherited else row.where
        template = self.outputs.template(output, f"{stands}: output", self.problems)
        for combination in combinations:
            level = RowLevel({**given, **combination}, row.where, swept=frozenset(combination))
            where = f"{row.where}, sweep {label(combination)}" if combination else row.where
            self._make(level, where, template)

    def _make(self, level: RowLevel, where: str, template: OutputTemplate | None) -> None:
        file_format = None if template is None else template.format
        try:
            derived = self.deriver.derive(level, file_format, "" if template is None else template.text)
        except InvalidParameters as error:
            self.problems += error.problems
            if template is not None and template.is_plain:  # its place can be judged all the same
                self.outputs.settle(template, _stand_in(template), None, where, self.problems)
            return
        request = derived.request
        for words in derived.warnings:
            self._warn(level.place, words)
        if request.samples > MOST_SAMPLES:
            why = f"{request.samples} pictures of one image; more than {MOST_SAMPLES} are not taken"
            self.problems.append(Problem(level.where("samples"), why))
            return
        if template is None:
            return
        settled = self.outputs.settle(template, request, derived.preset, where, self.problems)
        if settled is not None:
            self.files += len(settled.paths)
            self.images.append(Image(settled.key, where, request, settled.destination, settled.paths))


def _stand_in(template: OutputTemplate) -> ImageRequest:
    """Any request for a plain output, to find out whether the output could be made."""
    given = {"prompt": "x", "format": template.format}
    return builder.build([Level(given)], {}, draw_seed=lambda: 0).request


def _plain_newlines(given: Mapping[str, object]) -> dict[str, object]:
    """The values, prompts with plain newlines, as those from a file get them."""
    plain = dict(given)
    for key in ("prompt", "negative_prompt"):
        text = plain.get(key)
        if isinstance(text, str) and "\r" in text:
            plain[key] = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain
