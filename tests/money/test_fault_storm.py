"""Most answers go wrong: 40 % of all GETs. Every order arrives all the same, each sent once."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kit import (
    CLOSE,
    PASS,
    RESET,
    Cut,
    Ended,
    Gateway,
    Programs,
    Reply,
    Request,
    Silence,
    SkippingClock,
    is_whole,
)
from kit.wire import Action

FAULTS: dict[str, Action] = {
    "500": Reply.error(500),
    "502": Reply.page(502),
    "503": Reply.error(503),
    "reset": RESET,
    "nothing": CLOSE,
    "cut": Cut(40),
    "cut JSON": Reply.text('{"status": "COMPLETED", "request', kind="application/json"),
}
SHARE = 0.4


class Weather:
    """40 % of all questions go wrong, each fault as often as the others."""

    def __init__(self, **more: Action) -> None:
        self.faults = FAULTS | more
        self.seen: Counter[str] = Counter()
        self._chance = random.Random(1)
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> Action:
        with self._lock:
            if self._chance.random() >= SHARE:
                return PASS
            name = self._chance.choice(sorted(self.faults))
            self.seen[name] += 1
        return self.faults[name]

    def over(self, gateway: Gateway) -> None:
        for route in ("status", "result", "file"):
            gateway.on(route, self, always=True)


def check(gateway: Gateway, work: Path, prompts: list[str], rows: list[dict[str, object]]) -> None:
    for prompt in prompts:
        assert gateway.posts(prompt) == 1
        assert is_whole(work / f"{prompt}.png")
        assert gateway.whose(work / f"{prompt}.png").prompt == prompt
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert len(rows) == len(prompts)
    assert {path.stem for path in work.glob("*.png")} == set(prompts)
    assert [path.name for path in work.iterdir() if path.name.startswith(".")] == []


def test_every_order_arrives_through_any_weather(
    gateway: Gateway, clock: SkippingClock, chroma: Callable[..., Ended], work: Path
) -> None:
    weather = Weather()
    weather.over(gateway)
    gateway.plan(seconds=53)
    prompts = [f"order {number}" for number in range(12)]
    for prompt in prompts:
        ended = chroma("generate", prompt, "-o", f"{prompt}.png", "--size", "768x768")
        assert ended.code == 0, ended.said
    check(gateway, work, prompts, chroma("jobs", "--json", "--limit", "999").json)
    assert set(weather.seen) == set(FAULTS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_arrives_through_any_weather(
    gateway: Gateway, chroma: Callable[..., Ended], work: Path
) -> None:
    """In real time, which a batch waits for."""
    Weather().over(gateway)
    prompts = [f"order {number}" for number in range(40)]
    rows = [{"prompt": prompt, "output": f"{prompt}.png", "size": "768x768"} for prompt in prompts]
    (work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ended = chroma("batch", "list.jsonl", "--jobs", "16")
    assert ended.code == 0, ended.said
    check(gateway, work, prompts, chroma("jobs", "--json", "--limit", "999").json)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_programs_arrive_through_any_weather(
    gateway: Gateway, process: Programs, work: Path
) -> None:
    """Half of them by generate, half by submit and then all together by fetch."""
    weather = Weather(silence=Silence(1.0))
    weather.over(gateway)
    prompts = [f"order {number}" for number in range(100)]

    def order(prompt: str) -> Ended:
        command = "generate" if int(prompt.split()[1]) % 2 else "submit"
        return process(command, prompt, "-o", f"{prompt}.png")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(order, prompts))
    assert not [one.said for one in answers if one.code != 0]
    fetched = process("fetch", "--pending", "--wait")
    assert fetched.code == 0, fetched.said
    assert len(fetched.lines) == 50
    check(gateway, work, prompts, process("jobs", "--json", "--limit", "999").json)
    assert set(weather.seen) == set(weather.faults)
