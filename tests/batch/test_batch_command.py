"""``chroma batch`` from the outside: what is made, what is left alone, what is said, and how it ends."""

from __future__ import annotations

import io
import json
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from batchgate import Gate, picture
from faultserver import FaultServer, Reply, Request, gateway_script, tiny_png
from PIL import Image
from running import JOB_FIELDS, Ended

Chroma = Callable[..., Ended]
Listing = Callable[..., Path]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_missing_is_made_once(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing("fox", "owl", "hare")
    first = chroma("batch", "list.jsonl")
    assert first.code == 0, first.err
    assert sorted(first.lines) == sorted(str(work / f"{name}.png") for name in ("fox", "owl", "hare"))
    assert names(work) == {"list.jsonl", "list.lock.json", "fox.png", "owl.png", "hare.png"}
    with Image.open(work / "fox.png") as image:
        assert image.size == (768, 768)
    lock = (work / "list.lock.json").read_bytes()
    again = chroma("batch", "list.jsonl")
    assert (again.code, again.out) == (0, "")
    assert "3 unchanged" in again.err
    assert sorted(gate.prompts) == ["fox", "hare", "owl"]
    assert (work / "list.lock.json").read_bytes() == lock


def test_only_what_changed_is_made_again(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing("fox", "owl", "hare")
    assert chroma("batch", "list.jsonl").code == 0
    rows = [json.loads(line) for line in (work / "list.jsonl").read_text().splitlines()]
    rows[0]["cfg"] = 9
    (work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (work / "owl.png").unlink()
    before = (work / "fox.png").read_bytes()
    found = chroma("batch", "list.jsonl", "--check", "--json")
    assert found.code == 1
    assert {(one["output"], one["state"]) for one in found.json} == {
        ("fox.png", "changed-request"),
        ("owl.png", "missing"),
    }
    assert found.error["type"] == "out_of_date"
    again = chroma("batch", "list.jsonl")
    assert again.code == 0
    assert sorted(again.lines) == [str(work / "fox.png"), str(work / "owl.png")]
    assert [gate.times(one) for one in ("fox", "owl", "hare")] == [2, 2, 1]
    assert (work / "fox.png").read_bytes() != before
    assert chroma("batch", "list.jsonl", "--check").code == 0


def test_a_file_changed_by_hand_is_left_alone(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path
) -> None:
    listing("fox", "owl")
    assert chroma("batch", "list.jsonl").code == 0
    (work / "fox.png").write_bytes(b"mine")
    kept = chroma("batch", "list.jsonl")
    assert kept.code == 0
    assert "fox.png: changed by hand" in kept.err
    assert chroma("batch", "list.jsonl", "--check").code == 1
    listing("fox", "owl", cfg=9)
    blocked = chroma("batch", "list.jsonl")
    assert blocked.code == 11
    assert "fox.png" in blocked.err
    assert "--overwrite" in blocked.err
    assert blocked.lines == [str(work / "owl.png")]
    assert (work / "fox.png").read_bytes() == b"mine"
    assert chroma("batch", "list.jsonl", "--overwrite").code == 0
    assert (work / "fox.png").read_bytes() != b"mine"
    assert gate.times("fox") == 2


def test_somebody_elses_file_is_left_alone(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing("fox", "owl")
    (work / "fox.png").write_bytes(picture(1))
    (work / "owl.png").symlink_to("nowhere.png")
    ended = chroma("batch", "list.jsonl")
    assert ended.code == 11
    assert gate.prompts == []
    assert (work / "fox.png").read_bytes() == picture(1)
    assert (work / "owl.png").is_symlink()


def test_a_picture_saved_before_its_lock_entry_is_recognised(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path
) -> None:
    listing("fox", "owl")
    assert chroma("batch", "list.jsonl").code == 0
    lock = (work / "list.lock.json").read_bytes()
    (work / "list.lock.json").unlink()
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gate.jobs) == 2
    assert (work / "list.lock.json").read_bytes() == lock
    (work / "list.lock.json").unlink()
    (work / "fox.png").write_bytes(b"mine")
    assert chroma("batch", "list.jsonl").code == 11
    assert (work / "fox.png").read_bytes() == b"mine"


def test_what_the_manifest_dropped_is_pruned_when_asked(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path
) -> None:
    listing("fox", "owl", "hare")
    assert chroma("batch", "list.jsonl").code == 0
    (work / "hare.png").write_bytes(b"mine")
    listing("fox")
    left = chroma("batch", "list.jsonl")
    assert left.code == 0
    assert "owl.png" in left.err
    assert (work / "owl.png").exists()
    checked = chroma("batch", "list.jsonl", "--check", "--json")
    assert (checked.code, checked.json[-1]["state"]) == (1, "left-over")
    assert chroma("batch", "list.jsonl", "--prune").code == 0
    assert names(work) == {"list.jsonl", "list.lock.json", "fox.png", "hare.png"}
    assert chroma("batch", "list.jsonl", "--check").code == 0


def test_a_dry_run_costs_and_needs_nothing(
    chroma: Chroma, listing: Listing, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing("fox", "owl", steps=75, samples=2)
    told = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert told.code == 0
    assert [one["output"] for one in told.json] == ["fox.png", "owl.png"]
    assert told.json[0]["expected_cost"] == pytest.approx(0.055 * 2 * 75 * 768**2 / (40 * 1024**2))
    assert told.json[0]["request"]["prompt"] == "fox"
    assert names(work) == {"list.jsonl"}
    assert "about $0.23" in chroma("batch", "list.jsonl", "--dry-run").err
    assert chroma("batch", "list.jsonl", "--check").code == 1
    assert chroma("batch", "list.jsonl").code == 3  # now the key is missing
    assert names(work) == {"list.jsonl"}


def test_json_is_one_job_a_line(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing("fox", "owl [fail]")
    ended = chroma("batch", "list.jsonl", "--json")
    assert ended.code == 11
    assert ended.error["type"] == "some_failed"
    made, failed = sorted(ended.json, key=lambda job: job["status"])
    assert set(made) == set(failed) == JOB_FIELDS
    assert made["status"] == "COMPLETED"
    assert made["files"][0]["path"] == str(work / "fox.png")
    assert made["charged"] == "yes"
    assert failed["status"] == "FAILED"
    assert failed["charged"] == "no"
    assert failed["error"]["type"] == "generation_failed"


def test_the_summary_goes_to_files_and_to_the_ci_page(
    chroma: Chroma, gate: Gate, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a.toml").write_text(
        '[[image]]\nprompt = "fox"\noutput = "a|b.png"\n'
        '[[image]]\nprompt = "owl [fail] <&>"\noutput = "<owl>.png"\n'
    )
    step = work / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    ended = chroma("batch", "a.toml", "--summary", "s.md", "--junit", "j.xml")
    assert ended.code == 11
    page = (work / "s.md").read_text()
    assert "1 made, 1 failed" in page
    assert "a&#124;b.png" in page
    assert "content was blocked" in page
    assert "<owl>" not in page
    assert step.read_text() == "before\n" + page + "\n"
    suite = ElementTree.parse(work / "j.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {"a|b.png", "<owl>.png"}
    failure = cases["<owl>.png"].find("failure")
    assert failure is not None
    assert "content was blocked" in str(failure.get("message"))


def test_a_summary_that_cannot_be_written_stops_before_anything_is_spent(
    chroma: Chroma, gate: Gate, listing: Listing
) -> None:
    listing("fox")
    assert chroma("batch", "list.jsonl", "--junit", "nowhere/j.xml").code == 10
    assert gate.prompts == []


@pytest.mark.parametrize("fast", [False, True])
def test_a_finished_job_frees_its_place_before_its_picture_is_here(
    chroma: Chroma, listing: Listing, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    """Not with --fail-fast: a picture that cannot be saved is a failure that the next image waits for."""
    seen: list[int] = []
    monkeypatch.setenv("SEGMIND_API_KEY", "SG_0123456789abcdef")
    with FaultServer() as server:
        gateway_script(server, polls=0, png=tiny_png(768, 768))

        def submits() -> int:
            return len(server.requests("POST", "/v2/chroma"))

        def held_back(_: Request) -> Reply:
            end = time.monotonic() + (1 if fast else 20)
            while submits() < 3 and time.monotonic() < end:
                time.sleep(0.05)
            seen.append(submits())
            return Reply(200, [("Content-Type", "image/png")], tiny_png(768, 768))

        def second(request: Request) -> Reply:
            if not seen:
                return Reply.json({"status": "PROCESSING"})
            return Reply.json({"status": "COMPLETED", "output": f"{server.base_url}/files/job-2-0.png"})

        server.on("GET", "/files/job-1-0.png", held_back)
        server.on("GET", "/v2/requests/job-2*", second)
        listing("fox", "owl", "hare")
        flags = ["--fail-fast"] if fast else []
        assert chroma("batch", "list.jsonl", "--jobs", "2", "--base-url", server.base_url, *flags).code == 0
    assert seen == [2 if fast else 3]


def test_without_a_key_nothing_is_begun_and_nothing_else_said(
    chroma: Chroma, listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY", raising=False)
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--base-url", "http://127.0.0.1:9")
    assert ended.code == 3
    assert "2 not started" in ended.err
    assert "nothing to do" not in ended.err


def test_fail_fast_begins_no_more(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("bad [fail]", *(f"later{n}" for n in range(30)))
    ended = chroma("batch", "list.jsonl", "--fail-fast", "--jobs", "1")
    assert ended.code == 11
    assert len(gate.jobs) < 30
    assert "not begun" in ended.err
    assert chroma("batch", "list.jsonl", "--jobs", "30").code == 11
    assert all(gate.times(f"later{n}") == 1 for n in range(30))


def test_failed_ones_are_submitted_again_when_asked(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("fox [fail-once]", "owl [fail]")
    ended = chroma("batch", "list.jsonl", "--retry-failed", "2")
    assert ended.code == 11
    assert gate.times("fox [fail-once]") == 2
    assert gate.times("owl [fail]") == 3


def test_one_image_ends_with_its_own_code(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("fox [fail]")
    assert chroma("batch", "list.jsonl").code == 6


def test_an_unanswered_submit_is_not_sent_again(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing("fox [lost]", "owl")
    first = chroma("batch", "list.jsonl")
    assert first.code == 11
    assert gate.times("owl") == 1
    again = chroma("batch", "list.jsonl")
    assert again.code == 9 or again.code == 11
    assert "--resubmit-unknown" in again.err
    assert gate.times("fox [lost]") == 1
    settled = chroma("batch", "list.jsonl", "--resubmit-unknown")
    assert settled.code == 0, settled.err
    assert gate.times("fox [lost]") == 2
    assert chroma("jobs", "--pending", "--json").out == ""


def test_no_more_than_so_many_in_flight(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    listing(*(f"fox{n}" for n in range(12)))
    assert chroma("batch", "list.jsonl", "--jobs", "3").code == 0
    assert gate.most_in_flight <= 3


def test_submits_keep_the_rate(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.latency = 0.0
    listing(*(f"fox{n}" for n in range(7)))
    assert chroma("batch", "list.jsonl", "--rate", "10/s").code == 0
    times = [job.at for job in gate.jobs]
    assert times[-1] - times[0] >= 0.55


@pytest.mark.parametrize("samples", [1, 2])
def test_a_picture_that_came_in_another_format_is_recognised_without_its_lock(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path, samples: int
) -> None:
    listing("fox [odd]", samples=samples)
    assert chroma("batch", "list.jsonl").code == 0
    made = names(work) - {"list.jsonl", "list.lock.json"}
    assert {name.rpartition(".")[2] for name in made} == {"jpg"}
    lock = (work / "list.lock.json").read_bytes()
    (work / "list.lock.json").unlink()
    assert chroma("batch", "list.jsonl").code == 0
    assert (len(gate.jobs), (work / "list.lock.json").read_bytes()) == (1, lock)
    (work / "list.lock.json").unlink()
    (work / sorted(made)[0]).write_bytes(b"somebody else's")
    chroma("batch", "list.jsonl")
    assert len(gate.jobs) == 2


def test_stdin_has_no_lock_but_the_ledger(
    chroma: Chroma, gate: Gate, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b'{"prompt": "fox", "output": "fox.png"}\n'

    def give() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    for flag in ("--check", "--prune"):
        give()
        assert chroma("batch", "-", flag).code == 2
    give()
    assert chroma("batch", "-").code == 0
    give()
    assert chroma("batch", "-").code == 0
    assert gate.prompts == ["fox"]
    assert names(work) == {"fox.png"}


def test_an_unexpected_format_is_not_made_again_and_again(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path
) -> None:
    listing("fox [odd]")
    first = chroma("batch", "list.jsonl")
    assert first.code == 0, first.err
    assert first.lines == [str(work / "fox.jpg")]
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gate.jobs) == 1


def test_several_samples(chroma: Chroma, gate: Gate, listing: Listing, work: Path) -> None:
    listing("fox", samples=3)
    assert chroma("batch", "list.jsonl").code == 0
    assert {"fox-1.png", "fox-2.png", "fox-3.png"} < names(work)
    (work / "fox-2.png").unlink()
    assert chroma("batch", "list.jsonl").code == 0
    assert {"fox-1.png", "fox-2.png", "fox-3.png"} < names(work)
    assert len(names(work)) == 5
    assert len(gate.jobs) == 2


def test_a_refused_key_is_not_tried_a_hundred_times(chroma: Chroma, gate: Gate, listing: Listing) -> None:
    gate.refuse_key = True
    listing(*(f"fox{n}" for n in range(100)))
    ended = chroma("batch", "list.jsonl", "--jobs", "4")
    assert ended.code == 3
    assert len(gate.calls) <= 10


def test_a_place_that_takes_nothing_shows_before_anything_is_spent(
    chroma: Chroma, gate: Gate, work: Path
) -> None:
    (work / "file").write_text("")
    (work / "list.jsonl").write_text(
        '{"prompt": "fox", "output": "fox.png"}\n{"prompt": "owl", "output": "file/owl.png"}\n'
    )
    ended = chroma("batch", "list.jsonl")
    assert ended.code in (2, 10)
    assert gate.prompts == []


@pytest.mark.parametrize(
    ("options", "names_it"),
    [
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "1001"], "--jobs"),
        (["--rate", "fast"], "--rate"),
        (["--rate", "0"], "--rate"),
        (["--budget", "-1"], "--budget"),
        (["--budget", "nan"], "--budget"),
        (["--shard", "3/2"], "--shard"),
        (["--shard", "0/2"], "--shard"),
        (["--retry-failed", "x"], "--retry-failed"),
        (["--timeout", "0"], "--timeout"),
        (["--deep"], "--deep"),
        (["--check", "--dry-run"], "--dry-run"),
        (["--fail-fast", "--keep-going"], "--fail-fast"),
    ],
)
def test_usage(chroma: Chroma, gate: Gate, listing: Listing, options: list[str], names_it: str) -> None:
    listing("fox")
    ended = chroma("batch", "list.jsonl", *options)
    assert ended.code == 2
    assert names_it in ended.err
    assert gate.calls == []


def test_all_wrong_options_are_told_at_once(chroma: Chroma, listing: Listing) -> None:
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--jobs", "x", "--rate", "y", "--budget", "z", "--shard", "q")
    assert all(f"--{name}" in ended.err for name in ("jobs", "rate", "budget", "shard"))


def test_a_missing_manifest(chroma: Chroma) -> None:
    assert chroma("batch").code == 2
    assert chroma("batch", "none.toml").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_bar_for_the_whole_on_a_terminal(gate: Gate, listing: Listing, work: Path) -> None:
    from running import on_terminal

    listing("fox", "owl [fail]", "hare [slow]")
    with on_terminal("batch", "list.jsonl") as terminal:
        terminal.wait_for("2/3.* 1 running · 0 queued · 1 failed")
        gate.release.set()
        assert terminal.end() == 11
    seen = terminal.plain
    assert "owl.png: The generation failed" in seen
    assert "saved 768x768" not in seen  # the bar tells
    assert seen.index("3/3") < seen.index(str(work / "fox.png")) < seen.index("2 made, 1 failed")


def test_what_is_not_finished_in_time_goes_on_in_the_next_run(
    chroma: Chroma, gate: Gate, listing: Listing
) -> None:
    listing("fox [slow]", "owl [slow]")
    late = chroma("batch", "list.jsonl", "--timeout", "1")
    assert late.code == 7, late.err
    gate.release.set()
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gate.jobs) == 2


def test_a_job_that_another_command_submitted_for_this_place_is_taken_up(
    chroma: Chroma, gate: Gate, listing: Listing, work: Path
) -> None:
    listing("fox", "owl", seed=7)
    body = ["--size", "768x768", "--seed", "7", "-o"]
    assert chroma("submit", "fox", *body, str(work / "fox.png")).code == 0
    assert chroma("batch", "list.jsonl").code == 0  # it takes up what somebody submitted for this place
    assert sorted(gate.prompts) == ["fox", "owl"]
