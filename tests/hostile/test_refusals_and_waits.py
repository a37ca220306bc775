"""What the gateway refuses, in which words people hear of it; how long is waited, and what is asked again.

Exit codes, POSTs and ``charged`` of every status on every route are in the wire matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from kit import KEY, Cut, Ended, Garbage, Gateway, Reply, Request, SkippingClock, is_whole
from kit.wire import Action

Chroma = Callable[..., Ended]
FOX = ("generate", "a fox", "-o", "fox.png")

# --- the error table ---------------------------------------------------------------------------------------

HTML = Reply.text("<html><title>405 Not Allowed</title><body>nginx</body></html>", 405, "text/html")
TABLE: list[tuple[Reply, int, str]] = [
    (Reply.error(400, "cfg must be at most 20"), 2, "cfg must be"),
    (Reply.error(401, "Invalid API key"), 3, "Invalid API key"),
    (Reply.error(401, "Missing header x-api-key"), 3, "did not arrive"),
    (Reply.error(402, "Payment required"), 4, "Payment required"),
    (Reply.error(403, "no access"), 3, "no access"),
    (Reply.error(404, "gone"), 8, "gone"),
    (HTML, 2, "405 Not Allowed"),
    (Reply.error(406, "Insufficient credits"), 4, "Insufficient"),
    (Reply.error(406, "Insufficient credits for 4 samples"), 4, "samples"),
    (Reply.error(406, "Team spend limit reached"), 4, "spend limit"),
    (Reply.error(406, "Invalid content type"), 2, "content type"),
    (Reply.error(406, "steps is not acceptable"), 2, "steps"),
    (Reply.json({"message": "bad aspect ratio"}, 406), 2, "aspect"),
    (Reply.error(406, ""), 4, "406"),
    (Reply.error(409, "conflict"), 2, "conflict"),
    (Reply.error(410, "retired"), 8, "retired"),
    (Reply.error(418, "teapot"), 2, "teapot"),
    (Reply.json({"detail": [{"loc": ["body", "cfg"], "msg": "too large"}]}, 422), 2, "too large"),
]


@pytest.mark.parametrize(("reply", "code", "words"), TABLE)
@pytest.mark.parametrize("route", ["submit", "sync"])
def test_a_refusal_of_a_submit(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, route: str, reply: Reply, code: int, words: str
) -> None:
    gateway.on(route, reply, always=True)
    ended = chroma(*FOX, "--json", *(["--sync"] if route == "sync" else []))
    assert (ended.code, ended.error["charged"]) == (code, "no")
    assert words in ended.error["message"]
    assert gateway.posts() == 1


def test_an_account_without_a_balance(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("credits", Reply.error(404, "No credits found for the user"))
    ended = chroma("credits")
    assert ended.code == 8 and "No credits found" in ended.err


@pytest.mark.parametrize("status", [422, 200, 500, 404])
@pytest.mark.parametrize("key", ["error", "detail", "message"])
def test_words_of_a_failure(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, status: int, key: str
) -> None:
    reply = Reply.json({"status": "FAILED", key: "blocked by \x1b[31mRAI", "metrics": {"cost": 0}}, status)
    gateway.on("status", reply, always=True)
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (6, "no")
    assert "blocked by RAI" in ended.error["message"]


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize("status", [200, 422, 500])
def test_failed_at_once(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, how: tuple[str, ...], status: int
) -> None:
    reply = Reply.json({"status": "FAILED", "error": "content policy"}, status)
    gateway.on("sync" if how else "submit", reply, always=True)
    ended = chroma(*FOX, "--json", *how)
    assert (ended.code, ended.error["charged"]) == (6, "no")
    assert "content policy" in ended.error["message"]
    assert gateway.posts() == 1


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("key", ["error", "message", "detail"])
def test_the_gateways_own_server_error_is_sent_again(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, status: int, key: str
) -> None:
    oops = Reply.json({key: "oops"}, status)
    gateway.on("submit", oops, oops)
    assert chroma(*FOX).code == 0
    assert gateway.posts() == 3
    gateway.on("submit", oops, always=True)
    ended = chroma("generate", "another", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "oops" in ended.error["message"]
    assert gateway.posts("another") == 3


# --- what passes by itself ---------------------------------------------------------------------------------

STUMBLES = [
    Garbage(b"SSH-2.0-OpenSSH_9\r\n"),
    Garbage(b"HTTP/1.1 abc nothing\r\n\r\n"),
    Reply.text("<html>", 503),
    Reply.error(599),
    Reply(666),
    Reply.text("not json"),
    Reply.text('{"status": "COMPL'),
    Reply.text(b"\xff\xfe\x00\x01" * 10),
    Reply.json([]),
    Reply.json(None),
    Reply.json({"status": 7}),
    Reply.json({"status": ""}),
    Reply.text("[" * 100_000),
    Reply.text(""),
    Reply(204, length=None),
    Cut(40, Reply.json({"status": "COMPLETED", "x": "y" * 500})),
    Reply(200, [("Content-Encoding", "br")], b"xxxx"),
    Reply(200, [("Content-Length", "5")], b'{"status": "QUEUED"}'),
    Reply(200, [(f"X-{number}", "v") for number in range(10_000)], b"{}"),
    Reply(200, [("X-Long", "v" * 1_000_000)], b"{}"),
    Cut(30, Reply.json({"status": "FAILED", "error": "z" * 900}, 422)),
]


#: What a host of files may do that passes.
LOADING = [
    Reply.error(500),
    Reply.error(408),
    Reply(204, length=None),
    Reply.text(""),
    Cut(20),
    Cut(-1, end="close"),
]


@pytest.mark.parametrize(
    ("route", "stumbles"),
    [("status", STUMBLES), ("result", STUMBLES), ("file", LOADING)],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_job_gets_up_again(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, route: str, stumbles: list[Action]
) -> None:
    """A few in a row, so that what follows one of them counts, too."""
    for start in range(0, len(stumbles), 3):
        few = stumbles[start : start + 3]
        gateway.on(route, *few)
        ended = chroma("generate", f"fox {start}", "-o", f"{start}.png")
        assert ended.code == 0, ended.said
        assert is_whole(work / f"{start}.png")
        assert len(gateway.requests(route, prompt=f"fox {start}")) == len(few) + 1


def test_waits_grow_and_are_capped(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("credits", Reply.error(503), always=True)
    assert chroma("credits").code == 9
    assert 3 <= len(clock.sleeps)
    assert max(clock.sleeps) <= 8
    assert len(clock.sleeps) < 60


# --- 429 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["submit", "sync", "status", "result", "file"])
def test_a_rate_limit_is_waited_out(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, route: str
) -> None:
    gateway.on(route, Reply.error(429, "slow down", Retry_After="17"))
    ended = chroma(*FOX, *(["--sync"] if route == "sync" else []))
    assert ended.code == 0, ended.said
    assert any(17 <= wait <= 18 for wait in clock.sleeps)


@pytest.mark.parametrize("route", ["submit", "sync"])
def test_a_rate_limit_beyond_the_deadline_ends_at_once(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, route: str
) -> None:
    gateway.on(route, Reply.error(429, "slow down", Retry_After="61"), always=True)
    ended = chroma(*FOX, "--timeout", "60", "--json", *(["--sync"] if route == "sync" else []))
    assert (ended.code, ended.error["charged"]) == (5, "no")
    assert "slow down" in ended.error["message"]
    assert clock.sleeps == []


NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
RESET_AT = "x-rate-limit-reset-at-utc"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (RESET_AT, "2026-01-02T03:04:35Z", 30.0),
        (RESET_AT, "2026-01-02T03:04:35", 30.0),
        (RESET_AT, "2026-01-02 03:04:35.500 UTC", 30.5),
        (RESET_AT, "2026-01-02T05:04:35+02:00", 30.0),
        (RESET_AT, format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True), 30.0),
        (RESET_AT, str(int(NOW + 30)), 30.0),
        (RESET_AT, str(int(NOW + 30) * 1000), 30.0),
        (RESET_AT, "2026-01-02T03:04:00Z", None),
        (RESET_AT, "2027-01-02T03:04:00Z", None),
        (RESET_AT, "30", None),
        (RESET_AT, "soon", None),
        (RESET_AT, "9" * 400, None),
        (RESET_AT, "nan", None),
        (RESET_AT, "99999-01-01", None),
        ("Retry-After", "17", 17.0),
        ("Retry-After", "1.5", 1.5),
        ("Retry-After", "-1", None),
        ("Retry-After", "Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
        ("Retry-After", "1e9", None),
    ],
)
@pytest.mark.parametrize("off", [0.0, 7200.0])
def test_how_long_a_rate_limit_is_waited_out(
    gateway: Gateway,
    clock: SkippingClock,
    chroma: Chroma,
    name: str,
    text: str,
    expected: float | None,
    off: float,
) -> None:
    """The Date of the answer says what its times count from, however wrong this computer's clock is."""
    date = format_datetime(datetime.fromtimestamp(NOW, UTC), usegmt=True)
    clock.wrong = NOW + off - clock.wall()
    gateway.on("submit", Reply(429, [(name, text), ("Date", date)], b'{"error": "slow down"}'))
    assert chroma("submit", "a fox").code == 0
    [wait] = clock.sleeps
    if expected is None:
        assert 0 <= wait <= 8  # the program's own
    else:
        assert wait == pytest.approx(expected, abs=0.6)


def test_retry_after_counts_before_the_reset(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    reply = Reply.error(429, "slow down", Retry_After="17", x_rate_limit_reset_at_utc=str(clock.wall() + 40))
    gateway.on("submit", reply)
    assert chroma("submit", "a fox").code == 0
    assert [round(wait) for wait in clock.sleeps] == [17]


# --- what is sent ------------------------------------------------------------------------------------------


def test_what_every_request_says(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("status", track, track)
    gateway.plan(polls=2)
    assert chroma(*FOX, "--seed", "7").code == 0
    for request in gateway.requests():
        assert request.headers.get("x-api-key") == (None if request.route == "file" else KEY)
        assert request.headers["user-agent"].startswith("chroma-cli/")
        assert "cookie" not in request.headers
    for request in gateway.requests(method="GET"):
        assert request.headers["accept-encoding"] == "identity"
    [post] = gateway.requests(method="POST")
    assert post.headers["content-type"] == "application/json"
    assert (post.json["prompt"], post.json["seed"]) == ("a fox", 7)


def track(request: Request) -> Reply:
    reply = request.normal()
    return Reply(200, [*reply.headers, ("Set-Cookie", "track=1; Path=/")], reply.body)


def test_questions_keep_their_connection_and_a_submit_has_one_of_its_own(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    """One that was idle may be gone by the time the body is out, and the outcome unknown."""
    gateway.plan(polls=5)
    gateway.on("submit", Reply.error(500), Reply.error(500))
    assert chroma(*FOX).code == 0
    posts = [request.connection for request in gateway.requests("submit")]
    questions = [request.connection for request in gateway.requests("status")]
    assert len(set(posts)) == len(posts) == 3
    assert len(questions) == 6
    assert len(set(questions)) == 1 and not set(questions) & set(posts)


def test_verbose_tells_every_exchange(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("credits", Reply.json({"credits": 1}, x_request_id="r-1"))
    [note] = chroma("credits", "-v", "--json").notes
    told: dict[str, Any] = note["http"]
    assert (told["method"], told["path"], told["status"]) == ("GET", "/v1/get-user-credits", 200)
    assert told["request_id"] == "r-1" and told["ms"] >= 0
