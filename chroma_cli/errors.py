"""Everything that can go wrong, as one tree, with its exit code and its advice.

A :class:`ChromaError` says what happened (``message``), what to do next (``hint``), which exit code the
program ends with, and whether money went (``charged``). ``cli.main`` is the one place that turns one into
words and a status; everything below it only raises.
"""

from __future__ import annotations

import dataclasses
import errno
import signal
from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What went wrong, as the process status."""

    OK = 0
    ERROR = 1
    USAGE = 2
    AUTH = 3
    LIMIT = 4
    RATE_LIMITED = 5
    FAILED = 6
    NOT_FINISHED = 7
    NOT_FOUND = 8
    UNAVAILABLE = 9
    OUTPUT = 10
    SOME_FAILED = 11
    TERMINAL_LOST = 129
    INTERRUPTED = 130
    TERMINATED = 143


class Charged(StrEnum):
    """Whether money went for the job that an error is about."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class WebPage:
    """A page or a redirect that came in place of the gateway's answer: from a sign-in portal, a firewall.

    ``title`` is harmless text, "" for a page without one.
    """

    status: int
    title: str


def together(charged: Iterable[Charged]) -> Charged:
    """Return whether money went for any of several jobs; unknown as soon as it is for one."""
    found = set(charged)
    return next((one for one in (Charged.UNKNOWN, Charged.YES) if one in found), Charged.NO)


class ChromaError(Exception):
    """The root: never raised itself, always one of its children.

    ``lines`` are the message; one that tells of several things has a line for each.

    ``request_id`` and ``job`` name the job it is about, when there is one; whoever knows them fills them in
    on the way up (see :meth:`about`). An error that is raised without ``charged`` knows nothing of money: it
    reads as "no" until someone who knows more says otherwise, at the latest ``cli.main`` for the whole run.
    """

    exit_code: int = ExitCode.ERROR
    type: ClassVar[str] = "error"
    default_hint: ClassVar[str | None] = None

    def __init__(
        self,
        *lines: str,
        hint: str | None = None,
        request_id: str | None = None,
        job: int | None = None,
        charged: Charged | None = None,
    ) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.hint = hint if hint is not None else self.default_hint
        self.request_id = request_id
        self.job = job
        self._charged = charged
        #: The job as it was left, for the JSON of the job itself.
        self.record: Any = None
        #: The page that answered in the gateway's place, when one did.
        self.page: WebPage | None = None

    @property
    def message(self) -> str:
        return "\n".join(self.lines)

    @message.setter
    def message(self, words: str) -> None:
        self.lines, self.args = (words,), (words,)

    @property
    def charged(self) -> Charged:
        return self._charged or Charged.NO

    @charged.setter
    def charged(self, charged: Charged) -> None:
        self._charged = charged

    @property
    def knows_money(self) -> bool:
        """Whether somebody has said what this means for money."""
        return self._charged is not None

    def about(self, *, request_id: str | None = None, job: int | None = None) -> None:
        """Fill in which job this is about, where that is not known yet."""
        self.request_id = self.request_id or request_id
        self.job = self.job if self.job is not None else job

    def as_dict(self) -> dict[str, Any]:
        """The error object of the JSON contract."""
        return {
            "type": self.type,
            "message": self.message,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
            "request_id": self.request_id,
            "job": self.job,
            "charged": str(self.charged),
        }


# --- 1: anything else ------------------------------------------------------------------------------------


class Declined(ChromaError):
    """A person said no to a question."""

    type = "declined"


class LedgerRequired(ChromaError):
    """What is asked for is in the job ledger alone, and that is switched off."""

    type = "no_ledger"


class InternalError(ChromaError):
    """A bug of ours, caught at the very top."""

    type = "internal"
    default_hint = "This is a bug in chroma. Run it again with --debug and report what it prints."


class OutOfResources(ChromaError):
    """The machine, or a limit on this process, gives no more memory, threads or open files."""

    type = "out_of_resources"


def unexpected(bug: Exception) -> ChromaError:
    """Return the error for an exception that nobody foresaw."""
    if isinstance(bug, ChromaError):
        return bug
    error: ChromaError
    words = str(bug)
    if isinstance(bug, MemoryError) or "can't allocate lock" in words or "failed to map segment" in words:
        error = OutOfResources("There is not enough memory.", hint="Allow more memory, or use fewer --jobs.")
    elif isinstance(bug, RuntimeError) and "start new thread" in words:
        error = OutOfResources(
            "The system allows no more threads.",
            hint="Allow more processes or memory (ulimit -u, ulimit -v).",
        )
    elif isinstance(bug, OSError) and bug.errno in (errno.EMFILE, errno.ENFILE):
        error = OutOfResources("No more files may be open.", hint="Allow more of them (ulimit -n).")
    elif isinstance(bug, FileNotFoundError) and bug.filename is None:  # as only the working folder has it
        error = OutputError("The working folder is gone.", hint="Change to a folder that is there.")
    else:
        error = InternalError(f"{type(bug).__name__}: {words}")
    error.__cause__ = bug
    return error


# --- 2: wrong usage --------------------------------------------------------------------------------------


class UsageError(ChromaError):
    """The call itself is wrong: nothing was sent."""

    exit_code = ExitCode.USAGE
    type = "usage"


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing wrong with one value: where it stood, what was given, what is allowed."""

    where: str
    what: str
    suggestion: str | None = None

    def __str__(self) -> str:
        end = f". Did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"{self.where}: {self.what}{end}"


class InvalidParameters(UsageError):
    """One or more values are not allowed; ``problems`` holds every one of them."""

    type = "invalid_parameters"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(*map(str, self.problems), hint=hint)


class ConfigError(UsageError):
    """The config file cannot be used as it is."""

    type = "config"


class NoHome(UsageError):
    """There is no place for what is kept between runs."""

    type = "no_home"


class RequestRejected(UsageError):
    """The gateway refused the request body (400, 422 on a POST, 406 that names a parameter)."""

    type = "request_rejected"


class WrongAddress(UsageError):
    """What answered is not the gateway, or not at this address (405, a redirect)."""

    type = "wrong_address"
    default_hint = "Check --base-url, CHROMA_BASE_URL and base_url in the config file."


# --- 3: the key ------------------------------------------------------------------------------------------


class AuthError(ChromaError):
    """The key is missing, unusable, refused, or not permitted to do this."""

    exit_code = ExitCode.AUTH
    type = "auth"


class KeyMissing(AuthError):
    type = "key_missing"
    default_hint = (
        "Set SEGMIND_API_KEY, or name a file that holds the key in SEGMIND_API_KEY_FILE. "
        "To try chroma without a key, add --sandbox."
    )


class KeyRefused(AuthError):
    type = "key_refused"


class NotPermitted(AuthError):
    type = "not_permitted"


# --- 4: money --------------------------------------------------------------------------------------------


class LimitError(ChromaError):
    """Not enough credits, or over a limit that the user set."""

    exit_code = ExitCode.LIMIT
    type = "limit"


class NotEnoughCredits(LimitError):
    type = "not_enough_credits"
    default_hint = "Top up the account, or check it with: chroma credits"


# --- 5 to 8: the job -------------------------------------------------------------------------------------


class RateLimited(ChromaError):
    """429 for longer than the deadline allows."""

    exit_code = ExitCode.RATE_LIMITED
    type = "rate_limited"


class GenerationFailed(ChromaError):
    """The job ended as FAILED; content blocks included. Nothing is charged."""

    exit_code = ExitCode.FAILED
    type = "generation_failed"


class NotFinished(ChromaError):
    """The deadline passed while the job goes on."""

    exit_code = ExitCode.NOT_FINISHED
    type = "not_finished"


class NotFound(ChromaError):
    """No such request, model or file; or it has expired.

    ``answered_at``: when that was said, by the clock of who said it, in seconds since the epoch.
    """

    exit_code = ExitCode.NOT_FOUND
    type = "not_found"
    answered_at: float | None = None


class Expired(NotFound):
    type = "expired"


class Retired(NotFound):
    """410: the model is gone."""

    type = "retired"


# --- 9: the other side -----------------------------------------------------------------------------------


class Unavailable(ChromaError):
    """Gateway or network gave no usable answer."""

    exit_code = ExitCode.UNAVAILABLE
    type = "unavailable"


class NetworkError(Unavailable):
    """No connection, or it broke."""

    type = "network"


class ServerError(Unavailable):
    """The gateway, or a proxy before it, answered 5xx."""

    type = "server"


class BadReply(Unavailable):
    """An answer that makes no sense: not JSON, wrong shape, too large, no picture in it."""

    type = "bad_reply"


class BrokenImage(BadReply):
    """The bytes that came are not a whole picture, or a larger one than is accepted."""

    type = "broken_image"


class OutcomeUnknown(Unavailable):
    """A submit went out and no usable answer came: the job may or may not exist."""

    type = "outcome_unknown"

    def __init__(self, message: str, **more: Any) -> None:
        more.setdefault("charged", Charged.UNKNOWN)
        super().__init__(message, **more)


# --- 10, 11: the output, and several jobs ----------------------------------------------------------------


class OutputError(ChromaError):
    """The picture could not be written where it was asked.

    ``rescued`` is the path where the finished picture was left instead, when there is one.
    """

    exit_code = ExitCode.OUTPUT
    type = "output"

    def __init__(self, *lines: str, rescued: str | None = None, **more: Any) -> None:
        self.rescued = rescued
        super().__init__(*lines, **more)


class OutputExists(OutputError):
    type = "output_exists"
    default_hint = "Add --overwrite to replace it, or choose another name with -o."


class SomeFailed(ChromaError):
    """Several jobs, of which some did not end well."""

    exit_code = ExitCode.SOME_FAILED
    type = "some_failed"


class SomeUnfinished(ChromaError):
    """Several jobs, of which some are not finished and none failed."""

    exit_code = ExitCode.NOT_FINISHED
    type = "some_unfinished"


# --- 129, 130, 143: stopped from outside ------------------------------------------------------------------


class TerminalLost(ChromaError):
    exit_code = ExitCode.TERMINAL_LOST
    type = "terminal_lost"


class Interrupted(ChromaError):
    exit_code = ExitCode.INTERRUPTED
    type = "interrupted"


class Terminated(ChromaError):
    """By SIGTERM; a rarer signal (SIGUSR1, SIGXCPU …) gives it an exit code of its own."""

    exit_code = ExitCode.TERMINATED
    type = "terminated"


class TerminationRequest(KeyboardInterrupt):
    """SIGTERM, or the signal of another ``number``, raised by the signal handler; a KeyboardInterrupt so that
    nothing swallows it."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


def stopped(stop: KeyboardInterrupt, words: str = ".", **more: Any) -> ChromaError:
    """Return the error for a program that a signal has ended, with the exit code that shells give: 128 and
    the signal's number. ``words`` follow "Interrupted", "Terminated" or "Terminal lost"."""
    number = stop.number if isinstance(stop, TerminationRequest) else signal.SIGINT
    named: dict[int, tuple[type[ChromaError], str]] = {
        129: (TerminalLost, "Terminal lost"),
        130: (Interrupted, "Interrupted"),
        143: (Terminated, "Terminated"),
    }
    rare = (Terminated, f"Terminated by {signal.Signals(number).name}")
    kind, word = named.get(128 + number, rare)
    error = kind(f"{word}{words}", **more)
    error.exit_code = 128 + number
    return error
