"""One run of one command: puts the parts together, each only when it is asked for.

The one lazy seam of the program: requests, Pillow, SQLite and the sandbox are imported here, inside the
properties that need them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chroma_cli import text
from chroma_cli.cli import prompt
from chroma_cli.cli.output import Output
from chroma_cli.clock import SystemClock
from chroma_cli.errors import (
    ChromaError,
    ConfigError,
    Declined,
    ExitCode,
    InvalidParameters,
    LedgerRequired,
    LimitError,
    NoHome,
    Problem,
    UsageError,
)
from chroma_cli.jobs.spending import Spending
from chroma_cli.private import changeable_by_others
from chroma_cli.request import builder, presets, schema, values
from chroma_cli.request.builder import ImageRequest, Level
from chroma_cli.settings import Key, Settings

if TYPE_CHECKING:
    from chroma_cli.cli.watch import Watch
    from chroma_cli.gateway.client import Client
    from chroma_cli.images.destination import Destination
    from chroma_cli.jobs.book import Book
    from chroma_cli.jobs.budget import Limit
    from chroma_cli.jobs.inscription import Level as MetadataLevel
    from chroma_cli.jobs.ledger import Ledger
    from chroma_cli.jobs.lifecycle import Lifecycle
    from chroma_cli.jobs.polling import Expectation
    from chroma_cli.jobs.records import JobRow
    from chroma_cli.sandbox.server import SandboxServer

DEFAULT_TIMEOUT: Final = 600.0
_LONGEST_TIMEOUT: Final = 7 * 86400.0
#: What may be written into pictures, as :mod:`chroma_cli.jobs.inscription` has it.
METADATA_LEVELS: Final = ("full", "source-only", "none")
#: More pictures than this in one call want a yes.
MANY: Final = 10


@dataclass(frozen=True)
class Order:
    """What a person asked for, checked: the request, where it goes, and how long to wait (seconds)."""

    request: ImageRequest
    preset: str | None
    output: str | None
    timeout: float


def _draw_seed() -> int:
    """A seed that no other run draws; from the system, because ``secrets`` is slow to import."""
    from random import SystemRandom

    return SystemRandom().randint(0, schema.SEED_DRAWN_MAX)


class Run:
    """Everything one command needs. ``given`` holds its options by name."""

    def __init__(self, env: Mapping[str, str], args: Sequence[str]) -> None:
        self.env = env
        self.given: Mapping[str, Any] = {}
        self.exit_code = ExitCode.OK
        #: Which of the jobs that are found abandoned this command tells about itself.
        self.tells: Callable[[JobRow], bool] = lambda job: False
        #: The numbers of those that a warning told about.
        self.abandoned: frozenset[int] = frozenset()
        self.clock = SystemClock()
        self.spending = Spending()
        self._closing = contextlib.ExitStack()
        flags = set(args[: args.index("--")] if "--" in args else args)
        self.output = Output(
            Settings(env).terminal,
            json="--json" in flags,
            quiet=bool(flags & {"-q", "--quiet"}),
            verbose=bool(flags & {"-v", "--verbose"}),
            debug="--debug" in flags,
        )

    def take(self, given: Mapping[str, Any]) -> None:
        """The options as Typer read them; from here on they decide how output looks."""
        self.given = given
        self.output.configure(
            json=given["json"], quiet=given["quiet"], verbose=given["verbose"], debug=given["debug"]
        )

    def close(self) -> int:
        """Let go of servers, sessions and files; 0, the exit code of what went well."""
        self._closing.close()
        return 0

    # --- settings and presets ----------------------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        return Settings(
            self.env,
            base_url=self.given.get("base_url"),
            sandbox=self.given.get("sandbox"),
            no_ledger=self.given.get("no_ledger"),
        )

    @cached_property
    def presets(self) -> dict[str, presets.Preset]:
        config = self.settings.config
        return presets.collect(config.presets, str(config.path))

    @property
    def defaults_level(self) -> Level:
        config = self.settings.config
        return Level(
            config.defaults, f"[defaults] of {config.path}", may_hold=(*builder.SETTABLE, "metadata")
        )

    def check_config(self) -> None:
        """Refuse a config file with a key or a value that cannot be, used by this call or not."""
        config = self.settings.config
        settable = [key for key in builder.SETTABLE if key != "preset"]
        tables = [
            Level(table, f"[presets.{name}] of {config.path}", may_hold=settable)
            for name, table in config.presets.items()
        ]
        problems = builder.check_tables([self.defaults_level, *tables], self.presets)
        problems += self._metadata_problems()
        if problems:
            raise ConfigError(*map(str, problems))

    def _metadata_problems(self) -> list[Problem]:
        level = self.settings.config.defaults.get("metadata")
        if level is None or level in METADATA_LEVELS:
            return []
        known = ", ".join(METADATA_LEVELS)
        why = f"{values.show(level)} is not one of {known}"
        return [
            Problem(self.defaults_level.where("metadata"), why, values.nearest(str(level), METADATA_LEVELS))
        ]

    # --- what is asked for -------------------------------------------------------------------------------

    def order(self) -> Order:
        """The request and its surroundings, from all levels; raises with every problem at once."""
        self.check_config()
        problems = self._clashes()
        levels = self.picture_levels(problems)
        file_format = self._attempt(self._file_format, problems)
        timeout = self._attempt(self.timeout, problems)
        built = None
        try:
            built = builder.build(
                levels,
                self.presets,
                draw_seed=_draw_seed,
                file_format=file_format,
            )
        except InvalidParameters as error:
            unread = any(one.where in ("PROMPT", "--prompt-file") for one in problems)
            problems += [one for one in error.problems if not (unread and one.where == "PROMPT")]
        if problems or built is None or timeout is None:
            raise InvalidParameters(problems)
        for words in built.warnings:
            self.output.warning(words)
        return Order(built.request, built.preset, self.given.get("output"), timeout)

    def _clashes(self) -> list[Problem]:
        """Options that cannot stand together, whatever their values are."""
        if self.given.get("sync") and self.given.get("resubmit_unknown"):
            why = "cannot stand beside --sync: a blocking call is never sent again after a lost answer"
            return [Problem("--resubmit-unknown", why)]
        return []

    def picture_levels(self, problems: list[Problem] | None = None) -> list[Level]:
        """What was given about the picture, from low to high: config file, ``--from``, options.

        A prompt that cannot be read joins ``problems``; without them, it is raised.
        """
        given = {one: self.given.get(one) for one in builder.SETTABLE}
        options = {one: prompt.typed(text) if isinstance(text, str) else text for one, text in given.items()}
        options["prompt"] = self._prompt() if problems is None else self._attempt(self._prompt, problems)
        levels = [self.defaults_level]
        if self.given.get("origin"):
            from chroma_cli.cli import recipes

            word = self.given["origin"]
            levels.append(Level(recipes.of_word(self, word).options(), f"the recipe of {word}"))
        return [*levels, Level(options)]

    def _attempt(self, read: Any, problems: list[Problem]) -> Any:
        """What ``read`` gives; its usage error joins the other problems."""
        try:
            return read()
        except InvalidParameters as error:
            problems += error.problems
        except UsageError as error:
            where, _, what = error.message.partition(": ")
            problems.append(Problem(where, what.removesuffix(".")) if what else Problem("usage", where))
        return None

    def _prompt(self) -> str | None:
        given, file = self.given.get("prompt"), self.given.get("prompt_file")
        if given is not None and file is not None:
            raise UsageError("--prompt-file: cannot stand beside PROMPT; give one or the other")
        if file is not None:
            return prompt.from_file(file)
        if given == "-":
            return prompt.from_stdin()
        return prompt.typed(str(given)) if given is not None else None

    def _file_format(self) -> str | None:
        output = self.given.get("output")
        if output is None or output == "-":
            return None
        from chroma_cli.images.destination import wanted_format

        return wanted_format(output, cwd=str(Path.cwd()))

    def timeout(self) -> float:
        """``--timeout`` in seconds. Raises :class:`UsageError`."""
        text = self.given.get("timeout")
        if text is None:
            return DEFAULT_TIMEOUT
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds <= _LONGEST_TIMEOUT:
            raise UsageError(f"--timeout: {values.show(text)} is not a number of seconds above 0")
        return seconds

    def call_of(self, order: Order, *, sync: bool) -> dict[str, Any]:
        """The call as it would go out, for ``--dry-run``."""
        sandbox = self.settings.sandbox.value
        base = "sandbox:" if sandbox else self.settings.base_url.value
        return {
            "method": "POST",
            "url": f"{base}/v1/chroma" if sync else f"{base}/v2/chroma",
            "request": order.request.payload(),
        }

    # --- before anything is spent ------------------------------------------------------------------------

    def consent(self, request: ImageRequest) -> None:
        """Many pictures in one call want a yes: asked on a terminal, refused without ``--yes`` elsewhere."""
        if request.samples <= MANY or self.given.get("yes"):
            return
        what = f"{request.samples} pictures, about ${request.expected_cost:.2f}"
        if not self.output.can_ask:
            raise UsageError(f"--samples: {what}; more than {MANY} need --yes.")
        if not self.output.confirm(f"Make {what}?"):
            raise Declined("Nothing was sent.")

    def place(self, order: Order) -> Destination:
        """Settle where the pictures go, and find out whether that will work."""
        from chroma_cli.images import destination
        from chroma_cli.jobs import capacity

        if order.output == "-":
            self.check_stdout()
        request = order.request
        width, height = request.size
        capacity.require_one(capacity.room())
        settled = destination.plan(
            order.output,
            cwd=str(Path.cwd()),
            values={**request.payload(), "preset": order.preset},
            samples=request.samples,
            image_format=request.image_format,
            now=self.clock.wall(),
            size=(width, height),
            overwrite=bool(self.given.get("overwrite")),
            promised=self.book.promised(),
        )
        self.check_place(settled, request)
        return settled

    def check_place(self, settled: Destination, request: ImageRequest) -> None:
        """Try whether the pictures can be saved there. Raises OutputError."""
        import secrets

        from chroma_cli.images import preflight

        width, height = request.size
        preflight.check(
            settled,
            estimate=preflight.estimate_bytes(width, height, request.samples, request.image_format),
            token=secrets.token_hex(8),
            rescue_dir=str(self.settings.rescue_dir),
        )

    def limits(self) -> tuple[Limit, ...]:
        """The budgets that are set for the day and the month; the sandbox's play money has none."""
        if self.settings.sandbox.value:
            return ()
        from chroma_cli.jobs.budget import Limit

        budgets = self.settings.budgets
        return tuple(Limit(name, budgets[name].value) for name in ("day", "month") if name in budgets)

    def check_stdout(self) -> None:
        """Whether ``-o -`` can work. Raises :class:`UsageError`, and OutputError where stdout is closed."""
        if self.output.json:
            raise UsageError("--output: - cannot stand beside --json; both want stdout.")
        if self.output.stdout_is_terminal:
            raise UsageError(
                "--output: - would write the picture's bytes onto the terminal.",
                hint="Redirect stdout to a file or a program, or name a file.",
            )
        self.output.binary_stdout()

    # --- the parts ---------------------------------------------------------------------------------------

    @cached_property
    def sandbox(self) -> SandboxServer:
        """The gateway inside the program, its world kept in the state directory."""
        from chroma_cli.sandbox.server import SandboxServer
        from chroma_cli.sandbox.world import WorldOptions

        # no rate limit: all processes share one world, and its practice is in a magic prompt
        folder = self.settings.sandbox_dir if self.settings.known_state_dir else None
        server = SandboxServer(folder, WorldOptions(rpm=0))
        server.start()
        self._closing.callback(server.stop)
        if server.warning:
            self.output.warning(server.warning)
        return server

    @property
    def base_url(self) -> str:
        """Where calls go to."""
        return self.sandbox.base_url if self.settings.sandbox.value else str(self.settings.base_url.value)

    @property
    def gateway_name(self) -> str:
        """What the ledger calls this gateway; the sandbox has another port each time."""
        return "sandbox" if self.settings.sandbox.value else str(self.settings.base_url.value)

    @cached_property
    def client(self) -> Client:
        """The gateway with the key of the settings; without a key nothing is even prepared."""
        return self.client_for(self.settings.key)

    def client_for(self, key: Key) -> Client:
        """The gateway with this key."""
        from chroma_cli.gateway.client import Client
        from chroma_cli.gateway.transport import Transport

        transport = Transport(
            self.base_url,
            key.text,
            clock=self.clock,
            observe=self.watch,
            ca_bundle=self.settings.ca_bundle,
        )
        self._closing.callback(transport.close)
        return Client(transport)

    @cached_property
    def ledger(self) -> Ledger | None:
        """The job ledger; None when it is switched off or, after one warning, cannot be used."""
        if self.settings.no_ledger.value:
            return None
        from chroma_cli.jobs.records import LedgerUnusable

        try:
            return self._opened
        except LedgerUnusable as trouble:
            self.output.warning(trouble.words)
        except NoHome as trouble:
            self.output.warning(
                f"{trouble.message} {trouble.hint} A job is not known any more when chroma ends."
            )
        return None

    @cached_property
    def _opened(self) -> Ledger:
        from chroma_cli.jobs.ledger import Ledger

        opened = Ledger.open(self.settings.ledger_path, clock=self.clock, tell=self.output.warning)
        self._closing.callback(opened.close)
        place = changeable_by_others(self.settings.ledger_path.parent)
        if place is not None:
            self.output.warning(
                f"{place} can be written by others, who can replace the job ledger {opened.path}: it says"
                " what is paid for, and where pictures go."
                f" Make it private with: chmod go-w {text.quoted(str(place))}"
            )
        self._report_abandoned(opened)
        return opened

    def required_ledger(self) -> Ledger:
        """The ledger, for what cannot be answered without it. Raises :class:`LedgerRequired` when it is
        switched off, :class:`~chroma_cli.jobs.records.LedgerUnusable` when it cannot be used."""
        if self.settings.no_ledger.value:
            raise LedgerRequired(
                "Without the job ledger nobody knows which jobs there are.",
                hint=f"Leave out {self.settings.no_ledger.source}.",
            )
        return self._opened

    def _report_abandoned(self, ledger: Ledger) -> None:
        """Jobs whose program ended between sending and hearing the answer: the next command says so."""
        from chroma_cli.cli import render
        from chroma_cli.jobs.records import LedgerUnusable

        try:
            swept = [job for job in ledger.sweep() if not self.found_saved(ledger, job)]
        except LedgerUnusable:
            return  # it can be read only; the first write will say so
        abandoned = [job for job in swept if not self.tells(job)]
        self.abandoned = frozenset(job.number for job in abandoned)
        for job in abandoned:
            self.output.warning(render.abandoned_words(job))

    def found_saved(self, ledger: Ledger, job: JobRow) -> bool:
        """Settle a job whose picture is there although its program did not record it: it was ended just then.

        A ledger that cannot be written leaves the job as it is.
        """
        from chroma_cli.cli import render
        from chroma_cli.jobs import origin
        from chroma_cli.jobs.records import LedgerUnusable

        try:
            saved = origin.settled_by_picture(ledger, job, rescue_dir=str(self.settings.rescue_dir))
        except LedgerUnusable:
            return False
        if saved is not None:
            self.output.note(render.found_words(saved))
        return saved is not None

    def prepare_to_ask(self, jobs: Iterable[JobRow]) -> None:
        """Have the client ready before threads want it; jobs that are settled need none."""
        if any(not job.settled for job in jobs):
            assert self.client

    @cached_property
    def book(self) -> Book:
        from chroma_cli.jobs.book import Book

        return Book(self.ledger, self.clock, self.output.warning, spending=self.spending)

    def require_ledger(self) -> None:
        """Spend nothing without the ledger, and write what a poll says only to memory: for many jobs.

        Raises :class:`LimitError` when there is no ledger.
        """
        from chroma_cli.jobs.book import Book
        from chroma_cli.jobs.records import LedgerIncomplete, LedgerUnusable

        try:
            ledger = self.required_ledger()
            if ledger.history_lost:  # found just now; whoever runs this again knows of it
                ledger.check_complete()
        except (LedgerRequired, LedgerUnusable, LedgerIncomplete) as trouble:
            raise LimitError(
                f"{trouble.message} Many jobs are only made with it: it keeps them from being paid twice.",
                hint=f"Nothing was sent. {trouble.hint}",
            ) from trouble
        self.book = Book(
            ledger,
            self.clock,
            self.output.warning,
            required=True,
            thorough=False,
            spending=self.spending,
        )

    @cached_property
    def watch(self) -> Watch:
        from chroma_cli.cli.watch import Watch

        return Watch(self.output, self._note_credits)

    def _note_credits(self, value: float) -> None:
        """Kept where the ledger is open anyway; not worth opening it for."""
        if "book" in self.__dict__:
            self.book.note_credits(value, self.gateway_name)

    @property
    def lifecycle(self) -> Lifecycle:
        """The steps for one job; commands with several jobs take one for each."""
        from chroma_cli.jobs.lifecycle import Lifecycle
        from chroma_cli.jobs.pictures import Pictures

        pictures = Pictures(
            self.client,
            rescue_dir=str(self.settings.rescue_dir),
            stdout=self.output.binary_stdout,
            promised=self.book.promised,
            metadata=self.metadata,
        )
        return Lifecycle(
            self.client,
            self.book,
            pictures,
            clock=self.clock,
            observe=self.watch,
            gateway_name=self.gateway_name,
            fetch_command=self.fetch_command,
            expectation=self._sandbox_expectation if self.settings.sandbox.value else None,
        )

    @property
    def metadata(self) -> MetadataLevel | None:
        """What is written into pictures: ``--no-metadata``, else ``metadata`` under [defaults]; None when
        neither says anything."""
        if self.given.get("no_metadata"):
            return "none"
        from chroma_cli.jobs.inscription import as_level

        return as_level(self.settings.config.defaults.get("metadata"))

    @property
    def _sandbox_expectation(self) -> Expectation:
        from chroma_cli.jobs.polling import Expectation
        from chroma_cli.sandbox.world import WorldOptions

        seconds = WorldOptions.latency
        return Expectation(seconds * 0.95, seconds, seconds * 1.1)

    def complete(self, error: ChromaError) -> None:
        """Have an error that knows nothing of money say what the run cost, and of which job where it had just
        one."""
        if error.knows_money:
            return
        error.charged = self.spending.charged
        job = self.spending.only_job
        if job is None:
            return
        error.about(request_id=job.request_id, job=job.number or None)
        error.record = job
        if job.request_id is not None and not job.settled:
            pick_up = f"Bring it home with: {self.fetch_command(job.request_id, '--wait')}"
            error.hint = f"{error.hint} {pick_up}" if error.hint else pick_up

    def fetch_command(self, ident: str | None, *options: str) -> str:
        """Return the command that brings a job home, for None all of them, from the gateway of this run."""
        words = [*options]
        if self.settings.sandbox.source == "--sandbox":
            words.append("--sandbox")
        elif self.settings.base_url.source == "--base-url" and not self.settings.sandbox.value:
            words += ["--base-url", str(self.settings.base_url.value)]
        if ident is None:
            words.insert(0, "--pending")
        elif ident.startswith("-"):
            words += ["--", ident]
        else:
            words.insert(0, ident)
        return text.command_line("chroma", "fetch", *words)

    def farewell(self) -> None:
        """On a terminal, a command that opened the ledger mentions what is waiting there."""
        quiet = self.output.quiet or self.output.json or not self.output.stderr_is_terminal
        ledger: Ledger | None = self.__dict__.get("_opened")
        if quiet or ledger is None:
            return
        from chroma_cli.cli import render
        from chroma_cli.jobs.records import LedgerUnusable

        try:
            waiting = [
                job for job in ledger.pending(self.gateway_name) if job.request_id and not ledger.in_work(job)
            ]
        except LedgerUnusable:
            return
        if waiting:
            self.output.note(render.waiting_words(waiting, self.clock.wall(), self.fetch_command(None)))

    @contextlib.contextmanager
    def showing_progress(self) -> Iterator[None]:
        """Jobs that run inside are shown as they go on."""
        with self.output.progress() as progress:
            self.watch.progress = progress
            try:
                yield
            finally:
                self.watch.progress = None
