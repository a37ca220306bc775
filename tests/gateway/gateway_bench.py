"""What the gateway tests share: a clock that skips waits, a sink in memory, a client that records events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from faultserver import FaultServer

from chroma_cli.clock import Deadline
from chroma_cli.gateway.client import Client
from chroma_cli.gateway.events import Event, Exchange, Retrying
from chroma_cli.gateway.transport import Transport

KEY = "SG_0123456789abcdef"
E = TypeVar("E")


class SkippingClock:
    """Real time, but a sleep only moves it on; ``naps`` are the sleeps."""

    def __init__(self, wall: float | None = None) -> None:
        self.skipped = 0.0
        self.naps: list[float] = []
        self._wall = wall

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def wall(self) -> float:
        return (time.time() if self._wall is None else self._wall) + self.skipped

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.skipped += max(0.0, seconds)


class MemorySink:
    def __init__(self) -> None:
        self.data = b""
        self.resets = 0

    def write(self, data: bytes) -> None:
        self.data += data

    def reset(self) -> None:
        self.data = b""
        self.resets += 1


@dataclass
class Bench:
    """A client against one fault server."""

    server: FaultServer
    clock: SkippingClock = field(default_factory=SkippingClock)
    events: list[Event] = field(default_factory=list)
    sinks: list[MemorySink] = field(default_factory=list)
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.connect(self.server.base_url)

    def connect(
        self, base_url: str, *, ca_bundle: str | None = None, key: str = KEY, jitter: float = 0.5
    ) -> Client:
        transport = Transport(
            base_url,
            key,
            clock=self.clock,
            observe=self.events.append,
            ca_bundle=ca_bundle,
            jitter=lambda: jitter,
        )
        return Client(transport)

    def deadline(self, seconds: float = 60.0) -> Deadline:
        return Deadline(self.clock, seconds)

    def sink(self) -> MemorySink:
        self.sinks.append(MemorySink())
        return self.sinks[-1]

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def exchanges(self) -> list[Exchange]:
        return self.seen(Exchange)

    @property
    def retries(self) -> list[Retrying]:
        return self.seen(Retrying)


BenchMaker = Callable[[], Bench]
