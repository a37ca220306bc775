"""What a batch made, kept beside its manifest: ``NAME.toml`` → ``NAME.lock.json``, meant to be committed.

Each shard writes a file of its own (``NAME.K-of-N.lock.json``), all that are present are read. Nothing in
them is trusted: paths are relative, their shape is checked here, where they lead by ``upkeep``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chroma_cli.errors import OutputError, UsageError
from chroma_cli.images import disk
from chroma_cli.images.naming import FORMAT_OF_ENDING, split_ending
from chroma_cli.jobs.derive import CANONICAL
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.request.builder import ImageRequest

VERSION: Final = 1
_MOST_BYTES: Final = 256 * 1024 * 1024
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_REQUEST_ID: Final = re.compile("[A-Za-z0-9_-]{1,128}")
_BAD_IN_PATH: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LARGEST: Final = 2**63 - 1
_ADVICE: Final = (
    "Take it back from version control, or solve the merge conflict in it. If you delete it, pictures that"
    " are there already count as somebody else's and are not touched."
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


def request_digest(request: ImageRequest) -> str:
    """The sha256 of the full request body as canonical JSON."""
    return hashlib.sha256(CANONICAL.encode(request.payload()).encode()).hexdigest()


class Lock:
    """The lock of one manifest, of one shard of it if ``shard`` is (K, N). Safe to use from several threads.

    Nothing is on disk before :meth:`save`.
    """

    def __init__(self, manifest: Manifest, shard: tuple[int, int] | None = None) -> None:
        if manifest.path is None:
            raise UsageError(
                "A manifest from stdin has no lock: there is no file that it could stand beside."
            )
        self.folder = manifest.folder
        self._root = str(self.folder).rstrip("/") + "/"
        self._manifest_name = manifest.path.name
        self._stem = manifest.path.stem
        part = "" if shard is None else f".{shard[0]}-of-{shard[1]}"
        #: The file that this run writes.
        self.path = self.folder / f"{self._stem}{part}.lock.json"
        self._sharded = shard is not None
        self._mutex = threading.Lock()
        #: By the name of the file; this run's own first.
        self._books: dict[str, _Book] = {self.path.name: _Book({}, {}, None)}

    @classmethod
    def load(cls, manifest: Manifest, shard: tuple[int, int] | None = None) -> Lock:
        """Read all lock files of the manifest that are present.

        Raises UsageError for stdin, for a damaged lock, one of a newer chroma, or one of another manifest
        that is still there.
        """
        lock = cls(manifest, shard)
        for name in lock._present():
            lock._books[name] = lock._read(lock.folder / name)
        return lock

    def entries(self, key: str) -> tuple[Entry, ...]:
        """All that is known of an image: this run's own entry first, then the other files' by name."""
        return tuple(book.images[key] for book in self._books.values() if key in book.images)

    def entry(self, image: Image) -> Entry | None:
        """The entry of this image that was made from its request, else the first there is."""
        known = self.entries(image.key)
        digest = request_digest(image.request)
        return next((one for one in known if one.request == digest), known[0] if known else None)

    def place(self, path: str) -> str:
        """The absolute path of a file of an entry, as text."""
        joined = f"{self._root}{path}"
        return os.path.normpath(joined) if path.startswith("..") or os.sep != "/" else joined

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all entries."""
        return frozenset(key for book in self._books.values() for key in book.images)

    def left(self) -> dict[str, frozenset[str]]:
        """Files of earlier requests whose images have other names now: every sha256 that each had."""
        found: dict[str, frozenset[str]] = {}
        for book in self._books.values():
            for path, sha256 in book.left.items():
                found[path] = found.get(path, frozenset()) | {sha256}
        return found

    def record(
        self,
        image: Image,
        files: Iterable[Mapping[str, Any]],
        *,
        seed: int | None,
        request_id: str | None,
        cost: float | None,
    ) -> Entry:
        """Note that an image was made. ``files`` are those of the job's JSON, their paths absolute.

        Files of its earlier entry that have other names are kept in mind as left over.
        """
        made = tuple(self._locked(file) for file in files)
        entry = Entry(request_digest(image.request), seed, request_id, cost, made)
        with self._mutex:
            own = self._books[self.path.name]
            now = {file.path for file in made}
            for old in self.entries(image.key):
                own.left.update({file.path: file.sha256 for file in old.files if file.path not in now})
            for path in now:
                own.left.pop(path, None)
            own.images[image.key] = entry
            own.changed = True
        return entry

    def forget(self, keys: Collection[str], paths: Collection[str]) -> None:
        """Drop the entries of these keys and these left-over files.

        A shard drops them from its own file only; the others belong to other processes.
        """
        with self._mutex:
            for book in self._mine().values():
                found = [book.images.pop(key, None) for key in keys] + [
                    book.left.pop(path, None) for path in paths
                ]
                book.changed = book.changed or any(one is not None for one in found)

    def save(self) -> None:
        """Write what has changed, each file whole or not at all. Raises OutputError."""
        with self._mutex:
            for name, book in self._mine().items():
                if not book.changed:
                    continue
                path, text = self.folder / name, book.to_text(self._manifest_name)
                if text != book.text:
                    try:
                        write_whole(path, text)
                    except OSError as error:
                        why = disk.words(error)
                        raise OutputError(f"The lock {path} could not be written: {why}.") from error
                book.text, book.changed = text, False

    # --- inside ------------------------------------------------------------------------------------------

    def _mine(self) -> dict[str, _Book]:
        """The files that this run may write: a shard its own, a run over everything all of them."""
        return {self.path.name: self._books[self.path.name]} if self._sharded else self._books

    def _present(self) -> list[str]:
        """The names of the lock files that are there."""
        pattern = re.compile(re.escape(self._stem) + r"(\.[0-9]+-of-[0-9]+)?\.lock\.json")
        try:
            return sorted(path.name for path in self.folder.iterdir() if pattern.fullmatch(path.name))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be listed: {disk.words(error)}.") from error

    def _read(self, path: Path) -> _Book:
        text = _read_text(path)
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
            book = _Book(
                {_checked_path(key): _entry_from(one) for key, one in document["images"].items()},
                {_checked_file(one): _checked_digest(sha) for one, sha in document.get("left", {}).items()},
                text,
            )
            owner = document.get("manifest", self._manifest_name)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{path} is damaged: {reason[:200]}.", hint=_ADVICE) from error
        if owner != self._manifest_name and isinstance(owner, str) and self._is_manifest(owner):
            raise UsageError(
                f"{path} belongs to the manifest {owner}; {self._manifest_name} would share it.",
                hint="Give one of the two manifests another name.",
            )
        return book

    def _is_manifest(self, name: str) -> bool:
        """Whether another file beside this manifest would have the same lock."""
        return name == Path(name).name and Path(name).stem == self._stem and disk.exists(self.folder / name)

    def _locked(self, file: Mapping[str, Any]) -> LockedFile:
        path = os.path.relpath(file["path"], self.folder).replace(os.sep, "/")
        numbers = (int(file[name]) for name in ("width", "height", "bytes"))
        return LockedFile(path, str(file["sha256"]), str(file["format"]), *numbers)


@dataclass
class _Book:
    """The content of one lock file: entries by key, left-over files with their sha256, its text on disk."""

    images: dict[str, Entry]
    left: dict[str, str]
    text: str | None
    changed: bool = False

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
            document["left"] = self.left
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


# --- reading what anybody may have written -----------------------------------------------------------------


def _read_text(path: Path) -> str:
    """The text of a regular file of a sane size. Raises UsageError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if path.is_symlink():
            raise UsageError(
                f"{path} is a link; a lock must be a file of its own.", hint="Replace it by a copy."
            )
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"{path} is no regular file, so it cannot be the lock.")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {disk.words(error)}.") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is too large for a lock.", hint=_ADVICE)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is damaged: it is not UTF-8.", hint=_ADVICE) from error


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _entry_from(record: Mapping[str, Any]) -> Entry:
    request_id, files = record["request_id"], record["files"]
    if request_id is not None and not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
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
    if not isinstance(path, str) or not path or _BAD_IN_PATH.search(path):
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
    temp = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
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
