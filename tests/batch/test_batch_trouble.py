"""What a gateway may do in the middle of a batch, and what the run says of itself at its end."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faultserver import Action, FaultServer, Reply, Request, gateway_script, tiny_png
from running import KEY, Ended, background, eventually, run_process

from chroma_cli.jobs import lifecycle

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]

PNG = tiny_png(768, 768)
SUBMIT = "/v2/chroma"
NOT_FOUND = Reply.json({"error": "request not found"}, 404)
BROKE = Reply.json({"error": "Insufficient credits"}, 402)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    monkeypatch.setenv("SEGMIND_API_KEY", KEY)
    with FaultServer() as running:
        gateway_script(running, polls=0, png=PNG)
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        yield running


def done(server: FaultServer, number: int) -> Reply:
    url = f"{server.base_url}/files/job-{number}-0.png"
    return Reply.json({"status": "COMPLETED", "output": url, "seed": 1, "metrics": {"cost": 0.055}})


@pytest.mark.parametrize("many", ["batch", "generate"])
def test_a_result_that_comes_later_than_its_state_is_waited_for(
    chroma: Chroma, listing: Listing, server: FaultServer, many: str
) -> None:
    asked: Counter[str] = Counter()

    def late(request: Request) -> Action:
        asked[request.path] += 1
        number = int(request.path.rpartition("-")[2])
        return NOT_FOUND if asked[request.path] < 3 else done(server, number)

    for number in (1, 2):
        server.on("GET", f"/v2/requests/job-{number}", late)
    path = listing("fox", "owl")
    made = chroma("batch", path.name) if many == "batch" else chroma("generate", "fox", "-o", "fox.png")
    assert made.code == 0, made.err
    assert Path("fox.png").stat().st_size
    assert set(asked.values()) == {3}


def test_a_result_that_never_comes_is_not_waited_for_long(
    chroma: Chroma, listing: Listing, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SETTLING", 0.3)
    server.on("GET", "/v2/requests/job-1", NOT_FOUND)
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "not_found", "yes")
    assert len(server.requests("GET", "/v2/requests/job-1")) == 2


def test_a_refusal_that_would_meet_all_is_met_by_few_and_told_of_the_run(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    taken = 2
    queued = [
        Reply.json({"request_id": f"job-{number}", "status": "QUEUED"}) for number in range(1, taken + 1)
    ]
    server.on("POST", SUBMIT, *queued, BROKE)
    for number in range(1, taken + 1):
        server.on("GET", f"/v2/requests/job-{number}/status", Reply.json({"status": "COMPLETED"}))
        server.on("GET", f"/v2/requests/job-{number}", done(server, number))
    listing(*(f"fox{number}" for number in range(60)))
    ended = chroma("batch", "list.jsonl", "--jobs", "60", "--json")
    assert ended.code == 4
    refused = len(server.requests("POST", SUBMIT)) - taken
    assert 1 <= refused <= 5  # so many are out at a time
    error = ended.error
    assert (error["type"], error["job"], error["request_id"]) == ("not_enough_credits", None, None)
    assert error["charged"] == "yes"  # two pictures were
    assert f"{60 - taken - refused} of 60 images were not begun, {refused} failed." in error["message"]
    again = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert len(again.json) == 60 - taken


def test_of_a_single_image_the_refusal_names_its_job(
    chroma: Chroma, listing: Listing, server: FaultServer
) -> None:
    server.on("POST", SUBMIT, BROKE)
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--json")
    assert (ended.code, ended.error["job"], ended.error["charged"]) == (4, 1, "no")


def test_what_was_saved_of_an_image_is_named(chroma: Chroma, listing: Listing, server: FaultServer) -> None:
    server.on("GET", "/files/job-1-1.png", Reply.json({"error": "gone"}, 404))
    listing("owl", "fox", samples=2)
    ended = chroma("batch", "list.jsonl", "--jobs", "1", "--summary", "summary.md")
    assert ended.code == 11
    assert "Saved of it: owl-1.png." in ended.err
    assert "owl-1.png" in Path("summary.md").read_text()
    assert "Money was spent." in ended.err
    assert not Path("owl-2.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_submits_that_were_not_answered_are_told_from_jobs(listing: Listing, server: FaultServer) -> None:
    answer = threading.Event()
    server.on("POST", SUBMIT, lambda _: Reply.json({}, 503) if answer.wait(30) else BROKE)
    listing("fox", "owl")
    with background(["batch", "list.jsonl", "--jobs", "2"]) as running:
        eventually(lambda: len(server.requests("POST", SUBMIT)) == 2, "two submits")
        running.process.send_signal(signal.SIGINT)
        eventually(lambda: b"Stopping" in running.err, "a word")
        running.process.send_signal(signal.SIGINT)
        stopped = running.end()
    answer.set()
    assert stopped.code == 130
    assert "2 submits were not answered yet" in stopped.err
    assert "chroma jobs --pending" in stopped.err
    kept = run_process("jobs", "--pending", "--json")
    assert [one["status"] for one in kept.json] == ["UNKNOWN", "UNKNOWN"]
