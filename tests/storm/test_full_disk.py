"""A disk without room, and a state directory that cannot be written: the picture comes first."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stormrig import Machine, ended
from stormserver import StormServer, is_whole


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size; skips where one may not mount."""
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_full_output_disk_is_seen_before_anything_is_spent(machine: Machine, storm: StormServer) -> None:
    with small_disk(machine.root / "small", "64k") as small:
        answer = machine.run("generate", "knight", "-o", str(small / "knight.png"), "--json")
        assert answer.code == 10
        assert answer.error["charged"] == "no"
        assert "full" in answer.error["message"]
        assert list(small.iterdir()) == []
    assert storm.submits["knight"] == 0


def test_a_disk_that_fills_up_meanwhile_loses_nothing(machine: Machine, storm: StormServer) -> None:
    """There was room when it was asked; when the picture comes there is none: it is kept elsewhere."""
    hold = storm.hold("knight", "polled")
    with small_disk(machine.root / "small", "8m") as small:
        running = machine.start("generate", "knight", "-o", str(small / "knight.png"), "--json")
        try:
            assert hold.reached.wait(60)
            fill(small)
        finally:
            hold.released.set()
        answer = ended(running)
        assert answer.code == 10, answer.stderr
        assert [path.name for path in small.iterdir()] == ["filler"]
        error = answer.error
        assert "full" in error["message"] and error["charged"] == "yes"
        assert f"chroma fetch {error['request_id']}" in error["hint"]
        kept = [path for path in machine.state.rglob("*") if path.suffix == ".png"]
        assert [is_whole(path, "knight") for path in kept] == [True]
        assert str(kept[0]) in error["message"]

        (small / "filler").unlink()
        fetched = machine.run("fetch", "--pending")
        assert fetched.lines == [str(small / "knight.png")], fetched.stderr
        assert is_whole(small / "knight.png", "knight")
    assert storm.submits["knight"] == 1
    assert machine.temp_files() == []


def test_a_full_state_disk_costs_one_warning_and_no_picture(machine: Machine, storm: StormServer) -> None:
    with small_disk(machine.state, "256k") as state:
        assert machine.run("jobs").code == 0
        fill(state)
        answer = machine.run("generate", "knight", "-o", "knight.png")
        assert answer.code == 0, answer.stderr
        assert answer.stderr.count("cannot be used") == 1 and "full" in answer.stderr
        assert is_whole(machine.out / "knight.png", "knight")
        # full is not damage: nothing is set aside, and later all is as before
        assert [path.name for path in state.iterdir() if "damaged" in path.name] == []
        (state / "filler").unlink()
        assert machine.run("generate", "fox", "-o", "fox.png").code == 0
        assert len(machine.jobs()) == 1
    assert dict(storm.submits) == {"knight": 1, "fox": 1}


def test_a_state_disk_that_fills_up_meanwhile_costs_no_picture(machine: Machine, storm: StormServer) -> None:
    hold = storm.hold("knight", "polled")
    with small_disk(machine.state, "256k") as state:
        running = machine.start("generate", "knight", "-o", "knight.png")
        try:
            assert hold.reached.wait(60)
            fill(state)
        finally:
            hold.released.set()
        answer = ended(running)
        assert answer.code == 0, answer.stderr
        assert answer.stderr.count("cannot be used") <= 1
        assert is_whole(machine.out / "knight.png", "knight")
        (state / "filler").unlink()
        # what the ledger could not be told any more is found out again, without another file
        fetched = machine.run("fetch", "--pending", "--wait")
        assert fetched.code == 0, fetched.stderr
        assert {row["status"] for row in machine.jobs()} == {"COMPLETED"}
    assert [path.name for path in machine.out.iterdir()] == ["knight.png"]
    assert storm.submits["knight"] == 1


@pytest.fixture
def read_only(machine: Machine) -> Iterator[Path]:
    """The state directory as nobody may write it; for root that takes a read-only mount."""
    if os.geteuid() == 0:
        with small_disk(machine.state, "1m") as state:
            assert machine.run("jobs").code == 0
            remount = ["mount", "-o", "remount,ro", str(state)]
            if subprocess.run(remount, capture_output=True).returncode != 0:
                pytest.skip("no read-only mount here")
            yield state
        return
    assert machine.run("jobs").code == 0
    machine.state.chmod(0o500)
    yield machine.state
    machine.state.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")
def test_a_read_only_state_directory_costs_one_warning(
    machine: Machine, storm: StormServer, read_only: Path
) -> None:
    answer = machine.run("generate", "knight", "-o", "knight.png", "--json")
    assert answer.code == 0, answer.stderr
    assert answer.stderr.count("cannot be used") == 1
    assert "will not know the job" in answer.stderr
    [job] = answer.objects
    assert (job["status"], job["job"], job["charged"]) == ("COMPLETED", None, "yes")
    assert is_whole(machine.out / "knight.png", "knight")
    assert machine.temp_files() == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")
def test_without_a_ledger_the_id_alone_brings_a_job_home(
    machine: Machine, storm: StormServer, read_only: Path
) -> None:
    submitted = machine.run("submit", "knight", "-o", "knight.png")
    assert submitted.code == 0, submitted.stderr
    [ident] = submitted.lines
    fetched = machine.run("fetch", ident, "--wait", "-o", "other.png")
    assert fetched.lines == [str(machine.out / "other.png")], fetched.stderr
    assert is_whole(machine.out / "other.png", "knight")
    assert storm.submits["knight"] == 1
    assert machine.temp_files() == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes there")
def test_a_budget_that_cannot_be_kept_stops_before_sending(
    machine: Machine, storm: StormServer, read_only: Path
) -> None:
    (machine.root / "config.toml").write_text("[budget]\nday = 5.0\n")
    answer = machine.run("generate", "knight", "-o", "knight.png", "--json")
    assert (answer.code, answer.error["charged"]) == (4, "no"), answer.stderr
    assert storm.submits["knight"] == 0


def test_no_ledger_still_leaves_the_id(machine: Machine, storm: StormServer) -> None:
    submitted = machine.run("submit", "knight", "--no-ledger")
    [ident] = submitted.lines
    fetched = machine.run("fetch", ident, "--wait", "--no-ledger", "-o", "knight.png")
    assert fetched.lines == [str(machine.out / "knight.png")], fetched.stderr
    assert list(machine.state.rglob("*.sqlite3")) == []
    assert storm.submits["knight"] == 1
