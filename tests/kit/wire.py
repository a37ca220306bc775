"""What a gateway may do on the wire in answer to one request: answers, and everything that can go wrong.

An action with ``reply=None`` works on what the well-behaved gateway would have said. Asking it for that is
what makes a job: ``Cut(10)`` on a submit takes the job and cuts its answer, a bare ``RESET`` takes nothing.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Literal

#: Longer than any wait that goes well, in seconds.
PATIENCE = 60.0

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Request:
    """What came. ``path`` has its query; header names are in lower case; ``connection`` counts from 1.

    ``host`` is "api" or "account", ``route`` the name of the route or "", ``prompt`` that of the body or job.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float
    host: str = "api"
    route: str = ""
    prompt: str | None = None
    normal: Callable[[], Reply] = field(default=lambda: Reply.json({}, 404), repr=False, compare=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """Status, headers (pairs: duplicates are possible) and body. ``length``: True is the true one, a number
    is that lie, None sends no Content-Length and ends the body with the connection.
    """

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    length: int | bool | None = True
    close: bool = False
    reason: str = "Said So"

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        """JSON; keyword names become header names with ``-`` for ``_``."""
        pairs = [("Content-Type", "application/json")]
        pairs += [(name.replace("_", "-"), text) for name, text in headers.items()]
        return cls(status, pairs, json.dumps(value).encode())

    @classmethod
    def error(cls, status: int, message: str = "out of order", **headers: str) -> Reply:
        """An error in the gateway's own JSON."""
        return cls.json({"error": message}, status, **headers)

    @classmethod
    def text(cls, words: str | bytes, status: int = 200, kind: str = "text/plain") -> Reply:
        """These words or bytes, said to be of a kind."""
        body = words.encode("utf-8", "surrogatepass") if isinstance(words, str) else words
        return cls(status, [("Content-Type", kind)], body)

    @classmethod
    def page(cls, status: int = 200, words: str = "Bad gateway") -> Reply:
        """An HTML page, as a proxy or a portal says it."""
        body = f"<!DOCTYPE html><html><body><h1>{words}</h1></body></html>".encode()
        return cls(status, [("Content-Type", "text/html")], body)

    @classmethod
    def redirect(cls, to: str, status: int = 302) -> Reply:
        return cls(status, [("Location", to)])

    def head(self, now: float | None = None) -> bytes:
        """Return the head; with ``now`` (epoch seconds) as its Date, unless it has one."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {text}" for name, text in self.headers)]
        if now is not None and all(name.lower() != "date" for name, _ in self.headers):
            lines.append(f"Date: {formatdate(now, usegmt=True)}")
        if self.length is not None:
            lines.append(f"Content-Length: {len(self.body) if self.length is True else int(self.length)}")
        if self.close or self.length is None:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Pass:
    """What the well-behaved gateway does."""


@dataclass(frozen=True)
class Reset:
    """A TCP reset before any answer."""


@dataclass(frozen=True)
class Close:
    """An orderly close without an answer."""


@dataclass(frozen=True)
class Silence:
    """Nothing for so many seconds, then a close; sooner when the gateway stops."""

    seconds: float = PATIENCE


@dataclass(frozen=True)
class Cut:
    """So many bytes of the body (a negative number counts from its end), then a reset or a close."""

    after: int
    reply: Reply | None = None
    end: Literal["reset", "close"] = "reset"


@dataclass(frozen=True)
class Drip:
    """The whole answer, ``piece`` bytes at a time."""

    interval: float = 0.05
    piece: int = 1
    reply: Reply | None = None


@dataclass(frozen=True)
class Garbage:
    """These bytes in place of HTTP, then a close."""

    data: bytes = b"\x00\x01SSH-2.0-OpenSSH_9.6\r\n"


@dataclass(frozen=True)
class Endless:
    """``head`` once, then ``piece`` until the client hangs up."""

    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
    piece: bytes = b"x" * 65536


@dataclass(frozen=True)
class Informed:
    """So many answers of a 1xx status, then the answer."""

    times: int = 1
    status: int = 102
    reply: Reply | None = None


@dataclass(frozen=True)
class Lost:
    """The job is taken; ``how`` stands in place of its answer."""

    how: Action = field(default_factory=Reset)


@dataclass(frozen=True)
class Changed:
    """The well-behaved JSON answer, changed by a function that gets it and returns another."""

    by: Callable[[Any], Any]


class Hold:
    """Stop at one place of an exchange until :meth:`release`; ``wait`` returns when the client is there.

    before: the request was read, nothing is done. answer: it is done (a job is taken), nothing is said. half:
    half of the body is said. after: all is said. Then it goes on, or does ``then``.
    """

    def __init__(
        self,
        place: Literal["before", "answer", "half", "after"] = "before",
        then: Action | None = None,
    ) -> None:
        self.place = place
        self.then = then
        self.reached = threading.Event()
        self._released = threading.Event()

    def wait(self) -> None:
        assert self.reached.wait(PATIENCE), f"nobody came to be held ({self.place})"

    def release(self) -> None:
        self._released.set()

    def stop_here(self) -> None:
        """Called by the gateway."""
        self.reached.set()
        self._released.wait(2 * PATIENCE)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


Action = (
    Reply | Pass | Reset | Close | Silence | Cut | Drip | Garbage | Endless | Informed | Lost | Changed | Hold
)
Step = Action | Callable[[Request], Action]

PASS = Pass()
RESET = Reset()
CLOSE = Close()


def action(text: str) -> Action:
    """Return the action of a word, as tables and scripts in JSON name it.

    ``503`` (the gateway's own error), ``page 502``, ``redirect URL``, ``reset``, ``close``, ``silence 2``,
    ``cut 10``, ``drip 0.01``, ``garbage``, ``endless``, ``informed``, ``pass``; any after ``lost``.
    """
    word, _, rest = text.partition(" ")
    if word.isdigit():
        return Reply.error(int(word), rest or "out of order")
    match word:
        case "lost":
            return Lost(action(rest))
        case "page":
            return Reply.page(int(rest))
        case "redirect":
            return Reply.redirect(rest)
        case "silence":
            return Silence(float(rest))
        case "cut":
            return Cut(int(rest))
        case "drip":
            return Drip(float(rest), 64)
    return {
        "reset": RESET,
        "close": CLOSE,
        "garbage": Garbage(),
        "endless": Endless(),
        "informed": Informed(),
        "pass": PASS,
    }[text]


class Connection:
    """One client's socket, and how actions are done on it. ``now`` gives the Date of answers, if any."""

    def __init__(
        self, sock: socket.socket, stopped: threading.Event, now: Callable[[], float | None]
    ) -> None:
        self._sock = sock
        self._stopped = stopped
        self._now = now

    def do(self, request: Request, step: Step) -> bool:
        """Carry a step out; True when the connection lives on."""
        what = step if not callable(step) else step(request)
        match what:
            case Pass():
                return self._say(request.normal())
            case Reply():
                return self._say(what)
            case Lost(how):
                request.normal()
                return self.do(request, how)
            case Changed(by):
                reply = request.normal()
                return self._say(replace(reply, body=json.dumps(by(json.loads(reply.body))).encode()))
            case Hold():
                return self._hold(request, what)
            case Informed(times, status, reply):
                self._send(f"HTTP/1.1 {status} Wait\r\n\r\n".encode() * times)
                return self._say(reply or request.normal())
        self._spoil(request, what)
        return False

    def _spoil(self, request: Request, what: Action) -> None:
        """Do what ends the connection."""
        match what:
            case Reset():
                self._reset()
            case Silence(seconds):
                self._stopped.wait(seconds)
            case Cut(after, reply, end):
                reply = reply or request.normal()
                self._send(reply.head(self._now()) + reply.body[:after])
                if end == "reset":
                    # Let it arrive: a reset may overtake and discard what is still on its way.
                    self._stopped.wait(0.05)
                    self._reset()
            case Drip(interval, piece, reply):
                reply = reply or request.normal()
                data = reply.head(self._now()) + reply.body
                for place in range(0, len(data), piece):
                    self._send(data[place : place + piece])
                    if self._stopped.wait(interval):
                        break
            case Garbage(data):
                self._send(data)
            case Endless(head, piece):
                self._send(head)
                while not self._stopped.is_set():
                    self._send(piece)

    def _hold(self, request: Request, hold: Hold) -> bool:
        if hold.place == "before":
            hold.stop_here()
            return self.do(request, hold.then or PASS)
        reply = request.normal()
        if hold.place == "answer":
            hold.stop_here()
            return self.do(request, hold.then or reply)
        half = len(reply.body) // 2 if hold.place == "half" else len(reply.body)
        self._send(reply.head(self._now()) + reply.body[:half])
        hold.stop_here()
        if hold.then is not None:
            return self.do(request, hold.then)
        self._send(reply.body[half:])
        return not reply.close and reply.length is not None

    def _say(self, reply: Reply) -> bool:
        self._send(reply.head(self._now()) + reply.body)
        return not reply.close and reply.length is not None

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_request(reader: Any) -> tuple[str, str, dict[str, str], bytes] | None:
    """Return method, path, headers and body of the next request; None when it does not come, or not whole."""
    line = reader.readline(65536).decode("latin-1").strip()
    if not line:
        return None
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := reader.readline(65536).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = reader.read(length)
    return (method, path, headers, body) if len(body) == length else None


class Listener:
    """Accepts on loopback and gives each connection a thread; ``serve(socket, number)`` does the talking."""

    def __init__(self, serve: Callable[[socket.socket, int], None], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._serve = serve
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._accepting.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join(PATIENCE)
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self._one, args=(sock, number), daemon=True)
            with self._lock:
                self._open.add(sock)
                self._threads.add(thread)
            thread.start()

    def _one(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(2 * PATIENCE)
            with contextlib.suppress(OSError, ValueError):  # clients that are killed are what this is for
                self._serve(sock, number)
        finally:
            with self._lock:
                self._open.discard(sock)
                self._threads.discard(threading.current_thread())
            sock.close()
