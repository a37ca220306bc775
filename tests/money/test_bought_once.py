"""One request, one payment: runs that overlap, folders that move, files that come from elsewhere."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from kit import RESET, Hold, Lost, Reply, eventually, is_whole


def manifest(path: Path, *names: str, **more: object) -> Path:
    """Write a manifest of these images, each with its name as prompt."""
    rows = [json.dumps({"prompt": name, "output": f"{name}.png", **more}) for name in names]
    path.write_text("\n".join(rows) + "\n")
    return path


def names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def bought_once(gateway, count: int) -> bool:
    prompts = sorted(job.prompt for job in gateway.jobs())
    return prompts == sorted(names(count))


def config(path: Path, text: str) -> dict[str, str]:
    """Write a config file, and give the variable that names it."""
    path.write_text(text)
    return {"CHROMA_CONFIG": str(path)}


def as_if_asleep_elsewhere(state: Path) -> None:
    """Make the claims in the ledger those of a machine that has not been heard of for an hour."""
    owner = json.dumps(["far-away", "boot", 1, "1"])
    with sqlite3.connect(state / "jobs.sqlite3", timeout=30) as ledger:
        ledger.execute(
            "UPDATE jobs SET owner = ?, claimed_at = claimed_at - 3600 WHERE owner NOT NULL", [owner]
        )
    ledger.close()


@pytest.fixture(autouse=True)
def own_state(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_STATE_DIR", str(state))


# --- runs at the same time ---


def test_shares_of_two_splits_at_once(gateway, process, work):
    art = manifest(work / "art.jsonl", *names(12))
    gateway.plan(seconds=1)
    started = [process.start("batch", art, "--shard", share) for share in ("1/2", "2/2", "1/3")]
    for one in started:
        ended = one.end()
        assert ended.code == 0, ended.said
    assert bought_once(gateway, 12)
    assert sorted(path.name for path in work.glob("*.png")) == sorted(f"{name}.png" for name in names(12))
    assert process("batch", art, "--check").code == 0


def test_two_manifests_from_stdin_at_once(gateway, process, work):
    rows = manifest(work / "art.jsonl", *names(6)).read_bytes()
    gateway.plan(seconds=1)
    started = [process.start("batch", "-", "--jobs", "2", stdin=rows) for _ in range(2)]
    ends = [one.end() for one in started]
    assert [ended.code for ended in ends] == [0, 0], ends[0].said + ends[1].said
    assert [len(ended.paths) for ended in ends] == [6, 6]
    assert bought_once(gateway, 6)
    assert len(list(work.glob("*.png"))) == 6


def test_a_run_whose_lock_was_cleaned_away_is_overtaken(gateway, process, work):
    art = manifest(work / "art.jsonl", *names(4))
    with gateway.hold("status", prompt="p0") as hold:
        first = process.start("batch", art, "--jobs", "1")
        hold.wait()
        (work / ".art.jsonl.running").unlink()
        second = process.start("batch", art, "--jobs", "2")
        eventually(lambda: len(gateway.jobs()) == 4, "the others are made by the second")
    for one in (first, second):
        ended = one.end()
        assert ended.code == 0, ended.said
    assert bought_once(gateway, 4)
    assert process("batch", art, "--check").code == 0


def test_an_image_in_work_elsewhere_is_left_when_the_time_is_up(gateway, process, work):
    art = manifest(work / "art.jsonl", "p0")
    with gateway.hold("status") as hold:
        first = process.start("batch", art)
        hold.wait()
        (work / ".art.jsonl.running").unlink()
        ended = process("batch", art, "--timeout", "1", "--json")
        assert (ended.code, ended.error["type"]) == (7, "not_finished")
        assert "being worked on by another" in ended.error["message"]
    assert first.end().code == 0
    assert bought_once(gateway, 1)


def test_what_another_run_fails_to_make_is_made(gateway, process, work):
    art = manifest(work / "art.jsonl", "p0")
    with gateway.hold("status") as hold:
        first = process.start("batch", art)
        hold.wait()
        gateway.jobs()[0].plan = type(gateway.jobs()[0].plan)(error="content was blocked")
        (work / ".art.jsonl.running").unlink()
        second = process.start("batch", art)
    assert (first.end().code, second.end().code) == (6, 0)
    assert gateway.posts() == 2 and gateway.bills() == 1
    assert is_whole(work / "p0.png")


# --- places ---


def test_a_picture_that_is_pulled_during_the_run_is_not_bought(gateway, process, work, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    art = manifest(work / "art.jsonl", "p0", "p1")
    shutil.copy(art, other)
    bare = config(tmp_path / "bare.toml", '[defaults]\nmetadata = "none"')
    far = {"CHROMA_STATE_DIR": str(tmp_path / "far"), **bare}
    assert process("batch", "art.jsonl", cwd=other, env=far).code == 0
    theirs = json.loads((other / "art.lock.json").read_text())
    pulled = theirs["images"]["p1.png"]
    with gateway.hold("status") as hold:
        started = process.start("batch", art, "--jobs", "1")
        hold.wait()
        shutil.copy(other / "p1.png", work)
        (work / "art.lock.json").write_text(json.dumps({**theirs, "images": {"p1.png": pulled}}))
    ended = started.end()
    assert ended.code == 0, ended.said
    assert (gateway.posts("p0"), gateway.posts("p1")) == (2, 1)
    images = json.loads((work / "art.lock.json").read_text())["images"]
    assert sorted(images) == ["p0.png", "p1.png"] and images["p1.png"] == pulled


def test_a_file_that_appears_at_a_later_place_is_in_the_way(gateway, process, work):
    art = manifest(work / "art.jsonl", "p0", "p1", "p2")
    with gateway.hold("status", prompt="p0") as hold:
        started = process.start("batch", art, "--jobs", "1", "--json")
        hold.wait()
        (work / "p2.png").write_bytes(b"mine")
    ended = started.end()
    assert ended.code == 11, ended.said
    assert gateway.posts("p2") == 0 and gateway.posts("p1") == 1
    assert (work / "p2.png").read_bytes() == b"mine"


def test_overwrite_holds_for_a_file_that_appears(gateway, process, work):
    art = manifest(work / "art.jsonl", "p0", "p1")
    with gateway.hold("status", prompt="p0") as hold:
        started = process.start("batch", art, "--jobs", "1", "--overwrite")
        hold.wait()
        (work / "p1.png").write_bytes(b"mine")
    ended = started.end()
    assert ended.code == 0, ended.said
    assert gateway.whose(work / "p1.png").prompt == "p1"


def test_a_picture_that_was_saved_there_and_moved_on_is_not_bought_again(gateway, process, work):
    art = manifest(work / "art.jsonl", "p0", "p1")
    with gateway.hold("status", prompt="p0") as hold:
        first = process.start("batch", art, "--jobs", "1")
        hold.wait()
        rows = manifest(work / "again.jsonl", "p1").read_bytes()
        assert process("batch", "-", stdin=rows).code == 0
        (work / "p1.png").rename(work / "sorted-away.png")
    ended = first.end()
    assert ended.code == 11, ended.said
    assert "has saved its picture there meanwhile" in ended.err
    assert gateway.posts("p1") == 1


def test_a_file_that_appears_while_a_single_job_waits_for_the_price(gateway, process, work, tmp_path):
    limited = config(tmp_path / "limited.toml", "[budget]\nday = 9.0")
    with gateway.hold("status", prompt="p0") as hold:
        first = process.start("generate", "p0", "-o", "p0.png", env=limited)
        hold.wait()
        second = process.start("generate", "p1", "-o", "p1.png", "--json", env=limited)
        second.wait_for("Waiting for it")
        (work / "p1.png").write_bytes(b"mine")
    ended = second.end()
    assert ended.code == 10, ended.said
    assert ended.error["type"] == "output_exists"
    assert first.end().code == 0
    assert gateway.posts() == 1
    assert (work / "p1.png").read_bytes() == b"mine"


# --- folders ---


def test_a_folder_that_was_moved_after_a_crash(gateway, process, work, tmp_path):
    manifest(work / "art.jsonl", *names(5))
    gateway.on("status", *[Hold() for _ in range(5)])
    started = process.start("batch", "art.jsonl", cwd=work)
    eventually(lambda: len(gateway.jobs()) == 5 and len(gateway.requests("status")) == 5, "all in flight")
    started.kill()
    gateway.behave()
    new = tmp_path / "elsewhere"
    work.rename(new)
    listed = process("batch", "art.jsonl", "--dry-run", "--json", cwd=new)
    assert [row["expected_cost"] for row in listed.json] == [0.0] * 5
    ended = process("batch", "art.jsonl", cwd=new)
    assert ended.code == 0, ended.said
    assert bought_once(gateway, 5)
    assert sorted(ended.paths) == sorted(new / f"{name}.png" for name in names(5))
    assert not list(tmp_path.rglob("*.part"))
    assert process("fetch", "--pending", cwd=new).out == ""


def test_another_checkout_copies_what_lies_unchanged_on_this_disk(gateway, process, work, tmp_path):
    art = manifest(work / "art.jsonl", "p0", "p1", samples=2)
    assert process("batch", art).code == 0
    (work / "p1-2.png").write_bytes((work / "p1-2.png").read_bytes() + b"changed")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(art, other)
    ended = process("batch", "art.jsonl", "--json", cwd=other)
    assert ended.code == 0, ended.said
    assert (gateway.posts("p0"), gateway.posts("p1")) == (1, 2)
    for name in ("p0-1.png", "p0-2.png"):
        assert (other / name).read_bytes() == (work / name).read_bytes()
    copied = next(one for one in ended.json if one["request"]["prompt"] == "p0")
    assert [Path(file["path"]).parent for file in copied["files"]] == [other, other]
    locks = [json.loads((folder / "art.lock.json").read_text())["images"] for folder in (work, other)]
    assert locks[0]["p0.png"] == locks[1]["p0.png"]
    assert process("batch", "art.jsonl", "--check", cwd=other).code == 0


def test_a_copy_bears_what_this_run_wants_written(gateway, process, work, tmp_path):
    bare = config(tmp_path / "bare.toml", '[defaults]\nmetadata = "none"')
    for name, env in {"without": bare, "with": {}}.items():
        row = json.dumps({"prompt": "p0", "seed": 5, "output": f"{name}.png"})
        assert process("batch", "-", stdin=row.encode(), env=env).code == 0
    assert gateway.posts() == 1
    assert [process("inspect", f"{name}.png").code for name in ("without", "with")] == [8, 0]


@pytest.mark.parametrize("jobs", ["1", "8"])
def test_rows_of_one_request_are_paid_once(gateway, process, work, jobs):
    rows = [json.dumps({"prompt": "p0", "seed": 7, "output": f"twin{n}.png"}) for n in range(4)]
    (work / "art.jsonl").write_text("\n".join(rows))
    ended = process("batch", "art.jsonl", "--jobs", jobs, "--budget", "0.06")
    assert ended.code == 0, ended.said
    assert bought_once(gateway, 1)
    assert len({path.read_bytes() for path in work.glob("twin*.png")}) == 1
    assert len(list(work.glob("*.png"))) == 4
    assert "$0.055 spent" in ended.err
    assert process("batch", "art.jsonl", "--check").code == 0


def test_a_seed_that_the_server_draws_makes_no_request_identical(gateway, process, work):
    rows = [json.dumps({"prompt": "p0", "seed": -1, "output": f"twin{n}.png"}) for n in range(2)]
    (work / "art.jsonl").write_text("\n".join(rows))
    assert process("batch", "art.jsonl").code == 0
    assert gateway.posts() == 2


# --- one picture ---


def test_an_unknown_outcome_is_not_bought_again(gateway, chroma, ledger_rows, work):
    gateway.on("submit", Lost(RESET))
    fox = ("a fox", "--seed", "7", "--json")
    assert chroma("generate", *fox, "-o", "one.png").code == 9
    for argv in (("generate", "-o", "two.png"), ("generate", "--sync"), ("submit",)):
        ended = chroma(*argv, *fox)
        assert (ended.code, ended.error["type"]) == (9, "outcome_unknown")
        assert ended.error["job"] == 1 and "--resubmit-unknown" in ended.error["hint"]
    assert chroma("generate", "a fox", "--seed", "8").code == 0
    assert gateway.posts() == 2
    assert chroma("generate", *fox, "-o", "two.png", "--resubmit-unknown").code == 0
    assert gateway.posts() == 3
    assert [row["status"] for row in ledger_rows()] == ["UNKNOWN", "COMPLETED", "COMPLETED"]
    assert chroma("jobs", "--pending").out == ""


def test_a_job_in_flight_that_nobody_works_on_is_taken_up(gateway, chroma, work):
    fox = ("a fox", "--seed", "7")
    first = chroma("submit", *fox, "-o", "one.png").out
    assert chroma("submit", *fox, "-o", "two.png").out == first
    ended = chroma("generate", *fox, "-o", "three.png")
    assert ended.code == 0 and ended.paths == [work / "three.png"]
    assert gateway.posts() == 1
    assert [path.name for path in work.iterdir()] == ["three.png"]


@pytest.mark.parametrize("again", ["generate", "submit"])
def test_the_same_command_again_takes_its_job_up(gateway, chroma, process, work, again):
    fox = ("a fox", "--seed", "7", "-o", "one.png")
    gateway.plan(polls=10**6)
    with process.start("generate", *fox) as started:
        eventually(lambda: gateway.requests("status"), "a job in flight")
        started.kill()
    gateway.finish()
    ended = chroma(again, *fox)
    assert ended.code == 0, ended.said
    assert chroma("fetch", "--pending").code == 0
    assert gateway.posts() == 1
    assert gateway.whose(work / "one.png").prompt == "a fox"


def test_the_same_command_after_a_lost_answer(gateway, chroma, work):
    fox = ("generate", "a fox", "--seed", "7", "-o", "one.png")
    gateway.on("submit", Lost(RESET))
    assert chroma(*fox).code == 9
    ended = chroma(*fox, "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (9, "outcome_unknown", "unknown")
    ended = chroma("generate", "another fox", "-o", "one.png", "--json")
    assert (ended.code, ended.error["type"]) == (10, "output_promised")
    assert "jobs --forget 1" in ended.error["hint"] and "fetch" not in ended.error["hint"]
    assert gateway.posts() == 1
    assert chroma(*fox, "--resubmit-unknown").code == 0
    assert gateway.posts() == 2
    assert gateway.whose(work / "one.png").prompt == "a fox"


def test_who_asks_for_a_saved_picture_again_buys_it(gateway, chroma, work):
    for name in ("one.png", "two.png"):
        assert chroma("generate", "a fox", "--seed", "7", "-o", name).code == 0
    assert gateway.posts() == 2
    assert gateway.whose(work / "one.png") != gateway.whose(work / "two.png")


def test_a_sweep_takes_up_what_it_finds_in_flight(gateway, chroma, work):
    assert chroma("submit", "a fox", "--seed", "1", "-o", "elsewhere.png").code == 0
    ended = chroma("generate", "a fox", "--sweep", "seed=1,2", "-o", "fox-{seed}.png")
    assert ended.code == 0, ended.said
    assert gateway.posts() == 2
    assert not (work / "elsewhere.png").exists()


# --- two owners ---


@pytest.mark.parametrize("then", [None, Reply.error(503)])
def test_who_slept_finds_its_jobs_finished_by_another(gateway, process, work, state, then):
    art = manifest(work / "art.jsonl", *names(4))
    held = [Hold(then=then) for _ in range(4)]
    gateway.on("status", *held)
    first = process.start("batch", art, "--timeout", "5")
    for one in held:
        one.wait()
    begun = time.monotonic()
    first.stop()
    as_if_asleep_elsewhere(state)
    (work / ".art.jsonl.running").unlink()
    second = process("batch", art)
    assert second.code == 0, second.said
    eventually(lambda: then is None or time.monotonic() - begun > 5, "the first is late")
    for one in held:
        one.release()
    first.go_on()
    ended = first.end()
    assert ended.code == 0, ended.said
    assert "4 made" in ended.err
    assert sorted(ended.paths) == sorted(work / f"{name}.png" for name in names(4))
    assert bought_once(gateway, 4)
    assert len(list(work.glob("*.png"))) == 4 and not list(work.glob(".chroma-*"))
    assert process("batch", art, "--check").code == 0


@pytest.mark.parametrize("then", [None, Reply.error(503)])
def test_a_single_job_that_slept_is_home_already(gateway, process, work, state, then):
    held = gateway.hold("status", then=then)
    first = process.start("generate", "a fox", "-o", "fox.png", "--timeout", "5")
    held.wait()
    begun = time.monotonic()
    first.stop()
    as_if_asleep_elsewhere(state)
    assert process("fetch", "--pending", "--wait").paths == [work / "fox.png"]
    eventually(lambda: then is None or time.monotonic() - begun > 5, "the first is late")
    held.release()
    first.go_on()
    ended = first.end()
    assert (ended.code, ended.paths) == (0, [work / "fox.png"]), ended.said
    assert [path.name for path in work.glob("*.png")] == ["fox.png"]
