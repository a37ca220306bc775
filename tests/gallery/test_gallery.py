"""The gallery page as a file: what it says, and that nothing in a recipe or a name can become markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chroma_cli.errors import UsageError
from chroma_cli.images.cards import Card
from chroma_cli.images.gallery import json_block, link, make_gallery

EVIL = "</script></title><img src=x onerror=alert(1)><!--<script> ]]> \u2028\u2029 & \" ' ` \x00 \ud800"


class Page(HTMLParser):
    """The tags, their attributes, and the text of each script and style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._inside = ""
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = "data" if dict(attrs).get("type") else tag
            self.raw.setdefault(self._inside, "")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def records(self) -> list[dict[str, Any]]:
        found = json.loads(self.raw["data"])
        assert isinstance(found, list)
        return found


def made(cards: Sequence[Card], base: Path, title: str = "Pictures", **options: Any) -> Page:
    return Page(b"".join(make_gallery(cards, title=title, base=base, **options)))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "knight.png"
    Image.new("RGB", (640, 320), (200, 30, 30)).save(path)
    return path


def test_a_card_shows_its_picture_and_keeps_its_recipe(picture: Path) -> None:
    recipe = {"prompt": "a knight", "cfg": 7.0, "seed": 2**63 - 1, "steps": 40}
    card = Card(
        picture, recipe, "chroma generate 'a knight'", "req-1", "2026-01-02T03:04:05Z", True, 640, 320, 9000
    )
    page = made([card, Card(picture, {**recipe, "steps": 20})], picture.parent)
    first = page.records[0]
    assert first["fields"] == {"prompt": "a knight", "cfg": "7", "seed": "9223372036854775807", "steps": "40"}
    assert (first["command"], first["id"], first["pixels"]) == (
        "chroma generate 'a knight'",
        "req-1",
        "640x320",
    )
    assert json.loads(first["body"]) == recipe
    assert "steps 40" in page.text and "steps 20" in page.text and "sandbox" in page.text
    image = page.all("img")[0]
    assert (image["alt"], image["loading"], image["width"], image["height"]) == (
        "a knight",
        "lazy",
        "320",
        "160",
    )
    head, _, data = str(image["src"]).partition(";base64,")
    small = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (head, small.size) == (f"data:image/{str(small.format).lower()}", (320, 160))


def test_only_our_own_script_and_style_may_run(picture: Path) -> None:
    page = made([Card(picture, {"prompt": EVIL})], picture.parent, title=EVIL)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy and "http" not in policy.replace("http-equiv", "")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert [attrs.get("type") for attrs in page.all("script")] == ["application/json", None]
    attributes = {name for _, attrs in page.tags for name in attrs}
    assert "style" not in attributes
    assert not [name for name in attributes if name.startswith("on")]


def test_hostile_text_stays_text_everywhere(tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>&\"'#?%20.png".replace("/", "\u2044")
    path = tmp_path / name
    Image.new("RGB", (8, 8)).save(path)
    card = Card(path, {"prompt": EVIL, EVIL: EVIL, "nested": {EVIL: [EVIL]}}, EVIL, EVIL, EVIL, True)
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"junk")
    calm = made(
        [Card(path, {"prompt": "calm", "x": "1", "nested": "2"}, sandbox=True), Card(broken)], tmp_path
    )
    page = made([card, Card(broken)], tmp_path, title=EVIL)
    assert [(tag, list(attrs)) for tag, attrs in page.tags] == [
        (tag, list(attrs)) for tag, attrs in calm.tags
    ]
    assert page.records[0]["fields"]["prompt"] == EVIL
    assert page.records[0]["command"] == EVIL
    assert page.records[0]["name"] == name
    assert not re.search("[<>&\u2028\u2029]", page.raw["data"])
    href = page.all("a")[0]["href"]
    assert href is not None and (tmp_path / unquote(href)) == path


def test_the_page_asks_for_nothing_from_elsewhere(picture: Path) -> None:
    raw = b"".join(make_gallery([Card(picture)], title="x", base=picture.parent))
    assert not re.search(rb"(https?:)?//[a-z0-9-]+\.[a-z]", raw)
    page = Page(raw)
    assert not page.all("link")[1:] and page.all("link")[0]["href"] == "data:,"
    assert all(str(image.get("src", "data:")).startswith("data:") for image in page.all("img"))


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_survives_its_block(value: Any) -> None:
    block = json_block(value)
    assert not set(block) & set(b"<>&")
    assert json.loads(block) == value


# --- links -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        ("pics/a b.png", ".", "./pics/a%20b.png"),
        ("pics/a.png", "site/deep", "./../../pics/a.png"),
        ("javascript:alert(1).png", ".", "./javascript%3Aalert%281%29.png"),
        ("a#b?c%d&e.png", ".", "./a%23b%3Fc%25d%26e.png"),
        ("é.png", ".", "./%C3%A9.png"),
        ("\\\\host\\x.png", ".", "./%5C%5Chost%5Cx.png"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not have")
def test_links_are_relative_and_quoted(tmp_path: Path, path: str, base: str, expected: str) -> None:
    assert link(tmp_path / path, tmp_path / base) == expected


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@given(
    st.binary(min_size=1, max_size=40).filter(
        lambda raw: not set(raw) & set(b"\0/") and raw not in (b".", b"..")
    )
)
def test_any_file_name_makes_a_link_back_to_itself(raw: bytes) -> None:
    base = Path("/somewhere/page")
    href = link(Path(os.fsdecode(b"/somewhere/pics/" + raw)), base)
    parts = urlsplit(href)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert href.startswith("./../pics/")
    assert os.fsencode(unquote(href[len("./../pics/") :], errors="surrogateescape")) == raw


def test_a_page_in_a_linked_folder_links_to_the_true_place(tmp_path: Path) -> None:
    true = tmp_path / "deep" / "true"
    true.mkdir(parents=True)
    (tmp_path / "short").symlink_to(true, target_is_directory=True)
    assert link(tmp_path / "a.png", tmp_path / "short") == "./../../a.png"


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    page = made([Card(path)], tmp_path)
    assert page.all("a")[0]["href"] == "./caf%E9.png"


# --- the rest ----------------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_shown_have_a_place_and_are_reported(picture: Path) -> None:
    broken = picture.with_name("broken.png")
    broken.write_bytes(picture.read_bytes()[:60])
    told: list[tuple[Path, str]] = []
    steps: list[tuple[int, int]] = []
    page = made(
        [Card(picture), Card(broken)],
        picture.parent,
        on_broken=lambda path, why: told.append((path, why)),
        on_picture=lambda done, count: steps.append((done, count)),
    )
    assert told == [(broken, "not a whole picture")]
    assert steps == [(1, 2), (2, 2)]
    assert [record["broken"] for record in page.records] == [None, "not a whole picture"]
    assert "cannot be shown: not a whole picture" in page.text


def test_the_page_is_written_picture_by_picture(picture: Path) -> None:
    seen: list[int] = []
    pieces = make_gallery(
        [Card(picture)] * 3, title="x", base=picture.parent, on_picture=lambda n, _: seen.append(n)
    )
    next(pieces)
    next(pieces)
    assert seen == []
    next(pieces)
    assert seen == [1]


def test_no_pictures_and_wrong_sizes(tmp_path: Path) -> None:
    page = made([], tmp_path)
    assert page.records == [] and "0 pictures" in page.text
    for size in (31, 1025):
        with pytest.raises(UsageError):
            make_gallery([], title="x", base=tmp_path, size=size)


def test_a_thumbnail_carries_nothing_over(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret remark"
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64)).save(path, exif=exif, comment=b"a secret remark", icc_profile=b"secret" * 99)
    source = str(made([Card(path)], tmp_path).all("img")[0]["src"])
    assert b"secret" not in base64.b64decode(source.partition(",")[2])


def test_a_long_prompt_is_cut_in_the_list_and_whole_in_the_recipe(picture: Path) -> None:
    prompt = "word " * 5000
    page = made([Card(picture, {"prompt": prompt})], picture.parent)
    assert len(str(page.all("img")[0]["alt"])) <= 240
    assert page.records[0]["fields"]["prompt"] == prompt
