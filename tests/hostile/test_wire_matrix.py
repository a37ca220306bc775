"""What becomes of a picture when the wire does what it should not: every trick on every route.

Each cell is one ``generate`` before a trick that stays, and then, before a gateway that behaves again, what
``fetch --pending --wait`` makes of it. What may pass by itself is also done once. The JSON files in ``wire``
hold exit codes, POSTs, ``charged``, the ledger and the files.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kit import BROKEN, Changed, Cut, Drip, Endless, Informed, Lost, Reply, Request, action
from kit.matrix import Matrix
from kit.wire import Action, Step

HERE = Path(__file__).parent / "wire"
OPTIONS = ("--size", "768x768", "--timeout", "90")

STATUSES = "400 401 402 403 404 405 406 408 410 418 422 425 429 500 501 502 503 504 520 599".split()
#: These may pass by themselves, so they are also done once.
PASSING = "429 500 502 503 504 404 page reset close garbage cut closed lost no JSON".split()
#: On every route; none of them is an answer that the route may give.
ANYWHERE: dict[str, Step] = {
    **{status: action(status) for status in STATUSES},
    **{f"page {status}": action(f"page {status}") for status in ("200", "405", "500", "502", "503", "504")},
    **{
        f"redirect {status}": Reply.redirect("http://127.0.0.1:9/", status) for status in (301, 302, 307, 308)
    },
    "429 with a date": Reply.error(429, "slow down", x_rate_limit_reset_at_utc="2001-01-01T00:00:00Z"),
    "429 Retry-After": Reply.error(429, "slow down", Retry_After="2"),
    "406 content type": Reply.error(406, "Invalid content type"),
    "401 header lost": Reply.error(401, "Missing Authorization or x-api-key in header"),
    "error as message": Reply.json({"message": "no"}, 400),
    "error as detail": Reply.json({"detail": [{"msg": "no"}]}, 422),
    "error as text": Reply(500, body=b"out of order"),
    "reset": action("reset"),
    "close": action("close"),
    "close after a while": action("silence 0.05"),
    "garbage": action("garbage"),
    "endless header": Endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65536),
    "endless JSON": Endless(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b'{"a": "' + b"a" * 65536
    ),
    "nothing": Reply(200),
    "204": Reply(204, length=None),
    "JSON null": Reply.json(None),
    "JSON list": Reply.json([]),
    "JSON text": Reply.json("COMPLETED"),
    "JSON that is none": Reply(200, [("Content-Type", "application/json")], b'{"status": '),
    "JSON, deep": Reply(200, [("Content-Type", "application/json")], b"[" * 100_000),
    "not UTF-8": Reply(200, [("Content-Type", "application/json")], b'{"status": "\xff"}'),
    "a length that is too long": Reply(200, body=b"{}", length=100, close=True),
    "two lengths": Reply(200, [("Content-Length", "7")], b"{}"),
    "zipped, and not": Reply(200, [("Content-Encoding", "gzip")], b'{"status": "QUEUED"}'),
}
#: What the gateway says, as it should not be said.
SAID: dict[str, Step] = {
    "cut at once": Cut(0),
    "cut in the middle": Cut(-20),
    "closed in the middle": Cut(-20, end="close"),
    "slowly": Drip(0.001, 64),
    "102 first": Informed(),
    "103 fifty times first": Informed(50, 103),
}


def plus(**more: object) -> Changed:
    """The well-behaved answer with fields put in their place."""
    return Changed(lambda told: {**told, **more})


def without(*names: str) -> Changed:
    return Changed(lambda told: {name: value for name, value in told.items() if name not in names})


SUBMIT: dict[str, Step] = {
    "lost, reset": action("lost reset"),
    "lost, close": action("lost close"),
    **{f"lost, {status}": action(f"lost {status}") for status in ("408", "429", "500", "502", "503", "504")},
    **{
        f"lost, page {status}": action(f"lost page {status}")
        for status in ("200", "500", "502", "503", "504")
    },
    "lost, redirect": Lost(Reply.redirect("/elsewhere")),
    "201": lambda request: _with_status(request, 201),
    "no id": without("request_id"),
    "an empty id": plus(request_id=""),
    "a number as id": plus(request_id=17),
    "an id with a slash": plus(request_id="../../v1/x"),
    "an id of 129 letters": plus(request_id="a" * 129),
    "FAILED at once": plus(status="FAILED", error="blocked"),
    "COMPLETED at once": plus(status="COMPLETED"),
    "addresses elsewhere": plus(status_url="http://127.0.0.1:9/s", response_url="http://127.0.0.1:9/r"),
}
STATUS: dict[str, Step] = {
    "FAILED": Reply.json({"status": "FAILED", "error": "blocked", "metrics": {}}, 422),
    "FAILED as 200": Reply.json({"status": "FAILED", "detail": "blocked"}),
    "FAILED as 500": Reply.json({"status": "FAILED", "message": "blocked"}, 500),
    "COMPLETED as 404": Reply.json({"status": "COMPLETED"}, 404),
    "COMPLETED as 500": Reply.json({"status": "COMPLETED"}, 500),
    "422 without a status": Reply.error(422, "no"),
    "another word": plus(status="THINKING"),
    "a number": plus(status=7),
    "no status": without("status"),
    "small letters": plus(status="completed"),
    "of another job": plus(request_id="somebody-elses"),
    "QUEUED": plus(status="QUEUED"),
}
RESULT: dict[str, Step] = {
    "FAILED": Reply.json({"status": "FAILED", "error": "blocked", "metrics": {}}, 422),
    "PROCESSING": plus(status="PROCESSING", output=None, images=None),
    "no output": without("output", "images"),
    "no images": without("images"),
    "no output but images": without("output"),
    "an empty list": plus(output=[], images=[]),
    "a dict": Changed(lambda told: {**told, "output": {"url": told["output"]}, "images": None}),
    "a word": plus(output="nowhere", images=None),
    "a file address": plus(output="file:///etc/passwd", images=None),
    "ftp": plus(output="ftp://127.0.0.1/x.png", images=None),
    "an address that refuses": plus(output="http://127.0.0.1:9/x.png", images=None),
    "base64 that is none": plus(output="data:image/png;base64,@@@@", images=None),
    "a data address that is cut": plus(output="data:image/png;base64,iVBORw0KGgo=", images=None),
    "twice the same": Changed(lambda told: {**told, "output": [told["output"]] * 2}),
    "one too many": Changed(lambda told: {**told, "output": [told["output"], told["output"] + "?b"]}),
    "no metrics": without("metrics"),
    "a cost as text": Changed(lambda told: {**told, "metrics": {"cost": "0.055"}}),
    "a negative cost": Changed(lambda told: {**told, "metrics": {"cost": -1}}),
    "a cost that is no number": Changed(lambda told: {**told, "metrics": {"cost": "much"}}),
    "another seed": plus(seed=1),
    "no seed": without("seed"),
}


def _with_status(request: Request, status: int) -> Action:
    reply = request.normal()
    return Reply(status, reply.headers, reply.body)


def _broken(name: str) -> Step:
    def spoiled(request: Request) -> Action:
        reply = request.normal()
        return Reply(200, reply.headers, BROKEN[name](reply.body))

    return spoiled


def _as(kind: str, size: tuple[int, int] = (768, 768)) -> Step:
    from kit import number_of, picture

    def other(request: Request) -> Action:
        return Reply(200, [], picture(number_of(request.normal().body), kind, *size))

    return other


FILE: dict[str, Step] = {
    **{name: _broken(name) for name in BROKEN},
    "as JPEG": _as("jpeg"),
    "as WebP": _as("webp"),
    "smaller": _as("png", (64, 64)),
    "JPEG named PNG, cut": Cut(-2, end="close"),
    "endless picture": Endless(
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n", b"x" * 65536
    ),
}
SYNC: dict[str, Step] = {
    **{name: step for name, step in SUBMIT.items() if name.startswith("lost")},
    **{name: _broken(name) for name in BROKEN},
    "as JPEG": _as("jpeg"),
    "JSON with an address": lambda request: _address(request),
}


def _address(request: Request) -> Action:
    request.normal()
    return Reply.json({"image": "http://127.0.0.1:9/x.png"})


def walk(matrix: Matrix, route: str, tricks: dict[str, Step], *argv: str) -> None:
    for name, step in tricks.items():
        for always in (True, False) if name.split(",")[0].split()[0] in PASSING else (True,):
            with matrix.cell(f"{name}, {'always' if always else 'once'}") as cell:
                cell.gateway.on(route, step, always=always, prompt=cell.prompt)
                cell("generate", cell.prompt, "-o", "one.png", *OPTIONS, *argv, note="generate")
                cell.gateway.behave()
                if cell.steps[0]["exit"]:
                    cell("fetch", "--pending", "--wait", note="fetch")
    matrix.compare(HERE / f"{route}.json")


@pytest.mark.parametrize(
    ("route", "tricks"),
    [
        ("submit", {**ANYWHERE, **SAID, **SUBMIT}),
        ("status", {**ANYWHERE, **SAID, **STATUS}),
        ("result", {**ANYWHERE, **SAID, **RESULT}),
        ("file", {**ANYWHERE, **SAID, **FILE}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_trick_of_the_wire(matrix: Matrix, route: str, tricks: dict[str, Step]) -> None:
    walk(matrix, route, tricks)


def test_every_trick_on_a_blocking_call(matrix: Matrix) -> None:
    walk(matrix, "sync", {**ANYWHERE, **SAID, **SYNC}, "--sync")


def test_every_trick_on_the_balance(matrix: Matrix) -> None:
    for name, step in {**ANYWHERE, **SAID}.items():
        with matrix.cell(name) as cell:
            cell.gateway.on("credits", step, always=True)
            if cell("credits").code == 9:
                # which of its tries is told of depends on the waits between them
                cell.steps[-1].pop("error", None)
    matrix.compare(HERE / "credits.json")
