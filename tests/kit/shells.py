"""Real shells on a pseudo-terminal, with the completions loaded and a ``chroma`` that says what it was given.

The ``chroma`` in PATH answers ``completion`` truly; anything else it prints as ``GIVEN[word][word]``, so that
a test presses TAB and Enter and reads what the shell made of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.wire import PATIENCE

COMPLETIONS = Path(__file__).resolve().parents[2] / "completions"
_ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>NOM78])")

_WRAPPER = """#!/bin/sh
case $1 in
completion)
    echo "$*" >> "$CHROMA_CALLS"
    exec {python} -m chroma_cli "$@" ;;
esac
printf 'GIVEN'
for word; do printf '[%s]' "$word"; done
printf 'END\\n'
"""

_SETUP = {
    "bash": """
PS1='READY> '
bind 'set show-all-if-ambiguous on'
bind 'set bell-style none'
bind 'set page-completions off'
bind 'set completion-query-items 0'
bind 'set enable-bracketed-paste off'
. {completions}/chroma.bash
""",
    "zsh": """
PROMPT='READY> '
unsetopt zle_bracketed_paste prompt_sp prompt_cr beep
LISTMAX=0
zstyle ':completion:*' menu no
fpath=({completions} $fpath)
autoload -Uz compinit
compinit -u -d "$ZDOTDIR/dump"
""",
    "fish": """
function fish_prompt; printf 'READY> '; end
function fish_right_prompt; end
function fish_greeting; end
set -g fish_autosuggestion_enabled 0
source {completions}/chroma.fish
""",
}


@dataclass
class Shell:
    """A running shell; ``seen`` is everything on its screen since the last :meth:`forget`."""

    master: int
    seen: str = ""

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def forget(self) -> None:
        self.seen = ""

    @property
    def plain(self) -> str:
        return _ESCAPES.sub("", self.seen).replace("\r", "")

    def wait_for(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.plain, re.DOTALL)) and time.monotonic() < end:
            ready, _, _ = select.select([self.master], [], [], 1.0)
            if ready:
                try:
                    self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert found, f"never came: {pattern}\n{self.plain}"
        return found

    def given(self, keys: str) -> list[str]:
        """The words that ``chroma`` gets when ``keys``, then Enter, are pressed."""
        self.forget()
        self.press(keys)
        self.press("\r")
        words = self.wait_for(r"GIVEN(\[.*?\])?END.*?READY> ")[1] or ""
        return words[1:-1].split("][")

    def offered(self, keys: str, *words: str) -> str:
        """The screen once all ``words`` are offered for ``keys``; nothing else can be typed after that."""
        self.forget()
        self.press(keys)
        together = "".join(rf"(?=.*{re.escape(word)})" for word in words)
        self.wait_for(rf"^{together}")
        return self.plain


@contextlib.contextmanager
def shell(name: str, folder: Path, state: Path, **more: str) -> Iterator[Shell]:
    """``name`` at work in ``folder``; ``state`` is where its own files go."""
    state.mkdir(exist_ok=True)
    wrapper = state / "bin" / "chroma"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(_WRAPPER.format(python=sys.executable))
    wrapper.chmod(0o755)
    rc = state / {"bash": "rc.bash", "zsh": ".zshrc", "fish": "rc.fish"}[name]
    rc.write_text(_SETUP[name].format(completions=COMPLETIONS))
    call = {
        "bash": ["bash", "--noprofile", "--rcfile", str(rc), "-i"],
        "zsh": ["zsh", "-i"],
        "fish": ["fish", "--no-config", "-i", "-C", f"source {rc}"],
    }[name]
    env = {
        **os.environ,  # noqa: TID251
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",  # noqa: TID251
        "HOME": str(state),
        "ZDOTDIR": str(state),
        "XDG_CONFIG_HOME": str(state / "xdg"),
        "XDG_DATA_HOME": str(state / "xdg"),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
        "CHROMA_CALLS": str(state / "calls"),
        **more,
    }
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 160, 0, 0))
    process = subprocess.Popen(
        call, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=env, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    try:
        running = Shell(master)
        running.wait_for("READY> ")
        yield running
    finally:
        process.kill()
        process.wait()
        os.close(master)
