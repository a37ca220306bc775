"""TLS, proxies and names: what provably never went out costs nothing, and what went out is in doubt."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import CLOSE, KEY, Changed, Ended, Gateway, Lost, SkippingClock, is_whole

Chroma = Callable[..., Ended]
FOX = ("generate", "a fox", "-o", "fox.png", "--timeout", "20")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for gateway.test and loopback, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=gateway.test", "-keyout", "key", "-out", "crt"]
    command += ["-addext", "subjectAltName=DNS:gateway.test,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    both = folder / "both.pem"
    both.write_bytes((folder / "crt").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
def secure(gateway: Gateway, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway that speaks TLS, in the place of the other one; its certificate is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Gateway(tls=context) as server:
        monkeypatch.setenv("CHROMA_BASE_URL", server.base_url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield server


# --- TLS ---------------------------------------------------------------------------------------------------


def test_a_certificate_that_is_trusted(
    secure: Gateway, clock: SkippingClock, chroma: Chroma, work: Path
) -> None:
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")


def test_a_certificate_that_is_not_trusted(
    secure: Gateway, clock: SkippingClock, chroma: Chroma, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "certificate" in ended.error["message"]
    assert clock.sleeps == []  # trying again cannot help
    assert secure.requests() == []


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_certificates_that_cannot_be_read(
    secure: Gateway,
    clock: SkippingClock,
    chroma: Chroma,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
) -> None:
    if content is not None:
        (work / "ca.pem").write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "ca.pem")
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (2, "no")
    assert "CA bundle" in ended.error["message"]


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_that_speaks_no_tls(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, greeting: bytes
) -> None:
    with Gateway(greeting=greeting) as plain:
        ended = chroma(*FOX, "--json", "--base-url", plain.base_url.replace("http:", "https:"))
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "TLS failed" in ended.error["message"]
    assert len(clock.sleeps) > 2


def test_a_connection_that_closes_after_tls_leaves_a_doubt(
    secure: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    secure.on("submit", Lost(CLOSE))
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert secure.posts() == 1


# --- proxies -----------------------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    """CONNECT to whatever host, which here always is ``server.target``; or the status it is to answer."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        if self.server.refuse:
            self.send_response(self.server.refuse)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.connection))
            back.start()
            _pump(self.connection, upstream)
            back.join(10)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None: ...


class Proxy(http.server.ThreadingHTTPServer):
    """``asked`` are the hosts that it was asked for, with the headers."""

    daemon_threads = True
    target = refuse = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy of the environment, on the way to https://gateway.test."""
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{server.server_port}")
        monkeypatch.setenv("CHROMA_BASE_URL", "https://gateway.test")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def behind(secure: Gateway, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The gateway that speaks TLS, behind the proxy, where it is called gateway.test."""
    proxy.target = int(secure.base_url.rpartition(":")[2])
    monkeypatch.setenv("CHROMA_BASE_URL", "https://gateway.test")
    return secure


def test_a_proxy_from_the_environment(
    behind: Gateway, proxy: Proxy, clock: SkippingClock, chroma: Chroma, work: Path
) -> None:
    url = "https://gateway.test/files/"
    here = Changed(lambda told: {**told, "output": url + _name(told), "images": None})
    behind.on("result", here)
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")
    assert {path for path, _ in proxy.asked} == {"gateway.test:443"}
    assert all("x-api-key" not in {name.lower() for name in headers} for _, headers in proxy.asked)
    assert KEY not in str(proxy.asked)


def _name(told: dict[str, Any]) -> str:
    return str(told["output"]).rpartition("/")[2]


def test_http_from_a_remote_gateway_is_refused_even_on_loopback(
    behind: Gateway, gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path
) -> None:
    url = f"{gateway.base_url}/files/a.png"
    behind.on("result", Changed(lambda told: {**told, "output": url, "images": None}), always=True)
    ended = chroma(*FOX)
    assert ended.code == 9 and "not https" in ended.err
    assert gateway.requests() == []


def test_a_submit_lost_behind_a_proxy_is_unknown(
    behind: Gateway, clock: SkippingClock, chroma: Chroma
) -> None:
    behind.on("submit", Lost(CLOSE))
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert behind.posts() == 1


@pytest.mark.parametrize("status", [407, 502, 403])
def test_a_proxy_that_refuses(proxy: Proxy, clock: SkippingClock, chroma: Chroma, status: int) -> None:
    proxy.refuse = status
    ended = chroma(*FOX, "--json", "-v")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "proxy" in ended.error["message"] and str(status) in ended.error["message"]
    assert "secret" not in ended.said


@pytest.mark.parametrize("address", ["socks9://127.0.0.1:1", "http://", "http://[::1", "http://127.0.0.1:1"])
def test_proxies_that_cannot_work(
    gateway: Gateway,
    clock: SkippingClock,
    chroma: Chroma,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    ended = chroma(*FOX, "--json", "--base-url", "https://gateway.test")
    assert ended.code in (2, 9), ended.said
    assert ended.error["charged"] == "no"


# --- names -------------------------------------------------------------------------------------------------


def test_a_host_name_that_does_not_exist(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    ended = chroma(*FOX, "--json", "--base-url", "https://gateway.test")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "could not be resolved" in ended.error["message"]
    assert len(clock.sleeps) > 2


@pytest.mark.parametrize("how", [(), ("--sync",)])
def test_nobody_listens(gateway: Gateway, clock: SkippingClock, chroma: Chroma, how: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    ended = chroma(*FOX, "--json", "--base-url", f"http://127.0.0.1:{port}", *how)
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert "refused" in ended.error["message"]
    assert len(clock.sleeps) > 3


def test_what_was_given_up_during_a_look_up_never_goes_out(
    gateway: Gateway, chroma: Chroma, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up of a name hangs; when it ends at last, the body must stay here."""
    release = threading.Event()
    threads: list[threading.Thread] = []
    real = socket.getaddrinfo

    def slow(*args: Any, **more: Any) -> Any:
        threads.append(threading.current_thread())
        release.wait(60)
        return real(*args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    ended = chroma("generate", "a fox", "-o", "fox.png", "--timeout", "1", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no"), ended.said
    release.set()
    for thread in threads:
        thread.join(60)
    assert gateway.requests() == []
