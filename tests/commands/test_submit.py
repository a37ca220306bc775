"""``chroma submit``: send a job, remember it, leave."""

from __future__ import annotations

import pytest
from kit import CLOSE, KEY, RESET, Changed, Cut, Lost, Reply, is_whole

pytestmark = pytest.mark.usefixtures("clock")


def test_stdout_is_the_request_id_and_nothing_more(gateway, chroma) -> None:
    ended = chroma("submit", "a fox")
    ident = gateway.jobs()[0].id
    assert (ended.code, ended.out) == (0, f"{ident}\n")
    assert f"chroma fetch --wait {ident}" in ended.err or f"chroma fetch {ident} --wait" in ended.err
    assert gateway.requests(method="GET") == []
    assert chroma("submit", "a boat", "-q").err == ""


def test_json_is_the_job_with_two_addresses_on_our_own_base_url(gateway, chroma) -> None:
    gateway.on("submit", Changed(lambda told: {**told, "status_url": "https://evil.example/steal"}))
    ended = chroma("submit", "a fox", "--seed", "7", "--json")
    job, ident = ended.one, gateway.jobs()[0].id
    assert (ended.code, ended.err) == (0, "")
    assert (job["schema"], job["job"], job["request_id"], job["status"]) == (1, 1, ident, "QUEUED")
    assert job["status_url"] == f"{gateway.base_url}/v2/requests/{ident}/status"
    assert job["response_url"] == f"{gateway.base_url}/v2/requests/{ident}"
    assert job["request"] == gateway.requests("submit")[0].json
    assert (job["seed"], job["charged"], job["cost"], job["files"]) == (7, "unknown", None, [])


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("a fox", "--sync"), 2),
        (("a fox", "-o", "-"), 2),
        (("a fox", "-o", "there.png"), 10),
        (("a fox", "--steps", "9"), 2),
        ((), 2),
    ],
)
def test_nothing_is_sent_that_could_not_be_delivered(gateway, chroma, work, argv, code) -> None:
    (work / "there.png").write_bytes(b"mine")
    ended = chroma("submit", *argv, "--json")
    assert (ended.code, ended.out, ended.error["job"], ended.error["charged"]) == (code, "", None, "no")
    assert gateway.requests() == []
    assert (work / "there.png").read_bytes() == b"mine"


def test_the_place_is_remembered_for_fetch_from_another_folder(
    gateway, chroma, submitted, work, tmp_path, monkeypatch
) -> None:
    ident = submitted("a fox", "-o", "foxes/one.webp")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert chroma("fetch", ident).paths == [work / "foxes" / "one.webp"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert gateway.jobs()[0].body["image_format"] == "webp"


def test_a_promised_place_is_not_free_for_another_job(gateway, chroma, submitted) -> None:
    submitted("a fox", "-o", "one.png")
    assert chroma("submit", "a boat", "-o", "one.png").code == 10
    assert gateway.posts() == 1


def test_names_from_a_template_step_aside_for_promised_ones(chroma, submitted) -> None:
    ids = [submitted("a red fox", "--seed", "7", "--steps", steps) for steps in ("30", "40")]
    paths = chroma("fetch", *ids).paths
    assert sorted(path.name for path in paths) == ["a-red-fox-7-1.png", "a-red-fox-7.png"]


def test_a_job_of_the_same_request_is_not_submitted_again(gateway, chroma, submitted) -> None:
    first = submitted("a red fox", "--seed", "7")
    assert submitted("a red fox", "--seed", "7") == first
    assert gateway.posts() == 1
    assert [path.name for path in chroma("fetch", first).paths] == ["a-red-fox-7.png"]


def test_no_key_no_submit(gateway, chroma, monkeypatch) -> None:
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert chroma("submit", "a fox").code == 3
    assert gateway.requests() == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Lost(RESET), "may or may not"),
        (Lost(CLOSE), "may or may not"),
        (Cut(20), "may or may not"),
        (Reply.page(502), "502"),
        (Reply.page(504), "504"),
        (Reply.json({"status": "QUEUED"}), "request id"),
        (Reply.json({"request_id": 7}), "request id"),
        (Reply.json({"request_id": "../../etc"}), "request id"),
    ],
)
def test_a_lost_answer_is_unknown_and_is_not_sent_again(gateway, chroma, answer, words) -> None:
    gateway.on("submit", answer)
    ended = chroma("submit", "a fox", "--json")
    job, error = ended.one, ended.error
    assert (ended.code, error["type"], error["charged"]) == (9, "outcome_unknown", "unknown")
    assert (job["job"], job["request_id"], job["status"], job["charged"]) == (1, None, "UNKNOWN", "unknown")
    assert (job["status_url"], job["response_url"], job["error"]) == (None, None, error)
    assert (error["job"], error["request_id"]) == (1, None)
    assert words in error["message"]
    pending = chroma("fetch", "--pending", "--wait")  # nor is it sent by any later command
    assert (pending.code, pending.out) == (0, "")
    assert "chroma jobs --forget 1" in pending.err
    assert gateway.posts() == 1


@pytest.mark.parametrize("answer", [RESET, Reply.error(401), Reply.error(503)])
def test_a_submit_that_fails_says_in_json_what_generate_says(gateway, chroma, answer) -> None:
    gateway.on("submit", answer, always=True)
    ends = [
        chroma(how, "a fox", "--seed", seed, "--json") for how, seed in [("generate", "7"), ("submit", "8")]
    ]
    generated, left = (ended.one for ended in ends)
    assert ends[0].code == ends[1].code
    assert {left.pop("status_url"), left.pop("response_url")} == {None}
    for own in (generated, left):
        number = own.pop("job")
        assert own["error"].pop("job") == number
        assert own.pop("created_at") is not None
        assert own.pop("request")["seed"] == own.pop("seed")
        for words in ("message", "hint"):
            own["error"][words] = str(own["error"][words]).replace(f"job {number}", "job N")
    assert left == generated


def test_without_json_a_submit_that_fails_prints_no_id(gateway, chroma) -> None:
    gateway.on("submit", RESET)
    ended = chroma("submit", "a fox")
    assert (ended.code, ended.out) == (9, "")


def test_an_unknown_outcome_is_sent_again_when_asked_for(gateway, chroma, submitted, ledger_rows) -> None:
    gateway.on("submit", RESET)
    ident = submitted("a fox", "--resubmit-unknown")
    assert gateway.posts() == 2
    assert [row["request_id"] for row in ledger_rows()] == [ident]


def test_a_server_error_with_the_gateways_own_words_is_repeated_twice(gateway, chroma, ledger_rows) -> None:
    gateway.on("submit", Reply.error(503), always=True)
    ended = chroma("submit", "a fox", "--json")
    assert (ended.code, ended.error["charged"], gateway.posts()) == (9, "no", 3)
    assert [row["status"] for row in ledger_rows()] == ["FAILED"]


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (400, "bad", 2),
        (401, "no", 3),
        (403, "no", 3),
        (404, "no model", 8),
        (406, "Insufficient credits", 4),
        (406, "Invalid content type", 2),
        (410, "gone", 8),
        (422, "no", 2),
        (429, "slow down", 5),
        (503, "busy", 9),
    ],
)
def test_a_refusal_settles_the_row_and_frees_its_place(
    gateway, chroma, submitted, status, words, code
) -> None:
    gateway.on("submit", Reply.error(status, words), always=True)
    refused = chroma("submit", "a fox", "-o", "one.png", "--json")
    assert (refused.code, refused.error["charged"]) == (code, "no")
    told = chroma("status", "1", "--json")  # it stays what it was refused for
    assert (told.code, told.one["status"], told.one["charged"]) == (code, "FAILED", "no")
    same = ("type", "message", "hint", "job", "charged", "exit_code")
    assert {name: told.error[name] for name in same} == {name: refused.error[name] for name in same}
    assert told.one["error"]["exit_code"] == code
    assert gateway.requests(method="GET") == []
    gateway.behave()
    assert chroma("fetch", "--pending").out == ""
    submitted("a fox", "-o", "one.png")


def test_the_hint_names_the_gateway_when_an_option_did(gateway, chroma, work, monkeypatch) -> None:
    monkeypatch.delenv("CHROMA_BASE_URL")
    ended = chroma("submit", "a fox", "--base-url", gateway.base_url, "-o", "fox.png")
    assert f"--base-url {gateway.base_url}" in ended.err
    assert "chroma fetch" in ended.err
    chroma("fetch", "1", "--base-url", gateway.base_url)
    assert is_whole(work / "fox.png")


def test_the_key_is_nowhere_in_the_ledger(gateway, chroma, state) -> None:
    gateway.on("submit", Reply.error(401, f"key {KEY} is bad"))
    assert KEY not in chroma("submit", "a fox", "-v").err
    assert KEY.encode() not in (state / "jobs.sqlite3").read_bytes()
