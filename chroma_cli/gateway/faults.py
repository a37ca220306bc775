"""Why no answer came, in words: a chain of library exceptions becomes one short reason.

Library texts are not shown: they hold object addresses, whole URLs, and sometimes a proxy's password.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["unreachable", "broken", "timeout", "garbled"]


@dataclass(frozen=True)
class NoReply:
    """An exchange without an answer.

    ``connected``: whether the request may have gone out. ``permanent``: trying again cannot help.
    """

    connected: bool
    kind: Kind
    reason: str
    permanent: bool = False
    hint: str | None = None


def explain(error: BaseException, *, connected: bool, proxied: bool) -> NoReply:
    """The most telling cause in an exception's chain."""
    chain = list(_chain(error))
    where = "through the proxy: " if proxied and not connected else ""
    found = _tls(chain, connected) or _network(chain, connected)
    return NoReply(connected, found.kind, where + found.reason, found.permanent, found.hint)


def _chain(error: BaseException) -> Iterator[BaseException]:
    queue: list[object] = [error]
    seen: set[int] = set()
    while queue and len(seen) < 50:
        item = queue.pop(0)
        if not isinstance(item, BaseException) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]


def _tls(chain: list[BaseException], connected: bool) -> NoReply | None:
    for error in chain:
        if isinstance(error, ssl.SSLCertVerificationError):
            why = re.sub(r"[^ -~]", "", error.verify_message or "not trusted")[:120]
            return NoReply(
                connected,
                "unreachable",
                f"its TLS certificate was not accepted ({why})",
                permanent=True,
                hint="If your network has a certificate authority of its own, name its file in "
                "REQUESTS_CA_BUNDLE.",
            )
    for error in chain:
        if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
            why = re.sub(r"[^A-Z0-9_]", "", str(error.reason or ""))[:60].replace("_", " ").lower()
            return NoReply(connected, "unreachable", f"TLS failed ({why or 'no reason given'})")
    return None


def _network(chain: list[BaseException], connected: bool) -> NoReply:
    for error in chain:
        tunnel = re.search(r"Tunnel connection failed: (\d{3})", str(error))
        if isinstance(error, OSError) and tunnel:
            status = tunnel[1]
            return NoReply(
                connected,
                "unreachable",
                f"it refused to connect (status {status})",
                permanent=status == "407",
                hint="Check HTTPS_PROXY: the proxy wants a user and a password." if status == "407" else None,
            )
    for error in chain:
        if isinstance(error, socket.gaierror):
            return NoReply(connected, "unreachable", "the host name could not be resolved")
        if isinstance(error, ConnectionRefusedError):
            return NoReply(connected, "unreachable", "the connection was refused")
        if isinstance(error, http.client.RemoteDisconnected):
            return NoReply(connected, "broken", "the connection was closed without an answer")
        if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
            return NoReply(connected, "broken", "the connection was reset")
        if isinstance(error, TimeoutError):
            return NoReply(connected, "timeout", "it did not answer in time")
        if isinstance(error, http.client.IncompleteRead):
            return NoReply(connected, "broken", "the answer was cut off")
        if isinstance(error, http.client.HTTPException):
            return NoReply(connected, "garbled", "what it sent is not HTTP")
    return _by_number(chain, connected)


def _by_number(chain: list[BaseException], connected: bool) -> NoReply:
    for error in chain:
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            return NoReply(connected, "broken" if connected else "unreachable", error.strerror.lower()[:100])
    if connected:
        return NoReply(connected, "garbled", "what it sent cannot be read")
    return NoReply(connected, "unreachable", f"no connection could be made ({type(chain[0]).__name__})")
