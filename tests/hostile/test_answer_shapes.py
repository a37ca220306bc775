"""Every shape in which an answer may come: where its pictures are, what it costs, what it says."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from kit import Changed, Drip, Ended, Gateway, Reply, Request, SkippingClock, number_of, picture, png

Chroma = Callable[..., Ended]
PICTURES = [png(number) for number in range(4)]
CODED = [base64.b64encode(data).decode() for data in PICTURES]
#: In the tables these stand for addresses of picture 1, 2 and 3, and for picture 0 in base64.
A, B, C, CODE = "<A>", "<B>", "<C>", "<CODE>"


def filled(value: Any, gateway: Gateway) -> Any:
    """The value with the true addresses and pictures."""
    text = json.dumps(value)
    for number, name in ((1, A), (2, B), (3, C)):
        text = text.replace(name, f"{gateway.base_url}/files/{number}.png")
    return json.loads(text.replace(CODE, CODED[0]))


@pytest.fixture
def shelf(gateway: Gateway) -> Gateway:
    """The gateway, with three pictures at fixed addresses."""
    for number in (1, 2, 3):
        gateway.on(f"GET /files/{number}.png", Reply(200, body=PICTURES[number]), always=True)
    return gateway


# --- where the pictures are --------------------------------------------------------------------------------

SHAPES: list[tuple[Any, int, list[int]]] = [
    ({"output": A}, 1, [1]),
    ({"output": [A, B]}, 2, [1, 2]),
    ({"output": {"url": A, "content_type": "image/png"}}, 1, [1]),
    ({"images": [{"url": A, "file_name": "a.png"}, {"url": B}]}, 2, [1, 2]),
    ({"images": [A, A, B]}, 2, [1, 2]),
    ({"output": A, "images": [{"url": A}]}, 1, [1]),
    ({"output": A, "images": [{"url": A}, {"url": B}]}, 2, [1, 2]),
    ({"output": [A, B, C], "images": [{"url": A}]}, 3, [1, 2, 3]),
    ({"output": A, "image": B}, 2, [1, 2]),
    ({"output": A, "image": CODE}, 1, [1]),
    ({"image": CODE}, 1, [0]),
    ({"image": CODE, "images": [CODE]}, 1, [0]),
    ({"images": ["data:image/png;base64," + CODE]}, 1, [0]),
    ({"output": {"images": [{"url": A}, {"url": B}]}}, 2, [1, 2]),
    ({"output": [[A], [{"image": {"url": B}}]]}, 2, [1, 2]),
    ({"data": [{"b64_json": CODE}]}, 1, [0]),
    ({"url": A}, 1, [1]),
]


@pytest.mark.parametrize(("value", "samples", "numbers"), SHAPES)
def test_pictures_in_every_shape(
    shelf: Gateway, clock: SkippingClock, chroma: Chroma, value: Any, samples: int, numbers: list[int]
) -> None:
    shelf.on("result", Reply.json({"status": "COMPLETED", **filled(value, shelf)}), always=True)
    ended = chroma("generate", "a fox", "--samples", str(samples))
    assert ended.code == 0, ended.said
    assert [number_of(path) for path in ended.paths] == numbers


SPELT: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in lines": lambda text: "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n",
    "url-safe": lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
    "a data address": lambda text: "DATA:application/octet-stream;charset=x;base64," + text,
    "a quoted data address": lambda text: "data:image/png;base64," + text.replace("=", "%3D"),
}


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize("spelt", SPELT.values(), ids=SPELT.keys())
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_base64_in_every_spelling(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, how: tuple[str, ...], spelt: Any, kind: str
) -> None:
    text = spelt(base64.b64encode(picture(5, kind)).decode())
    field = "image" if how else "output"
    answer = Reply.json({"status": "COMPLETED", "prompt": "Ritter, 騎士, 🏰", field: text})
    gateway.on("sync" if how else "result", answer)
    ended = chroma("generate", "a fox", "--format", kind, *how)
    assert ended.code == 0, ended.said
    assert [number_of(path) for path in ended.paths] == [5]


@pytest.mark.parametrize("how", [(), ("--sync",)])
@pytest.mark.parametrize(
    "answer",
    [
        Reply.text(PICTURES[1], kind="application/json"),
        Reply.text(base64.encodebytes(PICTURES[1]), kind="image/png"),
        Reply.json(CODED[1]),
        Drip(0.0, 1, Reply.text(PICTURES[1])),
        Reply(200, [("Content-Encoding", "gzip")], gzip.compress(PICTURES[1])),
    ],
    ids=["bytes said to be JSON", "base64 said to be a picture", "JSON text", "byte by byte", "zipped"],
)
def test_a_picture_in_place_of_the_answer(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, how: tuple[str, ...], answer: Any
) -> None:
    gateway.on("sync" if how else "result", answer, always=True)
    ended = chroma("generate", "a fox", *how)
    assert ended.code == 0, ended.said
    assert [number_of(path) for path in ended.paths] == [1]


@pytest.mark.parametrize(
    "text", ["A" * 99 + "*", "A" * 65, "data:image/png;base64,%%%", "data:image/png", "AA==AA", "é" * 70]
)
def test_text_that_is_no_picture(gateway: Gateway, clock: SkippingClock, chroma: Chroma, text: str) -> None:
    gateway.on("sync", Reply.json({"image": text}))
    ended = chroma("generate", "a fox", "--sync", "-o", "fox.png", "--json")
    assert ended.code == 9, ended.said
    assert ended.error["charged"] in ("yes", "unknown")
    assert gateway.posts() == 1


# --- what else it says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]) + b"junk"),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data)[2:-4]),
        ("identity", bytes),
    ],
)
def test_compression_that_was_not_asked_for(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, encoding: str, pack: Any
) -> None:
    def packed(request: Request) -> Reply:
        reply = request.normal()
        return Reply(200, [*reply.headers, ("Content-Encoding", encoding)], pack(reply.body))

    for route in ("submit", "status", "result"):
        gateway.on(route, packed, always=True)
    assert chroma("generate", "a fox").code == 0
    assert len(gateway.requests("status")) == 1


def test_an_id_in_an_answer_whose_length_lies(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    """The connection ends early; what came is all there was."""

    def lying(request: Request) -> Reply:
        body = request.normal().body
        return Reply(200, [], body, length=len(body) + 50, close=True)

    gateway.on("submit", lying)
    assert chroma("generate", "a fox").code == 0
    assert gateway.posts() == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "FAILED", "status": "QUEUED"}',
        b'{"status": "QUEUED", "metrics": {"cost": NaN, "n": ' + b"9" * 5000 + b"}}",
        b'{"status": "QUEUED", "x": "\\ud800"}',
        b'{"status": "QUEUED", "x": "\xff\xfe"}',
        b'{"status": "WARM\\u001b[2JING"}',
    ],
)
def test_odd_json_that_still_says_something(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, body: bytes
) -> None:
    gateway.on("status", Reply(200, body=body))
    assert chroma("generate", "a fox").code == 0
    assert len(gateway.requests("status")) == 2


@pytest.mark.parametrize("word", ["success", 200])
def test_an_unknown_word_with_a_picture_is_completed(
    shelf: Gateway, clock: SkippingClock, chroma: Chroma, word: object
) -> None:
    shelf.on("result", Reply.json(filled({"status": word, "output": A}, shelf)), always=True)
    assert [number_of(path) for path in chroma("generate", "a fox").paths] == [1]


def test_metrics_from_every_place(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    more = {"metrics": {"cost": "0.25"}, "timings": {"inference": 53}}

    def result(request: Request) -> Reply:
        told = {**json.loads(request.normal().body), **more}
        told.pop("seed")
        return Reply.json(told, x_cost="1", x_remaining_credits="9.5", x_seed_value="8")

    gateway.on("result", result)
    job = chroma("generate", "a fox", "--json").one
    assert (job["cost"], job["remaining_credits"], job["seed"]) == (0.25, 9.5, 8)
    assert job["timings"]["inference"] == 53.0


@pytest.mark.parametrize(
    ("told", "cost"),
    [(0, 0.0), (1.5, 1.5), ("0.055", 0.055), (" 7 ", 7.0), ("1e-3", 0.001), (-1, None), (True, None)]
    + [(None, None), ("nan", None), ("1_0", None), ("٣", None), ([], None)],
)
def test_costs(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, told: object, cost: float | None
) -> None:
    gateway.on("result", Changed(lambda result: {**result, "metrics": {"cost": told}}))
    assert chroma("generate", "a fox", "--json").one["cost"] == cost


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
def test_balances(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, value: object, expected: tuple[float | None, ...]
) -> None:
    gateway.on("credits", Reply.json(value))
    told = chroma("credits", "--json").one
    assert (told["credits"], told["free_credits"], told["total"]) == expected


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Reply.json({"error": "no"}, 400), "no"),
        (Reply.json({"detail": "no"}, 400), "no"),
        (Reply.json({"message": "no", "error": True}, 400), "no"),
        (Reply.json({"error": {"code": 7, "message": "no"}}, 400), "no"),
        (Reply.json({"detail": [{"msg": "no"}]}, 400), '[{"msg": "no"}]'),
        (Reply.json("no", 400), "no"),
        (Reply.text("plain words", 400), "plain words"),
        (Reply.text("<html><title>Bad\nGateway</title>", 400), "an HTML page (Bad Gateway)"),
        (Reply.text("<!DOCTYPE html><p>", 400), "an HTML page"),
        (Reply.text(b"\xff\xfe\xfa", 400), "unreadable bytes"),
        (Reply.json({"error": "a\tb\0\x1b[1mc\x1b]0;title\x07d\u202ee\nf\ud800"}, 400), "a bcde\nf\ufffd"),
    ],
)
def test_words_of_errors(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, answer: Reply, words: str
) -> None:
    gateway.on("submit", answer)
    ended = chroma("generate", "a fox", "--json")
    assert ended.code == 2
    assert ended.error["message"].partition(": ")[2] == words


def test_words_without_end_are_cut(gateway: Gateway, clock: SkippingClock, chroma: Chroma) -> None:
    gateway.on("submit", Reply.json({"error": "x" * 10_000}, 400))
    assert len(chroma("generate", "a fox", "--json").error["message"]) < 2100
