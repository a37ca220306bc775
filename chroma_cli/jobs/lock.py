"""What a batch made, kept beside its manifest: ``NAME.toml`` → ``NAME.lock.json``, meant to be committed.

Each shard writes a file of its own (``NAME.K-of-N.lock.json``), all that are present are read.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from chroma_cli.errors import OutputError, UsageError
from chroma_cli.images import disk
from chroma_cli.jobs.derive import CANONICAL
from chroma_cli.jobs.lockfile import Book, Entry, LockedFile, read_book, write_whole
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.request.builder import ImageRequest


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
        self._books: dict[str, Book] = {self.path.name: Book()}

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

    def _mine(self) -> dict[str, Book]:
        """The files that this run may write: a shard its own, a run over everything all of them."""
        return {self.path.name: self._books[self.path.name]} if self._sharded else self._books

    def _present(self) -> list[str]:
        """The names of the lock files that are there."""
        pattern = re.compile(re.escape(self._stem) + r"(\.[0-9]+-of-[0-9]+)?\.lock\.json")
        try:
            return sorted(path.name for path in self.folder.iterdir() if pattern.fullmatch(path.name))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be listed: {disk.words(error)}.") from error

    def _read(self, path: Path) -> Book:
        book = read_book(path)
        if book.manifest not in (None, self._manifest_name) and self._is_manifest(str(book.manifest)):
            raise UsageError(
                f"{path} belongs to the manifest {book.manifest}; {self._manifest_name} would share it.",
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
