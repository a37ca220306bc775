"""Where pictures are to go: what ``-o`` means, settled once.

A :class:`Destination` is planned before anything is spent, kept with the job, and read back by another
process in another folder; so everything in it is absolute. Whether the place works is for ``preflight``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from chroma_cli.errors import OutputError, UsageError
from chroma_cli.images import disk, naming
from chroma_cli.images.naming import Template
from chroma_cli.request.schema import SEED_SERVER

Kind = Literal["file", "directory", "template", "stdout"]
STDOUT: Final = "-"


@dataclass(frozen=True)
class Destination:
    """A settled place for the pictures of one job.

    ``template`` is the name below the absolute folder ``root``, its parts separated by ``/``; ``values`` are
    the file-safe texts of its fields that were known at plan time; ``numbers`` holds the number of each
    picture's name (0 for none). ``size`` (pixels) and ``image_format`` are what was asked for.
    """

    kind: Kind
    root: str
    template: str
    values: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]
    image_format: str
    size: tuple[int, int] | None
    overwrite: bool

    @cached_property
    def parsed(self) -> Template:
        return Template.parse(self.template)

    @property
    def late(self) -> frozenset[str]:
        """Fields that only the gateway's answer fills: ``id``, and ``seed`` if the server picks it."""
        return (self.parsed.fields & {"id", "seed"}) - {name for name, _ in self.values}

    def target(
        self, number: int, late: Mapping[str, object] | None = None, image_format: str | None = None
    ) -> Path:
        """The absolute path of the name with this number, for bytes of this format (default: as asked).

        For stdout: a plain name, under which the picture can be kept elsewhere.
        """
        values = {name: naming.safe_value(value) for name, value in _known(late).items()}
        values.update(self.values)  # the planned name is the promised one, whatever seed the answer names
        name = self.parsed.render(values, number=number, image_format=image_format or self.image_format)
        return Path(self.root, name)

    def number(self, ordinal: int) -> int:
        """The number of the picture at this place (from 0) among the job's; more may come than were asked."""
        if ordinal < len(self.numbers):
            return self.numbers[ordinal]
        return max(self.numbers, default=0) + 1 + ordinal - len(self.numbers)

    def folder(self, ordinal: int, late: Mapping[str, object] | None = None) -> Path:
        """The folder of a picture; the root while the folder's own name is not known yet."""
        if self.late <= _known(late).keys():
            return self.target(self.number(ordinal), late).parent
        return Path(self.root)

    def paths(self) -> tuple[str, ...]:
        """The planned paths in the order of the pictures; empty while the names depend on the answer."""
        if self.kind == "stdout" or self.late:
            return ()
        return tuple(str(self.target(number)) for number in self.numbers)

    def promises(self) -> tuple[str, ...]:
        """The planned paths in the one spelling by which two jobs are compared: links in folders resolved."""
        return tuple(promise(Path(path)) for path in self.paths())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the ledger."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "values": dict(self.values)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Destination:
        """The destination again from :meth:`as_dict`, also after a trip through JSON.

        Raises OutputError for anything else.
        """
        try:
            size = record["size"]
            restored = cls(
                kind=record["kind"],
                root=record["root"],
                template=record["template"],
                values=tuple((str(name), str(value)) for name, value in record["values"].items()),
                numbers=tuple(int(number) for number in record["numbers"]),
                image_format=record["image_format"],
                size=None if size is None else (int(size[0]), int(size[1])),
                overwrite=bool(record["overwrite"]),
            )
            sound = (
                restored.kind in ("file", "directory", "template", "stdout")
                and restored.image_format in naming.ENDING_OF
                and (restored.kind == "stdout" or Path(restored.root).is_absolute())
                and "\0" not in restored.root + restored.template
            )
            restored.target(0)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, UsageError) as error:
            raise OutputError("The remembered output place cannot be read.", hint=_SAY_WHERE) from error
        if not sound:
            raise OutputError("The remembered output place makes no sense here.", hint=_SAY_WHERE)
        return restored


_SAY_WHERE: Final = "Say where the picture is to go with -o."


def promise(path: Path) -> str:
    """A path in the spelling of :meth:`Destination.promises`."""
    try:
        return str(path.parent.resolve() / path.name)
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that this locale cannot write
        return str(path)


def wanted_format(output: str | None, *, cwd: str) -> str | None:
    """The image format that the ending of an ``-o`` text asks for; None for a folder, stdout or no ending.

    Raises UsageError for an ending of no image format, InvalidParameters for an unknown field.
    """
    if output is None or output == STDOUT:
        return None
    return None if _means_folder(output, cwd) else naming.format_for_ending(output)


def plan(
    output: str | None,
    *,
    cwd: str,
    values: Mapping[str, object],
    samples: int,
    image_format: str,
    now: float,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    promised: Container[str] = (),
) -> Destination:
    """Settle where the pictures of a job go.

    ``values``: the request's parameters by the gateway's names, plus ``preset``; ``id`` where it is known
    already. ``now``: seconds since the epoch, for ``{date}``. ``size``: the expected pixels. ``promised``:
    what unsettled jobs hold, from :meth:`Destination.promises`. Raises UsageError (exit 2) for a place that
    makes no sense; that a file exists is found by ``preflight.check``.
    """
    if output == STDOUT and samples > 1:
        raise UsageError(
            f"--output: - takes exactly one picture, and {samples} were asked for.",
            hint="Name a file or a folder instead.",
        )
    kind, root, name = _read_output(output, cwd, by_id="seed" not in values)
    template = Template.parse(name)
    if template.format not in (None, image_format):
        raise UsageError(
            f"--output: the ending of {name!r} contradicts --format {image_format}.",
            hint=f"Use the ending .{naming.ENDING_OF[image_format]}, or leave one of the two out.",
        )
    if samples > naming.NUMBER_MAX:
        raise UsageError(f"--samples: no folder has names for {samples} pictures.")
    known = _field_values(template, values, size, now)
    first = naming.first_number(template, samples)
    settled = Destination(
        kind=kind,
        root=root,
        template=name,
        values=known,
        numbers=tuple(range(first, first + samples)),
        image_format=image_format,
        size=size,
        overwrite=overwrite,
    )
    if kind in ("file", "stdout") or settled.late:
        return settled
    numbers = naming.free_numbers(samples, first, _taken(settled, promised))
    return dataclasses.replace(settled, numbers=numbers)


def _taken(settled: Destination, promised: Container[str]) -> Callable[[int], bool]:
    def taken(number: int) -> bool:
        path = settled.target(number)
        if not settled.overwrite and disk.exists(path):
            return True
        return bool(promised) and promise(path) in promised

    return taken


def _means_folder(output: str, cwd: str) -> bool:
    ends = ("/", os.sep, os.altsep or "/")
    last = output.replace("\\", "/").rpartition("/")[2] if os.name == "nt" else output.rpartition("/")[2]
    return output.endswith(ends) or last in (".", "..") or disk.is_folder(Path(cwd, output))


def _read_output(output: str | None, cwd: str, *, by_id: bool) -> tuple[Kind, str, str]:
    """What kind of place this is, its absolute folder, and the name below."""
    default = naming.DEFAULT_BY_ID if by_id else naming.DEFAULT_TEMPLATE
    if output == STDOUT:
        return "stdout", "", default
    if output is None:
        return "template", _absolute(cwd, "."), default
    _check_text(output)
    if disk.is_folder(Path(cwd, output)):
        return "directory", _absolute(cwd, output), default
    naming.check_fields(output)
    text = output.replace("\\", "/") if os.name == "nt" else output
    kind: Kind = "file"
    if _means_folder(output, cwd):
        kind, text = "directory", text.rstrip("/") + "/" + default
    elif naming.has_fields(text):
        kind = "template"
    parts = text.split("/")
    fixed = next((at for at, part in enumerate(parts[:-1]) if naming.has_fields(part)), len(parts) - 1)
    folder = "/".join(parts[:fixed]) or ("/" if text.startswith("/") else ".")
    return kind, _absolute(cwd, folder), "/".join(parts[fixed:])


def _check_text(output: str) -> None:
    """Refuse what no file system takes, before any call trips over it."""
    try:
        os.fsencode(output)
        usable = bool(output.strip()) and "\0" not in output
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UsageError("--output: this is no usable name.", hint="Name a file, a folder, a template, or -.")


def _absolute(cwd: str, folder: str) -> str:
    path = Path(cwd, folder)
    if ".." not in path.parts:
        return str(path)
    try:
        return str(path.resolve())  # only the system knows where .. leads behind a link
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path}: the path is a loop of links.") from error


def _known(values: Mapping[str, object] | None) -> dict[str, object]:
    """Without the seed that only asks the server for one, and without what is not known yet."""
    given = (values or {}).items()
    return {
        name: value for name, value in given if value is not None and (name, value) != ("seed", SEED_SERVER)
    }


def _field_values(
    template: Template, values: Mapping[str, object], size: tuple[int, int] | None, now: float
) -> tuple[tuple[str, str], ...]:
    found: dict[str, object] = {"preset": None, "date": naming.date_text(now)}
    if size is not None:
        found.update(width=size[0], height=size[1])
    found.update(values)
    found["slug"] = naming.slug(str(values.get("prompt") or ""))
    if "seed" not in _known(found):
        found.pop("seed", None)
    return tuple(
        (name, naming.safe_value(found[name]))
        for name in sorted(template.fields - {"index", "ext"})
        if name in found
    )
