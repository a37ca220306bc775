"""Text on pictures: which characters the font that Pillow ships can show, and lines that fit, by measuring.

That font knows little more than ASCII. What it lacks is written with letters it has, or as its name, or left
out with a mark; a box for a missing glyph is never drawn.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL import ImageFont

ELLIPSIS: Final = "…"
#: Stands for a run of characters that cannot be written.
GAP: Final = "[…]"
#: A prompt may be a whole book; no label shows more than this.
_LONGEST: Final = 2000

_CYRILLIC: Final = (
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюяєіїґ",
    "a b v g d e e zh z i y k l m n o p r s t u f kh ts ch sh shch  y  e yu ya ye i yi g".split(" "),
)
_GREEK: Final = (
    "αβγδεζηθικλμνξοπρσςτυφχψω",
    "a b g d e z i th i k l m n x o p r s s t y f ch ps o".split(" "),
)
_OTHERS: Final = {
    **{"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ł": "l"},
    **{"Ł": "L", "ß": "ss", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D", "ı": "i", "×": "x", "÷": "/"},
    **{"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "„": '"', "‚": "'", "•": "·", "→": "->", "←": "<-"},
    **{"£": "GBP", "€": "EUR", "¥": "JPY", "¡": "!", "¿": "?", "。": ".", "、": ",", "「": '"', "」": '"'},
}
_NAMED: Final = re.compile(r"(?:HIRAGANA|KATAKANA) LETTER (?:SMALL )?([A-Z]+)|HANGUL SYLLABLE ([A-Z]+)")


def _substitutes() -> dict[str, str]:
    table = dict(_OTHERS)
    for letters, spelled in (_CYRILLIC, _GREEK):
        for letter, text in zip(letters, spelled, strict=True):
            table[letter] = text
            table.setdefault(letter.upper(), text.capitalize())
    return table


_SUBSTITUTES: Final = _substitutes()


@lru_cache(maxsize=64)
def pen(size: int) -> Pen:
    """The pen of this size in pixels; one for all who ask."""
    return Pen(size)


class Pen:
    """The font at one size, and what fits where. Widths and heights are in pixels."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.line = round(size * 1.36)

    @cached_property
    def font(self) -> ImageFont.FreeTypeFont:
        """The font itself, with the layout that does not depend on what else is installed."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=self.size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)

    @cached_property
    def _missing(self) -> tuple[tuple[int, int], bytes]:
        return self._drawn("\uffff")

    def _drawn(self, char: str) -> tuple[tuple[int, int], bytes]:
        mask = self.font.getmask(char)
        return mask.size, bytes(mask)

    def knows(self, char: str) -> bool:
        """Whether the font has this character."""
        return char == " " or (char.isprintable() and self._drawn(char) != self._missing)

    def width(self, text: str) -> float:
        return self.font.getlength(text)

    def readable(self, text: str) -> str:
        """``text`` on one line, in characters the font has; at most 2,000 of them are looked at."""
        cut = text[:_LONGEST]
        parts = [_written(char) for char in unicodedata.normalize("NFC", cut)]
        joined = re.sub(rf"(?:{re.escape(GAP)}\s*)+", GAP + " ", "".join(parts))
        return " ".join(joined.split()) + (ELLIPSIS if len(text) > _LONGEST else "")

    def shortened(self, text: str, width: float) -> str:
        """``text`` if it fits, else as much as does, with an ellipsis; nothing when not even that fits."""
        if self.width(text) <= width:
            return text
        return self._cut(text, width, ELLIPSIS)

    def wrapped(self, text: str, width: float, lines: int) -> list[str]:
        """``text`` in at most ``lines`` lines that fit; the last one ends in an ellipsis if there is more.

        A word that is wider than a line is broken anywhere.
        """
        words = text.split()
        made: list[str] = []
        line = ""
        while words:
            longer = f"{line} {words[0]}" if line else words[0]
            if self.width(longer) <= width:
                line = longer
                words.pop(0)
                continue
            if len(made) + 1 == lines:
                made.append(self.shortened(" ".join([line, *words]).strip(), width))
                return made
            if not line:
                line = self._cut(words[0], width, "")
                if not line:
                    return made
                words[0] = words[0][len(line) :]
            made.append(line)
            line = ""
        return [*made, line] if line else made

    def _cut(self, text: str, width: float, end: str) -> str:
        low, high = 0, min(len(text), _LONGEST)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle].rstrip() + end) <= width:
                low = middle
            else:
                high = middle - 1
        if low:
            return text[:low].rstrip() + end
        return end if self.width(end) <= width else ""


@lru_cache(maxsize=4096)
def _written(char: str) -> str:
    if char.isspace():
        return " "
    if pen(16).knows(char):
        return char
    if char in _SUBSTITUTES:
        return _SUBSTITUTES[char]
    kind = unicodedata.category(char)
    if kind[0] == "M" or kind in ("Cc", "Cf", "Sk"):
        return ""
    name = unicodedata.name(char, "")
    sound = _NAMED.fullmatch(name)
    if sound is not None:
        return (sound[1] or sound[2]).lower()
    apart = "".join(part for part in unicodedata.normalize("NFKD", char) if not unicodedata.combining(part))
    plain = "".join(_SUBSTITUTES.get(part, part) for part in apart)
    if plain and all(pen(16).knows(part) for part in plain):
        return plain
    return f"({name.lower()})" if kind == "So" and name else GAP
