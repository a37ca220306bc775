"""One run of a manifest at a time: a lock of the system's, which dies with the process that holds it.

It lies beside the manifest (``.NAME.running``, for a share ``.NAME.K-of-N.running``), so that it also holds
between accounts and, where the file system takes locks over the network, between machines on a shared folder.
A run of the whole manifest excludes runs of its shares; shares exclude only themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chroma_cli.errors import ChromaError, OutputError
from chroma_cli.images import disk

_TAKEN: Final = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))
_TRIES: Final = 20


class AlreadyRunning(ChromaError):
    """Another run works on the same manifest, or the same share of it."""

    type = "already_running"
    default_hint = "Let it end, or stop it; what it has made is not made again."


class RunLock:
    """Held from :meth:`acquire` to :meth:`release`, or as a context manager.

    ``certain`` is False where the file system knows no locks, so that a second run would not be noticed.
    """

    def __init__(self, manifest: Path, shard: tuple[int, int] | None = None) -> None:
        self.certain = True
        self._manifest = manifest
        whole = manifest.with_name(f".{manifest.name}.running")
        self._files = [_LockFile(whole, shared=shard is not None)]
        if shard is not None:
            share = f".{manifest.name}.{shard[0]}-of-{shard[1]}.running"
            self._files.append(_LockFile(manifest.with_name(share)))

    def acquire(self) -> None:
        """Raises :class:`AlreadyRunning`; :class:`OutputError` where the folder takes no files."""
        for file in self._files:
            try:
                if not file.take():
                    raise AlreadyRunning(
                        f"{self._manifest} is being worked on by another run{file.holder()}."
                    )
            except OSError as error:
                self.release()
                raise OutputError(
                    f"Nothing can be written beside {self._manifest}: {disk.words(error)}.",
                    hint="The lock that says what was made belongs there, so the folder must be writable.",
                ) from error
            except AlreadyRunning:
                self.release()
                raise
            self.certain = self.certain and file.certain

    def release(self) -> None:
        """Let go, and take the files away."""
        for file in reversed(self._files):
            file.drop()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class _LockFile:
    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self.certain = True
        self._shared = shared
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is ours now. Raises OSError where the file cannot be made."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        for _ in range(_TRIES):
            descriptor = os.open(self.path, flags, 0o666)
            try:
                taken = _lock(descriptor, shared=self._shared)
            except OSError:
                taken, self.certain = True, False
            if not taken:
                os.close(descriptor)
                return False
            if self._is_current(descriptor):
                self._descriptor = descriptor
                self._sign()
                return True
            os.close(descriptor)  # the one before took its file away just now
        return False

    def holder(self) -> str:
        """Who has it, as far as that can be read."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            words = self.path.read_text("ascii")[:100].split()
            if len(words) == 2 and words[0].isdigit() and words[1].isprintable():
                return f" (process {words[0]} on {words[1]})"
        return ""

    def drop(self) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        alone = not self._shared
        if self._shared:
            with contextlib.suppress(OSError):
                alone = _lock(descriptor, shared=False)
        if sys.platform == "win32":  # pragma: no cover - a file that is open cannot be removed there
            os.close(descriptor)
            disk.remove(self.path)
            return
        if alone:  # whoever holds the same file still counts on its name
            disk.remove(self.path)
        os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        """Whether the name still leads to the file that was locked."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except OSError:
            return False

    def _sign(self) -> None:
        if self._shared or self._descriptor is None:
            return
        name = socket.gethostname().encode("ascii", "replace").decode().replace(" ", "-")
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()} {name}\n".encode())


def _lock(descriptor: int, *, shared: bool) -> bool:
    """Lock without waiting; False when another has it. Raises OSError where there are no locks."""
    try:
        if sys.platform == "win32":  # pragma: no cover - it knows no shared ones
            import msvcrt

            if not shared:
                os.lseek(descriptor, 1000, os.SEEK_SET)  # beyond the signature, which others may read
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True
