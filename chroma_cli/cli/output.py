"""What a person or a script gets to see: stdout is the result, stderr everything else.

One sink with three manners (human, ``--json``, ``--quiet``), and the only importer of rich, which is loaded
for colour and for the spinner alone. Everything from outside passes through :mod:`chroma_cli.text`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from chroma_cli import text
from chroma_cli.errors import Charged, ChromaError, NotFinished, OutputError, UsageError
from chroma_cli.settings import Terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.status import Status

SCHEMA = 1


class Progress(Protocol):
    """What a long step tells while it goes on; ``update`` is called often, ``line`` once per change."""

    def update(self, words: str) -> None: ...

    def line(self, words: str) -> None: ...


class Board(Protocol):
    """Where many jobs stand, as a whole; ``words`` is what stands beside the bar."""

    def update(self, done: int, total: int, words: str) -> None: ...


class Output:
    """The sink of one run. ``configure`` is called once the options are known."""

    def __init__(self, terminal: Terminal, *, json: bool, quiet: bool, verbose: bool, debug: bool) -> None:
        self.terminal = terminal
        self._stdout: TextIO | None = sys.stdout
        self._stderr: TextIO | None = sys.stderr
        self._console: Console | None = None
        self._status: Status | None = None
        #: A live display is on; lines go above it, and stdout waits where it is the same terminal.
        self._board: _Bar | None = None
        self._held: list[bytes] = []
        #: The error that ends the run has been told: nothing comes after it.
        self._ended = False
        #: Who read stdout has stopped reading (``| head``), which is no error.
        self.reader_gone = False
        self.configure(json=json, quiet=quiet, verbose=verbose, debug=debug)

    def configure(self, *, json: bool, quiet: bool, verbose: bool, debug: bool) -> None:
        self.json, self.quiet, self.verbose, self.debug = json, quiet, verbose, debug

    # --- what the streams are ----------------------------------------------------------------------------

    @property
    def stdout_is_terminal(self) -> bool:
        return _is_terminal(self._stdout)

    @property
    def stderr_is_terminal(self) -> bool:
        return _is_terminal(self._stderr)

    @property
    def live(self) -> bool:
        """Whether a spinner may turn: a real terminal, and nobody asked for silence or for JSON."""
        return self.stderr_is_terminal and not (
            self.terminal.dumb or self.terminal.ci or self.quiet or self.json
        )

    @property
    def can_ask(self) -> bool:
        """Whether there is somebody to answer a question."""
        return _is_terminal(sys.stdin) and self.stderr_is_terminal and not self.json

    @property
    def colour(self) -> bool:
        if self.terminal.no_color or self.json:
            return False
        return self.terminal.force_color or (self.stderr_is_terminal and not self.terminal.dumb)

    @property
    def bold(self) -> bool:
        """Whether headings on stdout may be bold."""
        if self.terminal.no_color:
            return False
        return self.terminal.force_color or (self.stdout_is_terminal and not self.terminal.dumb)

    def columns(self, *, cut: bool = False) -> int:
        """How wide a table may be on this terminal. For anything else it is not cut, unless ``cut`` says so:
        then to 80 columns, or to what COLUMNS says."""
        import shutil

        if not (cut or self.stdout_is_terminal):
            return 1000
        return max(40, shutil.get_terminal_size((80, 24)).columns)

    # --- the result --------------------------------------------------------------------------------------

    def result(self, line: str, value: Mapping[str, Any] | None = None) -> None:
        """One line of the result in words: ``value`` as JSON with ``--json``, else ``line``."""
        if not self.json:
            self._put(text.plain(line).encode())
        elif value is not None:
            self._put(text.json_line({"schema": SCHEMA, **value}).encode())

    def path(self, path: str, value: Mapping[str, Any] | None = None) -> None:
        """One path of the result, byte for byte for scripts; escaped on a terminal, and where a CI system
        would obey it."""
        if self.json or self.stdout_is_terminal or text.is_obeyed(path):
            self.result(text.plain(path.replace("\n", "\\x0a")), value)
        else:
            self._put(os.fsencode(path))

    def page(self, words: str) -> None:
        """Lines of our own, as they are: help with and without ``--json``, a script."""
        self._put(words.encode())

    def result_json(self, value: Mapping[str, Any]) -> None:
        """A result that is JSON with and without ``--json``; spread out for a person at a terminal."""
        whole = {"schema": SCHEMA, **value}
        pretty = self.stdout_is_terminal and not self.json
        self._put((text.json_text(whole, indent=2) if pretty else text.json_line(whole)).encode())

    def binary_stdout(self) -> BinaryIO:
        """stdout for a picture's bytes. Raises :class:`OutputError` when it is closed."""
        return self.require_stdout("write the picture").buffer

    def require_stdout(self, to: str) -> TextIO:
        """stdout, for a result that is nowhere else. Raises :class:`OutputError` when it is closed."""
        if self._stdout is None:
            raise OutputError(f"stdout is closed: there is nowhere to {to}.")
        self._stdout.flush()
        return self._stdout

    def _put(self, line: bytes) -> None:
        if self._board is not None and self.stdout_is_terminal:
            self._held.append(line)
            return
        with self._out_of_the_way():
            self._write_stdout(line)

    def _write_stdout(self, line: bytes) -> None:
        if self._stdout is None:
            return
        try:
            self._stdout.flush()
            self._stdout.buffer.write(line + b"\n")
            self._stdout.buffer.flush()
        except BrokenPipeError:
            self._stdout, self.reader_gone = None, True
            _to_nowhere(sys.stdout)
        except OSError as error:
            self._stdout = None
            _to_nowhere(sys.stdout)
            said = line.decode("utf-8", "replace")
            raise OutputError(
                f"stdout cannot be written: {error.strerror}. It would have said: {said}"
            ) from error

    # --- everything else ---------------------------------------------------------------------------------

    def note(self, words: str) -> None:
        """Something good to know; people only."""
        if not (self.quiet or self.json):
            self._say(words)

    def warning(self, words: str) -> None:
        if self.quiet:
            return
        if self.json:
            self._say_json({"warning": words})
        else:
            self._say(words, label="warning", style="yellow")

    def trouble(self, words: str) -> None:
        """What went wrong with one of several jobs; not silenced by ``-q``."""
        if self.json:
            self._say_json({"warning": words})
        else:
            self._say(words, label="error", style="red")

    def http(self, exchange: Mapping[str, Any], words: str) -> None:
        """One HTTP exchange, with ``-v``."""
        if not self.verbose:
            return
        if self.json:
            self._say_json({"http": exchange})
        else:
            self._say(words, style="dim")

    def error(self, error: ChromaError) -> None:
        """The last words of a run that did not end well."""
        if self.debug:
            self._say_traceback(error)
        if self.json:
            self._say_json({"error": error.as_dict()})
        else:
            first, *others = error.lines
            self._say(first, label="error", style="red")
            for line in others:
                self._say(line)
            if error.hint:
                self._say(error.hint, label="hint", style="cyan")
            about = _about(error)
            if about:
                self._say(about)
        self._ended = True

    def _say_traceback(self, error: BaseException) -> None:
        import traceback

        words = "".join(traceback.format_exception(error)).rstrip()
        if self.json:
            self._say_json({"debug": words})
        else:
            self._say(words)

    def _say_json(self, value: Mapping[str, Any]) -> None:
        self._write_stderr(text.json_line({"schema": SCHEMA, **value}) + "\n")

    def _say(self, words: str, *, label: str = "", style: str = "") -> None:
        if self._ended:
            return
        words = text.block(words)
        if self.colour or self._board is not None or self._status is not None:
            self._say_coloured(words, label, style)
            return
        self._write_stderr((f"{label}: " if label else "") + words + "\n")

    def _say_coloured(self, words: str, label: str, style: str) -> None:
        from rich.text import Text

        line = Text()
        if label:
            line.append(f"{label}: ", style=f"bold {style}")
            line.append(words)
        else:
            line.append(words, style=style)
        with self._guarding_stderr():
            self.console.print(line, soft_wrap=True)

    def _write_stderr(self, words: str) -> None:
        with self._guarding_stderr():
            if self._stderr is None or self._ended:
                return
            encoding = self._stderr.encoding or "utf-8"
            data = words.encode("utf-8" if self.json else encoding, "backslashreplace")
            self._stderr.flush()
            self._stderr.buffer.write(data)
            self._stderr.buffer.flush()

    @contextlib.contextmanager
    def _guarding_stderr(self) -> Iterator[None]:
        """Nobody listening on stderr is no reason to fail."""
        try:
            yield
        except OSError:
            self._stderr = None
            _to_nowhere(sys.stderr)

    @property
    def console(self) -> Console:
        """rich's console on stderr; made on first use."""
        if self._console is None:
            from rich.console import Console

            class Steady(Console):
                """rich's own answer to a closed pipe ends the program, and a paid job with it."""

                def on_broken_pipe(self) -> None:
                    raise BrokenPipeError

            self._console = Steady(
                file=self._stderr,
                stderr=True,
                highlight=False,
                markup=False,
                emoji=False,
                no_color=self.terminal.no_color,
                # else rich would take TERM=dumb for the stronger word
                color_system="standard" if self.terminal.force_color else "auto",
                force_terminal=True if self.terminal.force_color else None,
            )
        return self._console

    def draw(self, renderable: Any) -> None:
        """Something that rich can print, on stderr."""
        with self._guarding_stderr():
            self.console.print(renderable)

    # --- progress ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress]:
        """A spinner on a terminal, gone when done; plain lines elsewhere; nothing with -q or --json."""
        if not self.live:
            yield _Lines(self)
            return
        utf = (self._stderr and self._stderr.encoding or "").lower().replace("-", "") == "utf8"
        status = self.console.status("", spinner="dots" if utf else "line", refresh_per_second=10)
        if not self._drawn(status):
            yield _Lines(self)
            return
        self._status = status
        try:
            yield _Spinner(status, self._guarding_stderr)
        finally:
            self._status = None
            with self._guarding_stderr():
                status.stop()

    def _drawn(self, display: Status | RichProgress) -> bool:
        """Start a live display; False where the system allows no thread to draw it."""
        with self._guarding_stderr():
            try:
                display.start()
            except RuntimeError:
                display.stop()
                return False
        return True

    @contextlib.contextmanager
    def _out_of_the_way(self) -> Iterator[None]:
        """The spinner leaves its line while the result is written on the same terminal."""
        status = self._status if self.stdout_is_terminal else None
        if status is None:
            yield
            return
        with self._guarding_stderr():
            status.stop()
        try:
            yield
        finally:
            with self._guarding_stderr():
                status.start()

    def step(self, words: str) -> None:
        """One of many things is done; told where no bar shows it."""
        if self._board is None:
            self.note(words)

    @contextlib.contextmanager
    def board(self) -> Iterator[Board]:
        """A bar for many jobs on a terminal, gone when done; nothing elsewhere, where :meth:`step` tells."""
        if not self.live:
            yield _NoBoard()
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            BarColumn(_Bar.WIDTH),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[words]}"),
        )
        shown = Progress(*columns, console=self.console, transient=True, refresh_per_second=5)
        if not self._drawn(shown):
            yield _NoBoard()
            return
        self._board = _Bar(shown)
        try:
            yield self._board
        finally:
            self._board = None
            with self._guarding_stderr():
                shown.stop()
            held, self._held = self._held, []
            for line in held:
                self._put(line)

    def close(self) -> None:
        """Let Python's own exit find nothing left to flush, whatever state the streams are in."""
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                _to_nowhere(stream)

    # --- questions ---------------------------------------------------------------------------------------

    def confirm(self, question: str) -> bool:
        """Ask on the terminal, stderr; anything but yes is no. Only where :attr:`can_ask`."""
        import typer

        try:
            return typer.confirm(text.block(question), default=False, err=True)
        except typer.Abort as abort:
            if isinstance(abort.__context__, KeyboardInterrupt):
                raise abort.__context__ from None  # Ctrl-C is no answer
            return False

    def ask_secret(self, question: str) -> str:
        """Ask on the terminal without echo, which is off before the question shows: what is typed at once is
        neither shown nor lost. Only where :attr:`can_ask`; "" when the input ends."""
        import getpass

        try:
            return getpass.getpass(f"{text.plain(question)}: ", stream=sys.stderr)
        except EOFError:
            return ""

    def table(self, rows: Sequence[Sequence[str]], header: Sequence[str], *, cut: bool = False) -> None:
        """Aligned columns on stdout; the last column takes what is left of the width. See :meth:`columns`."""
        lines = [[text.one_line(cell) for cell in row] for row in [header, *rows]]
        widths = [max(text.cells(line[at]) for line in lines) for at in range(len(header) - 1)]
        left = self.columns(cut=cut) - sum(widths) - 2 * len(widths)
        for line in lines:
            cells = [
                cell + " " * (width - text.cells(cell)) for cell, width in zip(line, widths, strict=False)
            ]
            self.result("  ".join([*cells, text.shortened(line[-1], max(left, 8))]).rstrip())


class _NoBoard:
    def update(self, done: int, total: int, words: str) -> None:
        """Nothing: without a terminal only what ends is told."""


class _Bar:
    #: Columns of the bar itself, which stays when the words are cut.
    WIDTH = 12

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1, words="")

    def update(self, done: int, total: int, words: str) -> None:
        from rich.markup import escape

        left = self._progress.console.width - self.WIDTH - len(f" {done}/{total}  ")
        shown = text.shortened(text.one_line(words), max(left, 1))
        self._progress.update(self._task, completed=done, total=total, words=escape(shown))


class _Lines:
    def __init__(self, output: Output) -> None:
        self._output = output

    def update(self, words: str) -> None:
        """Nothing: without a terminal only changes are told."""

    def line(self, words: str) -> None:
        self._output.note(words)


class _Spinner:
    def __init__(
        self, status: Status, guarding: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self._status = status
        self._guarding = guarding

    def update(self, words: str) -> None:
        from rich.text import Text

        with self._guarding():
            self._status.update(Text(text.one_line(words)))

    def line(self, words: str) -> None:
        self.update(words)


def _about(error: ChromaError) -> str:
    """The closing line of an error about a job: which one, and whether money went; "" where there is none."""
    which = [f"job {error.job}"] if error.job is not None else []
    which += [f"request id {error.request_id}"] if error.request_id else []
    if error.charged is Charged.NO and (isinstance(error, UsageError) or not which):
        return ""
    goes_on = isinstance(error, NotFinished) or getattr(error.record, "state", "") in ("queued", "processing")
    if goes_on and error.charged is Charged.UNKNOWN:
        return f"It is charged when it completes. ({', '.join(which)})"
    money = {
        Charged.NO: "Nothing was charged.",
        Charged.YES: "The picture was charged." if which else "Money was spent.",
        Charged.UNKNOWN: "It may have been charged: a job that completes is.",
    }[error.charged]
    return f"{money} ({', '.join(which)})" if which else money


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _to_nowhere(stream: TextIO | None) -> None:
    """Point a broken stream's descriptor at the null device, so that Python's exit stays quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream is not None:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
