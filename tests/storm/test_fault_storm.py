"""Most answers go wrong: 40 % of all GETs. A hundred orders arrive all the same, each sent once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from stormrig import Ended, Machine
from stormserver import StormServer, is_whole

FAULTS = ("500", "502", "503", "reset", "cut", "cut json", "nothing", "nothing, slowly")
SHARE = 0.4
ORDERS = 100
AT_ONCE = 16


class Weather:
    """40 % of all questions go wrong, each fault as often as the others; the same storm every time."""

    def __init__(self) -> None:
        self._random = random.Random(3)
        self._lock = threading.Lock()

    def __call__(self, kind: str) -> str | None:
        with self._lock:
            if self._random.random() >= SHARE:
                return None
            usable = [fault for fault in FAULTS if kind != "file" or fault != "cut json"]
            return self._random.choice(usable)


@pytest.mark.timeout(300)
def test_all_of_a_hundred_orders_arrive_and_each_was_sent_once(
    machine: Machine, storm: StormServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of them by generate, half by submit and then all together by fetch."""
    storm.fault = Weather()
    prompts = [f"order {number}" for number in range(ORDERS)]

    def order(prompt: str) -> Ended:
        command = "generate" if int(prompt.split()[1]) % 2 else "submit"
        return machine.run(command, prompt, "-o", f"{prompt}.png", patience=120)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = dict(zip(prompts, pool.map(order, prompts), strict=True))
    wrong = {prompt: answer for prompt, answer in answers.items() if answer.code != 0}
    assert not wrong
    fetched = machine.run("fetch", "--pending", "--wait", patience=120)
    assert fetched.code == 0, fetched.stderr
    assert len(fetched.lines) == ORDERS // 2

    assert dict(storm.submits) == dict.fromkeys(prompts, 1)
    for prompt in prompts:
        assert is_whole(machine.out / f"{prompt}.png", prompt)
    rows = machine.jobs()
    assert len(rows) == ORDERS
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert sorted(len(row["files"]) for row in rows) == [1] * ORDERS
    assert machine.temp_files() == []
    assert set(storm.faults) == set(FAULTS)
    asked, spoilt = storm.gets.total(), storm.faults.total()
    with capsys.disabled():
        print(f"\n{ORDERS} orders arrived through {spoilt} faults in {asked} GETs:")
        print("  " + ", ".join(f"{count} {fault}" for fault, count in sorted(storm.faults.items())))
