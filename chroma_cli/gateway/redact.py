"""Text from outside made safe to show: no key in it, no control characters, no more of it than is useful.

Every word that a server, a proxy or a library says passes through here before it enters a message, an event
or a result.
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote, unquote

from chroma_cli.text import UNSAFE

HIDDEN: Final = "[key]"
#: Shorter keys would turn ordinary words into holes; the gateway's have 19 characters.
_SHORTEST_HIDDEN: Final = 4
#: From this length on, a key found inside an id or an address is no accident.
_SHORTEST_TELLING: Final = 8
#: Longest text taken from a server, in characters.
TEXT_LIMIT: Final = 2000

#: Whole escape sequences go first, so that no "[31m" stays behind.
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")


def clean(text: str) -> str:
    """Printable text: newlines stay, tabs become spaces, other control characters vanish."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return UNSAFE.sub("", _SURROGATES.sub("\ufffd", text)).replace("\t", " ")


class Redactor:
    """Takes one key out of any text. Without a key it only cleans."""

    def __init__(self, key: str | None) -> None:
        self._key = key or ""
        self._pattern: re.Pattern[str] | None = None
        if len(self._key) >= _SHORTEST_HIDDEN:
            forms = {self._key, quote(self._key, safe=""), json.dumps(self._key)[1:-1]}
            ordered = sorted(forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE)

    def hide(self, text: str) -> str:
        """The text with the key, and any ``user:password@`` of an address, replaced."""
        text = _USERINFO.sub("", text)
        return self._pattern.sub(HIDDEN, text) if self._pattern is not None else text

    def show(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """The text as it may enter a message: clean, without the key, at most ``limit`` characters."""
        # Cut roughly first: a server may send megabytes. The room left lets a key on the edge be seen whole.
        room = 4 * limit + 2 * len(self._key)
        shown = self.hide(clean(text[:room])).strip()
        return shown if len(shown) <= limit else shown[: limit - 1] + "…"

    def line(self, text: str, limit: int = 300) -> str:
        """Like :meth:`show`, on one line."""
        return self.show(" ".join(text[: 8 * limit].split()), limit)

    def gives_away(self, text: str) -> bool:
        """Whether an id or an address contains the key, as it is or percent-encoded."""
        if len(self._key) < _SHORTEST_TELLING:
            return False
        key = self._key.lower()
        return key in text.lower() or key in unquote(text).lower()
