"""The key that ``chroma login`` stored: in the system keyring where there is one, else in a 0600 file.

A stored key belongs to the gateway it was checked against and is never handed out for another address.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chroma_cli.errors import AuthError
from chroma_cli.private import changeable_by_others
from chroma_cli.text import quoted

SERVICE: Final = "chroma-cli"
FILE: Final = "credentials.json"


@dataclass(frozen=True)
class Stored:
    """A stored key and the words for where it lies."""

    text: str = field(repr=False)
    source: str


def find(state_dir: Path | None, base_url: str) -> Stored | None:
    """The key stored for ``base_url``, or None. Without a ``state_dir`` only the keyring can have it.

    Raises :class:`AuthError` when the file cannot be trusted: others may read or write it, or it is damaged.
    """
    text = _keyring_get(base_url)
    if text:
        return Stored(text, "the system keyring")
    if state_dir is None:
        return None
    path = state_dir / FILE
    text = _read(path).get(base_url)
    return Stored(text, str(path)) if isinstance(text, str) and text else None


def store(state_dir: Path, base_url: str, text: str) -> str:
    """Keep ``text`` for ``base_url``; returns the words for where. Raises :class:`AuthError` if it cannot."""
    if _keyring_set(base_url, text):
        _forget_in_file(state_dir / FILE, base_url)
        return "the system keyring"
    path = state_dir / FILE
    _write(path, {**_read(path), base_url: text})
    return str(path)


def forget(state_dir: Path, base_url: str) -> list[str]:
    """Remove what is stored for ``base_url`` everywhere; returns the places where something was."""
    places = []
    if _keyring_get(base_url) and _keyring_delete(base_url):
        places.append("the system keyring")
    if _forget_in_file(state_dir / FILE, base_url):
        places.append(str(state_dir / FILE))
    return places


# --- the file --------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AuthError(f"The stored key cannot be read from {path}: {error.strerror}.") from error
    try:
        _trust(path, os.fstat(descriptor))  # before it is a file object, which no folder can be
        raw = os.read(descriptor, 65536)
    finally:
        os.close(descriptor)
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise AuthError(f"The file of stored keys {path} is damaged.", hint="Remove it and run: chroma login")
    return table


def _trust(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise AuthError(f"The file of stored keys {path} is not a regular file.", hint="Remove it.")
    if os.name != "posix":
        return
    if state.st_mode & 0o077:
        raise AuthError(
            f"The file of stored keys {path} is open to others (mode {stat.S_IMODE(state.st_mode):o}).",
            hint=f"Make it private with: chmod 600 {quoted(str(path))}",
        )
    if state.st_uid not in (os.geteuid(), 0):
        raise AuthError(f"The file of stored keys {path} belongs to another user.", hint="Remove it.")
    _trust_way_to(path)


def _trust_way_to(path: Path) -> None:
    place = changeable_by_others(path)
    if place is not None:
        raise AuthError(
            f"{place} can be written by others, so the file of stored keys {path} is not believed.",
            hint=f"Make it private with: chmod go-w {quoted(str(place))}",
        )


def _write(path: Path, table: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _trust_way_to(path.parent)
        # mkstemp creates with 0600: the key is never in a file that others could open
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(table, indent=1).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise AuthError(f"The key cannot be stored in {path}: {error.strerror}.") from error


def _forget_in_file(path: Path, base_url: str) -> bool:
    table = _read(path)
    if base_url not in table:
        return False
    del table[base_url]
    if table:
        _write(path, table)
    else:
        path.unlink(missing_ok=True)
    return True


# --- the keyring -----------------------------------------------------------------------------------


def _keyring() -> Any | None:
    """The keyring module when it is installed and has a usable backend: those that only refuse or forget
    have a priority of 0 or less."""
    try:
        import keyring

        usable = getattr(keyring.get_keyring(), "priority", 1) > 0
    except Exception:  # not installed, or a backend that cannot be loaded, which may raise anything
        return None
    return keyring if usable else None


def _keyring_get(base_url: str) -> str | None:
    ring = _keyring()
    if ring is None:
        return None
    try:
        found = ring.get_password(SERVICE, base_url)
    except Exception:  # locked, or no session to ask; each backend has errors of its own. The file is next
        return None
    return found if isinstance(found, str) else None


def _keyring_set(base_url: str, text: str) -> bool:
    ring = _keyring()
    if ring is None:
        return False
    try:
        ring.set_password(SERVICE, base_url, text)
    except Exception:  # as above
        return False
    return True


def _keyring_delete(base_url: str) -> bool:
    ring = _keyring()
    if ring is None:
        return False
    try:
        ring.delete_password(SERVICE, base_url)
    except Exception:  # as above
        return False
    return True
