"""``chroma logout``: remove the stored key."""

from __future__ import annotations

from chroma_cli import credentials
from chroma_cli.cli import options
from chroma_cli.cli.context import Run
from chroma_cli.cli.options import takes


@takes(options.BASE_URL)
def logout(run: Run) -> None:
    """Remove the key that login stored for this gateway."""
    base_url = str(run.settings.base_url.value)
    places = credentials.forget(run.settings.state_dir, base_url)
    for place in places:
        run.output.result(f"removed from {place}", {"base_url": base_url, "removed": place})
    if not places:
        run.output.note(f"No key is stored for {base_url}.")
    winner = run.settings.key_variable
    if winner is not None:
        run.output.warning(f"{winner} is still set.")
