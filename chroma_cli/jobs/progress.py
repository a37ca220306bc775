"""What the steps of a job tell an observer while they go on, and what they give at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chroma_cli.jobs.records import JobRow

if TYPE_CHECKING:
    from chroma_cli.jobs.pictures import Saved


@dataclass(frozen=True)
class StateChanged:
    """The job is in another state; the row tells which."""

    job: JobRow


@dataclass(frozen=True)
class Waiting:
    """Still the same state after ``elapsed`` seconds of about ``typical``."""

    job: JobRow
    elapsed: float
    typical: float


@dataclass(frozen=True)
class Warned:
    """Something that the person should know, and that stops nothing."""

    words: str


@dataclass(frozen=True)
class Done:
    """A job that came home: its row, and the files of this run."""

    job: JobRow
    saved: tuple[Saved, ...] = ()
