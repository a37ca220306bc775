"""``chroma status``: how jobs are, as lines, JSON and exit codes."""

from __future__ import annotations

import threading

import pytest
from kit import PASS, PATIENCE, Cut, Gateway, Reply

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def says(gateway):
    """Make the status route answer so, for all jobs or those of a prompt."""

    def say(state: str, prompt: str | None = None, code: int = 200, **more: object) -> None:
        answer = Reply.json({"status": state, "metrics": {}, **more}, code)
        gateway.on("status", answer, prompt=prompt, always=True)

    return say


def asked(gateway) -> int:
    return len(gateway.requests(path="/v2/requests/*"))


@pytest.mark.parametrize(
    ("state", "shown", "code"),
    [
        ("QUEUED", "QUEUED", 7),
        ("PROCESSING", "PROCESSING", 7),
        ("WARMING_UP", "PROCESSING", 7),
        ("COMPLETED", "COMPLETED", 0),
    ],
)
def test_one_line_with_id_state_and_detail(chroma, submitted, says, state, shown, code) -> None:
    ident = submitted()
    says(state)
    ended = chroma("status", ident)
    [line] = ended.lines
    assert ended.code == code
    assert line.startswith(f"{ident}  {shown}  ")
    assert line.endswith("min left")
    assert chroma("status", "1", "--json").one["status"] == shown


@pytest.mark.parametrize("http", [200, 422, 500])
@pytest.mark.parametrize("word", ["FAILED", "failed"])
def test_a_failed_job_is_6_with_the_servers_words(gateway, chroma, submitted, says, http, word) -> None:
    ident = submitted()
    says(word, code=http, error="content blocked by RAI")
    ended = chroma("status", ident, "--json")
    assert (ended.code, ended.one["status"], ended.one["charged"]) == (6, "FAILED", "no")
    assert "content blocked by RAI" in ended.one["error"]["message"]
    assert ended.error["charged"] == "no"
    count = asked(gateway)  # settled: nothing is asked any more, and the words stay
    again = chroma("status", ident)
    assert (again.code, asked(gateway)) == (6, count)
    assert "content blocked by RAI" in again.out


def test_the_detail_word_of_the_sdk_is_read_too(gateway, chroma, submitted) -> None:
    ident = submitted()
    gateway.on("status", Reply.json({"detail": "a bad sampler"}, 422), always=True)
    ended = chroma("status", ident)
    assert ended.code == 6
    assert "a bad sampler" in ended.out


def test_an_unknown_id_is_8_and_is_not_put_into_the_ledger(chroma, ledger_rows) -> None:
    ended = chroma("status", "never-seen", "--json")
    job = ended.one
    assert (job["request_id"], job["status"], job["job"]) == ("never-seen", "UNKNOWN", None)
    assert (ended.code, ended.error["exit_code"]) == (8, 8)
    assert ledger_rows() == []


def test_an_id_that_this_ledger_never_saw_is_asked_for(chroma, submitted, state) -> None:
    ident = submitted()
    (state / "jobs.sqlite3").unlink()
    ended = chroma("status", ident)
    assert ended.code == 0
    assert ended.out.startswith(f"{ident}  COMPLETED")


def test_a_404_is_final_after_the_hour_only(gateway, chroma, submitted, clock, ledger_rows) -> None:
    ident = submitted()
    gateway.forget()
    clock.skip(3000)
    young = chroma("status", ident, "--json")
    assert (young.code, young.error["type"]) == (8, "not_found")
    assert "another key" in young.error["message"]
    assert [row["status"] for row in ledger_rows()] == ["QUEUED"]
    clock.skip(700)
    old = chroma("status", ident, "--json")
    assert (old.code, old.error["type"]) == (8, "expired")
    assert (old.one["status"], old.error["charged"]) == ("EXPIRED", "unknown")
    assert "If it completed, it was charged" in old.error["message"]
    count = asked(gateway)
    assert (chroma("status", ident).code, asked(gateway)) == (8, count)


def test_addresses_that_are_recorded_outlive_the_record(
    gateway, chroma, submitted, clock, ledger_rows
) -> None:
    """The file stays for days: a look at the status must not make fetch give up."""
    gateway.on("file", Reply.error(404), always=True)
    ident = submitted()
    assert chroma("fetch", ident).code == 8
    gateway.forget()
    clock.skip(4000)
    ended = chroma("status", ident)
    assert (ended.code, ended.lines[0].split()[1]) == (0, "COMPLETED")
    assert [row["status"] for row in ledger_rows()] == ["COMPLETED"]


def test_a_saved_job_shows_its_files_and_asks_nobody(gateway, chroma, work) -> None:
    chroma("generate", "a fox", "-o", "one.png")
    count = asked(gateway)
    ended = chroma("status", "1")
    assert (ended.code, asked(gateway)) == (0, count)
    assert str(work / "one.png") in ended.out


def test_a_job_of_another_gateway_is_refused_with_a_hint(gateway, chroma, submitted) -> None:
    with Gateway() as other:
        submitted("a fox", "--base-url", other.base_url)
        ended = chroma("status", "1", "--json")
        assert ended.code == 2
        assert f"--base-url {other.base_url}" in ended.error["hint"]
    assert gateway.requests() == []


@pytest.mark.parametrize("ident", ["", "a b", "../etc", "x" * 129, "a\nb", "ä", None])
def test_what_cannot_be_an_id_is_wrong_usage(gateway, chroma, ident) -> None:
    assert chroma("status", *([] if ident is None else [ident]), "--json").code == 2
    assert gateway.requests() == []


def test_several_have_one_code(chroma, submitted, says) -> None:
    ids = [submitted(prompt) for prompt in ("one", "two", "three")]
    ended = chroma("status", *ids, ids[0], "--json")
    assert ended.code == 0
    assert sorted(job["request_id"] for job in ended.json) == sorted(ids)  # each once
    says("PROCESSING", "two")
    ended = chroma("status", *ids, "--json")
    assert (ended.code, ended.error["exit_code"], len(ended.json)) == (7, 7, 3)
    says("FAILED", "three", error="no")
    ended = chroma("status", *ids)
    assert ended.code == 11
    assert {line.split()[1] for line in ended.lines} == {"COMPLETED", "PROCESSING", "FAILED"}
    assert chroma("status", ids[0], "stranger", "--json").error["charged"] == "unknown"


def test_several_are_asked_at_once(gateway, chroma, submitted) -> None:
    """Each answer waits until all were asked."""
    ids = [submitted(prompt) for prompt in ("one", "two", "three")]
    together = threading.Barrier(3, timeout=PATIENCE)

    def meet(request):
        together.wait()
        return PASS

    gateway.on("status", meet, always=True)
    assert chroma("status", *ids).code == 0
    assert not together.broken


def test_trouble_on_the_way_is_repeated_and_changes_nothing(gateway, chroma, submitted, ledger_rows) -> None:
    ident = submitted()
    gateway.on("status", Reply.page(502), always=True)
    assert chroma("status", ident, "--json").code == 9
    assert [row["status"] for row in ledger_rows()] == ["QUEUED"]
    assert asked(gateway) > 1
    gateway.on("status", Reply(500, body=b"no"), Cut(8), Reply.json({"status": "PROCESSING"}))
    assert chroma("status", ident).code == 7


def test_it_works_without_a_ledger(chroma, submitted) -> None:
    ended = chroma("status", submitted(), "--no-ledger", "--json")
    assert (ended.code, ended.one["job"]) == (0, None)


def test_server_words_cannot_play_with_the_terminal(chroma, submitted, says) -> None:
    ident = submitted()
    says("FAILED", error="bad\x1b[2J\nsecond [red]line[/red]")
    ended = chroma("status", ident)
    assert "\x1b" not in ended.out + ended.err
    assert len(ended.lines) == 1
    assert "[red]line[/red]" in ended.out


def test_several_refused_submits_are_11(gateway, chroma) -> None:
    gateway.on("submit", Reply.error(401), always=True)
    for prompt in ("a fox", "a boat"):
        chroma("submit", prompt)
    assert chroma("status", "1", "2").code == 11


def test_a_killed_submit_is_told_once_and_says_how_to_settle_it(chroma, submitted, killed_submit) -> None:
    ident = submitted("a boat")
    killed_submit("a fox")
    other = chroma("status", ident)
    assert other.code == 0
    [warning] = other.warnings
    assert "Job 2 was being submitted when its program ended" in warning
    ended = chroma("status", "2")
    assert (ended.code, ended.warnings) == (9, [])
    assert ended.err.count("chroma jobs --forget 2") == 1
    ended = chroma("status", "2", "--json")
    assert (ended.error["charged"], ended.one["status"]) == ("unknown", "UNKNOWN")
    chroma("jobs", "--forget", "2")
    ended = chroma("status", "2", "--json")
    assert (ended.code, ended.error["charged"]) == (8, "unknown")
    assert "forgotten" in ended.error["message"]
