"""Landscapes for the placeholder pictures: what to paint follows from words, how from dice.

Soft parts (sky, clouds, light) are painted small and enlarged, hard edges at twice the size and reduced:
that is what makes a picture cheap. Everything is drawn from one seeded generator, in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
#: From points of the picture to points of a drawing surface, and a drawing with it.
Scale = Callable[[list[Point]], list[Point]]
Stamp = Callable[[ImageDraw.ImageDraw, Scale], None]


@dataclass(frozen=True)
class Palette:
    """Sky from top to horizon, the light in it, and the darkest ground."""

    top: Colour
    middle: Colour
    horizon: Colour
    light: Colour
    ground: Colour
    starry: bool


def _palette(names: str, *, starry: bool) -> Palette:
    top, middle, horizon, light, ground = (
        (int(name[0:2], 16), int(name[2:4], 16), int(name[4:6], 16)) for name in names.split()
    )
    return Palette(top, middle, horizon, light, ground, starry)


PALETTES: Final = (
    _palette("1b1438 6b2a5b f08a5d ffe2a8 140d26", starry=True),  # ember
    _palette("0b2545 1a6f8f f6c89f fff1d0 071a2e", starry=False),  # dawn
    _palette("040d1f 0b3b4a 46c7a2 dcfff0 03121b", starry=True),  # aurora
    _palette("2d1e4f a64b7a ffcdb0 fff4e3 1d1233", starry=False),  # rose
    _palette("235a7d 8fb6c4 f7d08a fff6d6 3d2420", starry=False),  # desert
    _palette("060b22 203670 8fa6d8 f4f6ff 04081c", starry=True),  # moonlight
    _palette("14382f 5a8a5a f2d983 fffbe0 0a1c17", starry=False),  # woods
    _palette("1d0a1c 7d1a35 f4763c ffe0b0 14060f", starry=True),  # crimson
)

#: Words that call for a motif; without one, the dice decide.
_MOTIF_WORDS: Final = {
    "castle": ("castle", "knight", "medieval", "armor", "armour", "king", "queen", "tower", "dragon"),
    "trees": ("forest", "tree", "trees", "wood", "woods", "garden", "fox", "wolf", "bear", "deer", "nature"),
    "city": ("city", "street", "building", "skyline", "architecture", "neon", "robot", "car", "house"),
    "water": ("sea", "ocean", "lake", "water", "river", "beach", "boat", "ship", "island", "fish"),
    "planet": ("space", "planet", "galaxy", "astronaut", "star", "stars", "alien", "cosmic", "moon"),
}
MOTIFS: Final = ("mountains", "castle", "trees", "city", "water", "planet")


def motif_of(words: list[str], dice: Random) -> str:
    """What the words call for, the first of them first."""
    rolled = dice.choice(MOTIFS)
    for word in words:
        for motif, names in _MOTIF_WORDS.items():
            if word in names:
                return motif
    return rolled


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """``one`` with ``share`` (0 to 1) of ``other`` in it."""
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


def vertical(size: tuple[int, int], stops: list[tuple[float, Colour]]) -> Image.Image:
    """A gradient from top to bottom through ``stops`` (position 0 to 1, colour)."""
    rows = 96
    strip = Image.new("RGB", (1, rows))
    for row in range(rows):
        at = row / (rows - 1)
        after = next((i for i, stop in enumerate(stops) if stop[0] >= at), len(stops) - 1)
        (start, one), (end, other) = stops[max(0, after - 1)], stops[after]
        share = 0.0 if end <= start else (at - start) / (end - start)
        strip.putpixel((0, row), mix(one, other, min(1.0, max(0.0, share))))
    return strip.resize(size, Image.Resampling.BICUBIC)


def noise(size: tuple[int, int], dice: Random, *, cells: tuple[int, int], octaves: int = 4) -> Image.Image:
    """Smooth clouds in grey: random cells, enlarged, each octave finer and weaker."""
    width, height = size
    total: Image.Image | None = None
    for octave in range(octaves):
        across, down = cells[0] << octave, cells[1] << octave
        layer = Image.frombytes("L", (across, down), dice.randbytes(across * down))
        layer = layer.resize((width, height), Image.Resampling.BICUBIC)
        total = layer if total is None else Image.blend(total, layer, 1 / (octave + 1.6))
    assert total is not None
    return total


def curve(image: Image.Image, low: int, high: int, *, power: float = 1.0, top: int = 255) -> Image.Image:
    """Grey levels from ``low`` to ``high`` spread over 0 to ``top``."""
    spread = max(1, high - low)
    table = [round(top * min(1.0, max(0.0, (level - low) / spread)) ** power) for level in range(256)]
    return image.point(table)


def glow(size: tuple[int, int], centre: Point, radius: float, *, power: float, top: int) -> Image.Image:
    """A grey mask that fades from ``top`` at ``centre`` to 0 at ``radius``."""
    side = max(2, round(radius * 2))
    # Pillow's gradient reaches its end in the corners; 75 is where it stands at the middle of a side.
    ball = curve(ImageChops.invert(Image.radial_gradient("L")), 75, 255, power=power, top=top)
    mask = Image.new("L", size)
    corner = (round(centre[0]) - side // 2, round(centre[1]) - side // 2)
    mask.paste(ball.resize((side, side), Image.Resampling.BICUBIC), corner)
    return mask


class Scene:
    """One landscape of ``size`` pixels; :meth:`painted` gives it as an RGB image."""

    def __init__(self, size: tuple[int, int], palette: Palette, motif: str, dice: Random) -> None:
        self.size = size
        self.width, self.height = size
        self.unit = min(size) / 100
        self.palette = palette
        self.motif = motif
        self.dice = dice
        self.horizon = self.height * dice.uniform(0.58, 0.68)
        aside = 0.18 if motif == "planet" else 0.3
        self.sun = (self.width * (0.5 + dice.uniform(-aside, aside)), self.height * dice.uniform(0.24, 0.44))
        self.sun_radius = self.unit * dice.uniform(6, 11)
        self.image = Image.new("RGB", size)
        self.shore: list[Point] = [(0.0, self.horizon)]

    def painted(self) -> Image.Image:
        self._sky()
        if self.motif == "planet":
            self._planet()
        else:
            self._sun()
        self._clouds()
        ridges = 5 if self.motif in ("mountains", "planet") else 4
        for layer in range(ridges):
            if self.motif == "water" and layer == 2:
                self._water()
            self._ridge(layer, ridges)
        self._vignette()
        return self.image

    # --- the sky ----------------------------------------------------------------------------------------

    def _sky(self) -> None:
        p = self.palette
        at = self.horizon / self.height
        stops = [(0.0, p.top), (at * 0.55, p.middle), (at, p.horizon), (1.0, p.light)]
        self.image.paste(vertical(self.size, stops))
        if p.starry or self.motif == "planet":
            self._stars()

    def _stars(self) -> None:
        sky = Image.new("L", self.size)
        draw = ImageDraw.Draw(sky)
        for _ in range(320):
            x, y = self.dice.uniform(0, self.width), self.dice.random() ** 1.6 * self.horizon * 0.8
            size = self.unit * 0.09 * (1 + self.dice.random() ** 6 * 3)
            level = round(self.dice.uniform(90, 255) * (1 - y / self.horizon))
            draw.ellipse((x - size, y - size, x + size, y + size), fill=level)
        sky = ImageChops.lighter(sky, sky.filter(ImageFilter.BoxBlur(self.unit * 0.15)))
        self.image.paste(self.palette.light, mask=sky)

    def _small(self, divisor: int = 4) -> tuple[int, int]:
        return (max(2, self.width // divisor), max(2, self.height // divisor))

    def _shine(self, colour: Colour, radius: float, power: float, top: int) -> None:
        """Light around the sun; painted at a quarter of the size, being soft."""
        centre = (self.sun[0] / 4, self.sun[1] / 4)
        mask = glow(self._small(), centre, radius / 4, power=power, top=top)
        self.image.paste(colour, mask=mask.resize(self.size, Image.Resampling.BICUBIC))

    def _sun(self) -> None:
        p = self.palette
        self._shine(p.horizon, self.unit * 90, 1.6, 190)
        self._shine(p.light, self.unit * 40, 1.9, 210)
        self._disc(self.sun, self.sun_radius, mix(p.light, (255, 255, 255), 0.55))

    def _disc(self, centre: Point, radius: float, colour: Colour) -> None:
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        self._oval(box, colour, 255)

    def _planet(self) -> None:
        p = self.palette
        radius = self.unit * self.dice.uniform(20, 27)
        self._shine(p.middle, radius * 3.2, 1.8, 200)
        self._shine(p.horizon, radius * 1.9, 1.4, 230)
        box = (round(self.sun[0] - radius), round(self.sun[1] - radius))
        side = round(radius * 2)
        bands = noise((side, side), self.dice, cells=(1, 9), octaves=3).rotate(18, Image.Resampling.BILINEAR)
        ball = Image.composite(
            Image.new("RGB", (side, side), mix(p.light, p.horizon, 0.25)),
            Image.new("RGB", (side, side), mix(p.horizon, p.middle, 0.55)),
            curve(bands, 70, 185),
        )
        dark = glow((side, side), (side * 0.3, side * 0.3), side * 1.15, power=0.75, top=255)
        ball = Image.composite(ball, Image.new("RGB", (side, side), mix(p.top, p.ground, 0.4)), dark)
        mask = Image.new("L", (side * 2, side * 2))
        ImageDraw.Draw(mask).ellipse((2, 2, side * 2 - 3, side * 2 - 3), fill=255)
        self.image.paste(ball, box, mask.reduce(2))
        self._ring(radius)

    def _ring(self, radius: float) -> None:
        across, thin = round(radius * 4.2), round(radius * 1.1)
        ring = Image.new("L", (across * 2, thin * 2))
        draw = ImageDraw.Draw(ring)
        for share, level in ((1.0, 150), (0.9, 60), (0.86, 210), (0.74, 0)):
            w, h = across * share, thin * share
            draw.ellipse((across - w, thin - h, across + w, thin + h), fill=level)
        # The half behind the planet is hidden by it.
        hidden = radius * 2 * 0.985
        draw.pieslice((across - hidden, thin - hidden, across + hidden, thin + hidden), 180, 360, fill=0)
        ring = ring.reduce(2).rotate(14, Image.Resampling.BICUBIC, expand=True)
        corner = (round(self.sun[0] - ring.width / 2), round(self.sun[1] - ring.height / 2))
        self.image.paste(self.palette.light, corner, ring)

    def _clouds(self) -> None:
        small = self._small()
        banks = curve(noise(small, self.dice, cells=(3, 9)), 118, 205, power=1.2, top=200)
        fade = vertical(
            small, [(0.0, (40, 40, 40)), (0.3, (150, 150, 150)), (0.6, (255, 255, 255))]
        ).getchannel(0)
        banks = ImageChops.multiply(banks, fade).resize(self.size, Image.Resampling.BICUBIC)
        self.image.paste(mix(self.palette.horizon, self.palette.light, 0.5), mask=banks)
        shade = curve(noise(small, self.dice, cells=(2, 7)), 130, 220, top=120)
        self.image.paste(self.palette.middle, mask=shade.resize(self.size, Image.Resampling.BICUBIC))

    # --- the ground -------------------------------------------------------------------------------------

    def _stamp(self, draw_it: Stamp, box: Box, paint: Colour | Image.Image) -> None:
        """Paint through a mask that is drawn at twice the size inside ``box``, for smooth edges.

        ``draw_it`` gets a drawing surface and a function from picture coordinates to it. ``paint`` is a
        colour, or an image of the box's size.
        """
        left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
        right, bottom = min(self.width, math.ceil(box[2])), min(self.height, math.ceil(box[3]))
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", ((right - left) * 2, (bottom - top) * 2))
        draw_it(ImageDraw.Draw(mask), lambda points: [((x - left) * 2, (y - top) * 2) for x, y in points])
        self.image.paste(paint, (left, top, right, bottom), mask.reduce(2))

    def _oval(self, box: Box, colour: Colour, level: int) -> None:
        """An ellipse that fills ``box``, as opaque as ``level`` (0 to 255)."""

        def oval(draw: ImageDraw.ImageDraw, at: Scale) -> None:
            start, end = at([(box[0], box[1]), (box[2], box[3])])
            draw.ellipse((*start, *end), fill=level)

        self._stamp(oval, box, colour)

    def _outline(self, level: float, height: float, roughness: float) -> list[Point]:
        """A ridge from left to right by midpoint displacement, about ``level`` pixels from the top."""
        dice = self.dice
        heights = [dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(-1, 1)]
        spread = 0.75
        while len(heights) < 257:
            finer = [heights[0]]
            for one, other in pairwise(heights):
                finer += [(one + other) / 2 + dice.uniform(-spread, spread), other]
            heights, spread = finer, spread * roughness
        step = self.width / (len(heights) - 1)
        return [(i * step, level - height * value) for i, value in enumerate(heights)]

    def _ground(self, depth: float) -> Colour:
        """The colour of the land, from hazy (0) to near (1)."""
        p = self.palette
        far = mix(p.horizon, p.middle, 0.6)
        return mix(far, p.ground, 0.15 + 0.85 * depth**0.8)

    def _ridge(self, layer: int, layers: int) -> None:
        """A range of hills, the far one being ``layer`` 0; what stands on it has its feet behind it."""
        depth = layer / (layers - 1)
        base = self.horizon + (self.height * 0.97 - self.horizon) * depth**1.3 * 0.8
        height = self.unit * (15 - 6 * depth)
        outline = self._outline(base - height * 0.3, height, 0.55 if depth < 0.7 else 0.46)
        self.shore = outline
        if layer == layers - 2:
            self._landmark()
        if layer == layers - 1 and self.motif != "city":
            self._treeline()
        self._land(outline, self._ground(depth), haze=0.5 * (1 - depth))

    def _land(self, outline: list[Point], colour: Colour, haze: float) -> None:
        top = max(0, math.floor(min(y for _, y in outline)))
        size = (self.width, self.height - top)
        if size[1] <= 0:
            return
        misty = mix(colour, mix(self.palette.horizon, self.palette.light, 0.3), haze)
        fill = vertical(size, [(0.0, colour), (0.5, misty), (1.0, misty)])
        # Folds of light on the slopes.
        folds = curve(
            noise((size[0] // 4 or 1, size[1] // 4 or 1), self.dice, cells=(9, 4)), 110, 200, top=70
        )
        fill.paste(mix(colour, self.palette.light, 0.5), mask=folds.resize(size, Image.Resampling.BICUBIC))
        shape = [*outline, (self.width, self.height + 2), (0, self.height + 2)]
        box = (0.0, float(top), float(self.width), float(self.height))
        self._stamp(lambda draw, at: draw.polygon(at(shape), fill=255), box, fill)

    def _level_at(self, x: float) -> float:
        """Where the last ridge is at ``x``."""
        index = round(x / self.width * (len(self.shore) - 1))
        return self.shore[min(len(self.shore) - 1, max(0, index))][1]

    def _landmark(self) -> None:
        if self.motif == "castle":
            self._castle()
        elif self.motif == "city":
            self._city()
        elif self.motif == "trees":
            self._trees(count=34, height=self.unit * 15, colour=self._ground(0.8))

    def _silhouette(self, shapes: list[list[Point]], lights: list[Box], colour: Colour) -> None:
        """Polygons in one colour with lit windows in them."""
        xs = [x for shape in shapes for x, _ in shape]
        ys = [y for shape in shapes for _, y in shape]
        box = (min(xs) - 1, min(ys) - 1, max(xs) + 1, max(ys) + 1)

        def shapes_on(draw: ImageDraw.ImageDraw, at: Scale) -> None:
            for shape in shapes:
                draw.polygon(at(shape), fill=255)

        def lights_on(draw: ImageDraw.ImageDraw, at: Scale) -> None:
            for left, top, right, bottom in lights:
                draw.rectangle((*at([(left, top)])[0], *at([(right, bottom)])[0]), fill=230)

        self._stamp(shapes_on, box, colour)
        self._stamp(lights_on, box, mix(self.palette.light, (255, 190, 90), 0.45))

    def _castle(self) -> None:
        u, dice = self.unit, self.dice
        middle = self.width - self.sun[0]
        middle = min(self.width * 0.72, max(self.width * 0.28, middle))
        foot, wall = self._level_at(middle) + u * 2, u * 21
        top, deep = foot - u * 8, foot + u * 14
        # The castle stands on a mound of its own, or a slope would show under it.
        mound = [(middle + wall * 2.4 * i / 12, foot + u * 16 * abs(i / 12) ** 1.7) for i in range(-12, 13)]
        shapes = [[*mound, (mound[-1][0], deep), (mound[0][0], deep)]]
        shapes.append(_battlements(middle - wall, middle + wall, top, deep, u * 1.2))
        lights: list[Box] = []
        for place in (-1.0, -0.62, -0.24, 0.2, 0.58, 1.0):
            x = middle + wall * place + dice.uniform(-1, 1) * u
            half = u * dice.uniform(2.0, 3.4)
            head = top - u * (dice.uniform(5, 11) + 20 * (1 - abs(place)))
            shapes += _tower(
                x, half, head, deep, u, roof=dice.uniform(2.6, 4.0) if dice.random() < 0.75 else 0
            )
            rows = [head + u * (3.2 + floor * 4.6) for floor in range(4)]
            lit = [y for y in rows if y < foot - u * 3 and dice.random() < 0.6]
            lights += [(x - u * 0.35, y, x + u * 0.35, y + u * 1.3) for y in lit]
        self._silhouette(shapes, lights, mix(self._ground(0.85), self.palette.middle, 0.12))

    def _city(self) -> None:
        u, dice = self.unit, self.dice
        for row, depth in enumerate((0.45, 0.9)):
            x, shapes, lights = -u, [], []
            while x < self.width:
                wide = u * dice.uniform(4, 10)
                swell = 1 - 0.55 * abs(x / self.width - 0.5) * 2
                head = self.horizon + u * (10 + row * 14) - u * dice.uniform(14, 46 - row * 12) * swell
                shapes.append([(x, self.height), (x, head), (x + wide, head), (x + wide, self.height)])
                if dice.random() < 0.35:
                    mast = x + wide * dice.uniform(0.3, 0.7)
                    shapes.append([(mast - u * 0.15, head), (mast, head - u * 7), (mast + u * 0.15, head)])
                lights += self._windows(x, wide, head, 0.28 + 0.2 * row)
                x += wide * dice.uniform(0.92, 1.25)
            self._silhouette(shapes, lights, self._ground(depth))

    def _windows(self, left: float, wide: float, head: float, share: float) -> list[Box]:
        u, found = self.unit, []
        for column in range(int(wide / (u * 1.5))):
            for floor in range(int((self.height - head) / (u * 2.2))):
                if self.dice.random() < share * 0.5:
                    x, y = left + u * (0.6 + column * 1.5), head + u * (1.4 + floor * 2.2)
                    found.append((x, y, x + u * 0.65, y + u * 1.0))
        return found

    def _trees(self, count: int, height: float, colour: Colour) -> None:
        shapes = []
        for _ in range(count):
            x = self.dice.uniform(-0.02, 1.02) * self.width
            tall = height * self.dice.uniform(0.5, 1.25)
            shapes.append(_conifer(x, self._level_at(x) + tall * 0.2, tall, self.dice))
        self._silhouette(shapes, [], colour)

    def _treeline(self) -> None:
        """A few trees close by, left or right, to frame the view."""
        side = self.dice.choice((0.0, 0.78))
        shapes = []
        for _ in range(9):
            x = self.width * (side + self.dice.random() ** 1.2 * 0.24)
            tall = self.unit * self.dice.uniform(9, 22)
            shapes.append(_conifer(x, self._level_at(x) + tall * 0.2, tall, self.dice))
        self._silhouette(shapes, [], mix(self.palette.ground, (0, 0, 0), 0.25))

    def _water(self) -> None:
        """Everything above the water line again, upside down, darker and rippled."""
        line = round(self.horizon + self.unit * 4)
        depth = self.height - line
        above = self.image.crop((0, max(0, line - depth), self.width, line))
        mirror = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(
            (self.width // 8 or 1, depth // 2 or 1)
        )
        mirror = mirror.resize((self.width, depth), Image.Resampling.BICUBIC)
        tint = vertical(mirror.size, [(0.0, self.palette.middle), (1.0, self.palette.ground)])
        self.image.paste(Image.blend(mirror, tint, 0.45), (0, line))
        for _ in range(150):
            near = self.dice.random() ** 1.5
            y = line + depth * near
            x = self.sun[0] + self.dice.gauss(0, 1) * self.unit * (4 + 22 * near)
            half, thick = (
                self.unit * self.dice.uniform(0.8, 4) * (0.5 + near),
                self.unit * (0.08 + 0.3 * near),
            )
            box = (x - half, y - thick, x + half, y + thick)
            self._oval(box, self.palette.light, 150)

        self._boat(line)

    def _boat(self, line: int) -> None:
        u = self.unit * self.dice.uniform(0.9, 1.5)
        x, y = self.width * self.dice.uniform(0.2, 0.8), line + self.unit * self.dice.uniform(3.5, 6)
        hull = [
            (x - 5 * u, y - 1.2 * u),
            (x + 5 * u, y - 1.2 * u),
            (x + 3.6 * u, y + 0.5 * u),
            (x - 3.8 * u, y + 0.5 * u),
        ]
        main = [(x - 0.3 * u, y - 1.8 * u), (x - 0.3 * u, y - 12 * u), (x + 4.4 * u, y - 2.2 * u)]
        jib = [(x - 0.8 * u, y - 2.0 * u), (x - 0.8 * u, y - 10 * u), (x - 4.2 * u, y - 2.0 * u)]
        self._silhouette([hull], [], self.palette.ground)
        self._silhouette([main, jib], [], mix(self.palette.light, self.palette.horizon, 0.35))

    def _vignette(self) -> None:
        dark = curve(Image.radial_gradient("L"), 110, 255, power=1.6, top=120)
        self.image.paste(self.palette.ground, mask=dark.resize(self.size, Image.Resampling.BICUBIC))


def _battlements(left: float, right: float, top: float, bottom: float, tooth: float) -> list[Point]:
    """A wall with a crenellated edge."""
    points = [(left, bottom)]
    teeth = max(3, round((right - left) / (tooth * 2)) | 1)
    step = (right - left) / teeth
    for i in range(teeth):
        y = top if i % 2 == 0 else top + tooth
        points += [(left + i * step, y), (left + (i + 1) * step, y)]
    return [*points, (right, bottom)]


def _tower(x: float, half: float, head: float, foot: float, u: float, *, roof: float) -> list[list[Point]]:
    """A tower with battlements; with ``roof`` (its steepness) also a pointed roof and a flag."""
    shapes = [
        [(x - half, foot), (x - half, head), (x + half, head), (x + half, foot)],
        _battlements(x - half * 1.25, x + half * 1.25, head - u * 0.6, head + u * 1.6, u * 0.7),
    ]
    if roof:
        tip, pole = head - half * roof, u * 0.12
        shapes += [
            [(x - half * 1.25, head + u * 0.4), (x, tip), (x + half * 1.25, head + u * 0.4)],
            [(x, tip - u * 2.4), (x + u * 2.2, tip - u * 1.7), (x, tip - u)],
            [(x - pole, tip - u * 2.4), (x + pole, tip - u * 2.4), (x + pole, tip + u), (x - pole, tip + u)],
        ]
    return shapes


def _conifer(x: float, foot: float, tall: float, dice: Random) -> list[Point]:
    """A fir as one jagged outline."""
    left, right = [], []
    tiers = 6
    for tier in range(tiers):
        share = (tier + 1) / tiers
        y = foot - tall * (1 - share)
        wide = tall * 0.24 * share * dice.uniform(0.85, 1.15)
        left += [(x - wide, y), (x - wide * 0.5, y - tall * 0.025)]
        right += [(x + wide, y), (x + wide * 0.5, y - tall * 0.025)]
    return [(x, foot - tall), *right, *reversed(left)]
