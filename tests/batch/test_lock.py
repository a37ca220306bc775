"""The lock beside a manifest, how files stand against it, what is removed: with honest and hostile locks."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_cli.errors import ChromaError, OutputError, UsageError
from chroma_cli.images import disk
from chroma_cli.jobs import upkeep
from chroma_cli.jobs.lock import Lock, request_digest
from chroma_cli.jobs.lockfile import VERSION
from chroma_cli.jobs.manifest import Image, Manifest, load
from chroma_cli.jobs.upkeep import Pruned, StatCache, State, inspect, leftovers

NOW = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = (tmp_path / "assets").resolve()
    made.mkdir()
    return made


@pytest.fixture
def manifest(folder: Path) -> Callable[..., Manifest]:
    """Write a manifest with these outputs (``name`` or ``name:more TOML``) and load it."""

    def make(*outputs: str, name: str = "art.toml", allow_outside: bool = False) -> Manifest:
        rows = [output.partition(":") for output in outputs]
        text = "".join(
            f'[[image]]\noutput = "{output}"\nprompt = "{Path(output).stem}"\n{more}\n'
            for output, _, more in rows
        )
        (folder / name).write_text(text)
        return load(
            folder / name,
            None,
            format="toml",
            presets={},
            allow_outside=allow_outside,
            cwd=folder,
            now=NOW,
        )

    return make


def put(path: Path, data: bytes = b"picture") -> dict[str, Any]:
    """A file as if it had been made; its object of the job's JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {
        "path": str(path),
        "url": None,
        "format": "png",
        "width": 8,
        "height": 6,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def made(lock: Lock, image: Image, data: bytes = b"picture", paths: Iterable[Path] | None = None) -> None:
    """Make an image and note it."""
    files = [put(path, data + path.name.encode()) for path in (image.paths if paths is None else paths)]
    lock.record(image, files, seed=image.request.seed, request_id="r-1", cost=0.055)


def states(manifest: Manifest, lock: Lock | None = None, *, deep: bool = False) -> list[State]:
    """How all images stand by the lock on disk (or this one), without any memory of files."""
    lock = Lock.load(manifest) if lock is None else lock
    cache = StatCache(None)
    return [inspect(image, lock, deep=deep, stat_cache=cache) for image in manifest.images]


def prune(lock: Lock, manifest: Manifest) -> Pruned:
    """Remove what the manifest dropped, by a person who says yes."""
    return upkeep.prune(lock, manifest, (), lambda _paths: True)


# --- the file ----------------------------------------------------------------------------------------------


def test_what_is_recorded_comes_back(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("sub/a.png", "b.png:samples = 2")
    lock = Lock.load(art)
    for image in art.images:
        made(lock, image)
    assert not (folder / "art.lock.json").exists()
    lock.save()
    again = Lock.load(art)
    for image in art.images:
        entry = again.entry(image)
        assert entry is not None
        assert entry == lock.entry(image)
        assert entry.request == request_digest(image.request)
        assert [folder / file.path for file in entry.files] == list(image.paths)


def test_the_file_is_sorted_stable_and_bare_of_place_and_time(
    manifest: Callable[..., Manifest], folder: Path
) -> None:
    art = manifest("é.png", "b.png")
    forward, backward = Lock.load(art), Lock.load(art)
    for image in art.images:
        made(forward, image)
    for image in reversed(art.images):
        made(backward, image)
    forward.save()
    first = (folder / "art.lock.json").read_bytes()
    backward.save()
    assert (folder / "art.lock.json").read_bytes() == first
    text = first.decode()
    assert text.endswith("}\n")
    assert "é.png" in text
    assert str(folder) not in text
    document = json.loads(text)
    assert document["version"] == VERSION
    assert document["manifest"] == "art.toml"
    assert list(document["images"]) == ["b.png", "é.png"]
    assert text == json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert sorted(document["images"]["b.png"]) == ["cost", "files", "request", "request_id", "seed"]
    assert sorted(document["images"]["b.png"]["files"][0]) == [
        "bytes",
        "format",
        "height",
        "path",
        "sha256",
        "width",
    ]


def test_an_unchanged_lock_is_not_written_again(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    before = (folder / "art.lock.json").stat()
    again = Lock.load(art)
    again.save()
    made(again, art.images[0])
    again.save()
    after = (folder / "art.lock.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_nothing_made_leaves_no_lock(manifest: Callable[..., Manifest], folder: Path) -> None:
    Lock.load(manifest("a.png")).save()
    assert sorted(path.name for path in folder.iterdir()) == ["art.toml"]


def test_stdin_has_no_lock(folder: Path) -> None:
    text = io.BytesIO(b'{"prompt": "x", "output": "a.png"}')
    found = load(None, text, format=None, presets={}, allow_outside=False, cwd=folder, now=NOW)
    with pytest.raises(UsageError, match="stdin has no lock"):
        Lock.load(found)
    cache = StatCache.load(folder, found)
    assert inspect(found.images[0], None, deep=False, stat_cache=cache) == "missing"
    put(folder / "a.png")
    assert inspect(found.images[0], None, deep=False, stat_cache=cache) == "foreign"
    cache.save()
    assert sorted(path.name for path in folder.iterdir()) == ["a.png"]


def test_a_failed_write_keeps_the_old_lock_and_leaves_nothing(
    manifest: Callable[..., Manifest], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    art = manifest("a.png", "b.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    before = (folder / "art.lock.json").read_bytes()
    made(lock, art.images[1])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_file", full)
        with pytest.raises(OutputError, match="the disk is full"):
            lock.save()
    assert (folder / "art.lock.json").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    lock.save()
    assert len(json.loads((folder / "art.lock.json").read_text())["images"]) == 2


def test_a_link_that_appears_is_replaced_not_followed(
    manifest: Callable[..., Manifest], folder: Path, tmp_path: Path
) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "art.lock.json").symlink_to(victim)
    lock.save()
    assert victim.read_text() == "mine"
    assert not (folder / "art.lock.json").is_symlink()


def test_many_threads_record_and_save(manifest: Callable[..., Manifest]) -> None:
    art = manifest(*(f"{number}.png" for number in range(40)))
    lock = Lock.load(art)

    def work(images: tuple[Image, ...]) -> None:
        for image in images:
            made(lock, image)
            lock.save()

    threads = [threading.Thread(target=work, args=(art.images[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(states(art)) == {"unchanged"}


# --- shards ------------------------------------------------------------------------------------------------


def test_each_shard_writes_its_own_file_and_reads_all(
    manifest: Callable[..., Manifest], folder: Path
) -> None:
    art = manifest("a.png", "b.png", "c.png")
    first, second = Lock.load(art, (1, 2)), Lock.load(art, (2, 2))
    made(first, art.images[0])
    made(second, art.images[1])
    first.save()
    second.save()
    locks = sorted(path.name for path in folder.glob("*.lock.json"))
    assert locks == ["art.1-of-2.lock.json", "art.2-of-2.lock.json"]
    assert states(art) == ["unchanged", "unchanged", "missing"]
    assert states(art, Lock.load(art, (1, 2))) == ["unchanged", "unchanged", "missing"]


def test_other_names_are_no_locks_of_this_manifest(manifest: Callable[..., Manifest], folder: Path) -> None:
    for name in ("art2.lock.json", "art.x-of-2.lock.json", "art.1-of-2.lock.json.bak", "xart.lock.json"):
        (folder / name).write_text("garbage")
    assert Lock.load(manifest("a.png")).keys == frozenset()


def test_the_own_entry_comes_first_unless_another_one_matches(manifest: Callable[..., Manifest]) -> None:
    old, new = manifest("a.png:cfg = 5"), manifest("a.png:cfg = 6")
    whole, part = Lock.load(old), Lock.load(old, (1, 2))
    made(whole, old.images[0], b"old")
    whole.save()
    part = Lock.load(new, (1, 2))
    made(part, new.images[0], b"new")
    part.save()
    for art, state in ((new, "unchanged"), (old, "changed-request")):
        for shard in (None, (1, 2)):
            lock = Lock.load(art, shard)
            entry = lock.entry(art.images[0])
            assert entry is not None
            assert entry.request == request_digest(art.images[0].request)
            # The old entry matches the old request, but the file is the new one: ours, to be made anew.
            assert states(art, lock) == [state]


# --- how an image stands -----------------------------------------------------------------------------------


def test_an_image_goes_through_all_states(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    assert states(art) == ["missing"]
    put(folder / "a.png", b"somebody's")
    assert states(art) == ["foreign"]
    (folder / "a.png").unlink()
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    assert states(art) == ["unchanged"]
    assert states(manifest("a.png:cfg = 5")) == ["changed-request"]
    (folder / "a.png").write_bytes(b"by hand")
    assert states(art) == ["edited"]
    assert states(manifest("a.png:cfg = 5")) == ["edited"]
    (folder / "a.png").unlink()
    assert states(art) == ["missing"]
    assert states(manifest("a.png:cfg = 5")) == ["missing"]


@pytest.mark.parametrize(
    "option", ["steps = 41", "seed = 5", "base64 = true", "quality = 90", "size = '800x800'"]
)
def test_the_full_request_counts(manifest: Callable[..., Manifest], option: str) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    assert states(manifest(f"a.png:{option}")) == ["changed-request"]
    assert states(manifest("a.png")) == ["unchanged"]


def test_every_sample_counts(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png:samples = 3")
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    assert states(art) == ["unchanged"]
    (folder / "a-2.png").unlink()
    assert states(art) == ["missing"]
    put(folder / "a-2.png", b"other")
    assert states(art) == ["edited"]


def test_a_foreign_sample_beside_our_own(manifest: Callable[..., Manifest], folder: Path) -> None:
    one = manifest("a-1.png", "b.png")
    lock = Lock.load(one)
    made(lock, one.images[0])
    lock.save()
    assert states(manifest("a.png:samples = 2")) == ["foreign"]


def test_a_picture_that_came_in_another_format(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0], paths=[folder / "a.jpg"])
    lock.save()
    assert states(art) == ["unchanged"]
    (folder / "a.jpg").write_bytes(b"by hand")
    assert states(art) == ["edited"]
    (folder / "a.jpg").unlink()
    assert states(art) == ["missing"]


def test_what_is_no_file_is_never_ours(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    (folder / "a.png").rename(folder / "b.png")
    (folder / "a.png").symlink_to("b.png")
    assert states(art, lock) == ["edited"]
    (folder / "a.png").unlink()
    os.mkfifo(folder / "a.png")
    assert states(art, lock) == ["edited"]
    (folder / "a.png").unlink()
    (folder / "a.png").mkdir()
    assert states(art, lock) == ["edited"]


def test_a_parent_that_became_a_file(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("sub/a.png")
    (folder / "sub").write_text("x")
    assert states(art) == ["missing"]


def test_outside_images_are_found_again(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("../other/a.png", allow_outside=True)
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    assert "../other/a.png" in json.loads((folder / "art.lock.json").read_text())["images"]
    assert states(art) == ["unchanged"]


# --- the memory of sizes and times -------------------------------------------------------------------------


def test_unchanged_files_are_not_read_again(
    manifest: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    art = manifest("a.png", "b.png")
    lock = Lock.load(art)
    for image in art.images:
        made(lock, image)
    state_dir = tmp_path / "state"
    reads: list[str] = []
    original = StatCache._read

    def counting(self: StatCache, path: str) -> str:
        reads.append(path)
        return original(self, path)

    monkeypatch.setattr(StatCache, "_read", counting)

    def look(*, deep: bool = False) -> list[State]:
        reads.clear()
        cache = StatCache.load(state_dir, art)
        found = [inspect(image, lock, deep=deep, stat_cache=cache) for image in art.images]
        cache.save()
        return found

    assert look() == ["unchanged", "unchanged"]
    assert len(reads) == 2
    assert look() == ["unchanged", "unchanged"]
    assert reads == []
    assert look(deep=True) == ["unchanged", "unchanged"]
    assert len(reads) == 2
    path = art.images[0].paths[0]
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look() == ["edited", "unchanged"]  # the size and the time are the old ones, the inode's is not
    assert reads == [str(path)]


def test_a_file_that_was_just_written_is_remembered(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    art = manifest("a.png")
    path = art.images[0].paths[0]
    sha = put(path)["sha256"]
    cache = StatCache.load(tmp_path / "state", art)
    cache.remember(path, sha)
    cache.remember(path.with_name("gone.png"), sha)
    cache.save()
    again = StatCache.load(tmp_path / "state", art)
    assert again.sha256(str(path), deep=False) == sha
    assert str(path) in again._known


def test_two_processes_keep_what_the_other_noted(manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    art = manifest("a.png", "b.png")
    caches = [StatCache.load(tmp_path / "state", art) for _ in range(2)]
    for cache, image in zip(caches, art.images, strict=True):
        put(image.paths[0])
        cache.sha256(str(image.paths[0]), deep=False)
        cache.save()
    assert len(StatCache.load(tmp_path / "state", art)._known) == 2
    art.images[0].paths[0].unlink()
    caches[1].sha256(str(art.images[1].paths[0]), deep=True)
    caches[1].save()
    assert len(StatCache.load(tmp_path / "state", art)._known) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "files": {}}',
        '{"version": 1, "files": []}',
        '{"version": 1}',
        "[" * 9999,
    ]
    + ['{"version": 1, "files": {"a": [], "b": 1, "c": [1, 2]}}', "\x00"],
)
def test_a_damaged_memory_is_none(manifest: Callable[..., Manifest], tmp_path: Path, text: str) -> None:
    art = manifest("a.png")
    put(art.images[0].paths[0])
    cache = StatCache.load(tmp_path / "state", art)
    cache.sha256(str(art.images[0].paths[0]), deep=False)
    cache.save()
    (file,) = (tmp_path / "state" / "batch").iterdir()
    file.write_text(text)
    again = StatCache.load(tmp_path / "state", art)
    assert again._known == {}
    assert again.sha256(str(art.images[0].paths[0]), deep=False) == hashlib.sha256(b"picture").hexdigest()


def test_a_memory_that_cannot_be_written_is_no_error(
    manifest: Callable[..., Manifest], tmp_path: Path
) -> None:
    art = manifest("a.png")
    (tmp_path / "state").write_text("a file")
    cache = StatCache.load(tmp_path / "state", art)
    put(art.images[0].paths[0])
    assert cache.sha256(str(art.images[0].paths[0]), deep=False)
    cache.save()
    assert (tmp_path / "state").read_text() == "a file"


# --- left over ---------------------------------------------------------------------------------------------


@pytest.fixture
def three(manifest: Callable[..., Manifest]) -> Manifest:
    """A manifest of three images that are all made."""
    art = manifest("a.png", "sub/b.png", "c.png")
    lock = Lock.load(art)
    for image in art.images:
        made(lock, image)
    lock.save()
    return art


def test_what_the_manifest_dropped_is_left_over_and_pruned(
    three: Manifest, manifest: Callable[..., Manifest], folder: Path
) -> None:
    assert leftovers(Lock.load(three), three) == ()
    less = manifest("a.png")
    lock = Lock.load(less)
    assert [one.name for one in leftovers(lock, less)] == ["c.png", "sub/b.png"]
    result = prune(lock, less)
    assert result.removed == (folder / "c.png", folder / "sub" / "b.png")
    assert result.kept == ()
    lock.save()
    assert (folder / "a.png").exists()
    assert not (folder / "c.png").exists()
    assert list(json.loads((folder / "art.lock.json").read_text())["images"]) == ["a.png"]
    assert leftovers(Lock.load(less), less) == ()
    assert states(less) == ["unchanged"]


def test_a_leftover_that_was_changed_is_kept_and_forgotten(
    three: Manifest, manifest: Callable[..., Manifest], folder: Path
) -> None:
    (folder / "c.png").write_bytes(b"by hand")
    less = manifest("a.png", "sub/b.png")
    lock = Lock.load(less)
    result = prune(lock, less)
    assert result.removed == ()
    assert result.kept == ((folder / "c.png", "it was changed since it was made"),)
    assert (folder / "c.png").read_bytes() == b"by hand"
    lock.save()
    assert leftovers(Lock.load(less), less) == ()


def test_a_file_that_is_gone_is_not_left_over(
    three: Manifest, manifest: Callable[..., Manifest], folder: Path
) -> None:
    (folder / "c.png").unlink()
    less = manifest("a.png", "sub/b.png")
    assert leftovers(Lock.load(less), less) == ()


def test_prune_never_goes_through_a_link(
    three: Manifest, manifest: Callable[..., Manifest], folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (folder / "sub").rename(outside)
    (folder / "sub").symlink_to(outside)
    (folder / "c.png").rename(outside / "c.png")
    (folder / "c.png").symlink_to(outside / "c.png")
    less = manifest("a.png")
    result = prune(Lock.load(less), less)
    assert result.removed == ()
    assert [why for _, why in result.kept] == ["it is behind a link"] * 2
    assert sorted(path.name for path in outside.iterdir()) == ["b.png", "c.png"]


def test_a_file_under_another_spelling_of_a_current_output_stays(
    manifest: Callable[..., Manifest], folder: Path
) -> None:
    (folder / "real").mkdir()
    (folder / "alias").symlink_to("real")
    before = manifest("real/a.png")
    lock = Lock.load(before)
    made(lock, before.images[0])
    lock.save()
    after = manifest("alias/a.png")
    assert leftovers(Lock.load(after), after) == ()
    assert prune(Lock.load(after), after).removed == ()


def test_files_of_an_earlier_request_are_left_over(manifest: Callable[..., Manifest], folder: Path) -> None:
    one = manifest("a.png")
    lock = Lock.load(one)
    made(lock, one.images[0])
    lock.save()
    three = manifest("a.png:samples = 3")
    lock = Lock.load(three)
    made(lock, three.images[0])
    lock.save()
    lock = Lock.load(three)
    assert [one.name for one in leftovers(lock, three)] == ["a.png"]
    assert prune(lock, three).removed == (folder / "a.png",)
    lock.save()
    assert "left" not in json.loads((folder / "art.lock.json").read_text())
    # and back again: what was left over becomes what is wanted
    lock = Lock.load(one)
    made(lock, one.images[0])
    assert sorted(left.name for left in leftovers(lock, one)) == ["a-1.png", "a-2.png", "a-3.png"]


def test_one_that_cannot_be_removed_stays_known(
    three: Manifest, manifest: Callable[..., Manifest], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = manifest("a.png", "c.png")
    lock = Lock.load(less)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert prune(lock, less).kept == ((folder / "sub" / "b.png", "permission denied"),)
    assert [one.name for one in leftovers(lock, less)] == ["sub/b.png"]
    assert prune(lock, less).removed == (folder / "sub" / "b.png",)


def test_a_shard_prunes_files_but_writes_only_its_own_lock(
    manifest: Callable[..., Manifest], folder: Path
) -> None:
    art = manifest("a.png", "b.png")
    whole, part = Lock.load(art), Lock.load(art, (1, 2))
    made(whole, art.images[0])
    made(part, art.images[1])
    whole.save()
    part.save()
    before = (folder / "art.lock.json").read_bytes()
    other = manifest("c.png")
    lock = Lock.load(other, (1, 2))
    assert len(prune(lock, other).removed) == 2
    lock.save()
    assert (folder / "art.lock.json").read_bytes() == before
    assert json.loads((folder / "art.1-of-2.lock.json").read_text())["images"] == {}
    lock = Lock.load(other)
    assert leftovers(lock, other) == ()
    prune(lock, other)
    lock.save()
    assert json.loads((folder / "art.lock.json").read_text())["images"] == {}


# --- hostile locks -----------------------------------------------------------------------------------------


def document(**changes: Any) -> dict[str, Any]:
    file = {"path": "a.png", "sha256": "0" * 64, "format": "png", "width": 8, "height": 6, "bytes": 7}
    entry = {"request": "0" * 64, "seed": 5, "request_id": "r", "cost": 0.055, "files": [file]}
    file.update({key[5:]: value for key, value in changes.items() if key.startswith("file_")})
    entry.update({key[6:]: value for key, value in changes.items() if key.startswith("entry_")})
    top = {"version": 1, "manifest": "art.toml", "images": {changes.get("key", "a.png"): entry}}
    top.update({key[4:]: value for key, value in changes.items() if key.startswith("top_")})
    return top


def test_the_plain_document_is_fine(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    (folder / "art.lock.json").write_text(json.dumps(document()))
    assert Lock.load(art).keys == {"a.png"}


BAD_PATHS = [
    "/etc/x.png",
    "../../x/..",
    "x/../../y.png",
    "a//b.png",
    "./a.png",
    "",
    "..",
    "a\0.png",
    "a\n.png",
    "\ud800.png",
    5,
    None,
]


@pytest.mark.parametrize(
    "changes",
    [
        *({"file_path": path} for path in BAD_PATHS),
        *({"key": path} for path in BAD_PATHS if isinstance(path, str)),
        *({"top_left": {path: "0" * 64}} for path in BAD_PATHS if isinstance(path, str)),
        {"file_path": "art.toml"},
        {"file_path": ".png"},
        {"top_left": {"art.toml": "0" * 64}},
        {"top_left": {"a.png": "x"}},
        {"top_left": []},
        {"file_sha256": "0" * 63},
        {"file_sha256": "G" * 64},
        {"file_sha256": 5},
        {"file_format": "gif"},
        {"file_format": []},
        {"file_width": 0},
        {"file_width": True},
        {"file_height": 1.5},
        {"file_bytes": 2**63},
        {"file_bytes": "7"},
        {"entry_request": None},
        {"entry_seed": "5"},
        {"entry_seed": -2},
        {"entry_request_id": "../x"},
        {"entry_request_id": 5},
        {"entry_cost": -1},
        {"entry_cost": "1"},
        {"entry_cost": True},
        {"entry_files": {}},
        {"entry_files": [5]},
        {"top_images": []},
        {"top_images": {"a.png": 5}},
        {"top_version": 0},
        {"top_version": True},
        {"top_version": "1"},
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(
    manifest: Callable[..., Manifest], folder: Path, changes: dict[str, Any]
) -> None:
    art = manifest("a.png")
    (folder / "art.lock.json").write_text(json.dumps(document(**changes)))
    with pytest.raises(UsageError, match=r"art\.lock\.json is damaged") as caught:
        Lock.load(art)
    assert "version control" in str(caught.value.hint)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": NaN}',
        b"<<<<<<< HEAD\n{}\n",
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_damaged_lock_is_refused_with_advice(
    manifest: Callable[..., Manifest], folder: Path, data: bytes
) -> None:
    art = manifest("a.png")
    (folder / "art.2-of-3.lock.json").write_bytes(data)
    with pytest.raises(UsageError, match="damaged") as caught:
        Lock.load(art)
    assert caught.value.hint


def test_a_lock_of_a_newer_version(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    (folder / "art.lock.json").write_text('{"version": 2, "anything": []}')
    with pytest.raises(UsageError, match="newer chroma") as caught:
        Lock.load(art)
    assert caught.value.hint == "Update chroma."


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "folder"])
def test_a_lock_that_is_no_file(
    manifest: Callable[..., Manifest], folder: Path, tmp_path: Path, kind: str
) -> None:
    art = manifest("a.png")
    path = folder / "art.lock.json"
    (tmp_path / "elsewhere").write_text(json.dumps(document()))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with pytest.raises(OutputError, match=r"art\.lock\.json"):
        Lock.load(art)


def test_two_manifests_do_not_share_a_lock(manifest: Callable[..., Manifest], folder: Path) -> None:
    art = manifest("a.png")
    lock = Lock.load(art)
    made(lock, art.images[0])
    lock.save()
    other = manifest("b.png", name="art.csv")
    with pytest.raises(UsageError, match=r"belongs to the manifest art\.toml"):
        Lock.load(other)
    (folder / "art.toml").unlink()
    assert Lock.load(other).keys == {"a.png"}  # it was only renamed


def test_a_hostile_lock_leads_nowhere_else(
    manifest: Callable[..., Manifest], folder: Path, tmp_path: Path
) -> None:
    """Paths of the right shape, and with the right sha256, that are not where the manifest's images are."""
    secret = put(tmp_path / "secret" / "s.png")
    (folder / "way").symlink_to(tmp_path / "secret")
    photo = put(folder / "photos" / "mine.png")
    art = manifest("a.png")
    for path in ("../secret/s.png", "way/s.png", "photos/mine.png"):
        digest = request_digest(art.images[0].request)
        hostile = document(entry_request=digest, file_path=path, file_sha256=secret["sha256"])
        (folder / "art.lock.json").write_text(json.dumps(hostile))
        assert states(art) == ["missing"]
    hostile = document(key="gone.png", file_path="../secret/s.png", file_sha256=secret["sha256"])
    hostile["left"] = {"way/s.png": {"request": digest, "sha256": secret["sha256"]}}
    (folder / "art.lock.json").write_text(json.dumps(hostile))
    result = prune(Lock.load(art), art)
    assert result.removed == ()
    assert Path(secret["path"]).exists()
    assert Path(photo["path"]).exists()


@given(
    data=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda more: (
            st.lists(more, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["version", "images", "left", "files", "path", "request", "manifest", "a.png"]
                ),
                more,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps({"version": 1, "images": value, "left": value}).encode())
)
def test_any_lock_is_read_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.toml").write_text('[[image]]\noutput = "a.png"\nprompt = "x"\n')
    (folder / "any.lock.json").write_bytes(data)
    art = load(folder / "any.toml", None, format=None, presets={}, allow_outside=False, cwd=folder, now=NOW)
    try:
        lock = Lock.load(art)
    except ChromaError as error:
        assert error.exit_code == 2
    else:
        assert states(art, lock) == ["missing"]
        assert leftovers(lock, art) == ()


def test_the_lock_gets_the_mode_of_the_umask(manifest: Callable[..., Manifest], folder: Path) -> None:
    old = os.umask(0o027)
    try:
        art = manifest("a.png")
        lock = Lock.load(art)
        made(lock, art.images[0])
        lock.save()
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "art.lock.json").stat().st_mode) == 0o640
