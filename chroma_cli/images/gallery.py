"""The gallery: one HTML page that shows many pictures with their recipes, from a disk and without a network.

What stands in a recipe or a file name is hostile text. It enters the page escaped, as text, or inside a
block of JSON in which no tag can end; and the page's own policy lets only its own script and style run,
known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import quote

from chroma_cli.errors import BrokenImage, UsageError
from chroma_cli.images import fields
from chroma_cli.images.cards import Card, thumbnail
from chroma_cli.text import CONTROL

THUMBNAIL: Final = 320
_THUMBNAILS: Final = (32, 1024)
_QUALITY: Final = 78
#: Behind a transparent picture; neutral in both colour schemes.
_MAT: Final = "#808590"
#: The page shows two lines of a prompt; the whole of it stands in the recipe.
_CAPTION: Final = 240
_LONG_FIELDS: Final = frozenset(("prompt", "negative prompt"))
#: Characters of one value below a picture.
_KEY: Final = 32
#: In the head of every page.
_MARK: Final = b'<meta name="generator" content="chroma">'


def is_gallery(path: Path) -> bool:
    """Whether the file is a page of ours, which may be made anew."""
    try:
        with path.open("rb") as file:
            return _MARK in file.read(4096)
    except OSError:
        return False


def make_gallery(
    cards: Sequence[Card],
    *,
    title: str,
    base: Path,
    size: int = THUMBNAIL,
    on_picture: Callable[[int, int], None] | None = None,
    on_broken: Callable[[Path, str], None] | None = None,
) -> Iterator[bytes]:
    """The page as pieces of UTF-8, one picture at a time.

    ``base`` is the folder where the page will lie; links to the pictures are relative to it. ``size`` is the
    longer side of a thumbnail in pixels, 32 to 1024. ``on_picture`` hears how many are done, of how many;
    ``on_broken`` of each file that cannot be shown, and why: the page shows a place for it. Raises UsageError
    for an impossible size.
    """
    if not _THUMBNAILS[0] <= size <= _THUMBNAILS[1]:
        raise UsageError(f"thumbnail: {size} is not from {_THUMBNAILS[0]} to {_THUMBNAILS[1]} pixels.")
    return _pieces(cards, title, base, size, on_picture, on_broken)


def _pieces(
    cards: Sequence[Card],
    title: str,
    base: Path,
    size: int,
    on_picture: Callable[[int, int], None] | None,
    on_broken: Callable[[Path, str], None] | None,
) -> Iterator[bytes]:
    before, between, after = _frame(title, len(cards))
    yield before
    records: list[bytes] = []
    differ = fields.differing(card.recipe for card in cards if card.recipe)
    keys = [name for name in differ if name not in _LONG_FIELDS]
    for number, card in enumerate(cards, start=1):
        name, href = _name(card.path, base), link(card.path, base)
        picture, trouble = _picture(card, size)
        if trouble is not None and on_broken is not None:
            on_broken(card.path, trouble)
        yield _bytes(_item(card, name, href, picture, trouble, keys))
        records.append(json_block(_record(card, name, trouble)))
        if on_picture is not None:
            on_picture(number, len(cards))
    yield between + b"["
    for number, record in enumerate(records):
        yield (b",\n" if number else b"\n") + record
    yield b"\n]" + after


def _frame(title: str, count: int) -> tuple[bytes, bytes, bytes]:
    """The page around the pictures: before them, between them and their data, and the rest."""
    style, script = _asset("style.css"), _asset("script.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            # The originals beside the page; ``'self'`` is empty for a page from a disk.
            "img-src data: 'self' file:",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    page = Template(_asset("page.html")).substitute(
        policy=policy,
        title=_text(title),
        count="1 picture" if count == 1 else f"{count} pictures",
        style=style,
        script=script,
    )
    before, rest = page.split("<!-- cards -->\n", 1)
    between, after = rest.split("<!-- data -->", 1)
    return _bytes(before), _bytes(between), _bytes(after)


def _asset(name: str) -> str:
    text = resources.files(__package__).joinpath("gallery_page", name).read_text(encoding="utf-8")
    # The hash is of what a browser sees, which reads every line end as this one.
    return text.replace("\r\n", "\n")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


# --- one picture -------------------------------------------------------------------------------------------


def _picture(card: Card, size: int) -> tuple[tuple[str, int, int] | None, str | None]:
    """The thumbnail as a data URI with its sides in pixels, or why there is none."""
    from PIL import features

    try:
        small = thumbnail(card.path, (size, size), background=_MAT)
    except BrokenImage as error:
        return None, str(error)
    small.info.clear()
    kind = "webp" if features.check("webp") else "jpeg"
    buffer = io.BytesIO()
    small.save(buffer, kind.upper(), quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (f"data:image/{kind};base64,{data}", small.width, small.height), None


def _item(
    card: Card,
    name: str,
    href: str,
    picture: tuple[str, int, int] | None,
    trouble: str | None,
    keys: Sequence[str],
) -> str:
    """One entry of the list. It works without the script too: as a link to the file."""
    prompt = _caption(card)
    if picture is not None:
        source, width, height = picture
        shown = (
            f'<img src="{source}" width="{width}" height="{height}" alt="{_text(prompt or name)}" '
            'loading="lazy" decoding="async">'
        )
    else:
        shown = f'<span class="broken">cannot be shown: {_text(trouble or "")}</span>'
    badge = '<span class="badge">sandbox</span>' if card.sandbox else ""
    return (
        f'<li class="card"><a href="{_text(href)}"><span class="frame">{shown}</span>{badge}'
        f'<span class="words"><span class="name" title="{_text(name)}">{_text(name)}</span>'
        f'<span class="prompt">{_text(prompt)}</span><span class="key">{_text(_key(card, keys))}</span>'
        "</span></a></li>\n"
    )


def _key(card: Card, keys: Sequence[str]) -> str:
    """The first few fields that set this picture apart."""
    own = fields.fields_of(card.recipe) if card.recipe else {}
    return " · ".join(f"{name} {own[name][:_KEY]}" for name in keys if name in own)[: 3 * _KEY]


def _caption(card: Card) -> str:
    prompt = " ".join(str((card.recipe or {}).get("prompt") or "")[: 4 * _CAPTION].split())
    return prompt if len(prompt) <= _CAPTION else prompt[: _CAPTION - 1].rstrip() + "…"


def _record(card: Card, name: str, trouble: str | None) -> Mapping[str, Any]:
    """What the script knows of a picture. Values are texts: a seed may be too long for its numbers."""
    sides = f"{card.width}x{card.height}" if card.width and card.height else None
    return {
        "name": name,
        "fields": fields.fields_of(card.recipe) if card.recipe else {},
        "command": card.command,
        "body": None if card.recipe is None else _body(card.recipe),
        "id": card.request_id,
        "created": card.created,
        "sandbox": card.sandbox,
        "pixels": sides,
        "bytes": card.bytes,
        "kilobytes": None if card.bytes is None else f"{max(1, round(card.bytes / 1000))} kB",
        "broken": trouble,
    }


def _body(recipe: Mapping[str, Any]) -> str:
    return json.dumps(dict(recipe), ensure_ascii=False, indent=2, default=str)


# --- safe text ---------------------------------------------------------------------------------------------


def link(path: Path, base: Path) -> str:
    """A relative address from the page's folder to the file, in which no scheme can stand.

    Raises nothing: on another drive, where there is no relative way, it is a ``file:`` address.
    """
    target = Path(os.path.realpath(path.parent), path.name)
    try:
        relative = os.path.relpath(target, os.path.realpath(base))
    except ValueError:
        return target.as_uri()
    return "./" + quote(os.fsencode(Path(relative).as_posix()), safe="/")


def _name(path: Path, base: Path) -> str:
    """The path as people read it: relative to the page where it lies below it, else the file's name."""
    try:
        shown = Path(os.path.realpath(path.parent), path.name).relative_to(os.path.realpath(base))
    except ValueError:
        return path.name
    return shown.as_posix()


def json_block(value: object) -> bytes:
    """JSON that can stand inside a script element: pure ASCII, and no character that HTML gives a meaning."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("ascii")


def _text(text: str) -> str:
    """Text as it stands between tags or in quotes; what no file can hold becomes a mark."""
    return html.escape(CONTROL.sub("\ufffd", text), quote=True)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
