"""``chroma batch`` from the outside: what is made, what is left alone, what is said, and how it ends."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from kit import JOB_FIELDS, RESET, Lost, Plan, Reply, is_whole, picture

FAILS = Plan(error="content was blocked")


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def posts(gateway, *prompts: str) -> list[int]:
    return [gateway.posts(prompt) for prompt in prompts]


# --- what is made, and what is left alone ------------------------------------------------------------------


def test_what_is_missing_is_made_once(chroma, gateway, listing, work):
    listing("fox", "owl", "hare")
    first = chroma("batch", "list.jsonl")
    assert first.code == 0, first.said
    assert sorted(first.paths) == sorted(work / f"{name}.png" for name in ("fox", "owl", "hare"))
    assert names(work) == {"list.jsonl", "list.lock.json", "fox.png", "owl.png", "hare.png"}
    assert all(gateway.whose(path).prompt == path.stem for path in first.paths)
    lock = (work / "list.lock.json").read_bytes()
    again = chroma("batch", "list.jsonl")
    assert (again.code, again.out) == (0, "")
    assert "3 unchanged" in again.err
    assert posts(gateway, "fox", "owl", "hare") == [1, 1, 1]
    assert (work / "list.lock.json").read_bytes() == lock


def test_only_what_changed_is_made_again(chroma, gateway, listing, work):
    rows = listing("fox", "owl", "hare").read_text().splitlines()
    assert chroma("batch", "list.jsonl").code == 0
    rows[0] = json.dumps({**json.loads(rows[0]), "cfg": 9})
    (work / "list.jsonl").write_text("\n".join(rows))
    (work / "owl.png").unlink()
    found = chroma("batch", "list.jsonl", "--check", "--json")
    assert found.code == 1
    states = {one["output"]: one["state"] for one in found.json}
    assert states == {"fox.png": "changed-request", "owl.png": "missing"}
    assert found.error["type"] == "out_of_date"
    again = chroma("batch", "list.jsonl")
    assert again.code == 0
    assert sorted(again.paths) == [work / "fox.png", work / "owl.png"]
    assert posts(gateway, "fox", "owl", "hare") == [2, 2, 1]
    assert gateway.whose(work / "fox.png").body["cfg"] == 9
    assert chroma("batch", "list.jsonl", "--check").code == 0


def test_a_file_changed_by_hand_is_left_alone(chroma, gateway, listing, work):
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
    assert blocked.paths == [work / "owl.png"]
    assert (work / "fox.png").read_bytes() == b"mine"
    assert chroma("batch", "list.jsonl", "--overwrite").code == 0
    assert gateway.whose(work / "fox.png").body["cfg"] == 9
    assert gateway.posts("fox") == 2


def test_somebody_elses_file_is_left_alone(chroma, gateway, listing, work):
    listing("fox", "owl")
    (work / "fox.png").write_bytes(picture(1))
    (work / "owl.png").symlink_to("nowhere.png")
    assert chroma("batch", "list.jsonl").code == 11
    assert gateway.requests() == []
    assert (work / "fox.png").read_bytes() == picture(1)
    assert (work / "owl.png").is_symlink()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@pytest.mark.parametrize("samples", [1, 2])
def test_a_picture_that_was_saved_before_its_lock_entry_is_recognized(
    chroma, gateway, listing, work, config, kind, samples
):
    """By the ledger alone, also where it came in another format than was asked for."""
    config('[defaults]\nmetadata = "none"\n')
    gateway.on("file", Reply(200, [], picture(1, kind)), always=True)
    listing("fox", samples=samples)
    assert chroma("batch", "list.jsonl").code == 0
    made = sorted(names(work) - {"list.jsonl", "list.lock.json"})
    assert len(made) == samples
    assert all(name.endswith({"png": ".png", "jpeg": ".jpg"}[kind]) for name in made)
    lock = (work / "list.lock.json").read_bytes()
    (work / "list.lock.json").unlink()
    assert chroma("batch", "list.jsonl").code == 0
    assert (len(gateway.jobs()), (work / "list.lock.json").read_bytes()) == (1, lock)
    (work / "list.lock.json").unlink()
    (work / made[0]).write_bytes(b"mine")
    chroma("batch", "list.jsonl")
    assert (work / made[0]).read_bytes() == b"mine"


def test_an_unexpected_format_is_not_made_again_and_again(chroma, gateway, listing, work):
    gateway.on("file", Reply(200, [], picture(1, "jpeg")))
    listing("fox")
    first = chroma("batch", "list.jsonl")
    assert (first.code, first.paths) == (0, [work / "fox.jpg"])
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gateway.jobs()) == 1


def test_several_samples(chroma, gateway, listing, work):
    listing("fox", samples=3)
    assert chroma("batch", "list.jsonl").code == 0
    three = {"fox-1.png", "fox-2.png", "fox-3.png"}
    assert names(work) == three | {"list.jsonl", "list.lock.json"}
    (work / "fox-2.png").unlink()
    assert chroma("batch", "list.jsonl").code == 0
    assert names(work) == three | {"list.jsonl", "list.lock.json"}
    assert len(gateway.jobs()) == 2


def test_what_the_manifest_dropped_is_pruned_when_asked(chroma, gateway, listing, work):
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


def test_a_job_that_another_command_submitted_for_this_place_is_taken_up(chroma, gateway, listing, work):
    listing("fox", "owl", seed=7)
    assert chroma("submit", "fox", "--seed", "7", "-o", work / "fox.png").code == 0
    assert chroma("batch", "list.jsonl").code == 0
    assert posts(gateway, "fox", "owl") == [1, 1]


def test_stdin_has_no_lock_but_the_ledger(chroma, gateway, work):
    rows = b'{"prompt": "fox", "output": "fox.png"}\n'
    for flag in ("--check", "--prune"):
        assert chroma("batch", "-", flag, stdin=rows).code == 2
    assert chroma("batch", "-", stdin=rows).code == 0
    assert chroma("batch", "-", stdin=rows).code == 0
    assert gateway.posts() == 1
    assert names(work) == {"fox.png"}


# --- how it ends -------------------------------------------------------------------------------------------


def test_json_is_one_job_a_line(chroma, gateway, listing, work):
    gateway.plan(FAILS, prompt="owl")
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl", "--json")
    assert ended.code == 11
    assert ended.error["type"] == "some_failed"
    made, failed = sorted(ended.json, key=lambda job: job["status"])
    assert set(made) == set(failed) == JOB_FIELDS
    assert (made["status"], made["charged"]) == ("COMPLETED", "yes")
    assert made["files"][0]["path"] == str(work / "fox.png")
    assert (failed["status"], failed["charged"]) == ("FAILED", "no")
    assert failed["error"]["type"] == "generation_failed"


def test_one_image_ends_with_its_own_code(chroma, gateway, listing):
    gateway.plan(FAILS, prompt="fox")
    listing("fox")
    assert chroma("batch", "list.jsonl").code == 6


def test_fail_fast_begins_no_more(chroma, gateway, listing):
    later = [f"later{n}" for n in range(12)]
    gateway.plan(FAILS, prompt="bad")
    listing("bad", *later)
    ended = chroma("batch", "list.jsonl", "--fail-fast", "--jobs", "1")
    assert ended.code == 11
    assert gateway.posts() == 1
    assert "not begun" in ended.err
    assert chroma("batch", "list.jsonl", "--jobs", "12").code == 11
    assert posts(gateway, *later) == [1] * 12


def test_failed_ones_are_submitted_again_when_asked(chroma, gateway, listing):
    gateway.plan(FAILS, Plan(), prompt="fox")
    gateway.plan(FAILS, prompt="owl")
    listing("fox", "owl")
    assert chroma("batch", "list.jsonl", "--retry-failed", "2").code == 11
    assert posts(gateway, "fox", "owl") == [2, 3]


def test_an_unanswered_submit_is_not_sent_again(chroma, gateway, listing):
    gateway.on("submit", Lost(RESET), prompt="fox")
    listing("fox", "owl")
    assert chroma("batch", "list.jsonl").code == 11
    assert gateway.posts("owl") == 1
    again = chroma("batch", "list.jsonl")
    assert again.code == 11
    assert "--resubmit-unknown" in again.err
    assert gateway.posts("fox") == 1
    settled = chroma("batch", "list.jsonl", "--resubmit-unknown")
    assert settled.code == 0, settled.said
    assert gateway.posts("fox") == 2
    assert chroma("jobs", "--pending", "--json").out == ""


def test_what_is_not_finished_in_time_goes_on_in_the_next_run(chroma, gateway, listing):
    gateway.plan(polls=10**6)
    listing("fox", "owl")
    late = chroma("batch", "list.jsonl", "--timeout", "1")
    assert late.code == 7, late.said
    gateway.finish()
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gateway.jobs()) == 2


def test_without_a_key_nothing_is_begun_and_nothing_else_said(chroma, gateway, listing, monkeypatch):
    monkeypatch.delenv("SEGMIND_API_KEY")
    listing("fox", "owl")
    ended = chroma("batch", "list.jsonl")
    assert ended.code == 3
    assert "2 not started" in ended.err
    assert "nothing to do" not in ended.err
    assert gateway.requests() == []


def test_a_refused_key_is_not_tried_a_hundred_times(chroma, gateway, listing):
    gateway.on("submit", Reply.error(401, "invalid key"), always=True)
    listing(*(f"fox{n}" for n in range(100)))
    assert chroma("batch", "list.jsonl", "--jobs", "4").code == 3
    assert len(gateway.requests()) <= 10


# --- what is said beforehand, and where --------------------------------------------------------------------


def test_a_dry_run_costs_and_needs_nothing(chroma, listing, work):
    listing("fox", "owl", steps=75, samples=2, size="768x768")
    told = chroma("batch", "list.jsonl", "--dry-run", "--json")
    assert told.code == 0
    assert [one["output"] for one in told.json] == ["fox.png", "owl.png"]
    assert told.json[0]["expected_cost"] == pytest.approx(0.055 * 2 * 75 * 768**2 / (40 * 1024**2))
    assert told.json[0]["request"]["prompt"] == "fox"
    assert "about $0.23" in chroma("batch", "list.jsonl", "--dry-run").err
    assert chroma("batch", "list.jsonl", "--check").code == 1
    assert chroma("batch", "list.jsonl").code == 3  # now the key is missing
    assert names(work) == {"list.jsonl"}


def test_the_summary_goes_to_files_and_to_the_ci_page(chroma, gateway, work, monkeypatch):
    gateway.plan(FAILS, prompt="owl <&>")
    (work / "a.toml").write_text(
        '[[image]]\nprompt = "fox"\noutput = "a|b.png"\n[[image]]\nprompt = "owl <&>"\noutput = "<owl>.png"\n'
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


def test_a_long_summary_is_cut(chroma, listing, work, monkeypatch):
    """Without a key nothing is begun, and the summary lists all the same."""
    listing(*(f"fox{n}" for n in range(700)))
    chroma("batch", "list.jsonl", "--summary", "s.md")
    page = (work / "s.md").read_text()
    assert "and 200 more" in page
    assert page.count("\n") < 600


def test_a_summary_that_cannot_be_written_stops_before_anything_is_spent(chroma, gateway, listing):
    listing("fox")
    assert chroma("batch", "list.jsonl", "--junit", "nowhere/j.xml").code == 10
    assert gateway.requests() == []


def test_a_place_that_takes_nothing_shows_before_anything_is_spent(chroma, gateway, work):
    (work / "file").write_text("")
    (work / "list.jsonl").write_text(
        '{"prompt": "fox", "output": "fox.png"}\n{"prompt": "owl", "output": "file/owl.png"}\n'
    )
    assert chroma("batch", "list.jsonl").code == 10
    assert gateway.requests() == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_bar_for_the_whole_on_a_terminal(gateway, process, listing, work):
    gateway.plan(FAILS, prompt="owl")
    listing("fox", "owl", "hare")
    with gateway.hold("status", prompt="hare") as hold, process.terminal("batch", "list.jsonl") as terminal:
        terminal.wait_for("2/3.* 1 running · 0 queued · 1 failed")
        hold.release()
        assert terminal.end().code == 11
    seen = terminal.plain
    assert "owl.png: The generation failed" in seen
    assert "saved 1024x1024" not in seen  # the bar tells
    assert seen.index("3/3") < seen.index(str(work / "fox.png")) < seen.index("2 made, 1 failed")


# --- shares ------------------------------------------------------------------------------------------------


def test_every_image_belongs_to_one_share(chroma, gateway, listing, work):
    images = [f"fox{n}" for n in range(22)]
    listing(*images)
    counts = []
    for share in range(1, 5):
        before = len(gateway.jobs())
        assert chroma("batch", "list.jsonl", "--shard", f"{share}/4", "--jobs", "20").code == 0
        counts.append(len(gateway.jobs()) - before)
    assert sorted(counts) == [5, 5, 6, 6]
    assert all(is_whole(work / f"{name}.png") for name in images)
    assert chroma("batch", "list.jsonl", "--check").code == 0
    assert chroma("batch", "list.jsonl").code == 0
    assert len(gateway.jobs()) == len(images)


def test_an_empty_share_is_fine(chroma, gateway, listing):
    listing("fox")
    assert [chroma("batch", "list.jsonl", "--shard", f"{k}/3").code for k in (1, 2, 3)] == [0, 0, 0]
    assert gateway.posts() == 1


# --- wrong usage -------------------------------------------------------------------------------------------


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
def test_usage(chroma, gateway, listing, options, names_it):
    listing("fox")
    ended = chroma("batch", "list.jsonl", *options)
    assert ended.code == 2
    assert names_it in ended.err
    assert gateway.requests() == []


def test_all_wrong_options_are_told_at_once(chroma, listing):
    listing("fox")
    ended = chroma("batch", "list.jsonl", "--jobs", "x", "--rate", "y", "--budget", "z", "--shard", "q")
    assert all(f"--{name}" in ended.err for name in ("jobs", "rate", "budget", "shard"))


def test_a_missing_manifest(chroma):
    assert chroma("batch").code == 2
    assert chroma("batch", "none.toml").code == 2
