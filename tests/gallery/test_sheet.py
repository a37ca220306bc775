"""Contact sheets: what the labels say, that no text meets another, and what a large one costs."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from chroma_cli.errors import BrokenImage, NotFound, UsageError
from chroma_cli.images import fields
from chroma_cli.images.arrangement import as_grid, by_axes
from chroma_cli.images.cards import Card, measure, thumbnail, walk
from chroma_cli.images.lettering import ELLIPSIS, GAP, pen
from chroma_cli.images.sheet import Axis, Sheet, make_sheet
from chroma_cli.request import schema

PROMPT = "a young knight in shining armor, standing in a misty forest at dawn"
GROUND = (0x16, 0x18, 0x1C)


def recipe(**changes: Any) -> dict[str, Any]:
    body = {parameter.name: parameter.default for parameter in schema.PARAMETERS}
    return {**body, "prompt": PROMPT, "seed": 7, **changes}


def draw_file(
    path: Path, size: tuple[int, int] = (60, 60), colour: Any = (200, 30, 30), **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = options.pop("mode", "RGB")
    Image.new(mode, size, colour).save(path, **options)
    return path


def drawn(cards: list[Card], **options: Any) -> tuple[Sheet, Image.Image]:
    buffer = io.BytesIO()
    sheet = make_sheet(cards, buffer, **options)
    image = Image.open(buffer)
    image.load()
    assert image.size == (sheet.width, sheet.height)
    return sheet, image


# --- fields ------------------------------------------------------------------------------------------------


def test_only_what_differs_is_named() -> None:
    recipes = [recipe(cfg=5), recipe(cfg=7.5, sampler_name="heun")]
    assert fields.differing(recipes) == ["cfg", "sampler"]
    assert fields.differing([recipe(cfg=7), recipe(cfg=7.0)]) == []
    assert fields.differing([]) == []


def test_size_is_one_field_and_the_named_ratio_decides_it() -> None:
    named = recipe(aspect_ratio="16:9 landscape 1344x768", width=1024, height=1024)
    custom = recipe(aspect_ratio="custom", width=1344, height=768)
    assert fields.differing([named, custom]) == []
    assert fields.differing([named, recipe()]) == ["size"]
    assert fields.fields_of(custom)["size"] == "1344x768"
    assert "size" not in fields.fields_of({"prompt": "x", "width": 800})


def test_what_cannot_be_seen_does_not_differ_and_what_is_missing_does() -> None:
    assert fields.differing([recipe(base64=True, samples=4), recipe()]) == []
    assert fields.differing([{"prompt": "x"}, {"prompt": "x", "steps": 20}]) == ["steps"]
    assert fields.differing([{"prompt": "x", "Model hash": "ab"}, {"prompt": "x"}]) == ["Model hash"]


def test_long_prompts_show_where_they_part() -> None:
    texts = fields.from_where_they_differ([PROMPT + " in winter", PROMPT + " in high summer"])
    assert texts == ["… dawn in winter", "… dawn in high summer"]
    assert fields.from_where_they_differ(["a cat", "a dog"]) == ["a cat", "a dog"]


@given(
    st.dictionaries(
        st.text(max_size=9),
        st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.lists(st.integers())),
    )
)
def test_any_recipe_makes_fields(body: dict[str, Any]) -> None:
    assert all(isinstance(text, str) for text in fields.fields_of(body).values())
    assert fields.differing([body, body]) == []


# --- letters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 7.5", "plain text, 7.5"),
        ("étoile über Ångström", "etoile uber Angstrom"),
        ("снег и Ёж", "sneg i Ezh"),
        ("λόγος", "logos"),
        ("1024×1024 — ok", "1024x1024 - ok"),
        ("中文 prompt 提示", f"{GAP} prompt {GAP}"),
        ("ひらがな 강", "hiragana gang"),
        ("fire 🔥", "fire (fire)"),
        ("a\x1b[31m\u202eb\nc\td", "a[31mb c d"),
        ("\ud800", GAP),
        ("a\ufe0f\u200d", "a"),
    ],
)
def test_what_the_font_lacks_is_written_otherwise(text: str, shown: str) -> None:
    assert pen(16).readable(text) == shown


@given(st.text(max_size=60))
def test_no_missing_glyph_is_ever_drawn(text: str) -> None:
    written = pen(16).readable(text)
    assert all(pen(16).knows(char) for char in written)


@settings(max_examples=60)
@given(st.text(alphabet="abc WMil…,", max_size=120), st.integers(20, 400), st.integers(1, 4))
def test_lines_fit_and_lose_nothing_silently(text: str, width: int, lines: int) -> None:
    used = pen(14)
    made = used.wrapped(text, width, lines)
    assert len(made) <= lines
    assert all(used.width(line) <= width for line in made)
    if not made or not made[-1].endswith(ELLIPSIS):
        assert "".join("".join(made).split()) == "".join(text.split())


def test_a_shortened_text_says_so() -> None:
    used = pen(14)
    assert used.shortened("short", 200) == "short"
    cut = used.shortened("a very long text that cannot fit", 80)
    assert cut.endswith(ELLIPSIS) and used.width(cut) <= 80
    assert used.shortened("anything", 1) == ""
    assert len(used.readable("x" * 100_000)) < 3000


# --- arrangement -------------------------------------------------------------------------------------------


def cards_of(*recipes: dict[str, Any] | None) -> list[Card]:
    return [Card(Path(f"p-{number}.png"), body) for number, body in enumerate(recipes)]


def test_labels_name_the_differences_and_the_file_only_when_needed() -> None:
    plan = as_grid(cards_of(recipe(cfg=5), recipe(cfg=9), recipe(cfg=9), None), None)
    assert [slot.says for slot in plan.slots] == [
        (("cfg", "5"),),
        (("", "p-1.png"), ("cfg", "9")),
        (("", "p-2.png"), ("cfg", "9")),
        (("", "p-3.png"),),
    ]
    assert (plan.columns, plan.rows) == (2, 2)


def test_labels_that_look_alike_in_this_font_get_the_name() -> None:
    plan = as_grid(cards_of(recipe(prompt="猫"), recipe(prompt="犬")), None)
    assert all(slot.says[0][0] == "" for slot in plan.slots)


def test_two_axes_become_rows_and_columns_with_gaps() -> None:
    made = [recipe(cfg=c, sampler_name=s) for c in (5, 7.5) for s in ("euler", "heun")][:-1]
    plan = by_axes(cards_of(*made), (Axis("cfg", ("5", 7.5)), Axis("sampler", ("euler", "heun"))), None)
    assert plan is not None
    assert [head.text for head in plan.row_heads] == ["5", "7.5"]
    assert [(head.name, head.text) for head in plan.column_heads] == [
        ("sampler", "euler"),
        ("sampler", "heun"),
    ]
    assert [(slot.row, slot.column, slot.card is None) for slot in plan.slots] == [
        (0, 0, False),
        (0, 1, False),
        (1, 0, False),
        (1, 1, True),
    ]
    assert all(slot.says == () for slot in plan.slots)


def test_beside_the_axes_only_what_else_differs_is_said() -> None:
    plan = by_axes(cards_of(recipe(cfg=5, seed=1), recipe(cfg=7, seed=2)), [Axis("cfg")], None)
    assert plan is not None
    assert [slot.says for slot in plan.slots] == [(("seed", "1"),), (("seed", "2"),)]


def test_samples_of_one_combination_stand_below_one_heading() -> None:
    plan = by_axes(cards_of(recipe(cfg=5), recipe(cfg=5), recipe(cfg=9), recipe(cfg=9)), [Axis("cfg")], None)
    assert plan is not None
    assert plan.columns == 4
    assert [(head.start, head.span) for head in plan.column_heads] == [(0, 2), (2, 2)]


def test_ratios_head_their_columns_and_are_not_said_again() -> None:
    wide, square = "16:9 landscape 1344x768", "1:1 square 1024x1024"
    made = cards_of(recipe(aspect_ratio=wide), recipe(aspect_ratio=square))
    plan = by_axes(made, [Axis("aspect", (wide, square))], None)
    assert plan is not None
    assert [head.text for head in plan.column_heads] == ["16:9", "1:1"]
    assert all(slot.says == () for slot in plan.slots)


def test_axes_that_do_not_fit_fall_back_to_a_grid() -> None:
    assert by_axes(cards_of(recipe(cfg=5), None), [Axis("cfg")], None) is None
    assert by_axes(cards_of(recipe(cfg=5)), [Axis("cfg", (7,))], None) is None
    assert by_axes(cards_of(recipe(cfg=5)), [], None) is None
    many = [recipe(seed=number) for number in range(20)]
    assert by_axes(cards_of(*many), [Axis("seed")], None) is None


# --- the sheet ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_formats(tmp_path: Path, image_format: str) -> None:
    card = Card(draw_file(tmp_path / "a.png"), recipe())
    _, image = drawn([card], image_format=image_format)
    assert image.format == image_format.upper()


def test_every_picture_is_on_it_in_order_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    cards = [
        Card(draw_file(tmp_path / f"{i}.png", (200, 200), colour), recipe(cfg=5 + i))
        for i, colour in enumerate(colours)
    ]
    first, second = io.BytesIO(), io.BytesIO()
    sheet = make_sheet(cards, first)
    make_sheet(cards, second)
    assert first.getvalue() == second.getvalue()
    raw = iter(Image.open(first).convert("RGB").tobytes())
    found = [pixel for pixel in zip(raw, raw, raw, strict=True) if pixel in colours]
    assert list(dict.fromkeys(found)) == colours
    assert [found.count(colour) for colour in colours] == [200 * 200] * 4
    assert (sheet.columns, sheet.rows, sheet.unreadable) == (2, 2, ())
    # Nothing is enlarged, so small pictures make a small sheet.
    assert sheet.width < 2 * 200 + 100


HOSTILE = "W" * 300 + " " + "supercalifragilistic " * 40


@pytest.mark.parametrize("columns", [1, 3, 9])
@pytest.mark.parametrize("axes", [(), (Axis("negative_prompt"), Axis("prompt"))])
def test_text_never_overlaps_nor_reaches_the_border(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, axes: tuple[Axis, ...]
) -> None:
    boxes: list[tuple[float, float, float, float]] = []
    pictures: list[tuple[int, int, int, int]] = []
    real, real_paste = ImageDraw.ImageDraw.text, Image.Image.paste

    def paste(self: Image.Image, im: Any, box: Any = None, mask: Any = None) -> None:
        if mask is None and isinstance(im, Image.Image):
            pictures.append((*box, box[0] + im.width, box[1] + im.height))
        real_paste(self, im, box, mask)

    def text(self: ImageDraw.ImageDraw, xy: Any, words: str, *rest: Any, **more: Any) -> None:
        font = rest[1]
        box = font.getbbox(words, anchor="ls")
        boxes.append((xy[0] + box[0], xy[1] + box[1], xy[0] + box[2], xy[1] + box[3]))
        real(self, xy, words, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    monkeypatch.setattr(Image.Image, "paste", paste)
    shapes = [(300, 120), (90, 400), (40, 40)]
    cards = [
        Card(
            draw_file(tmp_path / (f"{'n' * 150}-{n}-{p}.png"), shapes[(n + p) % 3]),
            recipe(
                prompt=f"{p} {HOSTILE} {p}", negative_prompt=f"{n}{HOSTILE}", sampler_name="s" * 90 + str(n)
            ),
        )
        for n in range(3)
        for p in range(3)
    ]
    cards += [] if axes else [Card(tmp_path / ("gone" * 60)), Card(tmp_path / "gone.png", recipe())]
    sheet, image = drawn(cards, columns=columns, axes=axes)
    assert len(boxes) > 10 and len(pictures) == 9
    for left, top, right, bottom in boxes:
        assert 0 < left and 0 < top and right < sheet.width and bottom < sheet.height
    for number, one in enumerate(boxes):
        for other in [*boxes[number + 1 :], *pictures]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)
    plain = image.convert("RGB")
    rim = [plain.getpixel((x, y)) for x in range(sheet.width) for y in (0, sheet.height - 1)]
    rim += [plain.getpixel((x, y)) for y in range(sheet.height) for x in (0, sheet.width - 1)]
    assert set(rim) == {GROUND}


def test_a_broken_picture_gets_a_place_and_is_reported(tmp_path: Path) -> None:
    good = draw_file(tmp_path / "good.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(good.read_bytes()[:50])
    told: list[tuple[int, int]] = []
    sheet, _ = drawn(
        [Card(good), Card(broken), Card(tmp_path / "missing.png"), Card(tmp_path)],
        on_picture=lambda done, count: told.append((done, count)),
    )
    assert dict(sheet.unreadable) == {
        str(broken): "not a whole picture",
        str(tmp_path / "missing.png"): "missing",
        str(tmp_path): "not a file",
    }
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_one_broken_picture_alone_is_still_a_sheet(tmp_path: Path) -> None:
    sheet, _ = drawn([Card(tmp_path / "missing.png")])
    assert len(sheet.unreadable) == 1


def test_impossible_sheets_are_refused(tmp_path: Path) -> None:
    card = Card(tmp_path / "x.png")
    for cards, options in (([], {}), ([card], {"columns": 0}), ([card] * 1001, {})):
        with pytest.raises(UsageError):
            make_sheet(cards, io.BytesIO(), **options)  # type: ignore[arg-type]


def test_a_tall_sheet_shrinks_until_a_webp_can_hold_it(tmp_path: Path) -> None:
    path = draw_file(tmp_path / "a.png", (512, 512))
    sheet, _ = drawn([Card(path, recipe(seed=n)) for n in range(60)], columns=1, image_format="webp")
    assert sheet.rows == 60 and sheet.height <= 16_000
    with pytest.raises(UsageError, match="too large"):
        make_sheet([Card(path)] * 900, io.BytesIO(), columns=1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_a_hundred_large_pictures_cost_at_most_500_mb(tmp_path: Path) -> None:
    png = draw_file(tmp_path / "large.png", (2048, 2048), compress_level=1)
    jpeg = draw_file(tmp_path / "large.jpg", (2048, 2048))
    script = f"""
import json, sys
from pathlib import Path
from chroma_cli.images.cards import Card
from chroma_cli.images.sheet import make_sheet
recipes = json.loads(sys.stdin.read())
cards = [Card(Path({str(png)!r} if n % 4 else {str(jpeg)!r}), body) for n, body in enumerate(recipes)]
with open({str(tmp_path / "sheet.png")!r}, "wb") as out:
    sheet = make_sheet(cards, out)
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps([sheet.columns, sheet.rows, peak]))
"""
    bodies = json.dumps([recipe(cfg=5 + n // 10, seed=n) for n in range(100)])
    done = subprocess.run(
        [sys.executable, "-c", script], input=bodies, capture_output=True, text=True, check=True
    )
    columns, rows, peak = json.loads(done.stdout)
    assert (columns, rows) == (10, 10)
    assert peak < 500


# --- pictures on a disk ------------------------------------------------------------------------------------


def test_modes_and_turned_pictures(tmp_path: Path) -> None:
    for mode, colour in (
        ("L", 200),
        ("P", 3),
        ("RGBA", (9, 9, 9, 0)),
        ("LA", (9, 0)),
        ("I;16", 40_000),
        ("1", 1),
    ):
        path = draw_file(tmp_path / f"{mode.replace(';', '')}.png", (64, 32), colour, mode=mode)
        small = thumbnail(path, (16, 16), background="#102030")
        assert (small.mode, small.size) == ("RGB", (16, 8))
        if mode in ("RGBA", "LA"):
            assert small.getpixel((4, 4)) == (0x10, 0x20, 0x30)
        if mode == "I;16":
            assert abs(small.getpixel((4, 4))[0] - 40_000 / 256) < 2
    cmyk = draw_file(tmp_path / "cmyk.jpg", (64, 32), (0, 0, 0, 0), mode="CMYK")
    assert thumbnail(cmyk, (16, 16)).getpixel((4, 4)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = draw_file(tmp_path / "turned.jpg", (640, 320), exif=exif)
    assert measure(turned) == (320, 640)
    assert thumbnail(turned, (80, 80)).size == (40, 80)
    assert thumbnail(draw_file(tmp_path / "tiny.webp", (3, 3)), (80, 80)).size == (3, 3)


def test_bombs_pipes_and_foreign_formats_are_turned_away(tmp_path: Path) -> None:
    bomb = draw_file(tmp_path / "bomb.png", (9000, 9000), 0, mode="1")
    gif = draw_file(tmp_path / "really-a.gif")
    gif.rename(tmp_path / "gif.png")
    for path, words in ((bomb, "too large: 9000x9000"), (tmp_path / "gif.png", "not a whole picture")):
        with pytest.raises(BrokenImage, match=words):
            thumbnail(path, (10, 10))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(BrokenImage, match="not a file"):
            measure(tmp_path / "pipe.png")


def test_walk_finds_pictures_in_counting_order(tmp_path: Path) -> None:
    for name in (
        "b-10.png",
        "b-2.PNG",
        "a.jpeg",
        "sub/c.webp",
        "sub/d.jpg",
        ".hidden.png",
        ".git/e.png",
        "t.txt",
    ):
        draw_file(tmp_path / name, format="PNG")
    (tmp_path / ".chroma-abc-0.part").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)]
    assert found == ["a.jpeg", "b-2.PNG", "b-10.png", "sub/c.webp", "sub/d.jpg"]


def test_walk_has_limits(tmp_path: Path) -> None:
    for number in range(4):
        draw_file(tmp_path / f"{number}.png", (2, 2))
    assert len(walk(tmp_path, limit=4)) == 4
    with pytest.raises(UsageError, match="more than 3"):
        walk(tmp_path, limit=3)
    for wrong in (tmp_path / "none", tmp_path / "1.png"):
        with pytest.raises(NotFound):
            walk(wrong)


def test_walk_tells_of_a_folder_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = tmp_path / "shut"
    shut.mkdir()
    real = os.scandir

    def scandir(folder: Any) -> Any:
        if Path(folder) == shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    told: list[str] = []
    assert walk(tmp_path, unreadable=told.append) == []
    assert told == [str(shut)]
