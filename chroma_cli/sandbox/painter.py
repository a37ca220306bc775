"""Placeholder pictures: an encoded picture of the true size for every request, marked so that nobody takes
it for the model's work.

The same request, seed and sample give the same bytes; another prompt, seed or sample another picture. The
landscape is composed from the prompt's words and the seed; cfg sets contrast and colour, steps the detail.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from random import Random
from typing import Any, Final

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, PngImagePlugin

from chroma_cli.request import schema
from chroma_cli.sandbox import scenery

#: In every file: a PNG text, a JPEG comment, XMP in WebP, so that programs can tell as well.
SOFTWARE: Final = "chroma sandbox"
MARK: Final = "SANDBOX"
#: An EXIF block would have to hold more than its Software tag.
_XMP: Final = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">
   <tiff:Software>{SOFTWARE}</tiff:Software>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()
_SIGNAL: Final = (255, 196, 0)
_INK: Final = (22, 18, 12)


def size_of(request: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in pixels: of the named ratio, or the request's own when it is custom."""
    aspect = schema.ASPECT_BY_NAME.get(request["aspect_ratio"])
    return (aspect.width, aspect.height) if aspect else (request["width"], request["height"])


def paint(request: Mapping[str, Any], *, seed: int, index: int) -> bytes:
    """Sample ``index`` (from 0) of an effective request as a PNG, JPEG or WebP file."""
    prompt = str(request["prompt"])
    source = f"{prompt}\n{request['negative_prompt']}\n{seed}\n{index}"
    dice = Random(source.encode("utf-8", "backslashreplace"))
    words = re.findall(r"\w+", prompt.lower())
    motif = scenery.motif_of(words, dice)
    palette = scenery.PALETTES[dice.randrange(len(scenery.PALETTES))]
    image = scenery.Scene(size_of(request), palette, motif, dice).painted()
    image = _developed(image, float(request["cfg"]), int(request["steps"]), dice)
    _mark(image, prompt, seed, index, int(request["samples"]))
    return _encoded(image, request["image_format"], int(request["image_quality"]))


def _developed(image: Image.Image, cfg: float, steps: int, dice: Random) -> Image.Image:
    """Contrast and colour by cfg, softness by steps, and the grain that makes it a photograph."""
    image = ImageEnhance.Color(image).enhance(0.75 + cfg * 0.035)
    image = ImageEnhance.Contrast(image).enhance(0.86 + cfg * 0.02)
    softness = max(0.0, (40 - steps) / 30) * min(image.size) / 700
    if softness > 0:
        image = image.filter(ImageFilter.BoxBlur(softness))
    side = 256
    tile = Image.frombytes("L", (side, side), dice.randbytes(side * side))
    tile = tile.point([128 + round((level - 128) * 0.05) for level in range(256)])
    grain = Image.new("L", image.size)
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            grain.paste(tile, (left, top))
    return ImageChops.add(image, Image.merge("RGB", (grain, grain, grain)), 1.0, -128)


# --- the mark ----------------------------------------------------------------------------------------------


def _mark(image: Image.Image, prompt: str, seed: int, index: int, samples: int) -> None:
    """A ribbon across a corner and a bar below, both saying what this is."""
    unit = min(image.size) / 100
    bar = round(unit * 6)
    draw = ImageDraw.Draw(image)
    top = image.height - bar
    draw.rectangle((0, top, image.width, image.height), fill=_INK)
    label = ImageFont.load_default(size=unit * 3.4)
    small = ImageFont.load_default(size=unit * 2.5)
    width = draw.textlength(MARK, font=label) + unit * 4
    draw.rectangle((0, top, width, image.height), fill=_SIGNAL)
    draw.text((width / 2, top + bar / 2), MARK, font=label, fill=_INK, anchor="mm")
    number = f"seed {seed}" + (f" / {index + 1} of {samples}" if samples > 1 else "")
    draw.text((image.width - unit * 2, top + bar / 2), number, font=small, fill=_SIGNAL, anchor="rm")
    room = image.width - width - draw.textlength(number, font=small) - unit * 7
    words = _shortened(_printable(prompt), small, room)
    draw.text((width + unit * 2, top + bar / 2), words, font=small, fill=(235, 230, 220), anchor="lm")
    _ribbon(image, unit)


def _ribbon(image: Image.Image, unit: float) -> None:
    length, thick = round(unit * 62), round(unit * 7)
    ribbon = Image.new("RGBA", (length, thick), (*_SIGNAL, 235))
    draw = ImageDraw.Draw(ribbon)
    font = ImageFont.load_default(size=unit * 4.6)
    draw.text((length / 2, thick / 2), MARK, font=font, fill=(*_INK, 255), anchor="mm")
    edge = max(1, round(unit * 0.35))
    draw.rectangle((0, edge, length, edge * 2 - 1), fill=(*_INK, 200))
    draw.rectangle((0, thick - edge * 2, length, thick - edge - 1), fill=(*_INK, 200))
    turned = ribbon.rotate(-45, Image.Resampling.BICUBIC, expand=True)
    centre = round(unit * 17)
    corner = (image.width - centre - turned.width // 2, centre - turned.height // 2)
    image.paste(turned, corner, turned)


def _printable(text: str) -> str:
    """``text`` on one line, without the characters that the font cannot show."""
    line = " ".join(text[:400].split())
    # A letter with an accent that the font lacks is better shown without it than not at all.
    line = "".join(char if _has_glyph(char) else unicodedata.normalize("NFKD", char) for char in line)
    return " ".join("".join(char for char in line if _has_glyph(char)).split())


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    if char == " ":
        return True
    if not char.isprintable() or len(char.encode("utf-8", "replace")) > 3:
        return False
    font = ImageFont.load_default(size=20)
    shape, missing = font.getmask(char), font.getmask("\uffff")
    return shape.size != (0, 0) and (shape.size != missing.size or bytes(shape) != bytes(missing))


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """As many characters as fit into ``room`` pixels, with an ellipsis when some are left out."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


# --- the file ----------------------------------------------------------------------------------------------


def _encoded(image: Image.Image, image_format: str, quality: int) -> bytes:
    out = io.BytesIO()
    if image_format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Software", SOFTWARE)
        image.save(out, "PNG", compress_level=1, pnginfo=info)
        return out.getvalue()
    if image_format == "jpeg":
        image.save(out, "JPEG", quality=quality, comment=SOFTWARE)
    else:
        image.save(out, "WEBP", quality=quality, method=2, xmp=_XMP)
    return out.getvalue()
