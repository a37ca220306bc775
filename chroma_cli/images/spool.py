"""The temp file that a picture streams into, beside its final name; and where it goes when that place fails.

What was paid for may come only once. So when a write fails, everything so far moves to a haven, the rest
follows it there, and the error is kept for the end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from chroma_cli.errors import BrokenImage, OutputError
from chroma_cli.images import disk
from chroma_cli.images.destination import Destination

#: About eight times the largest picture of the model as an unpacked PNG.
MAX_IMAGE_BYTES: Final = 100_000_000

_HEAD: Final = 32
_PIECE: Final = 256 * 1024
_ATTEMPTS: Final = 1000
_TOKEN: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


def temp_name(token: str, ordinal: int | str, attempt: int = 0) -> str:
    """The name of a job's temp file. ``token`` (letters, digits, _) is the job's own, for its sweep."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("a token is 1 to 64 letters, digits or _")
    again = f"-{attempt}" if attempt else ""
    return f".chroma-{token}-{ordinal}{again}.part"


def havens(rescue_dir: str) -> Iterator[Path]:
    """Where a picture can stay when its own place fails, best first."""
    yield Path(rescue_dir)
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())


class Spool:
    """One picture on its way to the disk; a sink with ``write`` and ``reset``.

    As a context manager it discards itself at the end unless it was placed or kept. ``trouble`` is the error
    that drove it away from its place to a haven (``in_haven``); pictures for stdout begin in a haven.
    ``path`` is the temp file, ``size`` its bytes so far, ``head`` the first 32 of them. May be written from
    another thread than the one that made it.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        token: str,
        ordinal: int,
        rescue_dir: str,
        late: Mapping[str, object] | None = None,
        adopt: Path | None = None,
    ) -> None:
        """Make the file, with missing parent folders. Raises OutputError if there is no place at all.

        ``adopt`` takes up a temp file of :func:`leftovers` instead, as it is; raises OSError if that fails.
        """
        self.ordinal = ordinal
        self.trouble: OSError | None = None
        self.in_haven = False
        self.size = 0
        self.head = b""
        self._token = token
        self._hash = hashlib.sha256()
        self._rescue_dir = rescue_dir
        self._havens = havens(rescue_dir)
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self.path = Path()
        if adopt is not None:
            self._take_up(adopt)
            return
        if destination.kind == "stdout":
            self._move_over(None)
            return
        try:
            self._open_in(destination.folder(ordinal, late))
        except OSError as error:
            self._move_over(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append. Raises BrokenImage over the byte limit, OutputError when no place takes more bytes."""
        with self._lock:
            if self.size + len(data) > MAX_IMAGE_BYTES:
                raise BrokenImage(f"The picture is larger than {MAX_IMAGE_BYTES // 1_000_000} MB.")
            rest = memoryview(data)
            while rest:
                try:
                    done = os.write(self._open(), rest)
                except OSError as error:
                    self._move_over(error)
                    continue
                self._hash.update(rest[:done])
                if len(self.head) < _HEAD:
                    self.head = (self.head + bytes(rest[: min(done, _HEAD)]))[:_HEAD]
                self.size += done
                rest = rest[done:]

    def reset(self) -> None:
        """Empty it, for a download that begins again."""
        with self._lock:
            descriptor = self._open()
            if not self.size:
                return
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            self.size, self.head, self._hash = 0, b"", hashlib.sha256()

    def reader(self) -> BinaryIO:
        """The bytes from the start as a file of its own; to be closed before the next write."""
        copy = os.dup(self._open())
        try:
            os.lseek(copy, 0, os.SEEK_SET)
            return os.fdopen(copy, "rb", _PIECE)
        except BaseException:
            os.close(copy)
            raise

    def sync(self) -> None:
        """Have the bytes on the disk before this returns. Raises OSError."""
        disk.sync_file(self._open())

    def close(self) -> None:
        """Let go of the file; the file itself stays."""
        with self._lock:
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                os.close(descriptor)

    def reopen(self) -> None:
        """Take the file up again after :meth:`close`. Raises OSError."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = disk.open_again(self.path)

    def discard(self) -> None:
        """Close, and remove the temp file if it is still there."""
        self.close()
        if self.path.name:
            disk.remove(self.path)
            self.path = Path()

    def placed(self) -> None:
        """The file has a name of its own now, so discarding does not touch it."""
        self.path = Path()
        self.close()

    def copy_to(self, folder: Path) -> None:
        """Go on in another folder (of another file system) with everything so far. Raises OSError."""
        old_path, old = self.path, self._descriptor
        self._open_in(folder)
        try:
            if old is not None:
                self._copy(old)
        except BaseException:
            self._abandon_new(old_path, old)
            raise
        self.in_haven = False
        if old is not None:
            os.close(old)
            disk.remove(old_path)

    def retreat(self, error: OSError) -> None:
        """Take the bytes to a haven because of this error. Raises OutputError if none takes them."""
        with self._lock:
            self._move_over(error)

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the spool is closed")
        return self._descriptor

    def _open_in(self, folder: Path) -> None:
        for attempt in range(_ATTEMPTS):
            path = folder / temp_name(self._token, self.ordinal, attempt)
            try:
                self._descriptor = disk.create_in(folder, path)
            except FileExistsError:
                # Left by an earlier run, or still in use by a worker that was given up.
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            self.path = path
            return

    def _take_up(self, path: Path) -> None:
        self._descriptor = disk.open_again(path)
        self.path = path
        self.in_haven = path.parent in tuple(havens(self._rescue_dir))
        while data := os.read(self._descriptor, _PIECE):
            self._hash.update(data)
            self.head = self.head or data[:_HEAD]
            self.size += len(data)

    def _copy(self, old: int) -> None:
        """Copy what was written so far, and see that it is still what was written."""
        check = hashlib.sha256()
        os.lseek(old, 0, os.SEEK_SET)
        left = self.size
        while left:
            piece = memoryview(os.read(old, min(left, _PIECE)))
            if not piece:
                break
            check.update(piece)
            left -= len(piece)
            while piece:
                piece = piece[os.write(self._open(), piece) :]
        if check.digest() != self._hash.digest():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _abandon_new(self, old_path: Path, old: int | None) -> None:
        new_path, new = self.path, self._descriptor
        self.path, self._descriptor = old_path, old
        if new is not None:
            os.close(new)
        disk.remove(new_path)

    def _move_over(self, error: OSError | None) -> None:
        """Go on in the next haven that takes what is here so far."""
        trouble = error
        for haven in self._havens:
            try:
                if not disk.is_folder(haven):
                    haven.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.copy_to(haven)
            except OSError as another:
                trouble = trouble or another
                continue
            self.in_haven = True
            self.trouble = self.trouble or error
            return
        self._havens = havens(self._rescue_dir)
        reason = disk.words(trouble) if trouble else "there is no folder for temporary files"
        raise OutputError(f"The picture cannot be written anywhere: {reason}.") from trouble


def leftovers(
    destination: Destination, token: str, *, rescue_dir: str, late: Mapping[str, object] | None = None
) -> list[tuple[int, Path]]:
    """The job's temp files, wherever they can be, with the ordinals of their pictures.

    For whoever takes a job over from an owner that is gone: what came only once may still be whole in there
    (give it to :class:`Spool` as ``adopt``). :func:`sweep_all` removes what is left.
    """
    found = []
    for folder in _folders(destination, rescue_dir, late):
        for path in _temp_files(folder, token):
            ordinal = path.name.removeprefix(f".chroma-{token}-").split("-")[0].removesuffix(".part")
            if ordinal.isdecimal():
                found.append((int(ordinal), path))
    return sorted(found)


def sweep(folder: str | Path, token: str) -> int:
    """Remove the job's temp files from a folder and say how many there were.

    A folder that cannot be read counts as empty.
    """
    found = list(_temp_files(Path(folder), token))
    for path in found:
        disk.remove(path)
    return len(found)


def sweep_all(
    destination: Destination, token: str, *, rescue_dir: str, late: Mapping[str, object] | None = None
) -> int:
    """Remove the job's temp files wherever they can be: by the target, above it, in the havens."""
    found = sum(sweep(folder, token) for folder in _folders(destination, rescue_dir, late))
    # A probe may have been tried in a folder above one that did not exist yet.
    for folder in Path(destination.root).parents:
        probe = folder / temp_name(token, "probe")
        if disk.exists(probe):
            disk.remove(probe)
            found += 1
    return found


def _folders(destination: Destination, rescue_dir: str, late: Mapping[str, object] | None) -> list[Path]:
    folders = list(havens(rescue_dir))
    if destination.kind != "stdout":
        folders.append(Path(destination.root))
        folders.extend(destination.folder(ordinal, late) for ordinal in range(len(destination.numbers)))
    return list(dict.fromkeys(folders))


def _temp_files(folder: Path, token: str) -> Iterator[Path]:
    pattern = re.compile(re.escape(f".chroma-{token}-") + r"[a-z0-9-]+\.part")
    with contextlib.suppress(OSError, ValueError), os.scandir(folder) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                yield Path(entry.path)
