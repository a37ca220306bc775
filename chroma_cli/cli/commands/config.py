"""``chroma config``: every setting, its value and where it came from."""

from __future__ import annotations

from collections.abc import Iterator

from chroma_cli.cli import options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import takes
from chroma_cli.errors import AuthError


@takes(options.NO_LEDGER, options.GATEWAY)
def config(run: Run) -> None:
    """Show the settings and where each came from."""
    run.check_config()
    rows = list(_rows(run))
    if run.output.json:
        for name, value, source in rows:
            run.output.result("", {"name": name, "value": value, "source": source})
        return
    run.output.table(
        [(name, "-" if value is None else str(value), source) for name, value, source in rows],
        ("SETTING", "VALUE", "SOURCE"),
    )


def _rows(run: Run) -> Iterator[tuple[str, object, str]]:
    settings = run.settings
    found = settings.config
    place = settings.config_path.source
    yield "config", found.path and str(found.path), place if found.exists else f"{place}, no such file"
    state = settings.known_state_dir
    yield "state", state and str(state), settings.state_source if state else "there is no home folder"
    if settings.sandbox.value:
        yield "base_url", "sandbox", settings.sandbox.source
    else:
        yield "base_url", settings.base_url.value, settings.base_url.source
    yield "sandbox", settings.sandbox.value, settings.sandbox.source
    yield "key", *_key(run)
    no_ledger = settings.no_ledger.value or state is None
    yield "ledger", None if no_ledger else str(settings.ledger_path), settings.no_ledger.source
    for name, value in found.defaults.items():
        yield f"defaults.{name}", value, str(found.path)
    for name, values in found.presets.items():
        for option, value in values.items():
            yield f"presets.{name}.{option}", value, str(found.path)
    for name, amount in settings.budgets.items():
        yield f"budget.{name}", amount.value, amount.source


def _key(run: Run) -> tuple[str | None, str]:
    if run.settings.sandbox.value:
        return None, "the sandbox needs none"
    try:
        key = run.settings.key
    except AuthError as error:
        return None, error.message
    return key.masked, key.source
