"""What an HTTP status means: the gateway's error table as errors, with advice. Pure.

Source: the provider's error pages as collected in the project's gateway notes, section "Errors".
"""

from __future__ import annotations

import re
from typing import Final, Literal

from chroma_cli.errors import (
    BadReply,
    ChromaError,
    KeyRefused,
    NotEnoughCredits,
    NotFound,
    NotPermitted,
    RateLimited,
    RequestRejected,
    Retired,
    ServerError,
    WrongAddress,
)
from chroma_cli.request.schema import PARAMETERS

#: What was asked for: a new job, one job's state or result, or the account.
Subject = Literal["job", "request", "account"]

_MONEY: Final = re.compile(r"credit|balance|spend|budget|fund|quota|billing|payment|top.?up", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"content[-_ ]type|parameter|\b(?:"
    + "|".join(re.escape(row.name).replace("_", "[_ -]?") for row in PARAMETERS)
    + r"|sampler)\b",
    re.IGNORECASE,
)
_MISSING_KEY: Final = re.compile(r"missing.{0,40}(?:api[-_ ]?key|header)", re.IGNORECASE | re.DOTALL)


def refusal(status: int, words: str, *, subject: Subject, location: str = "") -> ChromaError:
    """The error of a status that is no success. ``words`` is what the server said, redacted; ``location`` the
    host that a redirect leads to. Nothing was charged, as far as the status alone can tell.
    """
    said = f": {words}" if words else "."
    if 300 <= status <= 399:
        target = f" to {location}" if location else ""
        return WrongAddress(
            f"The gateway answered with a redirect ({status}){target}, which is not followed."
        )
    if status in (402, 406):
        return _money_or_value(status, words, said)
    if status == 404:
        return _not_found(words, subject)
    if 500 <= status <= 599:
        return ServerError(
            f"The gateway is in trouble ({status}){said}",
            hint="Try again later. Right after a parameter was changed, it is often that parameter."
            if subject == "job" and status == 500
            else "Try again later.",
        )
    return _by_status(status, words, said)


def _by_status(status: int, words: str, said: str) -> ChromaError:
    if status == 401:
        if _MISSING_KEY.search(words):
            return KeyRefused(
                f"The key did not arrive at the gateway (401){said}",
                hint="The key may be fine: a redirect or a proxy on the way took the header off. "
                "Check the gateway address and HTTPS_PROXY.",
            )
        return KeyRefused(
            f"The gateway refused the key (401){said}",
            hint="Check SEGMIND_API_KEY, or store a new key: chroma login",
        )
    if status == 403:
        return NotPermitted(
            f"The key has no permission for this (403){said}",
            hint="Look at the key's rights in the provider's console.",
        )
    if status == 405:
        return WrongAddress(f"What answered does not take this kind of request (405){said}")
    if status == 410:
        return Retired(
            f"The model was retired (410){said}", hint="Look for its successor on the provider's pages."
        )
    if status == 429:
        return RateLimited(
            f"Too many requests (429){said}", hint="Wait a minute, or allow more time with --timeout."
        )
    if 400 <= status <= 499:
        return RequestRejected(
            f"The gateway rejected the request ({status}){said}", hint="Check the value that it names."
        )
    return BadReply(f"The gateway answered with a status that means nothing ({status}){said}")


def _money_or_value(status: int, words: str, said: str) -> ChromaError:
    """402 and 406: money, unless the text names the content type or a parameter (and not money)."""
    if _PARAMETER.search(words) and not _MONEY.search(words):
        return RequestRejected(
            f"The gateway rejected the request ({status}){said}", hint="Check the value that it names."
        )
    return NotEnoughCredits(f"The gateway wants more credits ({status}){said}")


def _not_found(words: str, subject: Subject) -> ChromaError:
    said = f": {words}" if words else "."
    if subject == "job":
        return NotFound(
            f"The gateway does not know this model (404){said}",
            hint="Check --base-url, CHROMA_BASE_URL and base_url in the config file.",
        )
    if subject == "request":
        return NotFound(
            f"The gateway does not know this request (404){said}",
            hint="It may have expired (results are kept one hour), or belong to another key or gateway.",
        )
    return NotFound(f"The gateway has no such record (404){said}")
