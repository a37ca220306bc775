"""A batch whose submits something else than the gateway answers: a captive portal, a firewall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit import PASS, Reply

PAGE = "<!DOCTYPE html><html><head><title>Hotel \u202eWiFi\n::error::Login</title></head></html>".encode()


def page(status: int) -> Reply:
    return Reply(status, [("Content-Type", "text/html; charset=utf-8")], PAGE)


def manifest(path: Path, count: int) -> Path:
    rows = [json.dumps({"prompt": f"p{n}", "output": f"p{n}.png"}) for n in range(count)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("status", [200, 511])
def test_a_portal_is_asked_three_times_not_for_every_row(gateway, chroma, work, status):
    gateway.on("submit", page(status), always=True)
    art = manifest(work / "art.jsonl", 9)
    ended = chroma("batch", art, "--jobs", "1", "--json", "--summary", "page.md")
    assert (ended.code, ended.error["charged"]) == (9, "unknown")
    assert gateway.posts() == 3
    assert "Hotel WiFi ::error::Login" in ended.error["message"]
    assert "6 of 9 images were not begun" in ended.error["message"]
    assert {row["status"] for row in ended.json} == {"UNKNOWN"}
    summary = (work / "page.md").read_text()
    assert "3 unknown, 6 not started; $0.00 spent, $0.165 unknown" in summary.replace("\\", "").replace(
        "&#36;", "$"
    )
    gateway.behave()
    assert chroma("batch", art, "--resubmit-unknown").code == 0
    assert gateway.bills() == 9


def test_pages_between_answers_of_the_gateway_are_no_reason_to_stop(gateway, chroma, work):
    gateway.on("submit", page(200), page(200), PASS, page(200), page(200))
    ended = chroma("batch", manifest(work / "art.jsonl", 8), "--jobs", "1", "--json")
    assert ended.code == 11
    assert gateway.posts() == 8
    assert len(list(work.glob("*.png"))) == 4


def test_what_is_in_flight_comes_home_when_the_portal_opens(gateway, chroma, work):
    """With the network lost in the middle of a run."""
    gateway.on("submit", PASS, PASS, page(200), always=True)
    ended = chroma("batch", manifest(work / "art.jsonl", 20), "--jobs", "2", "--json")
    assert ended.code == 9
    assert len(list(work.glob("*.png"))) == 2
    assert gateway.posts() <= 2 + 3 + 1


def test_a_firewall_that_refuses_with_pages_ends_the_run_with_nothing_unknown(gateway, chroma, work):
    gateway.on("submit", page(400), always=True)
    ended = chroma("batch", manifest(work / "art.jsonl", 9), "--jobs", "1", "--json")
    assert (ended.code, ended.error["charged"]) == (9, "no")
    assert gateway.posts() == 3


@pytest.mark.slow  # waits in real time
def test_the_deadline_is_told_once_for_each_job(gateway, chroma, work):
    gateway.on("status", Reply(302, [("Location", "http://login.example/")], b""), always=True)
    ended = chroma("batch", manifest(work / "art.jsonl", 3), "--timeout", "90")
    assert ended.code == 11, ended.said
    told = [line for line in ended.err.splitlines() if "until the deadline" in line]
    assert len(told) == 3
    assert all(line.count("until the deadline") == 1 for line in told), ended.said
