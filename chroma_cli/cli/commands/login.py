"""``chroma login``: check a key and keep it."""

from __future__ import annotations

import sys

from chroma_cli import credentials
from chroma_cli.cli import options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.clock import Deadline
from chroma_cli.errors import KeyMissing, NotFound, UsageError
from chroma_cli.settings import Key, clean_key

_OWN = (Opt("stdin", ("--stdin",), "Read the key from stdin instead of asking.", bool, False),)


@takes(_OWN, options.BASE_URL)
def login(run: Run) -> None:
    """Check an API key with the gateway and store it for this gateway."""
    settings = run.settings
    if settings.sandbox.value:
        raise UsageError(f"{settings.sandbox.source}: the sandbox needs no key.")
    state_dir = settings.state_dir
    key = Key(_read(run), "login")
    _check(run, key)
    base_url = str(settings.base_url.value)
    place = credentials.store(state_dir, base_url, key.text)
    run.output.result(
        f"{key.masked} stored in {place}", {"key": key.masked, "base_url": base_url, "stored": place}
    )
    winner = settings.key_variable
    if winner is not None:
        run.output.warning(f"{winner} is set and goes before the stored key.")


def _read(run: Run) -> str:
    if run.given["stdin"]:
        raw = sys.stdin.buffer.read(4096) if sys.stdin is not None else b""
        text = clean_key(raw.decode("utf-8", "replace"), "stdin")
    elif run.output.can_ask:
        text = clean_key(run.output.ask_secret("API key"), "the answer")
    else:
        raise UsageError(
            "There is no terminal to ask on.", hint="Pipe the key in: chroma login --stdin < key.txt"
        )
    if not text:
        raise KeyMissing("No key was given.", hint="It looks like SG_ and 16 hexadecimal digits.")
    return text


def _check(run: Run, key: Key) -> None:
    """With the account route, which costs nothing. An account without a balance record has a valid key."""
    from chroma_cli.gateway.client import DEFAULT_SECONDS

    client = run.client_for(key)
    try:
        found = client.credits(Deadline(run.clock, DEFAULT_SECONDS))
    except NotFound as error:
        if "no credits found" not in error.message.casefold():
            raise
        run.output.note("The key is valid; the account has no balance yet.")
        return
    balance = "unknown" if found.total is None else f"{found.total:g}"
    run.output.note(f"The key is valid; the balance is {balance}.")
