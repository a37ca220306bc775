"""``generate --sweep``: what is made, what it says first, and going on after every kind of stop."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultserver import FaultServer, Reply, Request
from PIL import Image
from running import background, eventually, on_terminal, run_process

TWO = ("--sweep", "cfg=5,7,9", "--sweep", "sampler=euler,heun")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.is_dir())


def pictures(folder: Path) -> list[str]:
    return [name for name in names(folder) if "sheet" not in name]


def values(studio: Any, *fields: str) -> set[tuple[Any, ...]]:
    return {tuple(body[field] for field in fields) for body in studio.bodies}


# --- what is made ------------------------------------------------------------------------------------------


def test_the_product_of_two_axes_and_a_sheet_beside_it(studio: Any) -> None:
    ran = studio("generate", "a red fox", *TWO, "-o", "foxes/")
    assert ran.code == 0, ran.err
    assert values(studio, "cfg", "sampler_name") == set(itertools.product((5, 7, 9), ("euler", "heun")))
    assert len(studio.bodies) == 6
    assert len({body["seed"] for body in studio.bodies}) == 1, "only the axes may differ"
    folder = studio.here / "foxes"
    assert len(pictures(folder)) == 6
    assert sorted(Path(line).name for line in ran.lines) == names(folder)
    assert all(Path(line).is_absolute() for line in ran.lines)
    [sheet] = [name for name in names(folder) if "sheet" in name]
    with Image.open(folder / sheet) as image:
        image.load()
        assert image.width > image.height, "the first axis, of three values, goes across"
    for name in pictures(folder):
        request = studio.recipe(folder / name)["request"]
        assert f"cfg-{request['cfg']}" in name
        assert request["sampler_name"] in name


def test_the_number_and_the_cost_come_first(studio: Any) -> None:
    first = studio("generate", "a fox", *TWO).err.splitlines()[0]
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
def test_every_kind_of_axis(studio: Any, axis: str, field: str, expected: set[object]) -> None:
    ran = studio("generate", "a fox", "--sweep", axis, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert {call["request"][field] for call in ran.json} == expected
    assert len(ran.json) == len(expected)
    assert len({call["output"] for call in ran.json}) == len(expected)


def test_levels_are_those_of_a_single_picture(studio: Any) -> None:
    studio.config("[defaults]\ncfg = 3\nsteps = 11\n")
    path = studio.made("a knight", "--cfg", "6", "--scheduler", "karras", "--seed", "5", "-o", "knight.png")
    for more in (
        ["--from", path],
        ["a fox", "-p", "illustration"],
        ["a fox", "-p", "illustration", "--steps", "9"],
    ):
        single = studio("generate", *more, "--seed", "8", "--dry-run", "--json")
        swept = studio("generate", *more, "--sweep", "seed=8", "--dry-run", "--json")
        assert swept.code == single.code
        assert [one["request"] for one in swept.json] == [one["request"] for one in single.json]


def test_dry_run_shows_each_call_and_sends_nothing(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    for more in ([], ["--json"]):
        ran = studio("generate", "a fox", *TWO, "--dry-run", *more)
        assert ran.code == 0, ran.err
        assert len(ran.json) == 6
        for call in ran.json:
            assert (call["schema"], call["method"]) == (1, "POST")
            assert call["url"] == f"{studio.server.base_url}/v2/chroma"
    assert studio.server.requests() == []
    assert names(studio.here) == []


def test_json_is_one_object_a_line(studio: Any) -> None:
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7", "--json")
    assert ran.code == 0, ran.err
    *jobs, sheet = ran.json
    assert {job["status"] for job in jobs} == {"COMPLETED"}
    assert {job["request"]["cfg"] for job in jobs} == {5, 7}
    assert Path(sheet["sheet"]).is_file()
    assert sheet["pictures"] == 2
    assert all(set(line) <= {"schema", "warning"} for line in ran.notes)


def test_a_template_that_tells_them_apart(studio: Any) -> None:
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7.5", "-o", "{cfg}/fox-{sampler}.webp")
    assert ran.code == 0, ran.err
    assert [path.relative_to(studio.here).as_posix() for path in sorted(studio.here.rglob("fox-*"))] == [
        "5/fox-euler.png",
        "7.5/fox-euler.png",
    ], "the gateway gave PNG, so the ending is the true one"


def test_several_samples_of_each(studio: Any) -> None:
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7", "--samples", "2")
    assert ran.code == 0, ran.err
    assert len(pictures(studio.here)) == 4
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
def test_wrong_axes_are_told_before_anything_is_sent(studio: Any, argv: list[str], words: str) -> None:
    ran = studio("generate", "a fox", *argv, "--json")
    assert ran.code == 2, ran.err
    assert words in ran.error["message"] + str(ran.error["hint"])
    assert studio.server.requests() == []
    assert names(studio.here) == []


def test_a_misspelt_config_file(studio: Any) -> None:
    studio.config("[defaults]\nsamplr = 1\n")
    assert studio("generate", "a fox", "--sweep", "cfg=5,7").code == 2
    assert studio.bodies == []


def test_more_than_ten_want_a_yes(studio: Any) -> None:
    ran = studio("generate", "a fox", "--sweep", "seed=1..11")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert "11 pictures" in ran.err
    assert studio.bodies == []
    assert studio("generate", "a fox", "--sweep", "seed=1..11", "--yes").code == 0
    assert len(studio.bodies) == 11
    assert studio("generate", "a fox", "--sweep", "seed=1..11").code == 0, "nothing is left to be asked about"
    assert len(studio.bodies) == 11


@pytest.mark.parametrize(("answer", "code", "submits"), [("n\n", 1, 0), ("y\n", 0, 11)])
def test_on_a_terminal_it_asks(studio: Any, answer: str, code: int, submits: int) -> None:
    with on_terminal("generate", "a fox", "--sweep", "seed=1..11") as terminal:
        terminal.wait_for(r"11 pictures.*\[y/N\]")
        terminal.say(answer)
        assert terminal.end() == code, terminal.text
    assert len(studio.bodies) == submits


def test_without_a_ledger_many_are_not_made(studio: Any) -> None:
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7", "--no-ledger")
    assert ran.code == 4
    assert studio.bodies == []


# --- again -------------------------------------------------------------------------------------------------


def test_the_same_again_pays_nothing_and_leaves_one_sheet(studio: Any) -> None:
    assert studio("generate", "a fox", *TWO).code == 0
    before = {name: (studio.here / name).read_bytes() for name in names(studio.here)}
    ran = studio("generate", "a fox", *TWO)
    assert ran.code == 0, ran.err
    assert len(studio.bodies) == 6
    assert {name: (studio.here / name).read_bytes() for name in names(studio.here)} == before


def test_only_what_is_missing_is_made_again(studio: Any) -> None:
    assert studio("generate", "a fox", *TWO).code == 0
    (studio.here / pictures(studio.here)[2]).unlink()
    ran = studio("generate", "a fox", *TWO)
    assert ran.code == 0, ran.err
    assert "1 are still to be made" in ran.err or "1 is still to be made" in ran.err
    assert len(studio.bodies) == 7
    assert len(pictures(studio.here)) == 6


def test_another_sweep_of_the_same_names_gets_free_ones(studio: Any) -> None:
    assert studio("generate", "a fox", "--sweep", "cfg=5,7").code == 0
    kept = {name: (studio.here / name).read_bytes() for name in names(studio.here)}
    for _ in range(2):
        ran = studio("generate", "a fox", "--steps", "30", "--sweep", "cfg=5,7")
        assert ran.code == 0, ran.err
    assert len(studio.bodies) == 4
    assert len(pictures(studio.here)) == 4
    assert {name: (studio.here / name).read_bytes() for name in kept} == kept


def test_a_file_of_somebody_else_is_not_touched(studio: Any) -> None:
    call = studio("generate", "a fox", "--sweep", "cfg=5,7", "--dry-run", "--json").json[0]
    mine = studio.here / call["output"]
    mine.write_bytes(b"mine")
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7")
    assert ran.code == 0, ran.err
    assert mine.read_bytes() == b"mine"
    assert len(pictures(studio.here)) == 3
    assert studio("generate", "a fox", "--sweep", "cfg=5,7", "--overwrite").code == 0
    assert mine.read_bytes() != b"mine"


def test_seed_random_and_left_out_are_the_same_for_the_same_words(studio: Any) -> None:
    def seeds(*argv: str) -> set[int]:
        ran = studio("generate", *argv, "--sweep", "cfg=5,7", "--dry-run", "--json")
        assert ran.code == 0, ran.err
        return {call["request"]["seed"] for call in ran.json}

    assert seeds("a fox") == seeds("a fox")
    assert len(seeds("a fox")) == 1
    assert seeds("a fox") != seeds("a crow")
    assert seeds("a fox", "--seed", "6") == {6}
    studio.config("[defaults]\nseed = 9\n")
    assert seeds("a fox") == {9}
    assert seeds("a fox", "--seed", "random").isdisjoint({9})


# --- when something goes wrong -----------------------------------------------------------------------------


def by_cfg(studio: Any, answer: Callable[[Request, Any], Any]) -> None:
    """Let ``answer`` decide on the status of jobs by their cfg; None for COMPLETED."""

    def status(request: Request) -> Reply:
        number = int(request.path.split("/")[3].removeprefix("job-"))
        body = [one.json for one in studio.server.requests("POST", "/v2/chroma")][number - 1]
        said = answer(request, body)
        return said or Reply.json({"status": "COMPLETED", "request_id": f"job-{number}"})

    studio.server.on("GET", "/v2/requests/*/status", status)


def test_one_that_fails_leaves_the_others_a_sheet_and_11(studio: Any) -> None:
    failed = Reply.json({"status": "FAILED", "error": "blocked"}, 422)
    by_cfg(studio, lambda _, body: failed if body["cfg"] == 7 else None)
    ran = studio("generate", "a fox", "--sweep", "cfg=5,7,9")
    assert ran.code == 11
    assert "blocked" in ran.err
    assert len(pictures(studio.here)) == 2
    assert len(names(studio.here)) == 3, "a sheet of what is there"
    by_cfg(studio, lambda *_: None)
    again = studio("generate", "a fox", "--sweep", "cfg=5,7,9")
    assert again.code == 0, again.err
    assert len(studio.bodies) == 4
    assert len(pictures(studio.here)) == 3


@pytest.mark.parametrize("samples", ["1", "2"])
def test_pictures_in_another_format_are_on_the_sheet_and_not_paid_again(studio: Any, samples: str) -> None:
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
    assert studio(*argv).code == 0
    out = studio.here / "out"
    made = names(out)
    assert [Path(name).suffix for name in made] == [".png"] * (2 * int(samples) + 1), "the gateway gave PNG"
    ran = studio(*argv, "--json")
    assert (ran.code, len(studio.bodies)) == (0, 2), ran.err
    assert ran.json[-1]["pictures"] == 2 * int(samples)
    assert names(out) == made
    (out / next(name for name in made if "cfg-5" in name)).write_bytes(b"mine")
    assert studio(*argv).code == 0
    assert b"mine" in [(out / name).read_bytes() for name in made], "a file of somebody else stays"


def sheets(folder: Path) -> list[str]:
    return [name for name in names(folder) if "sheet" in name]


def test_the_sheet_of_a_sweep_that_is_finished_later_is_whole(studio: Any) -> None:
    failed = Reply.json({"status": "FAILED", "error": "blocked"}, 422)
    by_cfg(studio, lambda _, body: failed if body["cfg"] == 7 else None)
    part = studio("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/", "--json")
    assert (part.code, part.json[-1]["pictures"]) == (11, 2)
    [sheet] = sheets(studio.here / "out")
    path = studio.here / "out" / sheet
    before = path.read_bytes()
    by_cfg(studio, lambda *_: None)
    whole = studio("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/", "--json")
    assert (whole.code, whole.json[-1]) == (0, {"schema": 1, "sheet": str(path), "pictures": 3})
    assert sheets(studio.here / "out") == [sheet], "nothing is left that says something else"
    assert path.read_bytes() != before
    assert studio("generate", "a crow", "--sweep", "cfg=5,7,9", "-o", "crow/").code == 0
    assert path.read_bytes() != (studio.here / "crow" / sheets(studio.here / "crow")[0]).read_bytes()


def test_the_sheet_of_another_sweep_and_a_file_of_somebody_else_stay(studio: Any) -> None:
    assert studio("generate", "a fox", "--sweep", "cfg=5,7").code == 0
    [first] = sheets(studio.here)
    kept = (studio.here / first).read_bytes()
    (studio.here / "a-fox-sheet-1.png").write_bytes(b"mine")
    for _ in range(2):
        assert studio("generate", "a fox", "--sweep", "cfg=5,7,9").code == 0
        assert sheets(studio.here) == ["a-fox-sheet-1.png", "a-fox-sheet-2.png", first]
    assert (studio.here / first).read_bytes() == kept
    assert (studio.here / "a-fox-sheet-1.png").read_bytes() == b"mine"


def test_a_sweep_without_metadata_has_a_sheet_without(studio: Any) -> None:
    for _ in range(2):
        assert studio("generate", "a fox", "--sweep", "cfg=5,7", "--no-metadata").code == 0
        [sheet] = sheets(studio.here)
    assert b"XMP" not in (studio.here / sheet).read_bytes()


def test_no_key(studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert studio("generate", "a fox", "--sweep", "cfg=5,7").code == 3
    assert names(studio.here) == []


@pytest.mark.parametrize(
    ("number", "held"),
    [(signal.SIGKILL, {9}), (signal.SIGKILL, {5, 7, 9}), (signal.SIGINT, {7, 9}), (signal.SIGTERM, {9})],
)
def test_stopped_and_run_again_it_goes_on_without_paying_twice(
    studio: Any, number: signal.Signals, held: set[int]
) -> None:
    go = threading.Event()
    working = Reply.json({"status": "PROCESSING"})
    by_cfg(studio, lambda _, body: working if body["cfg"] in held and not go.is_set() else None)
    argv = ("generate", "a fox", "--sweep", "cfg=5,7,9", "-o", "out/")
    out, home = studio.here / "out", 3 - len(held)
    with background(argv) as running:
        eventually(lambda: len(studio.bodies) == 3, "three submits")
        eventually(lambda: len(list(out.glob("a-fox*"))) == home, f"{home} pictures")
        eventually(lambda: len(studio.server.requests("GET", "*/status")) > 3, "some polls")
        running.process.send_signal(number)
        ended = running.end()
    assert ended.code == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    if number != signal.SIGKILL:
        assert "the same command again" in ended.err
    go.set()
    again = run_process(*argv)
    assert again.code == 0, again.err
    assert len(studio.bodies) == 3, "nothing is sent a second time"
    assert values(studio, "cfg") == {(5,), (7,), (9,)}
    assert len(pictures(out)) == 3
    assert len([name for name in names(out) if "sheet" in name]) == 1
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_ctrl_c_while_a_submit_is_out_waits_for_its_id(studio: Any, server: FaultServer) -> None:
    submit = next(one for one in server._routes if (one.method, one.path) == ("POST", "/v2/chroma")).next()

    def slow(request: Request) -> Any:
        time.sleep(1.0)
        return submit(request) if callable(submit) else submit

    server.on("POST", "/v2/chroma", slow)
    argv = ("generate", "a fox", "--sweep", "cfg=5,7", "-o", "out/")
    with background(argv) as running:
        eventually(lambda: len(studio.bodies) == 2, "two submits")
        running.process.send_signal(signal.SIGINT)
        ended = running.end()
    assert ended.code == 130
    assert "the same command again" in ended.err
    again = run_process(*argv)
    assert again.code == 0, again.err
    assert len(studio.bodies) == 2
    assert len(pictures(studio.here / "out")) == 2


def test_killed_while_a_submit_is_out_it_is_reported_and_not_sent_again(
    studio: Any, server: FaultServer
) -> None:
    let_go = threading.Event()
    plain = server._routes  # the answer of the well-behaved gateway
    submit = next(route for route in plain if (route.method, route.path) == ("POST", "/v2/chroma")).next()

    def slow(request: Request) -> Any:
        if request.json["cfg"] == 7:
            let_go.wait(60)
        return submit(request) if callable(submit) else submit

    server.on("POST", "/v2/chroma", slow)
    argv = ("generate", "a fox", "--sweep", "cfg=5,7", "-o", "out/")
    out = studio.here / "out"
    with background(argv) as running:
        eventually(lambda: list(out.glob("a-fox*")) and len(studio.bodies) == 2, "one picture")
        running.process.kill()
        running.end()
    let_go.set()
    again = run_process(*argv, "--json")
    assert again.code in (9, 11)
    assert len(studio.bodies) == 2
    assert "charged" in again.raw_err.decode()
    assert len(pictures(out)) == 1
    known = run_process("jobs", "--pending", "--json")
    assert [json.loads(line)["status"] for line in known.lines] == ["UNKNOWN"]
    sure = run_process(*argv, "--resubmit-unknown")
    assert sure.code == 0, sure.err
    assert len(studio.bodies) == 3
    assert len(pictures(out)) == 2
