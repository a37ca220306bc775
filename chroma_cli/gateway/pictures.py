"""Finding the pictures in a reply, whatever shape it has, and turning base64 text into bytes.

Seen or documented: ``image``, ``images`` or ``output`` with an address, a data URI, bare base64, a dict, or a
list of any of these; the same picture may stand under two keys.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

from chroma_cli.errors import BrokenImage
from chroma_cli.gateway.addresses import looks_like_address
from chroma_cli.gateway.body import is_picture
from chroma_cli.gateway.bounded import Sink

MAX_PICTURES: Final = 1000
_DEEPEST: Final = 6
#: Where pictures stand in a reply; on a tie of items the earlier wins.
_TOP_KEYS: Final = ("images", "output", "image")
#: Where they stand in a dict inside; an address is worth more than bytes.
_INNER_KEYS: Final = ("url", "image", "data", "b64_json", "base64", "content", "images", "output")
#: Looked at only when none of the top keys holds a picture.
_LAST_KEYS: Final = ("url", "data", "b64_json", "base64", "content", "result", "results", "outputs")

_STEP: Final = 256 * 1024
_SPACE: Final = b" \t\r\n\v\f"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
#: Shorter texts that do not start like a picture are words.
_SHORTEST_BASE64: Final = 64
_BASE64_HEAD: Final = re.compile(r"[A-Za-z0-9+/_\r\n-]+=*[\r\n]*\Z", re.ASCII)


@dataclass(frozen=True)
class Address:
    """A picture to be downloaded. The address is as the server gave it; ``download`` checks it."""

    url: str


@dataclass(frozen=True)
class Inline:
    """A picture inside the reply: a data URI or bare base64."""

    text: str

    def decode_into(self, sink: Sink) -> int:
        """Write the picture's bytes to the sink, piece by piece; gives their number.

        White space, the URL-safe alphabet and missing padding are fine. Raises BrokenImage for text that is
        no base64 (what could be decoded before has been written), and whatever the sink raises.
        """
        if self.text[:5].lower() == "data:":
            return self._decode_uri(sink)
        return _decode_base64(self.text, 0, sink)

    def _decode_uri(self, sink: Sink) -> int:
        comma = self.text.find(",", 0, 1024)
        if comma < 0:
            raise BrokenImage("The picture came as a data URI without data.")
        head = self.text[:comma].lower()
        if not head.rstrip().endswith(";base64"):
            data = unquote_to_bytes(self.text[comma + 1 :])
            sink.write(data)
            return len(data)
        if "%" in self.text[comma:]:
            return _decode_base64(unquote(self.text[comma + 1 :]), 0, sink)
        return _decode_base64(self.text, comma + 1, sink)


@dataclass(frozen=True)
class Spooled:
    """A picture whose bytes were the reply itself; they are in the sink. ``complete`` is False when the
    connection broke before the end.
    """

    sink: Sink
    complete: bool = True


Source = Address | Inline | Spooled


def _decode_base64(text: str, start: int, sink: Sink) -> int:
    size, left, ended = 0, b"", False
    broken = BrokenImage("The picture came as text that is not valid base64.")
    for position in range(start, len(text), _STEP):
        try:
            piece = text[position : position + _STEP].encode("ascii").translate(_STANDARD, _SPACE)
        except UnicodeEncodeError:
            raise broken from None
        if ended:
            if piece.strip(b"="):
                raise broken
            continue
        if b"=" in piece:
            piece, _, rest = piece.partition(b"=")
            ended = True
            if rest.strip(b"="):
                raise broken
        piece = left + piece
        whole = len(piece) - len(piece) % 4
        left = piece[whole:]
        size += _write_base64(piece[:whole], sink, broken)
    if len(left) == 1:
        raise broken
    return size + _write_base64(left + b"=" * (-len(left) % 4), sink, broken)


def _write_base64(text: bytes, sink: Sink, broken: BrokenImage) -> int:
    if not text:
        return 0
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise broken from None
    sink.write(data)
    return len(data)


# --- finding them ----------------------------------------------------------------------------------------


def looks_inline(text: str) -> bool:
    """Whether a text is a picture: a data URI, or base64 that starts like one or is long enough to be one."""
    head = text[:4096].lstrip()
    if head[:5].lower() == "data:":
        # The declared type may be wrong; a text or JSON document is not meant, though.
        return "," in text[:1024] and not head[5:].lower().startswith(("text/", "application/json"))
    start = re.sub(r"\s", "", head[:64])[:24].translate({ord("-"): "+", ord("_"): "/"})
    try:
        if is_picture(binascii.a2b_base64(start[: len(start) // 4 * 4])):
            return True
    except (binascii.Error, ValueError):
        return False
    return len(text) >= _SHORTEST_BASE64 and _BASE64_HEAD.match(head) is not None


def find_pictures(value: Any, samples: int | None = None) -> tuple[Source, ...]:
    """All pictures of a reply, in the order of the reply; at most 1000.

    ``value`` is parsed JSON, or the body's text. The one key that holds most is used; on a tie the one with
    addresses, then images before output before image. Where that is fewer than ``samples``, addresses under
    the other keys are added. Each picture counts once, but for one that a key holds several times while fewer
    different ones came than ``samples``: several samples may well be alike.
    """
    if not isinstance(value, dict):
        return _samples_in(_collect(value, 0), samples)
    found = [_samples_in(_collect(value.get(key), 0), samples) for key in _TOP_KEYS]
    if not any(found):
        found = [_samples_in(_collect(value.get(key), 0), samples) for key in _LAST_KEYS]
    best = max(found, key=lambda sources: (len(sources), any(isinstance(item, Address) for item in sources)))
    if samples is not None and len(best) < samples and all(isinstance(item, Address) for item in best):
        others = [item for sources in found for item in sources if isinstance(item, Address)]
        best = _distinct([*best, *others])
    return best


def _samples_in(sources: Sequence[Source], samples: int | None) -> tuple[Source, ...]:
    """The pictures under one key."""
    different = _distinct(sources)
    if samples is None or len(different) >= samples:
        return different
    return tuple(sources[: min(samples, MAX_PICTURES)])


def _distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(sources))[:MAX_PICTURES]


def _collect(value: Any, depth: int) -> list[Source]:
    if isinstance(value, str):
        return _from_text(value)
    if depth >= _DEEPEST:
        return []
    if isinstance(value, list):
        found: list[Source] = []
        for item in value[: 10 * MAX_PICTURES]:
            found += _collect(item, depth + 1)
        return found
    if isinstance(value, dict):
        for key in _INNER_KEYS:
            inner = _collect(value.get(key), depth + 1)
            if inner:
                return inner
    return []


def _from_text(text: str) -> list[Source]:
    stripped = text.strip() if len(text) < 10_000 else text
    if looks_like_address(stripped):
        return [Address(stripped)]
    return [Inline(text)] if looks_inline(text) else []
