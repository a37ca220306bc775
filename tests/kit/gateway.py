"""The one scripted gateway: v1, v2, downloads and credits, and the account's history on a host of its own.

    with Gateway() as gateway:
        gateway.on("submit", RESET, Lost(Reply.page(502)))   # the first two; then it behaves
        gateway.on("status", Reply.error(500), always=True, prompt="a fox")
        hold = gateway.hold("file", "half")                  # stops there; hold.wait(), hold.release()
        gateway.plan(seconds=53, price=0.11)                 # of all jobs; of one prompt: prompt="a fox"
        ...
        assert gateway.posts("a fox") == 1 and gateway.bills("a fox") == 1

Routes: submit, sync, status, result, file, credits, history, record, ``*`` for all, or "GET /any/path*".
Scripts of later calls go before earlier ones. Everything that comes is in :meth:`Gateway.requests`.

:func:`apart` runs one in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from kit.clock import SkippingClock
from kit.wire import PASS, Action, Connection, Hold, Listener, Reply, Request, Step, action, read_request
from kit.world import Job, Plan, World

_HISTORY = "/inference-request/request-history"


class RealClock:
    """The machine's own."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class _Script:
    """Steps for the requests that match; None as a step lets older scripts decide."""

    def __init__(self, route: str, prompt: str | None, steps: list[Step], always: bool) -> None:
        self.route, self.prompt, self.steps, self.always = route, prompt, steps, always

    def matches(self, request: Request) -> bool:
        if self.prompt not in (None, request.prompt):
            return False
        if self.route in ("*", request.route):
            return True
        method, _, path = self.route.partition(" ")
        return method == request.method and fnmatch.fnmatchcase(request.path, path)

    def next(self) -> Step | None:
        if not self.steps:
            return None
        return self.steps[0] if self.always and len(self.steps) == 1 else self.steps.pop(0)


class Gateway:
    """See the module's text. ``tls``: a server-side context for https. ``greeting``: says just that to
    whoever connects, and hangs up.
    """

    def __init__(
        self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, greeting: bytes | None = None
    ) -> None:
        self.world = World(RealClock())
        #: So far the Date of its answers is ahead of the clock, in seconds; None: there is no Date.
        self.ahead: float | None = 0.0
        self._tls = tls
        self._greeting = greeting
        self._scripts: list[_Script] = []
        self._holds: list[Hold] = []
        self._log: list[Request] = []
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._api = Listener(lambda sock, number: self._serve("api", sock, number), host)
        self._account = Listener(lambda sock, number: self._serve("account", sock, number), host)
        scheme = "https" if tls else "http"
        self.base_url = f"{scheme}://{self._api.address}"
        self.account_url = f"{scheme}://{self._account.address}"

    def __enter__(self) -> Self:
        self._api.start()
        self._account.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for hold in self._holds:
            hold.release()
        self._api.stop()
        self._account.stop()

    # --- what it is to do ---

    def on(
        self, route: str, *steps: Step, prompt: str | None = None, nth: int = 1, always: bool = False
    ) -> None:
        """Do these for the next requests of a route, one each, then behave; ``always``: the last for ever.

        ``nth`` is the first request, from now on, that gets one.
        """
        with self._lock:
            script = _Script(route, prompt, [PASS] * (nth - 1) + list(steps), always)
            self._scripts.insert(0, script)
            self._holds += [step for step in steps if isinstance(step, Hold)]

    def hold(
        self,
        route: str,
        place: Literal["before", "answer", "half", "after"] = "before",
        *,
        prompt: str | None = None,
        nth: int = 1,
        then: Action | None = None,
    ) -> Hold:
        """Stop at one request until the hold is released."""
        made = Hold(place, then)
        self.on(route, made, prompt=prompt, nth=nth)
        return made

    def behave(self) -> None:
        """Forget all scripts and let go of all holds."""
        with self._lock:
            self._scripts.clear()
            for hold in self._holds:
                hold.release()

    def plan(self, *plans: Plan, prompt: str | None = None, **fields: Any) -> None:
        """Say how the jobs taken from now on go: all, or those of a prompt (several plans: one each, the last
        stays). Fields are those of :class:`Plan`.
        """
        given = list(plans) or [replace(self.world.plan, **fields)]
        with self.world.lock:
            if prompt is None:
                [self.world.plan] = given
            else:
                self.world.plans[prompt] = given

    def serve(self, picture: bytes) -> None:
        """Give these bytes as every picture from now on."""
        self.world.served = picture

    def finish(self, prompt: str | None = None) -> None:
        """Let the jobs that run be complete now."""
        for job in self.jobs(prompt):
            job.finished = True

    def forget(self, prompt: str | None = None) -> None:
        """Answer 404 for the jobs of now, as after their hour. Their files stay."""
        for job in self.jobs(prompt):
            job.gone = True

    # --- what came ---

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of all submits and blocking calls so far."""
        return [one.json for one in self.requests(method="POST")]

    def requests(
        self,
        route: str | None = None,
        *,
        method: str | None = None,
        path: str = "*",
        prompt: str | None = None,
    ) -> list[Request]:
        """Return what came so far, in order."""
        with self._lock:
            return [
                one
                for one in self._log
                if route in (None, one.route)
                and method in (None, one.method)
                and prompt in (None, one.prompt)
                and fnmatch.fnmatchcase(one.path, path)
            ]

    def posts(self, prompt: str | None = None) -> int:
        """Return how many POSTs came, whatever became of them."""
        return len(self.requests(method="POST", prompt=prompt))

    def jobs(self, prompt: str | None = None) -> list[Job]:
        """Return the jobs that were taken, in order."""
        return self.world.of(prompt)

    def bills(self, prompt: str | None = None) -> int:
        """Return how many jobs are charged by now."""
        return sum(self.world.billed(job) for job in self.jobs(prompt))

    def downloads(self, prompt: str | None = None) -> int:
        return len(self.requests("file", prompt=prompt))

    def whose(self, picture: bytes | Path) -> Job:
        """Return the job that a picture is of, wherever it was saved."""
        return self.world.whose(picture if isinstance(picture, bytes) else picture.read_bytes())

    def record(self) -> dict[str, Any]:
        """Return all that came and all that was taken, as JSON has it."""
        asked = [
            {
                "host": one.host,
                "method": one.method,
                "path": one.path,
                "route": one.route,
                "prompt": one.prompt,
            }
            for one in self.requests()
        ]
        taken = [
            {"id": job.id, "prompt": job.prompt, "body": job.body, "billed": self.world.billed(job)}
            for job in self.jobs()
        ]
        return {"requests": asked, "jobs": taken}

    # --- the wire ---

    def _serve(self, host: str, sock: socket.socket, number: int) -> None:
        with contextlib.ExitStack() as stack:
            if self._greeting is not None:
                sock.sendall(self._greeting)
                sock.recv(65536)  # unread bytes would turn the closing into a reset
                return
            if self._tls is not None:
                sock = stack.enter_context(self._tls.wrap_socket(sock, server_side=True))
            reader = stack.enter_context(sock.makefile("rb"))
            wire = Connection(sock, self._stopped, self._date)
            while not self._stopped.is_set() and (came := read_request(reader)) is not None:
                request = self._understood(host, number, *came)
                if request.path == "/_kit/record":
                    wire.do(request, Reply.json(self.record()))
                    continue
                with self._lock:
                    self._log.append(request)
                    step = self._step(request)
                if not wire.do(request, step) or request.headers.get("connection") == "close":
                    return

    def _date(self) -> float | None:
        return None if self.ahead is None else self.world.clock.wall() + self.ahead

    def _step(self, request: Request) -> Step:
        for script in self._scripts:
            step = script.next() if script.matches(request) else None
            if step is not None:
                return step
        return PASS

    def _understood(
        self, host: str, connection: int, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> Request:
        """Return the request with its route, its job's prompt, and what the well-behaved gateway says."""
        route, job, answer = self._route(host, method, path, body)
        prompt = None if job is None else job.prompt
        if method == "POST":
            with contextlib.suppress(ValueError, AttributeError):
                prompt = json.loads(body).get("prompt")

        def normal() -> Reply:
            if not headers.get("x-api-key") and route not in ("file", ""):
                return Reply.error(401, "Missing Authorization or x-api-key in header")
            return answer()

        now = self.world.clock.monotonic()
        return Request(method, path, headers, body, connection, now, host, route, prompt, normal)

    def _route(
        self, host: str, method: str, path: str, body: bytes
    ) -> tuple[str, Job | None, Callable[[], Reply]]:
        world, parts = self.world, path.partition("?")[0].strip("/").split("/")
        match [host, method, *parts]:
            case ["api", "POST", "v2", "chroma"]:
                return "submit", None, lambda: self._take(body, "async")
            case ["api", "POST", "v1", "chroma"]:
                return "sync", None, lambda: self._take(body, "sync")
            case ["api", "GET", "v2", "requests", ident, "status"]:
                job = world.find(ident)
                return "status", job, lambda: self._known(job, ident, world.status)
            case ["api", "GET", "v2", "requests", ident]:
                job = world.find(ident)
                return "result", job, lambda: self._known(job, ident, self._result)
            case ["api", "GET", "files", _]:
                found = world.file(path)
                if found is None:
                    return "file", None, lambda: Reply.error(404, "no such file")
                found[0].downloads += 1
                return "file", found[0], lambda: found[1]
            case ["api", "GET", "v1", "get-user-credits"]:
                return "credits", None, lambda: Reply.json({"credits": world.left, "free-credits": 0.018})
            case ["account", "GET", "inference-request", "request-history"]:
                return "history", None, lambda: world.history(path, self.base_url)
            case ["account", "GET", "inference-request", "request-history", ident]:
                return "record", world.find(ident), lambda: world.record(ident, self.base_url)
        return "", None, lambda: Reply.error(404, "Incorrect or Missing host header")

    def _result(self, job: Job) -> Reply:
        return self.world.result(job, self.base_url)

    def _known(self, job: Job | None, ident: str, answer: Callable[[Job], Reply]) -> Reply:
        if job is None or job.gone or self.world.clock.monotonic() - job.born > self.world.keeps:
            return Reply.error(404, f"Request {ident} not found")
        return answer(job)

    def _take(self, body: bytes, mode: Literal["async", "sync"]) -> Reply:
        world = self.world
        order = json.loads(body)
        if not order.get("prompt"):
            return Reply.json({"error": "Prompt is Mandatory and must be string", "metrics": {}}, 422)
        if world.left < (world.plan.price or 0.0):
            return Reply.error(406, f"Insufficient credits: {world.left}, needed {world.plan.price}")
        job = world.take(order, mode)
        if mode == "async":
            return world.submitted(job, self.base_url)
        if isinstance(world.clock, SkippingClock):
            world.clock.skip(job.plan.seconds)
        else:
            self._stopped.wait(job.plan.seconds)
        return world.blocking(job)


# --- in a process of its own ---


class Apart:
    """A gateway in another process: its addresses, and its record so far."""

    def __init__(self, base_url: str, account_url: str, pid: int) -> None:
        self.base_url, self.account_url, self.pid = base_url, account_url, pid

    def record(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.base_url}/_kit/record", timeout=60) as answer:
            return dict(json.loads(answer.read()))


@contextlib.contextmanager
def apart(*scripts: dict[str, Any], **plan: Any) -> Iterator[Apart]:
    """Run a gateway in a process of its own. A script is what ``on`` takes, with actions as words:
    ``{"route": "status", "steps": ["503", "reset"], "prompt": "a fox", "nth": 2, "always": false}``.
    """
    told = json.dumps({"scripts": scripts, "plan": plan})
    tests = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": tests}  # noqa: TID251
    command = [sys.executable, "-c", "from kit.gateway import alone; alone()", told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            said = json.loads(process.stdout.readline())
            yield Apart(said["base_url"], said["account_url"], process.pid)
        finally:
            process.stdin.close()


def alone() -> None:
    """Run a gateway until stdin ends; its addresses are the first line of stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("told", nargs="?", default="{}", help="JSON with scripts and a plan")
    told = json.loads(parser.parse_args().told)
    with Gateway() as gateway:
        gateway.plan(**told.get("plan", {}))
        for script in told.get("scripts", ()):
            steps = [action(word) for word in script.pop("steps")]
            gateway.on(script.pop("route"), *steps, **script)
        print(json.dumps({"base_url": gateway.base_url, "account_url": gateway.account_url}), flush=True)
        sys.stdin.read()
