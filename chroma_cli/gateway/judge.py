"""What the outcome of each call means: the money rule and the error table at work.

A judge takes an outcome and gives the answer, or raises: a ChromaError for the end, :class:`Again` for what
may be tried once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from chroma_cli.errors import (
    BadReply,
    Charged,
    ChromaError,
    GenerationFailed,
    NetworkError,
    NotFound,
    OutcomeUnknown,
    ServerError,
    WebPage,
)
from chroma_cli.gateway.addresses import host_of
from chroma_cli.gateway.documents import (
    Document,
    error_words,
    is_gateway_error,
    page_title,
    read_document,
    server_words,
)
from chroma_cli.gateway.events import Throttled
from chroma_cli.gateway.faults import NoReply
from chroma_cli.gateway.pending import Again
from chroma_cli.gateway.pictures import Spooled
from chroma_cli.gateway.refusals import Subject, refusal
from chroma_cli.gateway.replies import (
    Credits,
    Result,
    Status,
    Submitted,
    is_about_another,
    own_id,
    read_credits,
    read_result,
    read_status,
    read_submitted,
    spooled_result,
    terminal_state,
)
from chroma_cli.gateway.retry import server_time, wait_asked
from chroma_cli.gateway.transport import Outcome, Reply, Transport

#: Sends of one submit that end in server errors, or get lost with resubmit_unknown.
_MOST_SENDS: Final = 3
#: Times that a completed job is asked for the picture that its answer lacks.
_MOST_EMPTY: Final = 3
#: A result that was answered and cannot be read is asked for again for this long, in seconds.
_UNREADABLE_PATIENCE: Final = 60.0
#: A POST that finds no connection is tried again for this long, in seconds.
_CONNECT_PATIENCE: Final = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class Downloaded:
    """A picture that is in the sink, whole as far as its length tells. ``size`` in bytes."""

    url: str
    size: int


class Judge:
    """Knows the gateway's name and the redactor; keeps nothing else."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._redactor = transport.redactor
        self._host = self._redactor.line(host_of(transport.base_url), 100)

    # --- POSTs ---

    def submit(self, outcome: Outcome, resubmit: bool) -> Submitted:
        if isinstance(outcome, NoReply):
            raise self._unsent_or_lost(outcome, resubmit)
        document = read_document(outcome.body)
        if outcome.ok and not outcome.body.too_large:
            submitted = read_submitted(document, outcome.headers, self._redactor)
            if submitted is not None:
                return submitted
        if terminal_state(document) == "FAILED":
            raise self._generation_failed(document)
        if outcome.ok:
            fault = outcome.body.fault or "it names no usable request id"
            raise self._unusable(fault, self._page(outcome, document), resubmit)
        raise self._post_problem(outcome, document, resubmit, most=_MOST_SENDS)

    def sync(self, outcome: Outcome, samples: int) -> Result:
        if isinstance(outcome, NoReply):
            raise self._unsent_or_lost(outcome, None)
        body = outcome.body
        if body.sink is not None:
            # Paid, and not to be had again: what came is kept, even if it is not whole.
            return spooled_result(Spooled(body.sink, body.fault is None), outcome.headers, self._redactor)
        document = read_document(body)
        if terminal_state(document) is not None or (outcome.ok and not body.too_large):
            try:
                result = read_result(document, outcome.headers, self._redactor, samples)
            except BadReply as error:
                if error.charged is Charged.YES:
                    raise
                raise self._lost(error.message, None, self._page(outcome, document)) from None
            if result.state in ("COMPLETED", "FAILED"):
                return result
            lost = self._lost("The gateway queued the job instead of finishing it.", None)
            if isinstance(lost, ChromaError):
                lost.about(request_id=own_id(document.fields.get("request_id"), self._redactor))
            raise lost
        if outcome.ok:
            raise self._unusable(str(body.fault), self._page(outcome, document), None)
        raise self._post_problem(outcome, document, None, most=1)

    def _post_problem(
        self, reply: Reply, document: Document, resubmit: bool | None, *, most: int
    ) -> Exception:
        """A POST that was answered, but not with success."""
        error = self._refused(reply, document, "job")
        if reply.status == 429:
            return self._throttled(reply, error)
        if reply.status in (500, 503) and is_gateway_error(document):
            return Again(error, most=most, wait=self._asked(reply))
        if isinstance(error, ServerError | BadReply):
            return self._lost(error.message, resubmit, error.page)
        return error

    def _unsent_or_lost(self, outcome: NoReply, resubmit: bool | None) -> Exception:
        if not outcome.connected:
            problem = self._unreached(outcome, self._host)
            if isinstance(problem, Again):  # nothing is at stake yet: a wrong address should not take minutes
                problem.within = _CONNECT_PATIENCE
            return problem
        return self._lost(f"No answer came from the gateway: {outcome.reason}.", resubmit)

    def _unusable(self, fault: str, page: WebPage | None, resubmit: bool | None) -> Exception:
        """A success that names no job."""
        message = _words_of(page) if page is not None else f"The gateway's answer cannot be used: {fault}."
        return self._lost(message, resubmit, page)

    def _lost(self, message: str, resubmit: bool | None, page: WebPage | None = None) -> Exception:
        """The request went out, and whether a job came of it is not known. ``resubmit`` is None for a call
        that is never repeated."""
        stop = "" if message.endswith((".", "!", "?")) else "."  # a server's words may end without
        repeat = ", or repeat it knowingly with --resubmit-unknown" if resubmit is not None else ""
        error = OutcomeUnknown(
            f"{message}{stop} The job may or may not have been accepted.",
            hint="It is not sent again by itself, because it could be billed twice. "
            f"Look at the provider's console{repeat}.",
        )
        error.page = page
        return Again(error, most=_MOST_SENDS, lost=True) if resubmit else error

    def _generation_failed(self, document: Document) -> GenerationFailed:
        words = self._redactor.line(error_words(document.fields, self._redactor))
        said = f": {words}" if words else "."
        error = GenerationFailed(f"The generation failed{said}", hint="Nothing was charged.")
        error.about(request_id=own_id(document.fields.get("request_id"), self._redactor))
        return error

    # --- GETs ---

    def status(self, outcome: Outcome, request_id: str) -> Status:
        reply, document = self._answered(outcome, request_id)
        if terminal_state(document) is not None or (reply.ok and not reply.body.too_large):
            return self._sensible(lambda: read_status(document, self._redactor))
        if _failed_by_status(reply, document):
            return self._failed_status(document)
        raise self._read_problem(reply, document, "request")

    def result(self, outcome: Outcome, request_id: str, samples: int | None) -> Result:
        try:
            return self._result(outcome, request_id, samples)
        except Again as again:
            if isinstance(outcome, Reply) and outcome.ok:
                again.within = _UNREADABLE_PATIENCE
            raise

    def _result(self, outcome: Outcome, request_id: str, samples: int | None) -> Result:
        reply, document = self._answered(outcome, request_id)
        body, headers = reply.body, reply.headers
        if body.sink is not None:
            if body.fault is not None:
                raise self._cut(body.fault, body.too_large)
            return spooled_result(Spooled(body.sink), headers, self._redactor)
        if terminal_state(document) is not None or (reply.ok and not body.too_large):
            return self._sensible(lambda: read_result(document, headers, self._redactor, samples))
        if _failed_by_status(reply, document):
            failed = self._failed_status(document)
            return Result("FAILED", (), None, failed.metrics, failed.error, failed.request_id)
        raise self._read_problem(reply, document, "request")

    def credits(self, outcome: Outcome) -> Credits:
        reply, document = self._answered(outcome)
        if reply.ok and not reply.body.too_large:
            return self._sensible(lambda: read_credits(document, self._redactor))
        raise self._read_problem(reply, document, "account")

    def _answered(self, outcome: Outcome, request_id: str | None = None) -> tuple[Reply, Document]:
        """The answer and what it says. ``request_id`` is the job that was asked for, which is known to exist:
        what speaks in the gateway's place, or of another job, is no answer then.
        """
        if isinstance(outcome, NoReply):
            raise self._unreached(outcome, self._host)
        document = read_document(outcome.body)
        if request_id is not None:
            page = self._page(outcome, document)
            if page is not None:
                redirected = 300 <= page.status <= 399
                words = self._refused(outcome, document, "request").message if redirected else _words_of(page)
                raise Again(_in_the_way(page, words))
            if is_about_another(document, request_id, self._redactor):
                raise Again(BadReply("The gateway answered with another job than the one asked for."))
        return outcome, document

    def _sensible(self, read: Callable[[], T]) -> T:
        """Garbage with a success status is asked for again; so, a few times, is a missing picture."""
        try:
            return read()
        except BadReply as error:
            raise Again(error, most=_MOST_EMPTY if error.charged is Charged.YES else None) from None

    def _read_problem(self, reply: Reply, document: Document, subject: Subject) -> Exception:
        if reply.ok or (reply.status == 422 and reply.body.fault is not None):
            return self._cut(reply.body.fault or "it makes no sense", reply.body.too_large)
        error = self._refused(reply, document, subject)
        if reply.status == 429:
            return self._throttled(reply, error)
        return Again(error, wait=self._asked(reply)) if isinstance(error, ServerError | BadReply) else error

    def _failed_status(self, document: Document) -> Status:
        words = server_words(document, self._redactor)
        fields = {"status": "FAILED", **{key: document.fields.get(key) for key in ("metrics", "request_id")}}
        status = read_status(Document(True, fields, ""), self._redactor)
        return Status(status.state, status.raw_state, words, status.metrics, status.request_id)

    def download(self, reply: Outcome, url: str, host: str) -> Downloaded:
        if isinstance(reply, NoReply):
            raise self._unreached(reply, host)
        body = reply.body
        if reply.status in (404, 410):
            raise NotFound(f"The picture is no longer at {host} ({reply.status}).")
        page = self._page(reply, read_document(body)) if body.sink is None else None
        if page is not None:
            raise Again(_in_the_way(page, f"The picture could not be fetched. {_words_of(page, host)}"))
        if reply.status == 200:
            if body.fault is not None:
                error = BadReply(f"The picture from {host} did not come whole: {body.fault}.")
                raise error if body.too_large else Again(error)
            if body.size == 0:
                raise Again(BadReply(f"The picture from {host} came empty."))
            return Downloaded(url, body.size)
        problem = ServerError(f"The picture could not be fetched from {host} (status {reply.status}).")
        if reply.status == 429:
            raise self._throttled(reply, problem)
        if reply.status in (408, 425) or reply.status >= 500 or reply.ok:
            raise Again(problem, wait=self._asked(reply))
        raise problem

    # --- shared ---

    def _refused(self, reply: Reply, document: Document, subject: Subject) -> ChromaError:
        location = self._redactor.line(host_of(reply.headers.get("location", "")), 100)
        words = server_words(document, self._redactor)
        error = refusal(reply.status, words, subject=subject, location=location)
        error.page = self._page(reply, document)
        if isinstance(error, NotFound):
            error.answered_at = server_time(reply.headers)
        return error

    def _page(self, reply: Reply, document: Document) -> WebPage | None:
        """What answered in the gateway's place, if something did. HTML with a 405, a 429 or a 5xx may be the
        gateway's own, or that of its proxy.
        """
        title = page_title(document, self._redactor)
        redirected = 300 <= reply.status <= 399
        if redirected or reply.status in (407, 511):
            return WebPage(reply.status, title or "")
        if title is None or reply.status in (405, 429) or reply.status >= 500:
            return None
        return WebPage(reply.status, title)

    def _unreached(self, outcome: NoReply, host: str) -> Exception:
        if outcome.kind == "garbled":
            return Again(BadReply(f"{host} gave no usable answer: {outcome.reason}."))
        verb = "No answer from" if outcome.connected else "No connection to"
        hint = outcome.hint or "Check the network, HTTPS_PROXY and the gateway address."
        error = NetworkError(f"{verb} {host}: {outcome.reason}.", hint=hint)
        return error if outcome.permanent else Again(error)

    def _cut(self, fault: str, too_large: bool) -> Exception:
        error = BadReply(f"The gateway's answer cannot be used: {fault}.")
        return error if too_large else Again(error)

    def _asked(self, reply: Reply) -> float | None:
        """Seconds that the reply asks to wait."""
        return wait_asked(reply.headers, self._transport.clock.wall())

    def _throttled(self, reply: Reply, error: ChromaError) -> Again:
        wait = self._asked(reply)
        self._transport.tell(Throttled(wait))
        return Again(error, wait=wait)


def _words_of(page: WebPage, host: str = "the gateway") -> str:
    kind = {3: "redirect"}.get(page.status // 100, "proxy" if page.status == 407 else "web page")
    said = f": {page.title}" if page.title else ""
    stop = "" if said.endswith((".", "!", "?")) else "."
    return f"A {kind} answered in place of {host} ({page.status}){said}{stop}"


def _in_the_way(page: WebPage, message: str) -> BadReply:
    """The error of something that is there and cannot be had because of this page."""
    error = BadReply(
        message,
        hint="Something on the way answers: sign in to the network, or check the proxy and the gateway "
        "address.",
    )
    error.page = page
    return error


def _failed_by_status(reply: Reply, document: Document) -> bool:
    """422 on a GET is a failed job, whatever the body says, if it came whole."""
    return reply.status == 422 and document.fault is None
