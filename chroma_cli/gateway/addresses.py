"""Which addresses pictures may be fetched from, and what counts as an address in a reply. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from chroma_cli.errors import BadReply
from chroma_cli.gateway.redact import Redactor
from chroma_cli.settings import is_loopback

#: White space and controls have no place in an address; a backslash is read differently by different parsers.
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_LONGEST: Final = 8192


def host_of(url: str) -> str:
    """The host of an address, "" when there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def looks_like_address(text: str) -> bool:
    """Whether a text is an http or https address with a host; nothing is said about its being allowed."""
    if len(text) > _LONGEST or not text[:8].lower().startswith(("http://", "https://")):
        return False
    return _UNSAFE.search(text) is None and text.isprintable() and bool(host_of(text))


def check_download(url: str, *, from_loopback: bool, redactor: Redactor) -> None:
    """Raise BadReply unless a picture may be fetched from there.

    https only, http from a loopback gateway to a loopback host; no user or password in it; not the key, which
    a server that saw it could write into an address to have it sent elsewhere.
    """
    refused = _refusal(url, from_loopback, redactor)
    if refused is not None:
        host = redactor.line(host_of(url), 100) or "unknown"
        raise BadReply(
            f"The gateway named a picture at host {host}, but its address {refused}: not fetched.",
            hint="Nothing was sent there. Check which gateway you use: chroma config",
        )


def _refusal(url: str, from_loopback: bool, redactor: Redactor) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "cannot be read"
    if redactor.gives_away(url):
        return "contains the key"
    if "@" in parts.netloc:
        return "contains a user name"
    if not looks_like_address(url):
        return "is not a web address"
    if parts.scheme == "http" and not (from_loopback and is_loopback(host)):
        return "is not https"
    return None
