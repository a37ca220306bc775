"""``sheet``: any pictures on one, in every format, within its memory; never over somebody's file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from kit import noise, properties
from PIL import Image


def plain(folder: Path, *names: str, size: tuple[int, int] = (64, 48)) -> list[Path]:
    """Pictures without a recipe, in the format of their ending."""
    kinds = {".png": "png", ".jpg": "jpeg", ".webp": "webp"}
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(kinds[path.suffix], *size))
    return paths


def shape(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as image:
        image.load()
        return image.format, image.size


@pytest.mark.parametrize(
    ("name", "kind"), [("s.png", "PNG"), ("s.jpg", "JPEG"), ("s.JPEG", "JPEG"), ("s.webp", "WEBP")]
)
def test_any_pictures_in_every_format(chroma, work, name, kind):
    paths = plain(work, "a.png", "b.jpg", "c.webp")
    ran = chroma("sheet", *paths, "-o", name)
    assert ran.code == 0, ran.err
    assert ran.lines == [str(work / name)]
    assert shape(work / name)[0] == kind
    assert sorted(os.listdir(work)) == sorted(["a.png", "b.jpg", "c.webp", name])


def test_the_default_name_and_json(chroma, work):
    ran = chroma("sheet", *plain(work, "a.png", "b.png"), "--json")
    assert ran.code == 0, ran.err
    assert ran.json == [{"schema": 1, "sheet": str(work / "sheet.png"), "pictures": 2}]


def test_recipes_that_differ_make_a_taller_sheet_than_none(gateway, clock, chroma, work, made):
    for cfg in (5, 7):
        made("a fox", "--cfg", str(cfg), "--seed", "1", "-o", f"cfg{cfg}.png")
        made("a fox", "--cfg", str(cfg), "--seed", "1", "--no-metadata", "-o", f"bare{cfg}.png")
    assert chroma("sheet", "cfg5.png", "cfg7.png", "-o", "with.png").code == 0
    assert chroma("sheet", "bare5.png", "bare7.png", "-o", "without.png").code == 0
    assert shape(work / "with.png")[1][1] > shape(work / "without.png")[1][1]


def test_columns(chroma, work):
    paths = plain(work, *(f"{n}.png" for n in range(6)), size=(100, 100))
    sizes = {}
    for columns in ("1", "2", "6"):
        assert chroma("sheet", *paths, "--columns", columns, "-o", f"s{columns}.png").code == 0
        sizes[columns] = shape(work / f"s{columns}.png")[1]
    assert sizes["1"][0] < sizes["2"][0] < sizes["6"][0]
    assert sizes["1"][1] > sizes["2"][1] > sizes["6"][1]


@pytest.mark.parametrize("columns", ["0", "-1", "x", "1.5", "101", "9" * 5000, "²", ""])
def test_wrong_columns(chroma, work, columns):
    ran = chroma("sheet", *plain(work, "a.png"), "--columns", columns, "--json")
    assert ran.code == 2
    assert "--columns" in ran.error["message"]


def test_a_folder_in_the_order_a_person_counts_and_without_the_sheet_itself(chroma, work):
    plain(work, "p/f-2.png", "p/f-10.png", "p/f-1.png", "p/.hidden.png")
    assert chroma("sheet", "p", "-o", "p/all.png", "--json").json[0]["pictures"] == 3
    before = (work / "p" / "all.png").read_bytes()
    ran = chroma("sheet", "p", "-o", "p/all.png", "--overwrite", "--json")
    assert ran.json[0]["pictures"] == 3, "the sheet itself is none of them"
    assert (work / "p" / "all.png").read_bytes() == before


def test_a_folder_as_the_place(chroma, work):
    (work / "out").mkdir()
    ran = chroma("sheet", *plain(work, "a.png"), "-o", "out")
    assert ran.lines == [str(work / "out" / "sheet.png")]
    ran = chroma("sheet", "a.png", "-o", "new/deep/s.png")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder", "pipe"])
def test_what_is_there_is_not_replaced(chroma, work, kind):
    [picture] = plain(work, "a.png")
    target = work / "s.png"
    if kind == "file":
        target.write_bytes(b"mine")
    elif kind == "link":
        (work / "mine").write_bytes(b"mine")
        target.symlink_to("mine")
    elif kind == "dangling":
        target.symlink_to("nowhere")
    elif kind == "folder":
        (target / "sheet.png").mkdir(parents=True)
    else:
        os.mkfifo(target)
    ran = chroma("sheet", picture, "-o", target, "--json")
    assert ran.code == 10
    assert ran.error["exit_code"] == 10
    if kind == "file":
        assert target.read_bytes() == b"mine"
        assert chroma("sheet", picture, "-o", target, "--overwrite").code == 0
        assert shape(target)[0] == "PNG"
    if kind == "pipe":
        assert chroma("sheet", picture, "-o", target, "--overwrite").code == 10


@pytest.mark.parametrize("name", ["s.gif", "s", "s.html", "-", "s.png.txt"])
def test_an_ending_that_is_no_picture(chroma, work, name):
    ran = chroma("sheet", *plain(work, "a.png"), "-o", name)
    assert ran.code == 2
    assert "--output" in ran.err


def test_broken_files_get_a_place_and_a_warning(chroma, work):
    paths = plain(work, "a.png", "b.png")
    (work / "cut.png").write_bytes(paths[0].read_bytes()[:60])
    (work / "words.jpg").write_text("no picture")
    ran = chroma("sheet", *paths, "cut.png", "words.jpg", "-o", "s.png")
    assert ran.code == 0, ran.err
    assert "cut.png" in ran.err
    assert "words.jpg" in ran.err
    assert chroma("sheet", "a.png", "nowhere.png", "-o", "t.png").code == 8
    assert chroma("sheet", "-o", "t.png").code == 2
    (work / "empty").mkdir()
    assert chroma("sheet", "empty", "-o", "t.png").code == 8
    assert not (work / "t.png").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_place_that_cannot_be_written(chroma, work):
    [picture] = plain(work, "a.png")
    (work / "file").write_text("x")
    ran = chroma("sheet", picture, "-o", "file/s.png", "--json")
    assert ran.code == 10
    assert "file/s.png" in ran.error["message"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM")
def test_ten_by_ten_large_pictures_in_500_mb(work, process):
    large, usual = plain(work, "0.png", size=(2048, 2048)) + plain(work, "1.png", size=(640, 640))
    for number in range(2, 100):
        (work / f"{number}.png").hardlink_to(usual if number % 10 else large)
    ended, peak = process.peak("sheet", ".", "--columns", "10", "-o", "sheet.webp")
    assert ended.code == 0
    assert peak < 500
    assert min(shape(work / "sheet.webp")[1]) > 2000


# --- a sheet is no picture ---------------------------------------------------------------------------------

SOURCE = "Iptc4xmpExt:DigitalSourceType"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic"
FORMATS = ("png", "jpg", "webp")


@pytest.fixture
def folder(gateway, clock, chroma, work, made):
    """Two pictures with recipes, and a sheet of them in each format."""
    for cfg in ("5", "7"):
        made("a fox", "--cfg", cfg, "--seed", "1", "-o", f"foxes/fox-{cfg}.png")
    for ending in FORMATS:
        assert chroma("sheet", "foxes/fox-5.png", "foxes/fox-7.png", "-o", f"foxes/both.{ending}").code == 0
    found: Path = work / "foxes"
    return found


def test_a_sheet_says_what_it_is(chroma, folder):
    for ending in FORMATS:
        tags = properties(folder / f"both.{ending}")
        assert tags[SOURCE] == COMPOSITE
        assert tags["xmp:CreatorTool"].startswith("chroma ")
        assert tags["chroma:Sheet"] == "contact sheet"
        assert not [name for name in tags if name.endswith((":Recipe", ":Sweep", ":CreateDate"))]


def test_in_a_folder_sheets_are_left_out(chroma, folder):
    assert len(chroma("inspect", "foxes", "--json").json) == 2
    assert chroma("sheet", "foxes", "-o", "all.png", "--json").json[0]["pictures"] == 2
    ran = chroma("gallery", "foxes")
    assert ran.code == 0
    assert "3 contact sheets are left out" in ran.err
    assert "both." not in (folder / "index.html").read_text(encoding="utf-8")
    for name in ("fox-5.png", "fox-7.png"):
        (folder / name).unlink()
    for command in ("inspect", "sheet", "gallery"):
        ran = chroma(command, "foxes", "--json")
        assert ran.code == 8
        assert "contact sheets" in ran.error["message"]


def test_a_sheet_that_is_named_is_taken(gateway, clock, chroma, work, folder):
    for ending in FORMATS:
        named = folder / f"both.{ending}"
        ran = chroma("sheet", folder / "fox-5.png", named, "-o", "s.png", "--overwrite")
        assert ran.lines == [str(work / "s.png")]
        assert f"both.{ending} is a contact sheet itself" in ran.err
        ran = chroma("inspect", named, "--json")
        assert (ran.code, ran.error["type"]) == (8, "no_recipe")
        assert "this is a contact sheet" in ran.error["message"]
        assert chroma("generate", "--from", named).code == 8
        assert chroma("inspect", folder, named).code == 11, "one of three pictures, since it is named"


def test_of_pictures_that_nobody_knows_nothing_is_claimed(chroma, work):
    assert chroma("sheet", *plain(work, "a.png", "b.jpg"), "-o", "s.png").code == 0
    tags = properties(work / "s.png")
    assert SOURCE not in tags
    assert tags["chroma:Sheet"] == "contact sheet"
    assert chroma("sheet", ".", "-o", "t.png", "--json").json[0]["pictures"] == 2


def test_a_sheet_says_as_much_as_the_config_file_lets_it(chroma, work, config, folder):
    for ending in FORMATS:
        config('[defaults]\nmetadata = "source-only"\n')
        assert chroma("sheet", folder, "-o", f"source.{ending}").code == 0
        assert properties(work / f"source.{ending}") == {SOURCE: COMPOSITE}
        assert "contact sheet" in chroma("inspect", f"source.{ending}").err
        config('[defaults]\nmetadata = "none"\n')
        assert chroma("sheet", folder, "-o", f"none.{ending}").code == 0
        assert b"xmp" not in (work / f"none.{ending}").read_bytes()[:2000].lower()
        assert chroma("inspect", f"none.{ending}").code == 8


def test_source_only_pictures_make_a_sheet_of_a_model(gateway, clock, chroma, work, made, config):
    config('[defaults]\nmetadata = "source-only"\n')
    path = made("a fox", "-o", "fox.png")
    config("")
    assert chroma("sheet", path, "-o", "s.png").code == 0
    assert properties(work / "s.png")[SOURCE] == COMPOSITE


def test_the_composite_of_another_program_is_a_picture(chroma, work):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:iptc="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f" iptc:DigitalSourceType='{COMPOSITE}' xmp:CreatorTool='another'/></rdf:RDF></x:xmpmeta>"
    )
    (work / "p").mkdir()
    (work / "p" / "theirs.webp").write_bytes(noise("webp", xmp=packet.encode()))
    assert chroma("sheet", "p", "-o", "s.png", "--json").json[0]["pictures"] == 1
