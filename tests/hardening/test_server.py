"""What a hostile gateway, file host, proxy or environment tries, and what must hold: a case a line.

What holds in every case is checked by the :class:`Rig`. Each case adds the exit code, how many submits went
out, whether the picture is there, and words that a person must see.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from faultserver import (
    Cut,
    Drip,
    Endless,
    FaultServer,
    Garbage,
    Reply,
    Silence,
    gateway_script,
    tiny_png,
)
from hostile import FOX, KEY, Ran, Rig, measured

from chroma_cli import credentials

SUBMIT = ("POST", "/v2/chroma")
SYNC = ("POST", "/v1/chroma")
STATUS = ("GET", "/v2/requests/*/status")
RESULT = ("GET", "/v2/requests/*")
FILES = ("GET", "/files/*")
CREDITS = ("GET", "/v1/get-user-credits")
SYNCHRONOUS = (*FOX, "--sync")


@dataclass(frozen=True)
class Trick:
    """What is tried (``lay`` spoils the rig), the command line, and what must come of it."""

    name: str
    lay: Callable[[Rig], object]
    code: int
    argv: tuple[str, ...] = FOX
    submits: int = 1
    saved: bool = False
    says: str = ""


def on(route: tuple[str, str], reply: Any) -> Callable[[Rig], object]:
    """The gateway answers so on this route; a function gets the rig and gives the answer."""

    def lay(rig: Rig) -> None:
        rig.gateway.on(*route, reply(rig) if callable(reply) else reply)
        if route == RESULT:  # its pattern takes in the status, which is to say that there is a result
            rig.gateway.on(*STATUS, Reply.json({"status": "COMPLETED", "request_id": "job-1"}))

    return lay


def redirect(target: Callable[[Rig], str], status: int = 302) -> Callable[[Rig], Reply]:
    return lambda rig: Reply(status, [("Location", target(rig))], b"gone")


def elsewhere(rig: Rig) -> str:
    return rig.stranger.base_url + "/files/x.png"


def by_name(rig: Rig) -> str:
    return f"http://localhost:{rig.stranger.port}/files/x.png"


def submitted(**more: Any) -> Reply:
    return Reply.json({"request_id": "job-1", "status": "QUEUED", **more})


def completed(output: Any, **more: Any) -> Reply:
    return Reply.json({"status": "COMPLETED", "request_id": "job-1", "output": output, **more})


def named(url: Callable[[Rig], Any], **more: Any) -> Callable[[Rig], Reply]:
    """A result whose picture is at this address."""
    return lambda rig: completed(url(rig), **more)


def several_hops(rig: Rig) -> None:
    rig.gateway.on(*FILES, Reply(302, [("Location", "/hop/2")]))
    rig.gateway.on("GET", "/hop/2", Reply(307, [("Location", by_name(rig).replace("/files/", "/hop/"))]))
    rig.stranger.on("GET", "/hop/*", Reply(308, [("Location", elsewhere(rig))]))


def key_in_a_hop(rig: Rig) -> None:
    rig.gateway.on(*FILES, Reply(302, [("Location", elsewhere(rig) + f"?k={KEY}")]))


def addresses_of_a_stranger(rig: Rig) -> None:
    there = rig.stranger.base_url
    rig.gateway.on(
        *SUBMIT,
        submitted(
            poll_url=f"{there}/v1/requests/job-1",
            status_url=f"{there}/v2/requests/job-1/status",
            response_url=f"{there}/v2/requests/job-1",
        ),
    )
    rig.gateway.on(*RESULT, completed(f"{rig.gateway.base_url}/files/a.png"))
    rig.gateway.on(*STATUS, Reply.json({"status": "COMPLETED", "request_id": "job-1"}))


def another_id_on_the_way(rig: Rig) -> None:
    rig.gateway.on(*STATUS, Reply.json({"status": "COMPLETED", "request_id": "job-666"}))


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
        Trick(f"echo-{name}", on(SUBMIT, reply), 2 if reply.status != 401 else 3)
        for name, reply in ECHOES.items()
    ),
    Trick("echo-as-request-id", on(SUBMIT, submitted(request_id=KEY)), 9, says="no usable request id"),
    Trick(
        "echo-as-request-id-of-a-failure",
        on(SUBMIT, Reply.json({"request_id": KEY, "status": "FAILED", "error": "no"})),
        6,
    ),
    Trick(
        "echo-inside-a-request-id",
        on(SUBMIT, submitted(request_id=f"job-{KEY}-1")),
        9,
        says="no usable request id",
    ),
    Trick(
        "echo-as-request-id-of-a-v1-call",
        on(SYNC, Reply.json({"request_id": KEY, "status": "QUEUED"})),
        9,
        SYNCHRONOUS,
    ),
    Trick(
        "echo-as-request-id-of-a-v1-failure",
        on(SYNC, Reply.json({"request_id": KEY, "status": "FAILED", "error": KEY}, 422)),
        6,
        SYNCHRONOUS,
    ),
    Trick(
        "echo-in-v1-headers",
        on(
            SYNC,
            lambda rig: Reply(
                200, [("x-request-id", KEY), ("x-seed-value", KEY), ("x-cost", KEY)], tiny_png(1024, 1024)
            ),
        ),
        0,
        SYNCHRONOUS,
        saved=True,
    ),
    Trick(
        "echo-as-status",
        on(STATUS, Reply.json({"status": KEY, "request_id": "job-1"})),
        7,
        (*FOX, "--timeout", "20"),
    ),
    Trick(
        "echo-as-failure", on(STATUS, Reply.json({"status": "FAILED", "error": [KEY, {"k": KEY}]}, 422)), 6
    ),
    Trick(
        "echo-in-everything-of-a-result",
        on(
            RESULT,
            lambda rig: completed(
                f"{rig.gateway.base_url}/files/a.png",
                seed=KEY,
                metrics=dict.fromkeys(("cost", "remaining_credits", "inference_time"), KEY),
                images=[
                    {"url": f"{rig.gateway.base_url}/files/a.png", "file_name": KEY, "content_type": KEY}
                ],
            ),
        ),
        0,
        saved=True,
    ),
    Trick(
        "echo-in-the-address-of-a-picture",
        on(RESULT, named(lambda rig: f"{elsewhere(rig)}?key={KEY}")),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-in-the-path-of-our-own-host",
        on(RESULT, named(lambda rig: f"{rig.gateway.base_url}/files/{KEY}.png")),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-percent-encoded-in-an-address",
        on(RESULT, named(lambda rig: elsewhere(rig) + "?" + "".join(f"%{ord(ch):02x}" for ch in KEY))),
        9,
        says="contains the key",
    ),
    Trick(
        "echo-as-a-host-name",
        on(RESULT, named(lambda rig: f"https://{KEY.lower()}.invalid/x.png")),
        9,
    ),
    Trick("echo-in-a-picture-that-is-none", on(FILES, Reply.text(f"{KEY} " * 50)), 9),
    Trick(
        "echo-as-a-data-uri",
        on(RESULT, completed("data:image/png," + KEY)),
        9,
    ),
    Trick("echo-in-the-balance", on(CREDITS, Reply.json({"credits": KEY, KEY: 1})), 9, ("credits",), 0),
    Trick("echo-in-a-garbled-status-line", on(STATUS, Garbage(f"{KEY} HTTP/9.9 {KEY}\r\n\r\n".encode())), 9),
    Trick(
        "echo-in-a-garbled-header",
        on(STATUS, Garbage(f"HTTP/1.1 200 {KEY}\r\n{KEY}\r\nContent-Length: {KEY}\r\n\r\n{{}}".encode())),
        9,
        (*FOX, "--timeout", "20"),
    ),
]

LEAK_TRICKS = [
    *(
        Trick(f"redirect-{status}-of-{name}", on(route, redirect(by_name, status)), code, argv, submits)
        for status in (301, 302, 307, 308)
        for name, route, code, argv, submits in (
            ("the-submit", SUBMIT, 2, FOX, 1),
            ("the-status", STATUS, 9, FOX, 1),
            ("the-result", RESULT, 9, FOX, 1),
            ("a-v1-call", SYNC, 2, SYNCHRONOUS, 1),
            ("the-balance", CREDITS, 2, ("credits",), 0),
        )
    ),
    Trick(
        "redirect-of-the-balance-to-the-same-host-at-another-port",
        on(CREDITS, redirect(elsewhere)),
        2,
        ("credits",),
        0,
    ),
    Trick(
        "redirect-of-the-status-within-the-gateway", on(STATUS, redirect(lambda rig: "/v2/requests/other")), 9
    ),
    Trick("redirect-without-a-target", on(STATUS, Reply(302, [])), 9),
    Trick("redirect-of-a-login", on(CREDITS, redirect(by_name)), 2, ("credits", "--min", "1"), 0),
    Trick("download-from-another-port", on(RESULT, named(elsewhere)), 0, saved=True),
    Trick("download-from-another-name", on(RESULT, named(by_name)), 0, saved=True),
    Trick("download-redirected-to-another-port", on(FILES, redirect(elsewhere)), 0, saved=True),
    Trick("download-redirected-to-another-name", on(FILES, redirect(by_name)), 0, saved=True),
    Trick("download-through-several-hops", several_hops, 0, saved=True),
    Trick("download-with-the-key-in-a-hop", key_in_a_hop, 9, says="contains the key"),
    Trick(
        "download-hops-without-end", on(FILES, redirect(lambda rig: "/files/again.png")), 9, says="redirects"
    ),
    Trick(
        "download-over-http-from-elsewhere",
        on(RESULT, completed("http://images.test/a.png")),
        9,
        says="not https",
    ),
    Trick(
        "download-redirected-to-http-elsewhere",
        on(FILES, redirect(lambda rig: "http://images.test/a.png")),
        9,
        says="not https",
    ),
    *(
        Trick(
            f"download-redirected-to-{target.partition(':')[0]}",
            on(FILES, redirect(lambda rig, target=target: target)),
            9,
        )
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "data:image/png,x")
    ),
    *(
        Trick(f"picture-at-{name}", on(RESULT, completed(target)), 9)
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
    Trick("replies-name-another-server-for-polling", addresses_of_a_stranger, 0, saved=True),
    Trick("status-of-another-job", another_id_on_the_way, 9, says="another job"),
    Trick(
        "cookies-of-the-gateway-are-not-sent-on",
        on(
            STATUS,
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
        on(STATUS, Reply(401, [("WWW-Authenticate", 'Basic realm="x"')], b"{}")),
        3,
    ),
    Trick(
        "a-challenge-of-a-proxy",
        on(STATUS, Reply(407, [("Proxy-Authenticate", 'Basic realm="x"')], b"{}")),
        9,
    ),
]


def with_numbers(rig: Rig, raw: str) -> str:
    """A result in which every number is this text."""
    metrics = ("cost", "remaining_credits", "queue_time", "inference_time", "total_time")
    numbers = ", ".join(f'"{name}": {raw}' for name in metrics)
    picture = f"{rig.gateway.base_url}/files/a.png"
    return f'{{"status": "COMPLETED", "output": "{picture}", "seed": {raw}, "metrics": {{{numbers}}}}}'


MANY_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n{}"
HUGE_HEADER = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000 + b"\r\n\r\n{}"
LONG_STATUS_LINE = b"HTTP/1.1 200 " + b"y" * 2_000_000 + b"\r\n\r\n{}"
#: Longer than the minute in which an answered poll counts.
QUICK = (*FOX, "--timeout", "90")

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
            ("the-submit", SUBMIT, QUICK, 1),
            ("the-status", STATUS, QUICK, 1),
            ("the-balance", CREDITS, ("credits",), 0),
        )
    ),
    *(
        Trick(f"id-{name}", on(SUBMIT, submitted(request_id=value)), 9, says="no usable request id")
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
                RESULT,
                lambda rig, raw=raw: Reply.text(with_numbers(rig, raw), kind="application/json"),
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
        Trick(f"result-{name}", on(RESULT, Reply.text(text, kind="application/json")), 9, QUICK)
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
            RESULT,
            lambda rig: Reply.text(
                '{"status": "FAILED", "status": "COMPLETED", "output": "file:///etc/passwd",'
                f' "output": "{rig.gateway.base_url}/files/a.png", "seed": 1, "seed": 2}}'
            ),
        ),
        0,
        saved=True,
    ),
    Trick(
        "submit-with-duplicate-ids", on(SUBMIT, Reply.text('{"request_id": "a", "request_id": "../b"}')), 9
    ),
    Trick("status-that-is-missing", on(STATUS, Reply.json({"request_id": "job-1"})), 9, QUICK),
    Trick("status-that-is-null", on(STATUS, Reply.json({"status": None})), 9, QUICK),
    Trick("status-that-is-a-list", on(STATUS, Reply.json({"status": ["COMPLETED"]})), 9, QUICK),
    Trick("status-of-a-megabyte", on(STATUS, Reply.json({"status": "Q" * 1_000_000})), 7, QUICK),
    Trick("status-nobody-knows", on(STATUS, Reply.json({"status": "EXPLODED"})), 7, QUICK),
    *(
        Trick(
            f"picture-as-{kind.replace('/', '-')}",
            on(FILES, Reply.text(tiny_png(1024, 1024), kind=kind)),
            0,
            saved=True,
        )
        for kind in ("text/html", "application/json", "image/svg+xml", "\x1b[31m", "")
    ),
    *(
        Trick(f"file-that-is-{name}", on(FILES, Reply(200, [("Content-Type", "image/png")], data)), 9)
        for name, data in {
            "html": b"<html><script>alert(1)</script>",
            "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            "empty": b"",
            "a-program": b"\x7fELF" + bytes(500),
            "a-gif": b"GIF89a" + bytes(100),
            "a-cut-png": tiny_png(1024, 1024)[:-30],
            "a-tiff": b"II*\x00" + bytes(200),
            "a-postscript-program": b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (w) file\n",
        }.items()
    ),
    Trick(
        "json-said-to-be-a-picture",
        on(STATUS, Reply(200, [("Content-Type", "image/png")], b'{"status": "COMPLETED"}')),
        0,
        saved=True,
    ),
    Trick("balance-of-nan", on(CREDITS, Reply.text('{"credits": NaN}')), 9, ("credits",), 0),
    Trick("balance-of-true", on(CREDITS, Reply.text('{"credits": true}')), 9, ("credits",), 0),
    Trick("balance-beyond-all", on(CREDITS, Reply.text('{"credits": 1e999}')), 9, ("credits",), 0),
    Trick(
        "remaining-credits-that-are-none",
        on(SUBMIT, Reply.json({"request_id": "job-1"}, x_remaining_credits="NaN")),
        8,
    ),
    Trick(
        "rate-limit-for-a-thousand-years",
        on(STATUS, Reply.json({"error": "slow"}, 429, Retry_After="99999999999999999")),
        5,
        QUICK,
    ),
    Trick(
        "rate-limit-with-nonsense",
        on(
            STATUS, Reply.json({"error": "slow"}, 429, Retry_After="NaN", x_rate_limit_reset_at_utc="\x1b[2J")
        ),
        5,
        QUICK,
    ),
    Trick(
        "a-length-that-lies", on(STATUS, Reply(200, [], b"{}", length=10**15)), 9, (*FOX, "--timeout", "3")
    ),
    Trick("a-reply-that-is-cut", on(STATUS, Cut(Reply.json({"status": "COMPLETED"}), 8)), 9, QUICK),
    Trick("an-unknown-encoding", on(STATUS, Reply(200, [("Content-Encoding", "\x1bbr")], b"{}")), 9, QUICK),
    Trick(
        "more-pictures-than-asked-for",
        on(RESULT, named(lambda rig: [f"{rig.gateway.base_url}/files/{n}.png" for n in range(3)])),
        0,
        saved=True,
        says="3 came",
    ),
]

TRICKS = [*ECHO_TRICKS, *LEAK_TRICKS, *SHAPE_TRICKS]


@pytest.mark.parametrize("form", ["words", "json"])
@pytest.mark.parametrize("trick", TRICKS, ids=[trick.name for trick in TRICKS])
def test_trick(rig: Rig, trick: Trick, form: str) -> None:
    trick.lay(rig)
    ran = rig(*trick.argv, "-v", "--debug", *(["--json"] if form == "json" else []), debug=True)
    assert ran.code == trick.code, ran
    assert rig.submits == trick.submits
    assert ("fox.png" in rig.made()) == trick.saved
    assert trick.saved or not rig.made()
    assert trick.says in ran.out + ran.err
    if form == "json":
        assert all(one["schema"] == 1 for one in (*ran.objects, *ran.notes))
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
    rig: Rig,
    write_config: Callable[[str], Path],
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
        write_config(f"base_url = {json.dumps(address)}")
    ran = rig(*FOX, *(["--base-url", address] if place == "option" else []))
    assert ran.code == 2
    assert rig.submits == 0 and not rig.made()
    assert "sesame" not in ran.err


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.mark.parametrize("variable", PROXIES)
def test_loopback_never_goes_through_a_proxy(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, rig.stranger.base_url)
    ran = rig(*FOX)
    assert ran.code == 0 and rig.made() == {"fox.png"}
    assert not rig.stranger.requests()


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", "http://user:sesame@", ""])
def test_a_proxy_never_sees_the_key(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{rig.stranger.port}")
    rig.stranger.on("CONNECT", "*", Reply.text(f"\x1b[2J{KEY}[red]", 502))
    ran = rig(*FOX, "--base-url", "https://gateway.invalid", "--timeout", "20", "-v", "--debug", debug=True)
    assert ran.code == 9
    assert "sesame" not in ran.err
    asked = rig.stranger.requests()
    assert {(one.method, one.path) for one in asked} == {("CONNECT", "gateway.invalid:443")}


@pytest.mark.parametrize("how", ["home", "NETRC"])
def test_a_netrc_is_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    netrc = rig.home / (".netrc" if how == "home" else "elsewhere")
    netrc.write_text(
        f"machine 127.0.0.1 login me password word\nmachine localhost login {KEY[3:]} password x\n"
    )
    netrc.chmod(0o600)
    if how == "NETRC":
        monkeypatch.setenv("NETRC", str(netrc))
    rig.gateway.on(*FILES, redirect(by_name)(rig))
    assert rig(*FOX).code == 0
    seen = [*rig.gateway.requests(), *rig.stranger.requests()]
    assert rig.stranger.requests() and not any("authorization" in one.headers for one in seen)


def test_a_stored_key_is_for_its_gateway_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    rig.state.mkdir()
    rig.key = "SG_another0key00000"
    credentials.store(rig.state, rig.gateway.base_url, rig.key)
    ran = rig("credits", "--base-url", rig.stranger.base_url)
    assert ran.code == 3 and not rig.stranger.requests()
    assert rig("credits").code == 0
    assert rig("credits", "--base-url", rig.gateway.base_url.replace("127.0.0.1", "localhost")).code == 3


def test_the_sandbox_never_gets_the_key(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    assert rig("submit", "a red fox", "--sandbox").code == 0
    assert not rig.gateway.requests() and not rig.stranger.requests()


def test_old_jobs_are_not_asked_for_at_their_old_gateway(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.gateway.on(*STATUS, Reply.json({"status": "QUEUED"}))
    assert rig("submit", "a red fox").code == 0
    before = len(rig.gateway.requests())
    with FaultServer() as other:
        gateway_script(other)
        monkeypatch.setenv("CHROMA_BASE_URL", other.base_url)
        assert rig("fetch", "--pending").code == 0
        assert not other.requests()
    assert len(rig.gateway.requests()) == before


@pytest.mark.parametrize("argv", [FOX, ("submit", "x"), ("config",), ("jobs",), ("presets",)])
@pytest.mark.parametrize("key", ["SG_\x1b[31m", "SG_é", "SG_a\nb", "SG_a b\x00".replace("\x00", "\x7f")])
def test_a_key_that_is_none_is_not_shown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, key: str, argv: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", key)
    rig.key = key
    ran = rig(*argv)
    assert "SG_a" not in ran.out + ran.err and rig.submits == 0


@pytest.mark.parametrize("key", ['SG_"quote"\\back/slash%41+&', "SG_[red]key[/red]0000", "'; rm -rf ~; '"])
def test_an_odd_key_is_hidden_all_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SEGMIND_API_KEY", key)
    rig.key = key
    quoted = quote(key, safe="")
    rig.gateway.on(*SUBMIT, Reply.json({"error": [key, {"a": key, key: quoted}], "detail": key}, 400))
    for form in ((), ("--json",)):
        ran = rig(*FOX, "-v", *form)
        assert ran.code == 2
        shown = ran.out + ran.err
        assert quoted not in shown and json.dumps(key)[1:-1] not in shown
    assert [one.headers["x-api-key"] for one in rig.gateway.requests()] == [key, key]


# --- bombs: bounded memory and time ------------------------------------------------------------------------


@cache
def zipped(data: bytes, times: int) -> bytes:
    """``data`` so many times, as gzip, without ever being in memory as a whole."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([*(packer.compress(data) for _ in range(times)), packer.flush()])


def gzipped(data: bytes, times: int) -> Reply:
    return Reply(200, [("Content-Encoding", "gzip")], zipped(data, times))


def endless(start: bytes, piece: bytes, kind: str = "application/json") -> Endless:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()
    return Endless(head + start, piece)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *chunks: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", rows)
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *chunks, data, png_chunk(b"IEND", b"")])


@cache
def zeros(count: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(count >> 20)), packer.flush()])


def text_bomb(kind: bytes, keyword: bytes) -> bytes:
    """A picture with a text that unpacks to 100 MB."""
    middle = b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0"
    chunk = png_chunk(kind, keyword + middle + zeros(100 << 20))
    whole = tiny_png(1024, 1024)
    return whole[:33] + chunk + whole[33:]


MIB = bytes(2**20)
#: Name: where, what the server does, exit code, and the megabytes that it may cost beyond a usual run.
BOMBS: dict[str, tuple[tuple[str, str], Callable[[], Any], int, int]] = {
    "gzip-bomb-as-status": (STATUS, lambda: gzipped(b'"' + MIB, 300), 9, 40),
    "gzip-bomb-of-json-as-status": (STATUS, lambda: gzipped(b"[" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-balance": (CREDITS, lambda: gzipped(b"{" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-answer-to-a-submit": (SUBMIT, lambda: gzipped(b"{" + b" " * 2**20, 300), 9, 40),
    "gzip-bomb-as-picture": (FILES, lambda: gzipped(tiny_png() + MIB, 300), 9, 40),
    "gzip-within-gzip": (STATUS, lambda: gzipped(zipped(MIB, 100), 100), 9, 40),
    "endless-nonsense-as-result": (RESULT, lambda: endless(b"<html>", b"x" * 65536), 9, 40),
    "endless-json-as-result": (RESULT, lambda: endless(b'{"output": "', b"x" * 65536), 9, 300),
    "endless-list-as-status": (STATUS, lambda: endless(b"[", b"[" * 65536), 9, 40),
    "endless-picture": (FILES, lambda: endless(tiny_png(), b"x" * 65536, "image/png"), 9, 40),
    "endless-headers": (STATUS, lambda: Endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 100), 9, 40),
    "endless-header": (STATUS, lambda: Endless(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536), 9, 40),
    "endless-status-line": (STATUS, lambda: Endless(b"HTTP/1.1 200 ", b"y" * 65536), 9, 40),
    "endless-hints-of-what-is-to-come": (
        STATUS,
        lambda: Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        9,
        40,
    ),
    "error-of-fifty-megabytes": (STATUS, lambda: Reply.json({"error": "x" * 50_000_000}, 400), 2, 60),
    "a-million-pictures": (
        RESULT,
        lambda: Reply.json({"status": "COMPLETED", "output": ["/"] * 1_000_000}),
        9,
        80,
    ),
    "png-of-sixty-thousand-by-sixty-thousand": (
        FILES,
        lambda: Reply(200, [], png(60000, 60000, zeros(1 << 20))),
        9,
        40,
    ),
    "png-with-more-rows-than-it-says": (
        FILES,
        lambda: Reply(200, [], png(768, 768, zeros(200 << 20))),
        0,
        60,
    ),
    "png-within-the-limit": (FILES, lambda: Reply(200, [], png(8000, 5000, zeros(121 << 20))), 0, 200),
    "png-just-beyond-the-limit": (FILES, lambda: Reply(200, [], png(8001, 5000, zeros(121 << 20))), 9, 40),
    "png-with-a-text-bomb": (FILES, lambda: Reply(200, [], text_bomb(b"iTXt", b"parameters")), 0, 60),
    "png-with-a-packed-text-bomb": (FILES, lambda: Reply(200, [], text_bomb(b"zTXt", b"Comment")), 0, 60),
    "png-with-a-colour-profile-bomb": (FILES, lambda: Reply(200, [], text_bomb(b"iCCP", b"x")), 0, 60),
    "jpeg-of-sixty-thousand-by-sixty-thousand": (
        FILES,
        lambda: Reply(
            200,
            [],
            b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65000, 65000, 3) + bytes(9) + b"\xff\xd9",
        ),
        9,
        40,
    ),
    "webp-of-sixteen-million-by-sixteen-million": (
        FILES,
        lambda: Reply(
            200,
            [],
            b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff" * 6,
        ),
        9,
        40,
    ),
}


@pytest.fixture(scope="module")
def usual() -> dict[str, float]:
    """The memory of a usual run, once known."""
    return {}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to ask for the memory")
@pytest.mark.parametrize("name", BOMBS)
def test_bomb(rig: Rig, tmp_path: Path, usual: dict[str, float], name: str) -> None:
    told = tmp_path / "told"
    if not usual:
        code, _, err, usual["MB"] = measured(
            told, "generate", "x", "-o", rig.home / "usual.png", "--timeout", "20"
        )
        assert code == 0, err
    route, lay, code, more = BOMBS[name]
    on(route, lay())(rig)
    rig.remember()
    argv = ("credits",) if route == CREDITS else (*FOX, "--timeout", "4")
    ended, out, err, peak = measured(told, *argv)
    assert ended == code, err
    rig.check_words(Ran(ended, out, err))
    rig.check_home()
    assert (rig.made() == {"fox.png"}) == (code == 0)
    assert peak - usual["MB"] < more, f"{peak:.0f} MB, {usual['MB']:.0f} MB without the bomb"
    print(f"{name}: {peak - usual['MB']:.0f} MB")


# --- slowness: the deadline holds --------------------------------------------------------------------------

SLOW: dict[str, tuple[tuple[str, str], Any, int]] = {
    "slow-headers-of-the-status": (STATUS, Drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000, 0.02), 9),
    "slow-body-of-the-status": (STATUS, Drip(b"HTTP/1.1 200 OK\r\n\r\n{" + b" " * 10_000, 0.02), 9),
    "slow-body-of-the-result": (RESULT, Drip(b"HTTP/1.1 200 OK\r\n\r\n{" + b" " * 10_000, 0.02), 9),
    "slow-picture": (FILES, Drip(b"HTTP/1.1 200 OK\r\n\r\n" + tiny_png(64, 64, padding=9999), 0.02), 9),
    "slow-answer-to-the-submit": (SUBMIT, Drip(b"HTTP/1.1 200 OK\r\n\r\n{" + b" " * 10_000, 0.02), 9),
    "silence-after-the-submit": (SUBMIT, Silence(30), 9),
    "silence-instead-of-a-picture": (FILES, Silence(30), 9),
}


@pytest.mark.parametrize("name", SLOW)
def test_slow(rig: Rig, real_time: None, name: str) -> None:
    route, action, code = SLOW[name]
    on(route, action)(rig)
    # each of these takes minutes to the end, or never comes to one
    ran = rig(*FOX, "--timeout", "2", "--json")
    assert ran.code == code, ran
    assert ran.error["charged"] == ("yes" if route in (FILES, RESULT) else "unknown")
    assert not rig.made()
