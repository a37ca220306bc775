"""Whether money went in one run, and for which job: known in one place, whatever the run ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chroma_cli.errors import Charged, together

if TYPE_CHECKING:
    from chroma_cli.jobs.records import JobRow


class Spending:
    """Remembers how the jobs stand that one run has begun or works on. May be used by several threads."""

    def __init__(self) -> None:
        self._charged: dict[str, Charged] = {}
        self._last: JobRow | None = None

    def works_on(self, job: JobRow) -> None:
        """Count this job as one of the run from here on."""
        self._charged[job.token] = job.charged
        self._last = job

    def heard(self, job: JobRow) -> None:
        """Take note of how a job stands now, if it is one of the run."""
        if job.token in self._charged:
            self.works_on(job)

    @property
    def charged(self) -> Charged:
        """Whether the run cost money; unknown while a job goes on that is charged when it completes."""
        return together(list(self._charged.values()))

    @property
    def only_job(self) -> JobRow | None:
        """The job of the run as it was left, if there was just one."""
        return self._last if len(self._charged) == 1 else None
