"""Where the images of a manifest go: output texts checked, templates filled, no file made by two images.

Outputs are relative to the manifest's folder and stay inside it, links resolved, unless that was allowed.
Only text decides what an output means (a folder ends in ``/``), so that all machines agree.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.images import disk, naming
from chroma_cli.images.destination import STDOUT, Destination
from chroma_cli.images.naming import Template
from chroma_cli.request import values
from chroma_cli.request.builder import ImageRequest
from chroma_cli.request.schema import SEED_SERVER
from chroma_cli.text import fits_a_name

#: File systems take so many bytes in one part of a path, and the system in all of it.
_PART_MAX: Final = 255
_PATH_MAX: Final = 4000
_LOCALE: Final = (
    "the name cannot be written in this system's locale; set LC_ALL to one of UTF-8, such as C.UTF-8"
)
#: Tells keys from paths; no path begins with it.
_KEY: Final = "key: "


@dataclass(frozen=True)
class OutputTemplate:
    """An output text, read: ``root`` is the absolute folder that all its files share, ``prefix`` that folder
    relative to the manifest's (with ``/`` at the end, or empty), ``name`` the template below it."""

    where: str
    root: str
    prefix: str
    name: str
    parsed: Template

    @property
    def text(self) -> str:
        """The same for every spelling of this output, on every machine."""
        return self.prefix + self.name

    @property
    def format(self) -> str | None:
        """The image format that the ending asks for."""
        return self.parsed.format

    @property
    def is_plain(self) -> bool:
        """Whether the name is the same for every request."""
        return self.parsed.format is not None and not self.parsed.fields


@dataclass(frozen=True)
class Settled:
    """The place of one image: see ``manifest.Image``."""

    key: str
    destination: Destination
    paths: tuple[Path, ...]


class Outputs:
    """All outputs of one manifest. ``folder`` is the manifest's, absolute, links resolved."""

    def __init__(self, folder: str, *, allow_outside: bool, now: float) -> None:
        self._folder = folder
        self._allow_outside = allow_outside
        self._date = naming.date_text(now)
        self._roots: dict[str, tuple[str, str]] = {}
        self._real_folders: dict[str, str] = {}
        #: Who makes a key or a resolved path, and what else wants to.
        self._makers: dict[str, str] = {}
        self._rivals: dict[str, list[str]] = {}
        #: Resolved paths of files, as they are shown.
        self._shown: dict[str, str] = {}
        self.dated = False

    # --- reading an output text --------------------------------------------------------------------------

    def template(self, output: object, where: str, problems: list[Problem]) -> OutputTemplate | None:
        """An output text, or the default for None; None after noting what is wrong with it."""
        text = naming.DEFAULT_TEMPLATE if output is None else output
        try:
            return self._read(text, where)
        except InvalidParameters as error:
            problems += [Problem(where, one.what.rstrip("."), one.suggestion) for one in error.problems]
        except UsageError as error:
            problems.append(Problem(where, error.message.removeprefix("--output: ").rstrip(".")))
        return None

    def _read(self, output: object, where: str) -> OutputTemplate:
        text = _checked_text(output)
        naming.check_fields(text)
        if text.endswith("/"):
            text += naming.DEFAULT_TEMPLATE
        parts = [part for at, part in enumerate(text.split("/")) if part not in ("", ".") or at == 0]
        parts = [part for part in parts if part != "."]
        if not parts:
            raise UsageError(f"{values.show(text)} is a folder; end it with / or name a file")
        fixed = next((at for at, part in enumerate(parts[:-1]) if naming.has_fields(part)), len(parts) - 1)
        if parts[-1] == ".." or ".." in parts[fixed:]:
            raise UsageError("'..' cannot stand there; it may only stand before the first {field}")
        head = "/".join(parts[:fixed]) + ("/" if fixed else "")
        if head not in self._roots:
            self._roots[head] = self._root(head)
        root, prefix = self._roots[head]
        name = "/".join(parts[fixed:])
        parsed = Template.parse(name)
        if "id" in parsed.fields:
            raise UsageError("{id} is not known before the image is made, so no run could find it again")
        if parsed.format is None and parsed.ending_field is None and disk.is_folder(Path(root, name)):
            raise UsageError(f"{values.show(text)} is a folder; end it with / or name a file")
        self.dated = self.dated or "date" in parsed.fields
        return OutputTemplate(where, root, prefix, name, parsed)

    def _root(self, head: str) -> tuple[str, str]:
        """The absolute folder and its spelling relative to the manifest's. ``head`` is "" or ends in /."""
        place = Path(self._folder, head)
        if ".." not in head.split("/") and not Path(head).is_absolute():
            return str(place), head
        root = os.path.realpath(place)  # only the system knows where .. leads behind a link
        try:
            relative = os.path.relpath(root, self._folder)
        except ValueError:  # another drive
            relative = root
        relative = relative.replace(os.sep, "/")
        return root, "" if relative == "." else f"{relative.rstrip('/')}/"

    # --- filling it --------------------------------------------------------------------------------------

    def settle(
        self,
        template: OutputTemplate,
        request: ImageRequest,
        preset: str | None,
        where: str,
        problems: list[Problem],
    ) -> Settled | None:
        """The place of one image, remembered against every other; None after noting what is wrong with it."""
        if request.seed == SEED_SERVER and "seed" in template.parsed.fields:
            why = "the name holds {seed}, and seed -1 leaves that to the server; no run could find it again"
            problems.append(Problem(template.where, why))
            return None
        first = naming.first_number(template.parsed, request.samples)
        known = self._values(template.parsed, request, preset)
        numbers = range(first, first + request.samples)

        def name(number: int) -> str:
            return template.parsed.render(dict(known), number=number, image_format=request.image_format)

        bare = name(first if template.parsed.numbered else 0)
        key = template.prefix + bare
        names = [bare] if first == 0 else [name(number) for number in numbers]
        paths = tuple(Path(f"{template.root}/{one}") for one in names)
        texts = [str(path) for path in paths]
        if not _can_be_written(texts[0]):
            problems.append(Problem(template.where, f"{values.show(key)}: {_LOCALE}"))
            return None
        reals = [self._real(text) for text in texts]
        why_not = self._refusal(names[-1], texts[-1], reals)  # the last number is the longest
        if why_not is not None:
            problems.append(Problem(template.where, f"{values.show(key)}: {why_not}"))
            return None
        self._claim(key, reals, where)
        destination = Destination(
            kind="file",
            root=template.root,
            template=template.name,
            values=known,
            numbers=tuple(numbers),
            image_format=request.image_format,
            size=request.size,
            overwrite=False,
        )
        return Settled(key, destination, paths)

    def _values(
        self, parsed: Template, request: ImageRequest, preset: str | None
    ) -> tuple[tuple[str, str], ...]:
        width, height = request.size
        known: dict[str, object] = {"preset": preset, "date": self._date, "width": width, "height": height}
        fields = parsed.fields - {"index", "ext"}
        for name in fields:
            if name == "slug":
                known[name] = naming.slug(request.prompt)
            elif name not in known:
                known[name] = getattr(request, name)
        return tuple((name, naming.safe_value(known[name])) for name in sorted(fields))

    def _refusal(self, name: str, path: str, reals: list[str]) -> str | None:
        """Why files cannot go there, if so. ``name``, ``path``: the longest, below the root and in full."""
        if _is_long(name, _PART_MAX) and any(_is_long(part, _PART_MAX) for part in name.split("/")):
            return f"a part of the name is longer than {_PART_MAX} bytes"
        if _is_long(path, _PATH_MAX):
            return f"the path is longer than {_PATH_MAX} bytes"
        if not self._allow_outside and not all(is_below(real, self._folder) for real in reals):
            return "it is outside of the manifest's folder, which only --allow-outside allows"
        return None

    def _real(self, path: str) -> str:
        """Where the path leads, links resolved; the last part too, if it is one."""
        folder, slash, name = path.rpartition(os.sep)
        folder = folder or slash
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder).rstrip(os.sep) + os.sep
        return os.path.realpath(path) if _is_link(path) else self._real_folders[folder] + name

    # --- one file, one image -----------------------------------------------------------------------------

    def _claim(self, key: str, reals: list[str], where: str) -> None:
        for name in (_KEY + key, *reals):
            self._shown.setdefault(name, key)
            if self._makers.setdefault(name, where) is not where:
                rivals = self._rivals.setdefault(name, [])
                rivals.append(where)

    def conflicts(self) -> list[Problem]:
        """Every output that two images would make, or that is a file of one and a folder of another."""
        found: dict[tuple[str, str], Problem] = {}
        for name, rivals in self._rivals.items():
            first, second = self._makers[name], rivals[0]
            more = f" (and {len(rivals) - 1} more)" if len(rivals) > 1 else ""
            what = (
                f"makes {values.show(self._shown[name])}, and so does {second}{more}; one output, one image"
            )
            found.setdefault((first, second), Problem(f"{first}: output", what))
        return [*found.values(), *self._files_as_folders()]

    def _files_as_folders(self) -> list[Problem]:
        found = {}
        parents = {name.rpartition(os.sep)[0] for name in self._makers if not name.startswith(_KEY)}
        for name in {str(here) for one in parents for here in (Path(one), *Path(one).parents)}:
            if name in self._makers:
                what = f"{values.show(self._shown[name])} is a file here, and a folder for another output"
                found[name] = Problem(f"{self._makers[name]}: output", what)
        return [found[name] for name in sorted(found)]


def _is_long(text: str, limit: int) -> bool:
    """Whether the text has more bytes than the limit; a character has at most four."""
    return len(text) * 4 > limit and len(os.fsencode(text)) > limit


def _can_be_written(text: str) -> bool:
    try:
        disk.check_name(Path(text))
    except OSError:
        return False
    return True


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def _checked_text(output: object) -> str:
    """The text of an output with ``/`` between its parts. Raises UsageError."""
    if not isinstance(output, str):
        raise UsageError(f"{values.show(output)} is not text")
    if not output.strip():
        raise UsageError("it is empty; name a file, a folder that ends in /, or a template")
    if output == STDOUT:
        raise UsageError("a manifest makes files; - (stdout) cannot be one")
    if not fits_a_name(output):
        raise UsageError(f"{values.show(output)} holds characters that no file name should have")
    if not _can_be_written(output):
        raise UsageError(f"{values.show(output)}: {_LOCALE}")
    return output.replace("\\", "/") if os.name == "nt" else output


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path is inside of a folder; both with links resolved."""
    return path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)
