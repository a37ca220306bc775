"""How the polls of one job are paced: its age, what was seen of it, and when it is to be asked next."""

from __future__ import annotations

from typing import Final

from chroma_cli.clock import Clock
from chroma_cli.errors import NotFound
from chroma_cli.jobs import polling
from chroma_cli.jobs.records import RESULT_SECONDS, JobRow

#: A 404 this soon after the submit is a gateway that has not caught up with itself (seconds).
SETTLING: Final = 5.0
#: So soon a job is asked for again that is not known, or not known yet (seconds).
_ASK_AGAIN: Final = 1.0
#: Between two signs of life in the ledger, for those who look from other hosts (seconds).
_HEARTBEAT: Final = 60.0


class Pace:
    """How long to wait before the next poll of one job, by its age and what was seen of it."""

    def __init__(self, clock: Clock, job: JobRow, expected: polling.Expectation) -> None:
        self.expected = expected
        self._clock = clock
        self._start = clock.monotonic()
        self.age_known = job.submitted_at is not None
        # submitted elsewhere: if it is not done yet it may have been submitted just now
        age = clock.wall() - job.submitted_at if job.submitted_at is not None else 0.0
        # the wall clock may have jumped; a job older than its record is as good as one hour old
        self._before = min(max(age, 0.0), RESULT_SECONDS)
        self._begun = polling.NOT_SEEN
        self._queued_at = 0.0
        self._running = job.state == "processing"
        self.asked = self.age_known and self._before < 1.0
        self._beat = self._start
        #: The 404 that was the last answer, while it may only mean that the job is too new.
        self.missing: NotFound | None = None

    @property
    def settling(self) -> bool:
        """Whether a gateway may not know the job yet."""
        return self.age_known and self.since_submit < SETTLING

    @property
    def since_submit(self) -> float:
        return self._before + self._clock.monotonic() - self._start

    def next_wait(self, in_flight: int = 1) -> float:
        """Return the seconds until the next poll, when so many jobs are in flight."""
        if not self.asked:  # taken up later: the first question comes at once
            self.asked = True
            return 0.0
        planned = polling.next_poll(self.expected, self.since_submit, self._begun, in_flight=in_flight)
        return planned if self.missing is None else min(planned, _ASK_AGAIN)

    def saw(self, state: str) -> None:
        if state == "queued":
            self._queued_at = self.since_submit
        elif not self._running:
            self._running = True
            if self._queued_at:
                self._begun = polling.Begun(self._queued_at, self.since_submit)

    def heartbeat_due(self) -> bool:
        if self._clock.monotonic() - self._beat < _HEARTBEAT:
            return False
        self._beat = self._clock.monotonic()
        return True
