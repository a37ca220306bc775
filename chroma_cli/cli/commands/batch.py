"""``chroma batch``: the pictures that a file lists, and of them only what is missing or has changed."""

from __future__ import annotations

from chroma_cli.cli import batchopts, options, surveying
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import Opt, takes

EXAMPLES = (
    "chroma batch assets.toml --jobs 20 --budget 5.00",
    "chroma batch assets.toml --check",
    "chroma batch list.csv --shard 2/8 --json",
)

_OWN = (
    Opt("manifest", (), "TOML, JSON Lines or CSV; - reads stdin.", metavar="MANIFEST", complete="files"),
    Opt(
        "manifest_format",
        ("--manifest-format",),
        "Default: by the ending, else by the first line.",
        metavar="toml|jsonl|csv",
        choices=("toml", "jsonl", "csv"),
    ),
    Opt("allow_outside", ("--allow-outside",), "Outputs may leave the manifest's folder.", bool, False),
    Opt("check", ("--check",), "Only look: exit 1 when anything is to be done.", bool, False),
    Opt("deep", ("--deep",), "With --check: read every file, whatever its size and time.", bool, False),
    Opt("dry_run", ("--dry-run",), "Show what would be made, and what it would cost.", bool, False),
    Opt("prune", ("--prune",), "Afterwards remove what the manifest dropped.", bool, False),
    Opt("yes", ("-y", "--yes"), "With --prune: also what only the lock calls ours.", bool, False),
    Opt("overwrite", ("--overwrite",), "Also replace files that others made or changed.", bool, False),
    Opt("jobs", ("-j", "--jobs"), "Jobs in flight, 1 to 1000. Default: 8.", metavar="N"),
    Opt("rate", ("--rate",), "At most so many submits, like 30/min.", metavar="N/min"),
    Opt("keep_going", ("--keep-going",), "Go on when an image fails; the default.", bool, False),
    Opt("fail_fast", ("--fail-fast",), "Begin no more when an image fails.", bool, False),
    Opt("retry_failed", ("--retry-failed",), "Submit a FAILED image again, so many times.", metavar="N"),
    Opt("budget", ("--budget",), "Spend at most this in this run.", metavar="AMOUNT"),
    Opt("shard", ("--shard",), "Only share K of N, for several machines.", metavar="K/N"),
    Opt("summary", ("--summary",), "Write the summary as Markdown.", metavar="FILE", complete="files"),
    Opt("junit", ("--junit",), "Write the outcome as JUnit XML.", metavar="FILE", complete="files"),
)


@takes(_OWN, options.TIMEOUT, options.SPENDING, options.GATEWAY)
def batch(run: Run) -> None:
    """Make the pictures that a file lists, where missing or changed."""
    asked = batchopts.read_options(run)
    source = surveying.Source.load(run, asked.shard)
    if run.given["check"]:
        surveying.check(run, source)
    elif run.given["dry_run"]:
        surveying.dry_run(run, source, asked)
    else:
        surveying.make(run, source, asked)
