"""A gateway for the benchmarks, in a process of its own: jobs with durations given beforehand, one picture.

``Gate.start(folder, picture, durations)`` runs this file. Each key has its own row of jobs, which take the
durations in order, known by the key's last 8 characters (the whole key must not come back in an answer).
Requests that ask for base64 get the picture inside the answer; a request id that begins with ``done-`` is a
finished job.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class Connection(asyncio.Protocol):
    """One client. What it sends is read as far as the clients of the benchmarks need: a server that took a
    thread for each of them would take a tenth of the machine from those that are measured."""

    def __init__(self, gate: Server) -> None:
        self.gate = gate
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)
            }
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self.received = rest[length:]
            method, path, _ = line.split(" ", 2)
            if method == "POST":
                self.post(path, headers, json.loads(rest[:length]))
            else:
                self.get(path)

    def get(self, path: str) -> None:
        gate = self.gate
        parts = path.strip("/").split("/")
        if parts[0] == "_jobs":
            self.answer([vars(job) for job in gate.jobs.get(parts[1], [])])
        elif parts[0] == "pictures":
            self.send(gate.picture, "image/png")
        elif path == "/v1/get-user-credits":
            self.answer({"credits": 9.5, "free-credits": 0.018})
        elif parts[:2] == ["v2", "requests"]:
            self.answer(gate.asked(parts[2], whole=len(parts) == 3))
        else:
            self.answer({"error": "not found"}, 404)

    def post(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        gate = self.gate
        if path == "/v2/chroma":
            self.answer(gate.accept(headers["x-api-key"][-8:], inside=bool(body.get("base64"))))
        elif body.get("base64"):
            self.answer({"image": gate.encoded})
        else:
            self.send(gate.picture, "image/png")

    def answer(self, value: Any, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), "application/json", status)

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


class Job:
    def __init__(self, now: float, duration: float, inside: bool) -> None:
        self.submitted = now
        self.completed = now + duration
        self.inside = inside
        self.polls = 0
        self.seen = 0.0


class Server:
    def __init__(self, picture: bytes, durations: Sequence[float]) -> None:
        self.url = ""
        self.picture = picture
        self.encoded = base64.b64encode(picture).decode()
        self.durations = durations
        self.jobs: dict[str, list[Job]] = {}

    async def serve(self) -> None:
        """Say on stdout where it is, and serve until the process is killed."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        print(self.url, flush=True)
        await server.serve_forever()

    def accept(self, lane: str, *, inside: bool) -> dict[str, Any]:
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


if __name__ == "__main__":
    shown, lengths = map(Path, sys.argv[1:])
    asyncio.run(Server(shown.read_bytes(), json.loads(lengths.read_text())).serve())
