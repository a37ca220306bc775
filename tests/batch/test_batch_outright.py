"""A job that should be done by now: its result is asked for at once, and what a gateway may say to that."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from faultserver import Action, FaultServer, Reply, Request, gateway_script, tiny_png
from running import KEY, Ended

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]

PNG = tiny_png(768, 768)
ROUTE = "/v2/requests/job-"
UNFINISHED = Reply.json({"status": "PROCESSING", "metrics": {}})


class Jobs:
    """Jobs that take so many seconds each, in their order; ``early`` is what the result route says before."""

    def __init__(self, server: FaultServer, seconds: Sequence[float], early: Action = UNFINISHED) -> None:
        self.server = server
        self.early_asks: Counter[str] = Counter()
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
            return self._early
        took = self._seconds[int(name.removeprefix("job-")) - 1]
        value = {"status": "COMPLETED", "output": self.output(name), "seed": 1}
        return Reply.json({**value, "metrics": {"cost": 0.055, "total_time": took}})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    with FaultServer() as running:
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        yield running


def test_when_it_is_known_how_long_jobs_take_one_call_brings_the_result(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    jobs = Jobs(server, [0.5] * 5)
    listing("fox", "owl", "hare", "crow", "wolf")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--json")
    assert ended.code == 0, ended.err
    assert jobs.asked(1) > 0
    assert [(jobs.asked(number), jobs.results(number)) for number in (3, 4, 5)] == [(0, 1)] * 3
    assert [one["cost"] for one in ended.json] == [0.055] * 5
    assert [one["timings"]["total"] for one in ended.json] == [0.5] * 5


@pytest.mark.parametrize(
    "early",
    [
        Reply.json({"error": "request not found"}, 404),
        Reply.json({"detail": "Request is still in progress"}, 400),
        Reply.json({"error": "not ready"}, 409),
        Reply.json({"error": "the model is gone"}, 410),
        Reply.json({"error": "no permission"}, 403),
        Reply.json({"error": "no credits"}, 406),
    ],
    ids=["404", "400", "409", "410", "403", "406"],
)
def test_a_refusal_of_the_result_route_means_nothing_before_the_end(
    chroma: Chroma, listing: Listing, server: FaultServer, early: Reply
) -> None:
    jobs = Jobs(server, [0.4, 1.5, 1.5], early)
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1")
    assert ended.code == 0, ended.err
    assert jobs.early_asks == {"job-2": 1}  # once in the whole run
    assert len(server.requests("POST", "/v2/chroma")) == 3


@pytest.mark.parametrize(
    "early",
    [
        UNFINISHED,
        Reply.json({"status": "QUEUED"}, 202),
        Reply.json({"error": "oops"}, 500),
        Reply.text("<html>bad gateway</html>", 502, "text/html"),
        Reply.json({"error": "slow down"}, 429),
        Reply.text("what?"),
    ],
    ids=["200", "202", "500", "502", "429", "nonsense"],
)
def test_a_job_that_takes_longer_is_asked_for_as_before(
    chroma: Chroma, listing: Listing, server: FaultServer, early: Reply
) -> None:
    jobs = Jobs(server, [0.4, 2.0, 3.0], early)
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1")
    assert ended.code == 0, ended.err
    assert jobs.early_asks == {"job-2": 1, "job-3": 1}  # once a job
    assert jobs.asked(2) > 0
    assert jobs.results(2) == 2
    assert len(server.requests("POST", "/v2/chroma")) == 3


def test_a_failure_that_the_result_route_tells_is_one(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    jobs = Jobs(server, [0.4, 0.4, 0.4])
    blocked = Reply.json({"status": "FAILED", "error": "content was blocked"}, 422)
    server.on("GET", f"{ROUTE}3", blocked)
    listing("fox", "owl", "hare")
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--json")
    assert ended.code == 11
    failed = ended.json[-1]
    assert (failed["status"], failed["charged"]) == ("FAILED", "no")
    assert "content was blocked" in str(failed["error"])
    assert (jobs.asked(3), jobs.results(3)) == (0, 1)


@pytest.mark.parametrize("raw", [False, True])
def test_pictures_inside_the_answer_are_not_held(
    chroma: Chroma, listing: Listing, server: FaultServer, work: Path, raw: bool
) -> None:
    """They are asked for again when there is a hand free, and none is asked for outright any more."""
    jobs = Jobs(server, [0.4] * 4)
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
