"""Contact sheets: what the labels say, that no text meets another, and that every picture is on them.

What is written is learnt from Pillow, which draws it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit import noise, with_recipe
from PIL import Image, ImageDraw

PROMPT = "a young knight in shining armor, standing in a misty forest at dawn"
WIDE = {"aspect_ratio": "custom", "width": 1344, "height": 768}
GROUND = (0x16, 0x18, 0x1C)


def request(**changes: Any) -> dict[str, Any]:
    body = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "aspect_ratio": "1:1 square 1024x1024",
        "cfg": 7,
        "sampler_name": "euler",
        "scheduler": "beta",
        "steps": 40,
        "seed": 7,
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


class Drawn:
    """The words that Pillow drew and the boxes that they and the pictures fill."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: list[str] = []
        self.boxes: list[tuple[float, float, float, float]] = []
        self.pictures: list[tuple[int, int, int, int]] = []
        text, paste = ImageDraw.ImageDraw.text, Image.Image.paste

        def note_text(draw: Any, xy: Any, words: str, *rest: Any, **more: Any) -> None:
            font, anchor = more.get("font") or rest[1], more.get("anchor") or "la"
            left, top, right, bottom = font.getbbox(words, anchor=anchor)
            self.words.append(words)
            self.boxes.append((xy[0] + left, xy[1] + top, xy[0] + right, xy[1] + bottom))
            text(draw, xy, words, *rest, **more)

        def note_paste(self_: Image.Image, im: Any, box: Any = None, mask: Any = None) -> None:
            if mask is None and isinstance(im, Image.Image):
                self.pictures.append((*box[:2], box[0] + im.width, box[1] + im.height))
            paste(self_, im, box, mask)

        monkeypatch.setattr(ImageDraw.ImageDraw, "text", note_text)
        monkeypatch.setattr(Image.Image, "paste", note_paste)


@pytest.fixture
def sheet(chroma, work, monkeypatch):
    """``sheet({"cfg": 5}, …)`` draws one of pictures with these changes to a recipe; None: without one."""

    def draw(*recipes: dict[str, Any] | None, name: str = "s.png", argv: Any = (), size: int = 40) -> Drawn:
        for number, changes in enumerate(recipes):
            data = noise("png", size, size)
            if changes is not None:
                data = with_recipe({"request": request(**changes)}, width=size, height=size)
            (work / f"p-{number}.png").write_bytes(data)
        names = [f"p-{number}.png" for number in range(len(recipes))]
        with monkeypatch.context() as patched:
            drawn = Drawn(patched)
            ended = chroma("sheet", *names, "-o", name, "--overwrite", *argv)
        assert ended.code == 0, ended.said
        return drawn

    return draw


# --- labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipes", "words"),
    [
        ([{"cfg": 5}, {"cfg": 7.5, "sampler_name": "heun"}], "cfg 5 sampler euler cfg 7.5 sampler heun"),
        ([{"cfg": 5}, {"cfg": 9}, {"cfg": 9}, None], "cfg 5 p-1.png cfg 9 p-2.png cfg 9 p-3.png"),
        ([{"base64": True, "samples": 4}, {"cfg": 7.0}], "p-0.png p-1.png"),
        ([{"aspect_ratio": "16:9 landscape 1344x768"}, WIDE], "p-0.png p-1.png"),
        ([{"steps": 20}, {"steps": None}], "steps 20 p-1.png"),
    ],
    ids=["two differ", "the same twice", "what cannot be seen", "one size by two names", "what is missing"],
)
def test_only_what_differs_is_named_and_the_file_where_needed(sheet, recipes, words):
    common, said, labels = " ".join(sheet(*recipes).words).rpartition(words)
    assert (said, labels) == (words, "")
    assert not set(words.split()) & set(common.split()) - {"p-0.png"}


def test_long_prompts_show_where_they_part(sheet):
    said = " ".join(sheet({"prompt": PROMPT + " in winter"}, {"prompt": PROMPT + " in high summer"}).words)
    assert "in winter" in said.replace("  ", " ")
    assert "young knight" not in said


@pytest.mark.parametrize("prompts", [("猫", "犬"), ("fire 🔥", "fire 🎆"), ("a\x1b[31m\u202eb", "\ud800")])
def test_prompts_that_the_font_lacks_are_told_apart(sheet, prompts):
    drawn = sheet(*({"prompt": prompt} for prompt in prompts))
    assert len(drawn.words) >= 2
    assert not set("".join(drawn.words)) & {"\x1b", "\u202e", "\ud800", "\n"}


def test_a_sweep_has_its_axes_at_the_sides(gateway, clock, chroma, work, monkeypatch):
    drawn = Drawn(monkeypatch)
    ended = chroma("generate", "a fox", "--sweep", "cfg=5,7.5", "--sweep", "sampler=euler,heun")
    assert ended.code == 0, ended.said
    words = " ".join(drawn.words)
    assert [words.count(word) for word in ("7.5", "heun", "euler")] == [1, 1, 1]
    assert len(drawn.pictures) == 4


# --- the sheet ---------------------------------------------------------------------------------------------


def test_every_picture_is_on_it_in_order_and_the_bytes_are_the_same_each_time(chroma, work):
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (200, 200), colour).save(work / f"{number}.png")
    names = [f"{number}.png" for number in range(4)]
    first, second = (chroma("sheet", *names, "-o", f"{name}.png").paths[0] for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        raw = iter(image.convert("RGB").tobytes())
        assert image.width < 2 * 200 + 100, "nothing is enlarged"
    found = [pixel for pixel in zip(raw, raw, raw, strict=True) if pixel in colours]
    assert list(dict.fromkeys(found)) == colours
    assert [found.count(colour) for colour in colours] == [200 * 200] * 4


HOSTILE = "W" * 300 + " " + "supercalifragilistic " * 40


@pytest.mark.parametrize("columns", ["1", "3", "9"])
def test_text_never_overlaps_nor_reaches_the_border(chroma, work, monkeypatch, columns):
    shapes = [(300, 120), (90, 400), (40, 40)]
    names = []
    for n in range(3):
        for p in range(3):
            changes = {"prompt": f"{p} {HOSTILE} {p}", "negative_prompt": f"{n}{HOSTILE}"}
            width, height = shapes[(n + p) % 3]
            names.append(f"{'n' * 150}-{n}-{p}.png")
            record = {"request": request(**changes, sampler_name="s" * 90 + str(n))}
            (work / names[-1]).write_bytes(with_recipe(record, width=width, height=height))
    (work / ("gone" * 50 + ".png")).write_bytes(b"junk")
    drawn = Drawn(monkeypatch)
    ended = chroma("sheet", *names, "gone" * 50 + ".png", "--columns", columns, "-o", "s.png")
    assert ended.code == 0, ended.said
    with Image.open(work / "s.png") as image:
        plain = image.convert("RGB")
    assert len(drawn.boxes) > 10 and len(drawn.pictures) == 9
    for left, top, right, bottom in drawn.boxes:
        assert 0 < left and 0 < top and right < plain.width and bottom < plain.height
    for number, one in enumerate(drawn.boxes):
        for other in [*drawn.boxes[number + 1 :], *drawn.pictures]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)
    rim = [plain.getpixel((x, y)) for x in range(plain.width) for y in (0, plain.height - 1)]
    rim += [plain.getpixel((x, y)) for y in range(plain.height) for x in (0, plain.width - 1)]
    assert set(rim) == {GROUND}


@pytest.mark.slow
def test_a_tall_sheet_shrinks_until_a_webp_can_hold_it(sheet, work):
    sheet(*({"seed": n} for n in range(60)), name="s.webp", argv=("--columns", "1"), size=300)
    with Image.open(work / "s.webp") as image:
        assert image.height <= 16_383


def test_more_pictures_than_a_sheet_holds_are_refused(chroma, work):
    (work / "0.png").write_bytes(with_recipe({}))
    for number in range(1, 1001):
        (work / f"{number}.png").hardlink_to(work / "0.png")
    assert chroma("sheet", ".", "-o", "s.png").code == 2
    assert not (work / "s.png").exists()


def test_every_kind_of_picture_can_be_shown(chroma, work):
    kinds = {"L": 200, "P": 3, "RGBA": (9, 9, 9, 0), "LA": (9, 0), "I;16": 40_000, "1": 1}
    names = []
    for number, (mode, colour) in enumerate(kinds.items()):
        names.append(f"{number}.png")
        Image.new(mode, (64, 32), colour).save(work / names[-1])
    Image.new("CMYK", (64, 32), (0, 0, 0, 0)).save(work / "cmyk.jpg")
    ended = chroma("sheet", *names, "cmyk.jpg", "-o", "s.png")
    assert (ended.code, ended.warnings) == (0, []), ended.said
    with Image.open(work / "s.png") as image:
        seen = {pixel for _, pixel in image.convert("RGB").getcolors(100_000)}
    assert (200, 200, 200) in seen and (255, 255, 255) in seen
    assert any(pixel[0] == pixel[1] == pixel[2] and abs(pixel[0] - 156) < 3 for pixel in seen)


def test_bombs_foreign_formats_and_missing_files_get_a_place_in_words(chroma, work):
    Image.new("1", (9000, 9000)).save(work / "bomb.png")
    Image.new("P", (9, 9)).save(work / "really.gif")
    (work / "really.gif").rename(work / "gif.png")
    (work / "good.png").write_bytes(noise())
    ended = chroma("sheet", "good.png", "bomb.png", "gif.png", "-o", "s.png")
    assert ended.code == 0, ended.said
    assert "too large: 9000x9000" in ended.err
    assert "gif.png" in ended.err and "not a whole picture" in ended.err


@pytest.mark.parametrize("command", ["sheet", "gallery", "inspect"])
def test_a_folder_that_cannot_be_read_is_told(chroma, work, monkeypatch, command):
    import os

    (work / "pics" / "shut").mkdir(parents=True)
    (work / "pics" / "a.png").write_bytes(with_recipe({"request": {"prompt": "x"}}))
    real = os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder).name == "shut":
            raise PermissionError(13, os.strerror(13), str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    ended = chroma(command, "pics")
    assert ended.code in (0, 11), ended.said
    assert "shut" in ended.err
