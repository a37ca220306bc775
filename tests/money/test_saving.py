"""Saving: nothing replaced, nothing half, nothing lost, whatever the disk and the folder do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit import PASS, Reply, is_whole, picture
from kit.disk import read_only

pytestmark = pytest.mark.usefixtures("clock")


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def files_of(ended: Any) -> list[str]:
    return [Path(file["path"]).name for file in ended.one["files"]]


@pytest.fixture
def meanwhile(gateway: Any) -> Callable[[Callable[[], object]], None]:
    """Do something while the job is in flight."""

    def do(what: Callable[[], object]) -> None:
        def now(_: Any) -> Any:
            what()
            return PASS

        gateway.on("result", now)

    return do


@pytest.fixture
def rescued(state: Path) -> Callable[[], list[Path]]:
    """The pictures in the rescue folder."""
    return lambda: sorted(path for path in state.rglob("*") if path.suffix in (".png", ".jpg", ".broken"))


# --- the final name --------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o777])
def test_the_mode_is_that_of_the_umask(chroma, work, umask) -> None:
    before = os.umask(umask)
    try:
        assert chroma("generate", "a fox", "-o", "fox.png", "--no-ledger").code == 0
    finally:
        os.umask(before)
    assert (work / "fox.png").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_picture_is_on_the_disk_before_it_has_its_name(chroma, work, monkeypatch, overwrite) -> None:
    steps: list[str] = []

    def note(name: str, what: Callable[[Any], str]) -> None:
        real = getattr(os, name)

        def call(*args: Any, **more: Any) -> Any:
            done = real(*args, **more)
            steps.append(f"{name} {what(args)}")
            return done

        monkeypatch.setattr(os, name, call)

    def synced(args: Any) -> str:
        path = Path(f"/proc/self/fd/{args[0]}").readlink()
        return "folder" if path == work else "picture" if path.parent == work else "other"

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell the files apart")
    note("fsync", synced)
    for name in ("link", "rename", "replace"):
        note(name, lambda args: Path(args[1]).name)
    if overwrite:
        (work / "fox.png").write_bytes(b"old")
    assert chroma("generate", "a fox", "-o", "fox.png", *["--overwrite"] * overwrite).code == 0
    named = "replace fox.png" if overwrite else "link fox.png"
    assert [step for step in steps if step.split()[1] in ("picture", "fox.png", "folder")] == [
        "fsync picture",
        named,
        "fsync folder",
    ]


@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "dangling link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_meanwhile_is_not_touched(chroma, work, meanwhile, kind, overwrite) -> None:
    def appear() -> None:
        if kind == "folder":
            (work / "fox.png").mkdir()
        elif kind == "file":
            (work / "fox.png").write_bytes(b"theirs")
        elif kind == "fifo":
            os.mkfifo(work / "fox.png")
        else:
            (work / "fox.png").symlink_to("nowhere")
        (work / "fox-1.png").symlink_to("nowhere")

    meanwhile(appear)
    ended = chroma("generate", "a fox", "-o", "fox.png", "--json", *["--overwrite"] * overwrite)
    if overwrite and kind == "file":
        assert (ended.code, is_whole(work / "fox.png")) == (0, True)
        return
    assert (ended.code, files_of(ended)) == (10, ["fox-2.png"])
    assert str(work / "fox.png") in ended.error["message"]
    assert is_whole(work / "fox-2.png")
    there = os.lstat(work / "fox.png").st_mode
    looks = {
        "folder": stat.S_ISDIR,
        "file": stat.S_ISREG,
        "fifo": stat.S_ISFIFO,
        "dangling link": stat.S_ISLNK,
    }
    assert looks[kind](there)
    assert kind != "file" or (work / "fox.png").read_bytes() == b"theirs"
    assert not (work / "nowhere").exists()


def test_a_template_just_takes_the_next_number(gateway, chroma, work, meanwhile) -> None:
    meanwhile(lambda: (work / "a-fox-1.png").write_bytes(b"theirs"))
    ended = chroma("generate", "a fox", "-o", "{slug}.png", "--samples", "2", "--json")
    assert (ended.code, files_of(ended)) == (0, ["a-fox-3.png", "a-fox-2.png"])


def test_overwrite_replaces_a_link_and_not_what_it_leads_to(chroma, work) -> None:
    (work / "real.png").write_bytes(b"old")
    (work / "fox.png").symlink_to("real.png")
    assert chroma("generate", "a fox", "-o", "fox.png", "--overwrite").code == 0
    assert not (work / "fox.png").is_symlink()
    assert is_whole(work / "fox.png")
    assert (work / "real.png").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("output", "came", "expected"),
    [
        ("fox.png", "jpeg", "fox.jpg"),
        ("fox.JPEG", "jpeg", "fox.JPEG"),
        ("fox.jpeg", "webp", "fox.webp"),
        ("fox", "webp", "fox.webp"),
        ("{slug}.{ext}", "jpeg", "a-fox.jpg"),
    ],
)
def test_the_ending_is_true_and_overwrites_nothing(gateway, chroma, work, output, came, expected) -> None:
    gateway.on("file", Reply(200, [], picture(1, came)), always=True)
    ended = chroma("generate", "a fox", "-o", output, "--json")
    assert (ended.code, files_of(ended), ended.one["files"][0]["format"]) == (0, [expected], came)
    changed = not expected.lower().endswith(("jpeg",))
    assert [came in words and expected in words for words in ended.warnings] == [True] * changed
    if changed:
        (work / expected).write_bytes(b"never named")
        ended = chroma("generate", "a fox", "-o", output, "--overwrite", "--json")
        assert (work / expected).read_bytes() == b"never named"
        assert is_whole(Path(ended.one["files"][0]["path"]))


def test_another_size_is_a_warning(gateway, chroma) -> None:
    gateway.on("file", Reply(200, [], picture(1, "png", 64, 48)))
    assert chroma("generate", "a fox", "-o", "fox.png").warnings == [
        "fox.png: the picture is 64x48, not 1024x1024 as asked."
    ]


def test_names_that_come_with_the_answer(gateway, chroma, work) -> None:
    ended = chroma("generate", "a fox", "-o", "{id}/{slug}.png")
    assert ended.paths == [work / gateway.jobs()[0].id / "a-fox.png"]


def test_an_equal_picture_of_a_killed_run_is_taken_as_its_own(gateway, process, chroma, work, state) -> None:
    """It was placed, and the program died before it could say so."""
    with gateway.hold("file") as hold:
        started = process.start("generate", "a fox", "-o", "fox.png", "--seed", "7")
        hold.wait()
        before = (state / "jobs.sqlite3").read_bytes()
        hold.release()
        assert started.end().code == 0
    (state / "jobs.sqlite3").write_bytes(before)
    assert chroma("fetch", "--pending").paths == [work / "fox.png"]
    assert listing(work) == ["fox.png"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EACCES])
def test_a_file_system_without_links(chroma, work, meanwhile, monkeypatch, code) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    assert chroma("generate", "a fox", "-o", "fox.png").paths == [work / "fox.png"]
    meanwhile(lambda: (work / "boat.png").write_bytes(b"theirs"))
    assert chroma("generate", "a boat", "-o", "boat.png", "--json").code == 10
    assert listing(work) == ["boat-1.png", "boat.png", "fox.png"]


def test_a_folder_on_another_disk(gateway, chroma, work, monkeypatch) -> None:
    real = os.link

    def link(source: Any, target: Any, **more: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target, **more)

    monkeypatch.setattr(os, "link", link)
    [path] = chroma("generate", "a fox", "-o", "{id}/fox.png").paths
    assert is_whole(path)
    assert listing(work) == [f"{gateway.jobs()[0].id}/fox.png"]


def test_programs_that_want_one_name(gateway, process, work) -> None:
    holds = [gateway.hold("file", prompt=f"a fox {n}") for n in range(3)]
    running = [process.start("generate", f"a fox {n}", "-o", "{cfg}.png", "--no-ledger") for n in range(3)]
    for hold in holds:
        hold.wait()
    for hold in holds:
        hold.release()
    ends = [one.end() for one in running]
    assert [one.code for one in ends] == [0] * 3, ends[0].said
    paths = [path for one in ends for path in one.paths]
    assert sorted(path.name for path in paths) == ["7-1.png", "7-2.png", "7.png"]
    assert [gateway.whose(path).prompt for path in paths] == [f"a fox {n}" for n in range(3)]


# --- when it fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_picture_that_cannot_be_placed_is_kept(chroma, work, rescued, monkeypatch, step) -> None:
    real = getattr(os, step)

    def fail(what: Any, *args: Any, **more: Any) -> Any:
        path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(args[0])
        if path.parent == work and path.suffix in (".part", ".png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(what, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        ended = chroma("generate", "a fox", "-o", "fox.png", "--json")
    assert (ended.code, ended.error["charged"]) == (10, "yes")
    assert "full" in ended.error["message"]
    [kept] = rescued()
    assert is_whole(kept)
    assert str(kept) in ended.error["message"]
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert listing(work) == []
    assert chroma("fetch", "--pending").paths == [work / "fox.png"]


def test_a_folder_that_is_deleted_meanwhile(chroma, work, meanwhile, rescued) -> None:
    def remove() -> None:
        shutil.rmtree(work / "sub")
        (work / "sub").write_bytes(b"in the way")

    (work / "sub").mkdir()
    meanwhile(remove)
    ended = chroma("generate", "a fox", "-o", "sub/fox.png", "--json")
    assert (ended.code, ended.error["charged"]) == (10, "yes")
    (work / "sub").unlink()
    assert chroma("fetch", "--pending").paths == [work / "sub" / "fox.png"]


def test_where_no_state_can_be_kept_the_picture_goes_to_the_temporary_folder(
    gateway, process, work, tmp_path, state
) -> None:
    state.write_bytes(b"in the way")
    (tmp_path / "temp").mkdir()
    (work / "sub").mkdir()
    with gateway.hold("file") as hold:
        env = {"TMPDIR": str(tmp_path / "temp")}
        started = process.start("generate", "a fox", "-o", "sub/fox.png", "--json", env=env)
        hold.wait()
        shutil.rmtree(work / "sub")
        (work / "sub").write_bytes(b"in the way")
    ended = started.end()
    assert (ended.code, ended.error["charged"]) == (10, "yes"), ended.said
    [kept] = [path for path in (tmp_path / "temp").rglob("*.png") if path.is_file()]
    assert is_whole(kept)
    assert str(kept) in ended.error["message"]


def test_pictures_that_are_kept_do_not_replace_each_other(gateway, chroma, work, state, rescued) -> None:
    def block(_: Any) -> Any:
        with contextlib.suppress(OSError):
            (work / "sub").rmdir()
        (work / "sub").write_bytes(b"in the way")
        return PASS

    for prompt in ("one", "two"):
        gateway.on("sync", block)
        (work / "sub").unlink(missing_ok=True)
        (work / "sub").mkdir()
        assert chroma("generate", prompt, "-o", "sub/fox.png", "--sync", "--json").code == 10
    assert [path.name for path in rescued()] == ["fox-1.png", "fox.png"]
    assert {gateway.whose(path).prompt for path in rescued()} == {"one", "two"}


def test_what_cannot_be_synced_is_no_trouble(chroma, work, monkeypatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    assert chroma("generate", "a fox", "-o", "fox.png").code == 0
    assert is_whole(work / "fox.png")


def test_broken_bytes_of_a_blocking_call_are_kept_beside_the_target(gateway, chroma, work) -> None:
    gateway.on("sync", *(Reply(200, [("Content-Type", "image/png")], picture(n)[:-20]) for n in (1, 2, 3)))
    long = "ü" * 120 + "x.png"
    for name, kept in [("fox.png", "fox.png.broken"), ("fox.png", "fox-1.png.broken"), (long, None)]:
        ended = chroma("generate", "a fox", "-o", name, "--sync", "--json")
        assert (ended.code, ended.error["charged"]) == (9, "yes")
        assert kept is None or kept in listing(work)
    assert len(listing(work)) == 3
    assert all(name.endswith(".png.broken") for name in listing(work))


# --- stdout ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_bytes_that_stdout_does_not_take_are_kept(gateway, process, rescued) -> None:
    command = ["sh", "-c", 'exec "$0" -m chroma_cli "$@" > /dev/full', sys.executable]
    ended = process.start("generate", "a fox", "-o", "-", command=command).end()
    assert ended.code == 10, ended.said
    [kept] = rescued()
    assert is_whole(kept)
    assert str(kept) in ended.err


# --- a disk that cannot be written -----------------------------------------------------------------------


def test_a_read_only_folder_is_seen_before_anything_is_spent(gateway, chroma, work) -> None:
    with read_only(work / "disk"):
        for output in ("disk/fox.png", "disk/sub/fox.png", "disk/"):
            ended = chroma("generate", "a fox", "-o", output, "--json")
            assert (ended.code, ended.error["charged"]) == (10, "no")
            assert "read-only" in ended.error["message"] or "permission" in ended.error["message"]
    assert gateway.requests() == []
