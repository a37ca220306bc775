"""The way in and the ways out: the version, Ctrl-C, SIGTERM, and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faultserver import FaultServer, Reply, Request, Silence, gateway_script, tiny_png
from running import KEY, Collector, Ended, background, eventually, run_process

import chroma_cli
from chroma_cli.cli.main import COMMANDS, entry, main, make_app
from chroma_cli.errors import TerminationRequest

Chroma = Callable[..., Ended]
SMALL = ("--size", "768x768")

posix = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A scripted gateway whose jobs take for ever, until a test says otherwise."""
    with FaultServer() as running:
        gateway_script(running, polls=10**9, png=tiny_png(768, 768))
        monkeypatch.setenv("CHROMA_BASE_URL", running.base_url)
        monkeypatch.setenv("SEGMIND_API_KEY", KEY)
        yield running


class Gate:
    """A submit that is not answered before ``open`` is set."""

    def __init__(self, server: FaultServer) -> None:
        self.open = threading.Event()
        server.on("POST", "/v2/chroma", self._answer)

    def _answer(self, _request: Request) -> Reply:
        assert self.open.wait(60)
        return Reply.json({"request_id": "job-1", "status": "QUEUED"})


def finish(server: FaultServer) -> None:
    """From now on job-1 is done."""
    server.on("GET", "/v2/requests/job-1/status", Reply.json({"status": "COMPLETED"}))
    server.on(
        "GET",
        "/v2/requests/job-1",
        Reply.json({"status": "COMPLETED", "output": f"{server.base_url}/files/job-1-0.png"}),
    )


# --- the way in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--version"], ["-V"], ["--version", "generate"]])
def test_the_version(chroma: Chroma, args: list[str]) -> None:
    done = chroma(*args)
    assert (done.code, done.out, done.err) == (0, f"chroma {chroma_cli.__version__}\n", "")


def test_as_a_module_and_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_process("--version").out == f"chroma {chroma_cli.__version__}\n"
    monkeypatch.setattr(sys, "argv", ["chroma", "--version"])
    late = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in late}  # ignored when all is said
    try:
        with pytest.raises(SystemExit) as caught:
            entry()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert caught.value.code == 0


def test_arguments_come_from_the_command_line_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["chroma", "generate", "a fox", "--dry-run"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["request"]["prompt"] == "a fox"


def test_help_lists_every_command(chroma: Chroma) -> None:
    done = chroma("--help")
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", done.out)


def test_the_whole_app_has_every_command_and_the_named_one_alone_is_loaded() -> None:
    from chroma_cli.cli.context import Run

    run = Run({}, [])
    assert {info.name for info in make_app(run).registered_commands} == set(COMMANDS)
    assert [info.name for info in make_app(run, "jobs").registered_commands] == ["jobs"]


def test_main_works_outside_the_main_thread(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["presets", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert len(capfdbinary.readouterr().out.splitlines()) == 4


def test_the_handler_for_termination_is_put_back(chroma: Chroma) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert chroma("presets").code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, RecursionError, OSError])
def test_nothing_leaves_main_as_an_exception(
    chroma: Chroma, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def stop(*_args: object, **_more: object) -> Any:
        raise kind("stop")

    monkeypatch.setattr("chroma_cli.request.builder.build", stop)
    done = chroma("generate", "a fox", "--dry-run", "--json")
    assert done.code == (130 if kind is KeyboardInterrupt else 1)
    assert done.error["type"] == ("interrupted" if kind is KeyboardInterrupt else "internal")


def test_ctrl_c_while_the_last_words_are_said(chroma: Chroma, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chroma_cli.cli.output.Output.error", again)
    assert chroma("generate", "a fox", "--cfg", "0").code == 130


# --- the ways out ----------------------------------------------------------------------------------------


def started(*more: str) -> tuple[str, ...]:
    return ("generate", "a fox", "-o", "fox.png", *SMALL, *more)


def the_end(running: Collector, number: int) -> Ended:
    running.process.send_signal(number)
    return running.end()


@posix
@pytest.mark.parametrize(("number", "code", "kind"), [(2, 130, "interrupted"), (15, 143, "terminated")])
def test_stopped_while_waiting_the_job_fetchable(
    server: FaultServer, here: Path, number: int, code: int, kind: str
) -> None:
    with background(started("--json")) as running:
        eventually(lambda: len(server.requests("GET")) > 1, "two polls")
        done = the_end(running, number)
    assert done.code == code
    assert done.error["type"] == kind
    assert (done.error["request_id"], done.error["job"]) == ("job-1", 1)
    assert done.error["charged"] == "unknown"
    assert "chroma fetch job-1" in done.error["hint"]
    [job] = done.json
    assert job["status"] == "PROCESSING"
    assert job["error"] == done.error
    assert os.listdir(here) == []
    finish(server)
    home = run_process("fetch", "--pending")
    assert home.lines == [str(here / "fox.png")]
    assert os.listdir(here) == ["fox.png"]
    assert len(server.requests("POST")) == 1


@posix
def test_the_words_for_a_person(server: FaultServer) -> None:
    with background(started()) as running:
        eventually(lambda: server.requests("GET"), "a poll")
        done = the_end(running, signal.SIGINT)
    assert done.code == 130
    error, hint, about = done.err.splitlines()[-3:]
    assert error == "error: Interrupted while waiting; the job goes on and is charged when it completes."
    assert "chroma fetch job-1" in hint
    assert "job-1" in about
    assert "charged" in about
    assert "Traceback" not in done.err
    assert done.out == ""


@posix
@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_stopped_while_the_submit_is_out_its_id_is_waited_for(
    server: FaultServer, here: Path, number: int, code: int
) -> None:
    gate = Gate(server)
    with background(started("--json")) as running:
        eventually(lambda: server.requests("POST"), "the submit")
        running.process.send_signal(number)
        eventually(lambda: b'"warning"' in running.err, "the word that it waits")
        assert running.process.poll() is None
        gate.open.set()
        done = running.end()
    assert done.code == code
    assert done.error["request_id"] == "job-1"
    assert "chroma fetch job-1" in done.error["hint"]
    finish(server)
    assert run_process("fetch", "--pending").lines == [str(here / "fox.png")]
    assert len(server.requests("POST")) == 1


@posix
def test_the_second_ctrl_c_ends_at_once(server: FaultServer) -> None:
    server.on("POST", "/v2/chroma", Silence(60))
    with background(started("--json")) as running:
        eventually(lambda: server.requests("POST"), "the submit")
        running.process.send_signal(signal.SIGINT)
        eventually(lambda: b'"warning"' in running.err, "the word that it waits")
        done = the_end(running, signal.SIGINT)
    assert done.code == 130
    assert done.error["charged"] == "unknown"
    assert done.error["request_id"] is None
    assert done.error["job"] == 1
    assert "chroma jobs --pending" in done.error["hint"]
    [job] = run_process("jobs", "--pending", "--json").json
    assert job["status"] == "UNKNOWN"
    assert len(server.requests("POST")) == 1


@posix
def test_stopped_before_anything_went_out_nothing_is_pending(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("POST", "/v2/chroma", Reply.json({"error": "slow down"}, 429, Retry_After="60"))
    with background(started("--json")) as running:
        eventually(lambda: server.requests("POST"), "the submit")
        done = the_end(running, signal.SIGINT)
    assert done.code == 130
    assert done.error["charged"] == "no"
    assert run_process("jobs", "--pending", "--json").json == []


@posix
def test_stopped_while_downloading_the_picture_is_fetched_later(server: FaultServer, here: Path) -> None:
    finish(server)
    server.on("GET", "/files/*", Silence(60), Reply(200, [], tiny_png(768, 768)))
    with background(started("--json")) as running:
        eventually(lambda: server.requests("GET", "/files/*"), "the download")
        done = the_end(running, signal.SIGTERM)
    assert done.code == 143
    assert done.error["charged"] == "yes"
    assert not [name for name in os.listdir(here) if name.endswith(".png") and not name.startswith(".")]
    assert run_process("fetch", "--pending").lines == [str(here / "fox.png")]
    assert os.listdir(here) == ["fox.png"]


@posix
def test_a_stopped_sync_call_is_unknown(server: FaultServer) -> None:
    server.on("POST", "/v1/chroma", Silence(60))
    with background(started("--sync", "--json")) as running:
        eventually(lambda: server.requests("POST"), "the call")
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)
        done = running.end()
    assert done.code == 130
    assert done.error["charged"] == "unknown"
    assert len(server.requests("POST")) == 1


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 130), (TerminationRequest, 143)])
def test_stopped_while_reading_the_prompt(
    chroma: Chroma, monkeypatch: pytest.MonkeyPatch, stop: type[KeyboardInterrupt], code: int
) -> None:
    def read(_count: int) -> bytes:
        raise stop

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=read)))
    done = chroma("generate", "-", "--dry-run", "--json")
    assert done.code == code
    assert done.error["charged"] == "no"


@posix
@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_a_command_that_spends_nothing_ends_the_same_way(server: FaultServer, number: int, code: int) -> None:
    server.on("GET", "/v1/get-user-credits", Silence(60))
    with background(("credits", "--json")) as running:
        eventually(lambda: server.requests("GET"), "the question")
        done = the_end(running, number)
    assert done.code == code
    assert done.error["charged"] == "no"
    assert done.out == ""
