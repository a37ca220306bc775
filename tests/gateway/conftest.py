"""A fault server and a client on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests  # noqa: F401 - in a new environment its first import outlives a short deadline
from faultserver import FaultServer
from gateway_bench import Bench


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def bench(server: FaultServer) -> Iterator[Bench]:
    made = Bench(server)
    yield made
    made.client.close()
