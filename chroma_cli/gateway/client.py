"""What can be said to the gateway: submit, status, result, one blocking call, credits, download.

Every call gives a frozen dataclass or raises a ChromaError. GETs are repeated within their deadline; a POST
only where it is certain that no job came of it, or where the caller asked for more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from chroma_cli.clock import Deadline
from chroma_cli.errors import UsageError
from chroma_cli.gateway.addresses import host_of
from chroma_cli.gateway.body import Reading
from chroma_cli.gateway.bounded import Sink
from chroma_cli.gateway.judge import Downloaded, Judge
from chroma_cli.gateway.pending import Pending, persist
from chroma_cli.gateway.replies import Credits, Result, Status, Submitted
from chroma_cli.gateway.transport import Call, Transport
from chroma_cli.gateway.values import usable_id

MODEL: Final = "chroma"
MIB: Final = 1024 * 1024
#: Largest reply that holds no picture.
SMALL_REPLY: Final = MIB
#: Room for one picture inside a reply: a 2048x2048 PNG is 12 MiB at most, 16 MiB as base64.
PICTURE_REPLY: Final = 32 * MIB
MAX_DOWNLOAD: Final = 128 * MIB
#: Commands without a deadline of their own give the gateway this long, in seconds.
DEFAULT_SECONDS: Final = 15.0

#: Longest whole exchange of a small GET, and of a submit, in seconds. A v1 call may take its whole deadline.
_GET_PATIENCE: Final = 20.0
_SUBMIT_PATIENCE: Final = 60.0
_READ_SILENCE: Final = 30.0

T = TypeVar("T")


class Client:
    """One gateway with one key, over a :class:`Transport`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._judge = Judge(transport)

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def close(self) -> None:
        self._transport.close()

    def stay_in_thread(self) -> None:
        """See :meth:`Transport.stay_in_thread`."""
        self._transport.stay_in_thread()

    # --- spending ---

    def begin_submit(
        self,
        body: Mapping[str, Any],
        deadline: Deadline,
        *,
        resubmit_unknown: bool = False,
        attempts: int | None = None,
    ) -> Pending[Submitted]:
        """A v2 submit that is sent by :meth:`Pending.wait`.

        Repeated after no connection and 429 within the deadline, after 500/503 with the gateway's own JSON
        error up to 3 sends; after lost answers only with ``resubmit_unknown``.
        """
        call = Call(
            "POST",
            f"/v2/{MODEL}",
            Reading(SMALL_REPLY),
            body=_encoded(body),
            read_timeout=_SUBMIT_PATIENCE,
            patience=_SUBMIT_PATIENCE,
        )

        return Pending(
            self._transport,
            call,
            deadline,
            lambda outcome: self._judge.submit(outcome, resubmit_unknown),
            what="submit",
            attempts=attempts,
        )

    def submit(
        self,
        body: Mapping[str, Any],
        deadline: Deadline,
        *,
        resubmit_unknown: bool = False,
        attempts: int | None = None,
    ) -> Submitted:
        """Submit a job and give its id. Raises OutcomeUnknown when it may have been accepted unheard."""
        pending = self.begin_submit(body, deadline, resubmit_unknown=resubmit_unknown, attempts=attempts)
        return _waited(pending)

    def begin_generate_sync(
        self,
        body: Mapping[str, Any],
        deadline: Deadline,
        sink_factory: Callable[[], Sink],
        *,
        attempts: int | None = None,
    ) -> Pending[Result]:
        """A blocking v1 call that is sent by :meth:`Pending.wait`; repeated only after no connection or 429.

        Raw picture bytes go into a sink from ``sink_factory`` (made at most once, in another thread).
        """
        samples = _samples(body)
        reading = Reading(
            PICTURE_REPLY * max(4, samples), sink_factory=_OneSink(sink_factory).get, keep_binary=True
        )
        # The silence lasts as long as the generation; only the deadline ends it.
        call = Call(
            "POST", f"/v1/{MODEL}", reading, body=_encoded(body), read_timeout=deadline.seconds + 60.0
        )

        return Pending(
            self._transport,
            call,
            deadline,
            lambda outcome: self._judge.sync(outcome, samples),
            what="generation",
            attempts=attempts,
        )

    def generate_sync(
        self,
        body: Mapping[str, Any],
        deadline: Deadline,
        sink_factory: Callable[[], Sink],
        *,
        attempts: int | None = None,
    ) -> Result:
        """One v1 call; its state is COMPLETED or FAILED."""
        return _waited(self.begin_generate_sync(body, deadline, sink_factory, attempts=attempts))

    # --- asking ---

    def status(self, request_id: str, deadline: Deadline, *, attempts: int | None = None) -> Status:
        """A job's state, asked on our own base URL. Raises NotFound for an unknown or expired id."""
        call = Call(
            "GET", f"/v2/requests/{_checked(request_id)}/status", Reading(SMALL_REPLY), patience=_GET_PATIENCE
        )

        return persist(
            self._transport,
            call,
            deadline,
            lambda outcome: self._judge.status(outcome, request_id),
            what="status",
            attempts=attempts,
        )

    def result(
        self,
        request_id: str,
        deadline: Deadline,
        *,
        sink_factory: Callable[[], Sink],
        samples: int | None = None,
    ) -> Result:
        """A job's result, in whatever shape; see :class:`Result`.

        Raw picture bytes go into a sink from ``sink_factory`` (made at most once, in another thread;
        reset for another try). It holds the picture only if ``sources`` has a Spooled. Raises NotFound for an
        unknown or expired id, BadReply (charged yes) for a completed job without a picture.
        """
        reading = Reading(PICTURE_REPLY * max(4, samples or 1), sink_factory=_OneSink(sink_factory).get)
        call = Call("GET", f"/v2/requests/{_checked(request_id)}", reading, read_timeout=_READ_SILENCE)

        return persist(
            self._transport,
            call,
            deadline,
            lambda outcome: self._judge.result(outcome, request_id, samples),
            what="result",
        )

    def credits(self, deadline: Deadline, *, attempts: int | None = None) -> Credits:
        """The account's balance. Raises NotFound where the account has no balance record."""
        call = Call("GET", "/v1/get-user-credits", Reading(SMALL_REPLY), patience=_GET_PATIENCE)

        return persist(
            self._transport, call, deadline, self._judge.credits, what="balance", attempts=attempts
        )

    def download(
        self,
        url: str,
        sink: Sink,
        *,
        deadline: Deadline,
        max_bytes: int = MAX_DOWNLOAD,
        attempts: int | None = None,
    ) -> Downloaded:
        """Fetch a picture into a sink, which is reset before each try. The key stays here.

        Raises BadReply for an address that may not be fetched, NotFound when the file is gone, NetworkError,
        ServerError or BadReply (all exit 9) when it could not be had in time.
        """
        sink_factory = _OneSink(lambda: sink, used=True).get
        reading = Reading(max_bytes, sink_factory=sink_factory, everything=True)
        call = Call("GET", url, reading, external=True, read_timeout=_READ_SILENCE)
        host = self._transport.redactor.line(host_of(url), 100)
        return persist(
            self._transport,
            call,
            deadline,
            lambda outcome: self._judge.download(outcome, url, host),
            what="download",
            attempts=attempts,
        )


class _OneSink:
    """Hands out one sink, reset each time but the first (or each time, when it was ``used`` before)."""

    def __init__(self, factory: Callable[[], Sink], *, used: bool = False) -> None:
        self._factory = factory
        self._used = used
        self._sink: Sink | None = None

    def get(self) -> Sink:
        if self._sink is None:
            self._sink = self._factory()
            if not self._used:
                return self._sink
        self._sink.reset()
        return self._sink


def _waited(pending: Pending[T]) -> T:
    """Wait to the end; an interrupt gives the call up, since nobody could ask for it any more."""
    try:
        answer = pending.wait()
    except BaseException:
        pending.abandon()
        raise
    assert answer is not None  # without a limit, wait ends with an answer or an error
    return answer


def _encoded(body: Mapping[str, Any]) -> bytes:
    """The JSON of a request body, in ASCII: any script survives any proxy."""
    return json.dumps(dict(body), allow_nan=False).encode("ascii")


def _samples(body: Mapping[str, Any]) -> int:
    samples = body.get("samples")
    return samples if isinstance(samples, int) and not isinstance(samples, bool) and samples > 0 else 1


def _checked(request_id: str) -> str:
    if usable_id(request_id) is None:
        raise UsageError("A request id has 1 to 128 letters, digits, - and _, and nothing else.")
    return request_id
