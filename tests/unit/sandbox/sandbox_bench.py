"""A sandbox world without a network, on a clock that is moved by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chroma_cli.sandbox.state import Account, Job
from chroma_cli.sandbox.world import Call, Reply, World, WorldOptions


@dataclass
class Bench:
    """A world in memory with a hand-moved clock."""

    options: WorldOptions = field(default_factory=WorldOptions)
    now: float = 1_700_000_000.0
    jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.account = Account(salt="salt", balance=self.options.credits)
        self.world = World(self.options, self.account, self.jobs)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        named = {"x-api-key": "SG_test", "content-type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.world.answer(Call(method, path, named, body, "http://host:1"), self.now)

    def submit(self, prompt: str = "a knight", version: str = "v2", **more: Any) -> Reply:
        return self.call("POST", f"/{version}/chroma", json.dumps({"prompt": prompt, **more}).encode())

    def accepted(self, prompt: str = "a knight", **more: Any) -> str:
        reply = self.submit(prompt, **more)
        assert reply.status == 200, reply
        request_id = reply.body["request_id"]
        assert isinstance(request_id, str)
        return request_id

    def status(self, request_id: str) -> Reply:
        return self.call("GET", f"/v2/requests/{request_id}/status")

    def result(self, request_id: str) -> Reply:
        return self.call("GET", f"/v2/requests/{request_id}")
