"""``chroma fetch``: what is paid for comes home, once, wherever it was left."""

from __future__ import annotations

import json
import os
import signal

import pytest
from kit import RESET, Changed, Cut, Gateway, Reply, is_whole, png

pytestmark = pytest.mark.usefixtures("clock")

PROCESSING = Reply.json({"status": "PROCESSING"})
GONE = Reply.error(404, "not found")


def picture_reply(data: bytes) -> Reply:
    return Reply(200, [("Content-Type", "image/png")], data)


def asked(gateway) -> int:
    return len(gateway.requests(path="/v2/requests/*"))


def downloads(gateway, place: int | None = None) -> int:
    return len(gateway.requests(path="/files/*" if place is None else f"/files/*-{place}.png"))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- ids, numbers, --pending -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "number", "both"])
def test_by_request_id_and_by_job_number(gateway, chroma, submitted, work, ledger_rows, by) -> None:
    ident = submitted("a fox", "-o", "one.png")
    given = {"id": [ident], "number": ["1"], "both": [ident, "1"]}[by]
    ended = chroma("fetch", *given)
    assert (ended.code, ended.paths, downloads(gateway)) == (0, [work / "one.png"], 1)
    assert gateway.whose(work / "one.png").prompt == "a fox"
    [row] = ledger_rows()
    assert [file["path"] for file in row["files"]] == [str(work / "one.png")]


def test_json_is_the_whole_job(chroma, submitted, work) -> None:
    job = chroma("fetch", submitted("a fox", "-o", "one.png"), "--json").one
    assert (job["status"], job["charged"], job["cost"]) == ("COMPLETED", "yes", 0.055)
    assert (job["remaining_credits"], job["error"]) == (999.945, None)
    assert job["timings"] == {"queue": 0.2, "inference": 53.1, "total": 53.4}
    [file] = job["files"]
    assert file["path"] == str(work / "one.png")
    assert (file["format"], file["width"], file["height"]) == ("png", 1024, 1024)


def test_pending_brings_all_home(gateway, chroma, submitted) -> None:
    for name in ("one", "two", "three"):
        submitted(name, "-o", f"{name}.png")
    ended = chroma("fetch", "--pending")
    assert ended.code == 0
    assert sorted(path.name for path in ended.paths) == ["one.png", "three.png", "two.png"]
    count = len(gateway.requests())
    nothing = chroma("fetch", "--pending", "--json")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "")
    assert "Nothing is pending" in chroma("fetch", "--pending").err
    assert len(gateway.requests()) == count


@pytest.mark.parametrize("argv", [(), ("1", "--pending"), ("a b",), ("--timeout", "x", "1")])
def test_wrong_usage(chroma, argv) -> None:
    assert chroma("fetch", *argv).code == 2


def test_an_id_that_this_ledger_never_saw(gateway, chroma, submitted, work, state) -> None:
    ident = submitted()
    (state / "jobs.sqlite3").unlink()
    ended = chroma("fetch", ident)
    [path] = ended.paths
    assert (ended.code, path.parent) == (0, work)
    assert is_whole(path)
    assert chroma("fetch", ident).paths == [path]  # from here on it is known
    assert downloads(gateway) == 1


def test_an_id_that_nobody_knows(chroma, work, ledger_rows) -> None:
    ended = chroma("fetch", "no-such-id", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "not_found", "unknown")
    assert ledger_rows() == names(work) == []


@pytest.mark.parametrize("known", [True, False])
def test_without_a_ledger(chroma, submitted, work, state, known) -> None:
    ident = submitted()
    if not known:
        (state / "jobs.sqlite3").unlink()
    ended = chroma("fetch", ident, "--no-ledger", "-o", "one.png")
    assert (ended.code, ended.paths) == (0, [work / "one.png"])
    assert names(work) == ["one.png"]
    assert known or not (state / "jobs.sqlite3").exists()


# --- not finished, failed, expired -----------------------------------------------------------------------


def test_not_finished_without_wait_is_7_at_once(gateway, chroma, submitted) -> None:
    ident = submitted()
    gateway.on("status", PROCESSING, always=True)
    ended = chroma("fetch", ident, "--json")
    assert (ended.code, ended.error["request_id"], ended.error["charged"]) == (7, ident, "unknown")
    assert (asked(gateway), ended.one["status"]) == (1, "PROCESSING")


def test_wait_polls_until_it_is_there(gateway, chroma, submitted, work) -> None:
    gateway.plan(seconds=53)
    ended = chroma("fetch", submitted("a fox", "-o", "one.png"), "--wait")
    assert (ended.code, ended.paths) == (0, [work / "one.png"])
    assert 1 < len(gateway.requests("status")) < 30


def test_wait_ends_at_its_timeout(gateway, chroma, submitted, clock) -> None:
    gateway.plan(seconds=1000)
    ident = submitted()
    before = clock.monotonic()
    ended = chroma("fetch", ident, "--wait", "--timeout", "20", "--json")
    assert ended.code == 7
    assert sum(clock.sleeps) == pytest.approx(20, abs=5)
    assert clock.monotonic() - before >= 20
    assert f"chroma fetch {ident}" in ended.error["hint"]


def test_a_failed_job_is_6_and_stays_so(gateway, chroma, submitted) -> None:
    gateway.plan(error="content blocked")
    ident = submitted()
    for _ in range(2):
        ended = chroma("fetch", ident, "--json")
        assert (ended.code, ended.error["charged"]) == (6, "no")
        assert "content blocked" in ended.error["message"]
    assert asked(gateway) == 1
    assert chroma("fetch", "--pending").code == 0


def test_an_expired_job_says_that_it_cannot_be_had_any_more(
    gateway, chroma, submitted, clock, ledger_rows
) -> None:
    ident = submitted()
    clock.skip(3601)
    for _ in range(2):
        ended = chroma("fetch", ident, "--json")
        assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "expired", "unknown")
        assert "about $0.055" in ended.error["message"]
        assert "cannot be had any more" in ended.error["message"]
    assert [row["status"] for row in ledger_rows()] == ["EXPIRED"]
    assert asked(gateway) == 1


def test_an_expired_job_that_was_paid_says_what_it_cost(gateway, chroma, submitted, clock) -> None:
    gateway.on("file", RESET, always=True)
    ident = submitted()
    assert chroma("fetch", ident).code == 9
    gateway.on("file", GONE, always=True)
    clock.skip(8 * 86400)
    ended = chroma("fetch", ident, "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (8, "expired", "yes")
    assert "It was paid for ($0.055)" in ended.error["message"]


def test_a_404_within_the_hour_leaves_it_pending(gateway, chroma, submitted, clock, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    gateway.on("status", GONE)
    clock.skip(1800)
    assert chroma("fetch", ident).code == 8
    assert chroma("fetch", "--pending").paths == [work / "one.png"]


# --- once, and only what is missing ----------------------------------------------------------------------


def test_what_is_saved_is_not_downloaded_again_and_needs_no_key(
    gateway, chroma, submitted, work, monkeypatch
) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("fetch", ident)
    count = len(gateway.requests())
    monkeypatch.delenv("SEGMIND_API_KEY")
    ended = chroma("fetch", ident)
    assert (ended.code, ended.paths, len(gateway.requests())) == (0, [work / "one.png"], count)


def test_force_downloads_again_over_its_own_file(gateway, chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("fetch", ident)
    ended = chroma("fetch", ident, "--force")
    assert (ended.code, ended.paths, downloads(gateway)) == (0, [work / "one.png"], 2)
    assert names(work) == ["one.png"]


def test_a_missing_file_is_downloaded_again(chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("fetch", ident)
    (work / "one.png").unlink()
    assert chroma("fetch", ident).paths == [work / "one.png"]
    assert is_whole(work / "one.png")


@pytest.mark.parametrize(
    ("flags", "code"),
    [((), 10), (("--force",), 10), (("--overwrite",), 0), (("--overwrite", "--force"), 0)],
)
def test_a_changed_file_gives_way_to_overwrite_alone(chroma, submitted, work, flags, code) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("fetch", ident)
    (work / "one.png").write_bytes(b"retouched")
    assert chroma("fetch", ident, *flags).code == code
    assert is_whole(work / ("one-1.png" if code else "one.png"))
    assert code == 0 or (work / "one.png").read_bytes() == b"retouched"


def test_a_partly_saved_set_gets_only_what_is_missing(gateway, chroma, submitted, work, ledger_rows) -> None:
    gateway.on("GET /files/*-1.png", GONE, always=True)
    ident = submitted("a fox", "-o", "fox.png", "--samples", "3")
    assert chroma("fetch", ident).code == 8
    assert names(work) == ["fox-1.png", "fox-3.png"]
    before = downloads(gateway, 0), downloads(gateway, 2)
    gateway.behave()
    ended = chroma("fetch", ident, "--json")
    assert ended.code == 0
    assert [file["path"] for file in ended.one["files"]] == [str(work / f"fox-{n}.png") for n in (1, 2, 3)]
    assert (downloads(gateway, 0), downloads(gateway, 2)) == before
    # one that is lost later
    (work / "fox-2.png").unlink()
    count = downloads(gateway)
    assert chroma("fetch", ident).code == 0
    assert is_whole(work / "fox-2.png")
    assert downloads(gateway) == count + 1


def test_generate_saves_each_picture_once_when_one_has_to_be_looked_up_again(gateway, chroma, work) -> None:
    gateway.on("GET /files/*-1.png", GONE, GONE)
    assert chroma("generate", "a fox", "-o", "fox.png", "--samples", "3").code == 8
    assert names(work) == ["fox-1.png", "fox-3.png"]
    assert downloads(gateway, 0) == 1
    again = chroma("fetch", "1")
    assert (again.code, len(again.paths)) == (0, 3)
    assert names(work) == ["fox-1.png", "fox-2.png", "fox-3.png"]


# --- after a failed download -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [RESET, Reply.error(503), picture_reply(b""), picture_reply(b"no picture"), Cut(99)],
)
def test_only_the_download_is_repeated(gateway, chroma, submitted, work, trouble) -> None:
    gateway.on("file", trouble, always=True)
    ident = submitted("a fox", "-o", "one.png")
    ended = chroma("fetch", ident, "--json")
    assert (ended.code, ended.error["charged"], ended.error["request_id"]) == (9, "yes", ident)
    assert names(work) == []
    count = asked(gateway)
    gateway.behave()
    assert chroma("fetch", ident).paths == [work / "one.png"]
    assert asked(gateway) == count


def test_the_file_is_had_when_the_record_is_gone(gateway, chroma, submitted, clock, work) -> None:
    gateway.on("file", RESET, always=True)
    ident = submitted("a fox", "-o", "one.png")
    assert chroma("fetch", ident).code == 9
    gateway.behave()
    clock.skip(2 * 86400)
    assert chroma("fetch", "--pending", "--wait").paths == [work / "one.png"]


def test_an_address_that_is_gone_is_looked_up_again(gateway, chroma, submitted, work) -> None:
    """Within the hour the gateway may name another one."""
    gateway.on("file", RESET, always=True)
    ident = submitted("a fox", "-o", "one.png")
    assert chroma("fetch", ident).code == 9
    gateway.on("file", GONE, always=True)
    gateway.on("GET /moved/*", picture_reply(png(1)), always=True)
    moved = {"status": "COMPLETED", "output": f"{gateway.base_url}/moved/one.png"}
    gateway.on("result", Reply.json(moved), always=True)
    assert chroma("fetch", ident).paths == [work / "one.png"]


def test_the_address_is_written_down_before_the_download(gateway, process, chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    with gateway.hold("file") as hold:
        started = process.start("fetch", ident)
        hold.wait()
        started.kill()
    gateway.forget()
    assert chroma("fetch", ident).paths == [work / "one.png"]


def test_the_download_never_carries_the_key(gateway, chroma, submitted) -> None:
    chroma("fetch", submitted())
    [download] = gateway.requests("file")
    assert not {"x-api-key", "authorization"} & set(download.headers)


# --- other people's jobs ---------------------------------------------------------------------------------


def test_a_job_that_somebody_works_on_is_left_alone(gateway, chroma, process, work) -> None:
    with gateway.hold("status") as hold:
        started = process.start("generate", "a fox", "-o", "one.png")
        hold.wait()
        count = len(gateway.requests())
        pending = chroma("fetch", "--pending")
        assert (pending.code, pending.out) == (0, "")
        assert "Job 1 is being worked on" in pending.err
        assert "Nothing is pending" not in pending.err
        ident = gateway.jobs()[0].id
        named = chroma("fetch", ident, "--json")
        assert (named.code, named.error["request_id"]) == (7, ident)
        assert "waiting" not in chroma("jobs").err
        for settle in (("--forget", "1"), ("--resubmit", "1", "--yes")):
            assert chroma("jobs", *settle).code == 2
        assert len(gateway.requests()) == count
    assert started.end().paths == [work / "one.png"]


def test_a_job_whose_owner_is_gone_is_taken_over_and_its_temp_files_swept(
    gateway, chroma, process, work
) -> None:
    with gateway.hold("file", "half") as hold:
        started = process.start("generate", "a fox", "-o", "sub/one.png")
        hold.wait()
        started.kill()
    [left] = names(work / "sub")
    assert left.endswith(".part")
    (work / "sub" / ".chroma-0123456789abcdef-0.part").write_bytes(b"of another job")
    assert chroma("fetch", "--pending").paths == [work / "sub" / "one.png"]
    assert names(work / "sub") == [".chroma-0123456789abcdef-0.part", "one.png"]


def test_other_gateways_are_told_and_never_asked(gateway, chroma, submitted, killed_submit) -> None:
    with Gateway() as other:
        for prompt in ("one", "two"):
            submitted(prompt, "--base-url", other.base_url)
        came = len(other.requests())
        mine = submitted("a fox", "-o", "one.png")
        ended = chroma("fetch", "--pending", "--json")
        assert (ended.code, [job["request_id"] for job in ended.json]) == (0, [mine])
        [warning] = ended.warnings
        assert "2 jobs are pending at another gateway" in warning
        assert f"--base-url {other.base_url}" in warning
        refused = chroma("fetch", "1", "--json")
        assert refused.code == 2
        assert other.base_url in refused.error["hint"]
        assert len(other.requests()) == came


def test_a_killed_submit_is_told_and_never_sent(gateway, chroma, submitted, killed_submit, work) -> None:
    killed_submit("a fox")
    for _ in range(2):  # just found, and known for long
        ended = chroma("fetch", "--pending")
        [warning] = ended.warnings
        assert ended.code == 0
        for words in ("Job 1 is unknown", "chroma jobs --forget 1", "chroma jobs --resubmit 1"):
            assert words in warning
        assert ended.err.splitlines()[-1] == "Nothing else is pending."
    ended = chroma("fetch", "1")
    assert (ended.code, ended.warnings, ended.err.count("chroma jobs --forget 1")) == (9, [], 1)
    assert gateway.posts() == len(gateway.requests())
    submitted("a boat", "-o", "boat.png")  # beside one that can be had
    ended = chroma("fetch", "--pending")
    assert (ended.code, ended.paths) == (0, [work / "boat.png"])
    assert "pending." not in ended.err


def test_a_submit_to_another_gateway_that_was_killed(gateway, chroma, killed_submit) -> None:
    killed_submit("a fox")
    with Gateway() as other:
        ended = chroma("fetch", "--pending", "--base-url", other.base_url)
        assert (ended.code, other.requests()) == (0, [])
    assert "Job 1 was being submitted when its program ended" in ended.err
    assert "1 job is pending at another gateway" in ended.err
    assert "Nothing is pending" not in ended.err


def test_a_forgotten_job_can_still_be_had(gateway, chroma, submitted, clock, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("jobs", "--forget", ident)
    assert chroma("fetch", "--pending").out == ""
    gateway.on("status", Reply.json({"status": "QUEUED"}))
    assert chroma("fetch", ident).code == 7  # at once
    assert sum(clock.sleeps) < 20
    assert chroma("fetch", ident).paths == [work / "one.png"]


# --- where it goes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["file", "dangling link"])
def test_a_place_taken_meanwhile(chroma, submitted, work, taken) -> None:
    ident = submitted("a fox", "-o", "one.png")
    if taken == "file":
        (work / "one.png").write_bytes(b"mine")
    else:
        (work / "one.png").symlink_to("nowhere")
    ended = chroma("fetch", ident, "--json")
    assert (ended.code, ended.error["charged"]) == (10, "yes")
    assert [file["path"] for file in ended.one["files"]] == [str(work / "one-1.png")]
    for name in ("one.png", "one-1.png"):
        assert str(work / name) in ended.error["message"]
    assert is_whole(work / "one-1.png")
    assert (work / "one.png").is_symlink() or (work / "one.png").read_bytes() == b"mine"
    assert chroma("fetch", ident).code == 0  # it is home: nothing is left to do


def test_a_template_steps_aside_quietly(chroma, submitted, work) -> None:
    ident = submitted("a red fox", "-o", "{slug}.{ext}")
    (work / "a-red-fox.png").write_bytes(b"mine")
    ended = chroma("fetch", ident)
    assert (ended.code, ended.paths) == (0, [work / "a-red-fox-1.png"])


def test_output_now_goes_before_output_then_which_is_free_again(chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "then.png")
    ended = chroma("fetch", ident, "-o", "new/{slug}-{id}.{ext}")
    assert ended.paths == [work / "new" / f"a-fox-{ident}.png"]
    assert not (work / "then.png").exists()
    assert chroma("generate", "a boat", "-o", "then.png").code == 0


def test_output_of_a_saved_job_makes_no_second_copy_without_force(gateway, chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    chroma("fetch", ident)
    ended = chroma("fetch", ident, "-o", "two.png")
    assert (ended.code, ended.paths, downloads(gateway)) == (0, [work / "one.png"], 1)
    assert "--force to fetch it again to two.png" in ended.warnings[0]
    for same in ("one.png", "./", str(work / "one.png")):
        assert chroma("fetch", ident, "-o", same).warnings == []
    assert chroma("fetch", ident, "-o", "two.png", "--force").paths == [work / "two.png"]
    assert (work / "one.png").is_file()


def test_stdout_takes_the_bytes_and_they_can_be_had_again(chroma, submitted, work) -> None:
    ident = submitted()
    for _ in range(2):
        ended = chroma("fetch", ident, "-o", "-")
        assert ended.code == 0
        assert is_whole(ended.raw_out)
    assert names(work) == []
    assert all(map(is_whole, chroma("fetch", ident).paths))


def test_stdout_takes_one_picture_only(gateway, chroma, submitted) -> None:
    ids = [submitted("a fox"), submitted("a boat")]
    assert chroma("fetch", *ids, "-o", "-").code == 2
    assert chroma("fetch", ids[0], "-o", "-", "--json").code == 2
    assert asked(gateway) == 0


def test_several_jobs_cannot_go_into_one_file(chroma, submitted, work) -> None:
    ids = [submitted("a fox"), submitted("a boat")]
    assert chroma("fetch", *ids, "-o", "one.png").code == 2
    ended = chroma("fetch", *ids, "-o", "all/")
    assert (ended.code, {path.parent for path in ended.paths}) == (0, {work / "all"})


@pytest.mark.parametrize(
    "place",
    [
        "file/one.png",
        pytest.param(
            "closed/one.png",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere"),
        ),
    ],
)
def test_a_place_that_cannot_be_written_shows_before_the_download(
    gateway, chroma, submitted, work, place
) -> None:
    ident = submitted()
    (work / "file").write_bytes(b"")
    (work / "closed").mkdir(mode=0o500)
    assert chroma("fetch", ident, "-o", place).code == 10
    assert downloads(gateway) == 0
    assert chroma("fetch", ident, "-o", "one.png").code == 0


def test_a_folder_that_vanished_is_made_again(chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "deep/er/one.png")
    assert chroma("fetch", ident).paths == [work / "deep" / "er" / "one.png"]


# --- shapes of results -----------------------------------------------------------------------------------


def test_a_picture_inside_the_answer(gateway, chroma, submitted, work) -> None:
    def without_metrics(told):
        return {name: value for name, value in told.items() if name != "metrics"}

    ident = submitted("a fox", "-o", "one.png", "--base64")
    gateway.on("result", Changed(without_metrics))
    job = chroma("fetch", ident, "--json").one
    assert is_whole(work / "one.png")
    # the balance is the one that the submit's answer told
    assert (job["cost"], job["remaining_credits"], job["files"][0]["url"]) == (None, 999.945, None)


def test_the_gateway_answers_with_the_bytes_themselves(gateway, chroma, submitted, work) -> None:
    ident = submitted("a fox", "-o", "one.png")
    gateway.on("result", picture_reply(png(1)), always=True)
    assert chroma("fetch", ident).code == 0
    assert is_whole(work / "one.png")


def test_the_server_picked_the_seed(gateway, chroma, submitted, work) -> None:
    ident = submitted("a fox", "--seed", "-1", "-o", "{seed}.{ext}")
    gateway.on("result", Changed(lambda told: {**told, "seed": 4711}))
    assert chroma("fetch", ident, "--json").one["seed"] == 4711
    assert is_whole(work / "4711.png")


# --- several, and signals --------------------------------------------------------------------------------


def test_one_jobs_trouble_keeps_no_others_picture(gateway, chroma, submitted, work) -> None:
    gateway.plan(error="blocked", prompt="one")
    gateway.plan(seconds=1000, prompt="two")
    for prompt in ("zero", "one", "two", "three"):
        submitted(prompt, "-o", f"{prompt}.png")
    ended = chroma("fetch", "1", "2", "4", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (11, "some_failed", "no")
    assert sorted(job["status"] for job in ended.json) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert names(work) == ["three.png", "zero.png"]
    assert chroma("fetch", "--pending").code == 7  # the one that goes on is left


def test_of_several_the_error_says_whether_money_went_for_any(gateway, chroma, submitted) -> None:
    for prompt in ("one", "two"):
        submitted(prompt)
    gateway.on("file", picture_reply(b"no picture"), prompt="two", always=True)
    ended = chroma("fetch", "1", "2", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (11, "some_failed", "yes")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("count", [1, 3])
def test_a_signal_says_how_to_go_on(gateway, process, chroma, submitted, number, code, count) -> None:
    ids = [submitted(f"fox {n}") for n in range(count)]
    gateway.on("status", PROCESSING, always=True)
    with gateway.hold("status", then=PROCESSING) as hold:
        started = process.start("fetch", *ids, "--wait", "--json")
        hold.wait()
        started.signal(number)
    ended = started.end()
    assert ended.code == code
    error = json.loads(ended.raw_err.splitlines()[-1])["error"]
    assert f"chroma fetch {ids[0] if count == 1 else '--pending'}" in error["hint"] + error["message"]
    assert "Traceback" not in ended.err
    gateway.behave()
    assert len(chroma("fetch", "--pending").paths) == count
