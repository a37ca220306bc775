"""What -o means, and what can be known to go wrong there before anything is spent."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chroma_cli.errors import InvalidParameters, OutputError, OutputExists, UsageError
from chroma_cli.images import preflight
from chroma_cli.images.destination import Destination, plan, wanted_format

Planner = Callable[..., Destination]


def names(destination: Destination) -> list[str]:
    return [Path(path).name for path in destination.paths()]


@pytest.fixture
def checked(rescue: Path, folder: Path) -> Iterator[Callable[..., None]]:
    """Run the check; whatever it says, it leaves nothing behind."""

    def check(destination: Destination, **more: object) -> None:
        settings: dict[str, object] = {"estimate": 100_000, "token": "t0", "rescue_dir": str(rescue)}
        preflight.check(destination, **(settings | more))  # type: ignore[arg-type]

    yield check
    assert not [path for path in folder.rglob("*") if path.name.startswith(".chroma")]
    assert not rescue.exists()


# --- plan -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "kind", "expected"),
    [
        (None, "template", ["a-young-knight-7.png"]),
        ("knight.png", "file", ["knight.png"]),
        ("knight", "file", ["knight.png"]),
        ("knight.PNG", "file", ["knight.PNG"]),
        ("deep/er/knight.png", "file", ["knight.png"]),
        ("new/", "directory", ["a-young-knight-7.png"]),
        (".", "directory", ["a-young-knight-7.png"]),
        ("{slug}_{cfg}_{date}.{ext}", "template", ["a-young-knight_7_2023-11-14.png"]),
        ("{seed}/{steps}", "template", ["40.png"]),
        ("out/{seed}/", "directory", ["a-young-knight-7.png"]),
        ("lone{brace.png", "file", ["lone{brace.png"]),
        ("{preset}-{aspect}.png", "template", ["none-unknown.png"]),
        ("{prompt}.png", "template", ["a young knight.png"]),
    ],
)
def test_kinds(planned: Planner, output: str | None, kind: str, expected: list[str]) -> None:
    destination = planned(output, now=1_700_000_000.0 - 43_200)
    assert destination.kind == kind
    assert names(destination) in (expected, [name.replace("11-14", "11-15") for name in expected])
    assert all(Path(path).is_absolute() for path in destination.paths())


def test_several_pictures_are_numbered(planned: Planner) -> None:
    assert names(planned("knight.png", samples=3)) == ["knight-1.png", "knight-2.png", "knight-3.png"]
    assert names(planned("k{index}.png", samples=2)) == ["k1.png", "k2.png"]
    assert names(planned("k{index}.png")) == ["k1.png"]


def test_names_that_are_taken_are_passed_over(planned: Planner, folder: Path) -> None:
    (folder / "a-young-knight-7.png").touch()
    (folder / "a-young-knight-7-2.png").symlink_to("nowhere")
    assert names(planned(None)) == ["a-young-knight-7-1.png"]
    assert names(planned(None, samples=3)) == [f"a-young-knight-7-{number}.png" for number in (1, 3, 4)]
    assert names(planned(None, overwrite=True)) == ["a-young-knight-7.png"]
    (folder / "k1.png").touch()
    assert names(planned("k{index}.png", samples=2)) == ["k2.png", "k3.png"]


def test_names_that_are_promised_are_passed_over(planned: Planner, folder: Path) -> None:
    first = planned("{slug}.png")
    second = planned("{slug}.png", promised=set(first.promises()))
    assert names(second) == ["a-young-knight-1.png"]
    third = planned("{slug}.png", promised={*first.promises(), *second.promises()}, overwrite=True)
    assert names(third) == ["a-young-knight-2.png"]


def test_promises_are_the_same_through_a_linked_folder(
    planned: Planner, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").symlink_to(folder)
    straight, around = planned("k.png"), planned("k.png", cwd=str(tmp_path / "other"))
    assert straight.paths() != around.paths()
    assert straight.promises() == around.promises()


def test_an_existing_folder_may_look_like_anything(planned: Planner, folder: Path) -> None:
    for name in ("pics.jpg", "v1.5", "{seed}", "{x}"):
        (folder / name).mkdir()
        destination = planned(name)
        assert destination.kind == "directory"
        assert destination.paths() == (str(folder / name / "a-young-knight-7.png"),)
        assert wanted_format(name, cwd=str(folder)) is None


def test_braces_in_the_current_folder_are_no_fields(planned: Planner, folder: Path) -> None:
    here = folder / "{seed}"
    here.mkdir()
    assert planned("x{cfg}.png", cwd=str(here)).paths() == (str(here / "x7.png"),)


def test_dots_are_resolved_where_they_lead(planned: Planner, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    (folder / "link").symlink_to(elsewhere)
    assert planned("link/../k.png").paths() == (str(elsewhere.parent / "k.png"),)
    assert planned("./k.png").paths() == (str(folder / "k.png"),)


def test_an_ending_that_contradicts_the_format(planned: Planner) -> None:
    for output in ("knight.jpg", "{slug}.jpg"):
        with pytest.raises(UsageError, match="--format png"):
            planned(output)
        assert planned(output, image_format="jpeg").kind in ("file", "template")


@pytest.mark.parametrize("output", ["", "  ", "a\0b.png", "\udcff\ud800.png"])
def test_names_that_no_system_takes(planned: Planner, output: str) -> None:
    with pytest.raises(UsageError):
        planned(output)


@pytest.mark.parametrize("output", ["{sed}.png", "{sed}/x.png", "out/{sed}/"])
def test_unknown_fields_anywhere(planned: Planner, output: str) -> None:
    with pytest.raises(InvalidParameters, match="sed"):
        planned(output)


def test_stdout_takes_one_picture(planned: Planner, checked: Callable[..., None]) -> None:
    destination = planned("-")
    assert destination.kind == "stdout"
    assert destination.paths() == () == destination.promises()
    checked(destination)
    with pytest.raises(UsageError, match="exactly one"):
        planned("-", samples=2)


def test_an_absurd_number_of_pictures(planned: Planner) -> None:
    with pytest.raises(UsageError, match="samples"):
        planned(None, samples=10**12)


def test_late_fields(planned: Planner, folder: Path) -> None:
    destination = planned("{id}/{slug}-{seed}.png", values={"seed": -1})
    assert destination.late == {"id", "seed"}
    assert destination.paths() == ()
    assert destination.folder(0) == folder
    late = {"id": "abc/..", "seed": 99}
    assert destination.folder(0, late) == folder / "abc-"
    assert destination.target(0, late) == folder / "abc-" / "a-young-knight-99.png"
    unanswered = {"id": None, "seed": -1}
    assert destination.folder(0, unanswered) == folder
    assert destination.target(0, unanswered) == folder / "unknown" / "a-young-knight-unknown.png"


def test_a_job_known_only_by_its_id(folder: Path) -> None:
    destination = plan(None, cwd=str(folder), values={"id": "1b-2c"}, samples=1, image_format="png", now=0.0)
    assert names(destination) == ["image-1b-2c.png"]


@pytest.mark.parametrize("output", [None, "k.png", "{id}/{slug}.{ext}", "-", "new/"])
def test_a_record_brings_it_back(planned: Planner, output: str | None) -> None:
    destination = planned(output, size=(1024, 768))
    assert Destination.from_dict(json.loads(json.dumps(destination.as_dict()))) == destination


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_record_that_was_changed_is_refused_or_sound(planned: Planner, data: st.DataObject) -> None:
    record = planned("k.png").as_dict()
    junk = st.one_of(st.none(), st.text(max_size=5), st.integers(), st.lists(st.integers(), max_size=2))
    for key in data.draw(st.sets(st.sampled_from(sorted(record)), min_size=1)):
        if data.draw(st.booleans()):
            record[key] = data.draw(junk)
        else:
            record.pop(key)
    try:
        restored = Destination.from_dict(record)
    except OutputError:
        return
    assert restored.kind in ("file", "directory", "template", "stdout")


def test_wanted_format(folder: Path) -> None:
    for output, expected in ((None, None), ("-", None), ("a.jpg", "jpeg"), ("a.b/", None), ("x", None)):
        assert wanted_format(output, cwd=str(folder)) == expected
    with pytest.raises(UsageError):
        wanted_format("a.gif", cwd=str(folder))


# --- check ----------------------------------------------------------------------------------------------


def test_a_good_place_passes(planned: Planner, checked: Callable[..., None], folder: Path) -> None:
    for output in (None, "k.png", "a/b/c/k.png", "new/", "{id}.png", "{id}/{seed}.png"):
        checked(planned(output))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("samples", [1, 3])
def test_a_file_named_outright_that_exists(
    planned: Planner, checked: Callable[..., None], folder: Path, samples: int
) -> None:
    destination = planned("k.png", samples=samples)
    Path(destination.paths()[-1]).write_bytes(b"old")
    with pytest.raises(OutputExists, match="exists already") as caught:
        checked(destination)
    assert caught.value.exit_code == 10
    assert caught.value.hint is not None
    checked(planned("k.png", samples=samples, overwrite=True))


def test_a_name_without_ending_that_exists(
    planned: Planner, checked: Callable[..., None], folder: Path
) -> None:
    (folder / "knight").touch()
    with pytest.raises(OutputExists):
        checked(planned("knight"))


def test_a_dangling_link_counts_as_a_file(
    planned: Planner, checked: Callable[..., None], folder: Path
) -> None:
    (folder / "k.png").symlink_to("nowhere")
    with pytest.raises(OutputExists, match="leads nowhere"):
        checked(planned("k.png"))
    with pytest.raises(OutputError, match="leads nowhere"):
        checked(planned("k.png", overwrite=True))


def test_a_link_to_a_file_may_be_replaced(
    planned: Planner, checked: Callable[..., None], folder: Path
) -> None:
    (folder / "real.png").touch()
    (folder / "k.png").symlink_to("real.png")
    checked(planned("k.png", overwrite=True))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "link to fifo"])
def test_what_is_no_file_is_refused(
    planned: Planner, checked: Callable[..., None], folder: Path, kind: str, overwrite: bool
) -> None:
    destination = planned("k.png", overwrite=overwrite)
    if kind == "folder":
        (folder / "k.png").mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(folder / "k.png"))
    elif kind == "fifo":
        os.mkfifo(folder / "k.png")
    else:
        os.mkfifo(folder / "pipe")
        (folder / "k.png").symlink_to("pipe")
    with pytest.raises(OutputError, match="is a (folder|device)") as caught:
        checked(destination)
    assert not isinstance(caught.value, OutputExists)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("output", ["/dev/full", "/dev/null", "/dev/stdout"])
def test_devices_are_refused(
    planned: Planner, checked: Callable[..., None], output: str, overwrite: bool
) -> None:
    with pytest.raises(OutputError, match=output):
        checked(planned(output, overwrite=overwrite))
    assert not Path(output + ".png").exists()


def test_a_parent_that_is_a_file(planned: Planner, checked: Callable[..., None], folder: Path) -> None:
    (folder / "file").touch()
    for output in ("file/k.png", "file/deep/k.png", "file/"):
        with pytest.raises(OutputError, match="is a file"):
            checked(planned(output))


def test_a_parent_that_leads_nowhere(planned: Planner, checked: Callable[..., None], folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    for output in ("link/k.png", "link/deep/k.png", "loop/k.png"):
        with pytest.raises(OutputError, match=r"leads nowhere|loop of links"):
            checked(planned(output))


@pytest.mark.parametrize(
    "output",
    [
        "x" * 252 + ".png",
        "ü" * 130 + ".png",
        "missing/" + "x" * 300 + "/k.png",
        "/".join(["y" * 200] * 25) + "/k.png",
        "{prompt}" * 40 + ".png",
        "x" * 230 + "{id}.png",
    ],
    ids=["name", "bytes", "folder", "path", "template", "late"],
)
def test_names_that_are_too_long(planned: Planner, checked: Callable[..., None], output: str) -> None:
    with pytest.raises(OutputError, match="too long"):
        checked(planned(output))


def test_the_longest_name_passes(planned: Planner, checked: Callable[..., None]) -> None:
    checked(planned("x" * 251 + ".png"))


def test_not_enough_room(planned: Planner, checked: Callable[..., None]) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        checked(planned(None), estimate=2**60)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners are POSIX")
def test_somebody_elses_file_in_a_shared_folder(
    planned: Planner, checked: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "k.png").touch()
    folder.chmod(0o1777)
    destination = planned("k.png", overwrite=True)
    checked(destination)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(OutputError, match="belongs to somebody else"):
        checked(destination)


def test_a_file_size_limit(planned: Planner, rescue: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(OutputError, match="size limit"):
            preflight.check(planned("k.png"), estimate=2_000_000, token="t", rescue_dir=str(rescue))
        # Three files that are within it each.
        preflight.check(planned("k.png", samples=3), estimate=2_400_000, token="t", rescue_dir=str(rescue))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WORDS = {
    errno.EROFS: "read-only",
    errno.EACCES: "permission denied",
    errno.EDQUOT: "quota",
    errno.EIO: "error",
}


@pytest.mark.parametrize("code", WORDS)
@pytest.mark.parametrize("nameless", [True, False])
def test_a_place_that_takes_no_files(
    planned: Planner,
    checked: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    nameless: bool,
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    destination = planned("k.png")
    if not nameless:
        monkeypatch.setattr(os, "O_TMPFILE", 0, raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(OutputError, match=WORDS[code]) as caught:
            checked(destination)
    assert caught.value.hint is not None


def test_without_nameless_files_the_probe_is_removed(
    planned: Planner, checked: Callable[..., None], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", 0, raising=False)
    checked(planned("k.png"))
    checked(planned("a/b/k.png"))
    assert list(folder.iterdir()) == []


def test_systems_without_these_calls(
    planned: Planner, checked: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("O_TMPFILE", "posix_fallocate", "statvfs", "pathconf", "O_NOFOLLOW"):
        monkeypatch.delattr(os, name, raising=False)
    checked(planned("k.png"))
    with pytest.raises(OutputError, match="too long"):
        checked(planned("x" * 260 + ".png"))


def test_stdout_needs_a_place_to_wait_in(planned: Planner, rescue: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()  # the first haven cannot be made; the second one does
    preflight.check(planned("-"), estimate=1000, token="t", rescue_dir=str(rescue))
    with pytest.raises(OutputError, match="disk is full|size limit"):
        preflight.check(planned("-"), estimate=2**62, token="t", rescue_dir=str(rescue))


AS_NOBODY = """
import os, sys
from chroma_cli.errors import OutputError
from chroma_cli.images.destination import plan
from chroma_cli.images import preflight
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # after the imports: the program may lie in root's home
folder, rescue = sys.argv[1:]
for output in ("k.png", "sub/k.png", "locked/k.png"):
    destination = plan(output, cwd=folder, values={"seed": 1}, samples=1, image_format="png", now=0.0)
    try:
        preflight.check(destination, estimate=1000, token="t", rescue_dir=rescue)
    except OutputError as error:
        print(error.message)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become nobody")
def test_a_folder_without_rights(folder: Path, rescue: Path) -> None:
    opened = [parent for parent in folder.parents if parent.stat().st_mode & 0o005 != 0o005]
    modes = {parent: parent.stat().st_mode for parent in opened}
    (folder / "locked").mkdir(mode=0o700)
    try:
        for parent in opened:
            parent.chmod(0o755)
        run = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(folder), str(rescue)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)
    assert run.stdout.count("permission denied") == 3
