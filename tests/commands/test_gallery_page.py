"""The gallery's page: what it says, and that nothing in a recipe or a name can become markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import noise, with_recipe
from PIL import Image

EVIL = "</script></title><img src=x onerror=alert(1)><!--<script> ]]> \u2028\u2029 & \" ' ` \x00 \ud800"
FIXTURES = [HealthCheck.function_scoped_fixture]


class Page(HTMLParser):
    """The tags, their attributes, and the text of each script and style."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.text = ""
        self._at = ""
        self.feed(raw.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._at = "data" if dict(attrs).get("type") else tag
            self.inside.setdefault(self._at, "")

    def handle_endtag(self, tag: str) -> None:
        self._at = ""

    def handle_data(self, data: str) -> None:
        if self._at:
            self.inside[self._at] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def records(self) -> list[dict[str, Any]]:
        return list(json.loads(self.inside["data"]))

    @property
    def links(self) -> list[str]:
        links = [one.get("href") or "#" for one in self.all("a")]
        return [link for link in links if not link.startswith("#")]


@pytest.fixture
def pics(work):
    """A folder for pictures."""
    folder = work / "pics"
    folder.mkdir()
    return folder


@pytest.fixture
def page(chroma, pics):
    """``page()`` is the page of that folder."""

    def make(*argv: str) -> Page:
        ended = chroma("gallery", pics, *argv)
        assert ended.code == 0, ended.said
        return Page(ended.paths[0].read_bytes())

    return make


def test_a_card_shows_its_picture_and_keeps_its_recipe(page, pics, recipe_of):
    for steps in (40, 20):
        request = {"prompt": "a knight", "cfg": 7.0, "seed": 2**63 - 1, "steps": steps}
        record = {"request": request, "request_id": "req-1", "sandbox": True}
        (pics / f"{60 - steps}.png").write_bytes(with_recipe(record, width=640, height=320))
    shown = page()
    [first, _] = shown.records
    assert first["fields"] == {"prompt": "a knight", "cfg": "7", "seed": str(2**63 - 1), "steps": "40"}
    assert (first["id"], first["pixels"]) == ("req-1", "640x320")
    assert first["command"] == recipe_of(pics / "20.png")["command"]
    assert json.loads(first["body"])["steps"] == 40
    assert "steps 40" in shown.text and "steps 20" in shown.text and "sandbox" in shown.text
    image = shown.all("img")[0]
    assert (image["alt"], image["loading"]) == ("a knight", "lazy")
    assert (image["width"], image["height"]) == ("320", "160")
    head, _, data = str(image["src"]).partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert (head, small.size) == (f"data:image/{str(small.format).lower()}", (320, 160))


def test_only_our_own_script_and_style_may_run(page, pics):
    (pics / "a.png").write_bytes(with_recipe({"request": {"prompt": EVIL}}))
    shown = page()
    (policy,) = [m["content"] for m in shown.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy and "http" not in policy
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(shown.inside[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert [attrs.get("type") for attrs in shown.all("script")] == ["application/json", None]
    attributes = {name for _, attrs in shown.tags for name in attrs}
    assert "style" not in attributes
    assert not [name for name in attributes if name.startswith("on")]


def test_the_page_asks_for_nothing_from_elsewhere(page, pics):
    (pics / "a.png").write_bytes(noise())
    shown = page()
    assert not re.search(rb"(https?:)?//[a-z0-9-]+\.[a-z]", shown.raw)
    assert [one["href"] for one in shown.all("link")] == ["data:,"]
    assert all(str(image.get("src", "data:")).startswith("data:") for image in shown.all("img"))


def test_hostile_text_stays_text_everywhere(page, pics, work, chroma):
    name = "</script><img src=x onerror=alert(1)>&\"'#?%20.png".replace("/", "\u2044")
    (pics / "<b>broken.png").write_bytes(b"junk")
    (pics / name).write_bytes(with_recipe({"request": {"prompt": "calm", "x": "1", "nested": "2"}}))
    calm = page()
    request = {"prompt": EVIL, EVIL: EVIL, "nested": {EVIL: [EVIL]}}
    (pics / name).write_bytes(with_recipe({"request": request, "request_id": EVIL, "created_at": EVIL}))
    shown = page()
    assert [(tag, list(attrs)) for tag, attrs in shown.tags] == [
        (tag, list(attrs)) for tag, attrs in calm.tags
    ]
    record = next(one for one in shown.records if one["name"] == name)
    assert record["fields"]["prompt"] == EVIL
    assert not re.search("[<>&\u2028\u2029]", shown.inside["data"])
    assert name in [unquote(link).removeprefix("./") for link in shown.links]


@given(
    st.recursive(
        st.text() | st.integers(-(2**60), 2**60) | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
@settings(max_examples=30, suppress_health_check=FIXTURES)
def test_any_recipe_survives_its_block(chroma, pics, value):
    (pics / "a.png").write_bytes(with_recipe({"request": {"prompt": "x", "more": value}}))
    ended = chroma("gallery", pics)
    assert ended.code == 0, ended.said
    shown = Page(ended.paths[0].read_bytes())
    assert not set(shown.inside["data"]) & set("<>&")
    assert json.loads(shown.records[0]["body"])["more"] == value


# --- links -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not have")
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("a b.png", "./a%20b.png"),
        ("javascript:alert(1).png", "./javascript%3Aalert%281%29.png"),
        ("a#b?c%d&e.png", "./a%23b%3Fc%25d%26e.png"),
        ("é.png", "./%C3%A9.png"),
        ("\\\\host\\x.png", "./%5C%5Chost%5Cx.png"),
        (os.fsdecode(b"caf\xe9.png"), "./caf%E9.png"),
    ],
)
def test_links_are_relative_and_quoted(page, pics, name, link):
    (pics / name).write_bytes(noise())
    assert page().links == [link]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@given(
    st.lists(st.binary(min_size=1, max_size=40).filter(lambda raw: not set(raw) & set(b"\0/")), max_size=5)
)
@settings(max_examples=20, suppress_health_check=FIXTURES)
def test_any_file_name_makes_a_link_back_to_itself(chroma, pics, names):
    for old in pics.iterdir():
        old.unlink()
    wanted = {b"x" + raw + b".png" for raw in names} | {b"one.png"}
    for raw in wanted:
        Path(os.fsdecode(os.fsencode(pics) + b"/" + raw)).write_bytes(with_recipe({}))
    ended = chroma("gallery", pics, "-o", "page.html", "--overwrite")
    assert ended.code == 0, ended.said
    links = Page(ended.paths[0].read_bytes()).links
    for link in links:
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert link.startswith("./pics/")
    found = {os.fsencode(unquote(link[len("./pics/") :], errors="surrogateescape")) for link in links}
    assert found == wanted


def test_a_page_in_a_linked_folder_links_to_the_true_place(page, pics, work):
    (pics / "a.png").write_bytes(noise())
    (work / "deep" / "true").mkdir(parents=True)
    (work / "short").symlink_to(work / "deep" / "true", target_is_directory=True)
    assert page("-o", "short/page.html").links == ["./../../pics/a.png"]


# --- the rest ----------------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_shown_have_a_place(page, pics):
    (pics / "a.png").write_bytes(noise())
    (pics / "broken.png").write_bytes(noise()[:60])
    shown = page()
    assert [record["broken"] for record in shown.records] == [None, "not a whole picture"]
    assert "cannot be shown: not a whole picture" in shown.text


def test_a_thumbnail_carries_nothing_over_and_stands_upright(page, pics):
    exif = Image.Exif()
    exif[0x010E] = "a secret remark"
    exif[0x0112] = 6
    data = noise("jpeg", 64, 32, exif=exif, comment=b"a secret remark", icc_profile=b"secret" * 99)
    (pics / "a.jpg").write_bytes(data)
    image = page().all("img")[0]
    assert (image["width"], image["height"]) == ("32", "64")
    assert b"secret" not in base64.b64decode(str(image["src"]).partition(",")[2])


def test_a_long_prompt_is_cut_in_the_list_and_whole_in_the_recipe(page, pics):
    prompt = "word " * 5000
    (pics / "a.png").write_bytes(with_recipe({"request": {"prompt": prompt}}))
    shown = page()
    assert len(str(shown.all("img")[0]["alt"])) <= 240
    assert shown.records[0]["fields"]["prompt"] == prompt


def test_pictures_come_in_counting_order_and_what_is_hidden_or_none_stays_out(page, pics):
    for name in ("b-10.png", "b-2.PNG", "a.jpeg", "sub/c.webp", "sub/d.jpg", ".hidden.png", ".git/e.png"):
        (pics / name).parent.mkdir(exist_ok=True)
        (pics / name).write_bytes(noise())
    (pics / "t.txt").write_bytes(noise())
    (pics / ".chroma-abc-0.part").write_bytes(b"x")
    (pics / "folder.png").mkdir()
    (pics / "dangling.png").symlink_to(pics / "nowhere")
    (pics / "round").symlink_to(pics, target_is_directory=True)
    assert page().links == ["./a.jpeg", "./b-2.PNG", "./b-10.png", "./sub/c.webp", "./sub/d.jpg"]
