"""The text of a manifest as rows of keys and values: TOML, JSON Lines or CSV, each told where it stands.

Only the shape is looked at here (syntax, names of keys, cells without a column); what the values mean is for
``manifest``. Hostile text ends as a list of problems like any other.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from chroma_cli.errors import InvalidParameters, Problem, UsageError
from chroma_cli.jobs.sweep import suggest
from chroma_cli.request import values
from chroma_cli.request.builder import SETTABLE

Format = Literal["toml", "jsonl", "csv"]
FORMATS: Final[tuple[Format, ...]] = ("toml", "jsonl", "csv")
#: The option that says which; named in messages.
FORMAT_OPTION: Final = "--manifest-format"

#: What an image may hold, and what a row of CSV and [defaults] may.
PLAIN_KEYS: Final = ("output", "prompt", *SETTABLE)
KEYS: Final = (*PLAIN_KEYS, "sweep")

#: The most images one manifest lists.
MOST_ROWS: Final = 100_000
#: The most bytes that are read of one.
MOST_BYTES: Final = 64 * 1024 * 1024

_BY_ENDING: Final[Mapping[str, Format]] = {
    "toml": "toml",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "csv",
}
_TOML_LINE: Final = re.compile(r"(\[\[?\s*[A-Za-z_\"']|[A-Za-z0-9_.\"' -]+=|#)")
_IMAGE_LINE: Final = re.compile(r"[ \t]*\[\[[ \t]*(?:image|\"image\"|'image')[ \t]*\]\]")
_AT_LINE: Final = re.compile(r" ?\(at line (\d+), column (\d+)\)")
_AT_END: Final = "(at end of document)"
_LONG_NUMBER: Final = re.compile("[0-9_]{4000}")
#: The parser needs time by the square of such a key's length.
_LONG_KEY: Final = re.compile(r"(?<![\w-])(?:[\w-]++\.){200}")
_DELIMITERS: Final = ",;\t"
#: There are some twenty names of columns.
_MOST_COLUMNS: Final = 1000


@dataclass(frozen=True)
class Row:
    """One image as it was written. ``given`` holds the known keys but ``sweep``, which stands apart."""

    where: str
    given: Mapping[str, object]
    sweep: object = None


@dataclass
class Sheet:
    """All rows of one manifest, its defaults, and what is wrong with its shape."""

    name: str
    rows: list[Row] = field(default_factory=list)
    defaults: Mapping[str, object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def defaults_place(self) -> str:
        return f"{self.name}: [defaults]"


def parse(data: bytes, *, name: str, form: Format | None) -> Sheet:
    """The rows of a manifest called ``name``; ``form`` None means by its ending, else by its first line.

    Problems of single rows are collected in the sheet. Raises InvalidParameters for text that cannot be read
    at all (not UTF-8, a syntax error of TOML), UsageError for an unknown kind and for too many rows.
    """
    text = _decoded(data, name)
    form = form or _BY_ENDING.get(name.rpartition(".")[2].lower()) or _sniffed(text, name)
    sheet = Sheet(name)
    {"toml": _read_toml, "jsonl": _read_jsonl, "csv": _read_csv}[form](text, sheet)
    return sheet


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(f"{name}: line {line}", f"it is not UTF-8 (byte {error.start + 1} of the file)")
        raise InvalidParameters([problem], hint="Save it as UTF-8.") from error


def _sniffed(text: str, name: str) -> Format:
    """The kind of a text whose name does not tell."""
    first = next((line.strip() for line in io.StringIO(text) if line.strip()), "")
    if not first:
        raise nothing_in(name)
    if first.startswith("{"):
        return "jsonl"
    if _TOML_LINE.match(first):
        return "toml"
    if any(cell.strip(' "').lower() in PLAIN_KEYS for cell in re.split(f"[{_DELIMITERS}]", first)):
        return "csv"
    raise UsageError(
        f"{name}: this looks like none of TOML, JSON Lines (an object a line), CSV (names in the first row).",
        hint=f"Say what it is with {FORMAT_OPTION} toml, jsonl or csv.",
    )


def nothing_in(name: str) -> UsageError:
    """The error for a manifest without an image."""
    return UsageError(
        f"{name}: the manifest lists no image.",
        hint='List one as [[image]] with output = "…" and prompt = "…" (TOML), or as a line of JSONL or CSV.',
    )


def _count(number: int, name: str) -> None:
    if number > MOST_ROWS:
        raise UsageError(
            f"{name}: the manifest lists more than {MOST_ROWS} images.", hint="Split it into several."
        )


# --- TOML --------------------------------------------------------------------------------------------------


def _read_toml(text: str, sheet: Sheet) -> None:
    import tomllib

    long_key = _LONG_KEY.search(text)
    if long_key is not None and '"' not in text[text.rfind("\n", 0, long_key.start()) + 1 : long_key.start()]:
        place = f"{sheet.name}: line {text.count(chr(10), 0, long_key.start()) + 1}"
        raise InvalidParameters([Problem(place, "a key has hundreds of parts")])
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise InvalidParameters([Problem(sheet.name, "it is nested too deeply")]) from error
    except ValueError as error:  # a number of thousands of digits raises a plain one
        raise InvalidParameters([_toml_problem(str(error), text, sheet.name)]) from error
    for key in document:
        if key not in ("defaults", "image"):
            near = values.nearest(key, ("defaults", "image"))
            sheet.problems.append(Problem(f"{sheet.name}: {values.show(key)}", _NO_TOP_KEY, near))
    defaults = document.get("defaults", {})
    if isinstance(defaults, dict):
        if "sweep" in defaults:
            sheet.problems.append(
                Problem(f"{sheet.defaults_place}: sweep", "a sweep belongs to one [[image]]")
            )
        sheet.defaults = _known(defaults, PLAIN_KEYS, sheet.defaults_place, sheet.problems, ignore=("sweep",))
    else:
        sheet.problems.append(Problem(sheet.defaults_place, "it is not a table; write [defaults]"))
    images = document.get("image", [])
    if not isinstance(images, list):
        sheet.problems.append(
            Problem(f"{sheet.name}: image", "write each image as [[image]], in two brackets")
        )
        return
    _count(len(images), sheet.name)
    lines = [at for at, line in enumerate(text.split("\n"), start=1) if _IMAGE_LINE.match(line)]
    for number, image in enumerate(images, start=1):
        # Inside of a text of several lines such a line is none; then the number has to do.
        line = f" (line {lines[number - 1]})" if len(lines) == len(images) else ""
        _take(image, f"{sheet.name}: [[image]] {number}{line}", sheet)


_NO_TOP_KEY: Final = "there is no such key at the top level, only [defaults] and [[image]]"


def _toml_problem(message: str, text: str, name: str) -> Problem:
    """The parser's message with the line in front."""
    hit = _AT_LINE.search(message)
    number = _LONG_NUMBER.search(text)
    if hit is not None:
        line, what = int(hit[1]), f"{_AT_LINE.sub('', message)} (column {hit[2]})"
    elif _AT_END in message:
        line, what = text.rstrip().count("\n") + 1, message
    elif number is not None:
        line, what = text.count("\n", 0, number.start()) + 1, "a number has thousands of digits"
    else:
        return Problem(name, f"it is not valid TOML: {message}")
    plain = "".join(char if char.isprintable() else "?" for char in what)
    return Problem(f"{name}: line {line}", f"it is not valid TOML: {plain}")


def _take(entry: object, place: str, sheet: Sheet) -> None:
    """One image of TOML or JSON Lines."""
    if not isinstance(entry, dict):
        sheet.problems.append(Problem(place, f"{values.show(entry)} is not a table of keys and values"))
        return
    given = _known(entry, KEYS, place, sheet.problems)
    sweep = given.pop("sweep", None)
    sheet.rows.append(Row(place, given, sweep))


def _known(
    entry: Mapping[str, Any],
    known: Sequence[str],
    place: str,
    problems: list[Problem],
    ignore: Sequence[str] = (),
) -> dict[str, object]:
    """The known keys with a value; every other key is a problem."""
    found: dict[str, object] = {}
    for key, value in entry.items():
        if key in known:
            if value is not None:
                found[key] = value
        elif key not in ignore:
            problems.append(Problem(f"{place}: {_shown(key)}", "there is no such key", suggest(key, known)))
    return found


def _shown(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]{1,60}", key) else values.show(key)


# --- JSON Lines --------------------------------------------------------------------------------------------


class _Repeated(ValueError):
    """A key stands twice in one object."""


def _read_jsonl(text: str, sheet: Sheet) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{sheet.name}: line {number}"
        try:
            entry = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            what = f"it is not one whole JSON object: {error.msg} (column {error.pos + 1})"
            sheet.problems.append(Problem(place, what))
        except RecursionError:
            sheet.problems.append(Problem(place, "it is nested too deeply"))
        except _Repeated as error:
            sheet.problems.append(Problem(f"{place}: {_shown(str(error))}", "the key stands there twice"))
        except ValueError as error:
            sheet.problems.append(Problem(place, f"it is not JSON: {values.show(str(error))[1:-1]}"))
        else:
            _take(entry, place, sheet)
            _count(len(sheet.rows), sheet.name)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Repeated(key)
        found[key] = value
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


# --- CSV ---------------------------------------------------------------------------------------------------


def _read_csv(text: str, sheet: Sheet) -> None:
    import csv

    csv.field_size_limit(MOST_BYTES)  # a prompt may be long; the file's size is limited already
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    columns: list[str] | None = None
    try:
        line = 1
        for cells in reader:
            first_line, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _header(cells, f"{sheet.name}: line {first_line}", sheet.problems)
            else:
                _take_cells(cells, columns, f"{sheet.name}: line {first_line}", sheet)
                _count(len(sheet.rows), sheet.name)
    except csv.Error as error:
        sheet.problems.append(Problem(f"{sheet.name}: line {reader.line_num}", f"it is not CSV: {error}"))


def _header(cells: Sequence[str], place: str, problems: list[Problem]) -> list[str]:
    """The names of the columns; "" for one without a name or with an unknown one."""
    if len(cells) > _MOST_COLUMNS:
        raise UsageError(f"{place}: it has {len(cells)} columns; more than {_MOST_COLUMNS} are not taken.")
    names = [cell.strip() for cell in cells]
    if not any(name in PLAIN_KEYS for name in names):
        known = ", ".join(PLAIN_KEYS)
        problems.append(Problem(place, f"the first row must name the columns; there are {known}"))
        return ["*"] * len(names)
    columns: list[str] = []
    for name in names:
        if name in columns and name:
            problems.append(Problem(f"{place}: {_shown(name)}", "there are two columns of this name"))
        elif name == "sweep":
            problems.append(
                Problem(f"{place}: sweep", "a table of text has no sweeps; write one row for each")
            )
        elif name and name not in PLAIN_KEYS:
            problems.append(
                Problem(f"{place}: {_shown(name)}", "there is no such column", suggest(name, PLAIN_KEYS))
            )
        columns.append(name if name in PLAIN_KEYS and name not in columns else "*" if name else "")
    return columns


def _take_cells(cells: Sequence[str], columns: Sequence[str], place: str, sheet: Sheet) -> None:
    given: dict[str, object] = {}
    for at, cell in enumerate(cells):
        column = columns[at] if at < len(columns) else ""
        if not cell.strip() or column == "*":  # a column that is reported already
            continue
        if column:
            given[column] = cell if column in ("prompt", "negative_prompt") else cell.strip()
            continue
        if at >= len(columns):
            what = f"the row has {len(cells)} cells, and there are {len(columns)} columns"
            sheet.problems.append(Problem(place, what))
        else:
            sheet.problems.append(Problem(place, f"cell {at + 1} ({values.show(cell)}) has no column name"))
        break
    sheet.rows.append(Row(place, given))
