"""A scriptable HTTP server on loopback that can also misbehave; shared by all tests that need a gateway.

    with FaultServer() as server:
        server.on("POST", "/v2/chroma", RESET, Reply.json({"request_id": "a1", "status": "QUEUED"}))
        ... talk to server.base_url ...
        assert len(server.requests("POST")) == 2

A route is a method and a path; the path is exact, or ends in ``*`` and matches everything that starts so.
Later routes go before earlier ones. Its actions are used up one a request; the last stays. An action is

* a :class:`Reply`: status, headers (a list of pairs: duplicates are possible), body. Content-Length is added
  unless ``length`` says otherwise (a number: that lie; None: no header, the body ends with the connection),
* RESET (TCP reset before any answer), CLOSE (orderly close without an answer),
* ``Silence(seconds)``: nothing, then close (sooner when the client hangs up or the server stops),
* ``Drip(data, interval)``: these raw bytes, one by one,
* ``Garbage(data)``: these raw bytes instead of HTTP, then close,
* ``Endless(head, piece)``: head once, then piece until the client hangs up,
* ``Cut(reply, after)``: the first ``after`` bytes of the reply's body, then a reset,
* or a function that gets the :class:`Request` and gives any of these.

A request without a route gets 404 and JSON. ``gateway_script(server)`` adds the routes of a well-behaved
gateway, over which a test lays the faults it wants. Connections are kept alive like a real server's.
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    length: int | None | str = "true"
    close: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        """JSON; keyword names become header names with ``-`` for ``_``."""
        pairs = [
            ("Content-Type", "application/json"),
            *((k.replace("_", "-"), v) for k, v in headers.items()),
        ]
        return cls(status, pairs, json.dumps(value).encode())

    @classmethod
    def text(cls, text: str | bytes, status: int = 200, kind: str = "text/plain") -> Reply:
        return cls(status, [("Content-Type", kind)], text.encode() if isinstance(text, str) else text)

    def head(self, now: float | None = None) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Said So", *(f"{name}: {value}" for name, value in self.headers)]
        if now is not None:
            lines.append(f"Date: {formatdate(now, usegmt=True)}")
        if self.length is not None:
            lines.append(f"Content-Length: {len(self.body) if self.length == 'true' else self.length}")
        if self.close or self.length is None:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Reset:
    pass


@dataclass(frozen=True)
class Close:
    pass


@dataclass(frozen=True)
class Silence:
    seconds: float = 60.0


@dataclass(frozen=True)
class Drip:
    data: bytes
    interval: float = 0.05


@dataclass(frozen=True)
class Garbage:
    data: bytes


@dataclass(frozen=True)
class Endless:
    head: bytes
    piece: bytes


@dataclass(frozen=True)
class Cut:
    reply: Reply
    after: int


RESET = Reset()
CLOSE = Close()


@dataclass(frozen=True)
class Request:
    """What came: ``path`` with its query; header names in lower case; ``connection`` counts from 1."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Action = Reply | Reset | Close | Silence | Drip | Garbage | Endless | Cut
Step = Action | Callable[[Request], Action]


class _Route:
    def __init__(self, method: str, path: str, steps: Iterable[Step]) -> None:
        self.method = method
        self.path = path
        self._steps = list(steps)

    def matches(self, request: Request) -> bool:
        return request.method == self.method and fnmatch.fnmatchcase(request.path, self.path)

    def next(self) -> Step:
        return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]


class FaultServer:
    """See the module's text. ``tls`` is a server-side SSLContext for https. With a ``greeting`` it
    says just that to whoever connects, and hangs up.
    """

    def __init__(
        self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, greeting: bytes | None = None
    ) -> None:
        self._tls = tls
        self._greeting = greeting
        #: The clock for the Date of its answers, if they are to have one.
        self.wall: Callable[[], float] | None = None
        self._routes: list[_Route] = []
        self._log: list[Request] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(1)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        scheme = "https" if tls else "http"
        self.base_url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    # --- for tests ---

    def on(self, method: str, path: str, *steps: Step) -> None:
        with self._lock:
            self._routes.insert(0, _Route(method, path, steps))

    def requests(self, method: str | None = None, path: str = "*") -> list[Request]:
        """What came so far, in order."""
        with self._lock:
            return [
                request
                for request in self._log
                if method in (None, request.method) and fnmatch.fnmatchcase(request.path, path)
            ]

    def __enter__(self) -> FaultServer:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            threads = list(self._threads)
        for thread in threads:
            thread.join(5)

    # --- the wire ---

    def _spawn(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, sock, next(self._numbers))

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            stack.enter_context(contextlib.suppress(OSError, ValueError))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(30)
            if self._greeting is not None:
                sock.sendall(self._greeting)
                sock.recv(65536)  # unread bytes would turn the closing into a reset
                return
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                stack.callback(sock.close)
            with self._lock:
                self._open.add(sock)
            stack.callback(self._forget, sock)
            reader = stack.enter_context(sock.makefile("rb"))
            while not self._stopped.is_set():
                request = _read_request(reader, number)
                if request is None:
                    return
                with self._lock:
                    self._log.append(request)
                    route = next((route for route in self._routes if route.matches(request)), None)
                    step = route.next() if route else Reply.json({"error": "no such route"}, 404)
                action = step(request) if callable(step) else step
                if not self._do(sock, action):
                    return

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)

    def _do(self, sock: socket.socket, action: Action) -> bool:
        """Carry an action out; True when the connection lives on."""
        match action:
            case Reply():
                now = self.wall() if self.wall is not None else None
                sock.sendall(action.head(now) + action.body)
                return not action.close and action.length is not None
            case Reset():
                _reset(sock)
            case Close():
                pass
            case Silence(seconds):
                self._stopped.wait(seconds)
            case Drip(data, interval):
                for byte in data:
                    sock.sendall(bytes([byte]))
                    if self._stopped.wait(interval):
                        break
            case Garbage(data):
                sock.sendall(data)
            case Endless(head, piece):
                sock.sendall(head)
                while not self._stopped.is_set():
                    sock.sendall(piece)
            case Cut(reply, after):
                sock.sendall(reply.head() + reply.body[:after])
                # Let it arrive: a reset may overtake and discard what is still on its way.
                self._stopped.wait(0.05)
                _reset(sock)
        return False


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_request(reader: Any, number: int) -> Request | None:
    line = reader.readline(65536).decode("latin-1").strip()
    if not line:
        return None
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := reader.readline(65536).decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, number)


# --- pictures and a gateway to spoil ---------------------------------------------------------------------


def tiny_png(width: int = 4, height: int = 4, shade: int = 128, padding: int = 0) -> bytes:
    """A whole, decodable RGB PNG of one grey; ``padding`` adds a text chunk of that many bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + bytes([shade]) * (3 * width)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    filler = chunk(b"tEXt", b"Comment\x00" + b"x" * padding) if padding else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + filler
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def gateway_script(server: FaultServer, *, polls: int = 1, png: bytes | None = None) -> None:
    """The routes of a well-behaved gateway: v2 submit, status (``polls`` times PROCESSING, then COMPLETED),
    result, file, v1, and credits. Ids are ``job-1``, ``job-2``, …; every job's seed is the one that was sent.
    """
    picture = png or tiny_png()
    jobs: dict[str, dict[str, Any]] = {}
    asked: dict[str, int] = {}
    lock = threading.Lock()

    def submit(request: Request) -> Action:
        with lock:
            name = f"job-{len(jobs) + 1}"
            jobs[name] = request.json
        base = server.base_url
        return Reply.json(
            {
                "request_id": name,
                "status": "QUEUED",
                "poll_url": f"{base}/v1/requests/{name}",
                "status_url": f"{base}/v2/requests/{name}/status",
                "response_url": f"{base}/v2/requests/{name}",
            },
            x_remaining_credits="9.945",
        )

    def known(request: Request) -> str | None:
        name = request.path.split("/")[3]
        return name if name in jobs else None

    def status(request: Request) -> Action:
        name = known(request)
        if name is None:
            return Reply.json({"error": "request not found"}, 404)
        with lock:
            asked[name] = asked.get(name, 0) + 1
            done = asked[name] > polls
        return Reply.json(
            {"status": "COMPLETED" if done else "PROCESSING", "request_id": name, "metrics": {}}
        )

    def result(request: Request) -> Action:
        name = known(request)
        if name is None:
            return Reply.json({"error": "request not found"}, 404)
        body = jobs[name]
        urls = [f"{server.base_url}/files/{name}-{n}.png" for n in range(body.get("samples", 1))]
        return Reply.json(
            {
                "status": "COMPLETED",
                "request_id": name,
                "output": urls[0] if len(urls) == 1 else urls,
                "images": [{"url": url, "content_type": "image/png"} for url in urls],
                "seed": body.get("seed"),
                "metrics": {
                    "cost": 0.055,
                    "remaining_credits": 9.89,
                    "queue_time": 0.2,
                    "inference_time": 53.1,
                    "total_time": 53.4,
                },
            }
        )

    def sync(request: Request) -> Action:
        headers = [
            ("Content-Type", "image/jpeg"),
            ("x-request-id", "sync-1"),
            ("x-cost", "0.055"),
            ("x-remaining-credits", "9.89"),
            ("x-generation-time", "53.1"),
            ("x-seed-value", str(request.json.get("seed", 7))),
        ]
        return Reply(200, headers, picture)

    server.on("POST", "/v2/chroma", submit)
    server.on("GET", "/v2/requests/*", result)
    server.on("GET", "/v2/requests/*/status", status)
    server.on("GET", "/files/*", Reply(200, [("Content-Type", "image/png")], picture))
    server.on("POST", "/v1/chroma", sync)
    server.on("GET", "/v1/get-user-credits", Reply.json({"credits": 9.5, "free-credits": 0.018}))


def without_length(reply: Reply) -> Reply:
    """The same reply, ended by closing the connection."""
    return replace(reply, length=None)
