"""``chroma completion``: completion scripts, and the changing words that they ask for."""

from __future__ import annotations

from chroma_cli import text
from chroma_cli.cli import render
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes
from chroma_cli.errors import InvalidParameters, Problem, UsageError

_SHELLS = ("bash", "zsh", "fish")
_LISTS = ("ids", "presets")
_MOST = 100

EXAMPLES = (
    "chroma completion bash > ~/.local/share/bash-completion/completions/chroma",
    "chroma completion fish > ~/.config/fish/completions/chroma.fish",
    'chroma completion zsh > "${fpath[1]}/_chroma"',
)

_OWN = (
    Opt("shell", (), "bash, zsh or fish.", choices=_SHELLS, metavar="[SHELL]"),
    Opt("values", ("--values",), "What a script asks for: ids or presets.", metavar="WORD", hidden=True),
)


@takes(_OWN)
def completion(run: Run) -> None:
    """Print the completion script for a shell."""
    shell, values = run.given["shell"], run.given["values"]
    if values is not None:
        _check("--values", values, _LISTS)
        _list(run, values)
        return
    if shell is None:
        raise UsageError("Name a shell: bash, zsh or fish.")
    _check("SHELL", shell, _SHELLS)
    from chroma_cli.cli import shells

    script = shells.script(shell)
    if run.output.json:
        run.output.result("", {"shell": shell, "script": script})
    else:
        run.output.page(script.rstrip("\n"))


def _check(where: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InvalidParameters([Problem(where, f"{given!r} is none of {', '.join(known)}")])


def _list(run: Run, what: str) -> None:
    """One line each: the word, a tab, its description. What cannot be read completes to nothing."""
    if what == "presets":
        for one in sorted(run.presets.values(), key=lambda preset: preset.name):
            run.output.result(f"{text.one_line(one.name)}\t{text.one_line(one.about or one.source)}")
        return
    if run.settings.no_ledger.value or run.settings.known_state_dir is None:
        return
    from chroma_cli.jobs.ledger import glance

    # a glance: opening the ledger reports lost jobs once, and a completion's words are thrown away
    for job in glance(run.settings.ledger_path, _MOST):
        prompt = text.shortened(text.one_line(str((job.request or {}).get("prompt", ""))), 50)
        word = job.request_id or str(job.number)
        run.output.result(f"{word}\t{render.state_words(job.status)}: {prompt}")
