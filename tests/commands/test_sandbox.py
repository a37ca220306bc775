"""The practice gateway: over real sockets as ``chroma sandbox`` runs it, and inside the program."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from kit import Programs, Started, eventually, is_whole

SMALL = {"aspect_ratio": "custom", "width": 768, "height": 768}


class Client:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {"x-api-key": "SG_test", "Content-Type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        self.connection.request(method, path, data, named)
        reply = self.connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()

    def submit(self, prompt: str = "a knight", **more: Any) -> dict[str, Any]:
        status, _, data = self.call("POST", "/v2/chroma", {"prompt": prompt, **more})
        assert status == 200, data
        return dict(json.loads(data))

    def result(self, job: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads(self.call("GET", urlsplit(job["response_url"]).path)[2]))

    def credits(self) -> float:
        return float(json.loads(self.call("GET", "/v1/get-user-credits")[2])["credits"])


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Started, str]]:
    """One server for all tests: the process and its address."""
    programs = Programs()
    started = programs.start("sandbox", "--latency", "0", "--rpm", "0", "--credits", "1000", "-v")
    url = eventually(lambda: started.out.endswith("\n") and started.out.strip(), "its address")
    yield started, url
    programs.clear_up()


@pytest.fixture
def url(running: tuple[Started, str]) -> str:
    return running[1]


def raw(url: str, data: bytes) -> bytes:
    """Return what comes back for ``data`` until the server closes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


# --- HTTP ------------------------------------------------------------------------------------------------


def test_a_job_over_one_kept_connection(url) -> None:
    with Client(url) as client:
        job = client.submit(**SMALL)
        assert job["status_url"].startswith(url + "/v2/requests/")
        assert json.loads(client.call("GET", urlsplit(job["status_url"]).path)[2])["status"] == "COMPLETED"
        result = client.result(job)
        path = urlsplit(result["output"]).path
        status, headers, data = client.call("GET", path)
        assert (status, headers["content-type"]) == (200, "image/png")
        assert is_whole(data)
        assert len(data) == result["images"][0]["file_size"]
        assert client.call("HEAD", path)[1]["content-length"] == str(len(data))
        assert client.call("GET", path + "?x=1")[2] == data


def test_v1_bytes_and_json(url) -> None:
    with Client(url) as client:
        body = {"prompt": "a", "seed": 3, **SMALL}
        status, headers, data = client.call("POST", "/v1/chroma", body)
        assert (status, headers["content-type"], headers["x-cost"]) == (200, "image/png", "0.055")
        inline = json.loads(client.call("POST", "/v1/chroma", body | {"base64": True})[2])
        assert base64.b64decode(inline["image"]) == data
        several = json.loads(client.call("POST", "/v1/chroma", body | {"samples": 2})[2])
        first, second = (base64.b64decode(one) for one in several["images"])
        assert is_whole(first)
        assert first != second


def test_v2_base64_is_a_data_uri(url) -> None:
    with Client(url) as client:
        output = client.result(client.submit(base64=True, image_format="jpeg", **SMALL))["output"]
        head, data = output.split(",")
        assert head == "data:image/jpeg;base64"
        assert is_whole(base64.b64decode(data))


def test_broken_once_is_whole_the_second_time(url) -> None:
    with Client(url) as client:
        result = client.result(client.submit("[sandbox:broken-once]", **SMALL))
        first, second = (client.call("GET", urlsplit(result["output"]).path)[2] for _ in range(2))
        assert second.startswith(first)
        assert len(first) < len(second) == result["images"][0]["file_size"]


def test_html_and_json_errors(url) -> None:
    with Client(url) as client:
        before = client.credits()
        status, headers, data = client.call("PUT", "/v2/chroma", b"{}")
        assert (status, headers["content-type"]) == (405, "text/html; charset=utf-8")
        assert b"<html>" in data
        status, headers, data = client.call("GET", "/v2/requests/unknown/status")
        assert (status, headers["content-type"]) == (404, "application/json")
        assert json.loads(data)["error"]
        assert client.call("HEAD", "/v2/chroma")[2] == b""
        assert client.credits() == before


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("box.example:8080", True),
        ("[::1]:99", True),
        ("localhost", True),
        ("evil.example/x", False),
        ('a"b', False),
        ("user@host", False),
        ("", False),
    ],
)
def test_addresses_in_replies_follow_a_sane_host_header(url, host, kept) -> None:
    with Client(url) as client:
        client.connection.putrequest("POST", "/v2/chroma", skip_host=True)
        body = b'{"prompt": "a"}'
        for name, value in {"Host": host, "x-api-key": "k", "Content-Type": "application/json"}.items():
            client.connection.putheader(name, value)
        client.connection.putheader("Content-Length", str(len(body)))
        client.connection.endheaders(body)
        job = json.loads(client.connection.getresponse().read())
        assert job["status_url"].startswith(f"http://{host}/v2/" if kept else url + "/v2/")


def test_a_body_that_is_too_large_is_413(url) -> None:
    with Client(url) as client:
        status, _, data = client.call("POST", "/v2/chroma", b" " * 21_000_000)
        assert status == 413
        assert "bytes" in json.loads(data)["error"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v2/chroma HTTP/1.1\r\nContent-Length: x\r\n\r\n", b" 400 "),
        (b"POST /v2/chroma HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b" 400 "),
        (b"POST /v2/chroma HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 411 "),
        (b"nonsense\r\n\r\n", b"400"),
        (b"BREW /v2/chroma HTTP/1.1\r\n\r\n", b" 501 "),
        (b"POST /v2/chroma HTTP/1.1\r\nContent-Length: 50\r\n\r\nshort", b""),
        (b"", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", b""),
    ],
)
def test_what_is_no_proper_call(running, url, head, status) -> None:
    with Client(url) as client:
        before = client.credits()
        assert status in raw(url, head).split(b"\r\n")[0]
        assert client.credits() == before
    assert "Traceback" not in running[0].err


def test_a_client_that_leaves_makes_no_noise(running, url) -> None:
    with Client(url) as client:
        job = client.submit(**SMALL)
    address = urlsplit(url)
    for _ in range(5):
        connection = socket.create_connection((address.hostname, address.port or 0))
        # Linger 0: the connection is reset while the picture is on its way.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.sendall(f"GET /files/{job['request_id']}/1.png HTTP/1.1\r\n\r\n".encode())
        connection.close()
    with Client(url) as client:
        assert client.credits() > 0
    assert "Traceback" not in running[0].err


def test_a_dropped_answer_leaves_a_job(running, url) -> None:
    with Client(url) as client:
        before = client.credits()
        with pytest.raises(http.client.RemoteDisconnected):
            client.submit("[sandbox:lost]")
        assert client.credits() == pytest.approx(before - 0.055)
        client.call("GET", "/v2/chroma?secret=1")
    # each call is told, without what stands behind a question mark
    running[0].wait_for(r"GET /v2/chroma\b.*405")
    assert "secret" not in running[0].err


def test_the_port_is_chosen_and_a_taken_one_is_told(url, process) -> None:
    ended = process("sandbox", "--port", str(urlsplit(url).port))
    assert ended.code != 0
    assert "Address already in use" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_does_not_wait_for_blocked_calls(process, number) -> None:
    started = process.start("sandbox", "--latency", "3600")
    url = eventually(lambda: started.out.endswith("\n") and started.out.strip(), "its address")
    problems: list[BaseException] = []

    def blocked() -> None:
        with Client(url) as client:
            try:
                client.call("POST", "/v1/chroma", {"prompt": "a"})
            except OSError as problem:
                problems.append(problem)

    thread = threading.Thread(target=blocked)
    thread.start()
    with Client(url) as client:  # the call is there once its cost is reserved
        eventually(lambda: client.credits() < 25 or client.call("GET", "/v1/get-user-credits"), "the call")
        started.signal(number)
    assert started.end().code in (0, 128 + number)
    thread.join(60)
    assert not thread.is_alive()
    assert len(problems) == 1


# --- the world inside the program, between commands ------------------------------------------------------


@pytest.fixture
def boxed(chroma, gateway, clock):
    """Run with ``--sandbox``; the gateway of the environment must not hear of it."""
    yield lambda *argv: chroma(*argv, "--sandbox")
    assert gateway.requests() == []


def test_the_world_outlives_a_command(boxed, clock, work, state) -> None:
    ident = boxed("submit", "a knight", "-o", "knight.png", "--size", "768x768").out.strip()
    assert boxed("status", ident).code == 7
    clock.skip(4)
    assert boxed("fetch", "--pending").paths == [work / "knight.png"]
    assert is_whole(work / "knight.png")
    assert boxed("credits", "--json").one["credits"] == pytest.approx(24.945)
    # the second submit of this prompt is the one that is taken
    # the first two submits of this prompt are refused, by whichever command
    assert [boxed("submit", "[sandbox:rate-limit] a fox").code for _ in range(2)] == [0, 0]
    folder = state / "sandbox"
    assert (folder / "jobs.sqlite3").is_file()
    assert not list(folder.rglob("*.tmp"))
    if sys.platform != "win32":
        modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
        assert modes == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_programs_at_the_same_time_share_one_world(process, chroma, gateway) -> None:
    started = [process.start("submit", f"fox {n}", "--sandbox") for n in range(4)]
    ids = {one.end().out.strip() for one in started}
    assert len(ids) == 4
    assert all(ids)
    assert chroma("status", *ids, "--sandbox").code in (0, 7)
    assert {row["status"] for row in chroma("jobs", "--sandbox", "--json").json} <= {
        "QUEUED",
        "PROCESSING",
        "COMPLETED",
    }


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b'{"version": 99}', b"[" * 9000])
def test_a_damaged_world_is_begun_anew_and_nothing_is_lost(boxed, state, content) -> None:
    boxed("submit", "a fox")
    [*spoiled] = [
        path for path in (state / "sandbox").glob("*") if path.is_file() and "jobs.sqlite3" not in path.name
    ]
    for path in spoiled:
        path.write_bytes(content)
    assert boxed("submit", "a boat").code == 0
    assert boxed("credits", "--json").code == 0
    kept = [path.read_bytes() for path in (state / "sandbox").rglob("*") if path.is_file()]
    assert content in kept


def test_a_place_that_cannot_be_a_folder_means_memory_and_a_warning(boxed, state, work) -> None:
    state.write_bytes(b"in the way")
    ended = boxed("generate", "a fox", "-o", "fox.png", "--size", "768x768")
    assert (ended.code, is_whole(work / "fox.png")) == (0, True)
    assert any("until this program ends" in words for words in ended.warnings)


def test_the_server_loads_neither_pillow_nor_requests(process) -> None:
    code = (
        "import sys; from chroma_cli.cli.main import main; code = main(['sandbox']);"
        "print(*{'PIL', 'requests'} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    started = process.start(command=[sys.executable, "-c", code])
    eventually(lambda: started.out.endswith("\n"), "its address")
    started.interrupt()
    ended = started.end()
    assert (ended.code, ended.err.splitlines()[-1:]) == (0, [""]), ended.said
