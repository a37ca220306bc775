"""A disk without room, and a state directory that cannot be written: the picture comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import PASS, Ended, Gateway, SkippingClock, is_whole
from kit.disk import fill, read_only, small_disk

Chroma = Callable[..., Ended]


def fills(folder: Path) -> Callable[[Any], Any]:
    """What the gateway does: nobody has room in this folder any more when it answers."""

    def step(_: Any) -> Any:
        fill(folder)
        return PASS

    return step


def test_a_full_output_disk_is_seen_before_anything_is_spent(
    gateway: Gateway, chroma: Chroma, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "64k") as small:
        ended = chroma("generate", "a fox", "-o", small / "fox.png", "--json")
        assert (ended.code, ended.error["charged"]) == (10, "no")
        assert "full" in ended.error["message"]
        assert list(small.iterdir()) == []
    assert gateway.posts() == 0


def test_a_disk_that_fills_up_meanwhile_loses_nothing(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, tmp_path: Path, state: Path
) -> None:
    """There was room when it was asked; when the picture comes there is none: it is kept elsewhere."""
    with small_disk(tmp_path / "small", "8m") as small:
        gateway.on("status", fills(small))
        ended = chroma("generate", "a fox", "-o", small / "fox.png", "--json")
        assert ended.code == 10, ended.said
        assert [path.name for path in small.iterdir()] == ["filler"]
        error = ended.error
        assert "full" in error["message"] and error["charged"] == "yes"
        assert f"chroma fetch {error['request_id']}" in error["hint"]
        kept = [path for path in state.rglob("*") if path.suffix == ".png"]
        assert [is_whole(path) for path in kept] == [True]
        assert str(kept[0]) in error["message"]

        (small / "filler").unlink()
        fetched = chroma("fetch", "--pending")
        assert fetched.paths == [small / "fox.png"], fetched.said
        assert is_whole(small / "fox.png")
        assert [path.name for path in small.iterdir()] == ["fox.png"]
    assert gateway.posts() == 1


def test_a_full_state_disk_costs_one_warning_and_no_picture(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, state: Path
) -> None:
    with small_disk(state, "256k"):
        assert chroma("jobs").code == 0
        fill(state)
        ended = chroma("generate", "a fox", "-o", "fox.png")
        assert ended.code == 0, ended.said
        assert ended.err.count("cannot be used") == 1 and "full" in ended.err
        assert is_whole(work / "fox.png")
        # full is not damage: nothing is set aside, and later all is as before
        assert [path.name for path in state.iterdir() if "damaged" in path.name] == []
        (state / "filler").unlink()
        assert chroma("generate", "an owl", "-o", "owl.png").code == 0
        assert len(chroma("jobs", "--json").json) == 1
    assert (gateway.posts("a fox"), gateway.posts("an owl")) == (1, 1)


def test_a_state_disk_that_fills_up_meanwhile_costs_no_picture(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, state: Path
) -> None:
    with small_disk(state, "256k"):
        gateway.on("status", fills(state))
        ended = chroma("generate", "a fox", "-o", "fox.png")
        assert ended.code == 0, ended.said
        assert ended.err.count("cannot be used") <= 1
        assert is_whole(work / "fox.png")
        (state / "filler").unlink()
        # what the ledger could not be told any more is found out again, without another file
        fetched = chroma("fetch", "--pending", "--wait")
        assert fetched.code == 0, fetched.said
        assert {row["status"] for row in chroma("jobs", "--json").json} == {"COMPLETED"}
    assert [path.name for path in work.iterdir()] == ["fox.png"]
    assert gateway.posts() == 1


@pytest.fixture
def no_ledger(state: Path) -> Iterator[Path]:
    with read_only(state) as place:
        yield place


def test_a_read_only_state_directory_costs_one_warning(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, no_ledger: Path
) -> None:
    ended = chroma("generate", "a fox", "-o", "fox.png", "--json")
    assert ended.code == 0, ended.said
    assert ended.err.count("cannot be used") == 1
    assert "will not know the job" in ended.err
    job = ended.one
    assert (job["status"], job["job"], job["charged"]) == ("COMPLETED", None, "yes")
    assert is_whole(work / "fox.png")
    assert [path.name for path in work.iterdir()] == ["fox.png"]


def test_without_a_ledger_the_id_alone_brings_a_job_home(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, no_ledger: Path
) -> None:
    submitted = chroma("submit", "a fox", "-o", "fox.png")
    assert submitted.code == 0, submitted.said
    [ident] = submitted.lines
    fetched = chroma("fetch", ident, "--wait", "-o", "other.png")
    assert fetched.paths == [work / "other.png"], fetched.said
    assert is_whole(work / "other.png")
    assert gateway.posts() == 1


def test_a_budget_that_cannot_be_kept_stops_before_sending(
    gateway: Gateway, chroma: Chroma, tmp_path: Path, no_ledger: Path
) -> None:
    (tmp_path / "config.toml").write_text("[budget]\nday = 5.0\n")
    ended = chroma("generate", "a fox", "-o", "fox.png", "--json")
    assert (ended.code, ended.error["charged"]) == (4, "no"), ended.said
    assert gateway.posts() == 0


def test_no_ledger_still_leaves_the_id(
    gateway: Gateway, clock: SkippingClock, chroma: Chroma, work: Path, state: Path
) -> None:
    [ident] = chroma("submit", "a fox", "--no-ledger").lines
    fetched = chroma("fetch", ident, "--wait", "--no-ledger", "-o", "fox.png")
    assert fetched.paths == [work / "fox.png"], fetched.said
    assert list(state.rglob("*.sqlite3")) == []
    assert gateway.posts() == 1
