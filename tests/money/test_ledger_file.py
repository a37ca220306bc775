"""The ledger as a file: whoever made it, whatever became of it, the picture comes home and nothing is lost.

``ledgers`` holds files of earlier versions, as SQL; NUMBER.sql is of that ``user_version``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import KEY, PASS, Gateway, is_whole
from kit.forked import Forks

BUDGET = "[budget]\nday = 50\n"
VERSIONS = sorted(Path(__file__).with_name("ledgers").glob("*.sql"))
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534


@pytest.fixture
def ledger(state: Path) -> Path:
    """The path of the ledger, in a folder that is there."""
    state.mkdir(mode=0o700)
    return state / "jobs.sqlite3"


@pytest.fixture
def generate(chroma: Any, clock: Any, work: Path) -> Any:
    """Make one picture, which must come whatever the ledger is like."""

    def run(*argv: str, code: int = 0) -> Any:
        ended = chroma("generate", "a fox", "-o", "fox.png", "--overwrite", "--json", *argv)
        assert ended.code == code, ended.said
        assert code or is_whole(work / "fox.png")
        return ended

    return run


def set_aside(ledger: Path) -> list[Path]:
    return sorted(
        path for path in ledger.parent.glob("jobs.sqlite3.damaged-*") if not path.name.endswith("-journal")
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- switched off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "variable"])
def test_without_a_ledger_nothing_is_written_and_nothing_is_said(
    gateway, generate, chroma, monkeypatch, tmp_path, how
) -> None:
    option = ["--no-ledger"] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("CHROMA_NO_LEDGER", "1")
    ended = generate(*option)
    assert (ended.one["job"], ended.one["request_id"], ended.err) == (None, gateway.jobs()[0].id, "")
    assert generate(*option, "--sync").one["job"] is None
    gateway.plan(seconds=1000)
    late = generate(*option, "--timeout", "5", code=7)
    assert (late.error["request_id"], late.error["job"]) == (gateway.jobs()[-1].id, None)
    assert f"chroma fetch {gateway.jobs()[-1].id}" in late.error["hint"]
    assert not list(tmp_path.rglob("*.sqlite3"))
    if how == "variable":
        assert (chroma("jobs", "--json").code, chroma("jobs", "--json").error["exit_code"]) == (1, 1)


# --- for the owner's eyes only ---------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_folder_and_file_are_ours_alone_whatever_the_umask(generate, state) -> None:
    before = os.umask(0)
    try:
        generate()
    finally:
        os.umask(before)
    assert (mode(state), mode(state / "jobs.sqlite3")) == (0o700, 0o600)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_mode_that_is_too_open_is_put_right(chroma, generate, state) -> None:
    generate()
    for wrong, words in [(0o644, []), (0o666, ["written by others"])]:
        (state / "jobs.sqlite3").chmod(wrong)
        told = chroma("jobs")
        assert [piece for piece in words if piece not in " ".join(told.warnings)] == []
        assert len(told.warnings) == len(words)
        assert (len(told.lines), mode(state / "jobs.sqlite3")) == (2, 0o600)


def test_a_link_is_followed(generate, ledger, tmp_path) -> None:
    real = tmp_path / "elsewhere" / "real.sqlite3"
    real.parent.mkdir()
    real.touch()
    ledger.symlink_to(real)
    for job in (1, 2):
        ended = generate()
        assert (ended.one["job"], ended.err) == (job, "")
    assert ledger.is_symlink()
    assert mode(real) == 0o600


# --- what is no ledger -----------------------------------------------------------------------------------


def _fifo(ledger: Path) -> None:
    os.mkfifo(ledger)


def _state_is_a_file(ledger: Path) -> None:
    ledger.parent.rmdir()
    ledger.parent.write_bytes(b"")


def _newer(ledger: Path) -> None:
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA user_version = 999")


UNUSABLE = {
    "a folder": Path.mkdir,
    "a fifo": _fifo,
    "a loop of links": lambda ledger: ledger.symlink_to(ledger.name),
    "a file for a folder": _state_is_a_file,
    "newer": _newer,
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_what_cannot_be_used_costs_one_warning_and_no_picture(
    gateway, chroma, generate, ledger, config, how
) -> None:
    UNUSABLE[how](ledger)
    before = ledger.read_bytes() if how == "newer" else b""
    [warning] = generate().warnings
    assert "will not know the job" in warning
    assert gateway.posts() == 1
    config(BUDGET)  # which cannot be kept without a ledger
    for command in ("generate", "submit"):
        ended = chroma(command, "a boat", "--json")
        assert (ended.code, ended.error["charged"]) == (4, "no")
        assert "budget" in ended.error["message"]
    assert gateway.posts() == 1
    assert not set_aside(ledger)
    if how == "newer":
        assert "newer" in warning
        assert "newer" in chroma("jobs").err
        assert ledger.read_bytes() == before


def test_a_budget_needs_the_ledger(gateway, chroma, config) -> None:
    config(BUDGET)
    for command in ("generate", "submit"):
        ended = chroma(command, "a fox", "--no-ledger", "--json")
        assert (ended.code, ended.error["charged"]) == (4, "no")
    assert gateway.requests() == []


def test_an_empty_file_is_a_new_ledger(generate, ledger) -> None:
    """So a program leaves it that was killed between making the file and its tables."""
    ledger.touch(0o600)
    assert (generate().err, set_aside(ledger)) == ("", [])


@pytest.mark.slow  # SQLite's own waiting is real
def test_a_busy_ledger_is_no_damage(gateway, chroma, generate, ledger, config) -> None:
    generate()
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        [warning] = generate().warnings
        assert "locked" in warning
        config(BUDGET)
        generate(code=4)
        other.execute("ROLLBACK")
    assert gateway.posts() == 2
    assert generate().err == ""
    assert set_aside(ledger) == []


# --- a file that is removed or replaced meanwhile --------------------------------------------------------


def test_a_ledger_that_vanishes_between_submit_and_save(gateway, generate, state) -> None:
    def vanish(_: Any) -> Any:
        shutil.rmtree(state)
        return PASS

    gateway.on("status", vanish)
    assert len(generate().warnings) == 1
    assert gateway.posts() == 1
    assert generate().err == ""


def test_a_number_does_not_hit_another_job_of_a_new_ledger(
    gateway, chroma, generate, ledger, tmp_path, monkeypatch, ledger_rows
) -> None:
    other = tmp_path / "other"
    with monkeypatch.context() as patched:
        patched.setenv("CHROMA_STATE_DIR", str(other))
        assert chroma("submit", "a boat", "-o", "boat.png").code == 0

    def replace(_: Any) -> Any:
        (other / "jobs.sqlite3").replace(ledger)
        return PASS

    gateway.on("status", replace, prompt="a fox")
    generate()
    rows = {row["request"]["prompt"]: row["status"] for row in ledger_rows()}
    assert rows["a boat"] == "QUEUED"
    assert gateway.posts() == 2


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"this is no database, but somebody's letter " * 200, b"\x00" * 9000])
def test_a_damaged_file_is_set_aside_told_once_and_never_deleted(
    gateway, generate, ledger, config, garbage
) -> None:
    config(BUDGET)
    for round_ in range(3):
        ledger.write_bytes(garbage + bytes([round_]))
        Path(f"{ledger}-journal").write_bytes(b"\0 its journal")  # not one to be played back
        refused = generate(code=4)  # what was spent is not known
        assert refused.error["charged"] == "no"
        asides = set_aside(ledger)
        assert [aside.read_bytes() for aside in asides] == [garbage + bytes([n]) for n in range(round_ + 1)]
        assert asides[-1].name in refused.err
        assert Path(f"{asides[-1]}-journal").read_bytes() == b"\0 its journal"
        assert generate().err == ""  # from now on it counts anew
    assert gateway.posts() == 3


def test_damage_that_shows_late_is_told_as_well(chroma, generate, submitted, ledger) -> None:
    """The head of the file is sound, so that opening it finds nothing."""
    for number in range(12):
        submitted(f"fox {number} " + "x" * 900, "-o", f"{number}.png")
    data = ledger.read_bytes()
    damaged = data[:8192] + os.urandom(len(data) - 8192)
    ledger.write_bytes(damaged)
    assert len([words for words in generate().warnings if "was damaged" in words]) == 1
    [aside] = set_aside(ledger)
    assert aside.read_bytes() == damaged


@pytest.mark.parametrize("sql", ["CREATE TABLE jobs (boss TEXT)", "DROP TABLE promises"])
def test_tables_of_somebody_else_are_damage(chroma, generate, submitted, ledger, sql) -> None:
    if sql.startswith("DROP"):
        submitted("a boat", "-o", "boat.png")
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.execute(sql)
    generate()
    assert len(set_aside(ledger)) == 1
    if sql.startswith("DROP"):  # what can be read is carried over
        assert [path.name for path in chroma("fetch", "--pending").paths] == ["boat.png"]


def test_a_ledger_in_wal_mode_is_brought_back(chroma, generate, submitted, ledger) -> None:
    submitted("a boat", "-o", "boat.png")
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        assert db.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    assert generate().err == ""
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert len(chroma("fetch", "--pending").paths) == 1
    assert set_aside(ledger) == []


def test_processes_that_find_the_damage_together_set_one_file_aside(ledger, process, chroma) -> None:
    ledger.write_bytes(b"garbage" * 1000)
    running = [process.start("jobs", "--json") for _ in range(4)]
    told = [one.end() for one in running]
    assert [one.code for one in told] == [0] * 4, told[0].said
    assert sum("damaged-" in words for one in told for words in one.warnings) >= 1
    assert len(set_aside(ledger)) == 1


@pytest.fixture
def pristine(gateway, chroma, clock, submitted, ledger) -> bytes:
    for number in range(6):
        submitted(f"fox {number} " + "x" * 300, "-o", f"{number}.png")
    chroma("fetch", "1", "3")
    return ledger.read_bytes()


def _damaged(data: bytes, kind: str, seed: int) -> bytes:
    chance = random.Random(seed)
    damaged = bytearray(data)
    start = chance.randrange(len(damaged))
    match kind:
        case "flip":
            for _ in range(chance.randint(1, 30)):
                damaged[chance.randrange(len(damaged))] ^= chance.randint(1, 255)
        case "header":
            damaged[chance.randrange(100)] ^= chance.randint(1, 255)
        case "cut":
            del damaged[max(1, start) :]
        case "page":
            damaged[start : start + 4096] = chance.randbytes(len(damaged[start : start + 4096]))
        case "zeros":
            damaged[start : start + 4096] = bytes(len(damaged[start : start + 4096]))
    return bytes(damaged)


@pytest.mark.parametrize("times", [4, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["flip", "header", "cut", "page", "zeros"])
def test_whatever_happened_to_the_file_no_byte_of_it_is_lost(
    gateway, chroma, submitted, ledger, pristine, kind, times
) -> None:
    for seed in range(times):
        shutil.rmtree(ledger.parent)
        ledger.parent.mkdir(mode=0o700)
        damaged = _damaged(pristine, kind, seed)
        ledger.write_bytes(damaged)
        posts = gateway.posts()
        for argv in (["jobs"], ["fetch", "--pending"], ["jobs", "--prune", "1"]):
            ended = chroma(*argv)
            assert ended.code in (0, 1, 7, 8, 11), (seed, ended.said)
            assert "Traceback" not in ended.err
        ident = submitted(f"an owl {seed}", "-o", f"owl-{seed}.png")
        assert chroma("fetch", ident, "-o", f"owl-{seed}.png").code == 0
        assert gateway.posts() == posts + 1
        for aside in set_aside(ledger):
            assert len(aside.read_bytes()) >= len(damaged) - 4096


# --- versions --------------------------------------------------------------------------------------------


def make(ledger: Path, version: Path, gateway: Gateway) -> None:
    """Write the ledger of an earlier version; its first job is the first of the gateway."""
    ledger.touch(0o600)
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.executescript(version.read_text().replace("http://GATEWAY", gateway.base_url))
    gateway.world.take({"prompt": "a fox", "samples": 1}, "async")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.stem)
def test_the_jobs_of_every_earlier_version_come_home(gateway, chroma, ledger, ledger_rows, version) -> None:
    make(ledger, version, gateway)
    ended = chroma("fetch", "--pending")
    assert (ended.code, len(ended.paths)) == (0, 1), ended.said
    assert is_whole(ended.paths[0])
    assert "Job 2 is unknown" in " ".join(ended.warnings)
    chroma("generate", "a boat")
    assert [row["status"] for row in ledger_rows()] == ["COMPLETED", "UNKNOWN", "FAILED", "COMPLETED"]
    assert set_aside(ledger) == []


def test_a_new_version_comes_whole_or_not_at_all(gateway, tmp_path) -> None:
    """The oldest ledger, and a program that is killed at any call while it brings it up."""
    forks = Forks(CHROMA_BASE_URL=gateway.base_url, SEGMIND_API_KEY=KEY)
    with contextlib.closing(forks):

        def killed(name: str, at: int = 0, moment: str = "") -> list[str]:
            ledger = tmp_path / name / "state" / "jobs.sqlite3"
            ledger.parent.mkdir(parents=True, mode=0o700)
            make(ledger, VERSIONS[0], gateway)
            _, made = forks.run(tmp_path / name, "jobs", at=at, moment=moment)
            told, _ = forks.run(tmp_path / name, "jobs", "--json")
            assert (told.code, len(told.json)) == (0, 3), told.said
            assert not set_aside(ledger)
            return made

        calls = killed("whole")
        assert any("COMMIT" in call for call in calls)
        for number, call in enumerate(calls, 1):
            if any(word in call for word in ("CREATE", "ALTER", "COMMIT")) and number % 3 == 0:
                killed(f"{number} before", number, "before")
        killed("last after", max(n for n, call in enumerate(calls, 1) if "COMMIT" in call), "after")


# --- rights ----------------------------------------------------------------------------------------------


#: Runs the command lines of a JSON list without the superuser's rights; the last line is the exit codes.
_AS_NOBODY = """
import json, os, sys
from chroma_cli.cli.main import main
state = os.environ["CHROMA_STATE_DIR"]
os.environ["CHROMA_STATE_DIR"] = os.path.join(os.environ["HOME"], "warm")
# Everything is imported before the rights are gone: the program may lie in the superuser's home.
main(["generate", "warm up", "-o", os.path.join(os.environ["HOME"], "warm.png"), "-q"])
main(["jobs", "--resubmit", "99"])
os.environ["CHROMA_STATE_DIR"] = state
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("-----"); print("-----", file=sys.stderr)
print(json.dumps([main(argv) for argv in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def as_nobody(gateway: Gateway, process: Any) -> Iterator[Any]:
    """``as_nobody(change, argv, argv)`` runs in a home of nobody's, with a used ledger that was changed;
    returns exit codes, stdout and stderr. ``as_nobody.home`` is that home."""
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    (home / "work").mkdir()
    env = {"CHROMA_STATE_DIR": str(home / "state"), "CHROMA_CONFIG": str(home / "c"), "HOME": str(home)}
    ended = process("submit", "a boat", "-o", str(home / "work" / "boat.png"), env=env)
    assert ended.code == 0, ended.said
    ledger = home / "state" / "jobs.sqlite3"
    if IS_ROOT:
        for path in (home / "work", home / "state", ledger):
            os.chown(path, NOBODY, NOBODY)

    def run(change: Callable[[Path], object], *lines: list[str]) -> tuple[list[int], str, str]:
        change(ledger)
        command = [sys.executable, "-c", _AS_NOBODY, json.dumps(lines)]
        ended = process.start(command=command, env=env, cwd=home / "work").end()
        out, err = ended.out.partition("-----\n")[2], ended.err.partition("-----\n")[2]
        assert ended.code == 0, ended.said
        return json.loads(out.splitlines()[-1]), out, err

    run.home = home  # type: ignore[attr-defined]
    yield run
    shutil.rmtree(home)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_a_read_only_file_can_be_read_and_costs_one_warning(as_nobody) -> None:
    codes, out, err = as_nobody(
        lambda ledger: ledger.chmod(0o400), ["generate", "a fox", "-o", "fox.png"], ["jobs", "-q"]
    )
    assert codes == [0, 0], err
    assert err.count("warning:") == 1
    assert "will not know the job" in err
    assert "a boat" in out
    assert is_whole(as_nobody.home / "work" / "fox.png")


@pytest.mark.skipif(not IS_ROOT, reason="needs root to make a file of another user")
def test_a_file_of_another_user_is_not_believed(as_nobody) -> None:
    def give_away(ledger: Path) -> None:
        os.chown(ledger, NOBODY - 1, NOBODY - 1)
        ledger.chmod(0o644)

    codes, out, err = as_nobody(give_away, ["jobs"])
    assert (codes, "a boat" in out) == ([1], False), err
