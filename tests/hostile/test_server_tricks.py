"""What a hostile gateway, file host, proxy or environment tries, and what must hold: a case a line.

What holds in every case is checked by ``guarded``. Each case adds the exit code, how many submits went out,
whether the picture is there, and words that a person must see.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest
from kit import KEY, Changed, Cut, Garbage, Gateway, Reply, Request, png
from kit.guard import Guard

FOX = ("generate", "a red fox", "-o", "fox.png")
SYNCHRONOUS = (*FOX, "--sync")
#: Longer than the minute in which an answered poll counts.
QUICK = (*FOX, "--timeout", "90")
PICTURE = png(7)


@dataclass(frozen=True)
class Trick:
    """What is tried (``lay`` spoils the world), the command line, and what must come of it."""

    name: str
    lay: Callable[[Guard], object]
    code: int
    argv: tuple[str, ...] = FOX
    submits: int = 1
    saved: bool = False
    says: str = ""


def on(route: str, step: Any) -> Callable[[Guard], object]:
    """The gateway always does so on this route; a function gets the world and gives the step."""
    return lambda there: there.gateway.on(route, step(there) if callable(step) else step, always=True)


def redirect(target: Callable[[Guard], str], status: int = 302) -> Callable[[Guard], Reply]:
    return lambda there: Reply(status, [("Location", target(there))], b"gone")


def elsewhere(there: Guard) -> str:
    return there.stranger.base_url + "/files/x.png"


def by_name(there: Guard) -> str:
    return elsewhere(there).replace("127.0.0.1", "localhost")


def submitted(**more: Any) -> Changed:
    return Changed(lambda told: {**told, **more})


def completed(output: Any, **more: Any) -> Reply:
    return Reply.json({"status": "COMPLETED", "output": output, **more})


def named(url: Callable[[Guard], Any], **more: Any) -> Callable[[Guard], Reply]:
    """A result whose picture is at this address."""
    return lambda there: completed(url(there), **more)


def no_balance(request: Request) -> Reply:
    reply = request.normal()
    return replace(reply, headers=[("x-remaining-credits", "NaN")])


def ours(there: Guard) -> str:
    return f"{there.gateway.base_url}/files/a.png"


def several_hops(there: Guard) -> None:
    gateway, stranger = there.gateway, there.stranger
    gateway.on("file", Reply.redirect("/hop/2"))
    gateway.on("GET /hop/2", Reply.redirect(by_name(there).replace("/files/", "/hop/"), 307))
    stranger.on("GET /hop/*", Reply.redirect(elsewhere(there), 308))


def addresses_of_a_stranger(there: Guard) -> Changed:
    url = f"{there.stranger.base_url}/v2/requests/x"
    return submitted(poll_url=url, status_url=f"{url}/status", response_url=url)


#: Every spelling in which a server may send the key back.
ECHOES: dict[str, Reply] = {
    "plain-text": Reply.text(f"bad key {KEY}!", 400),
    "json": Reply.json({"error": f"bad key {KEY}"}, 400),
    "json-escaped": Reply.text(
        '{"error": "' + "".join(f"\\u{ord(ch):04x}" for ch in KEY) + '"}', 400, "application/json"
    ),
    "json-nested": Reply.json({"detail": [{"msg": "bad", "input": {"x-api-key": KEY}}]}, 400),
    "as-a-json-key": Reply.json({"error": {KEY: "bad"}}, 400),
    "html-title": Reply.text(f"<html><title>{KEY}</title>", 405, "text/html"),
    "lower-case": Reply.json({"error": KEY.lower()}, 400),
    "between-invisible-characters": Reply.json({"error": "​".join(KEY)}, 400),
    "between-colours": Reply.json({"error": "\x1b[1m".join(KEY)}, 400),
    "between-nul-bytes": Reply.text("\0".join(KEY), 400),
    "in-an-address": Reply.json({"error": f"see https://help.test/?key={KEY}"}, 400),
    "as-a-password": Reply.json({"error": f"see https://u:{KEY}@help.test/"}, 400),
    "far-behind": Reply.json({"error": "x" * 1995 + KEY}, 400),
    "in-headers": Reply(
        400,
        [
            ("x-request-id", KEY),
            ("x-remaining-credits", KEY),
            ("Server", KEY),
            ("Location", f"http://{KEY}.test/{KEY}"),
            ("Content-Type", KEY),
            ("Content-Encoding", "identity"),
            ("Set-Cookie", f"k={KEY}"),
            (KEY, KEY),
        ],
        b'{"error": "bad"}',
    ),
    "in-a-redirect": Reply(302, [("Location", f"http://{KEY}.test/")]),
}

ECHO_TRICKS = [
    *(
        Trick(f"echo-{name}", on("submit", reply), 2 if reply.status != 401 else 3)
        for name, reply in ECHOES.items()
    ),
    Trick("echo-as-request-id", on("submit", submitted(request_id=KEY)), 9, says="no usable request id"),
    Trick(
        "echo-as-request-id-of-a-failure",
        on("submit", Reply.json({"request_id": KEY, "status": "FAILED", "error": "no"})),
        6,
    ),
    Trick(
        "echo-inside-a-request-id",
        on("submit", submitted(request_id=f"job-{KEY}-1")),
        9,
        says="no usable request id",
    ),
    Trick(
        "echo-as-request-id-of-a-v1-call",
        on("sync", Reply.json({"request_id": KEY, "status": "QUEUED"})),
        9,
        SYNCHRONOUS,
    ),
    Trick(
        "echo-as-request-id-of-a-v1-failure",
        on("sync", Reply.json({"request_id": KEY, "status": "FAILED", "error": KEY}, 422)),
        6,
        SYNCHRONOUS,
    ),
    Trick(
        "echo-in-v1-headers",
        on(
            "sync",
            lambda there: Reply(
                200, [("x-request-id", KEY), ("x-seed-value", KEY), ("x-cost", KEY)], PICTURE
            ),
        ),
        0,
        SYNCHRONOUS,
        saved=True,
    ),
    Trick(
        "echo-as-status",
        on("status", Reply.json({"status": KEY})),
        7,
        (*FOX, "--timeout", "20"),
    ),
    Trick(
        "echo-as-failure", on("status", Reply.json({"status": "FAILED", "error": [KEY, {"k": KEY}]}, 422)), 6
    ),
    Trick(
        "echo-in-everything-of-a-result",
        on(
            "result",
            lambda there: completed(
                ours(there),
                seed=KEY,
                metrics=dict.fromkeys(("cost", "remaining_credits", "inference_time"), KEY),
                images=[{"url": ours(there), "file_name": KEY, "content_type": KEY}],
            ),
        ),
        0,
        saved=True,
    ),
    Trick(
        "echo-in-the-address-of-a-picture",
        on("result", named(lambda there: f"{elsewhere(there)}?key={KEY}")),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-in-the-path-of-our-own-host",
        on("result", named(lambda there: f"{there.gateway.base_url}/files/{KEY}.png")),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-percent-encoded-in-an-address",
        on("result", named(lambda there: elsewhere(there) + "?" + "".join(f"%{ord(ch):02x}" for ch in KEY))),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-as-a-host-name",
        on("result", named(lambda there: f"https://{KEY.lower()}.invalid/x.png")),
        9,
    ),
    Trick("echo-in-a-picture-that-is-none", on("file", Reply.text(f"{KEY} " * 50)), 9),
    Trick(
        "echo-as-a-data-uri",
        on("result", completed("data:image/png," + KEY)),
        9,
    ),
    Trick("echo-in-the-balance", on("credits", Reply.json({"credits": KEY, KEY: 1})), 9, ("credits",), 0),
    Trick(
        "echo-in-a-garbled-status-line", on("status", Garbage(f"{KEY} HTTP/9.9 {KEY}\r\n\r\n".encode())), 9
    ),
    Trick(
        "echo-in-a-garbled-header",
        on("status", Garbage(f"HTTP/1.1 200 {KEY}\r\n{KEY}\r\nContent-Length: {KEY}\r\n\r\n{{}}".encode())),
        9,
        (*FOX, "--timeout", "20"),
    ),
]

LEAK_TRICKS = [
    *(
        Trick(f"redirect-{status}-of-{name}", on(name, redirect(by_name, status)), code, argv, submits)
        for statuses, name, code, argv, submits in (
            ((301, 302, 307, 308), "submit", 2, FOX, 1),
            ((302, 307), "status", 9, FOX, 1),
            ((301, 308), "result", 9, FOX, 1),
            ((302, 307), "sync", 2, SYNCHRONOUS, 1),
            ((301, 308), "credits", 2, ("credits",), 0),
        )
        for status in statuses
    ),
    Trick(
        "redirect-of-the-balance-to-the-same-host-at-another-port",
        on("credits", redirect(elsewhere)),
        2,
        ("credits",),
        0,
    ),
    Trick(
        "redirect-of-the-status-within-the-gateway",
        on("status", redirect(lambda there: "/v2/requests/other")),
        9,
    ),
    Trick("redirect-without-a-target", on("status", Reply(302, [])), 9),
    Trick("redirect-of-a-login", on("credits", redirect(by_name)), 2, ("credits", "--min", "1"), 0),
    Trick("download-from-another-port", on("result", named(elsewhere)), 0, saved=True),
    Trick("download-from-another-name", on("result", named(by_name)), 0, saved=True),
    Trick("download-redirected-to-another-port", on("file", redirect(elsewhere)), 0, saved=True),
    Trick("download-redirected-to-another-name", on("file", redirect(by_name)), 0, saved=True),
    Trick("download-through-several-hops", several_hops, 0, saved=True),
    Trick(
        "download-with-the-key-in-a-hop",
        on("file", redirect(lambda there: f"{elsewhere(there)}?k={KEY}")),
        9,
        says="contains the key",
    ),
    Trick(
        "download-hops-without-end",
        on("file", redirect(lambda there: "/files/again.png")),
        9,
        says="redirects",
    ),
    Trick(
        "download-over-http-from-elsewhere",
        on("result", completed("http://images.test/a.png")),
        9,
        says="not https",
    ),
    Trick(
        "download-redirected-to-http-elsewhere",
        on("file", redirect(lambda there: "http://images.test/a.png")),
        9,
        says="not https",
    ),
    *(
        Trick(
            f"download-redirected-to-{target.partition(':')[0]}",
            on("file", redirect(lambda there, target=target: target)),
            9,
        )
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "data:image/png,x")
    ),
    *(
        Trick(f"picture-at-{name}", on("result", completed(target)), 9)
        for name, target in {
            "a-file": "file:///etc/passwd",
            "a-local-path": "/etc/passwd",
            "a-path-above": "../../../etc/passwd",
            "a-share": "//evil.test/x.png",
            "a-user-name": "https://127.0.0.1@evil.test/x.png",
            "a-backslash": "https://evil.test\\@127.0.0.1/x.png",
            "a-line-end": "https://evil.test/x.png\r\nx-api-key: 1",
            "a-zone": "http://[fe80::1%25eth0]/x.png",
            "a-broken-bracket": "http://[::1/x.png",
            "a-port-that-is-none": "https://evil.test:99999/x.png",
        }.items()
    ),
    Trick("replies-name-another-server-for-polling", on("submit", addresses_of_a_stranger), 0, saved=True),
    Trick(
        "cookies-of-the-gateway-are-not-sent-on",
        on(
            "status",
            Reply(
                200,
                [("Set-Cookie", "id=1; Domain=127.0.0.1"), ("Content-Type", "application/json")],
                b'{"status": "COMPLETED"}',
            ),
        ),
        0,
        saved=True,
    ),
    Trick(
        "a-challenge-for-a-password",
        on("status", Reply(401, [("WWW-Authenticate", 'Basic realm="x"')], b"{}")),
        3,
    ),
    Trick(
        "a-challenge-of-a-proxy",
        on("status", Reply(407, [("Proxy-Authenticate", 'Basic realm="x"')], b"{}")),
        9,
    ),
]


def with_numbers(there: Guard, raw: str) -> str:
    """A result in which every number is this text."""
    metrics = ("cost", "remaining_credits", "queue_time", "inference_time", "total_time")
    numbers = ", ".join(f'"{name}": {raw}' for name in metrics)
    return f'{{"status": "COMPLETED", "output": "{ours(there)}", "seed": {raw}, "metrics": {{{numbers}}}}}'


MANY_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n{}"
HUGE_HEADER = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000 + b"\r\n\r\n{}"
LONG_STATUS_LINE = b"HTTP/1.1 200 " + b"y" * 2_000_000 + b"\r\n\r\n{}"
SHAPE_TRICKS = [
    *(
        Trick(f"{what}-for-{name}", on(route, Garbage(data)), 9, argv, submits)
        for what, data in {
            "ten-thousand-headers": MANY_HEADERS,
            "a-huge-header": HUGE_HEADER,
            "a-long-status-line": LONG_STATUS_LINE,
            "no-http": b"\x00\xff\x1b[2J\x07" * 100,
            "a-negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
            "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n{}",
            "chunks-that-are-none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
            "a-chunk-without-end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"ffffffffffffff\r\n{",
        }.items()
        for name, route, argv, submits in (
            ("the-submit", "submit", QUICK, 1),
            ("the-status", "status", QUICK, 1),
            ("the-balance", "credits", ("credits",), 0),
        )
    ),
    *(
        Trick(f"id-{name}", on("submit", submitted(request_id=value)), 9, says="no usable request id")
        for name, value in {
            "with-slashes": "../../v1/get-user-credits",
            "with-dots": "..",
            "encoded": "%2e%2e%2f",
            "of-a-megabyte": "a" * 1_000_000,
            "too-long-by-one": "a" * 129,
            "empty": "",
            "of-white-space": " \t",
            "with-a-line-end": "job-1\n",
            "with-a-query": "job-1?x=1",
            "with-a-fragment": "job-1#x",
            "of-letters-beyond-ascii": "jöb",
            "of-digits-beyond-ascii": "١٢٣",
            "of-a-number": 17,
            "of-true": True,
            "of-null": None,
            "of-a-list": ["job-1"],
            "of-a-dict": {"id": "job-1"},
            "with-a-command": "\x1b]0;evil\x07",
            "with-markup": "[red]job[/red]",
        }.items()
    ),
    *(
        Trick(
            f"metrics-{name}",
            on(
                "result",
                lambda there, raw=raw: Reply.text(with_numbers(there, raw), kind="application/json"),
            ),
            0,
            saved=True,
        )
        for name, raw in {
            "nan": "NaN",
            "infinity": "Infinity",
            "minus-infinity": "-Infinity",
            "beyond-a-double": "1e999",
            "huge": "1e300",
            "of-ten-thousand-digits": "9" * 10_000,
            "beyond-64-bits": str(2**64),
            "negative": "-5",
            "true": "true",
            "null": "null",
            "text": '"lots"',
            "text-nan": '"NaN"',
            "text-huge": '"1e308"',
            "a-list": "[1]",
            "a-dict": '{"a": 1}',
        }.items()
    ),
    *(
        Trick(f"result-{name}", on("result", Reply.text(text, kind="application/json")), 9, QUICK)
        for name, text in {
            "with-null-for-the-output": '{"status": "COMPLETED", "output": null, "images": null}',
            "without-an-output": '{"status": "COMPLETED"}',
            "with-numbers-for-pictures": '{"status": "COMPLETED", "output": [1, true], "images": {"a": 1}}',
            "nested-without-end": '{"status": "COMPLETED", "output": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "that-is-a-list": "[]",
            "that-is-null": "null",
            "that-is-a-number": "1e400",
            "that-is-cut": '{"status": "COMPLETED", "output": "http',
            "of-unknown-bytes": "\udc80\udcff".encode("utf-8", "surrogatepass"),  # type: ignore[dict-item]
        }.items()
    ),
    Trick(
        "result-with-duplicate-fields",
        on(
            "result",
            lambda there: Reply.text(
                '{"status": "FAILED", "status": "COMPLETED", "output": "file:///etc/passwd",'
                f' "output": "{there.gateway.base_url}/files/a.png", "seed": 1, "seed": 2}}'
            ),
        ),
        0,
        saved=True,
    ),
    Trick(
        "submit-with-duplicate-ids", on("submit", Reply.text('{"request_id": "a", "request_id": "../b"}')), 9
    ),
    Trick("status-that-is-missing", on("status", Reply.json({})), 9, QUICK),
    Trick("status-that-is-null", on("status", Reply.json({"status": None})), 9, QUICK),
    Trick("status-that-is-a-list", on("status", Reply.json({"status": ["COMPLETED"]})), 9, QUICK),
    Trick("status-of-a-megabyte", on("status", Reply.json({"status": "Q" * 1_000_000})), 7, QUICK),
    Trick("status-nobody-knows", on("status", Reply.json({"status": "EXPLODED"})), 7, QUICK),
    *(
        Trick(
            f"picture-as-{kind.replace('/', '-')}",
            on("file", Reply.text(PICTURE, kind=kind)),
            0,
            saved=True,
        )
        for kind in ("text/html", "application/json", "image/svg+xml", "\x1b[31m", "")
    ),
    *(
        Trick(f"file-that-is-{name}", on("file", Reply(200, [("Content-Type", "image/png")], data)), 9)
        for name, data in {
            "html": b"<html><script>alert(1)</script>",
            "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            "empty": b"",
            "a-program": b"\x7fELF" + bytes(500),
            "a-gif": b"GIF89a" + bytes(100),
            "a-cut-png": PICTURE[:-30],
            "a-tiff": b"II*\x00" + bytes(200),
            "a-postscript-program": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (w) file\n",
        }.items()
    ),
    Trick(
        "json-said-to-be-a-picture",
        on("status", Reply(200, [("Content-Type", "image/png")], b'{"status": "COMPLETED"}')),
        0,
        saved=True,
    ),
    Trick("balance-of-nan", on("credits", Reply.text('{"credits": NaN}')), 9, ("credits",), 0),
    Trick("balance-of-true", on("credits", Reply.text('{"credits": true}')), 9, ("credits",), 0),
    Trick("balance-beyond-all", on("credits", Reply.text('{"credits": 1e999}')), 9, ("credits",), 0),
    Trick(
        "remaining-credits-that-are-none",
        on("submit", lambda _: no_balance),
        0,
        saved=True,
    ),
    Trick(
        "rate-limit-for-a-thousand-years",
        on("status", Reply.json({"error": "slow"}, 429, Retry_After="99999999999999999")),
        5,
        QUICK,
    ),
    Trick(
        "rate-limit-with-nonsense",
        on(
            "status",
            Reply.json({"error": "slow"}, 429, Retry_After="NaN", x_rate_limit_reset_at_utc="\x1b[2J"),
        ),
        5,
        QUICK,
    ),
    Trick(
        "a-length-that-lies", on("status", Reply(200, [], b"{}", length=10**15)), 9, (*FOX, "--timeout", "3")
    ),
    Trick("a-reply-that-is-cut", on("status", Cut(8, Reply.json({"status": "COMPLETED"}))), 9, QUICK),
    Trick("an-unknown-encoding", on("status", Reply(200, [("Content-Encoding", "\x1bbr")], b"{}")), 9, QUICK),
    Trick(
        "more-pictures-than-asked-for",
        on("result", named(lambda there: [f"{there.gateway.base_url}/files/{n}.png" for n in range(3)])),
        0,
        saved=True,
        says="3 came",
    ),
]

TRICKS = [*ECHO_TRICKS, *LEAK_TRICKS, *SHAPE_TRICKS]


#: What echoes the key is told in words and as JSON; of the others every second one is told as JSON.
CASES = [
    *((trick, form) for trick in ECHO_TRICKS for form in ("words", "json")),
    *((trick, ("words", "json")[place % 2]) for place, trick in enumerate([*LEAK_TRICKS, *SHAPE_TRICKS])),
]


@pytest.fixture
def there(guarded: Guard) -> Guard:
    """The world, with a picture that every result may name."""
    guarded.gateway.on("GET /files/?.png", Reply.text(PICTURE, kind="image/png"), always=True)
    return guarded


@pytest.mark.parametrize(("trick", "form"), CASES, ids=[f"{trick.name}-{form}" for trick, form in CASES])
def test_trick(there: Guard, trick: Trick, form: str) -> None:
    trick.lay(there)
    ran = there(*trick.argv, "-v", "--debug", *(["--json"] if form == "json" else []), debug=True)
    assert ran.code == trick.code, ran.said
    assert there.gateway.posts() == trick.submits
    assert ("fox.png" in there.made()) == trick.saved
    assert trick.saved or not there.made()
    assert trick.says in ran.out + ran.err
    if form == "json":
        assert all(one["schema"] == 1 for one in (*ran.json, *ran.notes))
        if trick.code:
            assert ran.error["exit_code"] == trick.code


# --- addresses, proxies, stored secrets --------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.1",
        "http://evil.test",
        "http://127.0.0.1.evil.test",
        "http://localhost.evil.test",
        "http://127.0.0.1@evil.test",
        "http://127.0.0.1:80@evil.test",
        "http://evil.test#@127.0.0.1",
        "http://evil.test\\@127.0.0.1",
        "http://evil.test/?@127.0.0.1",
        "http://0.0.0.0",
        "http://0",
        "http://2130706433",
        "http://[::]",
        "http://[::ffff:192.0.2.1]",
        "//evil.test",
        "evil.test",
        "file:///etc/passwd",
        "https://user:sesame@evil.test",
        "https://evil.test?x",
        "https://evil.test/\r\nx-api-key: y",
        "https://evil.test/\x1b[2J",
        "https://e\u0456vil.test",
        "",
        " ",
    ],
    ids=lambda address: "".join(ch if ch.isalnum() else "-" for ch in address) or "nothing",
)
@pytest.mark.parametrize("place", ["option", "variable", "config"])
def test_addresses_that_the_key_must_not_go_to(
    there: Guard,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    address: str,
) -> None:
    if not address.strip() and place != "option":
        pytest.skip("an empty value counts as unset")
    monkeypatch.delenv("CHROMA_BASE_URL")
    if place == "variable":
        monkeypatch.setenv("CHROMA_BASE_URL", address)
    elif place == "config":
        there.config.write_text(f"base_url = {json.dumps(address)}")
    ran = there(*FOX, *(["--base-url", address] if place == "option" else []))
    assert ran.code == 2
    assert there.gateway.posts() == 0 and not there.made()
    assert "sesame" not in ran.err


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.mark.parametrize("variable", PROXIES)
def test_loopback_never_goes_through_a_proxy(
    there: Guard, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, there.stranger.base_url)
    ran = there(*FOX)
    assert ran.code == 0 and there.made() == {"fox.png"}
    assert not there.stranger.requests()


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", "http://user:sesame@", ""])
def test_a_proxy_never_sees_the_key(
    there: Guard, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, scheme + there.stranger.base_url.removeprefix("http://"))
    there.stranger.on("CONNECT *", Reply.text(f"\x1b[2J{KEY}[red]", 502), always=True)
    ran = there(*FOX, "--base-url", "https://gateway.invalid", "--timeout", "20", "-v", "--debug", debug=True)
    assert ran.code == 9
    assert "sesame" not in ran.err
    asked = there.stranger.requests()
    assert {(one.method, one.path) for one in asked} == {("CONNECT", "gateway.invalid:443")}


@pytest.mark.parametrize("how", ["home", "NETRC"])
def test_a_netrc_is_not_read(there: Guard, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    netrc = there.home / (".netrc" if how == "home" else "elsewhere")
    netrc.write_text(
        f"machine 127.0.0.1 login me password word\nmachine localhost login {KEY[3:]} password x\n"
    )
    netrc.chmod(0o600)
    if how == "NETRC":
        monkeypatch.setenv("NETRC", str(netrc))
    on("file", redirect(by_name))(there)
    assert there(*FOX).code == 0
    seen = [*there.gateway.requests(), *there.stranger.requests()]
    assert there.stranger.requests() and not any("authorization" in one.headers for one in seen)


def test_a_stored_key_is_for_its_gateway_alone(there: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    there.state.mkdir()
    there.key = "SG_another0key00000"
    stored = there.state / "credentials.json"
    stored.write_text(json.dumps({there.gateway.base_url: there.key}))
    stored.chmod(0o600)
    ran = there("credits", "--base-url", there.stranger.base_url)
    assert ran.code == 3 and not there.stranger.requests()
    assert there("credits").code == 0
    assert there("credits", "--base-url", there.gateway.base_url.replace("127.0.0.1", "localhost")).code == 3


def test_the_sandbox_never_gets_the_key(there: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    assert there("submit", "a red fox", "--sandbox").code == 0
    assert not there.gateway.requests() and not there.stranger.requests()


def test_old_jobs_are_not_asked_for_at_their_old_gateway(
    there: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert there("submit", "a red fox").code == 0
    before = len(there.gateway.requests())
    with Gateway() as other:
        monkeypatch.setenv("CHROMA_BASE_URL", other.base_url)
        assert there("fetch", "--pending").code == 0
        assert not other.requests()
    assert len(there.gateway.requests()) == before


@pytest.mark.parametrize("argv", [FOX, ("submit", "x"), ("config",), ("jobs",), ("presets",)])
@pytest.mark.parametrize("key", ["SG_\x1b[31m", "SG_é", "SG_a\nb", "SG_a b\x00".replace("\x00", "\x7f")])
def test_a_key_that_is_none_is_not_shown(
    there: Guard, monkeypatch: pytest.MonkeyPatch, key: str, argv: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", key)
    there.key = key
    ran = there(*argv)
    assert "SG_a" not in ran.out + ran.err and there.gateway.posts() == 0


@pytest.mark.parametrize("key", ['SG_"quote"\\back/slash%41+&', "SG_[red]key[/red]0000", "'; rm -rf ~; '"])
def test_an_odd_key_is_hidden_all_the_same(there: Guard, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", key)
    there.key = key
    quoted = quote(key, safe="")
    there.gateway.on(
        "submit", Reply.json({"error": [key, {"a": key, key: quoted}], "detail": key}, 400), always=True
    )
    for form in ((), ("--json",)):
        ran = there(*FOX, "-v", *form)
        assert ran.code == 2
        shown = ran.out + ran.err
        assert quoted not in shown and json.dumps(key)[1:-1] not in shown
    assert [one.headers["x-api-key"] for one in there.gateway.requests()] == [key, key]
