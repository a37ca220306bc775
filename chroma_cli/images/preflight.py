"""Whether a place for pictures will work: tried for real before anything is spent, leaving nothing behind.

What can only go wrong later (somebody else's file, a disk that fills up meanwhile) is for ``writer``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chroma_cli.errors import OutputError, OutputExists
from chroma_cli.images import disk
from chroma_cli.images.destination import Destination
from chroma_cli.images.spool import havens, temp_name

#: The longest text a late field can become: a request id as the gateway makes them, and a 64-bit seed.
_LONGEST: Final[Mapping[str, object]] = {"id": "0" * 36, "seed": "0" * 19}
_SAY_STDOUT: Final = "To have the bytes on stdout, use -o -."
_NO_TMPFILE: Final = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.ENOENT))
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)))


def estimate_bytes(width: int, height: int, samples: int, image_format: str) -> int:
    """Bytes to have free for these pictures: the raw pixels for PNG, a third of that for the others."""
    per_pixel = 3 if image_format == "png" else 1
    return samples * (width * height * per_pixel + 64 * 1024)


def check(
    destination: Destination,
    *,
    estimate: int,
    token: str,
    rescue_dir: str,
) -> None:
    """Find out, before anything is spent, whether the pictures can be saved there.

    ``estimate`` is in bytes for all pictures together; 0 where an earlier check has tried the folder. Raises
    OutputExists for a file named outright that exists, OutputError for everything else that is in the way.
    That it is promised to another job is found when the intent is written.
    """
    if destination.kind == "stdout":
        _check_havens(estimate, token, rescue_dir)
        return
    late = {name: _LONGEST[name] for name in destination.late}
    targets = [destination.target(number, late) for number in destination.numbers]
    for path in targets:
        _check_name(path)
    outright = destination.kind == "file"
    for path in targets:
        if outright or destination.overwrite:
            _check_replaceable(path, overwrite=destination.overwrite)
    if outright:
        _check_as_typed(destination, targets)
    if outright and not destination.overwrite:
        for path in targets:
            _check_free(path)
    share = -(-estimate // max(1, len(targets)))
    for folder in dict.fromkeys(target.parent for target in targets):
        names = [target.name for target in targets if target.parent == folder]
        _check_folder(folder, [*names, temp_name(token, len(names))], share, len(names), token)


def check_again(destination: Destination) -> None:
    """Look once more, right before the submit, whether a file named outright is still free. Raises
    OutputExists."""
    if destination.kind == "file" and not destination.overwrite:
        for number in destination.numbers:
            _check_free(destination.target(number))


def _check_as_typed(destination: Destination, targets: list[Path]) -> None:
    """Look at the very name that was typed as well: ``-o /dev/full`` must not become /dev/full.png."""
    typed = Path(destination.root, destination.template)
    if typed in targets or not disk.exists(typed):
        return
    _check_replaceable(typed, overwrite=False)
    if destination.parsed.ending is not None:
        return
    if not destination.overwrite:
        _check_free(typed)
    elif typed.is_symlink():  # /dev/stdout while that is a file
        raise OutputError(f"{typed} is a link; the picture would not go there.", hint=_SAY_STDOUT)


def _check_name(path: Path) -> None:
    try:
        disk.check_name(path)
    except OSError as error:
        raise OutputError(
            f"{path}: {disk.words(error)}.",
            hint="Set LC_ALL to a UTF-8 locale such as C.UTF-8, or choose another name with -o.",
        ) from error


def _check_free(path: Path) -> None:
    if disk.exists(path):
        dangling = not path.exists()
        raise OutputExists(f"{path} exists already{', as a link that leads nowhere' if dangling else ''}.")


def _check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Refuse what is there and is no file; that a file is there is another question."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if overwrite and disk.exists(path):
            raise OutputError(
                f"{path} is a link that leads nowhere; only files are replaced.",
                hint="Remove the link, or choose another name with -o.",
            ) from None
        return
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return  # the folder's check has the better words
        raise OutputError(f"{path}: {disk.words(error)}.") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder.", hint="Choose another name with -o.")
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"{path} is a device or a pipe, not a file that can be made or replaced.",
            hint=_SAY_STDOUT,
        )
    if overwrite and _kept_from_us(path):
        raise OutputError(f"{path} belongs to somebody else, in a folder where that counts.")


def _kept_from_us(path: Path) -> bool:
    """Whether the folder (such as /tmp) lets only owners replace their files, and we are none."""
    if not hasattr(os, "geteuid"):
        return False
    shared = path.parent.stat()
    return bool(shared.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, shared.st_uid, path.lstat().st_uid)


def _check_folder(folder: Path, names: list[str], share: int, count: int, token: str) -> None:
    """Try the folder, or the one in which it would be made, with ``count`` files of ``share`` bytes."""
    ancestor = _nearest(folder)
    _check_lengths(folder, ancestor, names)
    if not share:
        return
    try:
        _check_room(ancestor, share * count)
        try:
            _probe(ancestor, share * count, token)
        except OSError as error:
            if error.errno != errno.EFBIG or count == 1:
                raise
            _probe(ancestor, share, token)  # a limit on one file says nothing about all together
    except OSError as error:
        raise OutputError(
            f"Nothing can be saved in {folder}: {disk.words(error)}.",
            hint="Choose another place with -o.",
        ) from error


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    here = folder
    while True:
        try:
            mode = here.stat().st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, FileNotFoundError) and disk.exists(here):
                raise OutputError(f"{here} is a link that leads nowhere, not a folder.") from error
            if here.parent == here:
                raise OutputError(f"{folder}: {disk.words(error)}.") from error
            here = here.parent
        except OSError as error:
            raise OutputError(f"{here}: {disk.words(error)}.") from error
        else:
            if not stat.S_ISDIR(mode):
                raise OutputError(
                    f"{here} is a file, so nothing can be saved below it.",
                    hint="Choose another place with -o.",
                )
            return here


def _check_lengths(folder: Path, ancestor: Path, names: list[str]) -> None:
    try:
        longest = os.pathconf(ancestor, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = 255
    for part in (*folder.relative_to(ancestor).parts, *names):
        if len(os.fsencode(part)) > longest > 0:
            raise OutputError(f"The name is too long for {ancestor}: {part}", hint="Choose a shorter one.")
    for name in names:
        try:
            (folder / name).lstat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise OutputError(f"{folder / name}: {disk.words(error)}.") from error


def _check_room(folder: Path, size: int) -> None:
    """Compare with what the file system says is free; the probe then tries it."""
    if not hasattr(os, "statvfs"):
        return
    volume = os.statvfs(folder)
    if volume.f_blocks and volume.f_bfree * volume.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _probe(folder: Path, size: int, token: str) -> None:
    """Make a file of this size there and let it go again.

    Where the system has nameless files there is nothing to leave behind, whatever happens; elsewhere the
    file loses its name at once, or (Windows) when it is closed.
    """
    nameless = getattr(os, "O_TMPFILE", 0)
    named: Path | None = None
    descriptor = -1
    if nameless:
        try:
            descriptor = os.open(folder, nameless | os.O_RDWR, 0o600)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
    try:
        if descriptor < 0:
            named = folder / temp_name(token, "probe")
            disk.remove(named)
            descriptor = disk.create(named)
            if not disk.CLOSE_BEFORE_MOVE:
                disk.remove(named)
        if hasattr(os, "posix_fallocate") and size > 0:
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        if named is not None:
            disk.remove(named)


def _check_havens(estimate: int, token: str, rescue_dir: str) -> None:
    """A picture for stdout stays in a file until it is whole."""
    trouble: OSError | None = None
    for haven in havens(rescue_dir):
        try:
            ancestor = _nearest(haven)
            _probe(ancestor, estimate, token)
        except OSError as error:
            trouble = error
        except OutputError:
            continue
        else:
            return
    reason = f": {disk.words(trouble)}" if trouble else ""
    raise OutputError(f"There is no place to keep the picture until it is whole{reason}.")
