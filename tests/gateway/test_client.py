"""The error table, the money rule, and the well-behaved gateway, over real sockets."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from faultserver import (
    CLOSE,
    RESET,
    Cut,
    Drip,
    FaultServer,
    Garbage,
    Reply,
    Silence,
    gateway_script,
    tiny_png,
)
from gateway_bench import KEY, Bench

from chroma_cli.errors import (
    BadReply,
    BrokenImage,
    Charged,
    ChromaError,
    GenerationFailed,
    KeyRefused,
    NetworkError,
    NotEnoughCredits,
    NotFound,
    NotPermitted,
    OutcomeUnknown,
    OutputError,
    RateLimited,
    RequestRejected,
    Retired,
    ServerError,
    UsageError,
    WrongAddress,
)
from chroma_cli.gateway import bounded
from chroma_cli.gateway.bounded import Flight
from chroma_cli.gateway.events import CreditsSeen, Throttled
from chroma_cli.gateway.pictures import Address, Inline, Spooled

BODY = {"prompt": "a knight", "seed": 7, "samples": 1}
QUEUED = Reply.json({"request_id": "job-1", "status": "QUEUED"})
PNG = tiny_png()

SUBMIT = ("POST", "/v2/chroma")
SYNC = ("POST", "/v1/chroma")
STATUS = ("GET", "/v2/requests/job-1/status")
RESULT = ("GET", "/v2/requests/job-1")
CREDITS = ("GET", "/v1/get-user-credits")

HTML = Reply.text("<html><title>405 Not Allowed</title><body>nginx</body></html>", 405, "text/html")


def error(status: int, text: Any = "no", key: str = "error", **headers: str) -> Reply:
    return Reply.json({key: text}, status, **headers)


# --- the good way ----------------------------------------------------------------------------------------


def test_whole_way(bench: Bench) -> None:
    gateway_script(bench.server, polls=1)
    job = bench.client.submit({**BODY, "samples": 2}, bench.deadline())
    assert (job.request_id, job.status, job.remaining_credits) == ("job-1", "QUEUED", 9.945)
    assert job.status_url == f"{bench.server.base_url}/v2/requests/job-1/status"
    states = [bench.client.status("job-1", bench.deadline()).state for _ in range(2)]
    assert states == ["PROCESSING", "COMPLETED"]
    result = bench.client.result("job-1", bench.deadline(), sink_factory=bench.sink, samples=2)
    assert result.seed == 7
    assert result.metrics.cost == 0.055
    assert [type(source) for source in result.sources] == [Address, Address]
    assert bench.sinks == []  # none is made for nothing
    sink = bench.sink()
    got = bench.client.download(result.sources[0].url, sink, deadline=bench.deadline())
    assert (got.size, sink.data) == (len(PNG), PNG)
    balance = bench.client.credits(bench.deadline())
    assert (balance.credits, balance.free_credits) == (9.5, 0.018)
    assert balance.total == pytest.approx(9.518)
    assert bench.seen(CreditsSeen) == [CreditsSeen(9.945)]


def test_pictures_of_several_hosts_come_from_their_own(bench: Bench) -> None:
    """What leads to the gateway is kept; what leads to a file host must not be."""
    with FaultServer() as other:
        for server, body in ((bench.server, b"one"), (other, b"two")):
            server.on("GET", "/f.png", Reply.text(PNG + body))
        for server, body in ((bench.server, b"one"), (other, b"two"), (bench.server, b"one")):
            sink = bench.sink()
            bench.client.download(f"{server.base_url}/f.png", sink, deadline=bench.deadline())
            assert bytes(sink.data).endswith(body)


def test_headers_of_requests(bench: Bench) -> None:
    gateway_script(bench.server)
    bench.client.submit(BODY, bench.deadline())
    bench.client.status("job-1", bench.deadline())
    bench.client.download(
        f"{bench.server.base_url}/files/job-1-0.png", bench.sink(), deadline=bench.deadline()
    )
    post, get, file = bench.server.requests()
    assert post.headers["content-type"] == "application/json"
    assert post.json == BODY
    for request in (post, get):
        assert request.headers["x-api-key"] == KEY
        assert request.headers["user-agent"].startswith("chroma-cli/")
    assert KEY not in str(file)
    assert "x-api-key" not in file.headers


def test_gets_keep_their_connection_and_posts_take_a_new_one(bench: Bench) -> None:
    gateway_script(bench.server)
    for _ in range(2):
        bench.client.submit(BODY, bench.deadline())
        bench.client.status("job-1", bench.deadline())
    posts = {request.connection for request in bench.server.requests("POST")}
    gets = {request.connection for request in bench.server.requests("GET")}
    assert (len(posts), len(gets)) == (2, 1)


def test_sync_takes_everything_from_bytes_and_headers(bench: Bench) -> None:
    gateway_script(bench.server)
    result = bench.client.generate_sync(BODY, bench.deadline(), bench.sink)
    assert (result.state, result.seed, result.request_id) == ("COMPLETED", 7, "sync-1")
    assert (result.metrics.cost, result.metrics.inference_time) == (0.055, 53.1)
    (source,) = result.sources
    assert isinstance(source, Spooled)
    assert source.complete
    assert bench.sinks[0].data == PNG


@pytest.mark.parametrize("route", [SYNC, RESULT])
@pytest.mark.parametrize(
    "body",
    [
        {"image": base64.b64encode(PNG).decode()},
        {"images": ["data:image/jpeg;base64," + base64.b64encode(PNG).decode()]},
        {"status": "COMPLETED", "output": [{"b64_json": base64.b64encode(PNG).decode()}]},
        base64.b64encode(PNG).decode(),
    ],
)
def test_inline_pictures_in_either_version(bench: Bench, route: tuple[str, str], body: Any) -> None:
    bench.server.on(*route, Reply.json(body))
    if route is SYNC:
        result = bench.client.generate_sync(BODY, bench.deadline(), bench.sink)
    else:
        result = bench.client.result("job-1", bench.deadline(), sink_factory=bench.sink)
    (source,) = result.sources
    assert isinstance(source, Inline)
    sink = bench.sink()
    assert source.decode_into(sink) == len(PNG)
    assert sink.data == PNG


def test_raw_bytes_as_a_result_whatever_the_content_type_says(bench: Bench) -> None:
    bench.server.on(*RESULT, Reply.text(PNG, kind="application/json"))
    result = bench.client.result("job-1", bench.deadline(), sink_factory=bench.sink)
    assert result.state == "COMPLETED"
    assert bench.sinks[0].data == PNG


def test_bare_base64_text_as_a_v1_answer(bench: Bench) -> None:
    text = base64.encodebytes(PNG)
    bench.server.on(*SYNC, Reply.text(text, kind="image/png"))
    (source,) = bench.client.generate_sync(BODY, bench.deadline(), bench.sink).sources
    sink = bench.sink()
    source.decode_into(sink)
    assert sink.data == PNG


# --- the error table -------------------------------------------------------------------------------------

TABLE: list[tuple[Reply, type[ChromaError], int, str]] = [
    (error(400, "cfg must be at most 20"), RequestRejected, 2, "cfg must be"),
    (error(401, "Invalid API key"), KeyRefused, 3, "Invalid API key"),
    (error(401, "Missing header x-api-key"), KeyRefused, 3, "did not arrive"),
    (error(402, "Payment required"), NotEnoughCredits, 4, "Payment required"),
    (error(403, "no access"), NotPermitted, 3, "no access"),
    (error(404, "gone"), NotFound, 8, "gone"),
    (HTML, WrongAddress, 2, "405 Not Allowed"),
    (error(406, "Insufficient credits"), NotEnoughCredits, 4, "Insufficient"),
    (error(406, "Insufficient credits for 4 samples"), NotEnoughCredits, 4, "samples"),
    (error(406, "Team spend limit reached"), NotEnoughCredits, 4, "spend limit"),
    (error(406, "Invalid content type"), RequestRejected, 2, "content type"),
    (error(406, "steps is not acceptable"), RequestRejected, 2, "steps"),
    (error(406, "bad aspect ratio", "message"), RequestRejected, 2, "aspect"),
    (error(406, ""), NotEnoughCredits, 4, "406"),
    (error(409, "conflict"), RequestRejected, 2, "conflict"),
    (error(410, "retired"), Retired, 8, "retired"),
    (error(418, "teapot"), RequestRejected, 2, "teapot"),
]
REDIRECTS = [(Reply(301, [("Location", "https://elsewhere.test/x")]), "elsewhere.test"), (Reply(304), "304")]


@pytest.mark.parametrize(("reply", "kind", "code", "words"), TABLE)
@pytest.mark.parametrize("call", ["submit", "sync", "status", "result", "credits"])
def test_refusals_in_every_call(
    bench: Bench, call: str, reply: Reply, kind: type[ChromaError], code: int, words: str
) -> None:
    for route in (SUBMIT, SYNC, STATUS, RESULT, CREDITS):
        bench.server.on(*route, reply)
    with pytest.raises(ChromaError) as caught:
        run(bench, call)
    assert type(caught.value) is kind
    assert (int(caught.value.exit_code), caught.value.charged) == (code, Charged.NO)
    assert words in caught.value.message
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize(("reply", "words"), REDIRECTS)
@pytest.mark.parametrize("call", ["submit", "sync", "credits"])
def test_a_redirect_is_not_followed(bench: Bench, call: str, reply: Reply, words: str) -> None:
    for route in (SUBMIT, SYNC, CREDITS):
        bench.server.on(*route, reply)
    with pytest.raises(WrongAddress, match=words) as caught:
        run(bench, call)
    assert (int(caught.value.exit_code), caught.value.charged) == (2, Charged.NO)
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize(("reply", "words"), REDIRECTS)
@pytest.mark.parametrize("call", ["status", "result"])
def test_a_redirect_of_a_known_job_is_waited_out(bench: Bench, call: str, reply: Reply, words: str) -> None:
    for route in (STATUS, RESULT):
        bench.server.on(*route, reply)
    with pytest.raises(BadReply, match=words):
        run(bench, call)
    assert len(bench.server.requests()) > 5


def run(bench: Bench, call: str, seconds: float = 60.0, **more: Any) -> Any:
    deadline = bench.deadline(seconds)
    match call:
        case "submit":
            return bench.client.submit(BODY, deadline, **more)
        case "sync":
            return bench.client.generate_sync(BODY, deadline, bench.sink, **more)
        case "status":
            return bench.client.status("job-1", deadline, **more)
        case "result":
            return bench.client.result("job-1", deadline, sink_factory=bench.sink, **more)
        case _:
            return bench.client.credits(deadline, **more)


@pytest.mark.parametrize("call", ["submit", "sync"])
def test_422_on_a_post_is_validation(bench: Bench, call: str) -> None:
    for route in (SUBMIT, SYNC):
        bench.server.on(*route, error(422, [{"loc": ["body", "cfg"], "msg": "too large"}], "detail"))
    with pytest.raises(RequestRejected, match="too large"):
        run(bench, call)


@pytest.mark.parametrize("status", [422, 200, 500, 404])
@pytest.mark.parametrize("key", ["error", "detail", "message"])
def test_failed_counts_whatever_the_status(bench: Bench, status: int, key: str) -> None:
    body = Reply.json({"status": "FAILED", key: "blocked by \x1b[31mRAI", "metrics": {"cost": 0}}, status)
    bench.server.on(*STATUS, body)
    bench.server.on(*RESULT, body)
    state = run(bench, "status")
    assert (state.state, state.error, state.metrics.cost) == ("FAILED", "blocked by RAI", 0.0)
    result = run(bench, "result")
    assert (result.state, result.error, result.sources) == ("FAILED", "blocked by RAI", ())


def test_422_without_a_status_on_a_get_is_a_failed_job(bench: Bench) -> None:
    bench.server.on(*STATUS, error(422, "no"))
    assert run(bench, "status").state == "FAILED"
    bench.server.on(*RESULT, Reply.text("it failed", 422))
    assert run(bench, "result").error == "it failed"


def test_completed_under_an_odd_status(bench: Bench) -> None:
    bench.server.on(*RESULT, Reply.json({"status": "COMPLETED", "output": "https://x.test/a.png"}, 500))
    assert run(bench, "result").sources == (Address("https://x.test/a.png"),)


@pytest.mark.parametrize("call", ["submit", "sync"])
@pytest.mark.parametrize("status", [200, 422, 500])
def test_failed_at_once_on_a_post(bench: Bench, call: str, status: int) -> None:
    for route in (SUBMIT, SYNC):
        bench.server.on(*route, Reply.json({"status": "FAILED", "error": "content policy"}, status))
    if call == "submit":
        with pytest.raises(GenerationFailed, match="content policy") as caught:
            run(bench, call)
        assert caught.value.charged is Charged.NO
    else:
        assert run(bench, call).error == "content policy"
    assert len(bench.server.requests()) == 1


def test_404_of_an_account_without_balance(bench: Bench) -> None:
    bench.server.on(*CREDITS, error(404, "No credits found for the user"))
    with pytest.raises(NotFound, match="No credits found"):
        run(bench, "credits")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a" * 129, "ä", "a b", "a\n"])
def test_ids_that_cannot_be_asked_for(bench: Bench, name: str) -> None:
    with pytest.raises(UsageError):
        bench.client.status(name, bench.deadline())
    assert bench.server.requests() == []


# --- GETs are repeated -----------------------------------------------------------------------------------

STUMBLES = [
    RESET,
    CLOSE,
    Garbage(b"SSH-2.0-OpenSSH_9\r\n"),
    Garbage(b"HTTP/1.1 abc nothing\r\n\r\n"),
    error(500),
    error(502),
    Reply.text("<html>", 503),
    error(504),
    error(599),
    Reply(666),
    error(429),
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
    Cut(Reply.json({"status": "COMPLETED", "x": "y" * 500}), 40),
    Reply(200, [("Content-Encoding", "gzip")], b"not gzip at all"),
    Reply(200, [("Content-Encoding", "br")], b"xxxx"),
    Reply(200, [("Content-Length", "5")], b'{"status": "QUEUED"}'),
    Reply(200, [("X-" + str(n), "v") for n in range(10_000)], b"{}"),
    Reply(200, [("X-Long", "v" * 1_000_000)], b"{}"),
    Cut(Reply.json({"status": "FAILED", "error": "z" * 900}, 422), 30),
]


@pytest.mark.parametrize("stumble", STUMBLES, ids=lambda item: repr(item)[:50])
def test_status_gets_up_again(bench: Bench, stumble: Any) -> None:
    bench.server.on(*STATUS, stumble, Reply.json({"status": "QUEUED"}))
    assert run(bench, "status").state == "QUEUED"
    assert len(bench.retries) == 1


@pytest.mark.parametrize("stumble", STUMBLES, ids=lambda item: repr(item)[:50])
def test_one_attempt_is_one_attempt(bench: Bench, stumble: Any) -> None:
    bench.server.on(*STATUS, stumble)
    with pytest.raises(ChromaError) as caught:
        run(bench, "status", attempts=1)
    assert int(caught.value.exit_code) in (5, 9)
    assert bench.retries == []
    assert bench.clock.naps == []


def test_back_off_grows_and_is_capped(bench: Bench) -> None:
    bench.server.on(*STATUS, error(503))
    with pytest.raises(ServerError, match="503"):
        run(bench, "status", seconds=60)
    assert bench.clock.naps[:6] == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0]
    assert max(bench.clock.naps) == 4.0
    assert 50 < sum(bench.clock.naps) < 60


def test_unreachable_until_the_deadline(bench: Bench) -> None:
    client = bench.connect(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(NetworkError, match="refused") as caught:
        client.status("job-1", bench.deadline(20))
    assert int(caught.value.exit_code) == 9
    assert len(bench.retries) > 3


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_no_time_left_sends_nothing(bench: Bench) -> None:
    gateway_script(bench.server)
    for call in ("submit", "sync", "status", "result", "credits"):
        with pytest.raises(NetworkError, match="no time left"):
            run(bench, call, seconds=0)
    assert bench.server.requests() == []


def test_an_address_in_a_completed_result_that_never_comes(bench: Bench) -> None:
    bench.server.on(*RESULT, Reply.json({"status": "COMPLETED", "output": None}))
    with pytest.raises(BadReply, match="no picture") as caught:
        run(bench, "result")
    assert caught.value.charged is Charged.YES
    assert len(bench.server.requests()) == 3


def test_result_that_is_not_ready(bench: Bench) -> None:
    bench.server.on(*RESULT, Reply.json({"status": "PROCESSING"}, 200))
    assert run(bench, "result").state == "PROCESSING"


def test_raw_result_cut_off_comes_again_into_the_same_sink(bench: Bench) -> None:
    big = tiny_png(padding=300_000)
    bench.server.on(*RESULT, Cut(Reply.text(big), 200_000), Reply.text(big))
    result = run(bench, "result")
    assert result.sources == (Spooled(bench.sinks[0]),)
    assert (bench.sinks[0].data, bench.sinks[0].resets) == (big, 1)


# --- 429 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["submit", "sync", "status", "result", "credits"])
def test_rate_limit_is_waited_out(bench: Bench, call: str) -> None:
    gateway_script(bench.server)
    bench.client.submit(BODY, bench.deadline())
    for route in (SUBMIT, SYNC, STATUS, RESULT, CREDITS):
        good = {SUBMIT: QUEUED, SYNC: Reply.text(PNG), CREDITS: Reply.json({"credits": 1})}
        body = Reply.json({"status": "COMPLETED", "output": "https://x.test/a.png"})
        bench.server.on(*route, error(429, retry_after="7"), good.get(route, body))
    run(bench, call)
    (nap,) = bench.clock.naps
    assert 7 <= nap <= 7.25
    assert bench.seen(Throttled) == [Throttled(7.0)]


@pytest.mark.parametrize("call", ["submit", "status"])
def test_rate_limit_beyond_the_deadline_ends_at_once(bench: Bench, call: str) -> None:
    for route in (SUBMIT, STATUS):
        bench.server.on(*route, error(429, "slow down", retry_after="61"))
    with pytest.raises(RateLimited, match="slow down") as caught:
        run(bench, call, seconds=60)
    assert (int(caught.value.exit_code), caught.value.charged) == (5, Charged.NO)
    assert bench.clock.naps == []


def test_rate_limit_without_a_time_backs_off_until_the_deadline(bench: Bench) -> None:
    bench.server.on(*SUBMIT, error(429, x_rate_limit_reset_at_utc="sometime"))
    with pytest.raises(RateLimited):
        run(bench, "submit", seconds=30)
    assert len(bench.server.requests()) > 4


# --- POSTs: the money rule -------------------------------------------------------------------------------

LOST = [
    RESET,
    CLOSE,
    Garbage(b"\x00\x01\x02 nonsense\r\n\r\n"),
    error(502),
    error(504),
    error(505),
    Reply.text("<html>down</html>", 500, "text/html"),
    Reply.text("down", 503),
    Reply.json(["down"], 500),
    Reply(666),
    Reply.text("not json"),
    Reply.text('{"request_id": "job-'),
    Cut(Reply.json({"x": "y" * 500, "request_id": "job-1"}), 40),
    Reply.json({}),
    Reply.json([]),
    Reply.json("job-1"),
    Reply.text(""),
    Reply(204, length=None),
    Reply.text("x" * 2_000_000),
    Reply.text('{"request_id": "job-1", "pad": "' + "x" * 2_000_000 + '"}'),
    *(Reply.json({"request_id": bad, "status": "QUEUED"}) for bad in ("", None, 7, "a/b", "../x", "a" * 129)),
    Reply.json({"request_id": "job-" + KEY}),
    Reply(200, [("X-" + str(n), "v") for n in range(10_000)], b"{}"),
    Reply(200, [("X-Long", "v" * 1_000_000)], b"{}"),
]


@pytest.mark.parametrize("action", LOST, ids=lambda item: repr(item)[:50])
def test_lost_submit_is_unknown_and_sent_once(bench: Bench, action: Any) -> None:
    bench.server.on(*SUBMIT, action)
    with pytest.raises(OutcomeUnknown) as caught:
        run(bench, "submit")
    assert (int(caught.value.exit_code), caught.value.charged) == (9, Charged.UNKNOWN)
    assert len(bench.server.requests()) == 1
    assert KEY not in str(caught.value.as_dict())


@pytest.mark.parametrize(
    "action", [item for item in LOST if not (isinstance(item, Reply) and item.status == 200)], ids=repr
)
def test_lost_sync_is_unknown_and_sent_once(bench: Bench, action: Any) -> None:
    bench.server.on(*SYNC, action)
    with pytest.raises(OutcomeUnknown) as caught:
        run(bench, "sync")
    assert caught.value.charged is Charged.UNKNOWN
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize("body", [{}, [], {"images": []}, "short", {"status": "QUEUED", "request_id": "j-9"}])
def test_sync_answer_without_a_picture(bench: Bench, body: Any) -> None:
    bench.server.on(*SYNC, Reply.json(body))
    with pytest.raises(OutcomeUnknown) as caught:
        run(bench, "sync")
    assert caught.value.request_id == (body.get("request_id") if isinstance(body, dict) else None)


def test_lost_submit_is_sent_again_only_when_asked(bench: Bench) -> None:
    bench.server.on(*SUBMIT, RESET, error(502), QUEUED)
    assert run(bench, "submit", resubmit_unknown=True).request_id == "job-1"
    assert len(bench.server.requests()) == 3


def test_lost_submit_is_sent_three_times_at_most(bench: Bench) -> None:
    bench.server.on(*SUBMIT, RESET)
    with pytest.raises(OutcomeUnknown):
        run(bench, "submit", resubmit_unknown=True)
    assert len(bench.server.requests()) == 3


def test_a_lost_send_outweighs_a_later_refusal(bench: Bench) -> None:
    bench.server.on(*SUBMIT, RESET, error(401))
    with pytest.raises(KeyRefused) as caught:
        run(bench, "submit", resubmit_unknown=True)
    assert caught.value.charged is Charged.UNKNOWN


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("key", ["error", "message", "detail"])
def test_the_gateways_own_server_error(bench: Bench, status: int, key: str) -> None:
    bench.server.on(*SUBMIT, error(status, "oops", key), error(status, "oops", key), QUEUED)
    assert run(bench, "submit").request_id == "job-1"
    bench.server.on(*SUBMIT, error(status, "oops", key))
    with pytest.raises(ServerError, match="oops") as caught:
        run(bench, "submit")
    assert (int(caught.value.exit_code), caught.value.charged) == (9, Charged.NO)
    assert len(bench.server.requests()) == 6


@pytest.mark.parametrize("status", [500, 503])
def test_server_error_on_sync_is_not_repeated(bench: Bench, status: int) -> None:
    bench.server.on(*SYNC, error(status, "oops"))
    with pytest.raises(ServerError) as caught:
        run(bench, "sync")
    assert caught.value.charged is Charged.NO
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize("call", ["submit", "sync"])
def test_no_connection_is_tried_until_the_deadline(bench: Bench, call: str) -> None:
    bench.client = bench.connect(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(NetworkError, match="refused") as caught:
        run(bench, call, seconds=30)
    assert caught.value.charged is Charged.NO
    assert len(bench.retries) > 4


@pytest.mark.parametrize("call", ["submit", "sync"])
@pytest.mark.parametrize("action", [Silence(), Drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, 0.01)])
def test_silence_after_the_body_is_unknown(bench: Bench, call: str, action: Any) -> None:
    for route in (SUBMIT, SYNC):
        bench.server.on(*route, action)
    with pytest.raises(OutcomeUnknown):
        run(bench, call, seconds=0.4)
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize("action", [Silence(), Drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, 0.01)])
def test_a_caller_with_many_threads_keeps_its_deadline_too(bench: Bench, action: Any) -> None:
    bench.server.on(*SUBMIT, action)
    bench.server.on(*STATUS, action)
    bench.client.stay_in_thread()
    with pytest.raises(OutcomeUnknown):
        run(bench, "submit", seconds=0.4)
    with pytest.raises(NetworkError):
        run(bench, "status", seconds=0.4)
    assert len(bench.server.requests(*SUBMIT)) == 1


@pytest.mark.parametrize("call", ["submit", "status"])
def test_who_is_given_up_late_cuts_no_connection(
    bench: Bench, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has gone back by then, and may be another's: a submit cut like that would be of unknown outcome."""
    gateway_script(bench.server)
    gates: list[bounded.Gate] = []
    watch = bounded.Gate.watch
    monkeypatch.setattr(bounded.Gate, "watch", lambda gate, held: (gates.append(gate), watch(gate, held))[1])
    run(bench, "submit")
    run(bench, call)
    cut: list[Any] = []
    monkeypatch.setattr(bounded, "_cut", cut.append)
    assert all(gate.abandon() for gate in gates)
    assert gates and cut == [None] * len(gates)


def test_a_caller_with_many_threads_needs_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway_script(bench.server)
    bench.client.stay_in_thread()
    monkeypatch.setattr(Flight, "launch", raiser(AssertionError(), Flight.launch))
    ident = run(bench, "submit").request_id
    assert bench.client.status(ident, bench.deadline()).state == "PROCESSING"


def test_an_id_is_taken_from_an_answer_whose_length_lies(bench: Bench) -> None:
    body = json.dumps({"request_id": "job-1"}).encode()
    bench.server.on(*SUBMIT, Reply(200, [], body, length=len(body) + 50, close=True))
    assert run(bench, "submit").request_id == "job-1"


def test_broken_v1_bytes_are_kept(bench: Bench) -> None:
    big = tiny_png(padding=300_000)
    bench.server.on(*SYNC, Cut(Reply.text(big), 200_000))
    result = run(bench, "sync")
    assert result.sources == (Spooled(bench.sinks[0], complete=False),)
    assert big.startswith(bench.sinks[0].data)
    assert len(bench.sinks[0].data) == 200_000


def test_v1_bytes_that_are_no_known_picture_are_kept(bench: Bench) -> None:
    junk = b"\x00\x01broken\xff" * 100
    bench.server.on(*SYNC, Reply.text(junk, kind="image/png"))
    assert isinstance(run(bench, "sync").sources[0], Spooled)
    assert bench.sinks[0].data == junk


# --- pending ---------------------------------------------------------------------------------------------


def test_waiting_in_pieces(bench: Bench) -> None:
    bench.server.on(*SUBMIT, slowly(QUEUED, 0.4))
    pending = bench.client.begin_submit(BODY, bench.deadline())
    assert (pending.in_flight, pending.charged) == (False, Charged.NO)
    assert pending.wait(0.1) is None
    assert (pending.in_flight, pending.charged) == (True, Charged.UNKNOWN)
    job = pending.settle(10)
    assert job is not None
    assert job.request_id == "job-1"
    assert pending.wait() is job
    assert len(bench.server.requests()) == 1


def slowly(reply: Reply, seconds: float) -> Any:
    def answer(_: Any) -> Reply:
        threading.Event().wait(seconds)
        return reply

    return answer


def test_settling_in_vain(bench: Bench) -> None:
    bench.server.on(*SUBMIT, Silence())
    pending = bench.client.begin_submit(BODY, bench.deadline())
    pending.wait(0.1)
    assert pending.settle(0.1) is None
    assert pending.charged is Charged.UNKNOWN
    with pytest.raises(OutcomeUnknown):
        pending.wait()
    assert len(bench.server.requests()) == 1


def test_settling_sends_nothing_more(bench: Bench) -> None:
    bench.server.on(*SUBMIT, error(429, retry_after="50"))
    pending = bench.client.begin_submit(BODY, bench.deadline())
    assert pending.wait(1) is None  # the wait for the limit outlasts this
    with pytest.raises(RateLimited):
        pending.settle(10)
    assert pending.charged is Charged.NO
    with pytest.raises(RateLimited):
        pending.wait()
    assert len(bench.server.requests()) == 1


def test_settling_before_anything_was_sent(bench: Bench) -> None:
    pending = bench.client.begin_submit(BODY, bench.deadline())
    with pytest.raises(NetworkError, match="not sent"):
        pending.settle(10)
    assert bench.server.requests() == []


def test_settling_after_an_interrupt_just_before_the_send(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.server.on(*SUBMIT, QUEUED)
    pending = bench.client.begin_submit(BODY, bench.deadline())
    with monkeypatch.context() as patch:
        patch.setattr(Flight, "launch", raiser(KeyboardInterrupt(), Flight.launch))
        with pytest.raises(KeyboardInterrupt):
            pending.wait()
    with pytest.raises(NetworkError, match="not sent"):
        pending.settle(10)
    assert pending.charged is Charged.NO
    assert bench.server.requests() == []


def test_an_answer_that_would_be_repeated_ends_a_settling(bench: Bench) -> None:
    bench.server.on(*SUBMIT, slowly(error(500), 0.3))
    pending = bench.client.begin_submit(BODY, bench.deadline())
    pending.wait(0.1)
    with pytest.raises(ServerError):
        pending.settle(10)
    assert len(bench.server.requests()) == 1


@pytest.mark.parametrize("moment", ["asleep", "in flight"])
def test_interrupt_leaves_the_call_in_order(
    bench: Bench, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.server.on(*SUBMIT, error(500), slowly(QUEUED, 0.3))
    pending = bench.client.begin_submit(BODY, bench.deadline())
    if moment == "asleep":
        monkeypatch.setattr(bench.clock, "sleep", raiser(KeyboardInterrupt(), bench.clock.sleep))
    else:
        bench.server.on(*SUBMIT, slowly(QUEUED, 0.3))
        monkeypatch.setattr(Flight, "wait", raiser(KeyboardInterrupt(), Flight.wait, times=1))
    with pytest.raises(KeyboardInterrupt):
        pending.wait()
    monkeypatch.undo()
    job = pending.wait()
    assert job is not None
    assert job.request_id == "job-1"
    assert len(bench.server.requests()) == (2 if moment == "asleep" else 1)


def raiser(problem: BaseException, real: Callable[..., Any], times: int = 1000) -> Any:
    left = [times]

    def fail(*args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() or left[0] == 0:
            return real(*args)
        left[0] -= 1
        raise problem

    return fail


def test_abandoned_before_the_connection_stood_nothing_ever_goes_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name look-up hangs; when it ends at last, the body must stay here."""
    release, tried = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow_lookup(*args: Any, **more: Any) -> Any:
        tried.set()
        release.wait(10)
        return real(*args, **more)

    bench.server.on(*SUBMIT, QUEUED)
    pending = bench.client.begin_submit(BODY, bench.deadline())
    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    assert pending.wait(0.2) is None
    assert tried.is_set()
    assert pending.settle(0.1) is None
    assert pending.charged is Charged.NO
    release.set()
    for thread in threading.enumerate():
        if thread.name == "chroma-http":
            thread.join(10)
    assert bench.server.requests() == []


def test_what_a_sink_raises_comes_out_and_the_money_is_not_forgotten(bench: Bench) -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OutputError("disk full")

        def reset(self) -> None: ...

    bench.server.on(*SYNC, Reply.text(PNG))
    with pytest.raises(OutputError, match="disk full") as caught:
        bench.client.generate_sync(BODY, bench.deadline(), Full)
    assert caught.value.charged is Charged.UNKNOWN

    class Failing(Full):
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left")

    bench.server.on("GET", "/f.png", Reply.text(PNG))
    with pytest.raises(OSError, match="No space"):
        bench.client.download(f"{bench.server.base_url}/f.png", Failing(), deadline=bench.deadline())
    assert len(bench.server.requests("GET")) == 1


# --- downloads -------------------------------------------------------------------------------------------


def fetch(bench: Bench, path: str = "/f.png", **more: Any) -> bytes:
    sink = bench.sink()
    url = path if "://" in path else bench.server.base_url + path
    bench.client.download(url, sink, deadline=bench.deadline(), **more)
    return sink.data


@pytest.mark.parametrize(
    "stumble",
    [
        RESET,
        error(500),
        error(429, retry_after="1"),
        error(408),
        Reply(204, length=None),
        Reply.text(""),
        Cut(Reply.text(PNG), 20),
        Reply(200, [], PNG, length=len(PNG) + 1, close=True),
    ],
    ids=lambda item: repr(item)[:40],
)
def test_download_gets_up_again(bench: Bench, stumble: Any) -> None:
    bench.server.on("GET", "/f.png", stumble, Reply.text(PNG))
    assert fetch(bench) == PNG
    assert len(bench.retries) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(404), NotFound),
        (error(410), NotFound),
        (error(403), ServerError),
    ],
)
def test_download_ends(bench: Bench, reply: Reply, kind: type[ChromaError]) -> None:
    bench.server.on("GET", "/f.png", reply)
    with pytest.raises(kind):
        fetch(bench)
    assert len(bench.server.requests()) == 1
    assert bench.sinks[0].data == b""


def test_download_too_large(bench: Bench) -> None:
    bench.server.on("GET", "/f.png", Reply.text(b"x" * 5000))
    with pytest.raises(BadReply, match="larger than accepted"):
        fetch(bench, max_bytes=4999)
    assert len(bench.sinks[0].data) <= 4999
    assert fetch(bench, max_bytes=5000) == b"x" * 5000


def test_download_follows_checked_redirects(bench: Bench) -> None:
    for hop in range(5):
        bench.server.on("GET", f"/hop{hop}", Reply(302, [("Location", f"/hop{hop + 1}")], b"see there"))
    bench.server.on("GET", "/hop5", Reply.text(PNG))
    assert fetch(bench, "/hop0") == PNG
    bench.server.on("GET", "/hop5", Reply(302, [("Location", "/hop6")]))
    with pytest.raises(BadReply, match="redirects"):
        fetch(bench, "/hop0")


@pytest.mark.parametrize(
    "target",
    [
        "http://pictures.test/a.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://user:pw@127.0.0.1/x",
        "https://x.test/?k=" + KEY,
        "http://[::1",
        "//\\evil.test/x",
        "javascript:alert(1)",
    ],
)
@pytest.mark.parametrize("direct", [True, False])
def test_addresses_that_are_not_fetched(bench: Bench, target: str, direct: bool) -> None:
    bench.server.on("GET", "/hop", Reply(302, [("Location", target)]))
    with pytest.raises(BadReply) as caught:
        if direct:
            bench.client.download(target, bench.sink(), deadline=bench.deadline())
        else:
            fetch(bench, "/hop")
    assert KEY not in str(caught.value.as_dict())
    assert "pw" not in caught.value.message
    assert {request.path for request in bench.server.requests()} == (set() if direct else {"/hop"})


def test_http_from_a_remote_gateway_is_refused_even_on_loopback(bench: Bench) -> None:
    client = bench.connect("https://api.gateway.test")
    with pytest.raises(BadReply, match="not https"):
        client.download(f"{bench.server.base_url}/f.png", bench.sink(), deadline=bench.deadline())
    assert bench.server.requests() == []


def test_inline_garbage_is_a_broken_image(bench: Bench) -> None:
    for text in ("A" * 99 + "*", "A" * 65, "data:image/png;base64,%%%", "data:image/png", "AA==AA", "é" * 70):
        with pytest.raises(BrokenImage):
            Inline(text).decode_into(bench.sink())
