"""A storm server, and a machine to run chroma on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stormrig import Machine
from stormserver import StormServer


@pytest.fixture
def storm() -> Iterator[StormServer]:
    with StormServer() as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, storm: StormServer) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine", storm.base_url)
    yield made
    made.clear_up()
