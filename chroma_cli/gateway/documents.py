"""A body as a document: JSON if it is JSON, else text; and the words of an error in it.

JSON from outside may hold NaN, duplicate keys, numbers of thousands of digits and a thousand brackets; none
of them may end as a traceback.
"""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from chroma_cli.gateway.body import Body, is_page
from chroma_cli.gateway.redact import Redactor

#: int() refuses more than 4,300 digits; nothing meant for us has more than 20.
_LONGEST_INT: Final = 100
#: Of a text that is not JSON, so much is kept at most as an error's words.
_WORDS_LIMIT: Final = 500
_ERROR_KEYS: Final = ("error", "detail", "message", "msg", "reason")


@dataclass(frozen=True)
class Document:
    """``value`` is the parsed JSON when ``is_json``, else None and ``text`` is the body as text."""

    is_json: bool
    value: Any
    text: str
    #: Why the body is not whole, None when it is.
    fault: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object, empty when it is none."""
        return self.value if isinstance(self.value, dict) else {}


def read_document(body: Body) -> Document:
    """Parse what was collected of a body; its bytes are let go of."""
    text = body.take_text()
    try:
        value = json.loads(text, parse_constant=lambda _: None, parse_int=_integer)
    except (ValueError, RecursionError):
        return Document(False, None, text, body.fault)
    return Document(True, value, "", body.fault)


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INT else math.inf


def is_gateway_error(document: Document) -> bool:
    """Whether this is the gateway's own JSON error, not a proxy's page."""
    return any(key in document.fields for key in ("error", "message", "detail"))


def server_words(document: Document, redactor: Redactor) -> str:
    """What a reply says went wrong, fit to show; "" when it says nothing."""
    if document.is_json:
        return error_words(document.value, redactor)
    text = document.text[: 64 * 1024].lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        title = _title(text, redactor)
        return f"an HTML page ({title})" if title else "an HTML page"
    if "\ufffd" in text[:200]:
        return "unreadable bytes"
    return redactor.show(text, _WORDS_LIMIT)


def body_words(document: Document, redactor: Redactor) -> str:
    """What a reply says, where it should say something else; "" when there is nothing in it."""
    return server_words(document, redactor) or redactor.show(_words(document.value, 1), _WORDS_LIMIT)


def page_title(document: Document, redactor: Redactor) -> str | None:
    """The title of a web page, fit to show; "" for a page without one, None for what is no page."""
    return _title(document.text, redactor) if not document.is_json and is_page(document.text) else None


def _title(text: str, redactor: Redactor) -> str:
    """The title, or else the first heading, of a page."""
    for name in ("title", "h1"):
        found = re.search(rf"<{name}\b[^>]*>([^<]{{1,400}})", text[: 64 * 1024], re.IGNORECASE)
        if found and (shown := redactor.line(html.unescape(found[1]), 120)):
            return shown
    return ""


def error_words(value: Any, redactor: Redactor) -> str:
    """The words of an error in a JSON value: a text, or what stands under error, detail or message, or its
    compact JSON. At most 2000 characters.
    """
    return redactor.show(_words(value, 0))


def _words(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and depth < 4:
        named = [value[key] for key in _ERROR_KEYS if value.get(key)]
        for item in sorted(named, key=lambda item: not isinstance(item, str)):
            words = _words(item, depth + 1) if isinstance(item, str | dict | list) else ""
            if words:
                return words
        if depth == 0:
            return ""
    if not value or isinstance(value, bool) or value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""
