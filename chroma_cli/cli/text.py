"""Text from outside as harmless text: for terminals, for JSON lines, and in columns."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

# Controls, and the invisible characters that reorder or hide text on a terminal.
_UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# The same; \u2028 and \u2029 besides end a line for many readers.
_UNSAFE_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """``text`` with everything that a terminal could take for a command shown as ``\\x1b``-like escapes."""
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same on a single line."""
    return " ".join(plain(text).split())


def sentence(text: str) -> str:
    """``text`` with a stop at its end; a server's words may have none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_line(value: Any) -> str:
    """One JSON object on one line, readable in any script, and harmless on a terminal."""
    return json_text(value)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """The same with line breaks when ``indent`` is given."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
