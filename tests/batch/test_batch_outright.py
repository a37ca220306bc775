"""A job that should be done by now: its result is asked for at once, and what a gateway may say to that."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faultserver import CLOSE, Action, FaultServer, Reply, Request, gateway_script, tiny_png
from running import KEY, Ended

from chroma_cli.jobs import batch

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]

MANY = batch._MANY
PNG = tiny_png(768, 768)
ROUTE = "/v2/requests/job-"
#: Each takes so much longer (seconds) than the one before that its result is asked for too early.
LATER = (0.6, 1.0, 1.5)
UNFINISHED = Reply.json({"status": "PROCESSING", "metrics": {}})


class Jobs:
    """Jobs that take so many seconds each, in their order; ``early`` is what the result route says before, of
    any but the first job."""

    def __init__(self, server: FaultServer, seconds: Sequence[float], early: Action = UNFINISHED) -> None:
        self.server = server
        self.early_asks: Counter[str] = Counter()
        self.first: Action = UNFINISHED
        self._done: dict[str, float] = {}
        self._seconds = seconds
        self._early = early
        gateway_script(server, polls=0, png=PNG)
        server.on("POST", "/v2/chroma", self._submit)
        server.on("GET", f"{ROUTE}*", self._result)
        server.on("GET", f"{ROUTE}*/status", self._status)

    def asked(self, number: int) -> int:
        """How often the status of that job was asked."""
        return len(self.server.requests("GET", f"{ROUTE}{number}/status"))

    def results(self, number: int) -> int:
        return len(self.server.requests("GET", f"{ROUTE}{number}"))

    def output(self, name: str) -> Any:
        return f"{self.server.base_url}/files/{name}-0.png"

    def _submit(self, _: Request) -> Action:
        name = f"job-{len(self._done) + 1}"
        self._done[name] = time.monotonic() + self._seconds[len(self._done)]
        return Reply.json({"request_id": name, "status": "QUEUED"})

    def _state(self, request: Request) -> tuple[str, bool]:
        name = request.path.split("/")[3]
        return name, time.monotonic() >= self._done[name]

    def _status(self, request: Request) -> Action:
        return Reply.json({"status": "COMPLETED"}) if self._state(request)[1] else UNFINISHED

    def _result(self, request: Request) -> Action:
        name, done = self._state(request)
        if not done:
            self.early_asks[name] += 1
            return self.first if name == "job-1" else self._early
        took = self._seconds[int(name.removeprefix("job-")) - 1]
        value = {"status": "COMPLETED", "output": self.output(name), "seed": 1}
        return Reply.json({**value, "metrics": {"cost": 0.055, "total_time": took}})


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job is many, here."""
    monkeypatch.setattr(batch, "_MANY", 1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    with FaultServer() as running:
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        yield running


def all_made(chroma: Chroma, listing: Listing, jobs: Jobs) -> Jobs:
    """Three images, one after the other, each submitted once whatever is said of it in the meantime."""
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--retry-failed", "2")
    assert ended.code == 0, ended.err
    assert len(jobs.server.requests("POST", "/v2/chroma")) == 3
    return jobs


def test_when_it_is_known_how_long_jobs_take_one_call_brings_the_result(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    jobs = Jobs(server, [0.6] * 5)
    listing("fox", "owl", "hare", "crow", "wolf")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--json")
    assert ended.code == 0, ended.err
    assert jobs.asked(1) > 0
    assert [(jobs.asked(number), jobs.results(number)) for number in (3, 4, 5)] == [(0, 1)] * 3
    assert [one["cost"] for one in ended.json] == [0.055] * 5
    assert [one["timings"]["total"] for one in ended.json] == [0.6] * 5


@pytest.mark.parametrize(
    "early",
    [
        Reply.json({"error": "request not found"}, 404),
        Reply.json({"detail": "Request is still in progress"}, 400),
        Reply.json({"detail": "Request is still in progress"}, 422),
        Reply.json({"error": "oops"}, 500),
        Reply.text("what?"),
        Reply.json({"status": "processing it", "output": "http://127.0.0.1:9/preview.png"}),
        Reply.json({"message": "not ready", "url": "http://127.0.0.1:9/docs"}),
        CLOSE,
    ],
    ids=["404", "400", "422", "500", "nonsense", "preview", "link", "closed"],
)
def test_what_the_result_route_says_too_early_means_nothing(
    chroma: Chroma, listing: Listing, server: FaultServer, early: Action
) -> None:
    jobs = Jobs(server, LATER, early)
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--retry-failed", "2")
    assert ended.code == 0, ended.err
    assert jobs.early_asks == {
        "job-1": 1,
        "job-2": 1,
    }  # the first to find out, and then once in the whole run
    assert len(server.requests("POST", "/v2/chroma")) == 3


@pytest.mark.parametrize(
    "early",
    [
        UNFINISHED,
        Reply.json({"status": "QUEUED"}, 202),
        Reply.json({"error": "slow down"}, 429),
        Reply.json({"status": "FAILED", "error": "not ready"}, 422),
    ],
    ids=["200", "202", "429", "422"],
)
def test_a_job_that_takes_longer_is_asked_for_as_before(
    chroma: Chroma, listing: Listing, server: FaultServer, early: Reply
) -> None:
    jobs = all_made(chroma, listing, Jobs(server, LATER, early))
    assert jobs.early_asks == {"job-1": 1, "job-2": 1, "job-3": 1}  # once a job
    assert jobs.asked(2) > 0
    assert jobs.results(2) == 2


@pytest.mark.parametrize(
    "first",
    [
        Reply.json({"status": "COMPLETED", "output": "http://127.0.0.1:9/never.png"}),
        Reply.json({"error": "request not found"}, 404),
        Reply.json({"error": "slow down"}, 429),
        Reply(200, [("Content-Type", "image/png")], PNG),
    ],
    ids=["finished", "404", "429", "raw"],
)
def test_none_is_asked_for_early_where_the_result_route_does_not_tell(
    chroma: Chroma, listing: Listing, server: FaultServer, work: Path, first: Action
) -> None:
    jobs = Jobs(server, LATER[:2])
    jobs.first = first
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--jobs", "1")
    assert ended.code == 0, ended.err
    assert jobs.early_asks == {"job-1": 1}
    assert {path.name for path in work.glob(".*")} == set()


def test_for_a_few_jobs_it_is_not_even_tried(
    chroma: Chroma, listing: Listing, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_MANY", MANY)
    jobs = Jobs(server, LATER)
    listing("fox", "owl", "hare")
    assert chroma("batch", "list.jsonl", "--jobs", "31").code == 0
    assert not jobs.early_asks
    assert all(jobs.asked(number) and jobs.results(number) == 1 for number in (1, 2, 3))


def test_a_failure_is_what_both_routes_call_one(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    jobs = Jobs(server, [0.6] * 3)
    blocked = Reply.json({"status": "FAILED", "error": "content was blocked"}, 422)
    server.on("GET", f"{ROUTE}3*", blocked)
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--json")
    assert ended.code == 11
    failed = ended.json[-1]
    assert (failed["status"], failed["charged"]) == ("FAILED", "no")
    assert "content was blocked" in str(failed["error"])
    assert (jobs.asked(3), jobs.results(3)) == (1, 1)  # the status route has to say so, too


@pytest.mark.parametrize("raw", [False, True])
def test_pictures_inside_the_answer_are_not_held(
    chroma: Chroma, listing: Listing, server: FaultServer, work: Path, raw: bool
) -> None:
    """They are asked for again when there is a hand free, and none is asked for outright any more."""
    jobs = Jobs(server, [0.6] * 4)
    inside = {"status": "COMPLETED", "output": base64.b64encode(PNG).decode()}
    reply = Reply(200, [("Content-Type", "image/png")], PNG) if raw else Reply.json(inside)
    for number in (2, 3, 4):
        server.on("GET", f"{ROUTE}{number}", reply)
    listing("fox", "owl", "hare", "crow")
    ended = chroma("batch", "list.jsonl", "--jobs", "1")
    assert ended.code == 0, ended.err
    assert [jobs.results(number) for number in (2, 3, 4)] == [2, 1, 1]
    assert all(jobs.asked(number) for number in (3, 4))
    assert {path.name for path in work.glob(".*")} == set()
    assert len(list(work.glob("*.png"))) == 4
