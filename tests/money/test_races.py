"""Many programs on one ledger, one job, one manifest: each picture is bought once, saved once, and whole."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import Ended, Gateway, Programs, is_whole
from kit.clock import SkippingClock

SIZE = ("--size", "768x768")
Rows = Callable[[], list[dict[str, Any]]]


def pictures(work: Path) -> dict[str, Path]:
    return {path.name: path for path in work.rglob("*") if path.suffix == ".png"}


def check_settled(gateway: Gateway, work: Path, rows: list[dict[str, Any]], prompts: list[str]) -> None:
    """Each prompt was sent once, is in the ledger once, and lies there once, whole."""
    assert Counter(one.prompt for one in gateway.requests("submit")) == Counter(prompts)
    assert sorted(row["request"]["prompt"] for row in rows) == sorted(prompts)
    assert {(row["status"], row["charged"], row["cost"]) for row in rows} == {("COMPLETED", "yes", 0.055)}
    found = pictures(work)
    assert all(is_whole(path) for path in found.values())
    assert sorted(gateway.whose(path).prompt for path in found.values()) == sorted(prompts)
    told = {file["path"] for row in rows for file in row["files"]}
    assert told == {str(path) for path in found.values()}
    hidden = [path for path in work.rglob("*") if path.name.startswith(".")]
    assert not hidden


@pytest.mark.parametrize("place", ["status", "result", "file"])
@pytest.mark.parametrize("second", [("fetch", "--pending", "--wait"), ("fetch", "1", "--wait")])
def test_a_program_that_was_stopped_meets_one_that_took_its_job(
    gateway: Gateway,
    process: Programs,
    chroma: Callable[..., Ended],
    clock: SkippingClock,
    ledger_rows: Rows,
    work: Path,
    place: str,
    second: tuple[str, ...],
) -> None:
    """Stopped for an hour, past every sign of life, and continued; the other may have had it meanwhile."""
    gateway.world.keeps = 10_000.0
    hold = gateway.hold(place)
    with process.start("generate", "a fox", "-o", "fox.png", *SIZE) as first:
        hold.wait()
        first.stop()
        clock.skip(2000)
        other = chroma(*second)
        hold.release()
        first.go_on()
        ended = first.end()
    assert other.code in (0, 7), other.said
    assert ended.code == 0 or (other.code == 0 and ended.code == 10), ended.said
    check_settled(gateway, work, ledger_rows(), ["a fox"])
    assert list(pictures(work)) == ["fox.png"]
    assert chroma("fetch", "--pending").out == ""


@pytest.mark.parametrize("count", [10, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_many_fetches_at_once(
    gateway: Gateway, process: Programs, ledger_rows: Rows, work: Path, count: int
) -> None:
    prompts = [f"fox {number}" for number in range(5)]
    for prompt in prompts:
        assert process("submit", prompt, "-o", f"{prompt}.png", *SIZE).code == 0
    hold = gateway.hold("file")
    started = [process.start("fetch", "--pending", "--wait") for _ in range(count)]
    hold.wait()
    hold.release()
    ended = [one.end(300) for one in started]
    assert {one.code for one in ended} <= {0, 7}, [one.said for one in ended]
    check_settled(gateway, work, ledger_rows(), prompts)
    assert {path for one in ended for path in one.paths} == set(pictures(work).values())
    assert process("fetch", "--pending").out == ""


@pytest.mark.parametrize("count", [12, pytest.param(64, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_many_generates_on_one_ledger(
    gateway: Gateway, process: Programs, ledger_rows: Rows, work: Path, count: int
) -> None:
    prompts = [f"fox {number}" for number in range(count)]
    started = [process.start("generate", prompt, *SIZE) for prompt in prompts]
    ended = [one.end(300) for one in started]
    assert {one.code for one in ended} == {0}, [one.said for one in ended if one.code]
    check_settled(gateway, work, ledger_rows(), prompts)


def test_a_kill_in_a_crowd_hurts_nobody_else(
    gateway: Gateway, process: Programs, ledger_rows: Rows, work: Path
) -> None:
    prompts = [f"fox {number}" for number in range(6)]
    hold = gateway.hold("file", "half", prompt="fox 3")
    started = [process.start("generate", prompt, *SIZE) for prompt in prompts]
    hold.wait()
    killed = started.pop(3).kill()
    hold.release()
    assert killed.code == -signal.SIGKILL
    assert {one.end(300).code for one in started} == {0}
    assert len(process("fetch", "--pending", "--wait").paths) == 1
    check_settled(gateway, work, ledger_rows(), prompts)


#: Ways to the same manifest, from the folder above it.
PATHS = {
    "plain": lambda home: home / "real" / "list.jsonl",
    "relative": lambda home: Path("..", home.name, "real", "list.jsonl"),
    "dots": lambda home: f"{home}/real/../real/./list.jsonl",
    "linked folder": lambda home: _linked(home / "link", home / "real") / "list.jsonl",
}


def _linked(link: Path, to: Path) -> Path:
    os.symlink(to, link)
    return link


@pytest.mark.parametrize("way", PATHS)
def test_two_batches_of_one_manifest(
    gateway: Gateway, process: Programs, ledger_rows: Rows, work: Path, way: str
) -> None:
    """The second is refused or waits, and buys nothing that the first buys, by whatever path it came."""
    folder = work / "real"
    folder.mkdir()
    prompts = ["fox", "owl", "hare"]
    rows = [{"prompt": one, "output": f"{one}.png", "size": "768x768"} for one in prompts]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    hold = gateway.hold("submit", prompt="owl")
    with process.start("batch", folder / "list.jsonl", "--jobs", "1") as first:
        hold.wait()
        with process.start("batch", PATHS[way](work)) as second:
            refused = second.end(300)
        hold.release()
        ended = first.end()
    assert ended.code == 0, ended.said
    assert refused.code != 0, refused.said
    (folder / "list.lock.json").read_text()
    check_settled(gateway, folder, ledger_rows(), prompts)
    again = process("batch", PATHS["plain"](work))
    assert (again.code, gateway.posts()) == (0, 3), again.said
