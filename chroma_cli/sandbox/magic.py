"""What the sandbox does on request: words in a prompt, and keys, that choose an outcome.

Payment providers hand out test cards that are declined; here a prompt that holds ``[sandbox:fail]`` fails.
Every kind of trouble that the gateway's description knows can be called up this way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Magic:
    """One word: ``token`` as it stands in the prompt, ``meaning`` for the help."""

    name: str
    meaning: str

    @property
    def token(self) -> str:
        return f"[sandbox:{self.name}]"


@dataclass(frozen=True)
class PracticeKey:
    """A key that is not simply accepted."""

    key: str
    meaning: str


#: Keys that end the way their last three digits say; any other non-empty key is accepted.
REFUSED_KEY: Final = "SG_0000000000000401"
FORBIDDEN_KEY: Final = "SG_0000000000000403"
NO_BALANCE_KEY: Final = "SG_0000000000000404"
KEYS: Final = (
    PracticeKey(REFUSED_KEY, "is refused: 401"),
    PracticeKey(FORBIDDEN_KEY, "is not permitted to use the model: 403"),
    PracticeKey(NO_BALANCE_KEY, "has no balance record: the account route answers 404"),
)

MAGIC: Final = (
    Magic("fail", "the job ends as FAILED; nothing is charged"),
    Magic("block", "the job ends as FAILED because its content is blocked"),
    Magic("slow", "the job takes ten times as long"),
    Magic("rate-limit", "the first two submits of this prompt answer 429, reset two seconds ahead"),
    Magic("hiccup", "the first submit of this prompt answers 503, the next is accepted"),
    Magic("no-credits", "the submit answers 406: not enough credits"),
    Magic("unauthorized", "the submit answers 401: the key is refused"),
    Magic("forbidden", "the submit answers 403: no permission for the model"),
    Magic("retired", "the submit answers 410: the model is retired"),
    Magic("server-error", "every submit answers 500 with a JSON error"),
    Magic("bad-gateway", "the submit arrives, but a proxy answers 502 in HTML"),
    Magic("lost", "the submit arrives, then the connection drops without an answer"),
    Magic("no-id", "the submit arrives, but the answer holds no request id"),
    Magic("expired", "the job is accepted, then unknown: 404 when asked about"),
    Magic("flaky", "two of five GETs for the job fail (500, 502, 503, dropped), never five in a row"),
    Magic("broken", "every download of the picture is cut short"),
    Magic("broken-once", "the first download of each picture is cut short, later ones are whole"),
    Magic("wrong-size", "the picture is smaller than asked for"),
    Magic("wrong-format", "the picture is of another format than asked for, under the asked type and name"),
    Magic("terse", "the answers hold the bare minimum: no metrics, no image list, no extra headers"),
)

_TOKEN: Final = re.compile(r"\[sandbox:([^\]\n]{1,40})\]", re.IGNORECASE)
_KNOWN: Final = frozenset(magic.name for magic in MAGIC)


def words_in(prompt: str) -> frozenset[str]:
    """The names of the known magic words in ``prompt``."""
    return frozenset(found.strip().lower() for found in _TOKEN.findall(prompt)) & _KNOWN


def unknown_in(prompt: str) -> tuple[str, ...]:
    """Magic words that mean nothing: most likely misspelt, and then better refused than ignored."""
    found = {name.strip().lower() for name in _TOKEN.findall(prompt)}
    return tuple(sorted(found - _KNOWN))
