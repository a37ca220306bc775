"""The manual page and the README's option reference, made from the command line's own description."""

from __future__ import annotations

from collections.abc import Iterable

from chroma_cli import __version__
from chroma_cli.cli.help import spelled, usage
from chroma_cli.cli.options import Opt
from chroma_cli.cli.surface import HELP, VERSION, CommandSpec, commands
from chroma_cli.errors import ExitCode

EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.ERROR: "anything else",
    ExitCode.USAGE: "wrong usage, parameters or addresses",
    ExitCode.AUTH: "the key is missing, refused, or not permitted",
    ExitCode.LIMIT: "not enough credits, or over a limit you set",
    ExitCode.RATE_LIMITED: "rate limited for longer than the deadline allows",
    ExitCode.FAILED: "the generation failed, content blocks included",
    ExitCode.NOT_FINISHED: "not finished (yet); the job goes on, its id is printed",
    ExitCode.NOT_FOUND: "not found, or expired; no recipe in the file",
    ExitCode.UNAVAILABLE: "no gateway, no network, no usable answer, or the outcome of a submit is unknown",
    ExitCode.OUTPUT: "the output could not be written where it was asked",
    ExitCode.SOME_FAILED: "some jobs of several failed",
    ExitCode.TERMINAL_LOST: "the terminal was lost",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}

VARIABLES = {
    "SEGMIND_API_KEY": "The key of the gateway.",
    "SEGMIND_API_KEY_FILE": "A file that holds the key.",
    "CHROMA_BASE_URL": "Another gateway address, as --base-url.",
    "CHROMA_SANDBOX": "1: use the gateway inside chroma, as --sandbox.",
    "CHROMA_NO_LEDGER": "1: do not use the job ledger, as --no-ledger.",
    "CHROMA_CONFIG": "Another config file.",
    "CHROMA_STATE_DIR": "Another folder for the ledger and the sandbox's world.",
    "HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE": "As usual; loopback never goes through a proxy.",
    "NO_COLOR, FORCE_COLOR, TERM, CI": "As usual.",
}


# --- the README ------------------------------------------------------------------------------------------


def reference() -> str:
    """Markdown: one table of options for each command."""
    parts = []
    for command in commands():
        parts += [f"### `{usage(command)}`", "", command.summary, ""]
        rows = [command.argument] if command.argument else []
        parts += ["| option | |", "| --- | --- |"]
        parts += [_row(option) for option in [*rows, *command.options]]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _row(option: Opt) -> str:
    return f"| `{spelled(option).replace('|', chr(92) + '|')}` | {_markdown(option.help)} |"


def _markdown(words: str) -> str:
    return words.replace("|", r"\|").replace("<", "&lt;").replace("_", r"\_").replace("*", r"\*")


# --- the manual page -------------------------------------------------------------------------------------


def man_page() -> str:
    """roff for man(1)."""
    lines = [
        f'.TH CHROMA 1 "" "chroma {__version__}" "User Commands"',
        ".SH NAME",
        r"chroma \- pictures from the hosted Chroma text\-to\-image model",
        ".SH SYNOPSIS",
        ".B chroma",
        r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        _roff(
            "Submits jobs to the gateway, waits for them, and saves the pictures. Every job is in a ledger"
            " before it is sent: whatever stops the program, chroma fetch --pending brings the rest home."
            " stdout is the result, stderr is everything else; with --json both carry JSON lines."
        ),
        ".SH OPTIONS",
        *_tagged((spelled(option), option.help) for option in (HELP, VERSION)),
        ".SH COMMANDS",
    ]
    for command in commands():
        lines += [f".SS {_roff(usage(command))}", _roff(command.summary)]
        lines += _tagged((spelled(option), option.help) for option in command.options)
        lines += _below(command)
    lines += [".SH EXIT STATUS", *_tagged((str(int(code)), words) for code, words in EXIT_CODES.items())]
    lines += [".SH ENVIRONMENT", *_tagged(VARIABLES.items())]
    return "\n".join(lines) + "\n"


def _tagged(pairs: Iterable[tuple[str, str]]) -> list[str]:
    lines = []
    for name, words in pairs:
        lines += [".TP", rf"\fB{_roff(name)}\fR", _roff(words)]
    return lines


def _below(command: CommandSpec) -> list[str]:
    lines = []
    for note in command.notes:
        lines += [".PP", _roff(note)] if isinstance(note, str) else _tagged([note])
    if command.examples:
        lines += [".PP", "Examples:"]
    for example in command.examples:
        lines += [".PP", ".RS 4", ".nf", _roff(example), ".fi", ".RE"]
    return lines


def _roff(words: str) -> str:
    text = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return "\n".join(r"\&" + line if line.startswith(".") else line for line in text.split("\n"))
