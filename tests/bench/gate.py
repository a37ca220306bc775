"""A gateway for the benchmarks, in a process of its own: jobs with durations given beforehand, one picture.

``Gate.start(folder, picture, durations)`` runs this file. Each key has its own row of jobs, which take the
durations in order, known by the key's last 8 characters (the whole key must not come back in an answer).
Requests that ask for base64 get the picture inside the answer; a request id that begins with ``done-`` is a
finished job.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        gate = self.server
        parts = self.path.strip("/").split("/")
        if parts[0] == "_jobs":
            self.answer([vars(job) for job in gate.jobs.get(parts[1], [])])
        elif parts[0] == "pictures":
            self.send(gate.picture, "image/png")
        elif self.path == "/v1/get-user-credits":
            self.answer({"credits": 9.5, "free-credits": 0.018})
        elif parts[:2] == ["v2", "requests"]:
            self.answer(gate.asked(parts[2], whole=len(parts) == 3))
        else:
            self.answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        gate = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v2/chroma":
            self.answer(gate.accept(self.headers["x-api-key"][-8:], inside=bool(body.get("base64"))))
        elif body.get("base64"):
            self.answer({"image": gate.encoded})
        else:
            self.send(gate.picture, "image/png")

    def answer(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), "application/json", status)

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode())
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Job:
    def __init__(self, now: float, duration: float, inside: bool) -> None:
        self.submitted = now
        self.completed = now + duration
        self.inside = inside
        self.polls = 0
        self.seen = 0.0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, picture: bytes, durations: Sequence[float]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.picture = picture
        self.encoded = base64.b64encode(picture).decode()
        self.durations = durations
        self.jobs: dict[str, list[Job]] = {}
        self.turn = threading.Lock()

    def accept(self, lane: str, *, inside: bool) -> dict[str, Any]:
        with self.turn:
            row = self.jobs.setdefault(lane, [])
            duration = self.durations[len(row) % len(self.durations)] if self.durations else 0.0
            ident = f"{lane}-{len(row)}"
            row.append(Job(time.time(), duration, inside))
        return {
            "request_id": ident,
            "status": "QUEUED",
            "poll_url": f"{self.url}/v1/requests/{ident}",
            "status_url": f"{self.url}/v2/requests/{ident}/status",
            "response_url": f"{self.url}/v2/requests/{ident}",
        }

    def asked(self, ident: str, *, whole: bool) -> dict[str, Any]:
        job = None
        if not ident.startswith("done-"):
            lane, _, number = ident.rpartition("-")
            job = self.jobs[lane][int(number)]
            unfinished = time.time() < job.completed
            job.polls += unfinished or not whole  # also who asks for a result that is not there
            if unfinished:
                return {"status": "PROCESSING", "request_id": ident, "metrics": {}}
            job.seen = job.seen or time.time()
        if not whole:
            return {"status": "COMPLETED", "request_id": ident, "metrics": {}}
        took = job.completed - job.submitted if job is not None else 1.0
        url = f"{self.url}/pictures/{ident}.png"
        return {
            "status": "COMPLETED",
            "output": self.encoded if job is not None and job.inside else url,
            "images": [] if job is not None and job.inside else [{"url": url, "content_type": "image/png"}],
            "seed": 7,
            "metrics": {"cost": 0.055, "remaining_credits": 9.5, "inference_time": took, "total_time": took},
        }


class Gate:
    """The other side of it: a running gateway."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path, picture: bytes, durations: Sequence[float] = ()) -> Iterator[Gate]:
        (folder / "picture").write_bytes(picture)
        (folder / "durations").write_text(json.dumps(list(durations)))
        command = [sys.executable, __file__, str(folder / "picture"), str(folder / "durations")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield cls(process.stdout.readline().strip())
            finally:
                process.kill()

    def jobs(self, key: str) -> list[dict[str, Any]]:
        """What became of the jobs of one key, in order."""
        with urllib.request.urlopen(f"{self.base_url}/_jobs/{key[-8:]}") as reply:
            found: list[dict[str, Any]] = json.load(reply)
        return found


def serve(picture: Path, durations: Path) -> None:
    with Server(picture.read_bytes(), json.loads(durations.read_text())) as server:
        print(server.url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
