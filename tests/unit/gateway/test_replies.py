"""Garbage in place of replies, texts, ids, addresses and waits: rules that hold for anything at all.

The shapes that an answer may have are tried through the program, in test_answer_shapes.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import KEY, png

from chroma_cli.errors import BadReply, BrokenImage, Charged, ChromaError
from chroma_cli.gateway.addresses import check_download, looks_like_address
from chroma_cli.gateway.body import Body
from chroma_cli.gateway.documents import Document, is_gateway_error, read_document, server_words
from chroma_cli.gateway.pictures import Inline, find_pictures, looks_inline
from chroma_cli.gateway.redact import Redactor, clean
from chroma_cli.gateway.refusals import refusal
from chroma_cli.gateway.replies import (
    read_credits,
    read_result,
    read_status,
    read_submitted,
    terminal_state,
)
from chroma_cli.gateway.retry import Backoff, wait_asked
from chroma_cli.gateway.values import usable_id, whole

REDACTOR = Redactor(KEY)
PNG = png(7, 4, 4)
B64 = base64.b64encode(PNG).decode()
A, B, C = (f"https://images.test/{name}.png" for name in "abc")


class MemorySink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def reset(self) -> None:
        self.data = b""


def document(value: Any) -> Document:
    return read_document(Body(data=bytearray(json.dumps(value).encode())))


def raw(data: bytes) -> Document:
    return read_document(Body(data=bytearray(data)))


# --- finding pictures ------------------------------------------------------------------------------------


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


@settings(max_examples=100)
@given(values, headers, st.none() | st.integers(1, 5))
def test_any_json_is_survived(value: Any, head: dict[str, str], samples: int | None) -> None:
    check_survival(Document(True, value, ""), head, samples)


@settings(max_examples=60)
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


def test_addresses_of_a_submit_are_only_shown_when_they_are_some() -> None:
    job = read_submitted(
        document({"request_id": "j", "status_url": "file:///x", "response_url": f"https://x.test/{KEY}"}),
        {},
        REDACTOR,
    )
    assert job is not None
    assert (job.status, job.status_url, job.response_url) == ("QUEUED", None, None)


# --- values ----------------------------------------------------------------------------------------------


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


# --- waits and refusals ----------------------------------------------------------------------------------


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
