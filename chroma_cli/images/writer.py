"""From a finished temp file to a saved picture: sync, move onto a name that is free, sync the folder.

A picture that was paid for is never thrown away here: when its place fails it is kept in a haven under a
name that a person can find, and the error says where.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from chroma_cli.errors import OutputError
from chroma_cli.images import disk, naming
from chroma_cli.images.decode import ImageInfo
from chroma_cli.images.destination import Destination, promise
from chroma_cli.images.spool import Spool

_PIECE: Final = 256 * 1024
_STDOUT_PATH: Final = "-"


@dataclass(frozen=True)
class SavedFile:
    """One saved picture. ``path`` is absolute (``-`` for stdout), sides are in pixels.

    ``displaced_from`` is the path that was asked for outright when something else has appeared there.
    """

    path: str
    url: str | None
    format: str
    width: int
    height: int
    bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()
    displaced_from: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """One object of ``files`` in the JSON contract."""
        record = dataclasses.asdict(self)
        del record["warnings"], record["displaced_from"]
        return record


def place(
    spool: Spool,
    destination: Destination,
    info: ImageInfo,
    *,
    late: Mapping[str, object] | None = None,
    promised: Container[str] = (),
    resumed: bool = False,
    url: str | None = None,
) -> SavedFile:
    """Give the finished picture its name, for good: when this returns it outlives a power cut.

    ``late``: values of fields that came with the answer (``id``, ``seed``). ``promised``: paths of other
    unsettled jobs. ``resumed``: an earlier process worked on this job, so the same bytes at the planned path
    are this picture and count as saved. Raises OutputError, whose ``rescued`` says where the picture is.
    """
    asked = destination.target(destination.number(spool.ordinal), late)
    try:
        if spool.trouble is not None:
            raise spool.trouble
        spool.sync()
        path = _settle(spool, destination, info, late, promised, resumed=resumed)
    except OSError as error:
        kept = keep(spool, destination, info, late=late, because=error)
        raise OutputError(
            f"{asked} could not be written: {disk.words(error)}. The finished picture is at {kept}.",
            hint="Move it to where you want it.",
            rescued=kept,
        ) from error
    spool.placed()
    try:
        disk.sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"{path} is written, but its folder could not be synced: {disk.words(error)}.",
            hint="Check the file, and the disk.",
            rescued=str(path),
        ) from error
    # Another format moves to another ending: that is a warning of its own.
    displaced = destination.kind == "file" and info.format == destination.image_format and path != asked
    return _saved(spool, destination, info, path=str(path), asked=asked, url=url, displaced=displaced)


def _saved(
    spool: Spool,
    destination: Destination,
    info: ImageInfo,
    *,
    path: str,
    asked: Path | None,
    url: str | None,
    displaced: bool = False,
) -> SavedFile:
    return SavedFile(
        path=path,
        url=url,
        format=info.format,
        width=info.width,
        height=info.height,
        bytes=spool.size,
        sha256=spool.sha256,
        warnings=tuple(_warnings(destination, info, Path(path).name)),
        displaced_from=str(asked) if displaced else None,
    )


def _warnings(destination: Destination, info: ImageInfo, name: str) -> list[str]:
    found = []
    if info.format != destination.image_format:
        found.append(f"{name}: the picture came as {info.format}, not as {destination.image_format}.")
    if destination.size is not None and destination.size != (info.width, info.height):
        asked = "x".join(str(side) for side in destination.size)
        found.append(f"{name}: the picture is {info.width}x{info.height}, not {asked} as asked.")
    return found


def _settle(
    spool: Spool,
    destination: Destination,
    info: ImageInfo,
    late: Mapping[str, object] | None,
    promised: Container[str],
    *,
    resumed: bool,
) -> Path:
    """Move the file onto the planned name, or the next one that is free. Raises OSError."""
    planned = destination.number(spool.ordinal)
    others = {destination.number(ordinal) for ordinal in range(len(destination.numbers))}
    number = planned
    while number <= naming.NUMBER_MAX:
        path = destination.target(number, late, info.format)
        is_asked = number == planned and path == destination.target(planned, late)
        # A name held by another job is not free even while nothing is there; the asked one is held by this.
        free = is_asked or promise(path) not in promised
        if free and _move(spool, path, overwrite=destination.overwrite and is_asked):
            return path
        if resumed and number == planned and _same_bytes(path, spool):
            spool.discard()
            return path
        number += 1
        while number in others:
            number += 1
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _move(spool: Spool, path: Path, *, overwrite: bool) -> bool:
    """Whether the file has that name now; False if something else has it. Raises OSError."""
    disk.check_name(path)
    if path.parent != spool.path.parent:
        disk.make_folders(path.parent)
    if overwrite and disk.replaceable(path):
        step: Callable[[Path, Path], None] = disk.replace
    else:
        step = disk.move
    for attempt in range(2):
        if disk.CLOSE_BEFORE_MOVE:
            spool.close()
        try:
            step(spool.path, path)
        except OSError as error:
            spool.reopen()
            if isinstance(error, FileExistsError):
                return False
            if error.errno != errno.EXDEV or attempt:
                raise
            spool.copy_to(path.parent)  # the name's folder, known late, is a mount of its own
            spool.sync()
        else:
            break
    return True


def _same_bytes(path: Path, spool: Spool) -> bool:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != spool.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == spool.sha256
    except OSError:
        return False


# --- when it cannot be where it should ----------------------------------------------------------------------


def keep(
    spool: Spool,
    destination: Destination,
    info: ImageInfo | None = None,
    *,
    late: Mapping[str, object] | None = None,
    because: OSError | None = None,
    suffix: str = "",
) -> str:
    """Keep the bytes in a haven under a name of their own, and return that absolute path.

    Raises OutputError when the bytes are nowhere any more.
    """
    if not spool.in_haven:
        # Without any haven it has to stay where it is.
        with contextlib.suppress(OutputError):
            spool.retreat(because or OSError(errno.EIO, os.strerror(errno.EIO)))
    image_format = None if info is None else info.format
    name = destination.target(destination.number(spool.ordinal), late, image_format).name
    try:
        try:
            return _keep_as(spool, spool.path.parent, name, suffix)
        except OSError:  # the name may be the trouble
            return _keep_as(spool, spool.path.parent, naming.in_ascii(name), suffix)
    except OSError as error:
        left = spool.path
        if not disk.exists(left):
            raise OutputError(f"The picture could not be kept: {disk.words(error)}.") from error
        spool.placed()
        return str(left)


def keep_broken(
    spool: Spool, destination: Destination, *, late: Mapping[str, object] | None = None
) -> str | None:
    """Keep bytes that are no whole picture beside the target as ``name.png.broken``; return the path.

    For what was paid for and cannot be fetched again. None if there are no bytes at all. Raises OutputError
    when no place takes them.
    """
    if not spool.size:
        spool.discard()
        return None
    if spool.in_haven:
        return keep(spool, destination, late=late, suffix=".broken")
    target = destination.target(destination.number(spool.ordinal), late)
    try:
        disk.make_folders(target.parent)
        return _keep_as(spool, target.parent, target.name, ".broken")
    except OSError as error:
        return keep(spool, destination, late=late, because=error, suffix=".broken")


def _keep_as(spool: Spool, folder: Path, name: str, suffix: str) -> str:
    """Move to the next free ``stem-N.ending`` + suffix in this folder. Raises OSError."""
    stem, ending = naming.split_ending(name)
    ending = (f".{ending}" if ending else "") + suffix
    with contextlib.suppress(OSError):
        spool.sync()  # as safe as it can be made; the place may be a bad one already
    for number in range(naming.NUMBER_MAX):
        mark = f"-{number}" if number else ""
        # Leave room for the suffix in a name that was as long as names may be.
        short = stem.encode(errors="surrogateescape")[: 240 - len(ending)].decode(errors="ignore")
        path = folder / f"{short}{mark}{ending}"
        if _move(spool, path, overwrite=False):
            spool.placed()
            with contextlib.suppress(OSError):
                disk.sync_folder(folder)
            return str(path)
        if _same_bytes(path, spool):  # kept by an earlier try to bring it home
            spool.discard()
            return str(path)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def to_stdout(spool: Spool, destination: Destination, info: ImageInfo, stream: BinaryIO) -> SavedFile:
    """Write the picture to a binary stream and flush it; then it counts as saved.

    Raises OutputError when the stream does not take it all; ``rescued`` says where the picture is then. An
    interrupt keeps the picture as well, and bears the path as a note.
    """
    try:
        with spool.reader() as source:
            while piece := source.read(_PIECE):
                _write_all(stream, piece)
        stream.flush()
    except (OSError, ValueError) as error:
        kept = keep(spool, destination, info)
        reason = disk.words(error) if isinstance(error, OSError) else "it is closed"
        raise OutputError(
            f"stdout did not take the picture: {reason}. The finished picture is at {kept}.",
            hint="Move it to where you want it.",
            rescued=kept,
        ) from error
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"The finished picture is at {keep(spool, destination, info)}.")
        raise
    saved = _saved(spool, destination, info, path=_STDOUT_PATH, asked=None, url=None)
    spool.discard()
    return saved


def _write_all(stream: BinaryIO, data: bytes) -> None:
    """Also for a stream without a buffer, which may take only a part (or, when not blocking, nothing)."""
    rest = memoryview(data)
    while rest:
        done: int | None = stream.write(rest)
        if done is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        rest = rest[done:]
