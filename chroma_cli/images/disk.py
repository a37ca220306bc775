"""The few file system steps that saving is built from: make folders, make a new file, move it, sync it.

Each step either does the whole thing or raises the system's OSError; :func:`words` says such an error in
plain language. None of them ever replaces a file unless its name says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_UNSUPPORTED: Final = frozenset(
    (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP))
)
#: A link cannot be made here (FAT, some network and phone file systems), so a rename has to do.
_NO_LINKS: Final = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EMLINK}

#: Tries for a folder's lock, and the seconds between them.
_LOCK_TRIES: Final = 100
_LOCK_WAIT: Final = 0.01

#: Windows does not rename a file that is open.
CLOSE_BEFORE_MOVE: Final = os.name == "nt"

_WORDS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "the system does not permit it",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EILSEQ: "the name cannot be written in this system's locale (LC_ALL)",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ELOOP: "the path is a loop of links",
    errno.EPIPE: "nobody reads it any more",
    errno.EAGAIN: "it takes no more at the moment",
    errno.EIO: "the disk reported an error",
    errno.EFBIG: "the file would be over the size limit of this file system or process",
    errno.ENOENT: "the folder is gone",
    errno.EEXIST: "something of that name is in the way",
    errno.EISDIR: "a folder of that name is in the way",
    getattr(errno, "EDQUOT", -1): "the disk quota is used up",
    getattr(errno, "ESTALE", -1): "the network folder is gone",
}


def words(error: OSError) -> str:
    """The reason in a person's words."""
    if error.errno in _WORDS:
        return _WORDS[error.errno]
    return (error.strerror or str(error) or type(error).__name__).rstrip(".").lower()


def check_name(path: Path) -> None:
    """Raise OSError for a name that cannot be written in this system's locale; the calls of the system would
    raise something else."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, os.strerror(errno.EILSEQ)) from None


def exists(path: Path) -> bool:
    """Whether anything has this name; a link that leads nowhere counts."""
    return os.path.lexists(path)


def is_folder(path: Path) -> bool:
    """Whether this is a folder or leads to one; False as well if that cannot be found out."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def leads_somewhere(path: Path) -> bool:
    """Whether there is something of this name, behind links too; False as well if that cannot be found out,
    because the name is too long, for example."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def replaceable(path: Path) -> bool:
    """Whether ``--overwrite`` may replace what is there: nothing, a regular file, or a link to one.

    A link itself is replaced, its target stays as it is. Devices, pipes, folders and links to nowhere or to
    any of those are never touched.
    """
    try:
        if not exists(path):
            return True
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def make_folders(folder: Path) -> None:
    """Make the folder with all its parents, and make sure that they outlive a power cut."""
    check_name(folder)
    missing: list[Path] = []
    here = folder
    while not is_folder(here):
        missing.append(here)
        if here.parent == here:
            break
        here = here.parent
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
        sync_folder(path.parent)


def create(path: Path) -> int:
    """Make a new file, open for reading and appending, with the mode that the umask gives.

    Raises FileExistsError if anything of that name is there, a link included.
    """
    check_name(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)


def create_in(folder: Path, path: Path) -> int:
    """The same, for a path in a folder that may have to be made first."""
    try:
        return create(path)
    except (FileNotFoundError, NotADirectoryError):
        make_folders(folder)
        return create(path)


def open_again(path: Path) -> int:
    """Open a file that :func:`create` made, in the same way."""
    return os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same from going on meanwhile, for a step of milliseconds.

    Where the system cannot lock a folder, or somebody who was stopped holds it, this goes on after a second.
    """
    descriptor: int | None = None
    try:
        with contextlib.suppress(OSError):
            descriptor = _locked(folder)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(folder: Path) -> int | None:
    if sys.platform == "win32":  # pragma: no cover - a folder cannot be opened there
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_WAIT)
            else:
                break
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else, a link included."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
    return file


def mark(path: Path) -> tuple[int, int, int] | None:
    """What tells whether the thing of this name has changed: its size, time and inode; None for nothing."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def sync_file(descriptor: int) -> None:
    """Have the file's bytes on the disk before this returns."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # nothing to sync there; all else is a trouble of the disk
            raise


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk before this returns, where the system can do that."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # a folder one may write to but not read cannot be synced
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Give the file its new name if nothing has that name yet, in one step; else raise FileExistsError.

    Where the file system has no hard links there is a moment between the look and the rename (not on
    Windows, whose rename never replaces).
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # A network server may have done it and lost its answer.
        if not os.path.samestat(source.lstat(), target.lstat()):
            raise
    except (OSError, AttributeError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        if exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(source, target)  # noqa: PTH104 - like the link above, one call of the system
        return
    remove(source)


def replace(source: Path, target: Path) -> None:
    """Give the file its new name, in place of the file that has it."""
    source.replace(target)


def remove(path: Path) -> None:
    """Remove a file of ours; one that is gone already, or will not go, is left to the next sweep."""
    with contextlib.suppress(OSError):
        path.unlink()
