"""What a batch made, kept beside its manifest: ``NAME.toml`` → ``NAME.lock.json``, meant to be committed.

Each shard writes a file of its own (``NAME.K-of-N.lock.json``), all that are present are read. Others write
the same file meanwhile (another run, a pull), so that saving puts this run's changes into what lies there.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chroma_cli.clock import utc_epoch, utc_text
from chroma_cli.errors import OutputError, UsageError
from chroma_cli.images import disk
from chroma_cli.jobs import records
from chroma_cli.jobs.lockfile import (
    Contents,
    Entry,
    InFlight,
    LeftFile,
    LockedFile,
    parse,
    read_text,
    temp_file,
    write_whole,
)
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.request.builder import ImageRequest


def request_digest(request: ImageRequest) -> str:
    """The sha256 of the full request body as canonical JSON."""
    return records.request_digest(request.payload())


#: A change to what a lock file holds; made again on what others have written there meanwhile.
Change = Callable[[Contents], None]


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
        self._contents: dict[str, Contents] = {self.path.name: Contents()}
        #: What this run has changed in each file since it was written last.
        self._changes: dict[str, list[Change]] = {}

    @classmethod
    def load(cls, manifest: Manifest, shard: tuple[int, int] | None = None) -> Lock:
        """Read all lock files of the manifest that are present.

        Raises UsageError for stdin, for a damaged lock, one of a newer chroma, or one of another manifest
        that is still there; OutputError where something else than a file is in its place.
        """
        lock = cls(manifest, shard)
        for name in lock._present():
            lock._take_in(name, read_text(lock.folder / name))
        return lock

    def refresh(self) -> None:
        """Take in what others have written since; what this run has changed stays. Raises as :meth:`load`."""
        with self._mutex:
            for name in self._present():
                self._take_in(name, read_text(self.folder / name))

    def entries(self, key: str) -> tuple[Entry, ...]:
        """All that is known of an image: this run's own entry first, then the other files' by name."""
        return tuple(one.images[key] for one in self._contents.values() if key in one.images)

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
        return frozenset(key for one in self._contents.values() for key in one.images)

    def left(self) -> dict[str, frozenset[LeftFile]]:
        """Files of earlier requests whose images have other names now."""
        found: dict[str, frozenset[LeftFile]] = {}
        for one in self._contents.values():
            for path, file in one.left.items():
                found[path] = found.get(path, frozenset()) | {file}
        return found

    def in_flight(self, image: Image, gateway: str) -> InFlight | None:
        """Return the newest job that a run submitted there for this image's very request and that it did not
        see settled."""
        digest = request_digest(image.request)
        jobs = [one.in_flight[image.key] for one in self._contents.values() if image.key in one.in_flight]
        fitting = [job for job in jobs if job.request == digest and job.gateway == gateway]
        return max(fitting, key=lambda job: utc_epoch(job.submitted_at), default=None)

    def submitted(self, image: Image, request_id: str, gateway: str, at: float) -> None:
        """Note a job in flight: a machine may go down with its ledger, and it is paid for."""
        job = InFlight(request_digest(image.request), request_id, gateway, utc_text(at))

        def note(contents: Contents) -> None:
            contents.in_flight[image.key] = job

        with self._mutex:
            self._change(self.path.name, note)

    def settled(self, keys: Collection[str]) -> None:
        """Drop the jobs in flight of these images."""

        def drop(contents: Contents) -> None:
            for key in keys:
                contents.in_flight.pop(key, None)

        with self._mutex:
            for name, contents in self._mine().items():
                if not contents.in_flight.keys().isdisjoint(keys):
                    self._change(name, drop)

    def outdated(self, keys: Collection[str], before: float) -> frozenset[str]:
        """Return the keys of other images than these whose jobs in flight are older than that moment."""
        return frozenset(
            key
            for contents in self._contents.values()
            for key, job in contents.in_flight.items()
            if key not in keys and utc_epoch(job.submitted_at) < before
        )

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

        Files of its earlier entry that have other names are kept in mind as left over, and none of its jobs
        is in flight any more.
        """
        made = tuple(self._locked(file) for file in files)
        entry = Entry(request_digest(image.request), seed, request_id, cost, made)
        with self._mutex:
            now = {file.path for file in made}
            before = {
                file.path: LeftFile(old.request, file.sha256)
                for old in self.entries(image.key)
                for file in old.files
                if file.path not in now
            }

            def note(contents: Contents) -> None:
                contents.left.update(before)
                for path in now:
                    contents.left.pop(path, None)
                contents.images[image.key] = entry

            self._change(self.path.name, note)
        self.settled((image.key,))
        return entry

    def forget(self, keys: Collection[str], paths: Collection[str]) -> None:
        """Drop the entries of these keys and these left-over files.

        A shard drops them from its own file only; the others belong to other processes.
        """

        def drop(contents: Contents) -> None:
            for key in keys:
                contents.images.pop(key, None)
            for path in paths:
                contents.left.pop(path, None)

        with self._mutex:
            for name, contents in self._mine().items():
                if not contents.images.keys().isdisjoint(keys) or not contents.left.keys().isdisjoint(paths):
                    self._change(name, drop)

    def check_writable(self) -> None:
        """Find out whether this run's own file can be written, by writing it as it is; where there is none,
        none is left. Raises OutputError."""
        with self._mutex, self._writing(self.path.name) as text:
            if text is not None:
                write_whole(self.path, text)
                return
            with contextlib.suppress(FileNotFoundError):
                self.path.lstat()  # raises for a name that is too long
            temp = temp_file(self.path)
            disk.remove(temp)
            os.close(disk.create(temp))
            disk.remove(temp)

    def save(self) -> None:
        """Write what has changed into what lies there by now, each file whole or not at all.

        Raises OutputError, also where what others have written there makes no sense.
        """
        with self._mutex:
            for name in self._mine():
                if not self._changes.get(name):
                    continue
                with self._writing(name):
                    contents = self._contents[name]
                    text = contents.to_text(self._manifest_name)
                    if text != contents.text:
                        write_whole(self.folder / name, text)
                    contents.text = text
                    del self._changes[name]

    # --- inside ------------------------------------------------------------------------------------------

    def _mine(self) -> dict[str, Contents]:
        """The files that this run may write: a shard its own, a run over everything all of them."""
        return {self.path.name: self._contents[self.path.name]} if self._sharded else self._contents

    def _change(self, name: str, change: Change) -> None:
        change(self._contents[name])
        self._changes.setdefault(name, []).append(change)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[str | None]:
        """Keep others from writing that file, and take in what lies there; None where nothing does."""
        path = self.folder / name
        try:
            with disk.held(self.folder):
                there = disk.exists(path) and not path.is_symlink()  # a link is replaced, not followed
                text = read_text(path) if there else None
                if text is not None:
                    self._take_in(name, text)
                yield text
        except OSError as error:
            raise OutputError(
                f"The lock {path} could not be written: {disk.words(error)}.",
                hint="Nothing more is paid for without it: put that right, and run the same command again.",
            ) from error
        except UsageError as error:
            raise OutputError(
                f"The lock cannot be written any more: {error.message}", hint=error.hint
            ) from error

    def _take_in(self, name: str, text: str) -> None:
        """Have what this text of a file says, with what this run has changed in it."""
        known = self._contents.get(name)
        if known is not None and known.text == text:
            return
        contents = self._parsed(self.folder / name, text)
        for change in self._changes.get(name, ()):
            change(contents)
        self._contents[name] = contents

    def _present(self) -> list[str]:
        """The names of the lock files that are there."""
        pattern = re.compile(re.escape(self._stem) + r"(\.[0-9]+-of-[0-9]+)?\.lock\.json")
        try:
            return sorted(path.name for path in self.folder.iterdir() if pattern.fullmatch(path.name))
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be listed: {disk.words(error)}.") from error

    def _parsed(self, path: Path, text: str) -> Contents:
        contents = parse(path, text)
        other = contents.manifest
        if other not in (None, self._manifest_name) and self._is_manifest(str(other)):
            raise UsageError(
                f"{path} belongs to the manifest {other}; {self._manifest_name} would share it.",
                hint="Give one of the two manifests another name.",
            )
        return contents

    def _is_manifest(self, name: str) -> bool:
        """Whether another file beside this manifest would have the same lock."""
        return name == Path(name).name and Path(name).stem == self._stem and disk.exists(self.folder / name)

    def _locked(self, file: Mapping[str, Any]) -> LockedFile:
        path = os.path.relpath(file["path"], self.folder).replace(os.sep, "/")
        numbers = (int(file[name]) for name in ("width", "height", "bytes"))
        return LockedFile(path, str(file["sha256"]), str(file["format"]), *numbers)
