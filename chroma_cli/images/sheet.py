"""Contact sheets: many pictures on one, each labelled with what sets it apart from the others.

What all recipes share stands once at the top. With the axes of a sweep, the values stand at the columns and
rows instead. The layout is measured before anything is drawn, so that no text meets another or the border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from chroma_cli.errors import BrokenImage, UsageError
from chroma_cli.images import cards as pictures
from chroma_cli.images import xmp
from chroma_cli.images.arrangement import Axis, Head, Plan, Slot, as_grid, by_axes, shared_by_all
from chroma_cli.images.cards import Card
from chroma_cli.images.lettering import ELLIPSIS, Pen, pen
from chroma_cli.images.pngfile import XMP_KEYWORD

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

#: As many as can still be told apart on one picture.
MAX_CARDS: Final = 1000
#: WebP ends at 16,383; the area keeps the canvas below 200 MB of memory.
_MAX_SIDE: Final = 16_000
_MAX_AREA: Final = 50_000_000
_LARGEST_CELL: Final = 512
_SMALLEST_CELL: Final = 64
_WIDTH: Final = 3200
_NARROWEST: Final = 176

_GROUND: Final = "#16181c"
_PANEL: Final = "#1f2228"
_EDGE: Final = "#3a3f48"
_BRIGHT: Final = "#eceef1"
_MUTED: Final = "#9097a3"

_VALUE_LINES: Final = 3
_LABEL_LINES: Final = 9
_EMPTY: Final = '""'

#: One stretch of text: where it begins, what it says, whether it is the lesser part.
Run = tuple[float, str, bool]


@dataclass(frozen=True)
class Sheet:
    """What was drawn: sides in pixels, and the files that could not be shown, with the reason."""

    width: int
    height: int
    columns: int
    rows: int
    unreadable: tuple[tuple[str, str], ...]


def make_sheet(
    cards: Sequence[Card],
    out: BinaryIO,
    *,
    image_format: str = "png",
    columns: int | None = None,
    axes: Sequence[Axis] = (),
    cell: int | None = None,
    properties: Mapping[str, str] | None = None,
    on_picture: Callable[[int, int], None] | None = None,
) -> Sheet:
    """Draw the cards into one PNG, JPEG or WebP and write it to ``out``.

    ``axes``: one (columns) or two (rows, columns); where a card does not fit them, the sheet is an ordinary
    grid. ``cell``: the side in pixels of a square picture; smaller where the sheet would get too large.
    ``properties`` (XMP, by qualified name) go into the file. ``on_picture`` hears how many are done, of how
    many. A file that cannot be shown gets a place that says
    so. Raises UsageError for no cards, more than 1,000, or an impossible number of columns.
    """
    if not cards:
        raise UsageError("There are no pictures for a sheet.")
    if len(cards) > MAX_CARDS:
        raise UsageError(f"A sheet holds at most {MAX_CARDS} pictures, and these are {len(cards)}.")
    if columns is not None and not 1 <= columns <= MAX_CARDS:
        raise UsageError(f"columns: {columns} is not a whole number from 1 to {MAX_CARDS}.")
    plan = by_axes(cards, axes, columns) or as_grid(cards, columns, axes)
    shapes = [_shape(card) for card in cards]
    layout = _fitting(plan, shapes, shared_by_all(cards), cell)
    canvas, sheet = _draw(layout, on_picture)
    canvas.save(out, image_format.upper(), **_saving(image_format, properties))
    return sheet


def _shape(card: Card) -> tuple[int, int]:
    try:
        return pictures.measure(card.path)
    except BrokenImage:
        return (card.width or 0, card.height or 0)


# --- measuring ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    """Lines of text in one size: each line some runs."""

    pen: Pen
    lines: tuple[tuple[Run, ...], ...] = ()

    @property
    def height(self) -> int:
        return self.pen.line * len(self.lines)

    @property
    def width(self) -> float:
        return max((x + self.pen.width(text) for line in self.lines for x, text, _ in line), default=0.0)


@dataclass(frozen=True)
class _Layout:
    """Everything measured, in pixels. ``left`` and ``tops`` are where the pictures' boxes begin."""

    plan: Plan
    box: tuple[int, int]
    gap: int
    left: int
    tops: tuple[int, ...]
    width: int
    height: int
    margin: int
    labels: tuple[_Text, ...]
    title: _Text
    notes: _Text
    across: tuple[tuple[Head, _Text], ...]
    down: tuple[tuple[Head, _Text], ...]
    heads_top: int

    def x(self, column: int) -> int:
        return self.left + column * (self.box[0] + self.gap)


def _fitting(
    plan: Plan, shapes: Sequence[tuple[int, int]], header: Mapping[str, str], cell: int | None
) -> _Layout:
    """The layout at the wanted cell size, or the largest below it that keeps the sheet within its limits."""
    side = cell or max(160, min(_LARGEST_CELL, _WIDTH // plan.columns))
    while True:
        layout = _measured(plan, shapes, header, side)
        if max(layout.width, layout.height) <= _MAX_SIDE and layout.width * layout.height <= _MAX_AREA:
            return layout
        if side <= _SMALLEST_CELL:
            raise UsageError(
                f"A sheet of {plan.columns} x {plan.rows} pictures would be too large.",
                hint="Make several sheets, or choose another number of columns.",
            )
        side = max(_SMALLEST_CELL, side * 7 // 8)


def _measured(plan: Plan, shapes: Sequence[tuple[int, int]], header: Mapping[str, str], side: int) -> _Layout:
    box = _box(shapes, side)
    small = pen(max(13, min(20, round(box[0] / 24))))
    gap = max(14, round(box[0] / 22))
    margin = gap * 2
    labels = tuple(_flowed(slot.says, box[0], small, _LABEL_LINES) for slot in plan.slots)

    head = pen(round(small.size * 1.15))
    spans = [one.span * (box[0] + gap) - gap for one in plan.column_heads]
    across = tuple(
        (one, _flowed([(one.name, one.text)], span, head, _VALUE_LINES))
        for one, span in zip(plan.column_heads, spans, strict=True)
    )
    side_width = max(120.0, box[0] * 0.7)
    down = tuple((one, _stacked(one, side_width, head)) for one in plan.row_heads)
    gutter = math.ceil(max((text.width for _, text in down), default=-gap)) + gap

    grid = plan.columns * (box[0] + gap) - gap
    inner = gutter + grid
    title = _title(header, inner)
    notes = _flowed([(name, text) for name, text in header.items() if name != "prompt"], inner, small, 4)

    top = margin + title.height + notes.height
    if title.lines or notes.lines:
        top += gap
    heads_top = top
    if across:
        top += max(text.height for _, text in across) + gap // 2
    tops = []
    for row in range(plan.rows):
        tops.append(top)
        below = max(
            (label.height for slot, label in zip(plan.slots, labels, strict=True) if slot.row == row),
            default=0,
        )
        beside = max((text.height for one, text in down if one.start == row), default=0)
        top += max(box[1] + (below + gap // 2 if below else 0), beside) + gap
    return _Layout(
        plan=plan,
        box=box,
        gap=gap,
        left=margin + gutter,
        tops=tuple(tops),
        width=inner + 2 * margin,
        height=top - gap + margin,
        margin=margin,
        labels=labels,
        title=title,
        notes=notes,
        across=across,
        down=down,
        heads_top=heads_top,
    )


def _box(shapes: Sequence[tuple[int, int]], side: int) -> tuple[int, int]:
    """The place for one picture: every picture has the area of the cell's square, none is enlarged."""
    width = height = 0
    for wide, high in shapes:
        if wide < 1 or high < 1:
            continue
        stretch = math.sqrt(min(3.0, max(1 / 3, wide / high)))
        scale = min(1.0, side * stretch / wide, side / stretch / high)
        width, height = max(width, round(wide * scale)), max(height, round(high * scale))
    return max(width, min(side, _NARROWEST)), max(height, min(side, _NARROWEST) // 2)


def _title(header: Mapping[str, str], width: int) -> _Text:
    large = pen(max(17, min(34, round(width / 55))))
    lines = large.wrapped(large.readable(header.get("prompt", "")), width, 2)
    return _Text(large, tuple(((0.0, line, False),) for line in lines))


def _stacked(head: Head, width: float, with_pen: Pen) -> _Text:
    """A heading with its name above its value."""
    name = with_pen.shortened(with_pen.readable(head.name), width)
    value = with_pen.wrapped(with_pen.readable(head.text) or _EMPTY, width, _VALUE_LINES)
    return _Text(with_pen, (((0.0, name, True),), *(((0.0, line, False),) for line in value)))


def _flowed(says: Iterable[tuple[str, str]], width: float, with_pen: Pen, limit: int) -> _Text:
    """Names and values one after another: those that fit stay on one line, a long one gets its own lines."""
    lines: list[tuple[Run, ...]] = []
    line: list[Run] = []
    used = 0.0
    between = with_pen.size * 1.1
    for raw_name, raw_text in says:
        name, text = with_pen.readable(raw_name), with_pen.readable(raw_text) or _EMPTY
        first = _beside(name, with_pen)
        needed = first + with_pen.width(text)
        start = used + between if line else 0.0
        if line and start + needed > width:
            lines.append(tuple(line))
            line, start = [], 0.0
        if needed > width:
            lines += _long(name, text, width, with_pen)
            used = 0.0
            continue
        if name:
            line.append((start, name, True))
        line.append((start + first, text, False))
        used = start + needed
    if line:
        lines.append(tuple(line))
    if len(lines) > limit:
        lines[limit - 1 :] = [((0.0, ELLIPSIS, True),)]
    return _Text(with_pen, tuple(lines))


def _long(name: str, text: str, width: float, with_pen: Pen) -> list[tuple[Run, ...]]:
    # The gap after the name is wider than a blank.
    wrapped = with_pen.wrapped(f"{name} {text}".strip(), width - with_pen.size * 0.4, _VALUE_LINES)
    lines: list[tuple[Run, ...]] = [((0.0, line, False),) for line in wrapped]
    if name and wrapped and wrapped[0].startswith(name + " "):
        rest = wrapped[0][len(name) + 1 :]
        lines[0] = ((0.0, name, True), (_beside(name, with_pen), rest, False))
    return lines


def _beside(name: str, with_pen: Pen) -> float:
    """Where a value begins beside its name."""
    return with_pen.width(name) + with_pen.size * 0.4 if name else 0.0


# --- drawing -----------------------------------------------------------------------------------------------


def _draw(layout: _Layout, on_picture: Callable[[int, int], None] | None) -> tuple[Image.Image, Sheet]:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (layout.width, layout.height), _GROUND)
    draw = ImageDraw.Draw(canvas)
    _write(draw, layout.title, layout.margin, layout.margin)
    _write(draw, layout.notes, layout.margin, layout.margin + layout.title.height)
    for head, text in layout.across:
        _write(draw, text, layout.x(head.start), layout.heads_top)
    for head, text in layout.down:
        _write(draw, text, layout.margin, layout.tops[head.start])
    unreadable = []
    for number, (slot, label) in enumerate(zip(layout.plan.slots, layout.labels, strict=True), start=1):
        left, top = layout.x(slot.column), layout.tops[slot.row]
        reason = _place(canvas, draw, slot, (left, top), layout.box)
        if reason is not None and slot.card is not None:
            unreadable.append((str(slot.card.path), reason))
        _write(draw, label, left, top + layout.box[1] + layout.gap // 2)
        if on_picture is not None:
            on_picture(number, len(layout.plan.slots))
    return canvas, Sheet(
        layout.width, layout.height, layout.plan.columns, layout.plan.rows, tuple(unreadable)
    )


#: More effort makes a sheet hardly smaller, and 100 pictures twice as slow.
_SAVING: Final[Mapping[str, dict[str, int]]] = {
    "png": {"compress_level": 4},
    "jpeg": {"quality": 92},
    "webp": {"quality": 92},
}


def _saving(image_format: str, properties: Mapping[str, str] | None) -> dict[str, Any]:
    """Options for Pillow: the effort, and the XMP packet if there is one."""
    options: dict[str, Any] = dict(_SAVING.get(image_format, {}))
    if not properties:
        return options
    packet = xmp.packet(properties)
    if image_format != "png":
        return {**options, "xmp": packet}
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_itxt(XMP_KEYWORD, packet.decode())
    return {**options, "pnginfo": texts}


def _place(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, slot: Slot, at: tuple[int, int], box: tuple[int, int]
) -> str | None:
    """Put the picture into its box; where there is none, words. Returns why it could not be shown."""
    left, top = at
    frame = (left, top, left + box[0] - 1, top + box[1] - 1)
    if slot.card is None:
        _say(draw, "not made", frame)
        return None
    try:
        small = pictures.thumbnail(slot.card.path, box, background=_PANEL)
    except BrokenImage as error:
        _say(draw, f"cannot be shown: {error}", frame)
        return str(error)
    if small.size != box:
        draw.rectangle(frame, fill=_PANEL)
    canvas.paste(small, (left + (box[0] - small.width) // 2, top + (box[1] - small.height) // 2))
    return None


def _say(draw: ImageDraw.ImageDraw, words: str, frame: tuple[int, int, int, int]) -> None:
    draw.rectangle(frame, fill=_PANEL, outline=_EDGE)
    left, top, right, bottom = frame
    small = pen(max(13, min(18, (right - left) // 20)))
    lines = small.wrapped(small.readable(words), right - left - small.size * 2, 3)
    y = (top + bottom - small.line * len(lines)) // 2
    for number, line in enumerate(lines):
        x = (left + right - small.width(line)) / 2
        draw.text((x, y + number * small.line + small.size), line, _MUTED, small.font, anchor="ls")


def _write(draw: ImageDraw.ImageDraw, text: _Text, left: int, top: int) -> None:
    for number, line in enumerate(text.lines):
        baseline = top + number * text.pen.line + text.pen.size
        for x, words, lesser in line:
            ink = _MUTED if lesser else _BRIGHT
            draw.text((left + x, baseline), words, ink, text.pen.font, anchor="ls")
