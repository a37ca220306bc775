"""The life of a job from outside, in many variants: what each command line of it ends with, in ``life.json``.

A case is a few command lines with what happens between them. Each is recorded with its exit code, the kind of
error, ``charged``, POSTs, the ledger as ``jobs --json`` shows it, and the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kit import BROKEN, RESET, Cut, Lost, Plan, Reply
from kit.matrix import Cell, Matrix

SIZE = ("--size", "768x768")
GENERATE = ("generate", "PROMPT", "-o", "one.png", *SIZE)
SUBMIT = ("submit", "PROMPT", "-o", "one.png", *SIZE)
FETCH = ("fetch", "--pending", "--wait")

CASES: dict[str, Callable[[Cell], None]] = {}


def case(work: Callable[[Cell], None]) -> Callable[[Cell], None]:
    CASES[work.__name__.replace("_", " ")] = work
    return work


def run(cell: Cell, *argv: str, **more: bytes) -> None:
    cell(*(cell.prompt if word == "PROMPT" else word for word in argv), **more)


def _plain(name: str, *options: str) -> None:
    def work(cell: Cell) -> None:
        cell.gateway.plan(seconds=53, prompt=cell.prompt)
        run(cell, "generate", "PROMPT", *SIZE, *options)

    CASES[name] = work


for _kind in ("png", "jpeg", "webp"):
    _plain(f"generate {_kind}", "-o", f"one.{_kind}")
for _name, _options in {
    "samples": ("-o", "one.png", "--samples", "3"),
    "base64": ("-o", "one.png", "--base64"),
    "sync": ("-o", "one.png", "--sync"),
    "sync, base64": ("-o", "one.png", "--sync", "--base64"),
    "sync, samples": ("-o", "one.png", "--sync", "--samples", "2"),
    "no ledger": ("-o", "one.png", "--no-ledger"),
    "no metadata": ("-o", "one.png", "--no-metadata"),
    "a new folder": ("-o", "a/b/", "--seed", "7"),
    "a template": ("-o", "{index}-{cfg}.{ext}", "--samples", "2"),
    "dry run": ("-o", "one.png", "--dry-run"),
    "eleven without a yes": ("-o", "one.png", "--samples", "11"),
    "eleven with a yes": ("-o", "one.png", "--samples", "11", "--yes"),
    "over a budget": ("-o", "one.png", "--budget", "0.01"),
    "within a budget": ("-o", "one.png", "--budget", "1"),
    "a wrong value": ("-o", "one.png", "--steps", "5"),
    "a wrong ending": ("-o", "one.gif"),
    "too short a time": ("-o", "one.png", "--timeout", "20"),
}.items():
    _plain(f"generate, {_name}", *_options)


@case
def an_existing_file(cell: Cell) -> None:
    (cell.work / "one.png").write_bytes(b"mine")
    run(cell, *GENERATE)
    run(cell, *GENERATE, "--overwrite")


@case
def a_file_that_appears_meanwhile(cell: Cell) -> None:
    def appear(request: object) -> Reply:
        (cell.work / "one.png").write_bytes(b"mine")
        return request.normal()  # type: ignore[attr-defined, no-any-return]

    cell.gateway.on("status", appear, prompt=cell.prompt)
    run(cell, *GENERATE)


@case
def in_steps(cell: Cell) -> None:
    cell.gateway.plan(seconds=53, prompt=cell.prompt)
    run(cell, *SUBMIT)
    run(cell, "status", "1")
    run(cell, "fetch", "--pending")
    cell.clock.skip(60)
    run(cell, "status", "1")
    run(cell, "fetch", "1")
    run(cell, "fetch", "1")
    run(cell, "fetch", "1", "--force")
    run(cell, "fetch", "--pending")


@case
def not_in_time_and_fetched(cell: Cell) -> None:
    cell.gateway.plan(seconds=1000, prompt=cell.prompt)
    run(cell, *GENERATE, "--timeout", "20")
    run(cell, *FETCH, "--timeout", "20")
    cell.clock.skip(1000)
    run(cell, *FETCH)


@case
def a_block_of_the_content(cell: Cell) -> None:
    cell.gateway.plan(seconds=10, error="blocked", prompt=cell.prompt)
    run(cell, *GENERATE)
    run(cell, "status", "1")
    run(cell, "fetch", "1")
    run(cell, "jobs", "--resubmit", "1")


@case
def failed_after_submit(cell: Cell) -> None:
    cell.gateway.plan(error="blocked", prompt=cell.prompt)
    run(cell, *SUBMIT)
    run(cell, *FETCH)


@case
def expired(cell: Cell) -> None:
    run(cell, *SUBMIT)
    cell.clock.skip(3700)
    run(cell, "status", "1")
    run(cell, *FETCH)
    run(cell, *FETCH)


@case
def gone_too_early(cell: Cell) -> None:
    run(cell, *SUBMIT)
    cell.gateway.forget(cell.prompt)
    cell.clock.skip(100)
    run(cell, *FETCH)
    run(cell, "jobs", "--forget", "1")
    run(cell, *FETCH)


@case
def gone_and_the_file_still_there(cell: Cell) -> None:
    cell.gateway.on("file", Reply.error(503), always=True, prompt=cell.prompt)
    run(cell, *GENERATE, "--timeout", "90")
    cell.gateway.behave()
    cell.clock.skip(3700)
    run(cell, *FETCH)


@case
def a_lost_answer(cell: Cell) -> None:
    cell.gateway.on("submit", Lost(RESET), prompt=cell.prompt)
    run(cell, *GENERATE, "--seed", "7")
    run(cell, *FETCH)
    run(cell, *GENERATE, "--seed", "7")
    run(cell, *GENERATE, "--seed", "7", "--resubmit-unknown")


@case
def a_lost_answer_sent_again_by_jobs(cell: Cell) -> None:
    cell.gateway.on("submit", Lost(RESET), prompt=cell.prompt)
    run(cell, *GENERATE)
    run(cell, "jobs", "--resubmit", "1")
    run(cell, *FETCH)


@case
def a_lost_answer_forgotten(cell: Cell) -> None:
    cell.gateway.on("submit", Lost(RESET), prompt=cell.prompt)
    run(cell, *GENERATE)
    run(cell, "jobs", "--forget", "1")
    run(cell, *GENERATE)


@case
def a_lost_answer_allowed_to_be_sent_again(cell: Cell) -> None:
    cell.gateway.on("submit", Lost(RESET), prompt=cell.prompt)
    run(cell, *GENERATE, "--resubmit-unknown")


@case
def a_lost_blocking_answer(cell: Cell) -> None:
    cell.gateway.on("sync", Lost(RESET), prompt=cell.prompt)
    run(cell, *GENERATE, "--sync")
    run(cell, *FETCH)


@case
def the_same_request_twice(cell: Cell) -> None:
    run(cell, *GENERATE, "--seed", "7")
    run(cell, *GENERATE, "--seed", "7")
    run(cell, "generate", "PROMPT", "-o", "two.png", *SIZE, "--seed", "7")


@case
def the_same_request_in_flight(cell: Cell) -> None:
    run(cell, *SUBMIT, "--seed", "7")
    run(cell, "generate", "PROMPT", "-o", "two.png", *SIZE, "--seed", "7")
    run(cell, *FETCH)


@case
def a_place_promised_to_another(cell: Cell) -> None:
    run(cell, *SUBMIT)
    run(cell, "generate", "another fox", "-o", "one.png", *SIZE)
    run(cell, *FETCH)


@case
def a_saved_picture_removed(cell: Cell) -> None:
    run(cell, *GENERATE)
    (cell.work / "one.png").unlink()
    run(cell, "fetch", "1")


@case
def a_saved_picture_changed(cell: Cell) -> None:
    run(cell, *GENERATE)
    (cell.work / "one.png").write_bytes(b"mine")
    run(cell, "fetch", "1")
    run(cell, "fetch", "1", "--force", "-o", "two.png")


@case
def one_of_three_is_broken(cell: Cell) -> None:
    def broken(request: object) -> Reply:
        reply = request.normal()  # type: ignore[attr-defined]
        return Reply(200, [], BROKEN["half"](reply.body)) if "-1.png" in request.path else reply  # type: ignore[attr-defined, no-any-return]

    cell.gateway.on("file", broken, always=True, prompt=cell.prompt)
    run(cell, "generate", "PROMPT", "-o", "one.png", *SIZE, "--samples", "3")
    cell.gateway.behave()
    run(cell, *FETCH)


@case
def a_download_cut_once(cell: Cell) -> None:
    cell.gateway.on("file", Cut(100), prompt=cell.prompt)
    run(cell, *GENERATE)


@case
def a_cost_that_is_not_told(cell: Cell) -> None:
    cell.gateway.plan(price=None, prompt=cell.prompt)
    run(cell, *GENERATE)


@case
def a_price_four_times_as_high(cell: Cell) -> None:
    cell.gateway.plan(price=0.22, prompt=cell.prompt)
    run(cell, *GENERATE)
    run(cell, "generate", "PROMPT", "-o", "two.png", *SIZE, "--budget", "0.2")


@case
def not_enough_credits(cell: Cell) -> None:
    cell.gateway.on("submit", Reply.error(406, "Insufficient credits: 0.01, needed 0.055"))
    run(cell, *GENERATE)
    run(cell, "credits", "--min", "5000")


@case
def a_key_refused_while_waiting(cell: Cell) -> None:
    cell.gateway.on("status", Reply.error(401, "Unauthorized. API key is invalid"), always=True)
    run(cell, *GENERATE)
    cell.gateway.behave()
    run(cell, *FETCH)


@case
def server_trouble_on_a_submit(cell: Cell) -> None:
    cell.gateway.on("submit", Reply.error(500), Reply.error(503))
    run(cell, *GENERATE)


@case
def several_of_which_one_fails(cell: Cell) -> None:
    cell.gateway.plan(Plan(), Plan(error="blocked"), Plan(), prompt=cell.prompt)
    for name in ("one.png", "two.png", "three.png"):
        run(cell, "submit", "PROMPT", "-o", name, *SIZE)
    run(cell, "status", "1", "2", "3")
    run(cell, *FETCH)


@case
def a_batch_with_a_lost_answer(cell: Cell) -> None:
    rows = [
        f'{{"prompt": "{cell.prompt} {name}", "output": "{name}.png", "size": "768x768"}}' for name in "ab"
    ]
    (cell.work / "list.jsonl").write_text("\n".join(rows))
    cell.gateway.on("submit", Lost(RESET), prompt=f"{cell.prompt} a")
    run(cell, "batch", "list.jsonl", "--jobs", "1")
    run(cell, "batch", "list.jsonl", "--jobs", "1")
    run(cell, "batch", "list.jsonl", "--jobs", "1", "--resubmit-unknown")
    run(cell, "batch", "list.jsonl", "--check")


@case
def a_batch_with_a_picture_that_was_changed(cell: Cell) -> None:
    row = f'{{"prompt": "{cell.prompt}", "output": "a.png", "size": "768x768"}}'
    (cell.work / "list.jsonl").write_text(row)
    run(cell, "batch", "list.jsonl")
    (cell.work / "a.png").write_bytes(b"mine")
    run(cell, "batch", "list.jsonl", "--deep")
    (cell.work / "a.png").unlink()
    run(cell, "batch", "list.jsonl")


@case
def an_id_that_nobody_knows(cell: Cell) -> None:
    run(cell, "status", "nobody-knows")
    run(cell, "fetch", "nobody-knows")
    run(cell, "fetch", "77")


@case
def a_prompt_from_stdin(cell: Cell) -> None:
    run(cell, "generate", "-", "-o", "one.png", *SIZE, "--json", stdin=b"\xef\xbb\xbfa fox\r\n")


def test_the_life_of_a_job(matrix: Matrix) -> None:
    for name, work in CASES.items():
        with matrix.cell(name) as cell:
            work(cell)
    matrix.compare(Path(__file__).with_name("life.json"))
