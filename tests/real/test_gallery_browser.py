"""The gallery in a real Chromium: filter, sort, open, copy, keys; and a prompt that tries to run a script.

Skipped where Debian's ``chromium`` and ``chromium-driver``, or selenium, are not installed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import Programs, with_recipe
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver"),
]

ARTIFACT = Path(__file__).resolve().parents[2] / ".artifacts" / "gallery.png"
EVIL = (
    "</script><script>window.ran=1</script><img src=x onerror=\"window.ran=2\"><svg onload='window.ran=3'>"
    '<a href="javascript:window.ran=4">x</a> <!-- " \' ` ${window.ran=5} \u2028'
)
BIG = 2**53


def recipe(prompt: str, **changes: Any) -> dict[str, Any]:
    body = {
        "prompt": prompt,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "beta",
        "steps": 40,
        "seed": 1,
    }
    return {**body, **changes}


RECIPES = {
    "castle-2.png": recipe("a castle by the sea", seed=10, steps=20),
    "castle-10.png": recipe("a castle in the snow", seed=9, sampler_name="heun", cfg=12),
    "forest.png": recipe("a misty forest at dawn", seed=BIG + 1, steps=60),
    "knight.png": recipe("a young knight in shining armor", seed=BIG, sampler_name="dpmpp_2s_a", cfg=5.5),
    "tower.png": recipe("a ruined tower, night", seed=100, scheduler="karras"),
    "evil <img src=x onerror=alert(1)>.png": recipe(EVIL, seed=2, sampler_name=EVIL),
}


def gallery_of(folder: Path) -> None:
    programs = Programs(
        CHROMA_STATE_DIR=str(folder.parent / "state"), CHROMA_CONFIG=str(folder.parent / "none")
    )
    ended = programs("gallery", folder)
    assert ended.code == 0, ended.said


def command_of(picture: Path) -> str:
    """Return the command line that makes a picture again, as ``inspect`` prints it."""
    ended = Programs()("inspect", picture, "--command")
    assert ended.code == 0, ended.said
    return ended.out.removesuffix("\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with its page, one of them broken and without a recipe."""
    made = tmp_path_factory.mktemp("pictures") / "Knights & <castles>"
    made.mkdir()
    for number, (name, body) in enumerate(RECIPES.items()):
        created = f"2026-01-{20 - number:02d}T10:00:00.000Z"
        record = {"request": body, "request_id": f"req-{number}", "created_at": created, "sandbox": True}
        (made / name).write_bytes(with_recipe(record, width=640, height=480))
    (made / "zz-broken.png").write_bytes(b"junk")
    gallery_of(made)
    return made


class Browser:
    """The page in a Chromium, as a person has it: what is seen, typed and clicked."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        self.driver.get(page.as_uri())

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, script: str) -> None:
        WebDriverWait(self.driver, 20).until(lambda _: self.run(script))

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    @property
    def shown(self) -> list[str]:
        """Names of the visible pictures, in order."""
        return list(
            self.run(
                "return [...document.querySelectorAll('.card:not([hidden]) .name')].map(n => n.textContent)"
            )
        )

    @property
    def focused(self) -> str:
        return str(
            self.run(
                "const at = document.activeElement; return at.querySelector('.name')?.textContent ?? at.id"
            )
        )

    def until_focus_is_on(self, name: str) -> None:
        """A closed dialog tells its page a moment later."""
        WebDriverWait(self.driver, 20).until(lambda _: self.focused == name)

    def filter(self, text: str) -> list[str]:
        box = self.one("#filter")
        box.clear()
        box.send_keys(text)
        return self.shown

    def sort(self, label: str) -> list[str]:
        Select(self.one("#sort")).select_by_visible_text(label)
        return self.shown

    def card(self, name: str) -> Any:
        return self.run(
            "return [...document.querySelectorAll('.card a')]"
            ".find(a => a.querySelector('.name').textContent === arguments[0])",
            name,
        )

    def pasted(self) -> str:
        """What the clipboard holds, by pasting it the way a person would."""
        self.run(
            "const area = document.createElement('textarea'); area.id = 'pasted';"
            "(document.querySelector('dialog[open]') ?? document.body).append(area); area.focus()"
        )
        area = self.one("#pasted")
        area.send_keys(Keys.CONTROL, "v")
        text = area.get_property("value")
        self.run("document.getElementById('pasted').remove()")
        return str(text)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Any, folder: Path) -> Browser:
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    opened = Browser(chromium)
    opened.open(folder / "index.html")
    return opened


def test_everything_is_there(browser: Browser) -> None:
    evil = next(name for name in RECIPES if name.startswith("evil"))
    counted = [
        "castle-2.png",
        "castle-10.png",
        evil,
        "forest.png",
        "knight.png",
        "tower.png",
        "zz-broken.png",
    ]
    assert browser.shown == counted
    assert browser.one("#count").text == "7 pictures"
    assert browser.one("h1").text == "Knights & <castles>"
    assert browser.run(
        "return [...document.images].filter(i => i.closest('.card')).every(i => i.naturalWidth === 320)"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("castle", {"castle-2.png", "castle-10.png"}),
        ("CASTLE snow", {"castle-10.png"}),
        ('"castle in"', {"castle-10.png"}),
        ('"castle in', {"castle-10.png"}),
        ("sampler:heun", {"castle-10.png"}),
        ("cfg:12", {"castle-10.png"}),
        ("cfg=5.5", {"knight.png"}),
        ("steps<40", {"castle-2.png"}),
        ("steps>=60", {"forest.png"}),
        (f"seed:{BIG}", {"knight.png"}),
        (f"seed>{BIG}", {"forest.png"}),
        ("castle -snow", {"castle-2.png"}),
        ("-sampler:euler -name:evil -name:broken", {"castle-10.png", "knight.png"}),
        ("prompt:tower", {"tower.png"}),
        ("karras", {"tower.png"}),
        ("id:req-3", {"knight.png"}),
        ("req-3", {"knight.png"}),
        ("onerror=alert", {"evil <img src=x onerror=alert(1)>.png"}),
        ("nothing-of-this-kind", set()),
    ],
)
def test_filter(browser: Browser, text: str, expected: set[str]) -> None:
    assert set(browser.filter(text)) == expected
    assert browser.one("#count").text == f"{len(expected)} of 7 pictures"
    assert browser.one("#none").is_displayed() is (not expected)


def test_a_filter_can_be_cleared(browser: Browser) -> None:
    browser.filter("nothing-of-this-kind")
    browser.one("#clear").click()
    assert len(browser.shown) == 7
    browser.filter("castle")
    browser.press(Keys.ESCAPE)
    assert len(browser.shown) == 7


def test_sort_by_any_parameter_numbers_as_numbers(browser: Browser) -> None:
    evil = next(name for name in RECIPES if name.startswith("evil"))
    by_seed = [
        evil,
        "castle-10.png",
        "castle-2.png",
        "tower.png",
        "knight.png",
        "forest.png",
        "zz-broken.png",
    ]
    assert browser.sort("seed") == by_seed
    browser.one("#order").click()
    # Without a recipe: last in either direction.
    assert browser.shown == [*by_seed[-2::-1], "zz-broken.png"]
    browser.one("#order").click()
    assert browser.sort("name") == [
        "castle-2.png",
        "castle-10.png",
        evil,
        "forest.png",
        "knight.png",
        "tower.png",
        "zz-broken.png",
    ]
    assert browser.sort("date")[:2] == [evil, "tower.png"]
    assert browser.sort("cfg")[0] == "knight.png" and browser.shown[5] == "castle-10.png"
    assert browser.card("knight.png").find_element(By.CSS_SELECTOR, ".key").text == "cfg 5.5"
    assert browser.filter("castle") == ["castle-2.png", "castle-10.png"]


def test_open_shows_the_recipe_and_the_original(browser: Browser, folder: Path) -> None:
    browser.card("knight.png").click()
    assert browser.one("#detail").is_displayed()
    assert browser.one("#detail-prompt").text == "a young knight in shining armor"
    shown = browser.one("#detail-fields").text.splitlines()
    assert dict(zip(shown[::2], shown[1::2], strict=True)) == {
        "cfg": "5.5",
        "sampler": "dpmpp_2s_a",
        "scheduler": "beta",
        "steps": "40",
        "seed": str(BIG),
        "file": f"640x480, {max(1, round((folder / 'knight.png').stat().st_size / 1000))} kB",
        "made": "2026-01-17 10:00:00 UTC",
        "request id": "req-3",
    }
    assert browser.one("#original").get_property("href") == (folder / "knight.png").as_uri()
    browser.wait("return document.getElementById('large').naturalWidth === 640")
    browser.press(Keys.ESCAPE)
    browser.until_focus_is_on("knight.png")
    assert not browser.one("#detail").is_displayed()


def test_a_picture_that_is_gone_or_broken_is_said_to_be(browser: Browser, folder: Path) -> None:
    tower = folder / "tower.png"
    tower.rename(folder / "away")
    try:
        browser.card("tower.png").click()
        browser.wait("return !document.getElementById('stage-note').hidden")
        assert "original is not beside this page" in browser.one("#stage-note").text
        assert browser.run("return document.getElementById('large').naturalWidth") == 320
        assert browser.one("#detail-sandbox").is_displayed()
    finally:
        (folder / "away").rename(tower)
    browser.press(Keys.ESCAPE)
    browser.card("zz-broken.png").click()
    assert "not a whole picture" in browser.one("#stage-note").text
    assert not browser.one("#copy").is_displayed()
    assert not browser.one("#large").is_displayed()


def test_keys_move_open_and_close(browser: Browser) -> None:
    browser.sort("name")
    order = browser.shown
    browser.one("body").send_keys("/")
    assert browser.focused == "filter"
    browser.press(Keys.ARROW_DOWN)
    assert browser.focused == order[0]
    browser.press(Keys.ARROW_RIGHT)
    assert browser.focused == order[1]
    browser.press(Keys.ARROW_LEFT)
    browser.press(Keys.ARROW_LEFT)
    assert browser.focused == order[0]
    columns = browser.run(
        "return getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length"
    )
    browser.press(Keys.ARROW_DOWN)
    assert browser.focused == order[columns]
    browser.press(Keys.ARROW_UP)
    browser.press(Keys.END)
    assert browser.focused == order[-1]
    browser.press(Keys.HOME)
    browser.press(Keys.ENTER)
    assert browser.one("#place").text == "1 / 7"
    browser.press(Keys.ARROW_RIGHT)
    assert browser.one("#detail-name").text == order[1]
    browser.press(Keys.ARROW_LEFT)
    browser.press(Keys.ARROW_LEFT)
    assert browser.one("#detail-name").text == order[-1]
    browser.press(Keys.ESCAPE)
    browser.until_focus_is_on(order[-1])
    stops = browser.run(
        "return [...document.querySelectorAll('.card a')].filter(a => a.tabIndex === 0).length"
    )
    assert stops == 1


def test_a_slash_can_be_typed_into_the_filter(browser: Browser) -> None:
    browser.filter("a/b")
    assert browser.one("#filter").get_property("value") == "a/b"


@pytest.mark.parametrize("clipboard", ["there", "refused", "missing"])
def test_copy_the_command(browser: Browser, folder: Path, clipboard: str) -> None:
    command = command_of(folder / "castle-2.png")
    if clipboard == "missing":
        browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    if clipboard == "refused":
        browser.run("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    browser.card("castle-2.png").click()
    assert browser.one("#command").get_property("textContent") == command
    browser.one("#copy").click()
    browser.wait("return document.getElementById('copied').textContent === 'The command is copied.'")
    assert browser.pasted() == command
    browser.one("#copy-recipe").click()
    browser.wait("return document.getElementById('copied').textContent === 'The recipe is copied.'")
    assert json.loads(browser.pasted()) == RECIPES["castle-2.png"]


def test_copy_by_key_on_the_list_and_in_the_detail(browser: Browser, folder: Path) -> None:
    browser.run("arguments[0].focus()", browser.card("tower.png"))
    browser.press("c")
    browser.wait("return document.getElementById('toast').textContent === 'The command is copied.'")
    assert browser.pasted() == command_of(folder / "tower.png")
    browser.card("forest.png").click()
    browser.press("c")
    browser.wait("return document.getElementById('copied').textContent === 'The command is copied.'")
    assert browser.pasted() == command_of(folder / "forest.png")


def test_where_nothing_may_be_copied_the_command_is_selected(browser: Browser, folder: Path) -> None:
    browser.run(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});document.execCommand = () => false"
    )
    browser.card("castle-2.png").click()
    browser.one("#copy").click()
    browser.wait("return document.getElementById('copied').textContent.includes('Ctrl+C')")
    assert browser.run("return getSelection().toString()") == command_of(folder / "castle-2.png")


def test_a_prompt_cannot_run_a_script(browser: Browser) -> None:
    evil = next(name for name in RECIPES if name.startswith("evil"))
    before = browser.run("return document.querySelectorAll('*').length")
    browser.card(evil).click()
    assert browser.one("#detail-prompt").get_property("textContent") == EVIL
    browser.press(Keys.ESCAPE)
    browser.sort("sampler")
    browser.filter("onerror")
    assert browser.shown == [evil]
    assert browser.run("return window.ran ?? null") is None
    assert browser.driver.title == "Knights & <castles>"
    added = browser.run("return document.querySelectorAll('*').length") - before
    rows = browser.run("return document.querySelectorAll('#detail-fields > *').length")
    assert added == rows
    assert (
        browser.run('return document.querySelectorAll(\'svg, img[src="x"], a[href^="javascript"]\').length')
        == 0
    )
    assert browser.driver.get_log("browser") == []


def test_the_policy_stops_what_would_get_in(browser: Browser) -> None:
    browser.run(
        "window.stopped = [];"
        "document.addEventListener('securitypolicyviolation', e => stopped.push(e.effectiveDirective));"
        "const box = document.createElement('div'); document.body.append(box);"
        'box.innerHTML = \'<img src="data:," onerror="window.ran=1"><p style="color: red">x</p>'
        '<iframe src="data:text/html,x"></iframe>\';'
        "const script = document.createElement('script'); script.textContent = 'window.ran=2';"
        "box.append(script)"
    )
    stopped = {"script-src-attr", "style-src-attr", "script-src-elem", "frame-src"}
    browser.wait(f"return stopped.length >= {len(stopped)}")
    assert set(browser.run("return stopped")) == stopped
    assert browser.run("return window.ran ?? null") is None


def test_the_page_reads_nothing_but_its_files(browser: Browser, folder: Path) -> None:
    browser.card("knight.png").click()
    browser.wait("return document.getElementById('large').naturalWidth === 640")
    asked = []
    for entry in browser.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    from_disk = {url for url in asked if not url.startswith("data:")}
    assert from_disk == {(folder / "index.html").as_uri(), (folder / "knight.png").as_uri()}


def test_dark_and_light_and_a_screenshot(browser: Browser, folder: Path) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        red, green, blue = browser.run(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )[:3]
        grounds[scheme] = (red + green + blue) / 3
    assert grounds["dark"] < 60 and grounds["light"] > 200
    browser.open(folder / "index.html")
    ARTIFACT.parent.mkdir(exist_ok=True)
    assert browser.driver.save_screenshot(str(ARTIFACT))
    with Image.open(ARTIFACT) as image:
        assert image.width == 1280


def test_five_hundred_pictures_draw_only_what_is_seen(browser: Browser, tmp_path: Path) -> None:
    many = tmp_path / "500"
    many.mkdir()
    for n in range(500):
        body = recipe(f"picture number {n}", seed=n * 7919 % 500)
        (many / f"{n:03}.png").write_bytes(with_recipe({"request": body}, width=64, height=64))
    gallery_of(many)
    browser.open(many / "index.html")
    seen = (
        "return [...document.querySelectorAll('.card')]"
        ".filter(c => c.firstChild.checkVisibility({contentVisibilityAuto: true})).length"
    )
    browser.wait(seen.replace("return ", "return 0 < "))
    assert browser.run(seen) < 100
    browser.sort("seed")
    prompts = browser.run(
        "return [...document.querySelectorAll('.card .prompt')].slice(0, 3).map(p => p.textContent)"
    )
    assert prompts == [f"picture number {n}" for n in sorted(range(500), key=lambda n: n * 7919 % 500)[:3]]
    browser.filter("seed<10")
    assert browser.one("#count").text == "10 of 500 pictures"


def test_without_a_script_the_pictures_and_links_remain(browser: Browser, folder: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(folder / "index.html")
        links = browser.driver.find_elements(By.CSS_SELECTOR, ".card a")
        assert len(links) == 7
        assert not browser.one("#controls").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
