"""The gateway as a machine of pure rules: a call and a time go in, a reply comes out.

Jobs, credits, the rate limit, expiry and every documented failure are decided here, without any I/O: time
comes in as a number, pictures go out as orders (:class:`Painting`) that the server fills in.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from chroma_cli.clock import utc_text
from chroma_cli.request import schema
from chroma_cli.sandbox import intake, magic
from chroma_cli.sandbox.state import Account, Job, OpenCharge

#: How long a result can be asked for, counted from the submit, and the picture itself downloaded (seconds).
RESULT_SECONDS: Final = 3600.0
FILE_SECONDS: Final = 7 * 86400.0
#: A bad body shows up as FAILED this soon; the documentation says "within a second".
BAD_BODY_SECONDS: Final = 0.3

#: The balance is full again this long after the last time (seconds): one practises with it, one does not live
#: on it.
REFILL_SECONDS: Final = 86400.0

_RATE_WINDOW: Final = 60.0
_JITTER: Final = 0.05
_FLAKY_SHARE: Final = 0.4
_FLAKY_RUN: Final = 4
_REFUSED_SUBMITS: Final = 2
_RESET_AHEAD: Final = 2.0
#: Sizes are named only for so few pictures: each has to be painted for it.
_SIZES_NAMED: Final = 4

_MODEL: Final = "chroma"
_REQUEST_PATH: Final = re.compile(r"/(v[12])/requests/([A-Za-z0-9_-]{1,128})(/status)?")
_FILE_PATH: Final = re.compile(r"/files/([A-Za-z0-9_-]{1,128})/([1-9][0-9]{0,5})\.(png|jpeg|webp)")
_MODEL_PATH: Final = re.compile(r"/(v[12])/([^/]+)")
_CREDITS_PATH: Final = "/v1/get-user-credits"


@dataclass(frozen=True)
class WorldOptions:
    """How the sandbox behaves: seconds a job takes, API calls a minute (0: no limit), dollars to start with
    and to have again a day later.

    Raises ValueError for values that make no sense.
    """

    latency: float = 3.0
    rpm: int = 600
    credits: float = 25.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.latency) and 0 <= self.latency <= 86400):
            raise ValueError("latency must be from 0 to 86400 seconds")
        if not 0 <= self.rpm <= 1_000_000_000:
            raise ValueError("rpm must be 0 (no limit) or more")
        if not (math.isfinite(self.credits) and 0 <= self.credits <= 1e9):
            raise ValueError("credits must be from 0 to 1000000000")


@dataclass(frozen=True)
class Call:
    """One HTTP request; header names in lower case, ``path`` without its query.

    ``base_url`` is the address that the caller used, for the URLs in replies.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    base_url: str = "http://127.0.0.1"


@dataclass(frozen=True)
class Painting:
    """A picture to be painted: sample ``index`` (from 0) of an effective request, ``cut`` short or whole.

    ``content_type`` is what it goes out as. As a value in a JSON body it stands for its base64 text, as a
    data URI if so marked.
    """

    request: Mapping[str, Any]
    index: int
    content_type: str
    cut: bool = False
    data_uri: bool = False


@dataclass(frozen=True)
class SizeOf:
    """In a JSON body: the size in bytes of a painting."""

    painting: Painting


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. ``body`` is JSON, a Painting (its bytes), or None; ``html`` goes out instead if set.

    ``drop`` closes the connection without an answer. ``wait`` seconds pass, then :meth:`World.finish` is
    asked for the real answer to job ``waits_for``.
    """

    status: int = 200
    body: Any = None
    html: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    wait: float = 0.0
    waits_for: str | None = None


def _error(status: int, message: str, **headers: str) -> Reply:
    return Reply(status, {"error": message}, headers={k.replace("_", "-"): v for k, v in headers.items()})


def _html(status: int, title: str, **headers: str) -> Reply:
    name = f"{status} {title}"
    page = f"<html><head><title>{name}</title></head><body><h1>{name}</h1></body></html>\n"
    return Reply(status, html=page, headers=headers)


def _fraction(*parts: object) -> float:
    """A number from 0 up to 1 that depends on ``parts`` alone."""
    return int(_digest(*parts)[:8], 16) / 2**32


def _digest(*parts: object) -> str:
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()


class World:
    """The gateway over an account and its jobs; both are changed in place, ``jobs`` only by assignment."""

    def __init__(self, options: WorldOptions, account: Account, jobs: MutableMapping[str, Job]) -> None:
        self.options = options
        self.account = account
        self.jobs = jobs

    # --- the way in ------------------------------------------------------------------------------------

    def answer(self, call: Call, now: float) -> Reply:
        """The reply to ``call`` at ``now`` (seconds since the epoch)."""
        self._refill(now)
        self._settle(now)
        if found := _FILE_PATH.fullmatch(call.path):
            if call.method not in ("GET", "HEAD"):
                return _html(405, "Method Not Allowed", Allow="GET, HEAD")
            return self._file(found[1], int(found[2]) - 1, found[3], now)
        allowed = self._verb(call.path)
        if allowed is None:
            return _error(404, f"Not found: {call.path}")
        if call.method != allowed:
            return _html(405, "Method Not Allowed", Allow=allowed)
        refusal = self._check_key(call) or self._check_rate(now)
        if refusal is not None:
            return refusal
        return self._with_credits(self._route(call, now))

    def finish(self, job_id: str, now: float) -> Reply:
        """The answer to a blocking call whose time has passed."""
        job = self.jobs.get(job_id)
        if job is None:
            return _error(500, "The sandbox lost this job")
        self._settle(max(now, job.ends))
        job = self.jobs[job_id]
        if job.failure is not None:
            return self._with_credits(Reply(422, {"status": "FAILED", "error": job.failure}))
        words = magic.words_in(job.request["prompt"])
        pictures = self._paintings(job, words)
        if job.request["base64"] or len(pictures) > 1:
            body: Any = {"image": pictures[0]} if len(pictures) == 1 else {"images": pictures}
        else:
            body = pictures[0]
        if "terse" in words:
            return Reply(200, body)
        headers = {
            "x-request-id": job.id,
            "x-cost": f"{job.cost:.6g}",
            "x-generation-time": f"{job.ends - job.started:.3f}",
            "x-seed-value": str(job.request["seed"]),
        }
        return self._with_credits(Reply(200, body, headers=headers))

    def _verb(self, path: str) -> str | None:
        """The one verb that ``path`` takes; None: no such path."""
        if path == _CREDITS_PATH or _REQUEST_PATH.fullmatch(path):
            return "GET"
        if _MODEL_PATH.fullmatch(path):
            return "POST"
        return None

    def _route(self, call: Call, now: float) -> Reply:
        if call.path == _CREDITS_PATH:
            return self._credits(call)
        if found := _REQUEST_PATH.fullmatch(call.path):
            return self._ask(call, found[2], bool(found[3]), now)
        version, model = call.path[1:].split("/")
        if model != _MODEL:
            return _error(404, f"Model not found: {model}")
        return self._submit(call, sync=version == "v1", now=now)

    def _check_key(self, call: Call) -> Reply | None:
        key = call.headers.get("x-api-key", "").strip()
        if not key:
            return _error(401, "Missing API key: the x-api-key header is required")
        if key == magic.REFUSED_KEY:
            return _error(401, "Invalid API key")
        if key == magic.FORBIDDEN_KEY and call.path != _CREDITS_PATH:
            return _error(403, "This key has no permission for this model")
        return None

    def _check_rate(self, now: float) -> Reply | None:
        account = self.account
        if not self.options.rpm:
            return None
        if not 0 <= now - account.window_start < _RATE_WINDOW:
            account.window_start, account.window_count = now, 0
        if account.window_count >= self.options.rpm:
            return self._rate_limited(account.window_start + _RATE_WINDOW)
        account.window_count += 1
        return None

    def _rate_limited(self, until: float) -> Reply:
        return _error(429, "Rate limit exceeded", x_rate_limit_reset_at_utc=utc_text(until))

    def _with_credits(self, reply: Reply) -> Reply:
        if reply.drop or reply.wait or reply.status == 401:
            return reply
        balance = {"x-remaining-credits": _dollars(self.account.balance)}
        return replace(reply, headers={**balance, **reply.headers})

    # --- money ------------------------------------------------------------------------------------------

    def _refill(self, now: float) -> None:
        account = self.account
        if account.refilled == 0.0:
            account.refilled = now
        elif now - account.refilled >= REFILL_SECONDS:
            account.refilled, account.balance = now, max(account.balance, self.options.credits)

    def _settle(self, now: float) -> None:
        """Charge what has completed by ``now``, in the order in which it completed."""
        due = sorted((c for c in self.account.open if c.ends <= now), key=lambda charge: charge.ends)
        if not due:
            return
        self.account.open = [charge for charge in self.account.open if charge.ends > now]
        for charge in due:
            self.account.balance = round(self.account.balance - charge.cost, 6)
            if (job := self.jobs.get(charge.job)) is not None:
                self.jobs[job.id] = replace(job, remaining=self.account.balance)

    def _credits(self, call: Call) -> Reply:
        if call.headers.get("x-api-key", "").strip() == magic.NO_BALANCE_KEY:
            return _error(404, "No credits found for the user")
        return Reply(200, {"credits": self.account.balance, "free-credits": 0.0})

    # --- a new job --------------------------------------------------------------------------------------

    def _submit(self, call: Call, *, sync: bool, now: float) -> Reply:
        kind = call.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            return _error(406, "Invalid content type")
        try:
            body = intake.read_body(call.body)
        except intake.Unreadable as reason:
            return _error(400, str(reason))
        words = magic.words_in(body["prompt"])
        if unknown := magic.unknown_in(body["prompt"]):
            known = ", ".join(word.name for word in magic.MAGIC)
            return _error(400, f"Unknown sandbox word in the prompt: {', '.join(unknown)}. Known: {known}")
        if (refusal := self._refuse(body["prompt"], words, now)) is not None:
            return refusal
        problems = intake.problems_in(body)
        if problems and sync:
            return _error(400, "Invalid parameters: " + "; ".join(problems))
        job = self._new_job(body, problems, words, sync=sync, now=now)
        if job.cost > self.account.available + 1e-9:
            return _error(406, "Insufficient credits")
        self.jobs[job.id] = job
        if job.cost:
            self.account.open.append(OpenCharge(job.ends, job.id, job.cost))
        return self._accepted(job, words, call.base_url)

    def _refuse(self, prompt: str, words: frozenset[str], now: float) -> Reply | None:
        """The refusal that the prompt asks for, if any; none of them leaves a job behind."""
        if "unauthorized" in words:
            return _error(401, "Invalid API key")
        if "forbidden" in words:
            return _error(403, "This key has no permission for this model")
        if "retired" in words:
            return _error(410, "This model has been retired")
        if "no-credits" in words:
            return _error(406, "Insufficient credits")
        if "server-error" in words:
            return _error(500, "Internal server error")
        for word, times in (("rate-limit", _REFUSED_SUBMITS), ("hiccup", 1)):
            if word not in words:
                continue
            key = _digest(word, prompt)
            if self.account.refuse(key) < times:
                if word == "hiccup":
                    return _error(503, "Service unavailable, try again")
                return self._rate_limited(now + _RESET_AHEAD)
            del self.account.refusals[key]  # accepted now; the next one meets it afresh
        return None

    def _new_job(
        self, body: dict[str, Any], problems: list[str], words: frozenset[str], *, sync: bool, now: float
    ) -> Job:
        self.account.counter += 1
        digest = _digest(self.account.salt, self.account.counter)
        # The shape of a random UUID, as the gateway's ids have it.
        variant = "89ab"[int(digest[16], 16) % 4]
        job_id = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"
        seconds = self.options.latency * (10 if "slow" in words else 1)
        seconds *= 1 + _JITTER * (2 * _fraction(job_id) - 1)
        queue = min(0.3, 0.1 * seconds)
        failure = None
        if problems:
            failure, seconds = "Invalid parameters: " + "; ".join(problems), min(seconds, BAD_BODY_SECONDS)
        elif "fail" in words:
            failure = "Generation failed: the sandbox was asked to fail"
        elif "block" in words:
            failure = "Content blocked: the request was flagged by the content (RAI) filter"
        if problems:
            # Not runnable, so nothing but the prompt is kept of it.
            request = {"prompt": body["prompt"]}
        else:
            request = intake.effective(body, drawn_seed=int(digest[32:40], 16))
        return Job(
            id=job_id,
            mode="sync" if sync else "async",
            request=request,
            submitted=now,
            started=now + min(queue, seconds),
            ends=now + seconds,
            cost=0.0 if failure else intake.cost_of(request),
            failure=failure,
        )

    def _accepted(self, job: Job, words: frozenset[str], base_url: str) -> Reply:
        if "lost" in words:
            return Reply(drop=True)
        if "bad-gateway" in words:
            return _html(502, "Bad Gateway")
        if job.mode == "sync":
            return Reply(wait=max(job.ends - job.submitted, 1e-3), waits_for=job.id)
        body = {"request_id": job.id, "status": "QUEUED"}
        if "no-id" in words:
            del body["request_id"]
            return Reply(200, body)
        body["poll_url"] = f"{base_url}/v1/requests/{job.id}"
        body["status_url"] = f"{base_url}/v2/requests/{job.id}/status"
        body["response_url"] = f"{base_url}/v2/requests/{job.id}"
        headers = {} if "terse" in words else {"x-request-id": job.id}
        return Reply(200, body, headers=headers)

    # --- asking about one -------------------------------------------------------------------------------

    def _ask(self, call: Call, job_id: str, status_only: bool, now: float) -> Reply:
        job = self.jobs.get(job_id)
        words = magic.words_in(job.request["prompt"]) if job is not None else frozenset()
        if job is None or job.mode == "sync" or now - job.submitted > RESULT_SECONDS or "expired" in words:
            return _error(404, "Request not found or expired")
        if "flaky" in words and (trouble := self._trouble(job, call.path)) is not None:
            return trouble
        job = self.jobs[job_id]
        body = self._progress(job, words, now)
        if body["status"] == "FAILED":
            return Reply(422, body)
        if body["status"] == "COMPLETED" and not status_only:
            body |= self._result(job, words, call.base_url)
        return Reply(200, body)

    def _progress(self, job: Job, words: frozenset[str], now: float) -> dict[str, Any]:
        """Status, metrics and error: all that both GETs have in common."""
        ended = now >= job.ends
        if ended:
            state = "COMPLETED" if job.failure is None else "FAILED"
        else:
            state = "PROCESSING" if now >= job.started else "QUEUED"
        body: dict[str, Any] = {"request_id": job.id, "status": state}
        if state == "FAILED":
            body["error"] = job.failure
        if "terse" in words:
            return body
        metrics: dict[str, Any] = {"queue_time": round(min(now, job.started) - min(now, job.submitted), 3)}
        if ended:
            metrics["inference_time"] = round(job.ends - job.started, 3)
            metrics["total_time"] = round(job.ends - job.submitted, 3)
            metrics["cost"] = job.cost
            remaining = job.remaining if job.remaining is not None else self.account.balance
            metrics["remaining_credits"] = remaining
        body["metrics"] = metrics
        return body

    def _result(self, job: Job, words: frozenset[str], base_url: str) -> dict[str, Any]:
        """What a finished job adds: the pictures, or where they are."""
        more: dict[str, Any] = {}
        if job.request["base64"]:
            inline = [replace(painting, data_uri=True) for painting in self._paintings(job, words)]
            more["output"] = inline if len(inline) > 1 else inline[0]
        else:
            ending = job.request["image_format"]
            plain = [self._painting(job, words, index) for index in range(job.request["samples"])]
            images: list[dict[str, Any]] = [
                {
                    "url": f"{base_url}/files/{job.id}/{number}.{ending}",
                    "content_type": painting.content_type,
                    "file_name": f"{job.id}-{number}.{ending}",
                }
                for number, painting in enumerate(plain, start=1)
            ]
            if len(images) <= _SIZES_NAMED:
                for image, painting in zip(images, plain, strict=True):
                    image["file_size"] = SizeOf(painting)
            urls = [image["url"] for image in images]
            more["output"] = urls if len(urls) > 1 else urls[0]
            if "terse" not in words:
                more["images"] = images
        if "terse" not in words:
            more["seed"] = job.request["seed"]
            more["timings"] = {
                "queued_at": utc_text(job.submitted),
                "started_at": utc_text(job.started),
                "completed_at": utc_text(job.ends),
            }
        return more

    def _file(self, job_id: str, index: int, ending: str, now: float) -> Reply:
        job = self.jobs.get(job_id)
        if job is None or job.failure is not None or not job.ends <= now <= job.submitted + FILE_SECONDS:
            return _error(404, "File not found")
        request = job.request
        if job.mode == "sync" or index >= request["samples"] or ending != request["image_format"]:
            return _error(404, "File not found")
        words = magic.words_in(request["prompt"])
        if "flaky" in words and (trouble := self._trouble(job, f"file {index}")) is not None:
            return trouble
        return Reply(200, self._delivery(job_id, words, index))

    def _paintings(self, job: Job, words: frozenset[str]) -> list[Painting]:
        return [self._delivery(job.id, words, index) for index in range(job.request["samples"])]

    def _delivery(self, job_id: str, words: frozenset[str], index: int) -> Painting:
        """Sample ``index`` as it goes out this time, which is counted."""
        job = self.jobs[job_id]
        painting = self._painting(job, words, index)
        if "broken" in words:
            return replace(painting, cut=True)
        if "broken-once" in words:
            before = job.delivered.get(str(index), 0)
            self.jobs[job.id] = replace(job, delivered={**job.delivered, str(index): before + 1})
            return replace(painting, cut=before == 0)
        return painting

    def _painting(self, job: Job, words: frozenset[str], index: int) -> Painting:
        request = dict(job.request)
        content_type = f"image/{request['image_format']}"
        if "wrong-size" in words:
            request["aspect_ratio"] = schema.CUSTOM
            request["width"], request["height"] = request["width"] * 3 // 4, request["height"] * 3 // 4
        if "wrong-format" in words:
            request["image_format"] = "png" if request["image_format"] != "png" else "jpeg"
        return Painting(request, index, content_type)

    def _trouble(self, job: Job, route: str) -> Reply | None:
        """The failure of this GET of a flaky job, or None; counted, so that a run of them ends."""
        asked, run = job.asked.get(route, 0), job.bad_run.get(route, 0)
        bad = run < _FLAKY_RUN and _fraction(job.id, route, asked) < _FLAKY_SHARE
        self.jobs[job.id] = replace(
            job,
            asked={**job.asked, route: asked + 1},
            bad_run={**job.bad_run, route: run + 1 if bad else 0},
        )
        if not bad:
            return None
        kinds = (
            _error(500, "Internal server error"),
            _html(502, "Bad Gateway"),
            _error(503, "Service unavailable"),
            Reply(drop=True),
        )
        return kinds[int(_fraction(job.id, route, asked, "kind") * len(kinds))]


def _dollars(amount: float) -> str:
    return f"{amount:.6f}".rstrip("0").rstrip(".")
