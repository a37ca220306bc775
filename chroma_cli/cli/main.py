"""The app. ``main(argv)`` is the one place that turns errors into words and exit codes.

Only the command that was named is imported and registered, which keeps the start quick; ``--version`` is
answered without Typer.
"""

from __future__ import annotations

import gc
import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from chroma_cli import __version__, settings
from chroma_cli.cli import signals
from chroma_cli.errors import (
    ChromaError,
    Interrupted,
    UsageError,
    stopped,
    unexpected,
)

if TYPE_CHECKING:
    import typer

    from chroma_cli.cli.context import Run


class Place(NamedTuple):
    """Where a command is: its module below ``commands`` (its function too), and its group in help."""

    module: str
    group: str


_PICTURES: Final = "Make pictures"
_LOOK: Final = "Look at pictures"
_JOBS: Final = "Look after jobs and money"
_SETTINGS: Final = "Set up and practise"

COMMANDS: Final[Mapping[str, Place]] = {
    "generate": Place("generate", _PICTURES),
    "submit": Place("submit", _PICTURES),
    "fetch": Place("fetch", _PICTURES),
    "batch": Place("batch", _PICTURES),
    "presets": Place("presets", _PICTURES),
    "inspect": Place("inspect", _LOOK),
    "sheet": Place("sheet", _LOOK),
    "gallery": Place("gallery", _LOOK),
    "status": Place("status", _JOBS),
    "jobs": Place("jobs", _JOBS),
    "credits": Place("credits", _JOBS),
    "login": Place("login", _SETTINGS),
    "logout": Place("logout", _SETTINGS),
    "config": Place("config", _SETTINGS),
    "completion": Place("completion", _SETTINGS),
    "sandbox": Place("sandbox", _SETTINGS),
}


def entry() -> None:
    """The console script."""
    # what is read from a manifest of a thousand images stays alive: a search for garbage finds none in it
    gc.set_threshold(20_000)
    code = main(sys.argv[1:])
    if threading.current_thread() is threading.main_thread():
        signals.ignore_late_ones()
        if hasattr(gc, "freeze"):  # nor a last search through all that is loaded for what could be freed
            gc.freeze()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises, whatever happens below."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if args in (["--version"], ["-V"]):
            return _version()
        with signals.as_exceptions():
            return _main(args)
    except KeyboardInterrupt as stop:  # again, while the first one was being answered; or at the very start
        return int(stopped(stop).exit_code)


def _main(args: list[str]) -> int:
    from chroma_cli.cli.context import Run

    env = settings.environment()
    run = Run(env, args)
    try:
        code = _attempt(run, lambda: _dispatch(args, run))
        closed = _attempt(run, run.close)
        return code or closed
    finally:
        run.output.close()


def _attempt(run: Run, work: Callable[[], int]) -> int:
    """The exit code of this work; how it ended, where that was not well, is told."""
    try:
        return work()
    except ChromaError as error:
        return _end(run, error)
    except KeyboardInterrupt as stop:
        return _end(run, stopped(stop))
    except Exception as bug:  # the last resort: a bug becomes an honest error, not a traceback
        return _end(run, unexpected(bug))


def _version() -> int:
    from chroma_cli.cli.output import Output

    terminal = settings.Settings(settings.environment()).terminal
    output = Output(terminal, json=False, quiet=False, verbose=False, debug=False)
    try:
        output.result(f"chroma {__version__}")
    except ChromaError as error:
        output.error(error)
        return int(error.exit_code)
    finally:
        output.close()
    return 0


def _end(run: Run, error: ChromaError) -> int:
    run.complete(error)
    run.output.error(error)
    return int(error.exit_code)


def _dispatch(args: list[str], run: Run) -> int:
    import typer

    if not args:
        raise UsageError(f"Name a command: {', '.join(COMMANDS)}.", hint=_usage_hint(args))
    app = make_app(run, _named(args))
    try:
        code = app(args=args, prog_name="chroma", standalone_mode=False)
    except typer.Abort as abort:
        if isinstance(abort.__cause__, EOFError):  # no Ctrl-D at a question: a file that ends too early
            raise abort.__cause__ from None
        raise Interrupted("Interrupted.") from None
    except typer.TyperException as error:
        raise UsageError(error.format_message(), hint=_usage_hint(args)) from error
    run.farewell()
    return code if isinstance(code, int) else int(run.exit_code)


def _usage_hint(args: Sequence[str]) -> str:
    named = _named(args)
    return f"Try: chroma {named} --help" if named else "Try: chroma --help"


def _named(args: Sequence[str]) -> str | None:
    """The command that ``args`` name first, if it is one."""
    first = args[0] if args else None
    return first if first in COMMANDS else None


def make_app(run: Run, only: str | None = None) -> typer.Typer:
    """The Typer app with all commands, or with the one that is to run."""
    import typer

    from chroma_cli.cli.options import bind

    app = typer.Typer(
        name="chroma",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": []},  # --help is an option of our own
    )

    def version(value: bool) -> None:
        if value:
            raise typer.Exit(_version())

    @app.callback()
    def root(
        version: bool = typer.Option(False, "-V", "--version", is_eager=True, callback=version),
        help: bool = typer.Option(False, "-h", "--help", is_eager=True, callback=_helper(run, None)),
    ) -> None: ...

    for name in [only] if only else COMMANDS:
        place = COMMANDS[name]
        module = importlib.import_module(f"chroma_cli.cli.commands.{place.module}")
        app.command(name)(bind(getattr(module, place.module), run, _helper(run, name)))
    return app


def _helper(run: Run, name: str | None) -> Callable[[bool], None]:
    """What ``--help`` does, in the command ``name`` or before any."""

    def show(value: bool) -> None:
        if not value:
            return
        import typer

        from chroma_cli.cli import help, surface

        columns, bold = run.output.columns(cut=True), run.output.bold
        if name is None:
            page = help.overview(surface.commands(), columns, bold=bold)
        else:
            page = help.command(surface.command(name), columns, bold=bold)
        run.output.page(page)
        raise typer.Exit(0)

    return show
