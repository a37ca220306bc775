"""``kill -9`` in every window of a job's life, many times; afterwards ``fetch --pending --wait`` settles it.

Each window is reached in several ways ("places"): some the server steers (it holds, and tells that the
client is there), some only the client itself can know (``halting.py`` stops it there). All orders of one
round share a ledger, are killed at about the same time, and are brought home by one fetch.
"""

from __future__ import annotations

import os
import random
import stat
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from stormrig import AROUND, Machine, ended, killed
from stormserver import StormServer, is_whole

from chroma_cli.cli.main import main
from chroma_cli.jobs.entries import Entries

#: At least so many kills in each window; CHROMA_STORM=1000 spreads that many over all windows.
HITS = 15
LONG_RUN = int(AROUND.get("CHROMA_STORM") or 0)
#: So many processes at a time; more would only wait for each other.
AT_ONCE = 4

Fate = Literal["nothing", "unsent", "unknown", "home"]


@dataclass(frozen=True)
class Place:
    """Where to kill. ``by``: "server" holds there, "client" stops itself there. ``fate``: what must become of
    the job. nothing: no row, no submit. unsent: a row that is told as unknown, no submit. unknown: the same
    with one submit. home: one submit, and the whole picture under its name.
    """

    window: str
    name: str
    by: Literal["server", "client"]
    fate: Fate


BEFORE = "before the POST"
OUT = "POST out, not answered"
ANSWERED = "answered, not recorded"
POLLING = "polling"
DOWNLOADING = "downloading"
NAMING = "between temp file and rename"

PLACES = (
    Place(BEFORE, "probing", "client", "nothing"),
    Place(BEFORE, "probing with a name", "client", "nothing"),
    Place(BEFORE, "before the intent", "client", "nothing"),
    Place(BEFORE, "intent not committed", "client", "nothing"),
    Place(BEFORE, "intent", "client", "unsent"),
    Place(BEFORE, "connected", "client", "unsent"),
    Place(OUT, "submit", "server", "unknown"),
    Place(ANSWERED, "answer not recorded", "client", "unknown"),
    Place(ANSWERED, "answer not committed", "client", "unknown"),
    Place(POLLING, "status", "server", "home"),
    Place(POLLING, "polled", "server", "home"),
    Place(POLLING, "result", "server", "home"),
    Place(DOWNLOADING, "result not recorded", "client", "home"),
    Place(DOWNLOADING, "temp file made", "client", "home"),
    Place(DOWNLOADING, "file", "server", "home"),
    Place(DOWNLOADING, "half", "server", "home"),
    Place(NAMING, "not synced", "client", "home"),
    Place(NAMING, "synced", "client", "home"),
    Place(NAMING, "named", "client", "home"),
    Place(NAMING, "folder not synced", "client", "home"),
    Place(NAMING, "file not recorded", "client", "home"),
    Place(NAMING, "file not committed", "client", "home"),
)
WINDOWS = tuple(dict.fromkeys(place.window for place in PLACES))


def schedule() -> list[list[Place]]:
    """Rounds of one place from each window; the places of a window take turns."""
    rounds = max(HITS, -(-LONG_RUN // len(WINDOWS)))
    by_window = [[place for place in PLACES if place.window == window] for window in WINDOWS]
    return [[places[number % len(places)] for places in by_window] for number in range(rounds)]


def kill_at(machine: Machine, storm: StormServer, place: Place, prompt: str) -> None:
    """Start an order, wait until it is at the place, kill it there."""
    hold = storm.hold(prompt, place.name if place.by == "server" else None)
    halt = (place.name, storm.port, prompt) if place.by == "client" else None
    process = machine.start("generate", prompt, "-o", f"{prompt}.png", halt=halt)
    try:
        if not hold.reached.wait(60):
            process.kill()
            pytest.fail(f"{prompt} was never at {place.name!r}: {process.communicate()[1].decode()}")
        killed(process)
    finally:
        hold.released.set()


def check(
    machine: Machine, storm: StormServer, place: Place, prompt: str, rows: list[Any], told: str
) -> None:
    """What must be true of one order after the fetch."""
    row = next((one for one in rows if (one["request"] or {}).get("prompt") == prompt), None)
    target = machine.out / f"{prompt}.png"
    where = f"{prompt} ({place.window}, {place.name})"
    sent = {"nothing": 0, "unsent": 0, "unknown": 1, "home": 1}[place.fate]
    assert storm.submits[prompt] == sent, where
    assert storm.charges(prompt) <= 1, where
    if place.fate == "home":
        assert is_whole(target, prompt), where
        assert row is not None and row["status"] == "COMPLETED" and row["charged"] == "yes", (where, row)
        assert [file["path"] for file in row["files"]] == [str(target)], where
    else:
        assert not target.exists(), where
    if place.fate in ("unsent", "unknown"):
        assert row is not None and row["status"] == "UNKNOWN" and row["charged"] == "unknown", (where, row)
        assert f"Job {row['job']} " in told, where
    if place.fate == "nothing":
        assert row is None, (where, row)


@pytest.mark.timeout(3600 if LONG_RUN else 300)
def test_nothing_is_lost_or_paid_twice_whenever_the_program_is_killed(
    tmp_path: Path, storm: StormServer, capsys: pytest.CaptureFixture[str]
) -> None:
    hits: Counter[Place] = Counter()
    for number, places in enumerate(schedule()):
        machine = Machine(tmp_path / f"round{number}", storm.base_url)
        orders = {f"storm-{number}-{index}": place for index, place in enumerate(places)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            started = [
                pool.submit(kill_at, machine, storm, place, prompt) for prompt, place in orders.items()
            ]
        for one in started:
            one.result()
        halves = [path for path in machine.out.glob("*.png") if not is_whole(path, path.stem)]
        assert not halves, "a file under its final name is whole, also before anybody fetches"
        fetched = machine.run("fetch", "--pending", "--wait")
        assert fetched.code == 0, fetched.stderr
        rows = machine.jobs()
        for prompt, place in orders.items():
            check(machine, storm, place, prompt, rows, fetched.stderr)
            hits[place] += 1
        assert machine.temp_files() == []
        home = [f"{prompt}.png" for prompt, place in orders.items() if place.fate == "home"]
        assert sorted(path.name for path in machine.out.iterdir()) == sorted(home)
        again = machine.run("fetch", "--pending")
        assert (again.code, again.stdout) == (0, ""), "the first fetch has settled all that can be settled"
    told = [f"{hits[place]:6}  {place.window}: {place.name} -> {place.fate}" for place in PLACES]
    for window in WINDOWS:
        count = sum(hits[place] for place in PLACES if place.window == window)
        told.append(f"{count:6}  {window}")
        assert count >= HITS
    with capsys.disabled():
        print("", "kills, each settled by fetch --pending --wait:", *told, sep="\n")


def test_saved_is_written_only_when_file_and_folder_are_on_the_disk(
    machine: Machine, storm: StormServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one real run: bytes synced, then the name, then the folder synced, then the ledger."""
    for name in [name for name in AROUND if name.startswith(("CHROMA_", "SEGMIND_"))]:
        monkeypatch.delenv(name)
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(machine.out)
    steps: list[str] = []

    def spy(owner: Any, name: str, say: Any) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **more: Any) -> Any:
            result = real(*args, **more)
            steps.append(say(*args, **more))
            return result

        monkeypatch.setattr(owner, name, wrapped)

    inodes: list[int] = []

    def synced(descriptor: int) -> str:
        found = os.fstat(descriptor)
        inodes.append(found.st_ino)
        return "sync file" if stat.S_ISREG(found.st_mode) else "sync folder"

    def named(source: Path, target: Path) -> str:
        assert source.parent == target.parent == machine.out
        assert inodes[-1] == target.stat().st_ino, "what was synced last is what got the name"
        return f"name {target.name}"

    spy(os, "fsync", synced)
    spy(os, "link", named)
    spy(Entries, "completed", lambda *_, **more: f"record {len(more['sources'])} address")
    spy(Entries, "saved_file", lambda *_, settle: "record file as saved" if settle else "record file")
    assert main(["generate", "a knight", "-o", "knight.png"]) == 0
    assert steps == [
        "record 1 address",
        "sync file",
        "name knight.png",
        "sync folder",
        "record file as saved",
    ]
    assert inodes[-1] == machine.out.stat().st_ino
    assert is_whole(machine.out / "knight.png", "a knight")


@pytest.mark.parametrize("output", [None, "elsewhere/"])
@pytest.mark.parametrize("place", ["half", "synced", "named", "file not recorded"])
def test_a_killed_fetch_is_taken_up_by_the_next(
    machine: Machine, storm: StormServer, place: str, output: str | None
) -> None:
    """The second fetch may be told of another place: nothing stays behind in the first."""
    assert machine.run("submit", "knight", "-o", "first/").code == 0
    hold = storm.hold("knight", place if place == "half" else None)
    halt = None if place == "half" else (place, storm.port, "knight")
    process = machine.start("fetch", "--pending", "--wait", halt=halt)
    assert hold.reached.wait(60)
    killed(process)
    hold.released.set()
    more = [] if output is None else ["-o", output]
    fetched = machine.run("fetch", "--pending", "--wait", *more)
    assert fetched.code == 0, fetched.stderr
    [path] = fetched.lines
    assert is_whole(Path(path), "knight")
    assert Path(path).parent == machine.out / ("first" if output is None else "elsewhere")
    assert machine.temp_files() == []
    assert storm.submits["knight"] == 1


@pytest.mark.parametrize("name", ["-", "{id}-{seed}.png", "deep/er/"])
def test_a_killed_download_to_any_kind_of_place_leaves_nothing_behind(
    machine: Machine, storm: StormServer, name: str
) -> None:
    hold = storm.hold("knight", "half")
    process = machine.start("generate", "knight", "-o", name)
    assert hold.reached.wait(60)
    assert len(machine.temp_files()) == 1
    killed(process)
    hold.released.set()
    fetched = machine.run("fetch", "--pending")
    [path] = fetched.lines
    assert is_whole(Path(path), "knight")
    assert machine.temp_files() == []
    assert storm.submits["knight"] == 1


@pytest.mark.parametrize(
    ("place", "output"),
    [
        ("result not recorded", "knight.png"),
        ("result not recorded", "-"),
        ("not synced", "knight.png"),
        ("synced", "knight.png"),
    ],
)
def test_what_a_blocking_call_brought_is_put_in_place(
    machine: Machine, storm: StormServer, place: str, output: str
) -> None:
    """There is nothing to fetch again, but the whole picture is there, in a temp file."""
    hold = storm.hold("knight", None)
    process = machine.start("generate", "knight", "--sync", "-o", output, halt=(place, storm.port, "knight"))
    assert hold.reached.wait(60)
    killed(process)
    hold.released.set()
    fetched = machine.run("fetch", "--pending")
    assert fetched.code == 0, fetched.stderr
    [path] = fetched.lines
    assert is_whole(Path(path), "knight")
    assert output == "-" or Path(path) == machine.out / output
    [row] = machine.jobs()
    assert (row["status"], row["charged"]) == ("COMPLETED", "yes")
    assert machine.temp_files() == []
    assert storm.submits["knight"] == 1


@pytest.mark.parametrize("place", ["named", "folder not synced", "file not recorded"])
def test_a_blocking_call_whose_picture_has_its_name_already(
    machine: Machine, storm: StormServer, place: str
) -> None:
    hold = storm.hold("knight", None)
    process = machine.start(
        "generate", "knight", "--sync", "-o", "knight.png", halt=(place, storm.port, "knight")
    )
    assert hold.reached.wait(60)
    killed(process)
    hold.released.set()
    assert is_whole(machine.out / "knight.png", "knight")
    fetched = machine.run("fetch", "--pending")
    assert fetched.code == 0, fetched.stderr
    assert [path.name for path in machine.out.iterdir()] == ["knight.png"]
    assert machine.temp_files() == []
    assert storm.submits["knight"] == 1


def test_half_a_blocking_answer_is_kept_beside_its_place(machine: Machine, storm: StormServer) -> None:
    hold = storm.hold("knight", "half")
    process = machine.start("generate", "knight", "--sync", "-o", "knight.png")
    assert hold.reached.wait(60)
    for _ in range(200):  # the server is at the place; its bytes may still be on their way
        if any(path.stat().st_size for path in machine.temp_files()):
            break
        time.sleep(0.05)
    killed(process)
    hold.released.set()
    fetched = machine.run("fetch", "--pending")
    assert fetched.code == 9, fetched.stderr
    assert [path.name for path in machine.out.iterdir()] == ["knight.png.broken"]
    assert "knight.png.broken" in fetched.stderr
    assert [row["status"] for row in machine.jobs()] == ["FAILED"]
    again = machine.run("fetch", "--pending")
    assert (again.code, again.stdout) == (0, "")
    assert machine.temp_files() == []


def test_a_blocking_answer_that_was_an_address_is_downloaded_later(
    machine: Machine, storm: StormServer
) -> None:
    """It bears no id, but the address was written down."""
    storm.v1_gives_address = True
    hold = storm.hold("knight", "half")
    process = machine.start("generate", "knight", "--sync", "-o", "knight.png")
    assert hold.reached.wait(60)
    killed(process)
    hold.released.set()
    fetched = machine.run("fetch", "--pending")
    assert fetched.lines == [str(machine.out / "knight.png")], fetched.stderr
    assert is_whole(machine.out / "knight.png", "knight")
    assert machine.temp_files() == []
    assert storm.submits["knight"] == 1


@pytest.mark.timeout(300)
def test_killed_at_any_instant(tmp_path: Path, storm: StormServer) -> None:
    """Nobody chooses the instant here: what holds in every window must hold between them, too."""
    chance = random.Random(11)
    prompts = [f"chance-{number}" for number in range(32)]
    machine = Machine(tmp_path / "machine", storm.base_url)

    def kill_some_time(prompt: str) -> None:
        process = machine.start("generate", prompt, "-o", f"{prompt}.png")
        time.sleep(chance.uniform(0.2, 1.6))
        process.kill()
        ended(process)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(kill_some_time, prompts))
    fetched = machine.run("fetch", "--pending", "--wait")
    assert fetched.code == 0, fetched.stderr
    rows = {row["request"]["prompt"]: row for row in machine.jobs()}
    for prompt in prompts:
        row, target = rows.get(prompt), machine.out / f"{prompt}.png"
        assert storm.submits[prompt] <= 1
        if storm.submits[prompt]:
            assert row is not None
        if row is None or row["status"] == "UNKNOWN":
            assert not target.exists()
            assert row is None or f"Job {row['job']} " in fetched.stderr
        else:
            assert row["status"] == "COMPLETED", row
            assert is_whole(target, prompt)
    assert machine.temp_files() == []
