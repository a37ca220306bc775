"""The one kit of the tests: a runner, a clock, a scripted gateway, pictures. Fixtures need no import.

    from kit import RESET, Lost, Reply, is_whole

    def test_a_lost_answer_is_never_sent_again(gateway, chroma, ledger_rows):
        gateway.on("submit", Lost(RESET))                # the job is taken, its answer is not heard
        ended = chroma("generate", "a fox", "-o", "fox.png", "--json")     # main([...]) in this process
        assert (ended.code, ended.error["charged"]) == (9, "unknown")
        assert gateway.posts("a fox") == 1 and gateway.bills("a fox") == 1
        assert [row["status"] for row in ledger_rows()] == ["UNKNOWN"]

    def test_a_killed_download_is_brought_home(gateway, process, work):
        with gateway.hold("file", "half") as hold:       # before, answer, half, after
            started = process.start("generate", "a fox", "-o", "fox.png")  # a real process
            hold.wait()                                  # it is there now
            started.kill()                               # or .stop(), .go_on(), .interrupt(), .end()
        ended = process("fetch", "--pending", "--wait")
        assert ended.paths == [work / "fox.png"] and is_whole(work / "fox.png")
        assert gateway.whose(work / "fox.png").prompt == "a fox"           # the colour tells the job

    def test_fifty_seconds_take_no_time(gateway, clock, chroma):
        gateway.plan(seconds=53, price=0.11)             # prompt="…" for one; error="…" fails it
        gateway.on("status", Reply.error(503), RESET, Reply.page(502), prompt="a fox", nth=2)
        assert chroma("generate", "a fox").code == 0     # clock.skip(3600) lets an hour pass

    def test_on_a_terminal(gateway, process):
        with process.terminal("generate", "a fox", "--samples", "11") as terminal:
            terminal.wait_for(r"11 pictures")
            terminal.say("\\x03")                         # Ctrl-C
            assert terminal.end().code == 130

Fixtures: ``gateway`` (see :mod:`kit.gateway`), ``clock``, ``chroma``, ``process``, ``ledger_rows``,
``submitted``, ``killed_submit``,
``work`` (the current folder), ``state``, ``config`` (writes the config file),
``listing`` (a manifest), ``made`` (one
picture), ``dry`` (a request that is not sent), ``recipe_of`` (a picture), ``exiftool``, ``guarded``
(``chroma`` that also checks that no key leaks and nothing is hurt: :mod:`kit.guard`). What can go wrong on
the wire is in :mod:`kit.wire`. The history of the account is at ``gateway.account_url``; ``Plan(seen=False)``
keeps a job out of it.
"""

from kit.clock import SkippingClock
from kit.gateway import Gateway, apart
from kit.pictures import (
    BROKEN,
    chunk,
    infotext,
    is_whole,
    noise,
    number_of,
    picture,
    pixels,
    png,
    png_with,
    properties,
    with_parameters,
    with_recipe,
    xmp_chunk,
)
from kit.running import ERROR_FIELDS, JOB_FIELDS, KEY, Ended, Programs, Started, Terminal, eventually
from kit.wire import (
    CLOSE,
    PASS,
    PATIENCE,
    RESET,
    Changed,
    Cut,
    Drip,
    Endless,
    Garbage,
    Hold,
    Informed,
    Lost,
    Reply,
    Request,
    Silence,
    action,
)
from kit.world import Job, Plan

__all__ = [
    "BROKEN",
    "CLOSE",
    "ERROR_FIELDS",
    "JOB_FIELDS",
    "KEY",
    "PASS",
    "PATIENCE",
    "RESET",
    "Changed",
    "Cut",
    "Drip",
    "Ended",
    "Endless",
    "Garbage",
    "Gateway",
    "Hold",
    "Informed",
    "Job",
    "Lost",
    "Plan",
    "Programs",
    "Reply",
    "Request",
    "Silence",
    "SkippingClock",
    "Started",
    "Terminal",
    "action",
    "apart",
    "chunk",
    "eventually",
    "infotext",
    "is_whole",
    "noise",
    "number_of",
    "picture",
    "pixels",
    "png",
    "png_with",
    "properties",
    "with_parameters",
    "with_recipe",
    "xmp_chunk",
]
