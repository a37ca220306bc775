"""The kit itself: what the other tests rely on."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from kit import (
    BROKEN,
    CLOSE,
    KEY,
    PASS,
    RESET,
    Changed,
    Cut,
    Drip,
    Garbage,
    Informed,
    Lost,
    Plan,
    Reply,
    Silence,
    action,
    apart,
    infotext,
    is_whole,
    noise,
    number_of,
    picture,
    pixels,
    properties,
    with_recipe,
)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_tells_its_number_and_whether_it_is_whole(kind: str) -> None:
    for number in (0, 7, 0x9A5, 0xFFF):
        data = picture(number, kind, 64, 48)
        assert number_of(data) == number
        assert is_whole(data)
    for name, broken in BROKEN.items():
        if (kind, name) != ("jpeg", "a bit flipped"):  # a JPEG of one colour still decodes
            assert not is_whole(broken(data)) or kind != "png", name


def test_one_generate_in_this_process(gateway, clock, chroma, work, ledger_rows) -> None:
    gateway.plan(seconds=53, price=0.11)
    ended = chroma("generate", "a fox", "-o", "fox.png")
    assert ended.code == 0, ended.said
    assert ended.paths == [work / "fox.png"]
    assert (gateway.posts(), gateway.bills(), gateway.downloads()) == (1, 1, 1)
    assert gateway.whose(work / "fox.png") is gateway.jobs("a fox")[0]
    [row] = ledger_rows()
    assert (row["status"], row["cost"], row["request_id"]) == ("COMPLETED", 0.11, gateway.jobs()[0].id)
    assert sum(clock.sleeps) >= 40


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("how", [(), ("--base64",), ("--sync",), ("--sync", "--base64")])
def test_every_shape_of_an_answer(gateway, clock, chroma, work, kind, how) -> None:
    ended = chroma("generate", "a fox", "--samples", "2", "--format", kind, *how)
    assert ended.code == 0, ended.said
    assert [gateway.whose(path).prompt for path in ended.paths] == ["a fox"] * 2
    assert len({number_of(path) for path in ended.paths}) == 2


def test_a_process_is_held_killed_and_followed_by_another(gateway, process, work) -> None:
    with gateway.hold("file", "half") as hold:
        started = process.start("generate", "a fox", "-o", "fox.png")
        hold.wait()
        assert started.kill().code == -signal.SIGKILL
    ended = process("fetch", "--pending", "--wait")
    assert ended.paths == [work / "fox.png"], ended.said
    assert is_whole(work / "fox.png")
    assert gateway.posts() == 1


def test_a_process_is_stopped_and_goes_on(gateway, process) -> None:
    with gateway.hold("status") as hold:
        started = process.start("generate", "a fox")
        hold.wait()
        started.stop()
    started.go_on()
    assert started.end().code == 0


def test_a_terminal(gateway, process) -> None:
    with gateway.hold("submit"), process.terminal("generate", "a fox", stdout=False) as terminal:
        terminal.wait_for(r".")
        terminal.say("\x03\x03")
        ended = terminal.end()
    assert (ended.code, ended.out) == (130, "")


def talk(url: str, path: str, body: object = None, key: str | None = KEY) -> tuple[int, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"x-api-key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_history_of_the_account(gateway, clock) -> None:
    for prompt in ("one", "two"):
        gateway.plan(seen=prompt == "two", prompt=prompt)
        talk(gateway.base_url, "/v2/chroma", {"prompt": prompt, "samples": 2})
    gateway.world.bodies = "python"
    history = "/inference-request/request-history"
    _, told = talk(gateway.account_url, f"{history}?per_page=1&page=2&model_name=chr&status=PENDING")
    assert told == {"data": []}
    gateway.finish()
    status, told = talk(gateway.account_url, f"{history}?per_page=20&status=COMPLETED")
    assert status == 200
    assert [row["request_body"] for row in told["data"]] == ["{'prompt': 'two', 'samples': 2}"] * 2
    assert len({row["generation_url"] for row in told["data"]}) == 2
    job = gateway.jobs("two")[0]
    assert told["data"][0]["request_id"] == job.id.replace("-", "")
    assert talk(gateway.account_url, f"{history}/{job.id}")[1]["model_status"] == "COMPLETED"
    assert talk(gateway.account_url, f"{history}/{gateway.jobs('one')[0].id}")[0] == 404
    assert talk(gateway.account_url, history, key=None)[0] == 401
    assert talk(gateway.base_url, history)[0] == 404, "another host"
    assert {one.host for one in gateway.requests("history")} == {"account"}


def test_scripts_are_used_up_and_later_ones_go_first(gateway) -> None:
    gateway.on("credits", Reply.error(500), always=True)
    gateway.on("credits", PASS, Reply.error(503, "busy"), nth=2)
    told = [talk(gateway.base_url, "/v1/get-user-credits")[0] for _ in range(5)]
    assert told == [200, 200, 503, 500, 500]
    gateway.behave()
    assert talk(gateway.base_url, "/v1/get-user-credits")[0] == 200


def test_the_life_of_a_job(gateway, clock) -> None:
    gateway.plan(Plan(seconds=10), Plan(error="blocked"), prompt="fox")
    ids = [talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"})[1]["request_id"] for _ in range(2)]

    def status(ident: str) -> tuple[int, str]:
        code, told = talk(gateway.base_url, f"/v2/requests/{ident}/status")
        return code, told.get("status") or told["error"]

    assert [status(ident) for ident in ids] == [(200, "QUEUED"), (422, "FAILED")]
    clock.skip(5)
    assert status(ids[0]) == (200, "PROCESSING")
    assert (gateway.bills(), gateway.world.most_in_flight) == (0, 1)
    clock.skip(5)
    assert (status(ids[0]), gateway.bills()) == ((200, "COMPLETED"), 1)
    clock.skip(3600)
    assert status(ids[0]) == (404, f"Request {ids[0]} not found")


def raw(gateway, path: str = "/v1/get-user-credits") -> bytes:
    """All that comes in answer to one request; what came before a reset."""
    got = b""
    host, _, port = gateway.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: k\r\nConnection: close\r\n\r\n".encode())
        try:
            while piece := sock.recv(65536):
                got += piece
        except ConnectionResetError:
            got += b"<reset>"
    return undated(got)


def undated(said: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*\r\n", b"", said)


def test_what_can_go_wrong_on_the_wire(gateway) -> None:
    whole = raw(gateway)
    body = b'{"credits": 1000.0, "free-credits": 0.018}'
    assert whole.endswith(body)
    for step, wanted in [
        (RESET, b"<reset>"),
        (CLOSE, b""),
        (Silence(0.01), b""),
        (Cut(10), whole[: -len(body)] + body[:10] + b"<reset>"),
        (Cut(10, end="close"), whole[: -len(body)] + body[:10]),
        (Drip(0, 7), whole),
        (Garbage(b"hello"), b"hello"),
        (Informed(2), b"HTTP/1.1 102 Wait\r\n\r\n" * 2 + whole),
        (Changed(lambda told: {"credits": told["credits"] + 1}), None),
        (
            lambda request: Reply(204, close=True, length=None),
            b"HTTP/1.1 204 Said So\r\nConnection: close\r\n\r\n",
        ),
        (Reply(200, body=b"abc", length=9), b"HTTP/1.1 200 Said So\r\nContent-Length: 9\r\n\r\nabc"),
        (action("page 502"), undated(Reply.page(502).head()) + Reply.page(502).body),
    ]:
        gateway.on("credits", step)
        got = raw(gateway)
        assert got == wanted if wanted is not None else got.endswith(b'{"credits": 1001.0}'), (step, got)
    assert raw(gateway) == whole


def test_a_lost_answer_takes_the_job_and_a_reset_does_not(gateway) -> None:
    gateway.on("submit", RESET, Lost(RESET), Cut(5), action("lost 502"))
    for _ in range(2):
        with pytest.raises(OSError, match="reset"):
            talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"})
    with pytest.raises((OSError, ValueError)):
        talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"})
    assert talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"})[0] == 502
    assert (gateway.posts("fox"), len(gateway.jobs("fox"))) == (4, 3)


@pytest.mark.parametrize("place", ["before", "answer", "half", "after"])
def test_a_hold_stops_at_its_place(gateway, place) -> None:
    told = []
    hold = gateway.hold("submit", place, nth=1)
    ask = threading.Thread(
        target=lambda: told.append(talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"}))
    )
    ask.start()
    hold.wait()
    assert len(gateway.jobs()) == (place != "before")
    hold.release()
    ask.join(20)
    assert told[0][0] == 200


def test_a_gateway_in_a_process_of_its_own(work: Path) -> None:
    script = {"route": "submit", "steps": ["lost 504"], "nth": 2}
    with apart(script, price=0.5) as gateway:
        told = [talk(gateway.base_url, "/v2/chroma", {"prompt": "fox"})[0] for _ in range(3)]
        record = gateway.record()
    assert told == [200, 504, 200]
    assert [one["route"] for one in record["requests"]] == ["submit"] * 3
    assert [job["prompt"] for job in record["jobs"]] == ["fox"] * 3


def test_what_pictures_can_hold(gateway, chroma, made, recipe_of, dry, process) -> None:
    came = noise("webp")
    gateway.serve(came)
    path = made("a fox", "--format", "webp", "-o", "fox.webp")
    assert pixels(path) == pixels(came)
    assert properties(path)["Iptc4xmpExt:DigitalSourceType"].endswith("trainedAlgorithmicMedia")
    assert str(infotext(path)).startswith("a fox\n")
    assert recipe_of(path)["request"] == gateway.bodies[0] == dry("--from", path)
    path.write_bytes(with_recipe({"request": {"prompt": "<&>"}}))
    assert recipe_of(path)["request"] == {"prompt": "<&>"}
    ended, peak = process.peak("inspect", path)
    assert (ended.code, 10 < peak < 200) == (0, True)
    assert process.shell("$CHROMA --version | wc -l").out.strip() == "1"
