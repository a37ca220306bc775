"""``generate --sweep``: what is made, what it says first, and going on after every kind of stop."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from kit import PASS, Gateway, Reply, Request, eventually, picture
from kit.wire import Action
from PIL import Image

TWO = ("--sweep", "cfg=5,7,9", "--sweep", "sampler=euler,heun")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.is_dir())


def pictures(folder: Path) -> list[str]:
    return [name for name in names(folder) if "sheet" not in name]


def values(gateway: Gateway, *fields: str) -> set[tuple[Any, ...]]:
    return {tuple(body[field] for field in fields) for body in gateway.bodies}


# --- what is made ------------------------------------------------------------------------------------------


def test_the_product_of_two_axes_and_a_sheet_beside_it(gateway, clock, chroma, work, recipe_of):
    ran = chroma("generate", "a red fox", *TWO, "-o", "foxes/")
    assert ran.code == 0, ran.err
    assert values(gateway, "cfg", "sampler_name") == set(itertools.product((5, 7, 9), ("euler", "heun")))
    assert len(gateway.bodies) == 6
    assert len({body["seed"] for body in gateway.bodies}) == 1, "only the axes may differ"
    folder = work / "foxes"
    assert len(pictures(folder)) == 6
    assert sorted(Path(line).name for line in ran.lines) == names(folder)
    assert all(Path(line).is_absolute() for line in ran.lines)
    [sheet] = [name for name in names(folder) if "sheet" in name]
    with Image.open(folder / sheet) as image:
        image.load()
        assert image.width > image.height, "the first axis, of three values, goes across"
    for name in pictures(folder):
        request = recipe_of(folder / name)["request"]
        assert f"cfg-{request['cfg']}" in name
        assert request["sampler_name"] in name


def test_the_number_and_the_cost_come_first(gateway, clock, chroma):
    first = chroma("generate", "a fox", *TWO).err.splitlines()[0]
    assert "6 pictures" in first
    assert "$0.33" in first


@pytest.mark.parametrize(
    ("axis", "field", "expected"),
    [
        ("seed=1..4", "seed", {1, 2, 3, 4}),
        ("seed=7,1..3", "seed", {7, 1, 2, 3}),
        ("cfg=1.5,2", "cfg", {1.5, 2}),
        ("steps=10..12", "steps", {10, 11, 12}),
        ("scheduler=karras,beta", "scheduler", {"karras", "beta"}),
        ("preset=illustration,photorealism", "cfg", {8, 11}),
        ("size=800x900,768x768", "width", {800, 768}),
        ("aspect=16:9,square", "width", {1344, 1024}),
        ("format=png,webp", "image_format", {"png", "webp"}),
        ("negative-prompt=bad,worse", "negative_prompt", {"bad", "worse"}),
        ("base64=true,false", "base64", {True, False}),
    ],
)
def test_every_kind_of_axis(gateway, clock, chroma, dry, axis, field, expected):
    ran = chroma("generate", "a fox", "--sweep", axis, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert {call["request"][field] for call in ran.json} == expected
    assert len(ran.json) == len(expected)
    assert len({call["output"] for call in ran.json}) == len(expected)


def test_levels_are_those_of_a_single_picture(gateway, clock, chroma, made, dry, config):
    config("[defaults]\ncfg = 3\nsteps = 11\n")
    path = made("a knight", "--cfg", "6", "--scheduler", "karras", "--seed", "5", "-o", "knight.png")
    for more in (
        ["--from", path],
        ["a fox", "-p", "illustration"],
        ["a fox", "-p", "illustration", "--steps", "9"],
    ):
        single = chroma("generate", *more, "--seed", "8", "--dry-run", "--json")
        swept = chroma("generate", *more, "--sweep", "seed=8", "--dry-run", "--json")
        assert swept.code == single.code
        assert [one["request"] for one in swept.json] == [one["request"] for one in single.json]


def test_dry_run_shows_each_call_and_sends_nothing(gateway, clock, chroma, work, dry, monkeypatch):
    monkeypatch.delenv("SEGMIND_API_KEY")
    for more in ([], ["--json"]):
        ran = chroma("generate", "a fox", *TWO, "--dry-run", *more)
        assert ran.code == 0, ran.err
        assert len(ran.json) == 6
        for call in ran.json:
            assert (call["schema"], call["method"]) == (1, "POST")
            assert call["url"] == f"{gateway.base_url}/v2/chroma"
    assert gateway.requests() == []
    assert names(work) == []


def test_json_is_one_object_a_line(gateway, clock, chroma):
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7", "--json")
    assert ran.code == 0, ran.err
    *jobs, sheet = ran.json
    assert {job["status"] for job in jobs} == {"COMPLETED"}
    assert {job["request"]["cfg"] for job in jobs} == {5, 7}
    assert Path(sheet["sheet"]).is_file()
    assert sheet["pictures"] == 2
    assert all(set(line) <= {"schema", "warning"} for line in ran.notes)


def test_a_template_that_tells_them_apart(gateway, clock, chroma, work):
    gateway.serve(picture(1))
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7.5", "-o", "{cfg}/fox-{sampler}.webp")
    assert ran.code == 0, ran.err
    assert [path.relative_to(work).as_posix() for path in sorted(work.rglob("fox-*"))] == [
        "5/fox-euler.png",
        "7.5/fox-euler.png",
    ], "the gateway gave PNG, so the ending is the true one"


def test_several_samples_of_each(gateway, clock, chroma, work):
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7", "--samples", "2")
    assert ran.code == 0, ran.err
    assert len(pictures(work)) == 4
    assert "4 pictures" in ran.err


# --- what cannot be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--sweep", "cfg"], "cfg=5,7,9"),
        (["--sweep", "cfg="], "cfg=5,7,9"),
        (["--sweep", "=5"], "cannot be swept"),
        (["--sweep", "sede=1,2"], "'seed'"),
        (["--sweep", "samples=1,2"], "cannot be swept"),
        (["--sweep", "cfg=5", "--sweep", "seed=1", "--sweep", "steps=20"], "at most 2"),
        (["--sweep", "cfg=5", "--sweep", "cfg=6"], "twice"),
        (["--sweep", "cfg=5,70", "--steps", "9"], "--sweep cfg"),
        (["--sweep", "cfg=5,70", "--steps", "9"], "--steps"),
        (["--sweep", "seed=4..1"], "ends before it begins"),
        (["--sweep", "seed=0..99999999999"], "more than"),
        (["--sweep", "cfg=5,7", "--cfg", "9"], "--cfg"),
        (["--sweep", "cfg=5,7", "-o", "one.png"], "--output"),
        (["--sweep", "cfg=5,7", "-o", "{seed}.png"], "one output, one image"),
        (["--sweep", "cfg=5,7", "-o", "{cfk}.png"], "{cfg}"),
        (["--sweep", "cfg=5,7", "-o", "-"], "--output"),
        (["--sweep", "cfg=5,7", "--sync"], "--sync"),
        (["--sweep", "cfg=5,5"], "cfg"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_axes_are_told_before_anything_is_sent(gateway, clock, chroma, work, argv, words):
    ran = chroma("generate", "a fox", *argv, "--json")
    assert ran.code == 2, ran.err
    assert words in ran.error["message"] + str(ran.error["hint"])
    assert gateway.requests() == []
    assert names(work) == []


def test_a_misspelt_config_file(gateway, clock, chroma, config):
    config("[defaults]\nsamplr = 1\n")
    assert chroma("generate", "a fox", "--sweep", "cfg=5,7").code == 2
    assert gateway.bodies == []


def test_more_than_ten_want_a_yes(gateway, clock, chroma):
    ran = chroma("generate", "a fox", "--sweep", "seed=1..11")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert "11 pictures" in ran.err
    assert gateway.bodies == []
    assert chroma("generate", "a fox", "--sweep", "seed=1..11", "--yes").code == 0
    assert len(gateway.bodies) == 11
    assert chroma("generate", "a fox", "--sweep", "seed=1..11").code == 0, "nothing is left to be asked about"
    assert len(gateway.bodies) == 11


@pytest.mark.parametrize(("answer", "code", "submits"), [("n\n", 1, 0), ("y\n", 0, 11)])
def test_on_a_terminal_it_asks(gateway, process, answer, code, submits):
    with process.terminal("generate", "a fox", "--sweep", "seed=1..11") as terminal:
        terminal.wait_for(r"11 pictures.*\[y/N\]")
        terminal.say(answer)
        assert terminal.end().code == code, terminal.text
    assert gateway.posts() == submits


def test_without_a_ledger_many_are_not_made(gateway, clock, chroma):
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7", "--no-ledger")
    assert ran.code == 4
    assert gateway.bodies == []


# --- again -------------------------------------------------------------------------------------------------


def test_the_same_again_pays_nothing_and_leaves_one_sheet(gateway, clock, chroma, work):
    assert chroma("generate", "a fox", *TWO).code == 0
    before = {name: (work / name).read_bytes() for name in names(work)}
    ran = chroma("generate", "a fox", *TWO)
    assert ran.code == 0, ran.err
    assert len(gateway.bodies) == 6
    assert {name: (work / name).read_bytes() for name in names(work)} == before


def test_only_what_is_missing_is_made_again(gateway, clock, chroma, work, made):
    assert chroma("generate", "a fox", *TWO).code == 0
    (work / pictures(work)[2]).unlink()
    ran = chroma("generate", "a fox", *TWO)
    assert ran.code == 0, ran.err
    assert "1 are still to be made" in ran.err or "1 is still to be made" in ran.err
    assert len(gateway.bodies) == 7
    assert len(pictures(work)) == 6


def test_another_sweep_of_the_same_names_gets_free_ones(gateway, clock, chroma, work):
    assert chroma("generate", "a fox", "--sweep", "cfg=5,7").code == 0
    kept = {name: (work / name).read_bytes() for name in names(work)}
    for _ in range(2):
        ran = chroma("generate", "a fox", "--steps", "30", "--sweep", "cfg=5,7")
        assert ran.code == 0, ran.err
    assert len(gateway.bodies) == 4
    assert len(pictures(work)) == 4
    assert {name: (work / name).read_bytes() for name in kept} == kept


def test_a_file_of_somebody_else_is_not_touched(gateway, clock, chroma, work, dry):
    call = chroma("generate", "a fox", "--sweep", "cfg=5,7", "--dry-run", "--json").json[0]
    mine = work / call["output"]
    mine.write_bytes(b"mine")
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7")
    assert ran.code == 0, ran.err
    assert mine.read_bytes() == b"mine"
    assert len(pictures(work)) == 3
    assert chroma("generate", "a fox", "--sweep", "cfg=5,7", "--overwrite").code == 0
    assert mine.read_bytes() != b"mine"


def test_seed_random_and_left_out_are_the_same_for_the_same_words(gateway, clock, chroma, dry, config):
    def seeds(*argv: str) -> set[int]:
        ran = chroma("generate", *argv, "--sweep", "cfg=5,7", "--dry-run", "--json")
        assert ran.code == 0, ran.err
        return {call["request"]["seed"] for call in ran.json}

    assert seeds("a fox") == seeds("a fox")
    assert len(seeds("a fox")) == 1
    assert seeds("a fox") != seeds("a crow")
    assert seeds("a fox", "--seed", "6") == {6}
    config("[defaults]\nseed = 9\n")
    assert seeds("a fox") == {9}
    assert seeds("a fox", "--seed", "random").isdisjoint({9})


# --- when something goes wrong -----------------------------------------------------------------------------


FAILED = Reply.json({"status": "FAILED", "error": "blocked"}, 422)


def by_cfg(gateway: Gateway, answer: Action, *cfgs: float) -> None:
    """Give this answer to questions for the status of jobs with such a cfg, and behave for the others."""

    def status(request: Request) -> Action:
        job = gateway.world.find(request.path.split("/")[3])
        return answer if job is not None and job.body["cfg"] in cfgs else PASS

    gateway.on("status", status, always=True)


def test_one_that_fails_leaves_the_others_a_sheet_and_11(gateway, clock, chroma, work):
    by_cfg(gateway, FAILED, 7)
    ran = chroma("generate", "a fox", "--sweep", "cfg=5,7,9")
    assert ran.code == 11
    assert "blocked" in ran.err
    assert len(pictures(work)) == 2
    assert len(names(work)) == 3, "a sheet of what is there"
    gateway.behave()
    again = chroma("generate", "a fox", "--sweep", "cfg=5,7,9")
    assert again.code == 0, again.err
    assert len(gateway.bodies) == 4
    assert len(pictures(work)) == 3


@pytest.mark.parametrize("samples", ["1", "2"])
def test_pictures_in_another_format_are_on_the_sheet_and_not_paid_again(
    gateway, clock, chroma, work, made, samples
):
    argv = (
        "generate",
        "a fox",
        "--sweep",
        "cfg=5,7.5",
        "--format",
        "webp",
        "--samples",
        samples,
        "-o",
        "out/",
    )
    gateway.serve(picture(1))
    assert chroma(*argv).code == 0
    out = work / "out"
    made = names(out)
    assert [Path(name).suffix for name in made] == [".png"] * (2 * int(samples) + 1), "the gateway gave PNG"
    ran = chroma(*argv, "--json")
    assert (ran.code, len(gateway.bodies)) == (0, 2), ran.err
    assert ran.json[-1]["pictures"] == 2 * int(samples)
    assert names(out) == made
    (out / next(name for name in made if "cfg-5" in name)).write_bytes(b"mine")
    assert chroma(*argv).code == 0
    assert b"mine" in [(out / name).read_bytes() for name in made], "a file of somebody else stays"


def sheets(folder: Path) -> list[str]:
    return [name for name in names(folder) if "sheet" in name]


def test_the_sheet_of_a_sweep_that_is_finished_later_is_whole(gateway, clock, chroma, work):
    by_cfg(gateway, FAILED, 7)
    part = chroma("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/", "--json")
    assert (part.code, part.json[-1]["pictures"]) == (11, 2)
    [sheet] = sheets(work / "out")
    path = work / "out" / sheet
    before = path.read_bytes()
    gateway.behave()
    whole = chroma("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/", "--json")
    assert (whole.code, whole.json[-1]) == (0, {"schema": 1, "sheet": str(path), "pictures": 3})
    assert sheets(work / "out") == [sheet], "nothing is left that says something else"
    assert path.read_bytes() != before
    assert chroma("generate", "a crow", "--sweep", "cfg=5,7,9", "-o", "crow/").code == 0
    assert path.read_bytes() != (work / "crow" / sheets(work / "crow")[0]).read_bytes()


def test_the_sheet_of_another_sweep_and_a_file_of_somebody_else_stay(gateway, clock, chroma, work):
    assert chroma("generate", "a fox", "--sweep", "cfg=5,7").code == 0
    [first] = sheets(work)
    kept = (work / first).read_bytes()
    (work / "a-fox-sheet-1.png").write_bytes(b"mine")
    for _ in range(2):
        assert chroma("generate", "a fox", "--sweep", "cfg=5,7,9").code == 0
        assert sheets(work) == ["a-fox-sheet-1.png", "a-fox-sheet-2.png", first]
    assert (work / first).read_bytes() == kept
    assert (work / "a-fox-sheet-1.png").read_bytes() == b"mine"


def test_a_sweep_without_metadata_has_a_sheet_without(gateway, clock, chroma, work):
    for _ in range(2):
        assert chroma("generate", "a fox", "--sweep", "cfg=5,7", "--no-metadata").code == 0
        [sheet] = sheets(work)
    assert b"XMP" not in (work / sheet).read_bytes()


def test_no_key(gateway, clock, chroma, work, monkeypatch):
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert chroma("generate", "a fox", "--sweep", "cfg=5,7").code == 3
    assert names(work) == []


@pytest.mark.parametrize(
    ("number", "held"),
    [(signal.SIGKILL, {9}), (signal.SIGKILL, {5, 7, 9}), (signal.SIGINT, {7, 9}), (signal.SIGTERM, {9})],
)
def test_stopped_and_run_again_it_goes_on_without_paying_twice(gateway, process, work, number, held):
    by_cfg(gateway, Reply.json({"status": "PROCESSING"}), *held)
    argv = ("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/")
    out, home = work / "out", 3 - len(held)
    started = process.start(*argv)
    eventually(lambda: len(list(out.glob("a-fox*"))) == home, f"{home} pictures")
    eventually(lambda: len(gateway.requests("status")) > 3 and gateway.posts() == 3, "some polls")
    started.signal(number)
    ended = started.end()
    assert ended.code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    if number != signal.SIGKILL:
        assert "the same command again" in ended.err
    gateway.behave()
    again = process(*argv)
    assert again.code == 0, again.said
    assert gateway.posts() == 3, "nothing is sent a second time"
    assert values(gateway, "cfg") == {(5,), (7,), (9,)}
    assert len(pictures(out)) == 3
    assert len(sheets(out)) == 1
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_ctrl_c_while_submits_are_out_waits_for_their_ids(gateway, process, work):
    holds = [gateway.hold("submit", "answer"), gateway.hold("submit", "answer")]
    argv = ("generate", "a fox", "--sweep", "cfg=5,7", "-o", "out/")
    by_cfg(gateway, Reply.json({"status": "PROCESSING"}), 5, 7)  # it cannot end by itself
    started = process.start(*argv)
    for hold in holds:
        hold.wait()
    started.interrupt()
    for hold in holds:
        hold.release()
    ended = started.end()
    gateway.behave()
    assert ended.code == 130
    assert "the same command again" in ended.err
    again = process(*argv)
    assert again.code == 0, again.said
    assert gateway.posts() == 2
    assert len(pictures(work / "out")) == 2


def test_killed_while_a_submit_is_out_it_is_reported_and_not_sent_again(gateway, process, work, ledger_rows):
    argv = ("generate", "a fox", "--sweep", "cfg=5,7", "-o", "out/")
    out = work / "out"
    with gateway.hold("submit", "answer", nth=2) as hold:
        started = process.start(*argv)
        hold.wait()
        eventually(lambda: list(out.glob("a-fox*")), "one picture")
        started.kill()
    again = process(*argv, "--json")
    assert again.code in (9, 11)
    assert gateway.posts() == 2
    assert "charged" in again.err
    assert len(pictures(out)) == 1
    assert sorted(row["status"] for row in ledger_rows()) == ["COMPLETED", "UNKNOWN"]
    assert [row["status"] for row in process("jobs", "--pending", "--json").json] == ["UNKNOWN"]
    sure = process(*argv, "--resubmit-unknown")
    assert sure.code == 0, sure.said
    assert gateway.posts() == 3
    assert len(pictures(out)) == 2
