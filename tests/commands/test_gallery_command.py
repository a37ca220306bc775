"""``gallery``: where the page goes, what it links to, and what hostile names do to it (nothing)."""

from __future__ import annotations

import html
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from kit import noise


class Page(HTMLParser):
    """The links, pictures and scripts of a page, as a browser would find them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]

    def files(self, base: Path) -> set[Path]:
        """The pictures that it links to, as paths."""
        return {
            Path(os.path.normpath(base / unquote(link.removeprefix("./"))))
            for link in self.links
            if not link.startswith("#")
        }


def gather(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise("png", 48, 48))
    return [folder / name for name in names]


def test_the_page_of_a_folder_and_made_anew(chroma, work):
    paths = gather(work / "pics", "a.png", "deep/b.png")
    ran = chroma("gallery", "pics")
    assert ran.code == 0, ran.err
    page = work / "pics" / "index.html"
    assert ran.lines == [str(page)]
    assert Page(page).files(page.parent) == set(paths)
    paths += gather(work / "pics", "c.png")
    again = chroma("gallery", "pics", "--json")
    assert again.code == 0, again.err
    assert again.json == [{"schema": 1, "page": str(page), "pictures": 3}]
    assert Page(page).files(page.parent) == set(paths)
    assert not [name for name in os.listdir(page.parent) if name.startswith(".")]


def test_a_page_that_is_not_ours_is_kept(chroma, work):
    gather(work / "site", "a.png")
    mine = work / "site" / "index.html"
    mine.write_text("<h1>mine</h1>")
    ran = chroma("gallery", "site")
    assert ran.code == 10
    assert mine.read_text() == "<h1>mine</h1>"
    assert chroma("gallery", "site", "--overwrite").code == 0
    assert "mine" not in mine.read_text()


@pytest.mark.parametrize(
    "place", ["out.html", "pics/sub/page.html", "elsewhere/page.html", "../page.html", "elsewhere/"]
)
def test_elsewhere_the_links_still_lead_to_the_pictures(chroma, work, place):
    paths = gather(work / "pics", "a b.png", "deep/100% #1?.png")
    if place.endswith("/"):
        (work / place).mkdir()
    ran = chroma("gallery", "pics", "-o", place)
    assert ran.code == 0, ran.err
    [line] = ran.lines
    page = Path(os.path.normpath(line))
    assert Page(page).files(page.parent) == set(paths)
    assert chroma("gallery", "pics", "-o", place).code == 10, "a page that was named is not replaced"
    assert chroma("gallery", "pics", "-o", place, "--overwrite").code == 0


def test_hostile_names_prompts_and_titles_are_text(gateway, clock, chroma, work, made):
    folder = work / "<b onclick=x>&amp;"
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    gather(folder, '"><img src=x onerror=alert(2)>.png', "</script><script>.png".replace("/", "\u2215"))
    made(evil + "</script>\u2028'\"", "-n", "]]>--><!--", "-o", f"{folder}/made.png")
    ran = chroma("gallery", folder)
    assert ran.code == 0, ran.err
    page = Page(folder / "index.html")
    assert page.handlers == []
    assert page.tags.count("script") == page.text.count("<script")
    assert "alert(1)</script>" not in page.text
    assert html.escape(evil, quote=False)[:20] in page.text
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page.text)
    assert "default-src 'none'" in html.unescape(policy)
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page.text)


def test_recipes_and_commands_are_in_the_page(gateway, clock, chroma, work, made):
    made("a fox", "--cfg", "5.5", "--seed", "41", "-o", "pics/fox.png")
    assert chroma("gallery", "pics").code == 0
    text = (work / "pics" / "index.html").read_text()
    assert "chroma generate" in text
    assert "5.5" in text
    assert "--seed 41" in text


def test_what_cannot_be_shown_is_told_and_what_cannot_be_made(chroma, work):
    gather(work / "pics", "a.png")
    (work / "pics" / "broken.png").write_bytes(b"no picture")
    ran = chroma("gallery", "pics")
    assert ran.code == 0
    assert "broken.png" in ran.err
    (work / "empty").mkdir()
    assert chroma("gallery", "empty").code == 8
    assert os.listdir(work / "empty") == []
    assert chroma("gallery", "nowhere").code == 8
    assert chroma("gallery", "pics/a.png").code == 8
    assert chroma("gallery").code == 2
    assert chroma("gallery", "pics", "-o", "pics/a.png/page.html").code == 10


def test_500_pictures(chroma, work):
    [first] = gather(work / "pics", "0.png")
    for number in range(1, 500):
        (work / "pics" / f"{number}.png").hardlink_to(first)
    ran = chroma("gallery", "pics", "--json")
    assert ran.code == 0, ran.err
    assert ran.json[0]["pictures"] == 500
    page = work / "pics" / "index.html"
    assert page.stat().st_size < 20_000_000
    assert len(Page(page).files(page.parent)) == 500
