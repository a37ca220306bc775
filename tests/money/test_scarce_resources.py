"""Too few open files, threads or memory, or no working folder: less is done at a time, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from kit import Ended, is_whole

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of a POSIX system")
IMAGES = 12


@pytest.fixture
def art(work) -> Path:
    rows = [json.dumps({"prompt": f"p{n}", "output": f"p{n}.png", "size": "768x768"}) for n in range(IMAGES)]
    path = work / "art.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def under(process, limit: str, *argv: str | Path) -> Ended:
    """Run with a limit that a shell sets."""
    command = ["/bin/sh", "-c", f'{limit} && exec "$@"', "sh", *process.command()]
    ended: Ended = process.start(*argv, command=command).end()
    return ended


def all_or_nothing(gateway, ended: Ended, work: Path) -> None:
    """Everything is made with a warning, or nothing was sent."""
    pictures = [path for path in work.glob("*.png") if is_whole(path)]
    if ended.code == 0:
        assert len(pictures) == IMAGES
        assert [words for words in ended.warnings if "fewer jobs" in words], ended.said
    else:
        assert ended.code == 1, ended.said
        assert (ended.error["type"], ended.error["charged"]) == ("out_of_resources", "no"), ended.said
        assert gateway.posts() == 0
    assert gateway.posts() == len(pictures)


@pytest.mark.parametrize("files", [9, 12, 16, 20, 24, 40])
def test_few_open_files(gateway, process, work, art, ledger_rows, files):
    ended = under(process, f"ulimit -n {files}", "batch", art, "--jobs", "50", "--json")
    all_or_nothing(gateway, ended, work)
    assert {row["status"] for row in ledger_rows()} <= {"COMPLETED"}


def test_forty_open_files_are_enough(gateway, process, work, art):
    assert under(process, "ulimit -n 40", "batch", art, "--jobs", "50").code == 0


@pytest.mark.parametrize("megabytes", [150, 300, 500])
def test_little_memory(gateway, process, work, art, ledger_rows, megabytes):
    ended = under(process, f"ulimit -v {megabytes * 1000}", "batch", art, "--jobs", "50", "--json")
    all_or_nothing(gateway, ended, work)
    assert {row["status"] for row in ledger_rows()} <= {"COMPLETED"}


@pytest.mark.parametrize("limit", ["-n 6", "-n 7", "-n 9", "-n 12", "-v 60000", "-v 100000", "-v 200000"])
@pytest.mark.parametrize("more", [[], ["--sync"], ["--samples", "3"]], ids=" ".join)
def test_one_job_is_sent_only_where_its_picture_can_be_saved(gateway, process, work, limit, more):
    ended = under(process, f"ulimit {limit}", "generate", "a fox", "--json", *more)
    if gateway.posts():
        assert ended.code == 0, ended.said
        assert [is_whole(path) for path in work.glob("*.png")] == [True] * (3 if "3" in more else 1)
    else:
        assert (ended.code, ended.error["type"], ended.error["charged"]) == (1, "out_of_resources", "no")


@pytest.mark.parametrize("limit", ["-n 12", "-n 16", "-v 150000", "-v 200000"])
def test_pictures_are_fetched_one_by_one_where_little_is_allowed(gateway, process, work, limit):
    for n in range(4):
        assert process("submit", f"fox {n}", "-o", f"{n}.png").code == 0
    ended = under(process, f"ulimit {limit}", "fetch", "--pending", "--wait")
    assert ended.code == 0, ended.said
    assert sorted(ended.paths) == [work / f"{n}.png" for n in range(4)]


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="wants another user's limit")
@pytest.mark.parametrize("threads", [2, 4, 6, 9])
def test_few_threads(gateway, process, work, state, art, threads, monkeypatch):
    monkeypatch.setenv("CHROMA_STATE_DIR", str(state))
    state.mkdir(mode=0o700)
    other = 100_000 + os.getpid()  # nobody else has processes as this user, nor another run of the tests
    os.chown(state, other, other)
    may = "+dac_override,+dac_read_search"
    command = ["setpriv", f"--reuid={other}", f"--regid={other}", "--clear-groups", "--inh-caps", may]
    command += ["--ambient-caps", may, "prlimit", f"--nproc={threads}", *process.command()]
    ended = process.start("batch", art, "--jobs", "50", "--json", command=command).end()
    all_or_nothing(gateway, ended, work)
    assert ended.code == (0 if threads > 5 else 1), ended.said


@pytest.mark.parametrize("argv", [["generate", "a fox"], ["submit", "a fox"], ["batch", "-"]], ids=" ".join)
def test_a_working_folder_that_was_removed(gateway, process, work, argv):
    (work / "gone").mkdir()
    command = ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *process.command()]
    started = process.start(*argv, "--json", command=command, cwd=work / "gone", stdin=b"a fox\n")
    ended = started.end()
    assert ended.code == 10, ended.said
    assert ended.error["charged"] == "no"
    assert "working folder" in ended.error["message"]
    assert gateway.posts() == 0
