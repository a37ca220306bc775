"""The lock beside a manifest: what stands in it, how files stand against it, and what is left over."""

from __future__ import annotations

import json
import os
import stat

import pytest


@pytest.fixture
def states(chroma):
    """``states()`` is how the images stand that ``--check`` finds fault with, by their output."""

    def check(manifest: str = "list.jsonl", *more: str) -> dict[str, str]:
        ended = chroma("batch", manifest, "--check", *more, "--json")
        found = {one["output"]: one["state"] for one in ended.json}
        assert ended.code == (1 if found else 0), ended.said
        return found

    return check


@pytest.fixture
def made(chroma, gateway, listing):
    """``made("a", "b", cfg=5)`` writes the manifest and makes its images."""

    def make(*names: str, argv: tuple[str, ...] = (), **more: object) -> None:
        listing(*names, **more)
        ended = chroma("batch", "list.jsonl", *argv)
        assert ended.code == 0, ended.said

    return make


def locked(work, name: str = "list.lock.json"):
    return json.loads((work / name).read_text())


def edit(path) -> None:
    """Change a file by hand, and leave its size."""
    path.write_bytes(path.read_bytes()[::-1])


# --- what stands in it -------------------------------------------------------------------------------------


def test_it_is_sorted_readable_and_bare_of_place_and_time(made, gateway, work):
    made("é", "b", argv=("--jobs", "1"))
    text = (work / "list.lock.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert text == json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert str(work) not in text
    assert document["manifest"] == "list.jsonl"
    assert list(document["images"]) == ["b.png", "é.png"]
    entry = document["images"]["b.png"]
    [job] = gateway.jobs("b")
    assert sorted(entry) == ["cost", "files", "request", "request_id", "seed"]
    assert (entry["cost"], entry["request_id"], entry["seed"]) == (0.055, job.id, job.body["seed"])
    [file] = entry["files"]
    assert sorted(file) == ["bytes", "format", "height", "path", "sha256", "width"]


def test_an_unchanged_lock_is_not_written_again(made, work):
    made("a")
    before = (work / "list.lock.json").stat()
    made("a")
    after = (work / "list.lock.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_it_has_the_mode_of_the_umask(made, work):
    old = os.umask(0o027)
    try:
        made("a")
    finally:
        os.umask(old)
    assert stat.S_IMODE((work / "list.lock.json").stat().st_mode) == 0o640


def test_a_link_that_appears_is_replaced_not_followed(gateway, process, listing, work, tmp_path):
    listing("a")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    with gateway.hold("file", prompt="a") as hold:
        started = process.start("batch", "list.jsonl")
        hold.wait()
        (work / "list.lock.json").unlink(missing_ok=True)
        (work / "list.lock.json").symlink_to(victim)
    assert started.end().code == 0
    assert victim.read_text() == "mine"
    assert not (work / "list.lock.json").is_symlink()
    assert list(locked(work)["images"]) == ["a.png"]


# --- shares ------------------------------------------------------------------------------------------------


def test_each_share_writes_its_own_file_and_all_are_read(made, states, listing, work):
    made("a", "b", argv=("--shard", "1/2"))
    listing("a", "b", "c")
    assert len(states()) == 2
    made("a", "b", argv=("--shard", "2/2"))
    listing("a", "b", "c")
    assert sorted(path.name for path in work.glob("*.lock.json")) == [
        "list.1-of-2.lock.json",
        "list.2-of-2.lock.json",
    ]
    assert states() == {"c.png": "missing"}


def test_other_names_are_no_locks_of_this_manifest(states, listing, work):
    for name in ("list2.lock.json", "list.x-of-2.lock.json", "list.1-of-2.lock.json.bak", "xlist.lock.json"):
        (work / name).write_text("garbage")
    listing("a")
    assert states() == {"a.png": "missing"}


def test_of_two_entries_the_one_that_fits_counts(made, states, listing):
    made("a", cfg=5)
    made("a", cfg=6, argv=("--shard", "1/1"))  # in a lock of its own; the other still has the old request
    assert states() == {}
    listing("a", cfg=5)
    assert states() == {"a.png": "changed-request"}


def test_two_manifests_do_not_share_a_lock(chroma, made, states, work):
    made("a")
    (work / "list.csv").write_text("output,prompt\nb.png,b\n")
    ended = chroma("batch", "list.csv", "--check", "--json")
    assert ended.code == 2
    assert "belongs to the manifest list.jsonl" in ended.error["message"]
    (work / "list.jsonl").rename(work / "list.toml.old")  # it was only renamed
    assert states("list.csv") == {"b.png": "missing", "a.png": "left-over"}


# --- how an image stands -----------------------------------------------------------------------------------


def test_an_image_goes_through_all_states(made, states, listing, work):
    listing("a")
    assert states() == {"a.png": "missing"}
    (work / "a.png").write_bytes(b"somebody's")
    assert states() == {"a.png": "foreign"}
    (work / "a.png").unlink()
    made("a")
    assert states() == states("list.jsonl", "--deep") == {}
    listing("a", cfg=5)
    assert states() == {"a.png": "changed-request"}
    (work / "a.png").write_bytes(b"by hand")
    assert states() == {"a.png": "edited"}
    listing("a")
    assert states() == {"a.png": "edited"}
    (work / "a.png").unlink()
    assert states() == {"a.png": "missing"}


@pytest.mark.parametrize(
    "option", [{"steps": 41}, {"seed": 5}, {"base64": True}, {"quality": 90}, {"size": "800x800"}], ids=str
)
def test_the_whole_request_counts(made, states, listing, option):
    made("a")
    listing("a", **option)
    assert states() == {"a.png": "changed-request"}
    listing("a")
    assert states() == {}


def test_a_change_that_keeps_the_size_is_found_by_reading(made, states, work):
    made("a", "b")
    edit(work / "a.png")
    assert states("list.jsonl", "--deep") == {"a.png": "edited"}


def test_a_change_that_keeps_the_size_is_never_overwritten(made, chroma, gateway, listing, work):
    made("a")
    edit(work / "a.png")
    before = (work / "a.png").read_bytes()
    listing("a", cfg=5)
    assert chroma("batch", "list.jsonl").code == 10
    assert (work / "a.png").read_bytes() == before
    listing("b")
    chroma("batch", "list.jsonl", "--prune")
    assert (work / "a.png").read_bytes() == before
    assert gateway.posts("a") == 1


def test_every_sample_counts(made, states, work):
    made("a", samples=3)
    kept = (work / "a-2.png").read_bytes()
    (work / "a-2.png").unlink()
    assert states() == {"a.png": "missing"}
    (work / "a-2.png").write_bytes(kept + b"more")
    assert states() == {"a.png": "edited"}


def test_one_of_ours_in_the_place_of_a_sample(made, states, listing):
    made("a-1")
    listing("a", samples=2)
    assert states()["a.png"] == "foreign"


def test_what_is_no_file_is_never_ours(made, states, work):
    made("a")
    place = work / "a.png"
    place.rename(work / "b.png")
    place.symlink_to("b.png")
    assert states() == {"a.png": "edited"}
    place.unlink()
    os.mkfifo(place)
    assert states() == {"a.png": "edited"}
    place.unlink()
    place.mkdir()
    assert states() == {"a.png": "edited"}


def test_a_parent_that_became_a_file(states, listing, work):
    listing("sub/a")
    (work / "sub").write_text("x")
    assert states() == {"sub/a.png": "missing"}


def test_images_outside_are_found_again(made, states, work):
    made("../other/a", argv=("--allow-outside",))
    assert list(locked(work)["images"]) == ["../other/a.png"]
    assert states("list.jsonl", "--allow-outside") == {}


# --- left over ---------------------------------------------------------------------------------------------


def test_what_was_dropped_is_removed_with_its_entry(made, chroma, states, listing, work):
    made("a", "sub/b", "c")
    listing("a")
    assert states() == {"c.png": "left-over", "sub/b.png": "left-over"}
    assert chroma("batch", "list.jsonl", "--prune").code == 0
    assert [path.name for path in work.rglob("*.png")] == ["a.png"]
    assert list(locked(work)["images"]) == ["a.png"]
    assert states() == {}


def test_a_leftover_that_was_changed_is_kept_and_forgotten(made, chroma, states, listing, work):
    made("a", "c")
    (work / "c.png").write_bytes(b"by hand")
    listing("a")
    pruned = chroma("batch", "list.jsonl", "--prune")
    assert "it was changed since it was made" in pruned.err
    assert (work / "c.png").read_bytes() == b"by hand"
    assert states() == {}


def test_a_file_that_is_gone_is_not_left_over(made, states, listing, work):
    made("a", "c")
    (work / "c.png").unlink()
    listing("a")
    assert states() == {}


def test_nothing_is_removed_through_a_link(made, chroma, listing, work, tmp_path):
    made("a", "sub/b", "c")
    outside = tmp_path / "outside"
    (work / "sub").rename(outside)
    (work / "sub").symlink_to(outside)
    (work / "c.png").rename(outside / "c.png")
    (work / "c.png").symlink_to(outside / "c.png")
    listing("a")
    pruned = chroma("batch", "list.jsonl", "--prune")
    assert pruned.err.count("it is behind a link") == 2
    assert sorted(path.name for path in outside.iterdir()) == ["b.png", "c.png"]


def test_a_file_under_another_spelling_of_a_wanted_output_stays(made, chroma, states, listing, work):
    (work / "real").mkdir()
    (work / "alias").symlink_to("real")
    made("real/a")
    listing("alias/a")
    assert "left-over" not in states().values()
    chroma("batch", "list.jsonl", "--prune")
    assert (work / "real" / "a.png").exists()


def test_files_of_an_earlier_request_are_left_over(made, chroma, states, work):
    made("a")
    made("a", samples=3)
    assert states() == {"a.png": "left-over"}
    assert chroma("batch", "list.jsonl", "--prune").code == 0
    assert sorted(path.name for path in work.glob("*.png")) == ["a-1.png", "a-2.png", "a-3.png"]
    assert "left" not in locked(work)
    made("a")  # and back again: what was left over becomes what is wanted
    assert sorted(states()) == ["a-1.png", "a-2.png", "a-3.png"]


def test_one_that_cannot_be_removed_stays_known(made, chroma, states, listing, work, monkeypatch):
    made("a", "b")
    listing("a")
    remove = os.unlink

    def refuse(path, **more) -> None:
        if str(path).endswith("b.png"):
            raise PermissionError(13, "Permission denied")
        remove(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert "permission denied" in chroma("batch", "list.jsonl", "--prune").err
    assert states() == {"b.png": "left-over"}
    assert chroma("batch", "list.jsonl", "--prune").code == 0
    assert not (work / "b.png").exists()


def test_a_share_removes_files_but_writes_only_its_own_lock(made, chroma, states, listing, work):
    made("a", argv=("--shard", "1/1"))
    listing("a", "b")
    assert chroma("batch", "list.jsonl").code == 0
    whole = (work / "list.lock.json").read_bytes()
    listing("c")
    assert chroma("batch", "list.jsonl", "--prune", "--shard", "1/1").code == 0
    assert [path.name for path in work.glob("*.png")] == ["c.png"]
    assert (work / "list.lock.json").read_bytes() == whole
    assert list(locked(work, "list.1-of-1.lock.json")["images"]) == ["c.png"]
    assert states() == {}
    assert chroma("batch", "list.jsonl", "--prune").code == 0
    assert locked(work)["images"] == {}
