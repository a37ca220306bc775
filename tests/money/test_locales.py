"""A locale that cannot write a name: what is paid comes home, and nothing is bought for such a name."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Ended, Gateway, Programs, is_whole

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")

UTF_8 = {"LC_ALL": "C.UTF-8"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
Run = Callable[..., Ended]


@pytest.fixture
def run(gateway: Gateway, process: Programs, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("jobs")`` in a locale of ASCII; ``run("jobs", env=UTF_8)``."""
    for name in ("LANG", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv: str, env: dict[str, str] = ASCII, stdin: bytes = b"") -> Ended:
        ended = process(*argv, env=env, stdin=stdin)
        assert "bug in chroma" not in ended.err, ended.said
        return ended

    return call


def rescued(state: Path) -> list[Path]:
    return sorted((state / "rescued").iterdir())


@pytest.mark.parametrize("output", ["猫.png", "猫/fox.png", "caf\xe9/", "{prompt}.png"])
def test_one_name_keeps_no_other_picture_from_coming_home(
    run: Run, gateway: Gateway, work: Path, state: Path, output: str
) -> None:
    for prompt, place in (("a cat 猫", output), ("one", "1.png"), ("two", "2.png")):
        assert run("submit", prompt, "-o", place, env=UTF_8).code == 0
    ended = run("fetch", "--pending", "--wait")
    assert ended.code == 11, ended.said
    assert set(ended.paths) == {work / "1.png", work / "2.png"}
    [kept] = rescued(state)
    assert is_whole(kept)
    assert gateway.whose(kept).prompt == "a cat 猫"
    assert str(kept) in ended.err
    again = run("fetch", "--pending", "--wait", env=UTF_8)
    assert again.code == 0, again.said
    assert [gateway.whose(path).prompt for path in again.paths] == ["a cat 猫"]
    assert (gateway.posts(), gateway.bills()) == (3, 3)


def test_a_picture_is_rescued_once_however_often_it_is_fetched(run: Run, state: Path) -> None:
    assert run("submit", "a cat", "-o", "猫.png", env=UTF_8).code == 0
    for _ in range(3):
        ended = run("fetch", "--pending", "--wait")
        assert ended.code == 10, ended.said
        assert str(rescued(state)[0]) in ended.err
    assert len(rescued(state)) == 1


def test_a_batch_looks_for_what_lies_under_such_a_name(run: Run, gateway: Gateway, work: Path) -> None:
    assert run("submit", "a cat", "-o", "猫.png", "--seed", "7", env=UTF_8).code == 0
    rows = [{"prompt": "a cat", "seed": 7, "output": "a.png"}, {"prompt": "b", "output": "b.png"}]
    (work / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ended = run("batch", "list.jsonl")
    assert ended.code == 0, ended.said
    assert gateway.posts() == 2
    assert is_whole(work / "a.png")


def test_one_such_job_is_exit_10(run: Run, gateway: Gateway, state: Path) -> None:
    assert run("submit", "a cat", "-o", "猫.png", env=UTF_8).code == 0
    ended = run("fetch", "1", "--wait", "--json")
    assert (ended.code, ended.error["type"], ended.error["charged"]) == (10, "output", "yes")
    assert "LC_ALL" in ended.error["message"]
    assert str(rescued(state)[0]) in ended.error["message"]


def test_nothing_is_bought_for_such_a_name(run: Run, gateway: Gateway, work: Path) -> None:
    for argv in (["generate"], ["submit"], ["generate", "--sync"]):
        ended = run(*argv, "-", "-o", "{prompt}.png", stdin="a cat 猫".encode())
        assert ended.code == 10, ended.said
        assert "LC_ALL" in ended.err
    (work / "list.jsonl").write_text(json.dumps({"prompt": "a cat", "output": "猫.png"}))
    for more in ([], ["--check"], ["--dry-run"]):
        ended = run("batch", "list.jsonl", *more)
        assert ended.code == 2, ended.said
        assert "LC_ALL" in ended.err
    assert gateway.posts() == 0


def test_what_is_typed_is_utf_8_all_the_same(run: Run, gateway: Gateway, work: Path) -> None:
    ended = run("generate", "a cat 猫", "-n", "日本", "-o", "猫.png")
    assert ended.code == 0, ended.said
    assert gateway.requests("submit")[0].prompt == "a cat 猫"
    assert json.loads(gateway.requests("submit")[0].body)["negative_prompt"] == "日本"
    assert is_whole(work / "猫.png")
    assert ended.raw_out == os.fsencode(work / "猫.png") + b"\n"


def test_looking_works(run: Run, gateway: Gateway, work: Path) -> None:
    assert run("generate", "a cat 猫", "-o", "猫.png", env=UTF_8).code == 0
    assert run("submit", "日本", "-o", "é/", env=UTF_8).code == 0
    (work.parent / "config.toml").write_text('[presets."猫"]\nsteps = 20\n', encoding="utf-8")
    for argv in (["jobs"], ["jobs", "--json"], ["presets"], ["config"], ["--help"], ["generate", "--help"]):
        assert run(*argv).code == 0
    for argv in (["inspect", "猫.png"], ["inspect", ".", "--json"], ["sheet", "."], ["gallery", "."]):
        ended = run(*argv)
        assert ended.code == 0, ended.said
    assert run("inspect", "日本.png").code == 8
    assert run("generate", "x", "--sampler", "日本", "--steps", "0").code == 2


#: The system calls of a file system that takes names of ASCII alone, as some network and USB disks do.
PICKY = """
import errno, os, sys
def picky(call, at):
    def checked(*args, **more):
        if not os.fsencode(args[at]).isascii():
            raise OSError(errno.{name}, os.strerror(errno.{name}))
        return call(*args, **more)
    return checked
os.link, os.rename, os.replace = picky(os.link, 1), picky(os.rename, 1), picky(os.replace, 1)
from chroma_cli.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["EILSEQ", "EINVAL"])
def test_a_disk_that_refuses_the_name(gateway: Gateway, process: Programs, state: Path, name: str) -> None:
    assert hasattr(errno, name)
    command = [sys.executable, "-c", PICKY.format(name=name)]
    ended = process.start("generate", "a fox", "-o", "füchsin.png", command=command, env=UTF_8).end()
    assert ended.code == 10, ended.said
    [kept] = rescued(state)
    assert (kept.name, is_whole(kept)) == ("f_chsin.png", True)
