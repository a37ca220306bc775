"""``kill -9`` where the place of the picture matters, and in what order a picture reaches the disk.

The windows themselves are in test_crashes: every call to the system, of every command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kit import KEY, Ended, Gateway, Reply, Request, is_whole
from kit.forked import Forks

SIZE = ("--size", "768x768")
Find = Callable[[list[str]], int]


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Gateway, Forks]]:
    """One gateway and one process that forks, for all of these."""
    with Gateway() as gateway:
        forks = Forks(CHROMA_BASE_URL=gateway.base_url, SEGMIND_API_KEY=KEY)
        yield gateway, forks
        forks.close()


class Machine:
    """A person with a folder and a ledger of their own."""

    def __init__(self, busy: tuple[Gateway, Forks], folder: Path) -> None:
        self.gateway, self._forks = busy
        self.folder, self.work = folder, folder / "work"
        self._posts = self.gateway.posts()

    def __call__(self, *argv: str) -> Ended:
        return self._forks.run(self.folder, *argv)[0]

    def calls(self, *argv: str) -> list[str]:
        """Run to the end, as somebody else; returns the calls to the system."""
        ended, made = self._forks.run(self.folder / "else", *argv)
        assert ended.code == 0, ended.said
        return made

    def kill(self, calls: list[str], find: Find, *argv: str, moment: str) -> None:
        ended, _ = self._forks.run(self.folder, *argv, at=find(calls) + 1, moment=moment)
        assert ended.code == -9, ended.said

    @property
    def posts(self) -> int:
        return self.gateway.posts() - self._posts

    def left_over(self) -> set[str]:
        """Temp files, wherever they are."""
        found = [*self.work.rglob("*"), *(self.folder / "temp").glob("*chroma*")]
        return {path.name for path in found if path.name.startswith(".") or ".part" in path.name}


@pytest.fixture
def machine(busy: tuple[Gateway, Forks], tmp_path: Path) -> Machine:
    return Machine(busy, tmp_path)


def last(name: str) -> Find:
    return lambda calls: len(calls) - 1 - calls[::-1].index(name)


def downloaded(calls: list[str]) -> int:
    """The write of what came last over the wire."""
    place = last("socket.recv_into")(calls)
    return next(at for at in range(place, len(calls)) if calls[at] in ("os.write*", "file.write*"))


def test_saved_is_written_only_when_file_and_folder_are_on_the_disk(machine: Machine) -> None:
    """Bytes written and synced, then the name, then the folder synced, then the ledger."""
    calls = machine.calls("generate", "a fox", "-o", "fox.png", *SIZE)
    named = last("os.link")(calls)
    writing = max(at for at in range(named) if calls[at].endswith("write*"))
    synced = calls.index("os.fsync", writing)
    folder_synced = calls.index("os.fsync", named)
    noted = last("sqlite.UPDATE")(calls)
    assert writing < synced < named < folder_synced < noted
    assert not [call for call in calls[named:folder_synced] if call.startswith("sqlite")]


@pytest.mark.parametrize(
    ("find", "moment"),
    [(downloaded, "within"), (last("os.fsync"), "before"), (last("os.link"), "after")],
    ids=["half", "folder not synced", "named"],
)
def test_a_killed_fetch_is_taken_up_by_the_next_with_another_place(
    busy: tuple[Gateway, Forks], machine: Machine, find: Find, moment: str
) -> None:
    fetch = ("fetch", "--pending", "--wait")
    assert machine("submit", "a fox", "-o", "first/", *SIZE).code == 0
    other = Machine(busy, machine.folder / "else")
    assert other("submit", "a fox", "-o", "first/", *SIZE).code == 0
    machine.kill(machine.calls(*fetch), find, *fetch, moment=moment)
    fetched = machine(*fetch, "-o", "elsewhere/")
    assert fetched.code == 0, fetched.said
    [path] = fetched.paths
    assert is_whole(path)
    assert machine.left_over() == set()
    assert machine(*fetch).out == ""


@pytest.mark.parametrize("name", ["-", "{id}-{seed}.png", "deep/er/"])
@pytest.mark.parametrize("sync", [False, True], ids=["v2", "v1"])
def test_a_killed_download_to_any_kind_of_place(machine: Machine, name: str, sync: bool) -> None:
    """Nothing is left behind, and what a blocking call brought is put in place."""
    argv = ("generate", "a fox", "-o", name, *SIZE, *(["--sync"] if sync else []))
    machine.kill(machine.calls(*argv), downloaded, *argv, moment="after" if sync else "within")
    fetched = machine("fetch", "--pending")
    assert fetched.code == 0, fetched.said
    [path] = fetched.paths
    assert is_whole(path)
    assert machine.left_over() == set()
    assert machine.posts == 2  # one of them is that of the run that nobody killed


def test_a_blocking_answer_that_was_an_address_is_downloaded_later(machine: Machine) -> None:
    """It bears no id, but the address was written down."""

    def address(request: Request) -> Reply:
        request.normal()
        job = machine.gateway.jobs()[-1]
        return Reply.json({"image": machine.gateway.world.addresses(job, machine.gateway.base_url)[0]})

    machine.gateway.on("sync", address, address)
    argv = ("generate", "a fox", "-o", "fox.png", "--sync", *SIZE)
    machine.kill(machine.calls(*argv), downloaded, *argv, moment="within")
    fetched = machine("fetch", "--pending")
    assert fetched.paths == [machine.work / "fox.png"], fetched.said
    assert is_whole(machine.work / "fox.png")
    assert machine.left_over() == set()
    assert machine.posts == 2
