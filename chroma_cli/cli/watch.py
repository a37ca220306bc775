"""From events of the layers below to words: the spinner, the plain lines, ``-v``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chroma_cli import text
from chroma_cli.cli import render
from chroma_cli.cli.output import Output, Progress

if TYPE_CHECKING:
    from chroma_cli.gateway import events
    from chroma_cli.jobs import progress
    from chroma_cli.jobs.records import JobRow


class Watch:
    """The one observer of a run; ``progress`` is where a running job is shown, when there is such a place."""

    def __init__(self, output: Output, note_credits: Callable[[float], None]) -> None:
        self._output = output
        self._note_credits = note_credits
        self.progress: Progress | None = None

    def __call__(self, event: object) -> None:
        from chroma_cli.gateway import events

        if isinstance(event, events.Exchange):
            self._exchange(event)
        elif isinstance(event, events.Retrying):
            self._retrying(event)
        elif isinstance(event, events.CreditsSeen):
            self._note_credits(event.value)
        else:
            self._of_a_job(event)

    def _of_a_job(self, event: object) -> None:
        from chroma_cli.jobs import progress  # not for commands that only ask the gateway something

        if isinstance(event, progress.Warned):
            self._output.warning(event.words)
        elif isinstance(event, progress.StateChanged):
            self._changed(event.job)
        elif isinstance(event, progress.Waiting):
            self._waiting(event)

    def _exchange(self, event: events.Exchange) -> None:
        value = {
            "method": event.method,
            "path": event.path,
            "status": event.status,
            "ms": event.ms,
            "request_id": event.request_id,
            "error": event.error,
        }
        status = str(event.status) if event.status is not None else "no answer"
        words = f"{event.method} {event.path} -> {status} in {event.ms:.0f} ms"
        if event.request_id:
            words += f" ({event.request_id})"
        if event.error:
            words += f": {event.error}"
        self._output.http(value, words)

    def _retrying(self, event: events.Retrying) -> None:
        if self.progress is not None:
            self.progress.line(f"{event.reason.rstrip('.')}; trying again in {text.seconds(event.seconds)}")

    def _changed(self, job: JobRow) -> None:
        if self.progress is None or job.state in ("saved", "failed", "expired", "unknown"):
            return
        which = f" (request id {job.request_id})" if job.state == "queued" and job.request_id else ""
        self.progress.line(render.state_words(job.status) + which)

    def _waiting(self, event: progress.Waiting) -> None:
        if self.progress is not None:
            state = render.state_words(event.job.status)
            self.progress.update(
                f"{state} · {text.seconds(event.elapsed)} of about {text.seconds(event.typical)}"
            )
