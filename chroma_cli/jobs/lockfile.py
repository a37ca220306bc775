"""The text of one lock file: its entries to and from JSON, read with suspicion, written whole.

Anybody may have written what is read here: a value of the wrong kind, or a path that is not plain and
relative, makes the whole file a damaged one. Where paths lead is for ``upkeep``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chroma_cli.clock import utc_epoch
from chroma_cli.errors import OutputError, UsageError
from chroma_cli.gateway import values
from chroma_cli.images import disk
from chroma_cli.images.naming import FORMAT_OF_ENDING, split_ending
from chroma_cli.text import fits_a_name

VERSION: Final = 1
_MOST_BYTES: Final = 256 * 1024 * 1024
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_LARGEST: Final = 2**63 - 1
_CONFLICT: Final = re.compile("^(<{7}|={7}|>{7})( |\r?$)", re.MULTILINE)
_ADVICE: Final = (
    "Take it back from version control, or delete it: pictures that are in place are recognized by the recipe"
    " inside them or by the job ledger, and are not paid for again."
)


@dataclass(frozen=True)
class LockedFile:
    """One file that was made. ``path`` is relative to the manifest's folder, with ``/``; sides in pixels."""

    path: str
    sha256: str
    format: str
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class Entry:
    """What one image was made from (``request``: see :func:`request_digest`) and became; cost in dollars."""

    request: str
    seed: int | None
    request_id: str | None
    cost: float | None
    files: tuple[LockedFile, ...]


@dataclass(frozen=True)
class LeftFile:
    """A file of an earlier request of an image that has other names now, and that request's digest."""

    request: str
    sha256: str


@dataclass(frozen=True)
class InFlight:
    """A job that was submitted for an image and may not be settled yet: the digest of its request, and what
    it takes to find it again. ``submitted_at`` is in UTC."""

    request: str
    request_id: str
    gateway: str
    submitted_at: str


@dataclass
class Contents:
    """What one lock file holds: entries by key, left-over files by path, jobs in flight by key, the name of
    its manifest, and its text on disk."""

    images: dict[str, Entry] = field(default_factory=dict)
    left: dict[str, LeftFile] = field(default_factory=dict)
    in_flight: dict[str, InFlight] = field(default_factory=dict)
    manifest: str | None = None
    text: str | None = None

    def to_text(self, manifest: str) -> str:
        document: dict[str, Any] = {
            "version": VERSION,
            "manifest": manifest,
            "images": {
                key: {**vars(entry), "files": [vars(file) for file in entry.files]}
                for key, entry in self.images.items()
            },
        }
        if self.left:
            document["left"] = {path: vars(file) for path, file in self.left.items()}
        if self.in_flight:
            document["in_flight"] = {key: vars(job) for key, job in self.in_flight.items()}
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


# --- reading what anybody may have written -----------------------------------------------------------------


def parse(path: Path, text: str) -> Contents:
    """What this text of a lock file says. Raises UsageError for a damaged one, one with a merge conflict in
    it, or one of a newer chroma."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
        version = document["version"]
        if type(version) is not int or version < 1:
            raise ValueError("its version is no number")
        if version > VERSION:
            raise UsageError(
                f"{path} was written by a newer chroma (version {version} of its format).",
                hint="Update chroma.",
            )
        images = {_checked_path(key): _entry_from(one) for key, one in document["images"].items()}
        left = {_checked_file(name): _left_from(one) for name, one in document.get("left", {}).items()}
        in_flight = {
            _checked_path(key): _in_flight_from(one) for key, one in document.get("in_flight", {}).items()
        }
        manifest = document.get("manifest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _check_conflict(path, text)
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is damaged: {reason[:200]}.", hint=_ADVICE) from error
    return Contents(images, left, in_flight, manifest if isinstance(manifest, str) else None, text)


def _check_conflict(path: Path, text: str) -> None:
    """Raise UsageError for a text with the marks of a merge that was left to a person."""
    mark = _CONFLICT.search(text)
    if mark is not None:
        line = text.count("\n", 0, mark.start()) + 1
        raise UsageError(
            f"{path} has the marks of an unsolved merge conflict in it (line {line}).",
            hint="Take either side with git checkout --ours or git checkout --theirs, mark it as solved with"
            " git add, and run this again: pictures of the other side that are in place are recognized, and"
            " are not paid for again.",
        )


def read_text(path: Path) -> str:
    """Return the text of a lock file. Raises OutputError for what is no file of its own, and so could not be
    written either; UsageError for a file that cannot be read."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OutputError(
                f"{path} is no regular file, and the lock has to be there.", hint="Move it away."
            )
        with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= _MOST_BYTES else b""  # with a limit it would take all that memory
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {disk.words(error)}.") from error
    if size > _MOST_BYTES:
        raise UsageError(f"{path} is too large for a lock.", hint=_ADVICE)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is damaged: it is not UTF-8.", hint=_ADVICE) from error


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _entry_from(record: Mapping[str, Any]) -> Entry:
    request_id, files = record["request_id"], record["files"]
    if request_id is not None and values.usable_id(request_id) is None:
        raise ValueError("a request_id makes no sense")
    if not isinstance(files, list):
        raise ValueError("files is no list")
    return Entry(
        request=_checked_digest(record["request"]),
        seed=None if record["seed"] is None else _checked_number(record["seed"], low=-1),
        request_id=request_id,
        cost=_checked_cost(record["cost"]),
        files=tuple(_file_from(file) for file in files),
    )


def _file_from(record: Mapping[str, Any]) -> LockedFile:
    if record["format"] not in ("png", "jpeg", "webp"):
        raise ValueError("a format is none of png, jpeg, webp")
    return LockedFile(
        path=_checked_file(record["path"]),
        sha256=_checked_digest(record["sha256"]),
        format=record["format"],
        width=_checked_number(record["width"], low=1),
        height=_checked_number(record["height"], low=1),
        bytes=_checked_number(record["bytes"], low=1),
    )


def _left_from(record: Mapping[str, Any]) -> LeftFile:
    return LeftFile(_checked_digest(record["request"]), _checked_digest(record["sha256"]))


def _in_flight_from(record: Mapping[str, Any]) -> InFlight:
    request_id, gateway, submitted_at = (record[name] for name in ("request_id", "gateway", "submitted_at"))
    if values.usable_id(request_id) is None:
        raise ValueError("a request_id makes no sense")
    if not isinstance(gateway, str) or not isinstance(submitted_at, str):
        raise ValueError("a job in flight makes no sense")
    utc_epoch(submitted_at)
    return InFlight(_checked_digest(record["request"]), request_id, gateway, submitted_at)


def _checked_digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("a sha256 makes no sense")
    return value


def _checked_number(value: object, *, low: int) -> int:
    if type(value) is not int or not low <= value <= _LARGEST:
        raise ValueError("a number makes no sense")
    return value


def _checked_cost(value: object) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("a cost makes no sense")
    return float(value)


def _checked_path(path: object) -> str:
    """A relative path in its plain spelling; ``..`` only in front, where it is an allowed outside."""
    if not isinstance(path, str) or not path or not fits_a_name(path):
        raise ValueError("a path makes no sense")
    parts = path.split("/")
    while parts[0] == ".." and len(parts) > 1:
        del parts[0]
    if any(part in ("", ".", "..") for part in parts) or (os.name == "nt" and re.search(r"[\\:]", path)):
        raise ValueError("a path is not plain and relative")
    return path


def _checked_file(path: object) -> str:
    """The same for a file that was made; only pictures were."""
    plain = _checked_path(path)
    ending = split_ending(plain.rpartition("/")[2])[1]
    if ending is None or ending.lower() not in FORMAT_OF_ENDING:
        raise ValueError("a file is no picture")
    return plain


def write_whole(path: Path, text: str) -> None:
    """Put the text there in one step, for good; a link there is replaced, not followed. Raises OSError."""
    temp = temp_file(path)
    disk.remove(temp)  # of a run that was killed
    descriptor = disk.create(temp)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            disk.sync_file(file.fileno())
        disk.replace(temp, path)
    except BaseException:
        disk.remove(temp)
        raise
    disk.sync_folder(path.parent)


def temp_file(path: Path) -> Path:
    """The name under which a file is written before it is moved: a short one, however long its own is.

    Always the same, so that the next run replaces what one that was killed has left.
    """
    return path.with_name(f".chroma-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.tmp")
