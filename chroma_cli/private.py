"""Who else can change a file: by its own mode, or by any folder or link on the way to it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from pathlib import Path
from typing import Final

#: Links on one way; the system allows no more either.
_LINKS: Final = 40


def changeable_by_others(path: Path) -> Path | None:
    """Return the first place on the way to ``path``, or ``path`` itself, that another account can change.

    The rules are those of OpenSSH for its own files: everything from the root on belongs to root or to this
    user, and nobody else may write it. In a sticky folder (/tmp) only owners replace what lies there. A group
    may write where it is the private group of the owner (umask 002), as Debian's OpenSSH has it. The
    superuser may work in the folders of others: mounted homes, containers. What is not there yet is fine.
    """
    if os.name != "posix":
        return None
    here = Path("/")
    ahead = deque(Path(Path.cwd(), path).parts[1:])
    links = 0
    with contextlib.suppress(OSError):  # nothing is there, or it cannot be reached
        if _is_open(here.stat()):
            return here
        while ahead and links <= _LINKS:
            entry = here / ahead.popleft()
            if entry.name == "..":
                here = here.parent
                continue
            state = entry.lstat()
            if _is_open(state):
                return entry
            if stat.S_ISLNK(state.st_mode):
                links += 1
                target = entry.readlink()
                here = Path("/") if target.is_absolute() else here
                ahead.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
            else:
                here = entry
    return None


def _is_open(state: os.stat_result) -> bool:
    if os.geteuid() != 0 and state.st_uid not in (0, os.geteuid()):
        return True
    if stat.S_ISLNK(state.st_mode) or (stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX):
        return False
    if state.st_mode & stat.S_IWOTH:
        return True
    return bool(state.st_mode & stat.S_IWGRP) and not _is_private_group(state.st_gid, state.st_uid)


def _is_private_group(gid: int, uid: int) -> bool:
    """Whether nobody but this user is in the group: it has the user's name, and no other member."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
