"""``kill -9`` at every call to the system, of every command that spends or saves; then it is brought home.

The calls are found by counting those of a run that nobody kills: what the program does between them is its
own affair. A kill before a call and one after the call before it differ only where threads run; both are
done, and one in the middle of what is written or sent.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from kit import KEY, Ended, Gateway, is_whole
from kit.boundary import MOMENTS
from kit.forked import Forks

AT_ONCE = 2
SIZE = ("--size", "768x768")
#: The quick test takes about so many kills of each command, spread over its run.
SAMPLED = 12


@dataclass(frozen=True)
class Command:
    """``argv`` with PROMPT for the prompt; ``files`` are the names of each prompt's pictures."""

    argv: tuple[str, ...]
    files: tuple[str, ...] = ("one.png",)
    before: tuple[str, ...] = ()
    prompts: int = 1

    @property
    def batch(self) -> bool:
        return self.argv[0] == "batch"


GENERATE = ("generate", "PROMPT", "-o", "one.png", *SIZE)
COMMANDS = {
    "generate": Command(GENERATE),
    "samples": Command(
        ("generate", "PROMPT", "-o", "many.png", "--samples", "3", *SIZE),
        ("many-1.png", "many-2.png", "many-3.png"),
    ),
    "inline": Command(
        ("generate", "PROMPT", "-o", "many.png", "--samples", "2", "--base64", *SIZE),
        ("many-1.png", "many-2.png"),
    ),
    "sync": Command((*GENERATE, "--sync")),
    "submit": Command(("submit", "PROMPT", "-o", "one.png", *SIZE)),
    "fetch": Command(("fetch", "--pending", "--wait"), before=("submit", "PROMPT", "-o", "one.png", *SIZE)),
    "batch": Command(("batch", "list.jsonl", "--jobs", "2"), prompts=3),
}


class Case:
    """One command line in a folder of its own, killed, and brought home."""

    def __init__(self, gateway: Gateway, folder: Path, command: Command, name: str) -> None:
        self.gateway, self.folder, self.command, self.name = gateway, folder, command, name
        self.prompts = [f"{name} {letter}" for letter in "abc"[: command.prompts]]
        self.work = folder / "work"
        self.work.mkdir(parents=True)

    def files(self, prompt: str) -> list[Path]:
        if self.command.batch:
            return [self.work / f"{prompt[-1]}.png"]
        return [self.work / name for name in self.command.files]

    def argv(self, words: tuple[str, ...]) -> list[str]:
        return [self.prompts[0] if word == "PROMPT" else word for word in words]

    def first(self, forks: Forks, at: int = 0, moment: str = "") -> tuple[Ended, list[str]]:
        if self.command.batch:
            rows = [{"prompt": one, "output": f"{one[-1]}.png", "size": "768x768"} for one in self.prompts]
            (self.work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
        if self.command.before:
            ended, _ = forks.run(self.folder, *self.argv(self.command.before))
            assert ended.code == 0, ended.said
        return forks.run(self.folder, *self.argv(self.command.argv), at=at, moment=moment)

    def again(self, forks: Forks) -> Ended:
        argv = self.command.argv if self.command.batch else ("fetch", "--pending", "--wait")
        return forks.run(self.folder, *argv)[0]

    def rows(self, forks: Forks) -> list[dict[str, Any]]:
        ended, _ = forks.run(self.folder, "jobs", "--json", "--limit", "999")
        assert ended.code == 0, ended.said
        return ended.json

    def left_over(self) -> set[str]:
        """What is in none of the places where something belongs."""
        wanted = {str(path) for prompt in self.prompts for path in self.files(prompt)}
        if self.command.batch:
            wanted |= {str(self.work / "list.jsonl"), str(self.work / "list.lock.json")}
        found = {str(path) for path in self.work.rglob("*")} - wanted
        # Python itself tries out where temporary files can be written, with a name of eight letters
        temp = [path for path in (self.folder / "temp").iterdir() if not re.fullmatch(r"\w{8}", path.name)]
        return found | {str(path) for path in temp}

    def state_files(self) -> set[str]:
        names = {path.name for path in (self.folder / "state").iterdir()}
        # SQLite keeps a journal that holds nothing until the next write
        return {name for name in names if not name.endswith("-journal")}


def check_killed(case: Case) -> None:
    """What must be true even before anybody brings it home."""
    for prompt in case.prompts:
        for path in case.files(prompt):
            assert not path.exists() or is_whole(path), f"{path.name} is not whole"


def check_home(case: Case, forks: Forks, second: Ended, known: set[str]) -> None:
    """What must be true of every picture afterwards. ``known``: their ids were told before the kill."""
    rows = {row["request"]["prompt"]: row for row in case.rows(forks)}
    assert len(rows) == len(case.rows(forks)), "two rows for one picture"
    sync = "--sync" in case.command.argv
    unsettled = False
    for prompt in case.prompts:
        posts, row = case.gateway.posts(prompt), rows.get(prompt)
        there = [path for path in case.files(prompt) if path.exists()]
        for path in there:
            assert is_whole(path)
            assert case.gateway.whose(path).prompt == prompt
        assert posts <= 1, "paid twice"
        assert row is not None or posts == 0, "a job that nobody knows of"
        if row is not None and row["status"] == "COMPLETED":
            assert (posts, row["charged"]) == (1, "yes"), row
            assert row["cost"] == 0.055 or (sync and row["cost"] is None), row
            assert there == case.files(prompt), "complete and not there"
            assert sorted(one["path"] for one in row["files"]) == [str(path) for path in there]
        elif row is not None and row["status"] == "FAILED":
            # the half of a blocking answer that was on the disk, and cannot be had again
            assert sync and (row["charged"], second.code) == ("yes", 9), row
            assert case.left_over() == {f"{path}.broken" for path in case.files(prompt)}
            for path in case.left_over():
                Path(path).unlink()
            return
        elif row is not None:
            # a blocking call that was answered is known to be paid, and has nothing to fetch again
            assert (row["status"], row["charged"] == "unknown" or sync) == ("UNKNOWN", True), row
            assert prompt not in known, "its id was known, and is lost"
            assert sync or not there
            assert f"Job {row['job']} " in second.err.replace("job", "Job"), "nobody is told"
            unsettled = True
        else:
            assert not there
            assert prompt not in known
    assert second.code == (11 if case.command.batch and unsettled else 0), second.said


def one_kill(
    gateway: Gateway, forks: Forks, root: Path, name: str, at: int, moment: str, whole: set[str]
) -> bool:
    """Kill one run at one call and bring it home. Returns whether it was there to be killed."""
    case = Case(gateway, root / f"{at}-{moment}", COMMANDS[name], f"{name} {at} {moment}")
    first, _ = case.first(forks, at, moment)
    assert first.code in (-signal.SIGKILL, 0), first.said
    check_killed(case)
    known = {prompt for prompt in case.prompts if gateway.requests("status", prompt=prompt)}
    known |= set(case.prompts) if first.out and not case.command.batch else set()
    second = case.again(forks)
    check_home(case, forks, second, known)
    third = case.again(forks)
    assert third.code in (0, second.code), third.said
    assert all(gateway.posts(prompt) <= 1 for prompt in case.prompts), "paid by the third run"
    assert third.out == "" or case.command.batch, "fetched again"
    assert case.left_over() == set()
    assert case.state_files() <= whole, "left in the state directory"
    return first.code != 0


def kill_everywhere(gateway: Gateway, root: Path, name: str, most: int) -> None:
    """Count the calls of a whole run, then kill at ``most`` of them, ``AT_ONCE`` at a time."""
    ready: SimpleQueue[Forks] = SimpleQueue()
    every = [Forks(CHROMA_BASE_URL=gateway.base_url, SEGMIND_API_KEY=KEY) for _ in range(AT_ONCE)]
    try:
        whole = Case(gateway, root / "whole", COMMANDS[name], f"{name} whole")
        ended, made = whole.first(every[0])
        assert ended.code == 0, ended.said
        check_home(whole, every[0], whole.again(every[0]), set(whole.prompts))
        every_place = [
            (number, moment)
            for number, call in enumerate(made, 1)
            for moment in MOMENTS
            if moment != "within" or call.endswith("*")
        ]
        places = every_place[:: max(1, len(every_place) // most)]
        for forks in every:
            ready.put(forks)

        def kill(at: int, moment: str) -> tuple[str, bool]:
            forks = ready.get()
            try:
                killed = one_kill(gateway, forks, root, name, at, moment, whole.state_files())
                return "", killed
            except AssertionError as error:
                return f"{moment} call {at}, {made[at - 1]}: {error}", True
            finally:
                ready.put(forks)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            told = list(pool.map(lambda place: kill(*place), places))
    finally:
        for forks in every:
            forks.close()
    wrong = [words for words, _ in told if words]
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(told)} kills of {name}:", *wrong])
    killed = sum(was for _, was in told)
    assert killed >= 0.8 * len(told), f"only {killed} of {len(told)} runs came to where they were to die"


@pytest.fixture
def busy_gateway() -> Iterator[Gateway]:
    with Gateway() as running:
        yield running


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_some_calls_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, busy_gateway: Gateway, name: str
) -> None:
    kill_everywhere(busy_gateway, tmp_path, name, SAMPLED)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_every_call_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, busy_gateway: Gateway, name: str
) -> None:
    kill_everywhere(busy_gateway, tmp_path, name, 1_000_000)
