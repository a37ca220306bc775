"""The options that commands share, and the decorator that hands them over.

A command names groups of options instead of repeating thirty parameters; the picture's options are made from
the schema table. All of their values reach the builder as text, so that Typer never stops at a bad one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chroma_cli.errors import stopped
from chroma_cli.request import schema
from chroma_cli.request.schema import Parameter

if TYPE_CHECKING:
    from chroma_cli.cli.context import Run

PICTURE_PANEL: Final = "Picture"
OUTPUT_PANEL: Final = "Output"
RUN_PANEL: Final = "Run"

#: What a command is: it gets the run, with everything given in ``run.given``.
Command = Callable[["Run"], None]


@dataclass(frozen=True)
class Opt:
    """One option, or an argument where ``flags`` is empty."""

    name: str
    flags: tuple[str, ...]
    help: str
    type: Any = str
    default: Any = None
    metavar: str | None = None
    panel: str = RUN_PANEL
    hidden: bool = False
    #: For completion: fixed words, or what changes ("ids", "presets", "files").
    choices: tuple[str, ...] = ()
    complete: str = ""
    #: The help in one sentence, where the whole of it is longer.
    short_help: str = ""

    @property
    def takes_value(self) -> bool:
        return bool(self.flags) and self.type is not bool

    @property
    def brief(self) -> str:
        return self.short_help or self.help

    def parameter(self) -> inspect.Parameter:
        """The Typer parameter that this is."""
        info: Any
        if self.flags:
            info = typer.Option(*self.flags, metavar=self.metavar, hidden=self.hidden)
        else:
            info = typer.Argument(metavar=self.metavar)
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(
            self.name, kind, default=self.default, annotation=Annotated[self.type | None, info]
        )


def _picture_option(parameter: Parameter) -> Opt:
    """An option of the picture from its row of the table: meaning, range or choices, default, advice."""
    short = {"negative_prompt": ("-n",), "aspect": ("-a",)}.get(parameter.option, ())
    flags = (f"--{parameter.flag[2:]}/--no-{parameter.flag[2:]}",) if parameter.kind == "boolean" else ()
    facts = []
    if parameter.kind in ("integer", "number"):
        facts.append(parameter.allowed())
    elif parameter.kind == "choice" and parameter is not schema.ASPECT_RATIO:
        facts.append("choices: " + ", ".join(parameter.choices))
    if parameter.default is not None and parameter.kind != "boolean":
        facts.append(f"default: {parameter.default}")
    metavar = {"integer": "N", "number": "X", "text": "TEXT", "choice": "NAME"}.get(parameter.kind)
    return Opt(
        parameter.option,
        flags or (parameter.flag, *short),
        " ".join([parameter.help, *(f"{_sentence(one)}." for one in (*facts, parameter.advice) if one)]),
        type=bool if parameter.kind == "boolean" else str,
        metavar={"seed": "N|random", "aspect": "RATIO"}.get(parameter.option, metavar),
        panel=PICTURE_PANEL,
        choices=_words(parameter),
        short_help=parameter.help,
    )


def _words(parameter: Parameter) -> tuple[str, ...]:
    """What may be completed: the choices, for the aspect in their short spelling."""
    if parameter is schema.ASPECT_RATIO:
        return (
            *(word for word, _ in parameter.aliases),
            *(one.ratio for one in schema.ASPECTS),
            schema.CUSTOM,
        )
    return (schema.SEED_RANDOM,) if parameter is schema.SEED else parameter.choices


def _sentence(words: str) -> str:
    """With a capital, unless it begins with a name that is written small."""
    first = words.split(",")[0].split(" ")[0]
    names = {name for parameter in schema.PARAMETERS for name in parameter.choices}
    return words if first in names else words[:1].upper() + words[1:]


@cache
def picture() -> tuple[Opt, ...]:
    """All options that describe the picture, in the order of the gateway's page."""
    options = [_picture_option(p) for p in schema.PARAMETERS if p is not schema.PROMPT]
    after_aspect = [one.name for one in options].index("aspect") + 1
    options.insert(
        after_aspect,
        Opt("size", ("--size",), "Size in pixels, like 1536x1024.", metavar="WxH", panel=PICTURE_PANEL),
    )
    options.insert(
        0,
        Opt(
            "preset",
            ("-p", "--preset"),
            "A named set of defaults; options beside it win. See: chroma presets",
            metavar="NAME",
            panel=PICTURE_PANEL,
            complete="presets",
        ),
    )
    return tuple(options)


PROMPT: Final = (
    Opt("prompt", (), "What the picture shows; - reads it from stdin.", metavar="[PROMPT]"),
    Opt(
        "prompt_file",
        ("--prompt-file",),
        "Read the prompt from a file (UTF-8).",
        metavar="FILE",
        panel=PICTURE_PANEL,
        complete="files",
    ),
)
OUTPUT: Final = (
    Opt(
        "output",
        ("-o", "--output"),
        "File, folder, template, or - for stdout. Default: {slug}-{seed}.{ext} here.",
        metavar="PLACE",
        panel=OUTPUT_PANEL,
        complete="files",
    ),
    Opt("overwrite", ("--overwrite",), "Replace a file that exists.", bool, False, panel=OUTPUT_PANEL),
)
NO_METADATA: Final = (
    Opt(
        "no_metadata",
        ("--no-metadata",),
        "Write no recipe into the picture.",
        bool,
        False,
        panel=OUTPUT_PANEL,
    ),
)
PREVIEW: Final = (
    Opt("preview", ("--preview",), "Show the picture in the terminal.", bool, False, panel=OUTPUT_PANEL),
)
_PAGE_OVERWRITE: Final = (
    Opt("overwrite", ("--overwrite",), "Replace a file that exists.", bool, False, panel=OUTPUT_PANEL),
)
SHEET_OUTPUT: Final = (
    Opt(
        "output",
        ("-o", "--output"),
        "The sheet: a .png, .jpg or .webp file. Default: sheet.png",
        metavar="FILE",
        panel=OUTPUT_PANEL,
        complete="files",
    ),
    *_PAGE_OVERWRITE,
)
PAGE_OUTPUT: Final = (
    Opt(
        "output",
        ("-o", "--output"),
        "The page. Default: index.html in the folder, made anew each time.",
        metavar="FILE",
        panel=OUTPUT_PANEL,
        complete="files",
    ),
    *_PAGE_OVERWRITE,
)
FROM: Final = (
    Opt(
        "origin",
        ("--from",),
        "Start from the recipe of a picture, or of a job; options beside it win.",
        metavar="FILE|ID",
        panel=PICTURE_PANEL,
        complete="files",
    ),
)
OPEN: Final = (Opt("open", ("--open",), "Show the picture in the viewer.", bool, False, panel=OUTPUT_PANEL),)
TIMEOUT: Final = (
    Opt(
        "timeout",
        ("--timeout",),
        "Give up waiting after this long; the job goes on. Default: 600.",
        metavar="S",
    ),
)
YES: Final = (Opt("yes", ("-y", "--yes"), "Do not ask before large orders.", bool, False),)
NO_LEDGER: Final = (Opt("no_ledger", ("--no-ledger",), "Do not use the job ledger.", bool, False),)
SPENDING: Final = (
    *NO_LEDGER,
    Opt(
        "resubmit_unknown",
        ("--resubmit-unknown",),
        "Send again when no answer says whether the submit arrived; may pay twice.",
        bool,
        False,
    ),
)
BASE_URL: Final = (Opt("base_url", ("--base-url",), "Another gateway address.", metavar="URL"),)
GATEWAY: Final = (
    *BASE_URL,
    Opt("sandbox", ("--sandbox",), "Use the gateway inside chroma: no key, no cost.", bool, False),
)
COMMON: Final = (
    Opt("json", ("--json",), "JSON lines on stdout and stderr.", bool, False),
    Opt("quiet", ("-q", "--quiet"), "Only results and errors.", bool, False),
    Opt("verbose", ("-v", "--verbose"), "Show each HTTP exchange.", bool, False),
    Opt("debug", ("--debug",), "Show a traceback with an error.", bool, False),
)


def takes(*groups: Sequence[Opt]) -> Callable[[Command], Command]:
    """Declare which groups of options a command takes; the common ones come by themselves."""

    def declare(command: Command) -> Command:
        command.options = [one for group in (*groups, COMMON) for one in group]  # type: ignore[attr-defined]
        return command

    return declare


def bind(command: Command, run: Run, show_help: Callable[[bool], None]) -> Callable[..., None]:
    """``command`` as Typer wants it: a function with one parameter for each option, working on ``run``."""
    parameters = [one.parameter() for one in command.options]  # type: ignore[attr-defined]
    asked = typer.Option("-h", "--help", is_eager=True, callback=show_help)
    parameters.append(
        inspect.Parameter(
            "help", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, asked]
        )
    )

    def call(**given: Any) -> None:
        del given["help"]
        run.take(given)
        try:
            command(run)
        except KeyboardInterrupt as stop:  # Typer would end the program with 130 and without a word
            raise stopped(stop) from None

    call.__doc__ = command.__doc__
    call.__name__ = command.__name__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call
