"""Commands beside owners that are still at work, and names that several want at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from kit import RESET, Ended, Gateway, Hold, Programs, SkippingClock, is_whole

Chroma = Callable[..., Ended]


def test_names_from_one_template_never_meet(gateway: Gateway, process: Programs, work: Path) -> None:
    """The same prompt and seed, so the same name: the later ones give way, none is lost."""
    holds = [Hold("before") for _ in range(4)]
    gateway.on("file", *holds)
    started = [process.start("generate", "a knight", "--seed", "7") for _ in holds]
    for hold in holds:
        hold.wait()
    for hold in holds:
        hold.release()
    ended = [one.end() for one in started]
    assert {one.code for one in ended} == {0}, [one.said for one in ended]
    assert gateway.posts() == len(holds)
    found = sorted(work.glob("*.png"))
    assert sorted(path for one in ended for path in one.paths) == found
    assert len({gateway.whose(path).id for path in found}) == len(holds)
    assert all(is_whole(path) for path in found)


@pytest.mark.parametrize("place", ["submit", "status", "half"])
def test_a_running_owner_is_left_alone(
    gateway: Gateway,
    clock: SkippingClock,
    chroma: Chroma,
    process: Programs,
    work: Path,
    place: Literal["submit", "status", "half"],
) -> None:
    hold = {
        "submit": lambda: gateway.hold("submit", "answer", then=RESET),
        "status": lambda: gateway.hold("status", "before"),
        "half": lambda: gateway.hold("file", "half"),
    }[place]()
    with hold:
        owner = process.start("generate", "busy", "-o", "busy.png")
        hold.wait()
        before = sorted(work.iterdir())
        beside = chroma("fetch", "--pending", "--wait", "--timeout", "5")
        assert (beside.code, beside.out) == (0, ""), beside.said
        if place == "submit":
            assert "unknown" not in beside.err, "its owner is alive and will know more"
        else:
            assert "left alone" in beside.err
        [row] = chroma("jobs", "--json").json
        assert row["status"] != "UNKNOWN"
        named = chroma("fetch", str(row["job"]), "--json")
        if row["request_id"] is not None:
            assert (named.code, named.error["type"]) == (7, "not_finished")
        assert chroma("jobs", "--forget", str(row["job"])).code == 2
        assert sorted(work.iterdir()) == before, "its temp file is its own"
    ended = owner.end()
    assert ended.code == (9 if place == "submit" else 0), ended.said
    assert place == "submit" or is_whole(work / "busy.png")
    assert [path.name for path in work.iterdir()] == ([] if place == "submit" else ["busy.png"])
    assert gateway.posts() == 1
