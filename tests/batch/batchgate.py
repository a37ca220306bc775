"""A gateway that keeps count: who was submitted when, polled how often, and charged what; steered by prompts.

``[fail]`` fails, ``[fail-once]`` fails the first time, ``[lost]`` arrives and is never answered, ``[odd]``
comes as another format, ``[slow]`` takes until :attr:`Gate.release` is set. While :attr:`Gate.closed` is
true every call is answered with 429.
"""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from PIL import Image


def picture(seed: int, kind: str = "PNG", size: tuple[int, int] = (768, 768)) -> bytes:
    """One colour that tells the seed."""
    kept = io.BytesIO()
    Image.new("RGB", size, (seed % 251, seed // 251 % 251, 90)).save(kept, kind)
    return kept.getvalue()


@dataclass
class Job:
    name: str
    body: dict[str, Any]
    at: float
    done_at: float
    failed: bool
    #: Questions about it, until it was known to be finished.
    polls: int = 0
    told: bool = False
    fetched: int = 0

    @property
    def prompt(self) -> str:
        return str(self.body["prompt"])


@dataclass
class Gate:
    """``latency`` in seconds, ``cost`` in dollars (None: not told)."""

    latency: float = 0.1
    cost: float | None = 0.055
    jobs: list[Job] = field(default_factory=list)
    calls: list[tuple[float, str, int]] = field(default_factory=list)
    closed: bool = False
    #: Seconds ahead that a 429 names; None for a 429 that names nothing.
    reset_ahead: float | None = None
    refuse_key: bool = False
    credits: float | None = None
    lost: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    most_in_flight: int = 0

    def __enter__(self) -> Self:
        gate = self

        class Handler(_Handler):
            pass

        Handler.gate = gate
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def prompts(self) -> list[str]:
        """What was submitted, in order."""
        with self.lock:
            return [job.prompt for job in self.jobs]

    def times(self, prompt: str) -> int:
        return self.prompts.count(prompt)

    def submit(self, body: dict[str, Any]) -> Job | None:
        now = time.monotonic()
        with self.lock:
            prompt = body["prompt"]
            before = [job for job in self.jobs if job.prompt == prompt]
            failed = "[fail]" in prompt or ("[fail-once]" in prompt and not before)
            job = Job(f"job-{len(self.jobs) + 1}", body, now, now + self.latency, failed)
            self.jobs.append(job)
            running = [one for one in self.jobs if not self._done(one)]
            self.most_in_flight = max(self.most_in_flight, len(running))
            if "[lost]" in prompt and not before:
                self.lost.append(job.name)
                return None
        return job

    def _done(self, job: Job) -> bool:
        if "[slow]" in job.prompt and not self.release.is_set():
            return False
        return time.monotonic() >= job.done_at

    def find(self, name: str) -> Job | None:
        with self.lock:
            return next((job for job in self.jobs if job.name == name), None)

    def state(self, job: Job) -> str:
        if not self._done(job):
            return "PROCESSING"
        return "FAILED" if job.failed else "COMPLETED"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gate: Gate

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.turned_away("POST"):
            return
        if self.gate.refuse_key:
            self.answer(401, {"error": "invalid key"})
        elif self.gate.credits is not None and self.gate.credits < 0.055:
            self.answer(406, {"error": "Insufficient credits"})
        else:
            if self.gate.credits is not None:
                self.gate.credits -= 0.055
            job = self.gate.submit(body)
            if job is None:
                self.close_connection = True
                return
            self.answer(200, {"request_id": job.name, "status": "QUEUED"})

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "files":
            job = self.gate.find(parts[1])
            assert job is not None
            job.fetched += 1
            size = (job.body.get("width", 1024), job.body.get("height", 1024))
            kind = "JPEG" if "[odd]" in job.prompt else job.body["image_format"].upper()
            self.send(200, picture(job.body["seed"], kind, size), "image/png")
            return
        if self.turned_away("GET"):
            return
        job = self.gate.find(parts[2])
        if job is None:
            self.answer(404, {"error": "request not found"})
            return
        state = self.gate.state(job)
        whole = len(parts) == 3
        job.polls += not whole or not job.told
        job.told = state in ("COMPLETED", "FAILED")
        value: dict[str, Any] = {"status": state, "request_id": job.name, "metrics": {}}
        if state == "FAILED":
            self.answer(422, {**value, "error": "content was blocked"})
            return
        if whole and state == "COMPLETED":
            urls = [f"{self.gate.url}/files/{job.name}/{n}.png" for n in range(job.body.get("samples", 1))]
            value |= {"output": urls, "images": [{"url": url} for url in urls], "seed": job.body["seed"]}
            if self.gate.cost is not None:
                value["metrics"] = {"cost": self.gate.cost, "total_time": self.gate.latency}
        self.answer(200, value)

    def turned_away(self, method: str) -> bool:
        with self.gate.lock:
            self.gate.calls.append((time.monotonic(), method, 429 if self.gate.closed else 200))
        if not self.gate.closed:
            return False
        headers = {}
        if self.gate.reset_ahead is not None:
            headers["x-rate-limit-reset-at-utc"] = str(time.time() + self.gate.reset_ahead)
        self.answer(429, {"error": "rate limited"}, headers)
        return True

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), "application/json", headers)

    def send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
