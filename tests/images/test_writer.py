"""Saving: nothing replaced, nothing half, nothing lost, whatever the disk does."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chroma_cli.errors import BrokenImage, OutputError
from chroma_cli.images import disk, preflight, writer
from chroma_cli.images import spool as spool_module
from chroma_cli.images.decode import ImageInfo, verify
from chroma_cli.images.destination import Destination
from chroma_cli.images.spool import Spool, leftovers, sweep, sweep_all, temp_name

Planner = Callable[..., Destination]
Spooler = Callable[..., Spool]

INFO = ImageInfo("png", 64, 48)
DATA = bytes(range(256)) * 40


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- the temp file --------------------------------------------------------------------------------------


def test_a_spool_lies_beside_its_target(planned: Planner, spooled: Spooler, folder: Path) -> None:
    with spooled(planned("deep/k.png"), DATA) as spool:
        assert listing(folder) == ["deep/.chroma-t0-0.part"]
        assert (spool.size, spool.head, spool.trouble) == (len(DATA), DATA[:32], None)
        assert spool.sha256 == hashlib.sha256(DATA).hexdigest()
    assert listing(folder) == []


def test_a_spool_begins_again(planned: Planner, spooled: Spooler) -> None:
    with spooled(planned(), b"half of a down") as spool:
        with spool.reader() as reader:
            assert reader.read() == b"half of a down"
        spool.reset()
        for at in range(0, len(DATA), 7):
            spool.write(DATA[at : at + 7])
        assert spool.head == DATA[:32]
        assert spool.sha256 == hashlib.sha256(DATA).hexdigest()
        with spool.reader() as reader:
            assert reader.read(100) == DATA[:100]
        spool.write(b"more")  # goes to the end, although the reader stopped before
        assert spool.path.read_bytes() == DATA + b"more"


def test_bytes_have_a_limit(planned: Planner, spooled: Spooler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MAX_IMAGE_BYTES", 1000)
    with spooled(planned(), bytes(1000)) as spool, pytest.raises(BrokenImage, match="larger"):
        spool.write(b"x")


def test_a_closed_spool_takes_nothing(planned: Planner, spooled: Spooler, rescue: Path) -> None:
    spool = spooled(planned(), DATA)
    spool.discard()
    with pytest.raises(ValueError, match="closed"):
        spool.write(b"late, from a worker that was given up")
    spool.discard()
    assert not rescue.exists()


def test_an_older_temp_file_is_left_alone(planned: Planner, spooled: Spooler, folder: Path) -> None:
    (folder / ".chroma-t0-0.part").write_bytes(b"old")
    (folder / ".chroma-t0-0-1.part").symlink_to("k.png")
    with spooled(planned(), DATA) as spool:
        assert spool.path.name == ".chroma-t0-0-2.part"
    assert (folder / ".chroma-t0-0.part").read_bytes() == b"old"
    assert sweep(folder, "t0") == 2


@pytest.mark.parametrize("token", ["", "a/b", "a-b", "..", "x" * 65, "ü"])
def test_a_token_is_plain(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        temp_name(token, 0)


def test_a_sweep_takes_only_the_files_of_its_job(planned: Planner, folder: Path, rescue: Path) -> None:
    destination = planned("a/b/k{index}.png", samples=2)
    gone = ["a/b/.chroma-me-0.part", "a/b/.chroma-me-1-3.part", ".chroma-me-probe.part"]
    kept = ["a/b/.chroma-me2-0.part", "a/b/.chroma-me-0.png", "a/b/k1.png", ".chroma-other-probe.part"]
    (folder / "a/b").mkdir(parents=True)
    rescue.mkdir(parents=True)
    for name in gone + kept:
        (folder / name).touch()
    (rescue / ".chroma-me-0.part").touch()
    assert sweep_all(destination, "me", rescue_dir=str(rescue)) == 4
    assert listing(folder) == sorted(kept)
    assert listing(rescue) == []
    assert sweep(folder / "missing", "me") == 0


def test_what_a_dead_owner_left_can_be_taken_up(
    planned: Planner, spooled: Spooler, folder: Path, rescue: Path
) -> None:
    destination = planned("knight.png", samples=2)
    spooled(destination, DATA, 1).close()
    rescue.mkdir(parents=True)
    (rescue / temp_name("t0", 0, 4)).write_bytes(DATA + b"x")
    (rescue / temp_name("t0", "probe")).touch()
    saved = []
    for ordinal, path in leftovers(destination, "t0", rescue_dir=str(rescue)):
        with Spool(destination, token="t0", ordinal=ordinal, rescue_dir=str(rescue), adopt=path) as spool:
            assert spool.head == DATA[:32]
            saved.append(writer.place(spool, destination, INFO))
    assert [Path(one.path).name for one in saved] == ["knight-1.png", "knight-2.png"]
    assert saved[1].sha256 == hashlib.sha256(DATA).hexdigest()
    assert (folder / "knight-1.png").read_bytes() == DATA + b"x"
    assert sweep_all(destination, "t0", rescue_dir=str(rescue)) == 1
    assert listing(rescue) == []


@pytest.mark.parametrize("when", [0, 1, 5000, len(DATA) - 1])
def test_a_disk_that_fills_up_loses_no_byte(
    planned: Planner, spooled: Spooler, folder: Path, rescue: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    real = os.write
    spool = spooled(planned(), b"")
    first = spool._open()

    def write(descriptor: int, data: bytes) -> int:
        if descriptor != first:
            return real(descriptor, data)
        room = when - os.fstat(descriptor).st_size
        return real(descriptor, data[:room]) if room > 0 else full()

    with spool, monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        for at in range(0, len(DATA), 1000):
            spool.write(DATA[at : at + 1000])
        assert spool.in_haven
        assert spool.path.parent == rescue
        assert rescue.stat().st_mode & 0o777 == 0o700
        assert spool.path.read_bytes() == DATA
        assert spool.sha256 == hashlib.sha256(DATA).hexdigest()
        assert listing(folder) == []
        with pytest.raises(OutputError, match="disk is full") as caught:
            writer.place(spool, planned(), INFO)
    assert caught.value.rescued == str(rescue / "knight.png")
    assert (rescue / "knight.png").read_bytes() == DATA
    assert listing(rescue) == ["knight.png"]


def test_the_second_haven(planned: Planner, spooled: Spooler, tmp_path: Path, folder: Path) -> None:
    folder.rmdir()
    folder.touch()  # neither the target's folder nor the first haven can be made
    (tmp_path / "state").touch()
    with spooled(planned("sub/k.png"), DATA) as spool:
        assert spool.path.parent == tmp_path / "tmp"
        assert spool.trouble is not None


def test_no_haven_at_all(
    planned: Planner, spooled: Spooler, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spooled(planned(), DATA)
    (tmp_path / "state").touch()
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").touch()
    with spool, monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OutputError, match="anywhere: the disk is full"):
            spool.write(b"x")
        # What is there stays usable.
        assert spool.path.read_bytes() == DATA
        patched.undo()
        assert writer.place(spool, planned(), INFO).bytes == len(DATA)


def test_a_haven_that_fails_while_copying(
    planned: Planner, spooled: Spooler, rescue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spooled(planned(), DATA)
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        name = os.readlink(f"/proc/self/fd/{descriptor}") if Path("/proc/self/fd").exists() else ""
        return real(descriptor, data) if name.startswith(str(tmp_path / "tmp")) else full()

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to tell the files apart")
    with spool, monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        spool.write(b"end")
        assert spool.path.parent == tmp_path / "tmp"
        assert spool.path.read_bytes() == DATA + b"end"
    assert listing(rescue) == []


# --- the final name -------------------------------------------------------------------------------------


def test_a_picture_is_placed(
    planned: Planner, spooled: Spooler, folder: Path, picture: Callable[..., bytes]
) -> None:
    data = picture()
    destination = planned("new/knight.png", size=(64, 48))
    with spooled(destination, data) as spool:
        with spool.reader() as reader:
            info = verify(reader)
        saved = writer.place(spool, destination, info, url="https://example.invalid/1")
    assert saved.as_dict() == {
        "path": str(folder / "new" / "knight.png"),
        "url": "https://example.invalid/1",
        "format": "png",
        "width": 64,
        "height": 48,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert (saved.warnings, saved.displaced_from) == ((), None)
    assert listing(folder) == ["new/knight.png"]
    assert (folder / "new/knight.png").read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o777])
def test_the_mode_is_that_of_the_umask(planned: Planner, spooled: Spooler, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with spooled(planned(), DATA) as spool:
            with spool.reader() as reader:
                assert reader.read() == DATA
            saved = writer.place(spool, planned(), INFO)
    finally:
        os.umask(before)
    assert Path(saved.path).stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_order_of_the_steps(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    steps: list[str] = []

    def note(name: str, what: Callable[[object], str] = lambda _: "") -> None:
        real = getattr(os, name)

        def call(*args: object, **more: object) -> object:
            steps.append(name + what(args[0]))
            return real(*args, **more)

        monkeypatch.setattr(os, name, call)

    if overwrite:
        (folder / "knight.png").write_bytes(b"old")
    destination = planned(overwrite=overwrite)
    with spooled(destination, DATA) as spool:
        note("fsync", lambda it: " folder" if stat.S_ISDIR(os.fstat(it).st_mode) else " file")  # type: ignore[arg-type]
        for name in ("link", "rename", "replace"):
            note(name)
        writer.place(spool, destination, INFO)
    assert steps == ["fsync file", "replace" if overwrite else "link", "fsync folder"]


def test_new_folders_are_synced_too(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(disk, "sync_folder", lambda path: synced.append(str(path.relative_to(folder))))
    spooled(planned("a/b/k.png"), DATA).discard()
    assert synced == [".", "a"]


def test_a_file_that_appears_meanwhile_is_not_touched(
    planned: Planner, spooled: Spooler, folder: Path
) -> None:
    destination = planned("knight.png")
    with spooled(destination, DATA) as spool:
        (folder / "knight.png").write_bytes(b"theirs")
        (folder / "knight-1.png").symlink_to("nowhere")
        saved = writer.place(spool, destination, INFO)
    assert saved.path == str(folder / "knight-2.png")
    assert saved.displaced_from == str(folder / "knight.png")
    assert (folder / "knight.png").read_bytes() == b"theirs"
    assert not (folder / "nowhere").exists()


def test_a_template_just_takes_the_next_number(planned: Planner, spooled: Spooler, folder: Path) -> None:
    destination = planned("{slug}.png", samples=2)
    for ordinal in range(2):
        with spooled(destination, DATA, ordinal) as spool:
            (folder / "a-young-knight-1.png").write_bytes(b"theirs")
            saved = writer.place(spool, destination, INFO)
        assert saved.displaced_from is None
    assert listing(folder) == [f"a-young-knight-{number}.png" for number in (1, 2, 3)]


def test_a_number_promised_to_another_job_is_passed_over(
    planned: Planner, spooled: Spooler, folder: Path
) -> None:
    destination = planned("{slug}.png")
    other = planned("{slug}.png", promised=set(destination.promises()))
    with spooled(destination, DATA) as spool:
        (folder / "a-young-knight.png").write_bytes(b"theirs")
        promised = {*destination.promises(), *other.promises()}  # one's own promise is no obstacle
        saved = writer.place(spool, destination, INFO, promised=promised)
    assert Path(saved.path).name == "a-young-knight-2.png"


def test_more_pictures_than_asked_for(planned: Planner, spooled: Spooler, folder: Path) -> None:
    destination = planned("knight.png")
    for ordinal in range(3):
        with spooled(destination, DATA, ordinal) as spool:
            writer.place(spool, destination, INFO)
    assert listing(folder) == ["knight-1.png", "knight-2.png", "knight.png"]


def test_overwrite_replaces_files_and_links_to_files(
    planned: Planner, spooled: Spooler, folder: Path
) -> None:
    (folder / "real.png").write_bytes(b"old")
    (folder / "knight.png").symlink_to("real.png")
    destination = planned(overwrite=True)
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, INFO)
    assert not Path(saved.path).is_symlink()
    assert Path(saved.path).read_bytes() == DATA
    assert (folder / "real.png").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["folder", "dangling", "fifo"])
def test_overwrite_replaces_nothing_else(planned: Planner, spooled: Spooler, folder: Path, kind: str) -> None:
    destination = planned(overwrite=True)
    with spooled(destination, DATA) as spool:
        if kind == "folder":
            (folder / "knight.png").mkdir()
        elif kind == "fifo":
            os.mkfifo(folder / "knight.png")
        else:
            (folder / "knight.png").symlink_to("nowhere")
        saved = writer.place(spool, destination, INFO)
    assert saved.path == str(folder / "knight-1.png")
    assert saved.displaced_from == str(folder / "knight.png")


@pytest.mark.parametrize(
    ("output", "asked", "came", "expected"),
    [
        ("knight.png", "png", "jpeg", "knight.jpg"),
        ("knight.JPEG", "jpeg", "jpeg", "knight.JPEG"),
        ("knight.jpeg", "jpeg", "webp", "knight.webp"),
        ("knight", "png", "webp", "knight.webp"),
        ("{slug}.{ext}", "png", "jpeg", "a-young-knight.jpg"),
    ],
)
def test_the_ending_is_true(
    planned: Planner, spooled: Spooler, output: str, asked: str, came: str, expected: str
) -> None:
    destination = planned(output, image_format=asked)
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, ImageInfo(came, 64, 48))
    assert Path(saved.path).name == expected
    assert saved.displaced_from is None
    assert len(saved.warnings) == (asked != came)
    if asked != came:
        assert came in saved.warnings[0]
        assert expected in saved.warnings[0]


def test_the_true_ending_overwrites_nothing(planned: Planner, spooled: Spooler, folder: Path) -> None:
    (folder / "knight.jpg").write_bytes(b"never named")
    destination = planned("knight.png", overwrite=True)
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, ImageInfo("jpeg", 64, 48))
    assert Path(saved.path).name == "knight-1.jpg"
    assert (folder / "knight.jpg").read_bytes() == b"never named"


def test_another_size_is_a_warning(planned: Planner, spooled: Spooler) -> None:
    destination = planned(size=(1024, 768))
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, INFO)
    assert saved.warnings == ("knight.png: the picture is 64x48, not 1024x768 as asked.",)


def test_names_that_come_with_the_answer(planned: Planner, spooled: Spooler, folder: Path) -> None:
    destination = planned("{id}/{seed}.png", values={"seed": -1})
    with spooled(destination, DATA) as spool:
        assert spool.path.parent == folder
        saved = writer.place(spool, destination, INFO, late={"id": "abc", "seed": 5})
    assert saved.path == str(folder / "abc" / "5.png")
    with spooled(destination, DATA, late={"id": "abc", "seed": 6}) as spool:
        assert spool.path.parent == folder / "abc"
        assert writer.place(spool, destination, INFO).path == str(folder / "unknown" / "unknown.png")


def test_a_job_taken_over_finds_its_own_picture(planned: Planner, spooled: Spooler, folder: Path) -> None:
    destination = planned("knight.png")
    (folder / "knight.png").write_bytes(DATA)  # placed by the owner that died before it could say so
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, INFO, resumed=True)
    assert (saved.path, saved.displaced_from) == (str(folder / "knight.png"), None)
    assert listing(folder) == ["knight.png"]
    with spooled(destination, DATA + b"other") as spool:
        saved = writer.place(spool, destination, INFO, resumed=True)
    assert saved.displaced_from == str(folder / "knight.png")
    with spooled(destination, DATA) as spool:  # not taken over: somebody else's file, equal or not
        assert writer.place(spool, destination, INFO).displaced_from == str(folder / "knight.png")


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EACCES, None])
def test_a_file_system_without_links(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    def refuse(*_: object) -> None:
        assert code is not None
        raise OSError(code, os.strerror(code))

    destination = planned("knight.png")
    if code is None:
        monkeypatch.delattr(os, "link")
    else:
        monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        with spooled(destination, DATA) as spool:
            saved = writer.place(spool, destination, INFO)
    assert saved.displaced_from == str(folder / "knight.png")
    assert listing(folder) == ["knight-1.png", "knight.png"]


def test_a_link_whose_answer_was_lost(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "exists")

    monkeypatch.setattr(os, "link", link)
    with spooled(planned(), DATA) as spool:
        assert writer.place(spool, planned(), INFO).displaced_from is None
    assert listing(folder) == ["knight.png"]


def test_a_folder_on_another_disk(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    destination = planned("{id}/k.png")
    with spooled(destination, DATA) as spool:
        saved = writer.place(spool, destination, INFO, late={"id": "a"})
    assert Path(saved.path).read_bytes() == DATA
    assert listing(folder) == ["a/k.png"]


def test_a_system_that_renames_closed_files_only(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "CLOSE_BEFORE_MOVE", True)
    (folder / "a-young-knight.png").touch()
    destination = planned("{slug}.png", overwrite=False)
    with spooled(destination, DATA) as spool:
        (folder / "a-young-knight-1.png").touch()
        assert Path(writer.place(spool, destination, INFO).path).read_bytes() == DATA
    with spooled(destination, DATA) as spool, monkeypatch.context() as patched:
        patched.setattr(os, "link", full)
        with pytest.raises(OutputError) as caught:
            writer.place(spool, destination, INFO)
    assert Path(caught.value.rescued or "").exists() is True


# --- when it fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "link", "mkdir"])
def test_a_picture_that_cannot_be_placed_is_kept(
    planned: Planner,
    spooled: Spooler,
    folder: Path,
    rescue: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    destination = planned("{id}/knight.png" if step == "mkdir" else "knight.png")
    spool = spooled(destination, DATA)
    real = getattr(os, step)
    fail_on = str(folder)

    def fail(what: object, *args: object, **more: object) -> object:
        inside = step == "fsync" and what == first or str(what).startswith(fail_on)
        return full() if inside else real(what, *args, **more)

    first = spool._open()
    monkeypatch.setattr(os, step, fail)
    with spool, pytest.raises(OutputError, match="disk is full") as caught:
        writer.place(spool, destination, ImageInfo("jpeg", 64, 48), late={"id": "a"})
    assert caught.value.exit_code == 10
    assert caught.value.rescued == str(rescue / "knight.jpg")
    assert caught.value.rescued in caught.value.message
    assert (rescue / "knight.jpg").read_bytes() == DATA
    assert listing(folder) == []


def test_the_folder_is_deleted_meanwhile(
    planned: Planner, spooled: Spooler, folder: Path, rescue: Path
) -> None:
    destination = planned("sub/knight.png")
    with spooled(destination, DATA) as spool:
        spool.path.unlink()
        (folder / "sub").rmdir()
        with pytest.raises(OutputError, match="gone") as caught:
            writer.place(spool, destination, INFO)
    assert Path(caught.value.rescued or "").read_bytes() == DATA


def test_kept_pictures_do_not_replace_each_other(planned: Planner, spooled: Spooler, rescue: Path) -> None:
    kept = []
    for _ in range(3):
        with spooled(planned(), DATA) as spool:
            kept.append(Path(writer.keep(spool, planned(), INFO)).name)
    assert kept == ["knight.png", "knight-1.png", "knight-2.png"]
    assert listing(rescue) == sorted(kept)


def test_without_any_haven_it_stays_where_it_is(
    planned: Planner, spooled: Spooler, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").touch()
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").touch()
    destination = planned()
    with spooled(destination, DATA) as spool:
        monkeypatch.setattr(os, "link", full)
        with pytest.raises(OutputError) as caught:
            writer.place(spool, destination, INFO)
    assert caught.value.rescued is not None
    assert Path(caught.value.rescued).read_bytes() == DATA
    assert Path(caught.value.rescued).parent == folder


def test_a_folder_that_cannot_be_synced(
    planned: Planner, spooled: Spooler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with spooled(planned(), DATA) as spool:
        monkeypatch.setattr(disk, "sync_folder", fail)
        with pytest.raises(OutputError, match="could not be synced") as caught:
            writer.place(spool, planned(), INFO)
    assert caught.value.rescued == str(folder / "knight.png")
    assert (folder / "knight.png").read_bytes() == DATA


def test_a_folder_that_may_not_be_read_is_not_synced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    disk.sync_folder(folder)


def test_a_file_where_a_folder_should_be(folder: Path) -> None:
    (folder / "a").touch()
    with pytest.raises(NotADirectoryError):
        disk.make_folders(folder / "a" / "b")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.ENOTTY, "Odd Thing."), "odd thing"),
        (OSError("bare"), "bare"),
        (OSError(), "oserror"),
    ],
)
def test_errors_in_words(error: OSError, expected: str) -> None:
    assert disk.words(error) == expected


def test_what_cannot_be_synced_is_no_trouble(
    planned: Planner, spooled: Spooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)
    with spooled(planned(), DATA) as spool:
        assert writer.place(spool, planned(), INFO).bytes == len(DATA)


def test_broken_bytes_are_kept_beside_the_target(planned: Planner, spooled: Spooler, folder: Path) -> None:
    kept = []
    for _ in range(2):
        with spooled(planned(), b"\x89PNG cut") as spool:
            kept.append(writer.keep_broken(spool, planned()))
    assert kept == [str(folder / "knight.png.broken"), str(folder / "knight-1.png.broken")]
    with spooled(planned(), b"") as spool:
        assert writer.keep_broken(spool, planned()) is None
    assert listing(folder) == ["knight-1.png.broken", "knight.png.broken"]


def test_broken_bytes_under_the_longest_name(planned: Planner, spooled: Spooler, folder: Path) -> None:
    destination = planned("ü" * 125 + "x.png")
    with spooled(destination, b"cut") as spool:
        kept = writer.keep_broken(spool, destination)
    assert kept is not None
    assert kept.endswith(".png.broken")
    assert len(os.fsencode(Path(kept).name)) <= 255


def test_broken_bytes_without_a_place(
    planned: Planner, spooled: Spooler, rescue: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with spooled(planned(), b"cut") as spool:
        real = os.link
        monkeypatch.setattr(
            os,
            "link",
            lambda source, target: full() if Path(target).parent == folder else real(source, target),
        )
        assert writer.keep_broken(spool, planned()) == str(rescue / "knight.png.broken")
    with spooled(planned("-"), b"cut") as spool:
        assert writer.keep_broken(spool, planned("-")) == str(rescue / "a-young-knight-7.png.broken")


# --- stdout ---------------------------------------------------------------------------------------------


class Dribble(io.RawIOBase):
    """Takes three bytes at a time, and gives up after ``limit``."""

    def __init__(self, limit: int, error: BaseException | None = None) -> None:
        self.got = b""
        self.limit = limit
        self.error = error

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        if len(self.got) >= self.limit:
            if self.error is None:
                return None
            raise self.error
        piece = bytes(data)[:3]  # type: ignore[call-overload]
        self.got += piece
        return len(piece)


def test_the_bytes_on_stdout(planned: Planner, spooled: Spooler, folder: Path, rescue: Path) -> None:
    destination = planned("-", size=(1, 1))
    stream = Dribble(10**9)
    with spooled(destination, DATA) as spool:
        assert spool.in_haven
        assert spool.trouble is None
        saved = writer.to_stdout(spool, destination, INFO, stream)  # type: ignore[arg-type]
    assert stream.got == DATA
    assert saved.path == "-"
    assert len(saved.warnings) == 1
    assert listing(folder) == listing(rescue) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(errno.EPIPE, "x"), "nobody reads"),
        (OSError(errno.ENOSPC, "x"), "full"),
        (ValueError("closed"), "closed"),
        (None, "takes no more"),
    ],
)
def test_a_stdout_that_breaks(
    planned: Planner, spooled: Spooler, rescue: Path, error: BaseException | None, words: str
) -> None:
    destination = planned("-")
    with spooled(destination, DATA) as spool, pytest.raises(OutputError, match=words) as caught:
        writer.to_stdout(spool, destination, INFO, Dribble(100, error))  # type: ignore[arg-type]
    assert caught.value.rescued == str(rescue / "a-young-knight-7.png")
    assert Path(caught.value.rescued).read_bytes() == DATA


def test_an_interrupt_at_stdout_keeps_the_picture(planned: Planner, spooled: Spooler, rescue: Path) -> None:
    destination = planned("-")
    with spooled(destination, DATA) as spool, pytest.raises(KeyboardInterrupt) as caught:
        writer.to_stdout(spool, destination, INFO, Dribble(100, KeyboardInterrupt()))  # type: ignore[arg-type]
    assert str(rescue / "a-young-knight-7.png") in caught.value.__notes__[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_flush_counts(planned: Planner, spooled: Spooler, rescue: Path) -> None:
    destination = planned("-")
    raw = io.FileIO("/dev/full", "wb")
    stream = io.BufferedWriter(raw, 10**6)
    with spooled(destination, DATA) as spool, pytest.raises(OutputError, match="disk is full"):
        writer.to_stdout(spool, destination, INFO, stream)
    with pytest.raises(OSError, match="No space"):
        stream.close()
    assert listing(rescue) == ["a-young-knight-7.png"]


# --- many at once, and real disks -----------------------------------------------------------------------


def test_threads_that_want_one_name(planned: Planner, spooled: Spooler, folder: Path, rescue: Path) -> None:
    destination = planned("{slug}.png")
    start = threading.Barrier(8)

    def save(number: int) -> str:
        spool = Spool(destination, token=f"t{number}", ordinal=0, rescue_dir=str(rescue))
        with spool:
            spool.write(DATA + bytes([number]))
            start.wait(timeout=30)
            return writer.place(spool, destination, INFO).path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(save, range(8)))
    assert len(set(paths)) == 8
    assert {Path(path).read_bytes() for path in paths} == {DATA + bytes([number]) for number in range(8)}
    assert len(listing(folder)) == 8


SAVE = """
import sys
from chroma_cli.images import writer
from chroma_cli.images.decode import ImageInfo
from chroma_cli.images.destination import plan
from chroma_cli.images.spool import Spool
folder, rescue, number = sys.argv[1:]
settled = plan("{slug}.png", cwd=folder, values={"prompt": "x"}, samples=1, image_format="png", now=0.0)
with Spool(settled, token="p" + number, ordinal=0, rescue_dir=rescue) as spool:
    spool.write(number.encode() * 100_000)
    print("ready", flush=True)
    sys.stdin.readline()
    print(writer.place(spool, settled, ImageInfo("png", 1, 1)).path)
"""


@pytest.fixture
def saver(folder: Path, rescue: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """A process that has a picture and waits for a line before it places it."""
    started: list[subprocess.Popen[str]] = []

    def start(number: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE, str(folder), str(rescue), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_processes_that_want_one_name(saver: Callable[[int], subprocess.Popen[str]], folder: Path) -> None:
    processes = [saver(number) for number in range(8)]
    for process in processes:
        ready(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    paths = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert len(set(paths)) == 8
    for number, path in enumerate(paths):
        assert Path(path).read_text() == str(number) * 100_000
    assert len(listing(folder)) == 8


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_process_leaves_only_what_a_sweep_finds(
    saver: Callable[[int], subprocess.Popen[str]], folder: Path
) -> None:
    process = saver(5)
    ready(process)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert listing(folder) == [".chroma-p5-0.part"]
    assert sweep(folder, "p5") == 1
    assert listing(folder) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    try:
        made = subprocess.run(mount, capture_output=True)
    except OSError:
        pytest.skip("there is no mount program")
    if made.returncode:
        pytest.skip("may not mount a small disk here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_small_disk(planned: Planner, spooled: Spooler, rescue: Path, small_disk: Path) -> None:
    destination = planned("knight.png", cwd=str(small_disk))
    with pytest.raises(OutputError, match="disk is full"):
        preflight.check(destination, estimate=2_000_000, token="t", rescue_dir=str(rescue))
    preflight.check(destination, estimate=500_000, token="t", rescue_dir=str(rescue))
    assert listing(small_disk) == []
    data = os.urandom(1_500_000)
    with spooled(destination, data) as spool, pytest.raises(OutputError, match="disk is full") as caught:
        writer.place(spool, destination, INFO)
    assert Path(caught.value.rescued or "").read_bytes() == data
    assert listing(small_disk) == []


def test_a_read_only_disk(planned: Planner, spooled: Spooler, rescue: Path, small_disk: Path) -> None:
    destination = planned("knight.png", cwd=str(small_disk))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for output in ("knight.png", "sub/knight.png"):
        with pytest.raises(OutputError, match="read-only"):
            preflight.check(
                planned(output, cwd=str(small_disk)), estimate=1, token="t", rescue_dir=str(rescue)
            )
    with spooled(destination, DATA) as spool, pytest.raises(OutputError, match="read-only") as caught:
        writer.place(spool, destination, INFO)
    assert Path(caught.value.rescued or "").read_bytes() == DATA
