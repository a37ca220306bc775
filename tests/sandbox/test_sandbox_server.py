"""The practice gateway over real sockets, and its world between servers and processes."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from chroma_cli.sandbox import server as server_module
from chroma_cli.sandbox.server import SandboxServer
from chroma_cli.sandbox.state import Job
from chroma_cli.sandbox.store import FileStore, Keeper
from chroma_cli.sandbox.studio import Studio
from chroma_cli.sandbox.world import Call, Painting, WorldOptions

FAST = WorldOptions(latency=0.0, rpm=0)
SMALL = {"aspect_ratio": "custom", "width": 768, "height": 768}


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(options=FAST) as made:
        yield made


class Client:
    """One kept connection."""

    def __init__(self, server: SandboxServer) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=20)

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
        body = json.loads(data)
        assert isinstance(body, dict)
        return body

    def credits(self) -> float:
        return float(json.loads(self.call("GET", "/v1/get-user-credits")[2])["credits"])


def raw(server: SandboxServer, data: bytes) -> bytes:
    """What comes back for ``data`` until the server closes."""
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


# --- HTTP --------------------------------------------------------------------------------------------------


def test_a_job_over_one_kept_connection(server: SandboxServer) -> None:
    with Client(server) as client:
        job = client.submit(**SMALL)
        assert job["status_url"].startswith(server.base_url + "/v2/requests/")
        assert json.loads(client.call("GET", urlsplit(job["status_url"]).path)[2])["status"] == "COMPLETED"
        result = json.loads(client.call("GET", urlsplit(job["response_url"]).path)[2])
        path = urlsplit(result["output"]).path
        status, headers, data = client.call("GET", path)
        assert (status, headers["content-type"]) == (200, "image/png")
        assert data.startswith(b"\x89PNG")
        assert len(data) == result["images"][0]["file_size"]
        assert client.call("HEAD", path)[1]["content-length"] == str(len(data))
        assert client.call("GET", path + "?x=1")[2] == data


def test_v1_bytes_and_json(server: SandboxServer) -> None:
    with Client(server) as client:
        body = {"prompt": "a", "seed": 3, **SMALL}
        status, headers, data = client.call("POST", "/v1/chroma", body)
        assert (status, headers["content-type"], headers["x-cost"]) == (200, "image/png", "0.055")
        inline = json.loads(client.call("POST", "/v1/chroma", body | {"base64": True})[2])
        assert base64.b64decode(inline["image"]) == data
        several = json.loads(client.call("POST", "/v1/chroma", body | {"samples": 2})[2])
        first, second = (base64.b64decode(one) for one in several["images"])
        assert first.startswith(b"\x89PNG")
        assert first != second


def test_v2_base64_is_a_data_uri(server: SandboxServer) -> None:
    with Client(server) as client:
        job = client.submit(base64=True, image_format="jpeg", **SMALL)
        output = json.loads(client.call("GET", urlsplit(job["response_url"]).path)[2])["output"]
        head, data = output.split(",")
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(data).startswith(b"\xff\xd8")


def test_broken_once_is_whole_the_second_time(server: SandboxServer) -> None:
    with Client(server) as client:
        job = client.submit("[sandbox:broken-once]", **SMALL)
        result = json.loads(client.call("GET", urlsplit(job["response_url"]).path)[2])
        first, second = (client.call("GET", urlsplit(result["output"]).path)[2] for _ in range(2))
        assert second.startswith(first)
        assert len(first) < len(second) == result["images"][0]["file_size"]


def test_html_and_json_errors(server: SandboxServer) -> None:
    with Client(server) as client:
        status, headers, data = client.call("PUT", "/v2/chroma", b"{}")
        assert (status, headers["content-type"]) == (405, "text/html; charset=utf-8")
        assert b"<html>" in data
        status, headers, data = client.call("GET", "/v2/requests/unknown/status")
        assert (status, headers["content-type"]) == (404, "application/json")
        assert json.loads(data)["error"]
        assert client.call("HEAD", "/v2/chroma")[2] == b""
        assert client.credits() == 25


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
def test_addresses_in_replies_follow_a_sane_host_header(server: SandboxServer, host: str, kept: bool) -> None:
    with Client(server) as client:
        client.connection.putrequest("POST", "/v2/chroma", skip_host=True)
        body = b'{"prompt": "a"}'
        for name, value in {"Host": host, "x-api-key": "k", "Content-Type": "application/json"}.items():
            client.connection.putheader(name, value)
        client.connection.putheader("Content-Length", str(len(body)))
        client.connection.endheaders(body)
        job = json.loads(client.connection.getresponse().read())
        assert job["status_url"].startswith(f"http://{host}/v2/" if kept else server.base_url + "/v2/")


def test_a_body_that_is_too_large_is_413(server: SandboxServer) -> None:
    with Client(server) as client:
        status, headers, data = client.call("POST", "/v2/chroma", b" " * (server_module.BODY_MAX + 1))
        assert status == 413
        assert "bytes" in json.loads(data)["error"]
        assert headers["connection"] == "close"


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
def test_what_is_no_proper_call(
    server: SandboxServer, capfd: pytest.CaptureFixture[str], head: bytes, status: bytes
) -> None:
    answer = raw(server, head)
    assert status in answer.split(b"\r\n")[0]
    with Client(server) as client:
        assert client.credits() == 25
    assert capfd.readouterr() == ("", "")


def test_a_client_that_leaves_makes_no_noise(
    server: SandboxServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with Client(server) as client:
        job = client.submit(**SMALL)
    address = urlsplit(server.base_url)
    for _ in range(5):
        connection = socket.create_connection((address.hostname, address.port or 0))
        # Linger 0: the connection is reset while the picture is on its way.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.sendall(f"GET /files/{job['request_id']}/1.png HTTP/1.1\r\n\r\n".encode())
        connection.close()
    with Client(server) as client:
        assert client.credits() == 24.945
    assert capfd.readouterr() == ("", "")


def test_a_dropped_answer(server: SandboxServer) -> None:
    with Client(server) as client, pytest.raises(http.client.RemoteDisconnected):
        client.submit("[sandbox:lost]")
    with Client(server) as client:
        assert client.credits() == 24.945


def test_a_bug_is_a_500_with_its_name(server: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Studio, painting: Painting) -> bytes:
        raise ZeroDivisionError("paint")

    monkeypatch.setattr(Studio, "bytes_of", broken)
    with Client(server) as client:
        status, _, data = client.call("POST", "/v1/chroma", {"prompt": "a", **SMALL})
    assert status == 500
    assert "ZeroDivisionError" in json.loads(data)["error"]


def test_the_log_is_told_of_each_call() -> None:
    seen: list[tuple[str, str, int]] = []
    with (
        SandboxServer(
            options=FAST, log=lambda method, path, status, _ms: seen.append((method, path, status))
        ) as made,
        Client(made) as client,
    ):
        client.credits()
        client.call("GET", "/v2/chroma?secret=1")
        with pytest.raises(http.client.RemoteDisconnected):
            client.submit("[sandbox:lost]")
    assert seen == [
        ("GET", "/v1/get-user-credits", 200),
        ("GET", "/v2/chroma", 405),
        ("POST", "/v2/chroma", 0),
    ]


# --- starting and stopping ---------------------------------------------------------------------------------


def test_stop_does_not_wait_for_blocked_calls() -> None:
    server = SandboxServer(options=WorldOptions(latency=3600)).start()
    problems: list[BaseException] = []

    def blocked() -> None:
        with Client(server) as client:
            try:
                client.call("POST", "/v1/chroma", {"prompt": "a"})
            except OSError as problem:
                problems.append(problem)

    thread = threading.Thread(target=blocked)
    thread.start()
    with Client(server) as client:
        while client.call("GET", "/v1/get-user-credits")[0] != 200 or not _has_job(server):
            time.sleep(0.01)
        server.stop()
        server.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert len(problems) == 1


def _has_job(server: SandboxServer) -> bool:
    return server._keeper.run(0.0, lambda world: bool(world.account.counter))


def test_stop_before_start_and_a_taken_port() -> None:
    first = SandboxServer()
    port = urlsplit(first.base_url).port or 0
    with pytest.raises(OSError):
        SandboxServer(port=port)
    first.stop()


def test_serve_forever_ends_with_stop() -> None:
    server = SandboxServer(options=FAST)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with Client(server) as client:
        assert client.credits() == 25
    server.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_ipv6_address() -> None:
    try:
        server = SandboxServer(host="::1", options=FAST)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, Client(server) as client:
        assert server.base_url.startswith("http://[::1]:")
        assert client.credits() == 25


def test_neither_import_nor_polling_loads_pillow() -> None:
    code = (
        "import sys; from chroma_cli.sandbox.server import SandboxServer;"
        "s = SandboxServer().start(); s.stop(); sys.exit('PIL' in sys.modules or 'requests' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the world between servers -----------------------------------------------------------------------------


def test_the_world_outlives_its_server(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "sandbox"
    with SandboxServer(folder, FAST) as server, Client(server) as client:
        assert server.warning is None
        job = client.submit(**SMALL)
        path = urlsplit(json.loads(client.call("GET", urlsplit(job["response_url"]).path)[2])["output"]).path
        picture = client.call("GET", path)[2]
        assert client.call("POST", "/v2/chroma", {"prompt": "[sandbox:hiccup]"})[0] == 503
    with SandboxServer(folder, FAST) as server, Client(server) as client:
        assert client.credits() == 24.945
        assert client.call("GET", path)[2] == picture
        assert client.call("POST", "/v2/chroma", {"prompt": "[sandbox:hiccup]"})[0] == 200
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {"world.json", "world.lock"}
    assert not [file for file in files if file.suffix == ".tmp"]
    if sys.platform != "win32":
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_servers_at_the_same_time_share_one_world(tmp_path: Path) -> None:
    servers = [SandboxServer(tmp_path, FAST).start() for _ in range(4)]
    ids: list[str] = []

    def submit_some(server: SandboxServer) -> None:
        with Client(server) as client:
            ids.extend(client.submit()["request_id"] for _ in range(15))

    threads = [threading.Thread(target=submit_some, args=(server,)) for server in servers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 120
    with Client(servers[0]) as client:
        assert client.credits() == pytest.approx(25 - 120 * 0.055)
        assert {client.call("GET", f"/v2/requests/{one}/status")[0] for one in ids} == {200}
    for server in servers:
        server.stop()


PROCESS = """
import sys
from pathlib import Path
from chroma_cli.sandbox.store import Keeper
from chroma_cli.sandbox.world import Call, WorldOptions
keeper = Keeper(Path(sys.argv[1]), WorldOptions(latency=0, rpm=0))
headers = {"x-api-key": "k", "content-type": "application/json"}
call = Call("POST", "/v2/chroma", headers, b'{"prompt": "a"}')
for _ in range(25):
    assert keeper.run(1000.0, lambda world: world.answer(call, 1000.0)).status == 200
assert keeper.warning is None
"""


def test_processes_at_the_same_time_share_one_world(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    balance = Keeper(tmp_path, FAST).run(1001.0, lambda world: world.answer(CREDITS, 1001.0).body["credits"])
    assert balance == pytest.approx(25 - 100 * 0.055)
    assert len(list((tmp_path / "world-jobs").glob("*.json"))) == 100


CREDITS = Call("GET", "/v1/get-user-credits", {"x-api-key": "k"})
SUBMIT = Call(
    "POST", "/v2/chroma", {"x-api-key": "k", "content-type": "application/json"}, b'{"prompt": "a"}'
)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\x00", b'{"version": 99}', b'{"version": 1}', b"[" * 9000]
)
def test_a_damaged_world_is_set_aside(tmp_path: Path, content: bytes) -> None:
    for number in (1, 2):
        (tmp_path / "world.json").write_bytes(content)
        keeper = Keeper(tmp_path, FAST)
        assert keeper.warning is None
        assert keeper.run(1.0, lambda world: world.answer(CREDITS, 1.0)).body["credits"] == 25
        assert (tmp_path / f"world.damaged-{number}.json").read_bytes() == content


def test_a_folder_in_place_of_the_world(tmp_path: Path) -> None:
    (tmp_path / "world.json").mkdir()
    keeper = Keeper(tmp_path, FAST)
    assert keeper.warning is None
    assert (tmp_path / "world.damaged-1.json").is_dir()


def test_a_damaged_job_is_unknown_and_set_aside(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, FAST)
    request_id = keeper.run(1.0, lambda world: world.answer(SUBMIT, 1.0)).body["request_id"]
    (tmp_path / "world-jobs" / f"{request_id}.json").write_bytes(b"{")
    ask = Call("GET", f"/v2/requests/{request_id}", {"x-api-key": "k"})
    assert keeper.run(2.0, lambda world: world.answer(ask, 2.0)).status == 404
    assert (tmp_path / "world-jobs" / f"{request_id}.damaged-1.json").exists()
    assert keeper.run(2.0, lambda world: world.answer(CREDITS, 2.0)).body["credits"] == 24.945


def test_a_place_that_cannot_be_a_folder_means_memory_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with SandboxServer(tmp_path / "file" / "sandbox", FAST) as server, Client(server) as client:
        assert server.warning is not None
        assert "until this program ends" in server.warning
        client.submit()
        assert client.credits() == 24.945


def test_a_folder_that_fails_later_is_followed_by_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SandboxServer(tmp_path, FAST) as server, Client(server) as client:
        before = client.submit()["request_id"]

        def full(self: FileStore, account: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(FileStore, "_save", full)
        after = client.submit()["request_id"]
        assert server.warning is not None
        assert "No space left" in server.warning
        for request_id in (before, after):
            assert client.call("GET", f"/v2/requests/{request_id}/status")[0] == 200
        assert client.credits() == 24.89


def test_a_lock_that_cannot_be_had_means_memory(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, FAST)
    (tmp_path / "world.lock").unlink()
    (tmp_path / "world.lock").mkdir()
    assert keeper.run(1.0, lambda world: world.answer(SUBMIT, 1.0)).status == 200
    assert keeper.warning is not None
    assert keeper.run(2.0, lambda world: world.answer(CREDITS, 2.0)).body["credits"] == 24.945


@pytest.mark.parametrize("kept", [True, False])
def test_old_jobs_are_forgotten(tmp_path: Path, kept: bool) -> None:
    keeper = Keeper(tmp_path if kept else None, FAST)
    now = time.time()
    request_id = keeper.run(now, lambda world: world.answer(SUBMIT, now)).body["request_id"]
    later = now + 6 * 86400
    assert keeper.run(later, lambda world: request_id in world.jobs)
    later += 2 * 86400
    assert not keeper.run(later, lambda world: request_id in world.jobs)


def test_ids_from_addresses_name_no_other_file(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, FAST)
    (tmp_path / "world-jobs").mkdir()
    (tmp_path / "world-jobs" / "secret.json").write_text("{}")

    def looked_up(name: str) -> Job | None:
        return keeper.run(1.0, lambda world: world.jobs.get(name))

    assert [looked_up(name) for name in ("../world", "secret", "", "..", "a/b")] == [None] * 5
    assert (tmp_path / "world-jobs" / "secret.json").exists()


# --- the studio --------------------------------------------------------------------------------------------


def order(index: int, **more: Any) -> Painting:
    return Painting({"seed": 1, "size": 1, **more}, index, "image/png")


def test_a_picture_that_many_ask_for_is_painted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[int] = []

    def paint(self: Studio, painting: Painting) -> bytes:
        painted.append(painting.index)
        time.sleep(0.05)
        return b"x" * 100

    monkeypatch.setattr(Studio, "_paint", paint)
    studio = Studio()
    threads = [threading.Thread(target=studio.bytes_of, args=(order(i % 2),)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(painted) == [0, 1]


def test_the_studio_keeps_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[int] = []

    def paint(self: Studio, painting: Painting) -> bytes:
        painted.append(painting.index)
        return b"x" * 20 * 1024 * 1024

    monkeypatch.setattr(Studio, "_paint", paint)
    studio = Studio()
    for index in (0, 1, 0, 2, 0, 1):
        assert studio.size_of(order(index)) == 20 * 1024 * 1024
    assert painted == [0, 1, 2, 1]


def test_a_failed_painting_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[bytes | None] = [None, b"fine"]

    def paint(self: Studio, painting: Painting) -> bytes:
        if (data := results.pop(0)) is None:
            raise MemoryError
        return data

    monkeypatch.setattr(Studio, "_paint", paint)
    studio = Studio()
    with pytest.raises(MemoryError):
        studio.bytes_of(order(0))
    assert studio.bytes_of(order(0)) == b"fine"
