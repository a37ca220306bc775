"""A gateway on loopback for storms: it counts submits and charges by prompt, and holds where a test says.

A prompt is the name of one order in a test. ``hold(prompt, place)`` makes the server stop once at that
place of that order's life; ``reached`` then tells the test that the client is in the window it wanted. A
client that was prepared by ``halting.py`` reports its own places by asking for ``/storm/at/PROMPT``.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote

#: Longer than any test needs; nobody waits for ever for a client that was killed.
LONGEST_HOLD = 60.0


@dataclass
class Job:
    """One accepted order. ``seconds`` after its birth it is complete, and charged."""

    number: int
    prompt: str
    body: dict[str, Any]
    born: float
    seconds: float
    asked: int = 0

    @property
    def ident(self) -> str:
        return f"storm-{self.number}"

    @property
    def complete(self) -> bool:
        return time.monotonic() - self.born >= self.seconds


@dataclass
class Hold:
    """``place``: submit (never answered), taken (answered late), status, polled, result, file, half."""

    place: str | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


#: What a submit may get instead of its answer; the job exists all the same. See ``Handler.lose``.
Lost = str


class StormServer:
    """``seconds`` gives each job its duration. ``fault(kind)``, with ``kind`` status, result or file, names
    what goes wrong with this GET (see ``Handler.spoil``), or None.
    """

    def __init__(self) -> None:
        self.seconds: Callable[[], float] = lambda: 0.3
        self.fault: Callable[[str], str | None] = lambda kind: None
        self.lost: dict[str, Lost] = {}
        self.v1_gives_address = False
        self.submits: Counter[str] = Counter()
        self.gets: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.jobs: dict[str, Job] = {}
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), Handler)
        self._http.storm = self
        self.port: int = self._http.server_address[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> StormServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            holds = list(self._holds.values())
        for one in holds:
            one.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    # --- for tests ---

    def hold(self, prompt: str, place: str | None) -> Hold:
        """Stop once where the order is at ``place``; None: only where its client itself says so."""
        with self._lock:
            made = self._holds[prompt] = Hold(place)
        return made

    def charges(self, prompt: str) -> int:
        """How many jobs of this prompt are charged by now."""
        with self._lock:
            return sum(job.complete for job in self.jobs.values() if job.prompt == prompt)

    # --- for the handler ---

    def stop_at(self, prompt: str, place: str | None) -> bool:
        """Hold here if that is wanted and was not done yet; True if it was held."""
        with self._lock:
            one = self._holds.get(prompt)
            if one is None or one.place != place or one.reached.is_set():
                return False
            one.reached.set()
        one.released.wait(LONGEST_HOLD)
        return True

    def accept(self, body: dict[str, Any]) -> Job:
        with self._lock:
            prompt = str(body["prompt"])
            self.submits[prompt] += 1
            job = Job(len(self.jobs) + 1, prompt, body, time.monotonic(), self.seconds())
            self.jobs[job.ident] = job
        return job


class _Http(ThreadingHTTPServer):
    storm: StormServer
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # the one in between looks up the host's name
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed is what storms are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    timeout = LONGEST_HOLD

    def log_message(self, format: str, *args: object) -> None:
        pass

    # --- routes ---

    def do_POST(self) -> None:
        storm = self.server.storm
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        job = storm.accept(body)
        lost = storm.lost.get(job.prompt)
        if storm.stop_at(job.prompt, "submit"):
            self.close_connection = True
            return
        if lost is not None:
            self.lose(lost)
            return
        if self.path == "/v1/chroma":
            job.seconds = 0.0
            if storm.v1_gives_address:
                self.answer({"image": f"{storm.base_url}/files/{job.ident}.png"})
            else:
                self.file(job)
            return
        storm.stop_at(job.prompt, "taken")
        self.answer(
            {
                "request_id": job.ident,
                "status": "QUEUED",
                "poll_url": f"{storm.base_url}/v1/requests/{job.ident}",
                "status_url": f"{storm.base_url}/v2/requests/{job.ident}/status",
                "response_url": f"{storm.base_url}/v2/requests/{job.ident}",
            }
        )

    def do_GET(self) -> None:
        storm = self.server.storm
        if self.path.startswith("/storm/at/"):
            storm.stop_at(unquote(self.path.removeprefix("/storm/at/")), None)
            self.close_connection = True
            return
        parts = self.path.strip("/").split("/")
        job = storm.jobs.get(parts[-1].removesuffix(".png") if parts[0] == "files" else parts[2])
        if job is None:
            self.answer({"error": "request not found"}, 404)
            return
        kind = "file" if parts[0] == "files" else "status" if parts[-1] == "status" else "result"
        storm.gets[kind] += 1
        if storm.stop_at(job.prompt, kind):
            self.close_connection = True
            return
        fault = storm.fault(kind)
        if fault is not None:
            storm.faults[fault] += 1
            self.spoil(fault, job, kind)
            return
        {"file": self.file, "status": self.status, "result": self.result}[kind](job)
        if kind == "status":
            storm.stop_at(job.prompt, "polled")

    def status(self, job: Job) -> None:
        job.asked += 1
        state = "COMPLETED" if job.complete else "QUEUED" if job.asked == 1 else "PROCESSING"
        self.answer({"status": state, "request_id": job.ident, "metrics": {}})

    def result(self, job: Job) -> None:
        self.answer(self.result_of(job))

    def result_of(self, job: Job) -> dict[str, Any]:
        if not job.complete:
            return {"status": "PROCESSING", "request_id": job.ident}
        url = f"{self.server.storm.base_url}/files/{job.ident}.png"
        return {
            "status": "COMPLETED",
            "request_id": job.ident,
            "output": url,
            "images": [{"url": url, "content_type": "image/png"}],
            "seed": job.body.get("seed"),
            "metrics": {"cost": 0.055, "remaining_credits": 9.0, "total_time": job.seconds},
        }

    def file(self, job: Job) -> None:
        data = picture(job.prompt)
        self.head(200, "image/png", len(data))
        half = len(data) // 2
        self.wfile.write(data[:half])
        if self.server.storm.stop_at(job.prompt, "half"):
            self.close_connection = True
            return
        self.wfile.write(data[half:])

    # --- what goes wrong ---

    def lose(self, how: Lost) -> None:
        """The answer to a submit that was taken does not arrive as it should."""
        if how == "reset":
            self.reset()
        elif how == "close":
            self.close_connection = True
        elif how in ("502", "504"):
            self.raw(int(how), "text/html", b"<html><h1>Bad gateway</h1></html>")
        elif how == "silence":
            threading.Event().wait(8)
            self.close_connection = True
        elif how == "no id":
            self.answer({"status": "QUEUED"})
        elif how == "cut":
            self.cut(b'{"request_id": "storm-1", "status"')
        else:
            raise ValueError(how)

    def spoil(self, how: str, job: Job, kind: str) -> None:
        """A GET goes wrong: a status, reset, cut, or nothing (said at once, or after a while)."""
        if how in ("500", "502", "503"):
            plain = how == "502"
            data = b"<html>Bad gateway</html>" if plain else b'{"error": "out of order"}'
            self.raw(int(how), "text/html" if plain else "application/json", data)
        elif how == "reset":
            self.reset()
        elif how == "cut":
            whole = picture(job.prompt) if kind == "file" else json.dumps(self.result_of(job)).encode()
            self.cut(whole[: len(whole) // 2])
        elif how == "cut json":
            self.raw(200, "application/json", b'{"status": "COMPLETED", "request')
        elif how == "nothing":
            self.close_connection = True
        elif how == "nothing, slowly":
            threading.Event().wait(1.0)
            self.close_connection = True
        else:
            raise ValueError(how)

    # --- the wire ---

    def head(self, status: int, kind: str, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def raw(self, status: int, kind: str, data: bytes) -> None:
        self.head(status, kind, len(data))
        self.wfile.write(data)

    def answer(self, value: Any, status: int = 200) -> None:
        self.raw(status, "application/json", json.dumps(value).encode())

    def cut(self, start: bytes) -> None:
        self.head(200, "application/json", len(start) * 2)
        self.wfile.write(start)
        self.close_connection = True

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The class would shut the connection down in order first, which says more than a reset does.
        self.connection.close()


@cache
def picture(prompt: str) -> bytes:
    """A whole PNG of 64x64 pixels, another one for each prompt, with 120 KB of filler to download."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    noise = random.Random(prompt)
    rows = b"".join(b"\x00" + noise.randbytes(3 * 64) for _ in range(64))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
        + chunk(b"tEXt", b"Comment\x00" + b"x" * 120_000)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def is_whole(path: Path, prompt: str) -> bool:
    """Whether the file is that picture to its last byte; chroma may have written its recipe into it."""
    return _pixels(path.read_bytes()) == _pixels(picture(prompt))


def _pixels(data: bytes) -> list[bytes]:
    """The chunks that are seen; nothing of a file that is cut, damaged, or goes on behind its end."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[place + 4 : end])):
            return []
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(data[place:end])
        place = end + 4
        if kind == b"IEND" and place == len(data):
            return chunks
    return []
