"""``chroma credits``: the balance of the account."""

from __future__ import annotations

from dataclasses import dataclass

from chroma_cli import text
from chroma_cli.cli import options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.clock import Deadline, utc_text
from chroma_cli.errors import (
    AuthError,
    BadReply,
    ChromaError,
    InvalidParameters,
    NotEnoughCredits,
    Problem,
    UsageError,
)

_OWN = (Opt("min", ("--min",), "Exit 4 when there is less than this.", metavar="N"),)


@takes(_OWN, options.NO_LEDGER, options.GATEWAY)
def credits(run: Run) -> None:
    """Show the balance; with --min, exit 4 below it, 9 when not known."""
    least = _least(run.given["min"])
    found = _balance(run)
    value = {
        "credits": found.paid,
        "free_credits": found.free,
        "total": found.total,
        "source": found.source,
        "as_of": utc_text(found.at),
    }
    lines = {"credits": found.paid, "free credits": found.free, "total": found.total}
    if run.output.json:
        run.output.result("", value)
    else:
        for name, amount in lines.items():
            if amount is not None or found.source == "account":  # a header tells one number
                run.output.result(f"{name}: {_shown(amount)}")
    if least is None:
        return
    if found.total is None:
        raise BadReply(
            f"The gateway's answer does not tell the whole balance, so it is not known whether it is at least"
            f" {_shown(least)}.",
            hint="See what it tells with: chroma credits --json",
        )
    if found.total < least:
        raise NotEnoughCredits(f"The balance is {_shown(found.total)}, below {_shown(least)}.")


@dataclass(frozen=True)
class _Balance:
    paid: float | None
    free: float | None
    total: float | None
    source: str
    at: float


def _balance(run: Run) -> _Balance:
    """From the account route; where that fails, what a reply's header said last, with its age."""
    from chroma_cli.gateway.client import DEFAULT_SECONDS

    try:
        found = run.client.credits(Deadline(run.clock, DEFAULT_SECONDS))
    except (AuthError, UsageError):
        raise
    except ChromaError as error:
        seen = run.book.last_credits(run.gateway_name)
        if seen is None:
            raise
        age = text.seconds(max(0.0, run.clock.wall() - seen.at))
        said = text.sentence(error.message)
        run.output.warning(f"{said} This is the balance that a reply named {age} ago.")
        return _Balance(seen.value, None, seen.value, "header", seen.at)
    return _Balance(found.credits, found.free_credits, found.total, "account", run.clock.wall())


def _shown(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.6f}".rstrip("0").rstrip(".")


def _least(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        least = float(given)
    except ValueError:
        least = -1.0
    if not 0 <= least < 1e12:
        raise InvalidParameters([Problem("--min", f"{given!r} is not an amount of 0 or more")])
    return least
