"""The sandbox on loopback: HTTP/1.1 around ``world``, nothing decided here.

A call is read, answered by the world in one step of the store, its pictures filled in, and the answer sent
in one piece. Clients that vanish, and calls that are no HTTP, are met in silence.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from chroma_cli.clock import Clock, SystemClock
from chroma_cli.sandbox.store import Keeper
from chroma_cli.sandbox.studio import Studio
from chroma_cli.sandbox.world import Call, Painting, Reply, SizeOf, World, WorldOptions

#: Largest request body that is read as one (bytes), and how much of a larger one is swallowed so that its
#: sender gets to see the answer.
BODY_MAX: Final = 20 * 1024 * 1024
_SWALLOWED_MAX: Final = 4 * BODY_MAX
_CHUNK: Final = 64 * 1024
_IDLE_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 2.0
_HOST: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")

#: Told of each call that was answered: method, path, status (0: dropped without an answer), milliseconds.
Log = Callable[[str, str, int, float], None]


class SandboxServer:
    """A practice gateway at ``base_url``; its world lives in ``state_dir``, or in memory when that is None.

    ``port`` 0 takes a free one. The address is bound at once, calls are answered after :meth:`start` (in a
    thread) or during :meth:`serve_forever`. Raises OSError when the address cannot be had.
    ``warning`` is set when the world cannot be kept in ``state_dir``.
    """

    def __init__(
        self,
        state_dir: Path | None = None,
        options: WorldOptions | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        log: Log | None = None,
    ) -> None:
        self._keeper = Keeper(state_dir, options or WorldOptions())
        self._clock = clock or SystemClock()
        self._http = _Http(_Desk(self._keeper, self._clock, log), host, port)
        self._thread: threading.Thread | None = None
        self._serving = False

    @property
    def base_url(self) -> str:
        return self._http.base_url

    @property
    def warning(self) -> str | None:
        return self._keeper.warning

    def start(self) -> Self:
        """Answer calls in a thread of its own until :meth:`stop`."""
        self._serving = True
        self._thread = threading.Thread(target=self._serve, name="chroma-sandbox", daemon=True)
        self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Answer calls in this thread, until an exception (Ctrl-C) or a :meth:`stop` from another thread."""
        self._serving = True
        self._serve()

    def stop(self) -> None:
        """End at once: blocked calls and open connections are dropped. May be called twice."""
        self._http.desk.stopping.set()
        if self._serving:
            self._http.shutdown()
            self._serving = False
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._http.drop_connections()

    def _serve(self) -> None:
        self._http.serve_forever(poll_interval=0.1)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Desk:
    """Where a call becomes an answer in bytes; shared by all connections."""

    def __init__(self, keeper: Keeper, clock: Clock, log: Log | None) -> None:
        self._keeper = keeper
        self._clock = clock
        self._log = log
        self._studio = Studio()
        self.stopping = threading.Event()

    def reply_to(self, call: Call) -> Reply:
        reply = self._ask(lambda world, now: world.answer(call, now))
        if reply.waits_for is None:
            return reply
        if self.stopping.wait(reply.wait):
            return Reply(drop=True)
        job_id = reply.waits_for
        return self._ask(lambda world, now: world.finish(job_id, now))

    def _ask(self, question: Callable[[World, float], Reply]) -> Reply:
        now = self._clock.wall()
        return self._keeper.run(now, lambda world: question(world, now))

    def content(self, reply: Reply) -> tuple[str, bytes]:
        """Content type and body of a reply, its pictures painted."""
        if reply.drop:
            return "", b""
        if reply.html is not None:
            return "text/html; charset=utf-8", reply.html.encode()
        if isinstance(reply.body, Painting):
            return reply.body.content_type, self._studio.bytes_of(reply.body)
        return "application/json", json.dumps(reply.body, default=self._filled_in).encode()

    def _filled_in(self, part: object) -> Any:
        if isinstance(part, SizeOf):
            return self._studio.size_of(part.painting)
        if isinstance(part, Painting):
            text = base64.b64encode(self._studio.bytes_of(part)).decode()
            return f"data:{part.content_type};base64,{text}" if part.data_uri else text
        raise TypeError(type(part).__name__)

    def record(self, method: str, path: str, status: int, started: float) -> None:
        if self._log is not None:
            plain = "".join(char if char.isprintable() else "?" for char in path)
            self._log(method, plain, status, (time.perf_counter() - started) * 1000)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection must not keep the program
    request_queue_size = 1024
    # On Windows this would let a second server take the same port.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, desk: _Desk, host: str, port: int) -> None:
        self.desk = desk
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        self.base_url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.server_port}"

    def server_bind(self) -> None:
        # HTTPServer's own asks the name server for this machine's full name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._connections.discard(request)

    def drop_connections(self) -> None:
        """Cut every open connection and give their threads a moment to notice."""
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            with self._lock:
                still_open = list(self._connections)
            if not still_open:
                return
            for connection in still_open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            time.sleep(0.01)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to say: only a client's connection can fail here, and bugs are answered with a 500."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: HTTPServer

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def version_string(self) -> str:
        return "chroma-sandbox"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the caller's ``log`` is told instead."""

    @property
    def _desk(self) -> _Desk:
        assert isinstance(self.server, _Http)
        return self.server.desk

    def _handle(self) -> None:
        started = time.perf_counter()
        path = self.path.split("?", 1)[0].split("#", 1)[0]
        body = self._read_body()
        if isinstance(body, Reply):
            self.close_connection = True
            self._send(body, self._desk.content(body), path, started)
            return
        if body is None:
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, path, headers, body, self._address())
        try:
            reply = self._desk.reply_to(call)
            content = self._desk.content(reply)
        except Exception as bug:
            self.close_connection = True
            reply = Reply(500, {"error": f"Bug in the sandbox: {type(bug).__name__}: {bug}"})
            content = self._desk.content(reply)
        self._send(reply, content, path, started)

    def _read_body(self) -> bytes | Reply | None:
        """The body; a refusal; None when the client left in the middle of it."""
        if self.headers.get("Transfer-Encoding"):
            return Reply(411, {"error": "Send the body with a Content-Length"})
        text = self.headers.get("Content-Length", "0").strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            return Reply(400, {"error": "Invalid Content-Length"})
        length = int(text)
        if length > BODY_MAX:
            self._swallow(min(length, _SWALLOWED_MAX))
            return Reply(413, {"error": f"The request body may have at most {BODY_MAX} bytes"})
        try:
            body = self.rfile.read(length)
        except OSError:
            return None
        return body if len(body) == length else None

    def _swallow(self, length: int) -> None:
        """Read and forget: a connection that is closed with unread bytes loses the answer as well."""
        with contextlib.suppress(OSError):
            while length > 0 and (chunk := self.rfile.read(min(_CHUNK, length))):
                length -= len(chunk)

    def _address(self) -> str:
        """The address the client used, so that URLs in replies also work behind a forwarded port."""
        host = self.headers.get("Host", "")
        if _HOST.fullmatch(host):
            return f"http://{host}"
        assert isinstance(self.server, _Http)
        return self.server.base_url

    def _send(self, reply: Reply, content: tuple[str, bytes], path: str, started: float) -> None:
        if reply.drop:
            self.close_connection = True
            self._desk.record(self.command, path, 0, started)
            return
        content_type, body = content
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        # One send for all of it: two would meet the client's delayed acknowledgement (40 ms each).
        lines = getattr(self, "_headers_buffer", [])
        self._headers_buffer: list[bytes] = []
        shown = b"" if self.command == "HEAD" else body
        try:
            self.wfile.write(b"".join(lines) + b"\r\n" + shown)
        except OSError:
            self.close_connection = True  # the client is gone; what happened, happened
        self._desk.record(self.command, path, reply.status, started)
