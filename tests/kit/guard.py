"""A person's machine that a hostile world must not hurt, and what must hold after every command line.

    def test_a_file_host_with_a_wish(gateway, guarded):
        gateway.on("file", Reply.redirect(guarded.stranger.base_url + "/x.png"))
        assert guarded("generate", "a fox", "-o", "fox.png").code == 0

``guarded(...)`` runs one command line in this process and checks that

* the exit code is one of the contract, and no traceback nor bug is shown;
* nothing that a terminal could take for a command reaches stdout or stderr;
* the key is in no output, in no file, and in no request but in the one header to the one gateway;
* nothing was written outside of the working folder and the state, and no temp file is left;
* at most one POST went out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from kit.gateway import Gateway
from kit.running import KEY, Ended
from kit.wire import Request

#: 1 is no answer to anything that a server, a file or a variable can do, but for what ``allow_one`` marks.
CONTRACT = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
#: Everything but a newline and a tab that moves a cursor, rings, colours, hides or turns text around.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")


class Guard:
    """See the module's text. ``stranger`` is a server that must not see the key; so must all ``others``."""

    def __init__(
        self, home: Path, gateway: Gateway, stranger: Gateway, run: Callable[..., Ended], key: str = KEY
    ) -> None:
        self.home, self.gateway, self.stranger, self.key = home, gateway, stranger, key
        self.work, self.state, self.config = home / "work", home / "state", home / "config.toml"
        #: A folder of the person's that no picture belongs into.
        self.outside = home / "outside"
        self._run = run

    def made(self) -> set[str]:
        """Return the files in the working folder, by their names."""
        return {str(path.relative_to(self.work)) for path in self.work.rglob("*") if not path.is_dir()}

    def __call__(
        self, *argv: str | Path, most_posts: int = 1, allow_one: bool = False, debug: bool = False
    ) -> Ended:
        before, posts = self.elsewhere(), self.gateway.posts()
        ended = self._run(*argv)
        assert ended.code in CONTRACT or (allow_one and ended.code == 1), ended.said
        self.check_words(ended, debug=debug)
        assert self.elsewhere() == before
        self.check_files()
        self.check_servers()
        assert self.gateway.posts() - posts <= most_posts
        return ended

    # --- what must hold ---

    def elsewhere(self) -> dict[str, bytes]:
        """Return what lies outside of the folders that may change."""
        found = {}
        for folder, folders, files in os.walk(self.home):
            if Path(folder) == self.home:
                folders[:] = [name for name in folders if name not in ("work", "state")]
            for name in [*files, *folders]:
                path = Path(folder, name)
                readable = path.is_file() and not path.is_symlink()
                found[str(path)] = path.read_bytes() if readable else b""
        return found

    def check_words(self, ended: Ended, *, debug: bool = False) -> None:
        for text in (ended.out, ended.err):
            assert not COMMANDS.search(text), (COMMANDS.search(text), text[-3000:])
            assert self.key.lower() not in text.lower(), text[-3000:]
            assert debug or "Traceback" not in text, text[-3000:]
            assert "this is a bug" not in text.lower(), text[-3000:]

    def check_files(self) -> None:
        """Check that no temp file is left, and that the key is in no file."""
        for path in self.home.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.name != "credentials.json":
                assert self.key.encode() not in path.read_bytes(), path
        assert not {name for name in self.made() if name.rpartition("/")[2].startswith(".")}

    def check_servers(self) -> None:
        """Check that the key went to the gateway, in its header, and nowhere else."""
        for request in self.gateway.requests():
            assert self.key not in _everything(request, {**request.headers, "x-api-key": ""})
            assert request.headers.get("x-api-key", self.key) == self.key
        for request in self.stranger.requests():
            assert self.key not in _everything(request, request.headers)
            assert "x-api-key" not in request.headers
            assert "authorization" not in request.headers


def _everything(request: Request, headers: dict[str, str]) -> str:
    return f"{request.method} {request.path} {headers} {request.body!r}"
