"""Users without a home folder, or with one of no use: a container's uid, a relative HOME, a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import Ended, Gateway, Programs, is_whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows its folders otherwise")

#: Runs chroma for a user whose entry in the passwd file names this folder, or who has none.
AS_USER = """
import pwd, sys
real = pwd.getpwuid
def entry_of(uid):
    if not sys.argv[1]:
        raise KeyError(uid)
    return pwd.struct_passwd((*real(uid)[:5], sys.argv[1], "/bin/sh"))
pwd.getpwuid = entry_of
from chroma_cli.cli.main import main
sys.exit(main(sys.argv[2:]))
"""
Run = Callable[..., Ended]


@pytest.fixture
def run(gateway: Gateway, process: Programs, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("jobs", home="/home/me", HOME="")``: ``home`` is what the passwd file has."""
    for name in ("HOME", "CHROMA_STATE_DIR", "CHROMA_CONFIG", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv: str, home: str | Path = "", stdin: bytes = b"", **env: str) -> Ended:
        command = [sys.executable, "-c", AS_USER, str(home)]
        return process.start(*argv, command=command, stdin=stdin, env=env).end()

    return call


def test_without_a_home_one_warning_and_the_picture(run: Run, work: Path) -> None:
    ended = run("generate", "a fox", "-o", "fox.png")
    assert ended.code == 0, ended.said
    assert is_whole(work / "fox.png")
    [warning] = ended.warnings
    assert "CHROMA_STATE_DIR" in warning and "CHROMA_CONFIG" in warning
    assert [path.name for path in work.iterdir()] == ["fox.png"]


@pytest.mark.parametrize(
    "argv", [("jobs",), ("fetch", "--pending"), ("login", "--stdin"), ("batch", "list.jsonl"), ("logout",)]
)
def test_without_a_home_what_needs_one_says_which_variables_to_set(
    run: Run, gateway: Gateway, work: Path, argv: tuple[str, ...]
) -> None:
    (work / "list.jsonl").write_text('{"prompt": "a fox", "output": "fox.png"}')
    ended = run(*argv, "--json", stdin=b"SG_0123456789abcdef")
    assert (ended.code, ended.error["type"]) == (2, "no_home"), ended.said
    assert "CHROMA_STATE_DIR" in ended.error["hint"] and "CHROMA_CONFIG" in ended.error["hint"]
    assert gateway.posts() == 0
    assert [path.name for path in work.iterdir()] == ["list.jsonl"]


@pytest.mark.parametrize(
    "argv",
    [("config",), ("presets",), ("credits",), ("generate", "--help"), ("submit", "a fox", "--sandbox")],
)
def test_without_a_home_the_rest_works(run: Run, work: Path, argv: tuple[str, ...]) -> None:
    ended = run(*argv)
    assert ended.code == 0, ended.said
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("text", ["", "here", "./here", "~"])
def test_a_home_that_is_no_absolute_path_counts_as_unset(
    run: Run, work: Path, tmp_path: Path, text: str
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "chroma").mkdir(parents=True)
    (home / ".config" / "chroma" / "config.toml").write_text("[defaults]\nsteps = 11\n")
    for env in ({"HOME": text}, {"HOME": str(home), "XDG_STATE_HOME": text, "XDG_CONFIG_HOME": text}):
        ended = run("generate", "a fox", "--json", home=home, **env)
        assert ended.code == 0, ended.said
        assert ended.one["request"]["steps"] == 11
        assert {path.suffix for path in work.iterdir()} == {".png"}
    assert (home / ".local" / "state" / "chroma" / "jobs.sqlite3").exists()


def test_a_home_that_is_a_file(run: Run, work: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()
    ended = run("generate", "a fox", "-o", "fox.png", HOME=str(home))
    assert ended.code == 0, ended.said
    assert len(ended.warnings) == 1
    assert is_whole(work / "fox.png")
    assert run("config", HOME=str(home)).code == 0


def test_a_config_file_that_was_named_must_be_readable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run("generate", "a fox", CHROMA_CONFIG=str(tmp_path / "file" / "config.toml"))
    assert (ended.code, ended.out) == (2, ""), ended.said


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("CHROMA_CONFIG", ("generate", "a fox")),
        ("CHROMA_STATE_DIR", ("generate", "a fox")),
        ("CHROMA_STATE_DIR", ("submit", "a fox")),
        ("CHROMA_STATE_DIR", ("fetch", "--pending")),
        ("CHROMA_STATE_DIR", ("batch", "-")),
    ],
)
def test_no_folder_is_called_tilde(
    run: Run, gateway: Gateway, work: Path, name: str, argv: tuple[str, ...]
) -> None:
    row = b'{"prompt": "a fox", "output": "fox.png"}'
    ended = run(*argv, "--json", home=work, stdin=row, **{name: "~/chroma"})
    assert (ended.code, ended.error["type"]) == (2, "usage"), ended.said
    assert name in ended.error["message"]
    assert not (work / "~").exists()
    assert gateway.posts() == 0
