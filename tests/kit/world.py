"""The jobs of a well-behaved gateway: what was taken, how far it is, what it cost, and its pictures."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, urlsplit

from kit.pictures import number_of, picture
from kit.wire import Reply

MODEL = "chroma"


class Clock(Protocol):
    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


@dataclass(frozen=True)
class Plan:
    """How a job is to go. ``polls``: so many questions are answered as not finished, whatever the time is.

    ``price`` None: the cost is not told. ``error``: it fails with these words, uncharged. ``seen`` False: the
    account's history does not have it.
    """

    seconds: float = 0.0
    polls: int = 0
    price: float | None = 0.055
    error: str | None = None
    seen: bool = True


@dataclass
class Job:
    """One that was taken. Times are those of the gateway's clock."""

    number: int
    body: dict[str, Any]
    mode: Literal["async", "sync"]
    plan: Plan
    born: float
    born_wall: float
    #: The numbers that its pictures bear.
    pictures: list[int] = field(default_factory=list)
    polls: int = 0
    results: int = 0
    downloads: int = 0
    finished: bool = False
    gone: bool = False

    @property
    def id(self) -> str:
        return f"{self.number:08x}-c0de-4000-8000-{self.number:012x}"

    @property
    def prompt(self) -> str:
        return str(self.body.get("prompt"))


class World:
    """All jobs of one gateway. ``keeps``: how long results are kept, in seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.keeps = 3600.0
        self.balance = 1000.0
        self.jobs: list[Job] = []
        self.plan = Plan()
        self.plans: dict[str, list[Plan]] = {}
        #: How the history shows request bodies: as an object, as JSON text, or as the text of a Python dict.
        self.bodies: Literal["object", "json", "python"] = "object"
        #: The bytes of every picture, in place of one that tells its job.
        self.served: bytes | None = None
        self.most_in_flight = 0
        self._pictures = 0
        self.lock = threading.RLock()

    # --- jobs ---

    def take(self, body: dict[str, Any], mode: Literal["async", "sync"]) -> Job:
        """Take a job; whoever calls this made one that is billed."""
        with self.lock:
            planned = self.plans.get(str(body.get("prompt")), [self.plan])
            plan = planned.pop(0) if len(planned) > 1 else planned[0]
            job = Job(len(self.jobs) + 1, body, mode, plan, self.clock.monotonic(), self.clock.wall())
            count = int(body.get("samples") or 1)
            job.pictures = list(range(self._pictures + 1, self._pictures + count + 1))
            self._pictures += count
            self.jobs.append(job)
            running = sum(self.state(one) in ("QUEUED", "PROCESSING") for one in self.jobs)
            self.most_in_flight = max(self.most_in_flight, running)
            return job

    def find(self, ident: str) -> Job | None:
        wanted = ident.replace("-", "").lower()
        with self.lock:
            return next((job for job in self.jobs if job.id.replace("-", "") == wanted), None)

    def of(self, prompt: str | None) -> list[Job]:
        with self.lock:
            return [job for job in self.jobs if prompt in (None, job.prompt)]

    def state(self, job: Job) -> str:
        age = self.clock.monotonic() - job.born
        if job.finished or (age >= job.plan.seconds and job.polls >= job.plan.polls):
            return "COMPLETED" if job.plan.error is None else "FAILED"
        return "QUEUED" if age < job.plan.seconds / 10 or job.polls == 0 else "PROCESSING"

    def billed(self, job: Job) -> bool:
        """Return whether it is paid for: complete, and not failed."""
        return self.state(job) == "COMPLETED"

    @property
    def left(self) -> float:
        with self.lock:
            spent = sum(job.plan.price or 0.0 for job in self.jobs if self.billed(job))
        return round(self.balance - spent, 6)

    def whose(self, bytes_of: bytes) -> Job:
        """Return the job that a picture is of."""
        number = number_of(bytes_of)
        return next(job for job in self.jobs if number in job.pictures)

    # --- answers ---

    def submitted(self, job: Job, base: str) -> Reply:
        there = f"{base}/v2/requests/{job.id}"
        answer = {
            "request_id": job.id,
            "status": "QUEUED",
            "poll_url": f"{base}/v1/requests/{job.id}",
            "status_url": f"{there}/status",
            "response_url": there,
        }
        return Reply.json(answer, x_remaining_credits=str(self.left))

    def status(self, job: Job) -> Reply:
        with self.lock:
            state = self.state(job)
            job.polls += 1
        return self._answer(job, state, {"status": state, "request_id": job.id, "metrics": {}})

    def result(self, job: Job, base: str) -> Reply:
        with self.lock:
            state = self.state(job)
            job.results += 1
        answer: dict[str, Any] = {"status": state, "request_id": job.id}
        if state == "COMPLETED":
            urls = self.addresses(job, base)
            images = [{"url": url, "content_type": "image/png"} for url in urls]
            inside = [base64.b64encode(data).decode() for data in self.all_bytes(job)]
            output = inside if job.body.get("base64") else urls
            answer |= {"output": output[0] if len(output) == 1 else output, "seed": job.body.get("seed")}
            answer |= {} if job.body.get("base64") else {"images": images}
            answer["metrics"] = self.metrics(job)
        return self._answer(job, state, answer)

    def _answer(self, job: Job, state: str, answer: dict[str, Any]) -> Reply:
        if state == "FAILED":
            return Reply.json({**answer, "error": job.plan.error, "metrics": {}}, 422)
        return Reply.json(answer)

    def metrics(self, job: Job) -> dict[str, Any]:
        known = {"queue_time": 0.2, "inference_time": 53.1, "total_time": 53.4}
        if job.plan.price is None:
            return known
        return {"cost": job.plan.price, "remaining_credits": self.left, **known}

    def blocking(self, job: Job) -> Reply:
        """Return the answer of v1."""
        if job.plan.error is not None:
            return Reply.json({"error": job.plan.error}, 422)
        job.finished = True
        headers = [
            ("x-request-id", job.id),
            ("x-remaining-credits", str(self.left)),
            ("x-generation-time", "53.1"),
            ("x-seed-value", str(job.body.get("seed"))),
        ]
        headers += [("x-cost", str(job.plan.price))] if job.plan.price is not None else []
        all_bytes = self.all_bytes(job)
        if not job.body.get("base64") and len(all_bytes) == 1:
            return Reply(200, [*headers, ("Content-Type", "image/jpeg")], all_bytes[0])
        inside = [base64.b64encode(data).decode() for data in all_bytes]
        body = json.dumps({"image": inside[0] if len(inside) == 1 else inside}).encode()
        return Reply(200, [*headers, ("Content-Type", "application/json")], body)

    # --- pictures ---

    def addresses(self, job: Job, base: str) -> list[str]:
        ending = job.body.get("image_format", "png")
        return [f"{base}/files/{job.id}-{place}.{ending}" for place in range(len(job.pictures))]

    def file(self, path: str) -> tuple[Job, Reply] | None:
        """Return the job and the answer of a download."""
        name = path.rpartition("/")[2].rpartition(".")[0]
        ident, _, place = name.rpartition("-")
        job = self.find(ident)
        if job is None or not place.isdigit() or int(place) >= len(job.pictures):
            return None
        return job, Reply(200, [("Content-Type", "image/png")], self.bytes_of(job, int(place)))

    def bytes_of(self, job: Job, place: int = 0) -> bytes:
        if self.served is not None:
            return self.served
        body = job.body
        size = int(body.get("width") or 1024), int(body.get("height") or 1024)
        return picture(job.pictures[place], body.get("image_format", "png"), *size)

    def all_bytes(self, job: Job) -> list[bytes]:
        return [self.bytes_of(job, place) for place in range(len(job.pictures))]

    # --- the account's history ---

    def rows(self, job: Job, base: str) -> list[dict[str, Any]]:
        """Return the job's rows: one for each output, the whole cost in each."""
        state = self.state(job)
        show: dict[str, Callable[[Any], Any]] = {"object": dict, "json": json.dumps, "python": repr}
        urls: Iterable[str | None] = self.addresses(job, base) if state == "COMPLETED" else [None]
        row = {
            "request_id": job.id.replace("-", ""),
            "model_name": MODEL,
            "model_status": {"COMPLETED": "COMPLETED", "FAILED": "FAILED"}.get(state, "PENDING"),
            "credits_deduction": (job.plan.price or 0.0) if state == "COMPLETED" else 0.0,
            "request_body": show[self.bodies](job.body),
            "latency_ms": 53400,
            "model_created": datetime.fromtimestamp(job.born_wall, tz=UTC).isoformat(),
            "error": job.plan.error if state == "FAILED" else None,
        }
        return [{**row, "generation_url": url} for url in urls]

    def history(self, path: str, base: str) -> Reply:
        """Return a page of the history, filtered as the query says."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(path).query).items()}
        with self.lock:
            rows = [row for job in self.jobs if job.plan.seen for row in self.rows(job, base)]
        first, last = query.get("from_date", ""), query.get("to_date", "9999")
        rows = [
            row
            for row in rows
            if first[:10] <= row["model_created"][:10] <= last[:10]
            and query.get("model_name", "") in row["model_name"]
            and query.get("status", row["model_status"]) == row["model_status"]
        ]
        by = query.get("sort_by", "model_created")
        rows.sort(key=lambda row: row[by], reverse=query.get("sort_order", "desc") == "desc")
        size = int(query.get("per_page", 20))
        if not 1 <= size <= 100:
            return Reply.error(422, "per_page must be between 1 and 100")
        start = (int(query.get("page", 1)) - 1) * size
        return Reply.json({"data": rows[start : start + size]})

    def record(self, ident: str, base: str) -> Reply:
        """Return the one row of a request, as the history's other address gives it."""
        job = self.find(ident)
        if job is None or not job.plan.seen:
            return Reply.error(404, f"Request {ident} not found")
        return Reply.json(self.rows(job, base)[0])
