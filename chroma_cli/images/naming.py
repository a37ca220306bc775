"""How pictures are called: slugs, name templates, endings, and which number comes next. Pure text work.

A name is made of the user's own words (taken as they are) and of values that came from elsewhere, such as
a prompt (made safe for any file system first). What exists on a disk is asked through a callable.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.request.schema import PARAMETERS

#: The true ending of each image format of the gateway.
ENDING_OF: Final[Mapping[str, str]] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
FORMAT_OF_ENDING: Final[Mapping[str, str]] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}

DEFAULT_TEMPLATE: Final = "{slug}-{seed}.{ext}"
#: For a job of which only its id is known (fetched on another machine).
DEFAULT_BY_ID: Final = "{slug}-{id}.{ext}"

_ALIASES: Final = {parameter.option: parameter.name for parameter in PARAMETERS}
_OWN_FIELDS: Final = ("slug", "index", "id", "ext", "date", "preset")
#: Every field that may stand in a template, the short option names included.
FIELDS: Final = tuple(dict.fromkeys((*_OWN_FIELDS, *_ALIASES, *(parameter.name for parameter in PARAMETERS))))
#: Fields that tell the format; behind a dot at the end they are an ending.
_ENDING_FIELDS: Final = ("ext", "format", "image_format")

_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_SLUG_MAX: Final = 40
_VALUE_MAX: Final = 80
#: File names are limited in bytes (255 almost everywhere), and a character may take four of them.
_VALUE_MAX_BYTES: Final = 120
#: Enough text for any slug; a prompt may be a whole book.
_SLUG_LOOKS_AT: Final = 4096
#: Where the search for a free name ends.
NUMBER_MAX: Final = 1_000_000
#: Letters without a decomposition into an ASCII letter and a mark.
_LETTERS: Final = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th", "ð": "d", "ı": "i"}
)
#: Devices that Windows finds in every folder, with any ending.
_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", "conin$", "conout$")
    + tuple(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³")
)
_UNSAFE: Final = re.compile(r'[<>:"/\\|?*]|#(?=#)')


def slug(prompt: str) -> str:
    """The prompt's first words as ``lower-case-ascii``, at most 40 characters; ``image`` without any."""
    folded = prompt[:_SLUG_LOOKS_AT].casefold().translate(_LETTERS)
    plain = "".join(char for char in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(char))
    plain = re.sub("['\u2019]", "", plain).lower()
    text = ""
    for word in re.findall("[a-z0-9]+", plain):
        longer = f"{text}-{word}" if text else word[:_SLUG_MAX]
        if len(longer) > _SLUG_MAX:
            break
        text = longer
    if not text:
        return "image"
    return f"image-{text}" if text in _RESERVED else text


@functools.lru_cache(typed=True)
def safe_value(value: Hashable) -> str:
    """A value as text that can stand anywhere in one part of a path: never empty, at most 80 characters.

    No separators, no control or invisible characters, no dot, hyphen or blank in front, no dot or blank at
    the end, no device name of Windows. ``none`` stands for a value that is empty.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value)[: 8 * _VALUE_MAX]
    text = _UNSAFE.sub("-", "".join(_printable(char) for char in text))
    text = re.sub(" +", " ", text).lstrip(" .-")[:_VALUE_MAX]
    text = text.encode()[:_VALUE_MAX_BYTES].decode(errors="ignore").rstrip(" .")
    if not text:
        return "none"
    return f"_{text}" if text.split(".")[0].rstrip().casefold() in _RESERVED else text


def in_ascii(name: str) -> str:
    """Return a file name that every system can write: each other character becomes a ``_``."""
    return re.sub(r"[^ -~]", "_", _UNSAFE.sub("_", name))


def _printable(char: str) -> str:
    if char.isspace():
        return " "
    return "" if unicodedata.category(char)[0] == "C" else char


def split_ending(name: str) -> tuple[str, str | None]:
    """``("knight", "PNG")`` for ``knight.PNG``; the ending is None where there is none.

    A dot in front does not begin an ending, a dot inside a template's field neither, and one at the very end
    is dropped.
    """
    stem, dot, tail = name.rpartition(".")
    if not dot or not stem.strip("."):
        return name, None
    return (stem, tail) if tail else (stem.rstrip("."), None)


def format_for_ending(output: str) -> str | None:
    """The image format that the ending of a file name or template asks for; None if it asks for none.

    Raises UsageError for an ending that belongs to no format. Not to be asked about a folder.
    """
    return Template.parse(output.replace("\\", "/").rpartition("/")[2]).format


def date_text(epoch: float) -> str:
    """The local day as ``2026-01-31``, for ``{date}``."""
    return datetime.fromtimestamp(epoch).strftime("%Y-%m-%d")


@dataclass(frozen=True)
class Template:
    """A name with fields, checked and split from its ending. ``stem`` may hold folder parts.

    ``ending`` is what the user typed after the last dot, None if that was nothing or a field such as
    ``{ext}`` (then ``ending_field`` names it).
    """

    stem: str
    ending: str | None
    ending_field: str | None

    @classmethod
    def parse(cls, text: str) -> Template:
        """Check every field and the ending; folder parts are separated by ``/``.

        Raises InvalidParameters (a UsageError) naming all unknown fields, UsageError for a foreign ending.
        """
        check_fields(text)
        folder, slash, name = text.rpartition("/")
        stem, tail = split_ending(name)
        if tail is None:
            return cls(folder + slash + stem, None, None)
        fields = _FIELD.findall(tail)
        if fields:
            if tail in tuple(f"{{{field}}}" for field in _ENDING_FIELDS):
                return cls(folder + slash + stem, None, fields[0])
            return cls(text, None, None)
        if tail.lower() not in FORMAT_OF_ENDING:
            raise UsageError(
                f"--output: {name!r} ends in .{tail}, which is none of .png, .jpg, .jpeg, .webp.",
                hint="Leave the ending out, or use one of those.",
            )
        return cls(folder + slash + stem, tail, None)

    @property
    def format(self) -> str | None:
        """The image format that the ending asks for."""
        return None if self.ending is None else FORMAT_OF_ENDING[self.ending.lower()]

    @property
    def fields(self) -> frozenset[str]:
        """The fields used, by the gateway's names (``sampler`` counts as ``sampler_name``)."""
        used = {_ALIASES.get(field, field) for field in _FIELD.findall(self.stem)}
        return frozenset(used)

    @property
    def numbered(self) -> bool:
        """Whether the number has a place of its own in the name."""
        return "index" in self.fields

    def ending_for(self, image_format: str) -> str:
        """The ending a file of this format gets: the typed one if it is true, else the true one."""
        if self.format == image_format and self.ending is not None:
            return self.ending
        if self.ending_field not in (None, "ext"):
            return image_format
        return ENDING_OF[image_format]

    def render(self, values: Mapping[str, str], *, number: int, image_format: str) -> str:
        """The name below its root, with ``/`` between folder parts.

        ``values`` hold file-safe texts by the gateway's names; one that is missing reads ``unknown``.
        Number 0 means none; another one stands in ``{index}``, or behind a hyphen before the ending.
        """
        known = dict(values)
        known["index"] = str(number)
        known["ext"] = ENDING_OF[image_format]
        stem = _FIELD.sub(lambda hit: known.get(_ALIASES.get(hit[1], hit[1]), "unknown"), self.stem)
        suffix = f"-{number}" if number and not self.numbered else ""
        return f"{stem}{suffix}.{self.ending_for(image_format)}"


def has_fields(text: str) -> bool:
    """Whether there is anything to fill in; a brace without partner is plain text."""
    return _FIELD.search(text) is not None


def check_fields(text: str) -> None:
    """Raise InvalidParameters that names every field which is not known, and the known ones."""
    unknown = [field for field in dict.fromkeys(_FIELD.findall(text)) if field not in FIELDS]
    if not unknown:
        return
    problems = []
    for field in unknown:
        near = difflib.get_close_matches(field.split(":")[0].split(".")[0].strip().lower(), FIELDS, 1, 0.6)
        suggestion = f"{{{near[0]}}}" if near else None
        problems.append(Problem("--output", f"unknown field {{{field}}}.", suggestion))
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    raise InvalidParameters(
        problems, hint=f"Fields are replaced as they are, without formats. Known: {known}."
    )


def first_number(template: Template, samples: int) -> int:
    """Where counting starts: a single picture needs no number (0) unless the template asks for one."""
    return 1 if samples > 1 or template.numbered else 0


def free_numbers(count: int, first: int, taken: Callable[[int], bool]) -> tuple[int, ...]:
    """The next ``count`` numbers from ``first`` on that are not taken.

    Raises UsageError when there is none below a million.
    """
    found: list[int] = []
    number = first
    while len(found) < count:
        if number > NUMBER_MAX:
            raise UsageError("--output: a million pictures of this name are there already.")
        if not taken(number):
            found.append(number)
        number += 1
    return tuple(found)
