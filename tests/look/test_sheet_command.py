"""``sheet``: any pictures on one, in every format, within its memory; never over somebody's file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from look_kit import encoded, peak_of
from PIL import Image

from chroma_cli.images import sheetmark, xmp


def plain(folder: Path, *names: str, size: tuple[int, int] = (64, 48)) -> list[Path]:
    """Pictures without a recipe, in the format of their ending."""
    kinds = {".png": "png", ".jpg": "jpeg", ".webp": "webp"}
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(kinds[path.suffix], size))
    return paths


def shape(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as image:
        image.load()
        return image.format, image.size


@pytest.mark.parametrize(
    ("name", "kind"), [("s.png", "PNG"), ("s.jpg", "JPEG"), ("s.JPEG", "JPEG"), ("s.webp", "WEBP")]
)
def test_any_pictures_in_every_format(studio: Any, name: str, kind: str) -> None:
    paths = plain(studio.here, "a.png", "b.jpg", "c.webp")
    ran = studio("sheet", *paths, "-o", name)
    assert ran.code == 0, ran.err
    assert ran.lines == [str(studio.here / name)]
    assert shape(studio.here / name)[0] == kind
    assert sorted(os.listdir(studio.here)) == sorted(["a.png", "b.jpg", "c.webp", name])


def test_the_default_name_and_json(studio: Any) -> None:
    ran = studio("sheet", *plain(studio.here, "a.png", "b.png"), "--json")
    assert ran.code == 0, ran.err
    assert ran.json == [{"schema": 1, "sheet": str(studio.here / "sheet.png"), "pictures": 2}]


def test_recipes_that_differ_make_a_taller_sheet_than_none(studio: Any) -> None:
    for cfg in (5, 7):
        studio.made("a fox", "--cfg", str(cfg), "--seed", "1", "-o", f"cfg{cfg}.png")
        studio.made("a fox", "--cfg", str(cfg), "--seed", "1", "--no-metadata", "-o", f"bare{cfg}.png")
    assert studio("sheet", "cfg5.png", "cfg7.png", "-o", "with.png").code == 0
    assert studio("sheet", "bare5.png", "bare7.png", "-o", "without.png").code == 0
    assert shape(studio.here / "with.png")[1][1] > shape(studio.here / "without.png")[1][1]


def test_columns(studio: Any) -> None:
    paths = plain(studio.here, *(f"{n}.png" for n in range(6)), size=(400, 400))
    sizes = {}
    for columns in ("1", "2", "6"):
        assert studio("sheet", *paths, "--columns", columns, "-o", f"s{columns}.png").code == 0
        sizes[columns] = shape(studio.here / f"s{columns}.png")[1]
    assert sizes["1"][0] < sizes["2"][0] < sizes["6"][0]
    assert sizes["1"][1] > sizes["2"][1] > sizes["6"][1]


@pytest.mark.parametrize("columns", ["0", "-1", "x", "1.5", "101", "9" * 5000, "²", ""])
def test_wrong_columns(studio: Any, columns: str) -> None:
    ran = studio("sheet", *plain(studio.here, "a.png"), "--columns", columns, "--json")
    assert ran.code == 2
    assert "--columns" in ran.error["message"]


def test_a_folder_in_the_order_a_person_counts_and_without_the_sheet_itself(studio: Any) -> None:
    plain(studio.here, "p/f-2.png", "p/f-10.png", "p/f-1.png", "p/.hidden.png")
    assert studio("sheet", "p", "-o", "p/all.png", "--json").json[0]["pictures"] == 3
    before = (studio.here / "p" / "all.png").read_bytes()
    ran = studio("sheet", "p", "-o", "p/all.png", "--overwrite", "--json")
    assert ran.json[0]["pictures"] == 3, "the sheet itself is none of them"
    assert (studio.here / "p" / "all.png").read_bytes() == before


def test_a_folder_as_the_place(studio: Any) -> None:
    (studio.here / "out").mkdir()
    ran = studio("sheet", *plain(studio.here, "a.png"), "-o", "out")
    assert ran.lines == [str(studio.here / "out" / "sheet.png")]
    ran = studio("sheet", "a.png", "-o", "new/deep/s.png")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder", "pipe"])
def test_what_is_there_is_not_replaced(studio: Any, kind: str) -> None:
    [picture] = plain(studio.here, "a.png")
    target = studio.here / "s.png"
    if kind == "file":
        target.write_bytes(b"mine")
    elif kind == "link":
        (studio.here / "mine").write_bytes(b"mine")
        target.symlink_to("mine")
    elif kind == "dangling":
        target.symlink_to("nowhere")
    elif kind == "folder":
        (target / "sheet.png").mkdir(parents=True)
    else:
        os.mkfifo(target)
    ran = studio("sheet", picture, "-o", target, "--json")
    assert ran.code == 10
    assert ran.error["exit_code"] == 10
    if kind == "file":
        assert target.read_bytes() == b"mine"
        assert studio("sheet", picture, "-o", target, "--overwrite").code == 0
        assert shape(target)[0] == "PNG"
    if kind == "pipe":
        assert studio("sheet", picture, "-o", target, "--overwrite").code == 10


@pytest.mark.parametrize("name", ["s.gif", "s", "s.html", "-", "s.png.txt"])
def test_an_ending_that_is_no_picture(studio: Any, name: str) -> None:
    ran = studio("sheet", *plain(studio.here, "a.png"), "-o", name)
    assert ran.code == 2
    assert "--output" in ran.err


def test_broken_files_get_a_place_and_a_warning(studio: Any) -> None:
    paths = plain(studio.here, "a.png", "b.png")
    (studio.here / "cut.png").write_bytes(paths[0].read_bytes()[:60])
    (studio.here / "words.jpg").write_text("no picture")
    ran = studio("sheet", *paths, "cut.png", "words.jpg", "-o", "s.png")
    assert ran.code == 0, ran.err
    assert "cut.png" in ran.err
    assert "words.jpg" in ran.err
    assert studio("sheet", "a.png", "nowhere.png", "-o", "t.png").code == 8
    assert studio("sheet", "-o", "t.png").code == 2
    (studio.here / "empty").mkdir()
    assert studio("sheet", "empty", "-o", "t.png").code == 8
    assert not (studio.here / "t.png").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_place_that_cannot_be_written(studio: Any) -> None:
    [picture] = plain(studio.here, "a.png")
    (studio.here / "file").write_text("x")
    ran = studio("sheet", picture, "-o", "file/s.png", "--json")
    assert ran.code == 10
    assert "file/s.png" in ran.error["message"]


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM")
def test_ten_by_ten_large_pictures_in_500_mb(studio: Any) -> None:
    large, usual = plain(studio.here, "0.png", size=(2048, 2048)) + plain(
        studio.here, "1.png", size=(640, 640)
    )
    for number in range(2, 100):
        (studio.here / f"{number}.png").hardlink_to(usual if number % 10 else large)
    code, peak = peak_of("sheet", ".", "--columns", "10", "-o", "sheet.webp")
    assert code == 0
    assert peak < 500_000
    assert min(shape(studio.here / "sheet.webp")[1]) > 2000


# --- a sheet is no picture ---------------------------------------------------------------------------------

SOURCE = "XMP-iptcExt:DigitalSourceType"
FORMATS = ("png", "jpg", "webp")


@pytest.fixture
def folder(studio: Any) -> Path:
    """Two pictures with recipes, and a sheet of them in each format."""
    for cfg in ("5", "7"):
        studio.made("a fox", "--cfg", cfg, "--seed", "1", "-o", f"foxes/fox-{cfg}.png")
    for ending in FORMATS:
        assert studio("sheet", "foxes/fox-5.png", "foxes/fox-7.png", "-o", f"foxes/both.{ending}").code == 0
    found: Path = studio.here / "foxes"
    return found


@pytest.mark.parametrize("ending", FORMATS)
def test_a_sheet_says_what_it_is(
    folder: Path, exiftool: Callable[[Path], dict[str, Any]], ending: str
) -> None:
    tags = exiftool(folder / f"both.{ending}")
    assert not [name for name in tags if "Warning" in name]
    assert tags[SOURCE] == sheetmark.COMPOSITE
    assert tags["XMP-xmp:CreatorTool"].startswith("chroma ")
    assert tags["XMP-chroma:Sheet"] == "contact sheet"
    assert not [name for name in tags if name.endswith((":Recipe", ":Sweep", ":CreateDate"))]


def test_in_a_folder_sheets_are_left_out(studio: Any, folder: Path) -> None:
    assert len(studio("inspect", "foxes", "--json").json) == 2
    assert studio("sheet", "foxes", "-o", "all.png", "--json").json[0]["pictures"] == 2
    ran = studio("gallery", "foxes")
    assert ran.code == 0
    assert "3 contact sheets are left out" in ran.err
    assert "both." not in (folder / "index.html").read_text(encoding="utf-8")
    for name in ("fox-5.png", "fox-7.png"):
        (folder / name).unlink()
    for command in ("inspect", "sheet", "gallery"):
        ran = studio(command, "foxes", "--json")
        assert ran.code == 8
        assert "contact sheets" in ran.error["message"]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_sheet_that_is_named_is_taken(studio: Any, folder: Path, ending: str) -> None:
    named = folder / f"both.{ending}"
    ran = studio("sheet", folder / "fox-5.png", named, "-o", "s.png")
    assert ran.lines == [str(studio.here / "s.png")]
    assert f"both.{ending} is a contact sheet itself" in ran.err
    ran = studio("inspect", named, "--json")
    assert (ran.code, ran.error["type"]) == (8, "no_recipe")
    assert "this is a contact sheet" in ran.error["message"]
    assert studio("generate", "--from", named).code == 8
    assert studio("inspect", folder, named).code == 11, "one of three pictures, since it is named"


def test_of_pictures_that_nobody_knows_nothing_is_claimed(
    studio: Any, exiftool: Callable[[Path], dict[str, Any]]
) -> None:
    assert studio("sheet", *plain(studio.here, "a.png", "b.jpg"), "-o", "s.png").code == 0
    tags = exiftool(studio.here / "s.png")
    assert SOURCE not in tags
    assert tags["XMP-chroma:Sheet"] == "contact sheet"
    assert studio("sheet", ".", "-o", "t.png", "--json").json[0]["pictures"] == 2


@pytest.mark.parametrize("ending", FORMATS)
def test_a_sheet_says_as_much_as_the_config_file_lets_it(
    studio: Any, folder: Path, exiftool: Callable[[Path], dict[str, Any]], ending: str
) -> None:
    studio.config('[defaults]\nmetadata = "source-only"\n')
    assert studio("sheet", folder, "-o", f"source.{ending}").code == 0
    tags = exiftool(studio.here / f"source.{ending}")
    assert {name: text for name, text in tags.items() if name.startswith("XMP-")} == {
        **{name: text for name, text in tags.items() if name == "XMP-x:XMPToolkit"},
        SOURCE: sheetmark.COMPOSITE,
    }
    assert "contact sheet" in studio("inspect", f"source.{ending}").err
    studio.config('[defaults]\nmetadata = "none"\n')
    assert studio("sheet", folder, "-o", f"none.{ending}").code == 0
    assert b"xmp" not in (studio.here / f"none.{ending}").read_bytes()[:2000].lower()
    assert studio("inspect", f"none.{ending}").code == 8


def test_source_only_pictures_make_a_sheet_of_a_model(
    studio: Any, exiftool: Callable[[Path], dict[str, Any]]
) -> None:
    studio.config('[defaults]\nmetadata = "source-only"\n')
    path = studio.made("a fox", "-o", "fox.png")
    studio.config("")
    assert studio("sheet", path, "-o", "s.png").code == 0
    assert exiftool(studio.here / "s.png")[SOURCE] == sheetmark.COMPOSITE


def test_the_composite_of_another_program_is_a_picture(studio: Any) -> None:
    packet = xmp.packet({xmp.SOURCE_TYPE: sheetmark.COMPOSITE, xmp.CREATOR_TOOL: "another"})
    (studio.here / "p").mkdir()
    (studio.here / "p" / "theirs.webp").write_bytes(encoded("webp", (64, 64), xmp=packet))
    assert studio("sheet", "p", "-o", "s.png", "--json").json[0]["pictures"] == 1
