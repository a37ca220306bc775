"""Text from outside as harmless text: on a terminal, in the log of a CI system, as JSON, in columns, as a
word of a command line; and amounts in words."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

# Controls but tab and newline, halves of characters, and what is not seen but hides or reorders the rest.
# The two joiners stay: words of many languages and many emoji are made with them.
_CONTROL: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_UNSEEN: Final = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
#: Control characters other than tab and newline, and halves of characters.
CONTROL: Final = re.compile(f"[{_CONTROL}]")
#: All that no text from outside may bring to a terminal.
UNSAFE: Final = re.compile(f"[{_CONTROL}{_UNSEEN}]")

# CI systems obey what stands in a log: GitHub's runner takes :: at the start of a line, also behind white
# space, and ##[ anywhere; Azure's agent ##vso[ and TeamCity's ##teamcity[ anywhere.
_COMMAND_AT_START: Final = r"(?:(?<=[\r\n])|\A)[^\S\r\n]*::"
_COMMAND_ANYWHERE: Final = r"#(?=#(?:|(?i:vso|teamcity))\[)"
_CI_COMMAND: Final = re.compile(f"{_COMMAND_AT_START}|{_COMMAND_ANYWHERE}")

_NOT_IN_A_NAME: Final = re.compile(f"[{_CONTROL}\t\n\u2028\u2029]|{_COMMAND_ANYWHERE}")

#: Words that mean themselves in sh, bash, zsh and fish.
_BARE: Final = re.compile(r"[A-Za-z0-9_./,@+-][A-Za-z0-9_./:,@+=-]*")
#: What does not stand in single quotes: three characters that one of the shells takes for something else
#: there; what is not seen; and where a line has to be cut in two that a CI system would obey.
_APART: Final = re.compile(
    rf"(?P<escaped>['\\!])|(?P<unseen>[{_CONTROL}{_UNSEEN}]+)"
    rf"|(?<=\n)[^\S\n](?=[^\S\n]*::)|(?<=\n):(?=:)|{_COMMAND_ANYWHERE}"
)


def plain(text: str) -> str:
    """Return ``text`` with everything that a terminal or a CI system could take for a command shown as
    ``\\x1b``-like escapes; newlines stay."""
    shown = UNSAFE.sub(_escaped, text.replace("\r\n", "\n"))
    return _CI_COMMAND.sub(_broken, shown)


def one_line(text: str) -> str:
    """Return ``text`` on a single line, harmless like :func:`plain`."""
    return " ".join(plain(text).split())


def block(text: str) -> str:
    """Return ``text``, harmless like :func:`plain`, with every line but the first behind a bar, so that none
    of them looks like words of ours."""
    return plain(text.replace("\r\n", "\n").replace("\n", "\n  | "))


def is_obeyed(text: str) -> bool:
    """Return whether a CI system would take something in the text for a command."""
    return _CI_COMMAND.search(text) is not None


def fits_a_name(text: str) -> bool:
    """Return whether a file may have this name: it can be typed, and printed as a line for scripts."""
    return _NOT_IN_A_NAME.search(text) is None


def sentence(text: str) -> str:
    """``text`` with a stop at its end; a server's words may have none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _broken(match: re.Match[str]) -> str:
    return match[0].replace("::", "\\x3a:").replace("#", "\\x23")


def quoted(word: str) -> str:
    """Return ``word`` as one word of a command line that means the same in sh, bash, zsh and fish.

    Nothing in it is expanded or executed, and no terminal or CI system that shows the line obeys it.
    """
    if _BARE.fullmatch(word):
        return word
    parts: list[str] = []
    at = 0
    for hit in _APART.finditer(word):
        if hit.start() > at:
            parts.append(f"'{word[at : hit.start()]}'")
        if hit["escaped"]:
            parts.append(f"\\{hit[0]}")
        elif hit["unseen"]:
            octal = "".join(f"\\{byte:03o}" for byte in hit[0].encode("utf-8", "surrogateescape"))
            parts.append(f"$(printf '{octal}')")  # fish fails at some words with quotes around it
        else:
            parts.append(f'"{hit[0]}"')
        at = hit.end()
    if at < len(word):
        parts.append(f"'{word[at:]}'")
    return "".join(parts) or "''"


def command_line(*words: str) -> str:
    """Return the words as a command line; see :func:`quoted`."""
    return " ".join(quoted(word) for word in words)


def json_line(value: Any) -> str:
    """One JSON object on one line, readable in any script, and harmless on a terminal."""
    return json_text(value)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """The same with line breaks when ``indent`` is given."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    text = UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)
    return re.sub(_COMMAND_ANYWHERE, r"\\u0023", text)


def cells(text: str) -> int:
    """How many terminal columns ``text`` takes; wide East Asian characters take two."""
    return sum(
        0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1
        for ch in text
    )


def shortened(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns, cut with an ellipsis."""
    if cells(text) <= columns:
        return text
    kept, used = [], 0
    for ch in text:
        width = cells(ch)
        if used + width > columns - 1:
            break
        kept.append(ch)
        used += width
    return "".join(kept) + "…"


def seconds(value: float) -> str:
    """A duration for people: ``0.8 s``, ``53 s``, ``2 min 5 s``, ``3 h 20 min``, ``4 days``."""
    if value < 10:
        return f"{max(value, 0.0):.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def age(value: float) -> str:
    """How long ago, in one unit: ``12 s``, ``5 min``, ``3 h``, ``4 days``."""
    for unit, length, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if value < limit:
            return f"{value // length:.0f} {unit}"
    return f"{value // 86400:.0f} days"


def money(value: float) -> str:
    """An amount of the gateway's credits, which are US dollars."""
    return f"${value:.3f}".rstrip("0").ljust(len("$0.00"), "0") if value < 1000 else f"${value:.2f}"


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.1f} MB"
