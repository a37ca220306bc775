"""The ledger as a file: many processes, kills, damage, full and read-only disks, other versions."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chroma_cli.clock import SystemClock
from chroma_cli.jobs import ledger as module
from chroma_cli.jobs import migrations
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.records import Intent, LedgerUnusable

HERE = "https://api.example"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534

PRELUDE = f"""
import sys, os, signal
from pathlib import Path
from chroma_cli.clock import SystemClock
from chroma_cli.jobs.ledger import Ledger
from chroma_cli.jobs.records import Intent, LedgerUnusable, Timings
HERE = {HERE!r}
def intent(**more):
    return Intent(HERE, {{"prompt": "p"}}, 0.055, steps=40, pixels=1024 * 1024, **more)
path = Path(sys.argv[1])
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(body)]


def intent(**more: object) -> Intent:
    return Intent(HERE, {"prompt": "p"}, 0.055, **more)  # type: ignore[arg-type]


class FakeClock(SystemClock):
    """Real records, waiting that takes no time."""

    def __init__(self) -> None:
        self.waited = 0.0

    def monotonic(self) -> float:
        return self.waited

    def sleep(self, seconds: float) -> None:
        self.waited += seconds


def open_ledger(path: Path, patience: float = 30.0) -> Ledger:
    return Ledger.open(path, clock=SystemClock(), patience=patience)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


def filled(path: Path, jobs: int = 40) -> bytes:
    """A ledger of several pages whose even jobs are pending; its bytes."""
    with open_ledger(path) as ledger:
        for index in range(jobs):
            row = ledger.begin(
                Intent(HERE, {"prompt": "p" * 300}, 0.055, promised=(f"/pictures/{index}.png",))
            )
            ledger.submitted(row.number, f"id-{index}")
            if index % 2:
                ledger.saved(row.number)
    return path.read_bytes()


def works(ledger: Ledger) -> None:
    """A whole life."""
    row = ledger.begin(intent(promised=("/p",)), exclusive=False)
    ledger.submitted(row.number, "new-id")
    ledger.saved(row.number)
    found = ledger.get("new-id", HERE)
    assert found is not None
    assert found.state == "saved"


def set_aside(path: Path) -> list[Path]:
    return sorted(entry for entry in path.parent.glob("*.damaged-*") if not entry.name.endswith("-journal"))


# --- for the owner's eyes only ---------------------------------------------------------------------------


def test_folder_and_file_are_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "jobs.sqlite3"
    body = """
        os.umask(0)
        with Ledger.open(path, clock=SystemClock()) as ledger:
            def work(db):
                db.execute("INSERT INTO facts VALUES ('a', 'b', 1.0)")
                print(oct(os.stat(f"{path}-journal").st_mode & 0o777))
            ledger._write(work)
    """
    shown = subprocess.run([*script(body), path], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == "0o600"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_mode_that_is_too_open_is_put_right(path: Path) -> None:
    filled(path, 1)
    path.chmod(0o644)
    with open_ledger(path) as ledger:
        assert ledger.notice is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    with open_ledger(path) as ledger:
        assert "written by others" in (ledger.notice or "")
        assert len(ledger.recent(9)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed_also_one_that_leads_to_nothing_yet(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.sqlite3"
    link = tmp_path / "jobs.sqlite3"
    link.symlink_to(real)
    for _ in range(2):
        with open_ledger(link) as ledger:
            works(ledger)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@pytest.mark.skipif(not IS_ROOT, reason="needs root to make a file of another user")
def test_a_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    filled(tmp_path / "jobs.sqlite3", 1)
    assert as_nobody(tmp_path, "Ledger.open(path, clock=SystemClock())", owner=NOBODY - 1) == "other"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo):
        with pytest.raises(LedgerUnusable) as caught:
            open_ledger(path)
        assert caught.value.reason == "other"
        assert str(path) in caught.value.words


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerUnusable) as caught:
        open_ledger(tmp_path / "file" / "deep" / "jobs.sqlite3")
    assert caught.value.reason == "missing-dir"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(LedgerUnusable):
        open_ledger(loop / "jobs.sqlite3")


# --- many at once ----------------------------------------------------------------------------------------


def test_64_processes_at_once(path: Path) -> None:
    body = """
        sys.stdin.readline()
        with Ledger.open(path, clock=SystemClock()) as ledger:
            row = ledger.begin(intent(promised=(f"/p/{os.getpid()}.png",)))
            ledger.submitted(row.number, f"id-{os.getpid()}")
            ledger.completed(row.number, sources=["https://i/1"], cost=0.01, timings=Timings(total=5.0))
            ledger.saved_file(row.number, 0, {"path": "/p"})
            ledger.saved(row.number)
    """
    children = [
        subprocess.Popen([*script(body), path], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(64)
    ]
    for child in children:  # all are up; now they run at the same moment
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    problems = [child.communicate()[1] for child in children]
    assert not any(problems), problems
    assert [child.returncode for child in children] == [0] * 64
    with open_ledger(path) as ledger:
        rows = ledger.recent(100)
        assert {row.request_id for row in rows} == {f"id-{child.pid}" for child in children}
        assert {row.state for row in rows} == {"saved"}
        assert sorted(row.number for row in rows) == list(range(1, 65))
        assert ledger.totals().jobs == 64
        assert ledger.totals().cost == pytest.approx(0.64)
        assert ledger.promised() == frozenset()


def test_killed_in_the_middle_of_a_transaction(path: Path) -> None:
    body = """
        ledger = Ledger.open(path, clock=SystemClock())
        ledger.begin(intent())
        def work(db):
            db.execute("PRAGMA cache_size = 1")  # so that half of it is in the file already
            for index in range(3000):
                db.execute("INSERT INTO facts VALUES (?, ?, 1.0)", (str(index), "x" * 200))
            db.execute("UPDATE jobs SET state = 'saved'")
            os.kill(os.getpid(), signal.SIGKILL)
        ledger._write(work)
    """
    child = subprocess.run([*script(body), path], check=False)
    assert child.returncode == -signal.SIGKILL
    assert Path(f"{path}-journal").exists()
    with open_ledger(path) as ledger:
        assert ledger.notice is None
        (row,) = ledger.sweep()
        assert (row.number, row.state) == (1, "unknown")
        assert ledger._read(lambda db: db.execute("SELECT count(*) FROM facts").fetchone()) == (0,)
        assert ledger._read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)


def test_killed_between_making_the_file_and_the_first_tables(path: Path) -> None:
    path.touch(0o600)
    with open_ledger(path) as ledger:
        works(ledger)
        assert ledger.notice is None


def test_a_lock_that_stays_is_busy_and_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.0)
    filled(path, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        clock = FakeClock()
        ledger = Ledger.open(path, clock=clock)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnusable) as caught:
            ledger.begin(intent())
        assert caught.value.reason == "busy"
        assert clock.waited >= 30.0
        with pytest.raises(LedgerUnusable):
            Ledger.open(path, clock=FakeClock())
        other.execute("ROLLBACK")
        works(ledger)
        ledger.close()
    assert set_aside(path) == []


def test_an_error_inside_leaves_no_trace(path: Path) -> None:
    with open_ledger(path) as ledger:

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO facts VALUES ('a', 'b', 1.0)")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ledger._write(work)
        assert ledger._read(lambda db: db.execute("SELECT count(*) FROM facts").fetchone()) == (0,)
        works(ledger)


# --- a file that is removed or replaced while it is open -------------------------------------------------


def test_a_removed_ledger_is_begun_anew(path: Path) -> None:
    with open_ledger(path) as ledger:
        number = ledger.begin(intent()).number
        shutil.rmtree(path.parent)
        with pytest.raises(LedgerUnusable, match=f"job {number}"):
            ledger.submitted(number, "i")
        works(ledger)


def test_a_number_does_not_hit_another_job_of_a_new_ledger(path: Path) -> None:
    with open_ledger(path) as ledger, open_ledger(path.with_name("other")) as other:
        number = ledger.begin(intent()).number
        assert other.begin(intent()).number == number
        other.close()
        path.with_name("other").rename(path)
        with pytest.raises(LedgerUnusable):
            ledger.saved(number)
        (row,) = ledger.recent(9)
        assert row.state == "submitting"


def test_a_write_into_a_file_that_was_moved_meanwhile_is_repeated(path: Path) -> None:
    with open_ledger(path) as ledger:
        moved = []

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO facts VALUES ('a', 'b', 1.0)")
            if not moved:
                moved.append(path.rename(path.with_name("away")))

        ledger._write(work)
        assert ledger._read(lambda db: db.execute("SELECT count(*) FROM facts").fetchone()) == (1,)


def test_a_file_that_is_never_the_same_is_given_up(path: Path) -> None:
    with open_ledger(path) as ledger, pytest.raises(LedgerUnusable, match="again and again"):
        ledger._write(lambda db: path.unlink(missing_ok=True))


# --- damage ----------------------------------------------------------------------------------------------


def test_no_database_at_all_is_set_aside(path: Path) -> None:
    path.write_bytes(b"This is not what you think it is. " * 100)
    before = path.read_bytes()
    with open_ledger(path) as ledger:
        (aside,) = set_aside(path)
        assert aside.read_bytes() == before
        assert aside.name in (ledger.notice or "")
        works(ledger)
    with open_ledger(path) as ledger:
        assert ledger.notice is None
    assert len(set_aside(path)) == 1


def test_damage_that_shows_in_use(path: Path) -> None:
    data = bytearray(filled(path))
    ledger = open_ledger(path)
    # Only the two pages of the schema stay, and the reader finds out when it reads on.
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    assert ledger.begin(intent()).state == "submitting"
    (aside,) = set_aside(path)
    assert aside.name in (ledger.notice or "")
    assert aside.read_bytes() == bytes(data)
    works(ledger)
    ledger.close()


def test_readable_jobs_are_carried_over(path: Path) -> None:
    data = bytearray(filled(path))
    with contextlib.closing(sqlite3.connect(path)) as reader:
        size = reader.execute("PRAGMA page_size").fetchone()[0]
        (root,) = reader.execute("SELECT rootpage FROM sqlite_master WHERE name = 'promises'").fetchone()
    data[(root - 1) * size : root * size] = b"\xff" * size
    path.write_bytes(data)
    with open_ledger(path) as ledger:
        row = ledger.begin(intent(promised=("/new.png",)))
        assert row.number == 41
        assert "All of its jobs" in (ledger.notice or "")
        ledger.check_complete()
        assert "20 of them unfinished" in (ledger.notice or "")
        pending = ledger.pending(HERE)
        assert [job.request_id for job in pending[:-1]] == [f"id-{index}" for index in range(0, 40, 2)]
        assert ledger.promised() == {f"/pictures/{index}.png" for index in range(0, 40, 2)} | {"/new.png"}
        assert ledger.totals().jobs == 41


def test_the_journal_moves_along(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    Path(f"{path}-journal").write_bytes(b"\0 its journal")  # not one to be played back
    with open_ledger(path) as ledger:
        works(ledger)
    (aside,) = set_aside(path)
    assert Path(f"{aside}-journal").read_bytes() == b"\0 its journal"


def test_nothing_set_aside_earlier_is_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "utc_text", lambda moment: "2026-01-01T00:00:00.000Z")
    for index in range(3):
        path.write_bytes(f"garbage {index}".encode() * 1000)
        open_ledger(path).close()
    assert sorted(entry.read_bytes()[:9] for entry in set_aside(path)) == [
        b"garbage 0",
        b"garbage 1",
        b"garbage 2",
    ]


def test_processes_that_find_the_damage_together_set_one_file_aside(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    body = """
        sys.stdin.readline()
        with Ledger.open(path, clock=SystemClock()) as ledger:
            ledger.begin(intent())
            print(int(ledger.notice is not None))
    """
    children = [
        subprocess.Popen([*script(body), path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(12)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    notices = [int(child.communicate()[0]) for child in children]
    assert [child.returncode for child in children] == [0] * 12
    assert sum(notices) == 1
    assert len(set_aside(path)) == 1
    with open_ledger(path) as ledger:
        assert len(ledger.recent(99)) == 12


def test_damage_that_cannot_be_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"garbage" * 1000)

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(LedgerUnusable) as caught:
        open_ledger(path)
    assert caught.value.reason == "damaged"
    assert path.read_bytes().startswith(b"garbage")


def test_tables_of_somebody_else_are_set_aside(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE jobs (boss TEXT)")
    with open_ledger(path) as ledger:
        works(ledger)
    assert len(set_aside(path)) == 1


def test_a_current_ledger_without_one_of_its_tables_is_damaged(path: Path) -> None:
    filled(path, 3)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE promises")
    with open_ledger(path) as ledger:
        assert len(ledger.pending(HERE)) == 2
        works(ledger)
    assert len(set_aside(path)) == 1


def test_a_ledger_in_wal_mode_is_brought_back(path: Path) -> None:
    filled(path, 2)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    with open_ledger(path) as ledger:
        works(ledger)
        assert ledger._read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("delete",)
    assert set_aside(path) == []


PRISTINE: list[bytes] = []


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever happened to the file: the ledger works or says why not, and no byte of the old one is lost."""
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "jobs.sqlite3"
    if not PRISTINE:
        PRISTINE.append(filled(path, 12))
    damaged = bytearray(PRISTINE[0])
    kind = data.draw(st.sampled_from(["flip", "header", "cut", "page", "zeros"]))
    if kind == "flip":
        for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=30)):
            damaged[place] ^= data.draw(st.integers(1, 255))
    elif kind == "header":
        damaged[data.draw(st.integers(0, 99))] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del damaged[data.draw(st.integers(1, len(damaged) - 1)) :]
    else:
        start = data.draw(st.integers(0, len(damaged) - 1))
        filling = os.urandom(4096) if kind == "page" else bytes(4096)
        damaged[start : start + 4096] = filling[: len(damaged) - start]
    path.write_bytes(damaged)
    path.chmod(0o600)
    with contextlib.suppress(LedgerUnusable), open_ledger(path, patience=0.0) as ledger:
        ledger.sweep()
        ledger.recent(99)
        ledger.totals()
        row = ledger.begin(intent(promised=("/p",)), exclusive=False)
        ledger.submitted(row.number, "new-id")
        ledger.completed(row.number, sources=["https://i/1"], remaining_credits=1.0)
        ledger.saved(row.number)
        found = ledger.get("new-id", HERE)
        assert found is not None
        assert found.state == "saved"
        ledger.promised()
        ledger.prune(0)
    for aside in set_aside(path):
        assert len(aside.read_bytes()) >= len(damaged) - 4096
    shutil.rmtree(folder)


# --- versions --------------------------------------------------------------------------------------------


def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    filled(path, 2)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 9999")
    before = path.read_bytes()
    with pytest.raises(LedgerUnusable) as caught:
        open_ledger(path)
    assert caught.value.reason == "newer"
    assert "newer chroma" in caught.value.message
    assert path.read_bytes() == before
    assert set_aside(path) == []


@pytest.mark.parametrize("done", range(len(migrations.MIGRATIONS) + 1))
def test_from_every_earlier_version(path: Path, done: int) -> None:
    path.touch(0o600)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        for step in migrations.MIGRATIONS[:done]:
            step(old)
        old.execute(f"PRAGMA user_version = {done}")
    with open_ledger(path) as ledger:
        works(ledger)
        assert ledger._read(migrations.version) == len(migrations.MIGRATIONS)
    assert set_aside(path) == []


def test_a_new_version_keeps_the_jobs_and_comes_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 4)

    def column(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE extras (name TEXT)")

    def stopped(db: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    released = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*released, column, stopped))
    with pytest.raises(KeyboardInterrupt):
        open_ledger(path)
    with contextlib.closing(sqlite3.connect(path)) as reader:
        assert migrations.version(reader) == len(released)
        assert not reader.execute("SELECT 1 FROM sqlite_master WHERE name = 'extras'").fetchall()
    monkeypatch.setattr(migrations, "MIGRATIONS", (*released, column))
    with open_ledger(path) as ledger:
        assert len(ledger.recent(9)) == 4
        works(ledger)


# --- disks -----------------------------------------------------------------------------------------------


def as_nobody(folder: Path, body: str, *, owner: int = NOBODY) -> str:
    """Run ``body`` without rights, on a copy that ``owner`` has; what it prints: a reason, or its own words.

    The copy is in a place that everybody may enter, unlike the folders of pytest.
    """
    import tempfile

    place = Path(tempfile.mkdtemp())
    try:
        copy = place / "state"
        shutil.copytree(folder, copy)
        for entry in (place, copy, *copy.iterdir()):
            os.chown(entry, owner, owner)
        place.chmod(0o755)
        if owner != NOBODY:
            copy.chmod(0o755)
            (copy / "jobs.sqlite3").chmod(0o644)
        code = script(
            "try:\n"
            + textwrap.indent(textwrap.dedent(body), "    ")
            + "\nexcept LedgerUnusable as error:\n    print(error.reason)\n"
        )
        code[2] = _DROP + code[2]
        child = subprocess.run([*code, copy / "jobs.sqlite3"], capture_output=True, text=True, check=False)
        assert child.returncode == 0, child.stderr
        return child.stdout.strip()
    finally:
        shutil.rmtree(place)


# The program itself may be in a folder that only root may read, so rights go after the imports.
_DROP = f"""
import os, tempfile, pathlib
import chroma_cli.jobs.ledger, chroma_cli.clock
with tempfile.TemporaryDirectory() as warm_up:
    chroma_cli.jobs.ledger.Ledger.open(
        pathlib.Path(warm_up) / "jobs.sqlite3", clock=chroma_cli.clock.SystemClock()
    ).close()
os.setgid({NOBODY}); os.setuid({NOBODY})
"""


@pytest.mark.skipif(not IS_ROOT, reason="needs root to drop rights")
def test_a_read_only_folder_can_be_read_and_says_so_when_written(tmp_path: Path) -> None:
    filled(tmp_path / "jobs.sqlite3", 3)
    body = """
        os.chmod(path.parent, 0o555)
        with Ledger.open(path, clock=SystemClock()) as ledger:
            print(len(ledger.recent(9)), len(ledger.pending(HERE)))
            ledger.begin(intent())
    """
    assert as_nobody(tmp_path, body).split() == ["3", "2", "read-only"]


@pytest.mark.skipif(not IS_ROOT, reason="needs root to drop rights")
def test_a_read_only_file(tmp_path: Path) -> None:
    filled(tmp_path / "jobs.sqlite3", 3)
    body = """
        os.chmod(path, 0o400)
        with Ledger.open(path, clock=SystemClock()) as ledger:
            print(len(ledger.recent(9)))
            ledger.begin(intent())
    """
    assert as_nobody(tmp_path, body).split() == ["3", "read-only"]


@pytest.mark.skipif(not IS_ROOT, reason="needs root to drop rights")
def test_a_read_only_folder_without_a_ledger(tmp_path: Path) -> None:
    body = """
        os.chmod(path.parent, 0o555)
        Ledger.open(path, clock=SystemClock())
    """
    assert as_nobody(tmp_path, body) == "read-only"


@pytest.mark.skipif(not IS_ROOT, reason="needs root to drop rights")
def test_damage_in_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"garbage" * 1000)
    body = """
        os.chmod(path.parent, 0o555)
        Ledger.open(path, clock=SystemClock())
    """
    assert as_nobody(tmp_path, body) == "damaged"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if not IS_ROOT or mount is None:
        pytest.skip("needs root to mount a small disk")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this machine does not allow mounts")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast


def test_a_full_disk_is_no_damage(small_disk: Path) -> None:
    path = small_disk / "jobs.sqlite3"
    with open_ledger(path) as ledger:
        number = ledger.begin(intent()).number
        ballast = fill(small_disk)
        with pytest.raises(LedgerUnusable) as caught:
            for _ in range(1000):
                ledger.begin(intent())
        assert caught.value.reason == "full"
        assert len(ledger.recent(9)) >= 1
        ballast.unlink()
        assert ledger.submitted(number, "i").state == "queued"
    assert set_aside(path) == []


def test_no_ledger_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(LedgerUnusable) as caught:
        open_ledger(small_disk / "jobs.sqlite3")
    assert caught.value.reason == "full"
    assert "full" in caught.value.words


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.ENOTDIR, "missing-dir"),
        (errno.EIO, "other"),
    ],
)
def test_what_the_system_says_when_the_file_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.raises(LedgerUnusable) as caught:
        open_ledger(path)
    assert caught.value.reason == reason
    assert os.strerror(number) in caught.value.message


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_READONLY_ROLLBACK, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, "read-only"),
        (sqlite3.SQLITE_IOERR_FSYNC, "other"),
        (sqlite3.SQLITE_TOOBIG, "other"),
        (sqlite3.SQLITE_BUSY_RECOVERY, "busy"),
    ],
)
def test_what_sqlite_says_in_use(path: Path, code: int, reason: str) -> None:
    with Ledger.open(path, clock=FakeClock()) as ledger:

        def work(db: sqlite3.Connection) -> None:
            error = sqlite3.OperationalError("what SQLite says")
            error.sqlite_errorcode = code
            raise error

        with pytest.raises(LedgerUnusable) as caught:
            ledger._write(work)
        assert caught.value.reason == reason
        works(ledger)
    assert set_aside(path) == []


def test_a_folder_that_vanished_for_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_ledger(path) as ledger:
        shutil.rmtree(path.parent)
        path.parent.write_text("a file now")
        with pytest.raises(LedgerUnusable) as caught:
            ledger.begin(intent())
        assert caught.value.reason == "missing-dir"
        path.parent.unlink()
        path.parent.mkdir()
        works(ledger)
