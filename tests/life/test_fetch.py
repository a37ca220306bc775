"""``chroma fetch``: what is paid for comes home, once, wherever it was left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faultserver import RESET, Cut, Reply, Request, tiny_png

Says = Callable[..., None]
GONE = Reply.json({"error": "not found"}, 404)


def file_reply(data: bytes) -> Reply:
    return Reply(200, [("Content-Type", "image/png")], data)


# --- ids, numbers, --pending -----------------------------------------------------------------------------


def test_by_request_id(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    ran = life("fetch", ident)
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert life.shows(life.work / "one.png")
    assert life.row(ident).state == "saved"


def test_by_job_number(life: Any) -> None:
    life.submit("a red fox", "-o", "one.png")
    assert life("fetch", "1").lines == [str(life.work / "one.png")]


def test_number_and_id_of_one_job_are_one_job(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    assert life("fetch", ident, "1").lines == [str(life.work / "one.png")]
    assert life.downloads() == 1


def test_json_is_the_whole_job(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    [job] = life("fetch", ident, "--json").objects
    assert (job["status"], job["charged"], job["cost"], job["remaining_credits"]) == (
        "COMPLETED",
        "yes",
        0.055,
        9.89,
    )
    assert job["timings"] == {"queue": 0.2, "inference": 53.1, "total": 53.4}
    [file] = job["files"]
    assert file["path"] == str(life.work / "one.png")
    assert (file["format"], file["width"], file["height"]) == ("png", 1024, 1024)
    assert job["error"] is None


def test_pending_brings_all_home(life: Any) -> None:
    for name in ("one", "two", "three"):
        life.submit("a red fox", "-o", f"{name}.png")
    ran = life("fetch", "--pending")
    assert ran.code == 0
    assert sorted(Path(path).name for path in ran.lines) == ["one.png", "three.png", "two.png"]
    assert life("fetch", "--pending").out == ""


def test_nothing_pending_is_0(life: Any) -> None:
    ran = life("fetch", "--pending", "--json")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert "Nothing is pending" in life("fetch", "--pending").err
    assert life.server.requests() == []


@pytest.mark.parametrize("argv", [(), ("1", "--pending"), ("a b",), ("--timeout", "x", "1")])
def test_wrong_usage(life: Any, argv: tuple[str, ...]) -> None:
    assert life("fetch", *argv).code == 2


def test_an_id_that_this_ledger_never_saw(life: Any) -> None:
    ident = life.submit()
    (life.state / "jobs.sqlite3").unlink()
    ran = life("fetch", ident)
    assert ran.code == 0
    [path] = ran.lines
    assert Path(path).parent == life.work
    assert Path(path).is_file()
    # from here on it is known
    assert life("fetch", ident).lines == [path]
    assert life.downloads() == 1


def test_an_id_that_nobody_knows(life: Any) -> None:
    ran = life("fetch", "no-such-id", "--json")
    assert (ran.code, ran.error["type"], ran.error["charged"]) == (8, "not_found", "unknown")
    assert life("jobs", "--json").out == ""
    assert list(life.work.iterdir()) == []


@pytest.mark.parametrize("known", [True, False])
def test_without_a_ledger(life: Any, known: bool) -> None:
    ident = life.submit()
    if not known:
        (life.state / "jobs.sqlite3").unlink()
    ran = life("fetch", ident, "--no-ledger", "-o", "one.png")
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert [path.name for path in life.work.iterdir()] == ["one.png"]
    assert known or not (life.state / "jobs.sqlite3").exists()


# --- not finished, failed, expired -----------------------------------------------------------------------


def test_not_finished_without_wait_is_7_at_once(life: Any, status_says: Says) -> None:
    ident = life.submit()
    status_says("PROCESSING")
    ran = life("fetch", ident, "--json")
    assert (ran.code, ran.error["request_id"], ran.error["charged"]) == (7, ident, "unknown")
    assert life.asked() == 1
    assert ran.objects[0]["status"] == "PROCESSING"


def test_wait_polls_until_it_is_there(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    busy = Reply.json({"status": "PROCESSING"})
    life.server.on(
        "GET", "/v2/requests/*/status", *[busy] * 5, Reply.json({"status": "COMPLETED", "request_id": ident})
    )
    ran = life("fetch", ident, "--wait")
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])


def test_wait_ends_at_its_timeout(life: Any, status_says: Says) -> None:
    ident = life.submit()
    status_says("PROCESSING")
    before = life.clock.monotonic()
    ran = life("fetch", ident, "--wait", "--timeout", "20", "--json")
    assert ran.code == 7
    assert 20 <= life.clock.monotonic() - before < 25
    assert f"chroma fetch {ident}" in ran.error["hint"]


def test_a_failed_job_is_6_and_stays_so(life: Any, status_says: Says) -> None:
    ident = life.submit()
    status_says("FAILED", code=422, error="content blocked")
    for _ in range(2):
        ran = life("fetch", ident, "--json")
        assert (ran.code, ran.error["charged"]) == (6, "no")
        assert "content blocked" in ran.error["message"]
    assert life.asked() == 1
    assert life("fetch", "--pending").code == 0


def test_an_expired_job_says_that_it_cannot_be_had_any_more(life: Any) -> None:
    ident = life.submit()
    life.server.on("GET", "/v2/requests/*", GONE)
    life.server.on("GET", "/v2/requests/*/status", GONE)
    life.clock.skip(3601)
    for _ in range(2):
        ran = life("fetch", ident, "--json")
        assert (ran.code, ran.error["type"], ran.error["charged"]) == (8, "expired", "unknown")
        assert "about $0.055" in ran.error["message"]
        assert "cannot be had any more" in ran.error["message"]
    assert life.row(ident).state == "expired"
    assert life.asked() == 1


def test_an_expired_job_that_was_paid_says_what_it_cost(life: Any) -> None:
    life.server.on("GET", "/files/*", RESET)
    ident = life.submit()
    assert life("fetch", ident).code == 9
    life.server.on("GET", "/files/*", GONE)
    life.server.on("GET", "/v2/requests/*", GONE)
    life.clock.skip(8 * 86400)
    ran = life("fetch", ident, "--json")
    assert (ran.code, ran.error["type"], ran.error["charged"]) == (8, "expired", "yes")
    assert "It was paid for ($0.055)" in ran.error["message"]


def test_a_404_within_the_hour_leaves_it_pending(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life.server.on("GET", "/v2/requests/*/status", GONE, Reply.json({"status": "COMPLETED"}))
    life.clock.skip(1800)
    assert life("fetch", ident).code == 8
    assert life("fetch", "--pending").lines == [str(life.work / "one.png")]


def test_a_clock_that_jumped_back_does_not_expire_anything(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life.clock.skip(-86400)
    assert life("fetch", ident).code == 0


# --- once, and only what is missing ----------------------------------------------------------------------


def test_what_is_saved_is_not_downloaded_again(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    asked = len(life.server.requests())
    ran = life("fetch", ident)
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert len(life.server.requests()) == asked


def test_what_is_saved_needs_no_key(life: Any, monkeypatch: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert life("fetch", ident).code == 0


def test_force_downloads_again_over_its_own_file(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    ran = life("fetch", ident, "--force")
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert life.downloads() == 2
    assert [path.name for path in life.work.iterdir()] == ["one.png"]


def test_a_missing_file_is_downloaded_again(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    (life.work / "one.png").unlink()
    assert life("fetch", ident).lines == [str(life.work / "one.png")]
    assert life.shows(life.work / "one.png")


def test_a_changed_file_is_somebodys_work_and_gets_a_neighbour(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    (life.work / "one.png").write_bytes(b"retouched")
    ran = life("fetch", ident)
    assert ran.code == 10
    assert (life.work / "one.png").read_bytes() == b"retouched"
    assert life.shows(life.work / "one-1.png")


@pytest.mark.parametrize("flags", [("--overwrite",), ("--overwrite", "--force")])
def test_a_changed_file_gives_way_to_overwrite(life: Any, flags: tuple[str, ...]) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    (life.work / "one.png").write_bytes(b"retouched")
    ran = life("fetch", ident, *flags)
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert life.shows(life.work / "one.png")


def test_force_never_takes_a_changed_file(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("fetch", ident)
    (life.work / "one.png").write_bytes(b"retouched")
    assert life("fetch", ident, "--force").code == 10
    assert (life.work / "one.png").read_bytes() == b"retouched"


def test_a_partly_saved_set_gets_only_what_is_missing(life: Any) -> None:
    life.server.on("GET", "/files/*-1.png", GONE)
    ident = life.submit("a red fox", "-o", "fox.png", "--samples", "3")
    assert life("fetch", ident).code == 8
    assert sorted(path.name for path in life.work.iterdir()) == ["fox-1.png", "fox-3.png"]
    assert life.row(ident).state == "completed"
    life.server.on("GET", "/files/*-1.png", file_reply(tiny_png(1024, 1024, 9)))
    first, third = life.downloads("/files/*-0.png"), life.downloads("/files/*-2.png")
    ran = life("fetch", ident, "--json")
    assert ran.code == 0
    assert [Path(file["path"]).name for file in ran.objects[0]["files"]] == [
        "fox-1.png",
        "fox-2.png",
        "fox-3.png",
    ]
    assert (life.downloads("/files/*-0.png"), life.downloads("/files/*-2.png")) == (first, third)


def test_one_lost_file_of_a_saved_set(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "fox.png", "--samples", "3")
    life("fetch", ident)
    (life.work / "fox-2.png").unlink()
    assert life("fetch", ident).code == 0
    assert (life.work / "fox-2.png").is_file()
    assert [life.downloads(f"/files/*-{n}.png") for n in range(3)] == [1, 2, 1]


# --- after a failed download -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [RESET, Reply.text("no", 503), file_reply(b""), file_reply(b"no picture"), Cut(file_reply(b"x" * 99), 9)],
)
def test_only_the_download_is_repeated(life: Any, trouble: Any, png: bytes) -> None:
    life.server.on("GET", "/files/*", trouble)
    ident = life.submit("a red fox", "-o", "one.png")
    ran = life("fetch", ident, "--json")
    assert (ran.code, ran.error["charged"], ran.error["request_id"]) == (9, "yes", ident)
    assert list(life.work.iterdir()) == []
    asked = life.asked()
    life.server.on("GET", "/files/*", file_reply(png))
    assert life("fetch", ident).lines == [str(life.work / "one.png")]
    assert life.asked() == asked


def test_the_file_is_had_when_the_record_is_gone(life: Any) -> None:
    life.server.on("GET", "/files/*", RESET)
    ident = life.submit("a red fox", "-o", "one.png")
    assert life("fetch", ident).code == 9
    life.server.on("GET", "/v2/requests/*", GONE)
    life.server.on("GET", "/v2/requests/*/status", GONE)
    life.server.on("GET", "/files/*", file_reply(tiny_png(1024, 1024)))
    life.clock.skip(2 * 86400)
    assert life("fetch", "--pending", "--wait").lines == [str(life.work / "one.png")]


def test_an_address_that_is_gone_is_looked_up_again(life: Any) -> None:
    """Within the hour the gateway may name another one."""
    life.server.on("GET", "/files/*", RESET)
    ident = life.submit("a red fox", "-o", "one.png")
    assert life("fetch", ident).code == 9
    life.server.on("GET", "/files/*", GONE)
    life.server.on("GET", "/moved/*", file_reply(tiny_png(1024, 1024)))
    answer = {"status": "COMPLETED", "output": f"{life.server.base_url}/moved/one.png"}
    life.server.on("GET", f"/v2/requests/{ident}", Reply.json(answer))
    assert life("fetch", ident).lines == [str(life.work / "one.png")]


def test_the_address_is_written_down_before_the_download(life: Any, png: bytes) -> None:
    seen = []

    def look(_: Request) -> Reply:
        row = life.row(1)
        seen.append((row.state, row.sources, str(row.charged), row.cost))
        return file_reply(png)

    life.server.on("GET", "/files/*", look)
    life("fetch", life.submit())
    assert seen == [("completed", ("/files/job-1-0.png",), "yes", 0.055)]


def test_the_download_never_carries_the_key(life: Any) -> None:
    life("fetch", life.submit())
    [download] = life.server.requests("GET", "/files/*")
    assert "x-api-key" not in download.headers
    assert "authorization" not in download.headers


# --- other people's jobs ---------------------------------------------------------------------------------


def test_a_job_that_somebody_works_on_is_left_alone(life: Any, alive: Any) -> None:
    row = life.begin(owner=alive)
    with life.ledger(owner=alive) as ledger:
        ledger.submitted(row.number, "busy-1")
    pending = life("fetch", "--pending")
    assert (pending.code, pending.out) == (0, "")
    assert f"Job {row.number} is being worked on" in pending.err
    assert "Nothing is pending" not in pending.err
    named = life("fetch", "busy-1", "--json")
    assert (named.code, named.error["request_id"]) == (7, "busy-1")
    assert life.server.requests() == []
    assert life.row(row.number).owner == alive


def test_a_job_whose_owner_is_gone_is_taken_over(life: Any, dead: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    with life.ledger(owner=dead) as ledger:
        assert ledger.claim(1)
    assert life("fetch", "--pending").lines == [str(life.work / "one.png")]
    assert life.row(ident).state == "saved"


def test_what_a_dead_owner_left_is_swept(life: Any, dead: Any) -> None:
    ident = life.submit("a red fox", "-o", "sub/one.png")
    token = life.row(ident).token
    (life.work / "sub").mkdir(exist_ok=True)
    (life.work / "sub" / f".chroma-{token}-0.part").write_bytes(b"half a pic")
    (life.work / "sub" / ".chroma-0123456789abcdef-0.part").write_bytes(b"of another job")
    assert life("fetch", ident).code == 0
    assert sorted(path.name for path in (life.work / "sub").iterdir()) == [
        ".chroma-0123456789abcdef-0.part",
        "one.png",
    ]


def test_other_gateways_are_told_and_never_asked(life: Any) -> None:
    for n in range(2):
        row = life.begin(base_url="https://other.example")
        with life.ledger() as ledger:
            ledger.submitted(row.number, f"other-{n}")
    mine = life.submit("a red fox", "-o", "one.png")
    ran = life("fetch", "--pending", "--json")
    assert (ran.code, [job["request_id"] for job in ran.objects]) == (0, [mine])
    [warning] = ran.warnings
    assert "2 jobs are pending at another gateway" in warning
    assert "--base-url https://other.example" in warning
    refused = life("fetch", "1", "--json")
    assert (refused.code, refused.error["exit_code"]) == (2, 2)
    assert "https://other.example" in refused.error["hint"]


def test_an_unknown_row_is_reported_and_never_sent(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    for _ in range(2):  # just found, and known for long
        ran = life("fetch", "--pending")
        assert ran.code == 0
        [warning] = ran.warnings
        assert "Job 1 is unknown" in warning
        assert "chroma jobs --forget 1" in warning
        assert "chroma jobs --resubmit 1" in warning
        assert "Nothing is pending" not in ran.err
        assert ran.err.splitlines()[-1] == "Nothing else is pending."
    assert life("fetch", "1").code == 9
    assert life.server.requests() == []


def test_a_killed_submit_that_is_asked_for_is_told_once(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    ran = life("fetch", "1")
    assert (ran.code, ran.warnings) == (9, [])
    assert ran.err.count("chroma jobs --forget 1") == 1


def test_a_killed_submit_beside_one_that_can_be_had(life: Any, dead: Any) -> None:
    life.begin(owner=dead)
    life.submit("a red fox", "-o", "one.png")
    ran = life("fetch", "--pending")
    assert (ran.code, ran.lines) == (0, [str(life.work / "one.png")])
    assert "pending." not in ran.err


def test_a_submit_to_another_gateway_that_was_killed(life: Any, dead: Any) -> None:
    life.begin(base_url="https://other.example", owner=dead)
    ran = life("fetch", "--pending")
    assert ran.code == 0
    assert "Job 1 was being submitted when its program ended" in ran.err
    assert "1 job is pending at another gateway" in ran.err
    assert "Nothing is pending" not in ran.err


def test_a_forgotten_job_can_still_be_had(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life("jobs", "--forget", ident)
    assert life("fetch", "--pending").out == ""
    assert life("fetch", ident).lines == [str(life.work / "one.png")]


def test_a_forgotten_job_that_goes_on_is_7_at_once(life: Any, status_says: Says) -> None:
    ident = life.submit()
    life("jobs", "--forget", ident)
    status_says("QUEUED")
    before = life.clock.monotonic()
    assert life("fetch", ident).code == 7
    assert life.clock.monotonic() - before < 20


# --- where it goes ---------------------------------------------------------------------------------------


def test_a_place_taken_meanwhile(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    (life.work / "one.png").write_bytes(b"mine")
    ran = life("fetch", ident)
    assert ran.code == 10
    assert ran.lines == [str(life.work / "one-1.png")]
    assert (life.work / "one.png").read_bytes() == b"mine"
    assert life.shows(life.work / "one-1.png")
    for name in ("one.png", "one-1.png"):
        assert str(life.work / name) in ran.err
    # it is home: nothing is left to do
    assert life.row(ident).state == "saved"
    assert life("fetch", ident).code == 0


def test_a_place_taken_meanwhile_in_json(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    (life.work / "one.png").symlink_to("nowhere")
    ran = life("fetch", ident, "--json")
    assert (ran.code, ran.error["charged"]) == (10, "yes")
    assert [file["path"] for file in ran.objects[0]["files"]] == [str(life.work / "one-1.png")]
    assert (life.work / "one.png").is_symlink()


def test_a_template_steps_aside_quietly(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "{slug}.{ext}")
    (life.work / "a-red-fox.png").write_bytes(b"mine")
    ran = life("fetch", ident)
    assert (ran.code, ran.lines) == (0, [str(life.work / "a-red-fox-1.png")])


def test_output_now_goes_before_output_then(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "then.png")
    ran = life("fetch", ident, "-o", "new/{slug}-{id}.{ext}")
    assert ran.lines == [str(life.work / "new" / f"a-red-fox-{ident}.png")]
    assert not (life.work / "then.png").exists()


def test_the_old_place_is_free_again(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "then.png")
    life("fetch", ident, "-o", "now.png")
    assert life("generate", "a blue fox", "-o", "then.png").code == 0


def test_output_of_a_saved_job_makes_no_second_copy_without_force(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "then.png")
    life("fetch", ident)
    assert life("fetch", ident, "-o", "now.png").lines == [str(life.work / "then.png")]
    assert life("fetch", ident, "-o", "now.png", "--force").lines == [str(life.work / "now.png")]
    assert (life.work / "then.png").is_file()


def test_stdout_takes_the_bytes(life: Any, env: dict[str, str]) -> None:
    ident = life.submit()
    done = subprocess.run(
        [sys.executable, "-m", "chroma_cli", "fetch", ident, "-o", "-"],
        capture_output=True,
        env=env,
        timeout=60,
    )
    assert done.returncode == 0
    assert life.shows(done.stdout)
    assert list(life.work.iterdir()) == []


def test_what_went_to_a_pipe_can_be_had_again(life: Any, env: dict[str, str]) -> None:
    ident = life.submit()
    for _ in range(2):
        argv = [sys.executable, "-m", "chroma_cli", "fetch", ident, "-o", "-"]
        done = subprocess.run(argv, capture_output=True, env=env, timeout=60)
        assert done.returncode == 0
        assert life.shows(done.stdout)
    [path] = life("fetch", ident).lines
    assert life.shows(Path(path))


def test_stdout_takes_one_picture_only(life: Any) -> None:
    ids = [life.submit(), life.submit()]
    assert life("fetch", *ids, "-o", "-").code == 2
    assert life("fetch", ids[0], "-o", "-", "--json").code == 2
    assert life.asked() == 0


def test_several_jobs_cannot_go_into_one_file(life: Any) -> None:
    ids = [life.submit(), life.submit()]
    assert life("fetch", *ids, "-o", "one.png").code == 2
    ran = life("fetch", *ids, "-o", "all/")
    assert ran.code == 0
    assert {Path(path).parent for path in ran.lines} == {life.work / "all"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_place_that_cannot_be_written_shows_before_the_download(life: Any) -> None:
    ident = life.submit()
    (life.work / "closed").mkdir(mode=0o500)
    assert life("fetch", ident, "-o", "closed/one.png").code == 10
    assert life.downloads() == 0


def test_a_place_below_a_file_shows_before_the_download(life: Any) -> None:
    ident = life.submit()
    (life.work / "file").write_bytes(b"")
    assert life("fetch", ident, "-o", "file/one.png").code == 10
    assert life.downloads() == 0
    assert life("fetch", ident, "-o", "one.png").code == 0


def test_a_folder_that_vanished_is_made_again(life: Any) -> None:
    ident = life.submit("a red fox", "-o", "deep/er/one.png")
    assert life("fetch", ident).lines == [str(life.work / "deep" / "er" / "one.png")]


# --- shapes of results -----------------------------------------------------------------------------------


def test_a_picture_inside_the_answer(life: Any, png: bytes) -> None:
    import base64

    ident = life.submit("a red fox", "-o", "one.png", "--base64")
    answer = {"status": "COMPLETED", "output": base64.b64encode(png).decode(), "metrics": {}}
    life.server.on("GET", f"/v2/requests/{ident}", Reply.json(answer))
    [job] = life("fetch", ident, "--json").objects
    assert life.shows(life.work / "one.png")
    assert (job["cost"], job["remaining_credits"], job["files"][0]["url"]) == (None, 9.945, None)


def test_the_gateway_answers_with_the_bytes_themselves(life: Any, png: bytes) -> None:
    ident = life.submit("a red fox", "-o", "one.png")
    life.server.on("GET", f"/v2/requests/{ident}", file_reply(png))
    assert life("fetch", ident).code == 0
    assert life.shows(life.work / "one.png")


def test_the_server_picked_the_seed(life: Any) -> None:
    ident = life.submit("a red fox", "--seed", "-1", "-o", "{seed}.{ext}")
    answer = {"status": "COMPLETED", "output": f"{life.server.base_url}/files/x.png", "seed": 4711}
    life.server.on("GET", f"/v2/requests/{ident}", Reply.json(answer))
    ran = life("fetch", ident, "--json")
    assert ran.objects[0]["seed"] == 4711
    assert (life.work / "4711.png").is_file()


# --- several, and signals --------------------------------------------------------------------------------


def test_several_where_one_fails_save_the_others(life: Any, status_says: Says) -> None:
    ids = [life.submit("a fox", "-o", f"{n}.png") for n in range(3)]
    status_says("FAILED", ids[1], error="blocked")
    ran = life("fetch", *ids, "--json")
    assert ran.code == 11
    assert sorted(job["status"] for job in ran.objects) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert sorted(path.name for path in life.work.iterdir()) == ["0.png", "2.png"]


def test_several_where_one_goes_on_is_7(life: Any, status_says: Says) -> None:
    ids = [life.submit("a fox", "-o", f"{n}.png") for n in range(3)]
    status_says("PROCESSING", ids[1])
    assert life("fetch", "--pending").code == 7
    assert sorted(path.name for path in life.work.iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("count", [1, 3])
def test_a_signal_says_how_to_go_on(
    life: Any, env: dict[str, str], status_says: Says, number: int, code: int, count: int
) -> None:
    ids = [life.submit("a fox", "-o", f"{n}.png") for n in range(count)]
    asked = threading.Event()

    def busy(_: Request) -> Reply:
        asked.set()
        return Reply.json({"status": "PROCESSING"})

    life.server.on("GET", "/v2/requests/*/status", busy)
    process = subprocess.Popen(
        [sys.executable, "-m", "chroma_cli", "fetch", *ids, "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
    )
    assert asked.wait(60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert f"chroma fetch {ids[0] if count == 1 else '--pending'}" in err
    assert "charged" in err
    assert "Traceback" not in err
    status_says("COMPLETED")
    assert len(life("fetch", "--pending").lines) == count


def test_generate_saves_each_picture_once_when_one_has_to_be_looked_up_again(life: Any) -> None:
    answers = [GONE, GONE, file_reply(tiny_png(1024, 1024, 9))]
    life.server.on("GET", "/files/*-1.png", *answers)
    ran = life("generate", "a red fox", "-o", "fox.png", "--samples", "3")
    assert ran.code == 8
    assert sorted(path.name for path in life.work.iterdir()) == ["fox-1.png", "fox-3.png"]
    assert life.downloads("/files/*-0.png") == 1
    again = life("fetch", "1")
    assert (again.code, len(again.lines)) == (0, 3)
    assert sorted(path.name for path in life.work.iterdir()) == ["fox-1.png", "fox-2.png", "fox-3.png"]
