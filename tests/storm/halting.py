"""Runs chroma in this process, but stops it for good at one place, where the test can kill it.

    python halting.py PLACE PORT PROMPT -- the chroma command line

At PLACE the process tells the storm server on PORT so and then does nothing more. The places lie between two
steps that no server can see: they are put around the calls by wrapping them, the product itself is as it is.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from chroma_cli.cli.main import main
from chroma_cli.gateway import bounded, client
from chroma_cli.images import spool
from chroma_cli.jobs import entries


def halt() -> None:
    with socket.create_connection(("127.0.0.1", PORT)) as line:
        line.sendall(f"GET /storm/at/{quote(PROMPT)} HTTP/1.1\r\nHost: storm\r\n\r\n".encode())
        line.recv(1)
        # Only a test that was given up comes here.
        time.sleep(60)
    os._exit(99)


def around(
    owner: Any,
    name: str,
    *,
    before: bool = False,
    after: bool = False,
    when: Callable[..., bool] = lambda *_, **__: True,
) -> None:
    """Halt before or after ``owner.name`` where ``when`` (given the call's arguments) says so."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **more: Any) -> Any:
        here = when(*args, **more)
        if before and here:
            halt()
        result = real(*args, **more)
        if after and here:
            halt()
        return result

    setattr(owner, name, wrapped)


def is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def prepare(place: str) -> None:
    linked = False

    def note_link(*_: Any, **__: Any) -> bool:
        nonlocal linked
        linked = True
        return False

    def is_folder_of_link(descriptor: int) -> bool:
        return linked and not is_file(descriptor)

    def nameless(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real_open(path, flags, mode, **more)

    real_open = os.open
    match place:
        case "probing":
            around(os, "posix_fallocate", before=True)
        case "probing with a name":
            os.open = nameless
            around(os, "posix_fallocate", before=True)
        case "before the intent":
            around(entries.Entries, "begin", before=True)
        case "intent not committed":
            around(entries.Entries, "_insert", after=True)
        case "intent":
            around(client.Client, "begin_submit", before=True)
        case "connected":
            around(bounded.Gate, "mark_connected", after=True)
        case "answer not recorded":
            around(entries.Entries, "submitted", before=True)
        case "answer not committed":
            around(entries.Entries, "_change", after=True, when=lambda *args: "request_id" in args[-1])
        case "result not recorded":
            around(entries.Entries, "completed", before=True)
        case "temp file made":
            around(spool.Spool, "_open_in", after=True)
        case "not synced":
            around(os, "fsync", before=True, when=is_file)
        case "synced":
            around(os, "fsync", after=True, when=is_file)
        case "named":
            around(os, "link", after=True)
        case "folder not synced":
            around(os, "link", after=True, when=note_link)
            around(os, "fsync", before=True, when=is_folder_of_link)
        case "file not recorded":
            around(entries.Entries, "saved_file", before=True)
        case "file not committed":
            around(entries, "files_to", after=True)
        case _:
            raise SystemExit(f"no such place: {place}")


if __name__ == "__main__":
    PLACE, PORT, PROMPT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    prepare(PLACE)
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :]))
