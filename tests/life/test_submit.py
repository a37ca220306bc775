"""``chroma submit``: send a job, remember it, leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faultserver import CLOSE, RESET, Reply


def test_stdout_is_the_request_id_and_nothing_more(life: Any) -> None:
    ran = life("submit", "a red fox")
    assert (ran.code, ran.out) == (0, "job-1\n")
    assert "chroma fetch job-1 --wait" in ran.err
    assert life.asked() == 0


def test_quiet_leaves_only_the_id(life: Any) -> None:
    ran = life("submit", "a red fox", "-q")
    assert (ran.out, ran.err) == ("job-1\n", "")


def test_json_is_the_job_with_two_addresses_on_our_own_base_url(life: Any) -> None:
    life.server.on(
        "POST",
        "/v2/chroma",
        Reply.json({"request_id": "a-1", "status": "QUEUED", "status_url": "https://evil.example/steal"}),
    )
    ran = life("submit", "a red fox", "--seed", "7", "--json")
    [job] = ran.objects
    assert ran.code == 0
    assert (job["schema"], job["job"], job["request_id"], job["status"]) == (1, 1, "a-1", "QUEUED")
    assert job["status_url"] == f"{life.server.base_url}/v2/requests/a-1/status"
    assert job["response_url"] == f"{life.server.base_url}/v2/requests/a-1"
    assert job["request"] == life.server.requests("POST")[0].json
    assert (job["seed"], job["charged"], job["cost"], job["files"]) == (7, "unknown", None, [])
    assert ran.err == ""


def test_sync_makes_no_sense_and_is_refused(life: Any) -> None:
    ran = life("submit", "a red fox", "--sync")
    assert ran.code == 2
    assert "--sync" in ran.err
    assert life.submits == 0


def test_bytes_for_stdout_cannot_be_remembered(life: Any) -> None:
    ran = life("submit", "a red fox", "-o", "-")
    assert ran.code == 2
    assert life.submits == 0


def test_the_place_is_remembered_for_fetch_from_another_folder(life: Any, monkeypatch: Any) -> None:
    life.submit("a red fox", "-o", "foxes/one.png")
    (life.home / "elsewhere").mkdir()
    monkeypatch.chdir(life.home / "elsewhere")
    ran = life("fetch", "job-1")
    assert ran.lines == [str(life.work / "foxes" / "one.png")]
    assert list((life.home / "elsewhere").iterdir()) == []


def test_the_format_of_the_remembered_place_is_sent(life: Any) -> None:
    life.submit("a red fox", "-o", "one.webp")
    assert life.server.requests("POST")[0].json["image_format"] == "webp"


def test_a_promised_place_is_not_free_for_another_job(life: Any) -> None:
    life.submit("a red fox", "-o", "one.png")
    ran = life("submit", "a blue fox", "-o", "one.png")
    assert ran.code == 10
    assert life.submits == 1


def test_names_from_a_template_step_aside_for_promised_ones(life: Any) -> None:
    first = life.submit("a red fox", "--seed", "7", "-o", "{slug}.png")
    second = life.submit("a red fox", "--seed", "8", "-o", "{slug}.png")
    paths = life("fetch", first, second).lines
    assert sorted(Path(path).name for path in paths) == ["a-red-fox-1.png", "a-red-fox.png"]


def test_a_job_of_the_same_request_is_not_submitted_again(life: Any) -> None:
    first = life.submit("a red fox", "--seed", "7")
    assert life.submit("a red fox", "--seed", "7") == first
    assert life.submits == 1
    assert [Path(path).name for path in life("fetch", first).lines] == ["a-red-fox-7.png"]


@pytest.mark.parametrize("argv", [("a red fox", "-o", "there.png"), ("a red fox", "--steps", "9"), ()])
def test_nothing_is_sent_that_could_not_be_delivered(life: Any, argv: tuple[str, ...]) -> None:
    (life.work / "there.png").write_bytes(b"mine")
    assert life("submit", *argv).code in (2, 10)
    assert life.submits == 0
    assert (life.work / "there.png").read_bytes() == b"mine"


def test_no_key_no_submit(life: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    ran = life("submit", "a red fox")
    assert ran.code == 3
    assert life.server.requests() == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RESET, "may or may not"),
        (CLOSE, "may or may not"),
        (Reply.text("<html>bad gateway</html>", 502, "text/html"), "502"),
        (Reply.text("<html>too late</html>", 504, "text/html"), "504"),
        (Reply.json({"status": "QUEUED"}), "request id"),
        (Reply.json({"request_id": 7}), "request id"),
        (Reply.json({"request_id": "../../etc"}), "request id"),
        (Reply.text('{"request_id": "abc'), "may or may not"),
    ],
)
def test_a_lost_answer_is_unknown_and_is_not_sent_again(life: Any, answer: Any, words: str) -> None:
    life.server.on("POST", "/v2/chroma", answer)
    ran = life("submit", "a red fox", "--json")
    assert ran.code == 9
    [job] = ran.objects
    assert (job["job"], job["request_id"], job["status"], job["charged"]) == (1, None, "UNKNOWN", "unknown")
    assert (job["status_url"], job["response_url"], job["error"]) == (None, None, ran.error)
    assert ran.error["type"] == "outcome_unknown"
    assert (ran.error["charged"], ran.error["job"], ran.error["request_id"]) == ("unknown", 1, None)
    assert words in ran.error["message"]
    assert life.submits == 1
    assert life.row(1).state == "unknown"
    # nor by any later command
    pending = life("fetch", "--pending", "--wait")
    assert (pending.code, pending.out) == (0, "")
    assert "chroma jobs --forget 1" in pending.err
    assert life.submits == 1


@pytest.mark.parametrize(
    "answer", [RESET, Reply.json({"error": "no"}, 401), Reply.json({"error": "no"}, 503)]
)
def test_a_submit_that_fails_says_in_json_what_generate_says(life: Any, answer: Any) -> None:
    life.server.on("POST", "/v2/chroma", answer)
    ends = []
    for how in ("generate", "submit"):
        ends.append(life(how, "a red fox", "--seed", "7", "--json"))
        life("jobs", "--forget", "1")
    generated, submitted = (ran.objects[0] for ran in ends)
    assert [len(ran.lines) for ran in ends] == [1, 1]
    assert ends[0].code == ends[1].code
    assert {submitted.pop("status_url"), submitted.pop("response_url")} == {None}
    assert submitted["request"] == life.server.requests("POST")[-1].json
    for own in (generated, submitted):
        number = own.pop("job")
        assert own["error"].pop("job") == number
        assert own.pop("created_at") is not None
        for words in ("message", "hint"):
            own["error"][words] = str(own["error"][words]).replace(f"job {number}", "job N")
    assert submitted == generated


def test_without_json_a_submit_that_fails_prints_no_id(life: Any) -> None:
    life.server.on("POST", "/v2/chroma", RESET)
    ran = life("submit", "a red fox")
    assert (ran.code, ran.out) == (9, "")


def test_what_never_became_a_job_is_the_error_alone(life: Any) -> None:
    ran = life("submit", "a red fox", "--steps", "9", "--json")
    assert (ran.code, ran.out, ran.error["job"]) == (2, "", None)


def test_an_unknown_outcome_is_sent_again_when_asked_for(life: Any) -> None:
    good = Reply.json({"request_id": "b-2", "status": "QUEUED"})
    life.server.on("POST", "/v2/chroma", RESET, good)
    assert life.submit("a red fox", "--resubmit-unknown") == "b-2"
    assert life.submits == 2
    assert life.row(1).request_id == "b-2"


def test_a_server_error_with_the_gateways_own_words_is_repeated_twice(life: Any) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json({"error": "busy"}, 503))
    ran = life("submit", "a red fox", "--json")
    assert (ran.code, ran.error["charged"]) == (9, "no")
    assert life.submits == 3
    assert life.row(1).state == "failed"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "bad"}, 2),
        (401, {"error": "no"}, 3),
        (403, {"error": "no"}, 3),
        (404, {"error": "no model"}, 8),
        (406, {"error": "Insufficient credits"}, 4),
        (406, {"error": "Invalid content type"}, 2),
        (410, {"error": "gone"}, 8),
        (422, {"error": "no"}, 2),
    ],
)
def test_a_refusal_settles_the_row_and_frees_its_place(life: Any, status: int, body: Any, code: int) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json(body, status), Reply.json({"request_id": "ok-1"}))
    ran = life("submit", "a red fox", "-o", "one.png", "--json")
    assert (ran.code, ran.error["charged"]) == (code, "no")
    assert life("fetch", "--pending").out == ""
    assert life.submit("a red fox", "-o", "one.png") == "ok-1"


def test_the_hint_names_the_gateway_when_an_option_did(life: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    ran = life("submit", "a red fox", "--base-url", life.server.base_url)
    assert f"chroma fetch job-1 --wait --base-url {life.server.base_url}" in ran.err
    assert life.row("job-1").base_url == life.server.base_url


def test_the_key_is_nowhere_in_the_ledger(life: Any, key: str) -> None:
    life.server.on("POST", "/v2/chroma", Reply.json({"error": f"key {key} is bad"}, 401))
    ran = life("submit", "a red fox", "-v")
    assert key not in ran.err
    assert key.encode() not in (life.state / "jobs.sqlite3").read_bytes()
