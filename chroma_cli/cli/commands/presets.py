"""``chroma presets``: the named sets of defaults, the guide's and the user's own."""

from __future__ import annotations

from chroma_cli.cli import render
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import takes

NOTES = ("Use one with: chroma generate PROMPT --preset NAME. Options beside it win.",)


@takes()
def presets(run: Run) -> None:
    """List the named sets of defaults."""
    run.check_config()
    found = sorted(run.presets.values(), key=lambda one: one.name)
    if run.output.json:
        for one in found:
            value = {
                "name": one.name,
                "about": one.about or None,
                "values": dict(one.values),
                "source": one.source,
            }
            run.output.result("", value)
        return
    columns = ("size", "cfg", "steps", "sampler", "scheduler")
    run.output.table(
        [(one.name, *render.preset_cells(one.values, columns), one.about or one.source) for one in found],
        ("NAME", *(column.upper() for column in columns), "FOR"),
    )
