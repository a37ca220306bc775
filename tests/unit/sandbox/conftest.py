"""Worlds to test on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sandbox_bench import Bench

from chroma_cli.sandbox.world import WorldOptions


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    return lambda **options: Bench(WorldOptions(**options))
