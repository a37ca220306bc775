"""The only importer of requests: connections, time-outs, proxies, the two phases of an exchange, and events.

It answers every call with a :class:`Reply` or a :class:`NoReply` and judges neither; what they mean is the
business of ``client``. Nothing is retried here, no API redirect is followed, no cookie is kept, ``.netrc`` is
never read, and the key goes to the one base URL only.
"""

from __future__ import annotations

import functools
import http.client
import random
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import requests.utils
import urllib3
import urllib3.exceptions

from chroma_cli import __version__
from chroma_cli.clock import Clock, Deadline
from chroma_cli.errors import BadReply, ChromaError, UsageError, WrongAddress
from chroma_cli.gateway.addresses import check_download, host_of
from chroma_cli.gateway.body import Body, Broken, Reading, read_body
from chroma_cli.gateway.bounded import Abandoned, Flight, Gate, watchdog
from chroma_cli.gateway.events import CreditsSeen, Event, Exchange, Observer, ignore
from chroma_cli.gateway.faults import NoReply, explain
from chroma_cli.gateway.redact import Redactor
from chroma_cli.gateway.values import balance
from chroma_cli.settings import is_loopback

CONNECT_TIMEOUT: Final = 10.0
MAX_HOPS: Final = 5
_HEADERS: Final = {"User-Agent": f"chroma-cli/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
#: Idle connections that are kept; a batch has so many threads that ask.
_POOL: Final = 48
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Everything that the libraries raise for a bad network or a hostile peer. requests' errors are OSErrors.
_FAILURES: Final = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Call:
    """One request. ``target`` is a path on the base URL, or the address of a picture when ``external``.

    ``read_timeout``: longest silence in seconds; ``patience``: longest whole exchange, None for as long as
    the deadline allows.
    """

    method: str
    target: str
    reading: Reading
    body: bytes | None = None
    external: bool = False
    read_timeout: float = 20.0
    patience: float | None = None


@dataclass(frozen=True)
class Reply:
    """An answer: ``headers`` in lower case, as they came; ``body`` as far as it could be read."""

    status: int
    headers: Mapping[str, str]
    body: Body

    @property
    def ok(self) -> bool:
        return 200 <= self.status <= 299


Outcome = Reply | NoReply


@dataclass
class Started:
    """A call that is out, or about to be."""

    call: Call
    flight: Flight[Outcome]
    since: float


# --- connections -----------------------------------------------------------------------------------------

_flying = threading.local()


class _Final(http.client.HTTPResponse):
    """An answer, not the notes that may come before it: the library passes over 100 Continue alone."""

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]  # as before it was begun
            super().begin()


class _Tracked:
    """Mixed into urllib3's connection classes: tells the exchange at hand when a connection stands.

    The exception class of a failure cannot tell whether the request went out: TLS may fail late, and a reset
    can come at any time.
    """

    response_class = _Final

    def connect(self) -> Any:
        gate: Gate = _flying.gate
        gate.watch(self)
        super().connect()  # type: ignore[misc]  # of the connection class beside it
        gate.mark_connected()

    def request(self, *args: Any, **kwargs: Any) -> Any:
        gate: Gate = _flying.gate
        gate.watch(self)
        if getattr(self, "sock", None) is not None:  # kept alive, or connected for TLS already
            gate.mark_connected()
        return super().request(*args, **kwargs)  # type: ignore[misc]


class _Pool:
    """Mixed into urllib3's pools: an exchange that is given up late must not cut a connection that has gone
    back, and may be another's by then."""

    def _put_conn(self, connection: Any) -> None:
        gate: Gate | None = getattr(_flying, "gate", None)
        if gate is not None:
            gate.let_go()
        super()._put_conn(connection)  # type: ignore[misc]  # of the pool class beside it


class _OneUse(_Pool):
    """A connection that comes back is closed, so the next exchange opens one."""

    def _put_conn(self, connection: Any) -> None:
        if connection is not None:
            connection.close()
        super()._put_conn(connection)


@functools.cache
def _tracked(pool: type, one_use: bool) -> type:
    """A pool class (they differ for TLS and SOCKS proxies) whose connections are tracked."""
    plain: Any = pool
    if issubclass(plain.ConnectionCls, _Tracked):
        return pool
    connection = type("Tracked" + plain.ConnectionCls.__name__, (_Tracked, plain.ConnectionCls), {})
    bases = (_OneUse if one_use else _Pool, pool)
    return type("Tracked" + pool.__name__, bases, {"ConnectionCls": connection})


class _Adapter(requests.adapters.HTTPAdapter):
    """The connections to one kind of address. It is used without a session: there are no cookies, no
    ``.netrc`` and no redirects then, and nothing is read from the environment but what is passed in.

    ``one_origin``: all requests go to one place, so what leads there is found out once. ``one_use``: no
    connection serves twice.
    """

    def __init__(self, *, one_origin: bool, one_use: bool) -> None:
        self._one_origin = one_origin
        self._one_use = one_use
        self._pool: Any = None
        super().__init__(pool_connections=4, pool_maxsize=_POOL, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._track(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        self._track(manager)
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is not None:
            return self._pool
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if self._one_origin:
            self._pool = pool
        return pool

    def request_url(self, request: requests.PreparedRequest, _proxies: Any) -> str:
        # https goes through a proxy as through a tunnel, and http goes to loopback alone, without one
        return request.path_url

    def build_response(self, _request: requests.PreparedRequest, response: Any) -> Any:
        """urllib3's response as it is: what requests adds to it (cookies, an encoding) nobody looks at."""
        return response

    def _track(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: _tracked(pool, self._one_use) for scheme, pool in pools.items()
        }


# --- the transport ---------------------------------------------------------------------------------------


class Transport:
    """Talks to one gateway with one key. May be used by several threads at once.

    ``observe`` hears of every exchange, in the thread of the caller. ``ca_bundle`` is a file or folder of
    certificates in place of the built-in ones; proxies come from the environment, never for loopback.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None,
        *,
        clock: Clock,
        observe: Observer = ignore,
        ca_bundle: str | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self.jitter = jitter
        self.observe: Observer = observe
        self.redactor = Redactor(key)
        self.from_loopback = is_loopback(host_of(base_url))
        self._key = key
        self._verify: bool | str = ca_bundle or True
        self._lock = threading.Lock()
        self._adapters: dict[str, _Adapter] = {}
        self._proxies_of: dict[str, dict[str, str]] = {}
        self._apart = True

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        with self._lock:
            adapters, self._adapters = list(self._adapters.values()), {}
        for adapter in adapters:
            adapter.close()

    def stay_in_thread(self) -> None:
        """Have exchanges in the thread that asks, not in one apart: for callers with many threads, none of
        which a person waits for. A name look-up that hangs then holds its caller beyond the deadline.
        """
        self._apart = False
        watchdog.wake()

    def tell(self, event: Event) -> None:
        self.observe(event)

    # One exchange: start, then land (or drop).

    def start(self, call: Call, seconds: float) -> Started:
        """Make a call ready; it has that many seconds from the moment that :meth:`land` sends it.

        Raises WrongAddress or BadReply for an address that cannot be used at all.
        """
        prepared = self._prepare(call)
        flight: Flight[Outcome] = Flight(lambda gate: self._fly(call, prepared, seconds, gate), Gate())
        return Started(call, flight, self.clock.monotonic())

    def land(self, started: Started, seconds: float) -> Outcome | None:
        """Send the call, unless that was done, and wait for the outcome that long in real time; None when it
        has not come.

        What a sink raised comes out here. An interrupt leaves the exchange running.
        """
        flight = started.flight
        if self._apart:
            flight.launch()
        elif not flight.launched:
            flight.run(seconds)
        if not flight.wait(seconds):
            return None
        try:
            outcome = flight.result()
        except Abandoned:
            return None
        except ChromaError as error:
            self._report(started, NoReply(True, "broken", self.redactor.line(error.message)))
            raise
        whole = isinstance(outcome, Reply) and outcome.body.fault is None
        if flight.given_up and not whole:
            return None
        self._report(started, outcome)
        return outcome

    def drop(self, started: Started, reason: str = "it did not answer in time") -> NoReply:
        """Give an exchange up; the outcome says whether the request may have gone out."""
        outcome = NoReply(started.flight.abandon(), "timeout", reason)
        self._report(started, outcome)
        return outcome

    def exchange(self, call: Call, deadline: Deadline) -> Outcome:
        """Start and land, within the deadline and the call's own patience."""
        seconds = self.allowance(call, deadline)
        started = self.start(call, seconds)
        try:
            outcome = self.land(started, seconds)
        except KeyboardInterrupt:
            self.drop(started, "interrupted")
            raise
        return outcome if outcome is not None else self.drop(started)

    def allowance(self, call: Call, deadline: Deadline) -> float:
        """Seconds that the next exchange of this call may take."""
        return deadline.remaining if call.patience is None else min(call.patience, deadline.remaining)

    # In the thread of the exchange: its own, or that of who asks.

    def _fly(self, call: Call, prepared: requests.PreparedRequest, seconds: float, gate: Gate) -> Outcome:
        _flying.gate = gate
        adapter = self._adapter(call)
        for _ in range(MAX_HOPS + 1):
            outcome = self._hop(adapter, call, prepared, seconds, gate)
            where = self._next_hop(call, prepared, outcome)
            if where is None:
                return outcome
            try:
                prepared = self._external(where)
            except BadReply as error:  # who redirects, perhaps a portal on the way, may do so for a while
                return NoReply(True, "garbled", f"it led astray. {error.message.rstrip('.')}")
        return NoReply(True, "garbled", f"it led through more than {MAX_HOPS} redirects")

    def _hop(
        self,
        adapter: _Adapter,
        call: Call,
        prepared: requests.PreparedRequest,
        seconds: float,
        gate: Gate,
    ) -> Outcome:
        url = prepared.url or ""
        proxies = self._proxies(url)
        try:
            response: urllib3.BaseHTTPResponse = adapter.send(  # type: ignore[assignment]  # see build_response
                prepared,
                stream=True,
                timeout=(
                    max(0.001, min(CONNECT_TIMEOUT, seconds)),
                    max(0.001, min(call.read_timeout, seconds)),
                ),
                verify=self._verify if url.startswith("https") else True,
                proxies=proxies,
            )
        except _FAILURES as error:
            self._check_bundle(url, gate)
            return explain(error, connected=gate.connected, proxied=bool(proxies))
        try:
            headers = {name.lower(): response.headers[name] for name in response.headers}
            ok = 200 <= response.status <= 299
            encoding = headers.get("content-encoding", "")
            body = read_body(_reader(response), encoding, ok, call.reading, gate)
            return Reply(response.status, headers, body)
        finally:
            response.close()
            response.release_conn()

    def _next_hop(self, call: Call, prepared: requests.PreparedRequest, outcome: Outcome) -> str | None:
        if not call.external or not isinstance(outcome, Reply) or outcome.status not in _REDIRECTS:
            return None
        location = outcome.headers.get("location")
        if not location:
            return None
        try:
            return urljoin(prepared.url or "", location)
        except ValueError:
            return location  # no address either; it is refused as one

    # Parts of a request.

    def _prepare(self, call: Call) -> requests.PreparedRequest:
        if call.external:
            return self._external(call.target)
        prepared = self._home.copy()
        prepared.method = call.method
        prepared.url = f"{prepared.url}{call.target}"
        if call.body is not None:
            prepared.headers["Content-Type"] = "application/json"
            prepared.headers["Content-Length"] = str(len(call.body))
            prepared.body = call.body
        return prepared

    @functools.cached_property
    def _home(self) -> requests.PreparedRequest:
        """A request of the base URL with the key; all API calls are made from it, since their paths need no
        quoting. Raises WrongAddress."""
        headers = _HEADERS | ({"x-api-key": self._key} if self._key else {})
        try:
            prepared = requests.Request("GET", self.base_url, headers=headers).prepare()
        except _FAILURES:
            raise WrongAddress("The gateway's address cannot be used.") from None
        prepared.url = (prepared.url or "").rstrip("/")
        return prepared

    def _external(self, url: str) -> requests.PreparedRequest:
        """A request of a picture's address, without the key."""
        check_download(url, from_loopback=self.from_loopback, redactor=self.redactor)
        try:
            prepared = requests.Request("GET", url, headers=_HEADERS).prepare()
        except _FAILURES:
            raise BadReply("The gateway named a picture's address that cannot be read.") from None
        # once more, as the library understood it
        check_download(prepared.url or "", from_loopback=self.from_loopback, redactor=self.redactor)
        return prepared

    def _proxies(self, url: str) -> dict[str, str]:
        """Those of the environment, for this scheme and host; looked for once."""
        origin = "/".join(url.split("/", 3)[:3])
        found = self._proxies_of.get(origin)
        if found is None:
            found = {} if is_loopback(host_of(url)) else dict(requests.utils.get_environ_proxies(url))
            self._proxies_of[origin] = found
        return found

    def _adapter(self, call: Call) -> _Adapter:
        name = "external" if call.external else "asking" if call.method == "GET" else "spending"
        with self._lock:
            if name not in self._adapters:
                # A stale kept connection would make a reset ambiguous, so a POST gets a fresh one.
                self._adapters[name] = _Adapter(one_origin=not call.external, one_use=name == "spending")
            return self._adapters[name]

    def _check_bundle(self, url: str, gate: Gate) -> None:
        """A CA bundle that cannot be read is the user's mistake, not the network's."""
        if not isinstance(self._verify, str) or not url.startswith("https") or gate.connected:
            return
        bundle = Path(self._verify)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if bundle.is_dir():
                context.load_verify_locations(capath=str(bundle))
            else:
                context.load_verify_locations(cafile=str(bundle))
        except OSError:  # ssl.SSLError is one
            raise UsageError(
                f"The CA bundle {self.redactor.line(str(bundle))} cannot be read.",
                hint="Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.",
            ) from None

    # Telling.

    def _report(self, started: Started, outcome: Outcome) -> None:
        call = started.call
        path = call.target
        if call.external:
            parts = urlsplit(path)
            path = f"{parts.scheme}://{parts.netloc}{parts.path}"
        status, request_id, error = None, None, None
        if isinstance(outcome, Reply):
            status, error = outcome.status, outcome.body.fault
            seen = outcome.headers.get("x-request-id")
            request_id = self.redactor.line(seen, 128) if seen else None
        else:
            error = outcome.reason
        ms = (self.clock.monotonic() - started.since) * 1000.0
        self.tell(Exchange(call.method, self.redactor.line(path), status, round(ms, 1), request_id, error))
        if isinstance(outcome, Reply) and not call.external:
            left = balance(outcome.headers.get("x-remaining-credits"))
            if left is not None:
                self.tell(CreditsSeen(left))


def _reader(response: urllib3.BaseHTTPResponse) -> Callable[[int], bytes]:
    """Read what the socket has, undecoded; a broken body becomes Broken with its reason."""

    def read(size: int) -> bytes:
        try:
            return response.read1(size, decode_content=False) or b""
        except _FAILURES as error:
            raise Broken(explain(error, connected=True, proxied=False).reason) from error

    return read
