"""How the files of a manifest stand against its lock: what is to be made, was changed, or is left over.

Owns the only deletion of pictures. A file counts as ours while its sha256 is the one in the lock; sizes and
times of files that were looked at are remembered in the state directory, so that a look is cheap.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from chroma_cli.images import disk
from chroma_cli.jobs import origin
from chroma_cli.jobs.lock import Lock, request_digest
from chroma_cli.jobs.lockfile import Entry, LeftFile, LockedFile, write_whole
from chroma_cli.jobs.manifest import Image, Manifest
from chroma_cli.jobs.outputs import is_below
from chroma_cli.jobs.records import JobRow

State = Literal["unchanged", "missing", "changed-request", "edited", "foreign"]

_CACHE_VERSION: Final = 1
#: Stands for the sha256 of what is no readable regular file: no lock holds it.
_UNREADABLE: Final = ""


def inspect(image: Image, lock: Lock | None, *, deep: bool, stat_cache: StatCache) -> State:
    """How one image stands.

    ``unchanged``: made from this very request, every file as it was made. ``missing``: a file is not there.
    ``changed-request``: the files are ours, made from another request. ``edited``: a file of ours was changed
    since, or cannot be read. ``foreign``: something is there that the lock does not know. The last two must
    not be overwritten without being told to. ``deep``: read every file, whatever its size and times.
    """
    known = _usable(image, lock)
    digest = request_digest(image.request)
    shas: dict[str, set[str]] = {}
    for _, files in known:
        for path, file in files:
            shas.setdefault(path, set()).add(file.sha256)
    made = next((files for entry, files in known if entry.request == digest and files), ())
    seen: dict[str, str] = {}
    for path in dict.fromkeys((*(str(path) for path in image.paths), *(path for path, _ in made))):
        sha = stat_cache.sha256(path, deep=deep)
        if sha is None:
            continue
        if path not in shas:
            return "foreign"
        if sha not in shas[path]:
            return "edited"
        seen[path] = sha
    if any(
        entry.request == digest and files and all(seen.get(path) == file.sha256 for path, file in files)
        for entry, files in known
    ):
        return "unchanged"
    return "missing" if not seen or any(path not in seen for path, _ in made) else "changed-request"


def _usable(image: Image, lock: Lock | None) -> list[tuple[Entry, list[tuple[str, LockedFile]]]]:
    """The entries of an image with the absolute paths of their files.

    An entry whose files are in other folders than the image's is none of ours: nobody made it.
    """
    if lock is None:
        return []
    folders = {str(path).rpartition(os.sep)[0] for path in image.paths}
    found = []
    for entry in lock.entries(image.key):
        files = [(lock.place(file.path), file) for file in entry.files]
        if all(path.rpartition(os.sep)[0] in folders for path, _ in files):
            found.append((entry, files))
    return found


# --- looking at files --------------------------------------------------------------------------------------


class StatCache:
    """The sha256 of files by size, times and inode, so that an unchanged file need not be read again.

    Kept in the state directory, one file for each manifest; whatever is wrong with that file, it is only
    slower. A change within the resolution of the file system's clock that keeps the size shows with ``deep``.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = _read_cache(path)
        self._news: dict[str, list[object]] = {}

    @classmethod
    def load(cls, state_dir: Path | None, manifest: Manifest) -> StatCache:
        """What is remembered of this manifest's files; nothing for stdin, nor without a state directory."""
        if manifest.path is None or state_dir is None:
            return cls(None)
        name = hashlib.sha256(os.fsencode(manifest.path)).hexdigest()[:32]
        return cls(state_dir / "batch" / f"{name}.json")

    def sha256(self, path: str, *, deep: bool) -> str | None:
        """The sha256 of the file at this absolute path.

        None when nothing is there, "" for what is no readable regular file. ``deep``: read it in any case.
        """
        try:
            mark = _mark(os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):
            return _UNREADABLE
        remembered = self._known.get(path)
        if not deep and remembered is not None and remembered[:-1] == mark:
            return str(remembered[-1])
        return self._read(path)

    def remember(self, path: Path, sha256: str) -> None:
        """Note the sha256 of a file that was written just now."""
        with contextlib.suppress(OSError):
            self._note(str(path), _mark(os.lstat(path)), sha256)

    def save(self) -> None:
        """Write what is new; what other processes noted meanwhile stays. Files that are gone are dropped."""
        if self._path is None or not self._news:
            return
        merged = {**_read_cache(self._path), **self._news}
        document = {
            "version": _CACHE_VERSION,
            "files": {path: mark for path, mark in merged.items() if os.path.lexists(path)},
        }
        with contextlib.suppress(OSError):  # the next look is slower, that is all
            disk.make_folders(self._path.parent)
            write_whole(self._path, json.dumps(document, separators=(",", ":")))
            self._news.clear()

    def _read(self, path: str) -> str:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    return _UNREADABLE
                sha = hashlib.file_digest(file, "sha256").hexdigest()
                if _mark(os.fstat(file.fileno())) == _mark(before):
                    self._note(path, _mark(before), sha)
                return sha
        except OSError:
            return _UNREADABLE

    def _note(self, path: str, mark: list[object], sha: str) -> None:
        self._known[path] = self._news[path] = [*mark, sha]


def _mark(status: os.stat_result) -> list[object]:
    return [status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read_cache(path: Path | None) -> dict[str, list[object]]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_bytes())
        if document["version"] != _CACHE_VERSION:
            return {}
        return {
            name: mark
            for name, mark in document["files"].items()
            if isinstance(mark, list) and mark and isinstance(mark[-1], str)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


# --- what the manifest dropped -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Leftover:
    """A file of an image that the manifest dropped or renamed. ``name`` is relative to the folder; ``made``
    is what the lock says of it when it was made."""

    path: Path
    name: str
    made: frozenset[LeftFile]


@dataclass(frozen=True)
class Pruned:
    """What became of the leftovers: files removed, files kept and why, and files that want a yes."""

    removed: tuple[Path, ...]
    kept: tuple[tuple[Path, str], ...]
    doubtful: tuple[Path, ...]


def leftovers(lock: Lock, manifest: Manifest) -> tuple[Leftover, ...]:
    """The files that are still there, inside of the manifest's folder, and that no image of the whole
    manifest makes any more. Sorted by name."""
    current = {image.key for image in manifest.images}
    dropped: dict[str, set[LeftFile]] = {name: set(made) for name, made in lock.left().items()}
    for key in lock.keys - current:
        for entry in lock.entries(key):
            for file in entry.files:
                dropped.setdefault(file.path, set()).add(LeftFile(entry.request, file.sha256))
    there = [
        name for name in sorted(dropped) if not name.startswith("../") and disk.exists(lock.folder / name)
    ]
    if not there:
        return ()
    wanted = {_real(path) for image in manifest.images for path in image.paths}
    wanted |= {_real(lock.folder / name) for key in current for name in _names(lock.entries(key))}
    return tuple(
        Leftover(lock.folder / name, name, frozenset(dropped[name]))
        for name in there
        if _real(lock.folder / name) not in wanted
    )


def prune(
    lock: Lock, manifest: Manifest, rows: Sequence[JobRow], agreed: Callable[[Sequence[Path]], bool]
) -> Pruned:
    """Remove the leftovers that are as they were made, and forget all of them; the caller saves the lock.

    Only regular files inside of the folder, reached without a link. ``rows`` are the ledger's jobs with files
    there. What neither they nor the recipe inside know as made from the lock's entry is removed if ``agreed``
    to, and else stays known, as does what cannot be removed.
    """
    removed: list[Path] = []
    kept: list[tuple[Path, str]] = []
    stuck: set[str] = set()

    def remove(one: Leftover) -> None:
        why = _why_kept(one, lock.folder)
        if why is None:
            try:
                one.path.unlink()
            except FileNotFoundError:
                return  # another machine's prune was faster
            except OSError as error:
                why = disk.words(error)
                stuck.add(one.name)
        if why is None:
            removed.append(one.path)
        else:
            kept.append((one.path, why))

    doubtful: list[Leftover] = []
    for one in leftovers(lock, manifest):
        if _why_kept(one, lock.folder) is None and not _is_known(one, rows):
            doubtful.append(one)
        else:
            remove(one)
    if doubtful and agreed([one.path for one in doubtful]):
        for one in doubtful:
            remove(one)
        doubtful = []
    stuck.update(one.name for one in doubtful)
    current = {image.key for image in manifest.images}
    gone = [key for key in lock.keys - current if not stuck & _names(lock.entries(key))]
    lock.forget(gone, lock.left().keys() - stuck)
    for folder in dict.fromkeys(path.parent for path in removed):
        with contextlib.suppress(OSError):
            disk.sync_folder(folder)
    return Pruned(tuple(removed), tuple(kept), tuple(one.path for one in doubtful))


def _names(entries: Iterable[Entry]) -> set[str]:
    return {file.path for entry in entries for file in entry.files}


def _why_kept(one: Leftover, folder: Path) -> str | None:
    """Why a leftover must not be removed; None if it may."""
    if os.path.realpath(one.path) != os.path.normpath(one.path) or not is_below(str(one.path), str(folder)):
        return "it is behind a link"
    return None if _sha256(one) in {made.sha256 for made in one.made} else "it was changed since it was made"


def _is_known(one: Leftover, rows: Sequence[JobRow]) -> bool:
    sha = _sha256(one)
    return origin.is_known(one.path, sha, {made.request for made in one.made if made.sha256 == sha}, rows)


def _sha256(one: Leftover) -> str:
    return StatCache(None).sha256(str(one.path), deep=True) or _UNREADABLE


def _real(path: Path) -> str:
    """The path with the links of its folders resolved, the one spelling to compare by."""
    return f"{os.path.realpath(path.parent)}/{path.name}"
