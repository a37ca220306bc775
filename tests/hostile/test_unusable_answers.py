"""Answers that are none: of another job, of a portal, garbage. The paid picture comes home when they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit import RESET, Changed, Cut, Informed, Reply, is_whole

FOX = ("generate", "a fox", "-o", "fox.png")
PORTAL = Reply(
    200,
    [("Content-Type", "text/html")],
    b"<!DOCTYPE html><html><title>Hotel\n&amp; \x1b[31mBar Wi-Fi</title><body>Sign in</body></html>",
)
#: What portals, firewalls and proxies answer in the gateway's place.
IN_THE_WAY: dict[str, Reply] = {
    "a portal's page": PORTAL,
    "a redirect to a portal": Reply.redirect("http://portal.test/sign-in"),
    "a redirect for good": Reply.redirect("https://elsewhere.test/", 301),
    "a redirect to nowhere": Reply(307),
    "network authentication required": Reply.page(511, "Sign in"),
    "a firewall's 403": Reply.page(403, "Blocked by policy"),
    "a portal's 401": Reply.page(401, "Sign in"),
    "a firewall's 404": Reply.page(404, "No such page"),
    "a firewall's 422": Reply.page(422, "Unprocessable"),
    "a proxy's challenge": Reply(407, [("Proxy-Authenticate", 'Basic realm="x"')], b"{}"),
}


def in_the_way(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, IN_THE_WAY.values(), ids=IN_THE_WAY.keys())


# --- pages and redirects in the gateway's place ------------------------------------------------------------


@in_the_way("answer")
@pytest.mark.parametrize("route", ["status", "result"])
def test_what_answers_in_the_gateways_place_is_waited_out(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path, route: str, answer: Reply
) -> None:
    gateway.on(route, *[answer] * 5)
    ended = chroma(*FOX, "--json")
    assert ended.code == 0, ended.said
    assert gateway.posts() == 1
    assert is_whole(work / "fox.png")
    assert len(gateway.requests(route)) > 5


@pytest.mark.parametrize("answer", [PORTAL, *list(IN_THE_WAY.values())[1:6]], ids=lambda one: str(one.status))
def test_a_page_in_place_of_the_picture_is_waited_out(
    gateway: Any, clock: Any, chroma: Any, work: Path, answer: Reply
) -> None:
    gateway.on("file", *[answer] * 8)
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")
    assert gateway.posts() == 1
    # with the key nobody is asked but the gateway
    assert all("x-api-key" not in one.headers for one in gateway.requests("file"))


@pytest.mark.slow  # waits in real time
def test_a_batch_waits_a_portal_out(gateway: Any, clock: Any, chroma: Any, work: Path) -> None:
    (work / "list.csv").write_text("output,prompt\n1.png,a fox\n2.png,an owl\n3.png,a hare\n")
    gateway.plan(seconds=20)
    gateway.on("status", *[Reply.redirect("http://portal.test/"), PORTAL] * 10)
    ended = chroma("batch", "list.csv", "--json")
    assert ended.code == 0, ended.said
    assert (gateway.posts(), gateway.bills()) == (3, 3)
    assert len(list(work.glob("*.png"))) == 3


@pytest.mark.parametrize("route", ["status", "result", "file"])
def test_at_the_deadline_the_pages_title_is_told(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path, route: str
) -> None:
    gateway.on(route, PORTAL, always=True)
    ended = chroma(*FOX, "--timeout", "200", "--json")
    assert (ended.code, ended.error["type"]) == (9, "bad_reply")
    assert "Hotel & Bar Wi-Fi" in ended.error["message"]
    assert "\x1b" not in ended.error["message"]
    assert ended.error["charged"] == ("unknown" if route == "status" else "yes")
    assert f"chroma fetch {gateway.jobs()[0].id}" in ended.error["hint"]
    [row] = ledger_rows()
    assert row["status"] == ("QUEUED" if route == "status" else "COMPLETED")
    gateway.behave()
    assert chroma("fetch", "--pending", "--wait").paths == [work / "fox.png"]
    assert gateway.posts() == 1


def test_a_batch_that_heard_nothing_but_a_portal_says_so(
    gateway: Any, clock: Any, chroma: Any, work: Path
) -> None:
    (work / "list.csv").write_text("output,prompt\n1.png,a fox\n")
    gateway.on("status", PORTAL, always=True)
    ended = chroma("batch", "list.csv", "--timeout", "2", "--json")
    assert ended.code == 9, ended.said
    assert "Hotel & Bar Wi-Fi" in ended.one["error"]["message"]


def test_a_deadline_after_a_recent_answer_is_not_finished_and_tells_the_page(
    gateway: Any, clock: Any, chroma: Any
) -> None:
    gateway.plan(seconds=1000)
    gateway.on("status", PORTAL, nth=2, always=True)
    ended = chroma(*FOX, "--timeout", "30", "--json")
    assert (ended.code, ended.error["type"]) == (7, "not_finished")
    assert "Hotel & Bar Wi-Fi" in ended.error["message"]


def test_what_the_gateway_itself_refuses_ends_at_once(gateway: Any, clock: Any, chroma: Any) -> None:
    gateway.on("status", Reply.error(403, "no permission for this model"))
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["type"]) == (3, "not_permitted")
    assert len(gateway.requests("status")) == 1


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("how", [(), ("--sync",)])
def test_a_submit_that_is_redirected_was_not_taken(
    gateway: Any, chroma: Any, ledger_rows: Any, status: int, how: tuple[str, ...]
) -> None:
    gateway.on("sync" if how else "submit", Reply.redirect(f"{gateway.base_url}/v2/chroma", status))
    ended = chroma(*FOX, *how, "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (2, "wrong_address", "no")
    assert gateway.posts() == 1
    assert [(row["status"], row["charged"]) for row in ledger_rows()] == [("FAILED", "no")]


# --- a result that cannot be read --------------------------------------------------------------------------

#: Name: the answer, and words of it that a person must see.
GARBAGE: dict[str, tuple[Reply | Cut, str]] = {
    "a list": (Reply.json(["moved", "elsewhere"]), "elsewhere"),
    "a text": (Reply(200, [("Content-Type", "text/plain")], b"please stand by"), "please stand by"),
    "a json text": (Reply.json("please stand by"), "please stand by"),
    "a number": (Reply.json(17), "17"),
    "null": (Reply.json(None), "empty"),
    "nothing": (Reply(200), "empty"),
    "an empty object": (Reply.json({}), "empty"),
    "cut json": (Reply(200, [], b'{"status": "COMPLETED", "output": "https://im'), '"output"'),
    "a cut body": (Cut(20), "not whole"),
    "a page": (PORTAL, "Hotel & Bar Wi-Fi"),
    "an unknown shape": (Reply.json({"job": {"note": "shelved"}}), "shelved"),
    "no picture": (Reply.json({"status": "COMPLETED", "message": "upload broke"}), "upload broke"),
    "an empty list": (Reply.json({"status": "completed", "output": [], "images": []}), "no picture"),
    "still processing": (Reply.json({"status": "PROCESSING"}), "PROCESSING"),
    "a lie about gzip": (Reply(200, [("Content-Encoding", "gzip")], b"please stand by"), "please stand by"),
}


@pytest.mark.parametrize(("answer", "words"), GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("command", ["generate", "batch"])
def test_a_result_that_cannot_be_read(
    gateway: Any,
    clock: Any,
    chroma: Any,
    ledger_rows: Any,
    work: Path,
    command: str,
    answer: Reply | Cut,
    words: str,
) -> None:
    (work / "list.toml").write_text('[[image]]\noutput = "fox.png"\nprompt = "a fox"\n')
    gateway.on("result", answer, always=True)
    argv = FOX if command == "generate" else ("batch", "list.toml")
    ended = chroma(*argv, "--json")
    error = ended.error if command == "generate" else ended.one["error"]
    assert (ended.code, error["charged"]) == (9, "yes"), ended.said
    assert words in error["message"]
    assert f"chroma fetch {gateway.jobs()[0].id}" in error["hint"]
    asked = [one.at for one in gateway.requests("result")]
    assert len(asked) > 2 and asked[-1] - asked[0] <= 61
    assert [row["status"] for row in ledger_rows()] == ["COMPLETED"]
    assert not list(work.glob("*.png"))

    gateway.behave()
    home = chroma("fetch", "--pending")
    assert home.paths == [work / "fox.png"], home.said
    assert (gateway.posts(), gateway.bills()) == (1, 1)


# --- an answer of another job ------------------------------------------------------------------------------


def of(request_id: str) -> Changed:
    return Changed(lambda answer: {**answer, "request_id": request_id})


@pytest.mark.parametrize("route", ["status", "result"])
@pytest.mark.parametrize("command", ["generate", "batch"])
def test_an_answer_of_another_job_is_asked_for_again(
    gateway: Any, clock: Any, chroma: Any, work: Path, route: str, command: str
) -> None:
    assert chroma("generate", "an owl", "-o", "owl.png").code == 0
    [owl] = gateway.jobs()
    (work / "list.toml").write_text('[[image]]\noutput = "fox.png"\nprompt = "a fox"\n')
    gateway.on(route, *[gateway.world.result(owl, gateway.base_url)] * 3, prompt="a fox")
    ended = chroma(*(FOX if command == "generate" else ("batch", "list.toml")))
    assert ended.code == 0, ended.said
    assert gateway.whose(work / "fox.png").prompt == "a fox"


@pytest.mark.parametrize("route", ["status", "result"])
def test_the_failure_of_another_job_is_not_ours(
    gateway: Any, clock: Any, chroma: Any, work: Path, route: str
) -> None:
    failure = {"request_id": "0000-another", "status": "FAILED", "error": "blocked"}
    gateway.on(route, Reply.json(failure, 422), Reply.json(failure))
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")


def test_nothing_but_another_jobs_answers(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path
) -> None:
    gateway.on("result", of("00000000-0000-4000-8000-000000000000"), always=True)
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (9, "yes")
    assert "another job" in ended.error["message"]
    assert [row["status"] for row in ledger_rows()] == ["COMPLETED"]
    assert not list(work.glob("*.png"))


@pytest.mark.parametrize("spelt", [lambda ident: ident.replace("-", ""), str.upper, lambda ident: ""])
def test_an_id_may_be_spelt_otherwise(gateway: Any, clock: Any, chroma: Any, work: Path, spelt: Any) -> None:
    for route in ("status", "result"):
        gateway.on(
            route, Changed(lambda answer: {**answer, "request_id": spelt(answer["request_id"])}), always=True
        )
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")


# --- what comes before the answer, and around it -----------------------------------------------------------


@pytest.mark.parametrize("status", [100, 102, 103, 199])
@pytest.mark.parametrize("how", [(), ("--sync",)])
def test_a_1xx_is_not_the_answer(
    gateway: Any, clock: Any, chroma: Any, ledger_rows: Any, work: Path, status: int, how: tuple[str, ...]
) -> None:
    gateway.on("*", Informed(3, status), always=True)
    ended = chroma(*FOX, *how)
    assert ended.code == 0, ended.said
    assert (gateway.posts(), gateway.bills()) == (1, 1)
    assert is_whole(work / "fox.png")


def test_a_connection_that_breaks_after_a_1xx_is_of_unknown_outcome(gateway: Any, chroma: Any) -> None:
    gateway.on("submit", Informed(1, 103, Reply.page(502)))
    ended = chroma(*FOX, "--json")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert gateway.posts() == 1


@pytest.mark.parametrize(
    "encoding", ["gzip", "x-gzip", "deflate", "br", "utf-8", "UTF-8", "none", "identity, gzip"]
)
def test_an_encoding_that_is_not_there_loses_no_job(
    gateway: Any, clock: Any, chroma: Any, work: Path, encoding: str
) -> None:
    """The bytes say what they are."""

    def mislabelled(request: Any) -> Reply:
        answer = request.normal()
        return Reply(answer.status, [*answer.headers, ("Content-Encoding", encoding)], answer.body)

    gateway.on("*", mislabelled, always=True)
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    assert (gateway.posts(), gateway.bills()) == (1, 1)
    assert is_whole(work / "fox.png")


@pytest.mark.parametrize("kind", ["text/html", "image/png", "application/octet-stream", ""])
@pytest.mark.parametrize("how", [(), ("--sync",)])
def test_a_byte_order_mark_and_a_wrong_type_lose_no_job(
    gateway: Any, clock: Any, chroma: Any, work: Path, kind: str, how: tuple[str, ...]
) -> None:
    def disguised(request: Any) -> Reply:
        answer = request.normal()
        body = answer.body if answer.body.startswith(b"\x89PNG") else b"\xef\xbb\xbf" + answer.body
        return Reply(answer.status, [("Content-Type", kind)], body)

    gateway.on("*", disguised, always=True)
    ended = chroma(*FOX, *how)
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")


@pytest.mark.parametrize("spelt", [str.lower, str.title, lambda word: f" {word}\n"])
def test_a_state_in_another_case(gateway: Any, clock: Any, chroma: Any, work: Path, spelt: Any) -> None:
    gateway.on("*", lambda request: respelt(request, spelt), always=True)
    ended = chroma(*FOX)
    assert ended.code == 0, ended.said
    gateway.plan(error="blocked", prompt="a hare")
    ended = chroma("generate", "a hare", "--json")
    assert (ended.code, ended.error["charged"]) == (6, "no")


def respelt(request: Any, spelt: Any) -> Any:
    if request.route == "file":
        return request.normal()
    return Changed(
        lambda answer: {**answer, "status": spelt(answer["status"])} if "status" in answer else answer
    )


def test_a_reset_between_pages(gateway: Any, clock: Any, chroma: Any, work: Path) -> None:
    gateway.on("status", PORTAL, RESET, Reply.redirect("/x"), Reply.error(502), PORTAL)
    assert chroma(*FOX).code == 0
    assert is_whole(work / "fox.png")
