"""Deadlines, limits, TLS, proxies and what must never leave: the transport against a hostile other side."""

from __future__ import annotations

import gzip
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faultserver import CLOSE, Drip, Endless, FaultServer, Reply, Silence, gateway_script, tiny_png
from gateway_bench import KEY, Bench

from chroma_cli.errors import (
    BadReply,
    Charged,
    ChromaError,
    NetworkError,
    OutcomeUnknown,
    UsageError,
    WrongAddress,
)
from chroma_cli.gateway.body import Body, Reading, decode, read_body
from chroma_cli.gateway.bounded import Abandoned, Flight, Gate

BODY = {"prompt": "a knight", "seed": 7, "samples": 1}
STATUS = ("GET", "/v2/requests/job-1/status")
RESULT = ("GET", "/v2/requests/job-1")
SUBMIT = ("POST", "/v2/chroma")
PNG = tiny_png()


# --- deadlines -------------------------------------------------------------------------------------------

DRIPS = {
    "silence": Silence(),
    "status line": Drip(b"HTTP/1.1 200 " + b"O" * 10_000, 0.02),
    "headers": Drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000, 0.02),
    "body": Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b" " * 9999, 0.02),
    "chunk size": Drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 9999, 0.02),
    "100 continue": Endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_no_drip_outlives_the_deadline(bench: Bench, name: str) -> None:
    bench.server.on(*STATUS, DRIPS[name])
    with pytest.raises((NetworkError, BadReply)):
        bench.client.status("job-1", bench.deadline(0.3))
    assert len(bench.server.requests()) == 1


def test_a_picture_that_drips_is_not_written_to_after_the_end(bench: Bench) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"
    bench.server.on("GET", "/f.png", Endless(head, PNG))
    bench.server.on("GET", "/g.png", Drip(head + PNG * 1000, 0.001))
    sink = bench.sink()
    with pytest.raises(NetworkError):
        bench.client.download(f"{bench.server.base_url}/g.png", sink, deadline=bench.deadline(0.4))
    before = sink.data
    join_workers()
    assert sink.data == before


def join_workers() -> None:
    for thread in threading.enumerate():
        if thread.name == "chroma-http":
            thread.join(10)
            assert not thread.is_alive()


def test_workers_end_soon_after_they_are_given_up(bench: Bench) -> None:
    bench.server.on(*STATUS, Silence())
    with pytest.raises(NetworkError):
        bench.client.status("job-1", bench.deadline(0.2))
    join_workers()


def test_a_gate_that_was_closed_lets_nothing_through(bench: Bench) -> None:
    gate, sink = Gate(), bench.sink()
    gate.write(sink, b"before")
    assert gate.abandon() is False
    for late in (lambda: gate.write(sink, b"after"), gate.mark_connected, lambda: gate.open(bench.sink)):
        with pytest.raises(Abandoned):
            late()
    assert (sink.data, gate.connected, len(bench.sinks)) == (b"before", False, 1)


def test_interrupt_ends_a_get(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.server.on(*STATUS, Silence())
    real = Flight.wait

    def interrupted(self: Flight[Any], seconds: float) -> bool:
        while not bench.server.requests():
            assert not real(self, 0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(Flight, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.client.status("job-1", bench.deadline())
    monkeypatch.undo()
    assert bench.exchanges[-1].error == "interrupted"
    join_workers()


# --- limits ----------------------------------------------------------------------------------------------


def test_endless_json_ends_at_the_limit(bench: Bench) -> None:
    head = b'HTTP/1.1 200 OK\r\n\r\n{"status": "'
    for route in (STATUS, SUBMIT):
        bench.server.on(*route, Endless(head, b"x" * 65536))
    with pytest.raises(BadReply, match="larger than accepted"):
        bench.client.status("job-1", bench.deadline())
    with pytest.raises(OutcomeUnknown, match="larger than accepted"):
        bench.client.submit(BODY, bench.deadline())
    assert len(bench.server.requests()) == 2


@pytest.mark.parametrize("start", [b"<html>", b"\x00\x01", b"%PDF-1.7 "])
def test_nonsense_is_cut_off_early(bench: Bench, start: bytes) -> None:
    bench.server.on(*RESULT, Endless(b"HTTP/1.1 200 OK\r\n\r\n" + start, start * 10_000))
    with pytest.raises(BadReply, match="web page" if start == b"<html>" else "65536"):
        bench.client.result("job-1", bench.deadline(), sink_factory=bench.sink)


def test_a_gzip_bomb_grows_no_further_than_the_limit(bench: Bench) -> None:
    bomb = gzip.compress(b'{"status": "' + b"x" * 50_000_000)
    bench.server.on(*STATUS, Reply(200, [("Content-Encoding", "gzip")], bomb))
    with pytest.raises(BadReply, match="larger than accepted"):
        bench.client.status("job-1", bench.deadline())


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
def test_compression_that_was_not_asked_for(bench: Bench, encoding: str, pack: Any) -> None:
    body = b'{"status": "QUEUED", "pad": "' + b"x" * 200_000 + b'"}'
    bench.server.on(*STATUS, Reply(200, [("Content-Encoding", encoding)], pack(body)))
    assert bench.client.status("job-1", bench.deadline()).state == "QUEUED"
    assert bench.server.requests()[0].headers["accept-encoding"] == "identity"


def test_a_bomb_comes_out_in_small_pieces() -> None:
    class Largest:
        piece = size = 0

        def write(self, data: bytes) -> None:
            self.piece = max(self.piece, len(data))
            self.size += len(data)

        def reset(self) -> None: ...

    sink = Largest()
    bomb = gzip.compress(PNG + bytes(8_000_000))
    body = read_all([bomb], "gzip", sink_factory=lambda: sink)
    assert body.fault is None
    assert (sink.size, sink.piece) == (len(PNG) + 8_000_000, 65536)


def test_truncated_gzip_is_not_whole() -> None:
    packed = gzip.compress(os.urandom(1000))[:-12]
    body = read_all([packed], "gzip")
    assert body.fault is not None
    assert read_all([], "gzip").fault is None


def read_all(pieces: list[bytes], encoding: str = "", **more: Any) -> Body:
    queue = [*pieces, b""]
    return read_body(lambda _: queue.pop(0), encoding, True, Reading(10_000_000, **more), Gate())


def test_first_bytes_may_come_one_by_one(bench: Bench) -> None:
    body = read_all([bytes([byte]) for byte in PNG], sink_factory=bench.sink)
    assert body.sink is bench.sinks[0]
    assert bench.sinks[0].data == PNG


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_any_script_survives_decoding(size: int) -> None:
    import json

    value = {"prompt": 'Ritter, 騎士, 🏰 \\ "quoted"', "image": "A" * size}
    text = json.dumps(value, ensure_ascii=False)
    data = bytearray(b"\xef\xbb\xbf" + text.encode())
    assert json.loads(decode(data)) == value
    assert not data
    assert decode(bytearray(b"\xff" * 3_000_000)) == "\ufffd" * 3_000_000


def test_many_odd_bytes_in_a_large_body_cost_little() -> None:
    assert len(decode(bytearray(b"{" + b"\xc3\xa9" * 10_000_000))) < 10_000_000


# --- where the key goes ----------------------------------------------------------------------------------


def test_no_api_redirect_is_followed_and_its_body_is_not_awaited(bench: Bench) -> None:
    other = f"http://127.0.0.1:{bench.server.port}/elsewhere"
    for route in (STATUS, SUBMIT):
        bench.server.on(*route, Reply(307, [("Location", other)]))
    with pytest.raises(WrongAddress) as caught:
        bench.client.submit(BODY, bench.deadline())
    assert caught.value.exit_code == 2
    with pytest.raises(BadReply, match="redirect"):
        bench.client.status("job-1", bench.deadline())
    asked = [request.path for request in bench.server.requests()]
    assert asked.count(SUBMIT[1]) == 1
    assert set(asked) == {STATUS[1], SUBMIT[1]}


def test_cookies_are_not_kept(bench: Bench) -> None:
    bench.server.on(*STATUS, Reply.json({"status": "QUEUED"}, Set_Cookie="track=1; Path=/"))
    for _ in range(2):
        bench.client.status("job-1", bench.deadline())
    assert all("cookie" not in request.headers for request in bench.server.requests())


def test_netrc_and_proxies_are_not_for_loopback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    gateway_script(bench.server)
    bench.client.submit(BODY, bench.deadline(5))
    assert fetch_file(bench) == PNG
    assert all("authorization" not in request.headers for request in bench.server.requests())


def fetch_file(bench: Bench) -> bytes:
    sink = bench.sink()
    bench.client.download(f"{bench.server.base_url}/files/x.png", sink, deadline=bench.deadline(5))
    return sink.data


def test_an_echoed_key_is_hidden_everywhere(bench: Bench) -> None:
    for route in (STATUS, SUBMIT):
        bench.server.on(
            *route, Reply.json({"error": f"bad key {KEY.lower()}"}, 400, x_request_id=KEY, x_odd=KEY)
        )
    for call in (
        lambda: bench.client.status("job-1", bench.deadline()),
        lambda: bench.client.submit(BODY, bench.deadline()),
    ):
        with pytest.raises(ChromaError, match=r"bad key \[key\]") as caught:
            call()
        assert KEY.lower() not in str(caught.value.as_dict()).lower()
    assert KEY.lower() not in str(bench.events).lower()
    bench.server.on(*STATUS, Reply.json({"status": KEY, "request_id": KEY, "error": KEY}))
    assert KEY not in repr(bench.client.status("job-1", bench.deadline()))


# --- TLS and proxies -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for gateway.test and loopback, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + [
            "-days",
            "2",
            "-subj",
            "/CN=gateway.test",
            "-keyout",
            str(folder / "key"),
            "-out",
            str(folder / "crt"),
        ]
        + ["-addext", "subjectAltName=DNS:gateway.test,IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[Bench]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FaultServer(tls=context) as server:
        gateway_script(server)
        made = Bench(server)
        yield made
        made.client.close()


def test_a_certificate_that_is_not_trusted(secure: Bench) -> None:
    with pytest.raises(NetworkError, match="certificate") as caught:
        secure.client.submit(BODY, secure.deadline())
    assert caught.value.charged is Charged.NO
    assert secure.clock.naps == []  # trying again cannot help
    assert secure.server.requests() == []


def test_a_ca_bundle_is_used(secure: Bench, certificate: Path) -> None:
    client = secure.connect(secure.server.base_url, ca_bundle=str(certificate))
    assert client.submit(BODY, secure.deadline()).request_id == "job-1"
    assert client.status("job-1", secure.deadline()).state == "PROCESSING"
    client.close()


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_ca_bundle_that_cannot_be_read(secure: Bench, tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    client = secure.connect(secure.server.base_url, ca_bundle=str(bundle))
    with pytest.raises(UsageError, match="CA bundle") as caught:
        client.submit(BODY, secure.deadline())
    assert caught.value.charged is Charged.NO


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_tls_with_a_server_that_speaks_none(bench: Bench, greeting: bytes) -> None:
    with FaultServer(greeting=greeting) as plain:
        client = bench.connect(plain.base_url.replace("http:", "https:"))
        with pytest.raises(NetworkError, match="TLS failed") as caught:
            client.submit(BODY, bench.deadline(5))
    assert caught.value.charged is Charged.NO
    assert len(bench.retries) > 2


def test_reset_after_tls_is_unknown(secure: Bench, certificate: Path) -> None:
    secure.server.on(*SUBMIT, CLOSE)
    client = secure.connect(secure.server.base_url, ca_bundle=str(certificate))
    with pytest.raises(OutcomeUnknown):
        client.submit(BODY, secure.deadline())
    assert len(secure.server.requests()) == 1


class _Proxy(http.server.BaseHTTPRequestHandler):
    """CONNECT to whatever host, which here always is ``server.target``; or the status it is to answer."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        refuse = self.server.refuse  # type: ignore[attr-defined]
        if refuse:
            self.send_response(refuse)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:  # type: ignore[attr-defined]
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.connection))
            back.start()
            _pump(self.connection, upstream)
            back.join(10)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None: ...


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for sock in (source, target):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    server.asked, server.refuse, server.target = [], 0, 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_proxy_from_the_environment(secure: Bench, certificate: Path, proxy: Any) -> None:
    proxy.target = secure.server.port
    client = secure.connect("https://gateway.test", ca_bundle=str(certificate))
    assert client.submit(BODY, secure.deadline()).request_id == "job-1"
    assert client.status("job-1", secure.deadline()).state == "PROCESSING"
    client.close()
    assert {path for path, _ in proxy.asked} == {"gateway.test:443"}
    assert all("x-api-key" not in {name.lower() for name in headers} for _, headers in proxy.asked)
    assert [request.headers["x-api-key"] for request in secure.server.requests()] == [KEY, KEY]


def test_a_submit_lost_behind_a_proxy_is_unknown(secure: Bench, certificate: Path, proxy: Any) -> None:
    proxy.target = secure.server.port
    secure.server.on(*SUBMIT, CLOSE)
    client = secure.connect("https://gateway.test", ca_bundle=str(certificate))
    with pytest.raises(OutcomeUnknown):
        client.submit(BODY, secure.deadline())
    assert len(secure.server.requests()) == 1


@pytest.mark.parametrize("status", [407, 502, 403])
def test_a_proxy_that_refuses(bench: Bench, proxy: Any, status: int) -> None:
    proxy.refuse = status
    client = bench.connect("https://gateway.test")
    with pytest.raises(NetworkError, match=f"proxy.*{status}") as caught:
        client.submit(BODY, bench.deadline(5))
    assert caught.value.charged is Charged.NO
    assert "secret" not in str(caught.value.as_dict()) + str(bench.events)


@pytest.mark.parametrize("address", ["socks9://127.0.0.1:1", "http://", "http://[::1", "http://127.0.0.1:1"])
def test_proxies_that_cannot_work(bench: Bench, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    monkeypatch.delenv("https_proxy", raising=False)
    client = bench.connect("https://gateway.test")
    with pytest.raises(NetworkError) as caught:
        client.submit(BODY, bench.deadline(3))
    assert caught.value.charged is Charged.NO


def test_a_host_name_that_does_not_exist(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    client = bench.connect("https://gateway.test")
    with pytest.raises(NetworkError, match="could not be resolved") as caught:
        client.submit(BODY, bench.deadline(5))
    assert caught.value.charged is Charged.NO
    assert len(bench.retries) > 2


# --- threads, and memory ---------------------------------------------------------------------------------


def test_many_threads_share_one_client(bench: Bench) -> None:
    bench.server.on("GET", "/v2/requests/*", Reply.json({"status": "QUEUED"}))
    states: list[str] = []

    def ask(number: int) -> None:
        states.append(bench.client.status(f"job-{number}", bench.deadline()).state)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["QUEUED"] * 16


_MEASURE = """
import resource, sys, time
from chroma_cli.clock import Deadline, SystemClock
from chroma_cli.gateway.client import Client
from chroma_cli.gateway.pictures import Inline
from chroma_cli.gateway.transport import Transport

class Count:
    size = 0
    def write(self, data): self.size += len(data)
    def reset(self): self.size = 0

clock = SystemClock()
client = Client(Transport(sys.argv[1], "SG_0123456789abcdef", clock=clock))
client.credits(Deadline(clock, 30))  # what a first exchange loads is not the picture's memory
scale = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
before = peak()
sink = Count()
kind = sys.argv[2]
if kind == "file":
    client.download(sys.argv[1] + "/f.png", sink, deadline=Deadline(clock, 60))
else:
    call = client.result("job-1", Deadline(clock, 60), sink_factory=lambda: sink) if kind == "v2" else (
        client.generate_sync({"prompt": "x"}, Deadline(clock, 60), lambda: sink))
    for source in call.sources:
        if isinstance(source, Inline):
            source.decode_into(sink)
print(sink.size, peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is missing")
@pytest.mark.parametrize("shape", ["file", "v1 bytes", "v1 json", "v2 emoji", "v2 text"])
def test_memory_of_large_pictures(bench: Bench, shape: str) -> None:
    import base64
    import json

    picture = b"\x89PNG\r\n\x1a\n" + os.urandom(12_000_000)
    coded = base64.b64encode(picture).decode()
    as_json = json.dumps({"status": "COMPLETED", "prompt": "🏰", "image": coded}, ensure_ascii=False)
    bodies = {"v1 json": json.dumps({"image": coded}), "v2 emoji": as_json, "v2 text": coded}
    body = bodies.get(shape, "").encode() or picture
    gateway_script(bench.server)
    for route in (("GET", "/f.png"), RESULT, ("POST", "/v1/chroma")):
        bench.server.on(*route, Reply.text(body))
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, bench.server.base_url, shape.split()[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    size, grown = map(int, run.stdout.split())
    assert size == len(picture)
    assert grown <= (12_000_000 if body is picture else 3 * len(body) + 8_000_000)


def test_the_module_is_heavy_so_nothing_else_may_import_it() -> None:
    """client's own imports pull requests in; replies, pictures and the judge's helpers must not."""
    code = (
        "import sys, chroma_cli.gateway.replies, chroma_cli.gateway.pictures, chroma_cli.gateway.refusals,"
        "chroma_cli.gateway.retry, chroma_cli.gateway.events;"
        "sys.exit(any(name in sys.modules for name in ('requests', 'urllib3')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_time_is_told_in_events(bench: Bench) -> None:
    bench.server.on(*STATUS, Reply.json({"status": "QUEUED"}, x_request_id="r-1"))
    started = time.monotonic()
    bench.client.status("job-1", bench.deadline())
    (exchange,) = bench.exchanges
    assert (exchange.method, exchange.path, exchange.status, exchange.request_id) == (*STATUS, 200, "r-1")
    assert 0 <= exchange.ms <= (time.monotonic() - started) * 1000 + 1
