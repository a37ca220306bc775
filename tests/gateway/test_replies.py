"""Every shape of a reply, and garbage: parsing, finding pictures, base64, words, values, waits."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from faultserver import tiny_png
from gateway_bench import KEY, MemorySink
from hypothesis import given, settings
from hypothesis import strategies as st

from chroma_cli.errors import BadReply, BrokenImage, Charged, ChromaError
from chroma_cli.gateway.addresses import check_download, looks_like_address
from chroma_cli.gateway.body import Body
from chroma_cli.gateway.documents import Document, error_words, is_gateway_error, read_document, server_words
from chroma_cli.gateway.pictures import Address, Inline, Source, find_pictures, looks_inline
from chroma_cli.gateway.redact import Redactor, clean
from chroma_cli.gateway.refusals import refusal
from chroma_cli.gateway.replies import (
    Metrics,
    read_credits,
    read_result,
    read_status,
    read_submitted,
    terminal_state,
)
from chroma_cli.gateway.retry import Backoff, reset_in, retry_after, wait_asked
from chroma_cli.gateway.values import amount, balance, usable_id, whole

REDACTOR = Redactor(KEY)
PNG = tiny_png()
B64 = base64.b64encode(PNG).decode()
A, B, C = (f"https://images.test/{name}.png" for name in "abc")


def document(value: Any) -> Document:
    return read_document(Body(data=bytearray(json.dumps(value).encode())))


def raw(data: bytes) -> Document:
    return read_document(Body(data=bytearray(data)))


# --- finding pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "samples", "expected"),
    [
        ({"output": A}, 1, [Address(A)]),
        ({"output": [A, B]}, 2, [Address(A), Address(B)]),
        ({"output": {"url": A, "content_type": "image/png"}}, 1, [Address(A)]),
        ({"images": [{"url": A, "file_name": "a.png"}, {"url": B}]}, 2, [Address(A), Address(B)]),
        ({"images": [A, A, B]}, None, [Address(A), Address(B)]),
        ({"output": A, "images": [{"url": A}]}, 1, [Address(A)]),
        ({"output": A, "images": [{"url": A}, {"url": B}]}, 2, [Address(A), Address(B)]),
        ({"output": [A, B, C], "images": [{"url": A}]}, 3, [Address(A), Address(B), Address(C)]),
        ({"output": A, "image": B}, 2, [Address(A), Address(B)]),
        ({"output": A, "image": B64}, 1, [Address(A)]),
        ({"image": B64}, 1, [Inline(B64)]),
        ({"image": B64, "images": [B64]}, 1, [Inline(B64)]),
        (
            {"images": [B64, "data:image/webp;base64," + B64]},
            2,
            [Inline(B64), Inline("data:image/webp;base64," + B64)],
        ),
        ({"output": {"images": [{"url": A}, {"url": B}]}}, 2, [Address(A), Address(B)]),
        ({"output": [[A], [{"image": {"url": B}}]]}, 2, [Address(A), Address(B)]),
        ({"data": [{"b64_json": B64}]}, 1, [Inline(B64)]),
        ({"url": A}, 1, [Address(A)]),
        ([A, {"url": B}], 2, [Address(A), Address(B)]),
        (A, 1, [Address(A)]),
        (B64, 1, [Inline(B64)]),
        ({"images": [], "output": None, "image": {}}, 1, []),
        (
            {"output": "file:///etc/passwd", "image": "javascript:alert(1)", "images": ["ftp://x.test/a"]},
            1,
            [],
        ),
        ({"output": "https://x.test/a\nb", "image": "https:///nohost"}, 1, []),
        ({"output": "COMPLETED", "image": True, "images": 7}, 1, []),
        ({"output": "/files/a.png"}, 1, []),
        (None, 1, []),
        (7, 1, []),
    ],
)
def test_pictures_in_every_shape(value: Any, samples: int | None, expected: list[Source]) -> None:
    assert list(find_pictures(value, samples)) == expected


def test_never_more_than_a_thousand() -> None:
    many = {"images": [f"https://x.test/{number}" for number in range(3000)]}
    assert len(find_pictures(many, 3000)) == 1000


@pytest.mark.parametrize(
    "text",
    [
        B64,
        base64.encodebytes(PNG).decode(),
        "\n  " + B64,
        base64.urlsafe_b64encode(PNG).decode().rstrip("="),
        "data:image/png;base64," + B64,
        "DATA:application/octet-stream;base64," + B64,
        base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(40)).decode(),
        base64.b64encode(b"RIFF\x10\x00\x00\x00WEBPVP8 ").decode(),
        base64.b64encode(bytes(100)).decode(),
    ],
)
def test_texts_that_are_pictures(text: str) -> None:
    assert looks_inline(text)


@pytest.mark.parametrize(
    "text",
    ["", "COMPLETED", "data:", "data:text/html,<b>", "Service temporarily unavailable, " * 5, "Hello " * 40]
    + ["x" * 63, "*" * 100, "é" * 100],
)
def test_texts_that_are_not(text: str) -> None:
    assert not looks_inline(text)


@given(st.binary(max_size=2000), st.sampled_from(["plain", "urlsafe", "unpadded", "lines", "uri"]))
def test_base64_comes_back(data: bytes, spelling: str) -> None:
    text = base64.b64encode(data).decode()
    if spelling == "urlsafe":
        text = base64.urlsafe_b64encode(data).decode()
    elif spelling == "unpadded":
        text = text.rstrip("=")
    elif spelling == "lines":
        text = "\r\n".join(text[start : start + 7] for start in range(0, len(text), 7)) + "\n"
    elif spelling == "uri":
        text = "data:image/png;charset=x;base64," + text
    sink = MemorySink()
    assert Inline(text).decode_into(sink) == len(data)
    assert sink.data == data


def test_base64_longer_than_a_step() -> None:
    data = bytes(range(256)) * 4000
    sink = MemorySink()
    Inline(base64.encodebytes(data).decode()).decode_into(sink)
    assert sink.data == data


def test_other_data_uris() -> None:
    for text in (
        "data:image/png," + "%89PNG",
        "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode().replace("=", "%3D"),
    ):
        sink = MemorySink()
        Inline(text).decode_into(sink)
        assert sink.data == b"\x89PNG"


@given(st.text(max_size=300))
def test_any_text_decodes_or_is_a_broken_image(text: str) -> None:
    try:
        Inline(text).decode_into(MemorySink())
    except BrokenImage as error:
        assert int(error.exit_code) == 9


# --- garbage ---------------------------------------------------------------------------------------------

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([A, B64, "COMPLETED", "FAILED", "QUEUED", KEY, "\ud800", 10**400, "1e999", "job-1"])
)
names = st.sampled_from(
    ["status", "request_id", "output", "images", "image", "url", "error", "detail", "message", "metrics"]
    + ["cost", "seed", "timings", "credits", "free-credits", "status_url", "data"]
) | st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=20,
)
headers = st.dictionaries(
    st.sampled_from(["x-cost", "x-seed-value", "x-request-id", "x-remaining-credits", "retry-after", "date"])
    | st.just("x-rate-limit-reset-at-utc"),
    st.text(max_size=30) | st.sampled_from(["nan", "1e999", "-1", "9" * 5000, KEY]),
)


@settings(max_examples=300)
@given(values, headers, st.none() | st.integers(1, 5))
def test_any_json_is_survived(value: Any, head: dict[str, str], samples: int | None) -> None:
    check_survival(Document(True, value, ""), head, samples)


@settings(max_examples=200)
@given(
    st.binary(max_size=300) | st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, b"9" * 6000, b"NaN", b"-"])
)
def test_any_bytes_are_survived(data: bytes) -> None:
    check_survival(raw(data), {}, None)


def check_survival(doc: Document, head: dict[str, str], samples: int | None) -> None:
    shown: list[Any] = [server_words(doc, REDACTOR), read_submitted(doc, head, REDACTOR), terminal_state(doc)]
    is_gateway_error(doc)
    for read in (
        lambda: read_status(doc, REDACTOR),
        lambda: read_result(doc, head, REDACTOR, samples),
        lambda: read_credits(doc, REDACTOR),
    ):
        try:
            shown.append(read())
        except BadReply as error:
            shown.append(error.message)
    wait = wait_asked(head, 1_700_000_000.0)
    assert wait is None or (math.isfinite(wait) and wait >= 0)
    for item in shown:
        if getattr(item, "sources", None):
            continue  # addresses stand there as they came
        str(item).encode()  # no lone surrogate
        assert KEY not in str(item)


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"status": "QUEUED"}',
        b'{"status": "FAILED", "status": "QUEUED"}',
        b'{"status": "QUEUED", "metrics": {"cost": NaN, "n": ' + b"9" * 5000 + b"}}",
        b'{"status": "queued"}',
        b'{"status": " QUEUED\\n"}',
        b'{"status": "QUEUED", "x": "\\ud800"}',
        b'{"status": "QUEUED", "x": "\xff\xfe"}',
    ],
)
def test_odd_json_that_still_says_something(data: bytes) -> None:
    status = read_status(raw(data), REDACTOR)
    assert (status.state, status.metrics) == ("QUEUED", Metrics())


def test_an_unknown_state_goes_on() -> None:
    status = read_status(document({"status": "WARM\x1b[2JING"}), REDACTOR)
    assert (status.state, status.raw_state, status.error) == ("PROCESSING", "WARMING", None)


def test_an_unknown_state_with_pictures_is_completed() -> None:
    assert read_result(document({"status": "success", "output": A}), {}, REDACTOR).state == "COMPLETED"
    assert read_result(document({"status": 200, "output": A}), {}, REDACTOR).state == "COMPLETED"
    assert read_result(document({"status": "PROCESSING", "output": A}), {}, REDACTOR).sources == ()


def test_completed_without_a_picture() -> None:
    with pytest.raises(BadReply) as caught:
        read_result(document({"status": "COMPLETED", "images": []}), {}, REDACTOR)
    assert caught.value.charged is Charged.YES


def test_metrics_from_every_place() -> None:
    both = {"status": "COMPLETED", "output": A, "metrics": {"cost": "0.055"}, "timings": {"inference": 53}}
    result = read_result(
        document(both), {"x-cost": "1", "x-remaining-credits": "9.5", "x-seed-value": "8"}, REDACTOR
    )
    assert result.metrics == Metrics(cost=0.055, remaining_credits=9.5, inference_time=53.0)
    assert result.seed == 8


def test_addresses_of_a_submit_are_only_shown_when_they_are_some() -> None:
    job = read_submitted(
        document({"request_id": "j", "status_url": "file:///x", "response_url": f"https://x.test/{KEY}"}),
        {},
        REDACTOR,
    )
    assert job is not None
    assert (job.status, job.status_url, job.response_url) == ("QUEUED", None, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"credits": 0.0, "free-credits": 0.018}, (0.0, 0.018, 0.018)),
        ({"credits": "5"}, (5.0, None, None)),
        ({"credits": "1,234.50", "free-credits": "1 234 567"}, (1234.5, 1234567.0, 1235801.5)),
        ({"credits": "0,055", "free-credits": 1}, (None, 1.0, None)),
        ({"credits": "1,23", "free-credits": 1}, (None, 1.0, None)),
        ({"credits": 0.7, "free-credits": 0.1}, (0.7, 0.1, 0.8)),
        ({"credits": -1, "free_credits": 2}, (-1.0, 2.0, 1.0)),
    ],
)
def test_balances(value: Any, expected: Any) -> None:
    got = read_credits(document(value), REDACTOR)
    assert (got.credits, got.free_credits, got.total) == expected


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("0.055", 0.055),
        (" 7 ", 7.0),
        ("1e-3", 0.001),
        (-1, None),
        (True, None),
        (None, None),
    ]
    + [
        (math.nan, None),
        (math.inf, None),
        ("nan", None),
        ("1_0", None),
        ("٣", None),
        (10**400, None),
        ([], None),
    ],
)
def test_amounts(value: Any, expected: float | None) -> None:
    assert amount(value) == expected
    assert balance(value) == (expected if value != -1 else -1.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), ("7", 7), (0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None), (7.0, None), (True, None)],
)
def test_seeds(value: Any, expected: int | None) -> None:
    assert whole(value) == expected


@given(st.text(max_size=200))
def test_ids(text: str) -> None:
    good = 0 < len(text) <= 128 and all(ch.isascii() and (ch.isalnum() or ch in "_-") for ch in text)
    assert (usable_id(text) is not None) == good


# --- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        ({"message": "no", "error": True}, "no"),
        ({"error": {"code": 7, "message": "no"}}, "no"),
        ({"detail": [{"msg": "no"}]}, '[{"msg": "no"}]'),
        ({"error": {}, "message": ""}, ""),
        ({"x": 1}, ""),
        ("no", "no"),
        ([], ""),
        (None, ""),
        ({"error": "a\tb\x00\x1b[1mc\x1b]0;title\x07d\u202ee\nf\ud800"}, "a bcde\nf\ufffd"),
    ],
)
def test_words_of_errors(value: Any, words: str) -> None:
    assert error_words(value, REDACTOR) == words


def test_words_are_capped() -> None:
    assert len(error_words({"error": "x" * 10_000}, REDACTOR)) == 2000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<html><title>Bad\nGateway</title>", "an HTML page (Bad Gateway)"),
        (b"<!DOCTYPE html><p>", "an HTML page"),
        (b"plain words", "plain words"),
        (b"\xff\xfe\xfa", "unreadable bytes"),
        (b"", ""),
    ],
)
def test_words_of_other_pages(data: bytes, words: str) -> None:
    assert server_words(raw(data), REDACTOR) == words


@given(st.text(max_size=300))
def test_clean_text_has_no_controls(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert not any(ord(ch) < 32 and ch != "\n" or 0x7F <= ord(ch) < 0xA0 for ch in shown)


def test_the_key_is_hidden_in_every_spelling() -> None:
    hide = Redactor('ab+c/d"e').hide
    for form in ('ab+c/d"e', 'AB+C/D"E', "ab%2Bc%2Fd%22e", 'ab+c/d\\"e'):
        assert hide(f"<{form}>") == "<[key]>"
    assert Redactor("ab").hide("abc") == "abc"
    assert Redactor(None).show("x" + "\x00" + "y") == "xy"
    assert hide("http://me:pw@proxy.test/") == "http://proxy.test/"


def test_a_key_on_the_edge_is_not_shown_in_part() -> None:
    for lead in range(1980, 2000):
        assert KEY[:4] not in REDACTOR.show("x" * lead + KEY * 2)


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "from_loopback", "fine"),
    [
        (A, False, True),
        ("HTTPS://X.test/a", False, True),
        ("http://127.0.0.1:8/a", True, True),
        ("http://[::1]/a", True, True),
        ("http://localhost/a", True, True),
        ("http://127.0.0.1/a", False, False),
        ("http://10.0.0.1/a", True, False),
        ("http://127.0.0.1.evil.test/", True, False),
        ("http://localhost\\@evil.test/", True, False),
        ("http://evil.test#@127.0.0.1/", True, False),
        ("https://u@x.test/", False, False),
        ("https://x.test:99999/", False, False),
        (f"https://x.test/{KEY.lower()}", False, False),
        ("https://x.test/SG_%30123456789abcdef", False, False),
        ("ftp://x.test/", True, False),
        ("", True, False),
        ("https://x.test/" + "a" * 9000, False, False),
    ],
)
def test_where_pictures_may_be_fetched(url: str, from_loopback: bool, fine: bool) -> None:
    if fine:
        assert looks_like_address(url)
        check_download(url, from_loopback=from_loopback, redactor=REDACTOR)
    else:
        with pytest.raises(BadReply):
            check_download(url, from_loopback=from_loopback, redactor=REDACTOR)


@given(st.text(max_size=60).map(lambda text: "https://" + text) | st.text(max_size=60))
def test_any_address_is_fine_or_refused(url: str) -> None:
    try:
        check_download(url, from_loopback=True, redactor=REDACTOR)
    except BadReply as error:
        error.message.encode()
    else:
        assert looks_like_address(url)


# --- waits -----------------------------------------------------------------------------------------------

NOW = 1_767_323_045.0  # 2026-01-02T03:04:05Z
SOON = NOW + 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:35Z", 30.0),
        ("2026-01-02T03:04:35", 30.0),
        ("2026-01-02 03:04:35.500 UTC", 30.5),
        ("2026-01-02T05:04:35+02:00", 30.0),
        (format_datetime(datetime.fromtimestamp(SOON, UTC), usegmt=True), 30.0),
        (str(int(SOON)), 30.0),
        (f"{SOON:.3f}", 30.0),
        (str(int(SOON * 1000)), 30.0),
        ("2026-01-02T03:04:00Z", None),
        ("2026-01-02T04:04:06Z", None),
        ("2026-01-02T04:04:05Z", 3600.0),
        ("30", None),
        ("", None),
        ("soon", None),
        ("9" * 400, None),
        ("nan", None),
        ("-5", None),
        ("0000-00-00", None),
        ("99999-01-01", None),
    ],
)
def test_rate_limit_header(text: str, expected: float | None) -> None:
    got = reset_in(text, NOW)
    assert got == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("x", None),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
    ]
    + [("Fri, 02 Jan 2026 03:04:00 GMT", 0.0), ("1e9", None)],
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert retry_after(text, NOW) == expected


def test_which_wait_counts() -> None:
    reset = {"x-rate-limit-reset-at-utc": "2026-01-02T03:04:35Z"}
    assert wait_asked(reset, NOW) == 30.0
    assert wait_asked({**reset, "retry-after": "3"}, NOW) == 3.0
    assert wait_asked({**reset, "retry-after": "x"}, NOW) == 30.0
    # Our clock is two hours off; the server's Date says what it counts from.
    assert wait_asked({**reset, "date": "Fri, 02 Jan 2026 03:04:05 GMT"}, NOW + 7200) == 30.0
    assert wait_asked({**reset, "date": "Fri, 02 Jan 2026 03:04:04 GMT"}, NOW) == 30.0
    assert wait_asked({}, NOW) is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_back_off_stays_in_its_bounds(attempt: int, jitter: float) -> None:
    assert 0 <= Backoff().delay(attempt, lambda: jitter) <= min(8.0, 0.5 * 2 ** min(attempt - 1, 20))


@given(st.integers(300, 999), st.text(max_size=50), st.sampled_from(["job", "request", "account"]))
def test_every_status_is_an_error_with_advice_or_words(status: int, words: str, subject: Any) -> None:
    error = refusal(status, words, subject=subject)
    assert isinstance(error, ChromaError)
    assert int(error.exit_code) in (2, 3, 4, 5, 8, 9)
    assert str(status) in error.message
    assert error.charged is Charged.NO
