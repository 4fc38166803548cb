"""The page of stages.tools.draw in real Chromium: drawn on by mouse, finger and keyboard.

Its network is trained here, by the pipeline, on a tenth of MNIST.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.interaction import POINTER_TOUCH
from selenium.webdriver.common.keys import Keys

from stages.shared import graph_file, model_file
from stages.tools import predict
from stages.tools.draw import SIDE
from tests.chromium import NEEDED, chromium
from tests.conftest import Repository, begin, sample
from tests.drawing import DIGITS, Page, serving
from tests.test_draw import write_network

pytestmark = NEEDED

TOP = Path(__file__).parents[1]
PHONES = [(390, 664), (360, 640), (320, 568)]  # what a browser's bars leave of the screen


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    images = tmp_path_factory.mktemp("draw") / "idx"
    sample(images, train=6_000)
    repository = begin(tmp_path_factory.mktemp("repository"), images)
    repository.set(
        train__epochs=3,
        train__learning_rate=0.1,
        train__nesterov=True,
        train__schedule="one_cycle",
    )
    repository.run("dvc", "repro", "export")
    return repository


@pytest.fixture(scope="session")
def address(repository: Repository) -> Iterator[str]:
    with serving(repository.path) as url:
        yield url


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    """The page in a browser of its own: what it keeps of one test does not reach another."""
    with chromium(tmp_path / "chromium", 1000, 800) as driver:
        page = Page(driver)
        page.resize(1000, 700)
        page.open(address)
        yield page
        severe = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []


def sent(page: Page) -> np.ndarray:
    """The last drawing that left the page: uint8 (SIDE, SIDE)."""
    text = page.js("return btoa(String.fromCharCode(...sent.slice(0, 40000)))")
    rest = page.js("return btoa(String.fromCharCode(...sent.slice(40000)))")
    content = base64.b64decode(text) + base64.b64decode(rest)
    return np.frombuffer(content, np.uint8).reshape(SIDE, SIDE)


def watch(page: Page) -> None:
    """Keep what the page sends, for `sent`."""
    page.js(
        "const own = window.fetch;"
        "window.fetch = (path, options) => {"
        "  window.sent = options.body ?? null; return own(path, options); };"
    )


def ink(page: Page) -> float:
    """The share of the sheet that is drawn on."""
    return float(
        page.js(
            "const { data } = paper.getContext('2d').getImageData(0, 0, paper.width, paper.height);"
            "return data.filter((value, i) => i % 4 === 3 && value > 127).length"
            " / (data.length / 4);"
        )
    )


def number(share: str) -> float:
    return float(share.strip(">%"))


def test_digits_drawn_by_the_mouse_are_read(page: Page) -> None:
    wrong = {}
    for digit, strokes in DIGITS.items():
        page.draw(strokes)
        page.settled()
        if page.text("digit") != digit:
            wrong[digit] = page.text("digit")
        page.driver.find_element("id", "clear").click()
        page.wait("!digit.textContent.trim()")
    assert wrong == {}


def test_picture_and_bars_follow_while_the_pen_is_down(page: Page) -> None:
    assert set(page.shares().values()) == {""}
    assert not page.seen().any()
    (seven,) = DIGITS["7"]
    page.draw([seven[:2]], lift=False)
    page.wait("digit.textContent.trim()")
    first = page.seen()
    assert first.any()
    assert page.text("said") == ""  # nothing is read out before the stroke is over
    page.draw([seven])
    page.settled()
    assert page.text("digit") == "7"
    assert (page.seen() != first).any()
    shares = {name: number(share) for name, share in page.shares().items()}
    assert list(shares) == list("0123456789")
    assert sum(shares.values()) == pytest.approx(100, abs=0.6)
    page.wait("!document.getAnimations().length")
    for row in page.driver.find_elements("css selector", "#bars li"):
        track, bar = (row.find_element("class name", name).rect for name in ("track", "bar"))
        share = shares[row.find_element("class name", "name").text]
        assert 100 * bar["width"] / track["width"] == pytest.approx(share, abs=0.6)


@pytest.mark.parametrize("digit", ["3", "4"])
def test_the_page_says_what_predict_says_of_the_same_picture(
    page: Page, repository: Repository, tmp_path: Path, digit: str
) -> None:
    watch(page)
    page.draw(DIGITS[digit])
    page.settled()
    drawing = tmp_path / "drawing.png"
    Image.fromarray(sent(page)).save(drawing)
    about = model_file.load(repository.path / model_file.PATH)[1]
    (picture,), _ = predict.fitted([drawing], about)
    np.testing.assert_array_equal(page.seen(), picture.digit.pixels)

    done = repository.run("python", "-m", "stages.tools.predict", str(drawing), "--json")
    (said,) = json.loads(done.stdout)
    assert said["digit"] == page.text("digit") == digit
    assert said["sure"]
    assert number(page.text("sureness").removesuffix(" sure")) == pytest.approx(
        100 * said["confidence"], abs=0.11
    )


RAYS = np.arange(6) * np.pi / 3
STAR = [[(0.5, 0.5), (0.5 + 0.3 * np.cos(ray), 0.5 + 0.3 * np.sin(ray))] for ray in RAYS]


def test_no_digit_is_a_doubt_and_two_digits_are_both_read(page: Page, tmp_path: Path) -> None:
    for name in ("stages", "models"):  # the network that Git holds
        (tmp_path / name).symlink_to(TOP / name)
    with serving(tmp_path) as url:
        page.open(url)
        page.draw(STAR)
        page.settled()
        assert re.fullmatch(r"unsure, \d\d?\.\d%", page.text("sureness"))
        assert page.js("return said.textContent").endswith(page.text("sureness"))
        page.js("document.getElementById('clear').click()")
        page.wait("!digit.textContent.trim()")

        left, right = ([[(x + by, y) for x, y in stroke] for stroke in strokes]
                       for by, strokes in ((-0.25, DIGITS["1"]), (0.15, DIGITS["7"])))  # fmt: skip
        page.draw([*left, *right])
        page.settled()
        assert page.text("digit") == "17"
        assert re.fullmatch(r"1: \S+% sure; 7: \S+% sure", page.text("sureness"))
        shares = {name: number(share) for name, share in page.shares().items()}
        assert max(shares, key=lambda name: shares[name]) == "7"  # the larger of them


def test_a_finger_draws_on_a_phone_and_nothing_scrolls(page: Page) -> None:
    page.resize(*PHONES[-1], phone=True)
    page.draw(DIGITS["7"], kind=POINTER_TOUCH)
    page.settled()
    assert page.text("digit") == "7"
    assert page.js("return scrollY") == 0


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize(("width", "height"), PHONES)
def test_all_of_it_fits_on_a_phone(page: Page, width: int, height: int, switch: bool) -> None:
    page.resize(width, height, phone=True)
    if switch:
        page.driver.find_element("id", "language").click()
    three = [
        [(0.33 * x + 0.33 * place, 0.3 + 0.4 * y) for x, y in stroke]
        for place, digit in enumerate("317")
        for stroke in DIGITS[digit]
    ]
    for strokes in ([], DIGITS["3"], three):
        if strokes:
            page.js("document.getElementById('clear').click()")
            page.wait("!digit.textContent.trim()")
            page.draw(strokes)
            page.settled()
        if strokes == three:
            assert len(page.text("digit")) == 3
        assert page.js("return document.documentElement.scrollWidth") == width
        assert page.js("return document.documentElement.scrollHeight") <= height + 1
    for name in ("undo", "clear", "language"):
        assert page.driver.find_element("id", name).rect["height"] >= 40  # of a finger


@pytest.mark.parametrize("width", [320, 500, 700, 1000, 1600])
def test_no_width_scrolls_sideways_or_hides_a_name(page: Page, tmp_path: Path, width: int) -> None:
    write_network(
        tmp_path / graph_file.PATH, ["T-shirt or top", "Ankle boot", "Schnürstiefel-Überschuh"]
    )
    (tmp_path / "stages").symlink_to(TOP / "stages")
    with serving(tmp_path) as url:
        page.resize(width, 700)
        page.open(url)
        page.draw(DIGITS["3"])
        page.settled()
        assert page.js("return document.documentElement.scrollWidth") <= width
        for element in page.driver.find_elements("css selector", ".name, #digit, .track"):
            assert element.rect["x"] + element.rect["width"] <= width
            assert element.rect["width"] > 20


def luminance(colour: str) -> float:
    """Relative luminance of a CSS `rgb(r, g, b)`, as WCAG 2 defines it."""
    parts = np.array([float(part) for part in colour.partition("(")[2].strip(")").split(",")[:3]])
    parts = parts / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_a_light_and_in_a_dark_desktop(
    page: Page, scheme: str, drawn: bool
) -> None:
    page.prefer(scheme)
    if drawn:
        page.draw(DIGITS["3"])
        page.settled()
    found = page.js(
        """
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        const found = [];
        while (walker.nextNode()) {
          const parent = walker.currentNode.parentElement;
          const text = walker.currentNode.textContent.trim();
          if (!text || parent.closest("#said, noscript") || !parent.checkVisibility()) continue;
          const over = parent.closest("#sheet") ? paper : parent;
          let below = over;
          while (getComputedStyle(below).backgroundColor === "rgba(0, 0, 0, 0)")
            below = below.parentElement;
          found.push([text, getComputedStyle(parent).color,
            getComputedStyle(below).backgroundColor]);
        }
        const { backgroundColor } = getComputedStyle(paper);
        const [r, g, b] = paper.getContext("2d").getImageData(0, 0, paper.width, paper.height).data
          .reduce((best, _, i, data) => i % 4 === 3 && data[i] === 255
            ? [data[i - 3], data[i - 2], data[i - 1]] : best, []);
        if (r !== undefined) found.push(["ink", `rgb(${r}, ${g}, ${b})`, backgroundColor]);
        return found;
        """
    )
    assert len(found) >= (30 if drawn else 15)
    assert ("ink" in [text for text, *_ in found]) == drawn
    for text, colour, background in found:
        assert contrast(colour, background) >= 4.5, text
    body = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(body) > 0.5) == (scheme == "light")


def test_undo_and_clear_by_button(page: Page) -> None:
    undo, clear = (page.driver.find_element("id", name) for name in ("undo", "clear"))
    assert undo.get_attribute("aria-disabled") == clear.get_attribute("aria-disabled") == "true"
    page.draw(DIGITS["4"])
    page.settled()
    whole = ink(page)
    undo.click()
    assert 0 < ink(page) < whole
    clear.click()
    assert ink(page) == 0
    page.wait("!digit.textContent.trim()")
    assert not page.seen().any()
    undo.click()
    undo.click()
    assert ink(page) == 0
    assert undo.get_attribute("aria-disabled") == "true"


def undo(page: Page) -> None:
    keys = ActionChains(page.driver)
    keys.key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()


def test_undo_and_clear_by_key(page: Page) -> None:
    page.draw(DIGITS["4"])
    page.settled()
    whole = ink(page)
    undo(page)
    part = ink(page)
    assert 0 < part < whole
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert ink(page) == 0
    undo(page)
    assert ink(page) == part  # what was cleared by mistake comes back


def test_a_digit_is_drawn_by_keyboard_alone(page: Page) -> None:
    reached = []
    for _ in range(4):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.js("return document.activeElement.id"))
    assert reached == ["language", "paper", "undo", "clear"]
    page.js("paper.focus()")
    keys = ActionChains(page.driver)
    keys.send_keys(Keys.ARROW_LEFT * 6, " ", Keys.ARROW_RIGHT * 10)
    for _ in range(7):
        keys.send_keys(Keys.ARROW_DOWN * 2, Keys.ARROW_LEFT)
    keys.perform()
    page.wait("digit.textContent.trim()")
    assert page.text("said") == "Pen down"
    ActionChains(page.driver).send_keys(" ").perform()
    page.wait("said.textContent.startsWith('7, ')")
    assert page.text("digit") == "7"


def test_what_is_read_is_said_and_everything_has_a_name(page: Page) -> None:
    page.draw(DIGITS["7"])
    page.settled()
    assert page.js("return said.textContent") == f"7, {page.text('sureness')}"
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    }
    for expected in [
        ("heading", "Draw a digit"),
        ("application", "Sheet to draw on"),
        ("button", "Undo Ctrl\xa0Z"),
        ("button", "Clear Esc"),
        ("button", "中文"),
        ("image", "The network gets 28\xa0×\xa028 pixels"),
        ("list", "Probabilities"),
    ]:
        assert expected in named
    assert "status" in {role for role, _ in named}


def test_chinese_where_the_browser_is_chinese_and_a_switch(page: Page, address: str) -> None:
    heading = "return document.querySelector('h1').textContent"
    assert page.js(heading) == "Draw a digit"
    english = page.js("return document.body.innerText")
    page.driver.execute_cdp_cmd(
        "Emulation.setUserAgentOverride",
        {"userAgent": page.js("return navigator.userAgent"), "acceptLanguage": "zh-CN"},
    )
    page.open(address)
    assert page.js(heading) == page.driver.title == "写一个数字"
    assert page.js("return document.documentElement.lang") == "zh-CN"
    page.draw(DIGITS["7"])
    page.settled()
    assert page.js("return said.textContent").startswith("7，把握 ")

    page.driver.find_element("id", "language").click()
    assert page.js(heading) == "Draw a digit"
    assert "sure" in page.text("sureness")
    page.open(address)  # what was chosen stays chosen
    assert page.js("return document.body.innerText") == english
    assert page.js("return document.documentElement.lang") == "en"


def test_nothing_is_loaded_from_elsewhere(page: Page, address: str) -> None:
    page.driver.get_log("performance")  # of Chromium's own first page
    page.open(address)
    page.draw(DIGITS["7"])
    page.settled()
    messages = [
        json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")
    ]
    fetched = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert {f"{address}{name}" for name in ("", "page.js", "page.css", "network", "read")} <= {
        *fetched
    }
    assert all(url.startswith(address) for url in fetched)


def test_another_page_is_not_answered(page: Page, address: str, tmp_path: Path) -> None:
    """Neither read by a page from elsewhere, nor shown in a frame of it, nor run as its script."""
    (tmp_path / "evil.html").write_text(
        f"""<!DOCTYPE html><title>wait</title>
        <iframe id=frame src="{address}"></iframe><script src="{address}page.js"></script><script>
        const body = new Uint8Array({SIDE * SIDE}).fill(255);
        const tries = [fetch("{address}network"), fetch("{address}read", {{method: "POST", body}})];
        Promise.allSettled(tries).then((all) => {{ document.title = all.map((a) => a.status); }});
        </script>"""
    )
    page.driver.get((tmp_path / "evil.html").as_uri())
    page.wait("document.title !== 'wait'")
    assert page.driver.title == "rejected,rejected"
    page.driver.switch_to.frame("frame")
    assert page.js("return document.querySelectorAll('canvas').length") == 0
    page.driver.get_log("browser")  # full of refusals


def test_a_server_that_ended_is_said_and_one_that_is_back_reads_on(
    page: Page, repository: Repository
) -> None:
    with serving(repository.path) as url:
        page.open(url)
    page.draw(DIGITS["7"])
    page.wait("sureness.textContent.includes('make draw')")
    assert "make draw" in page.js("return said.textContent")
    page.driver.get_log("browser")  # Chromium tells of each request that failed
    port = url.rstrip("/").rpartition(":")[2]
    with serving(repository.path, f"--port={port}"):
        page.js("undo.click()")
        page.draw(DIGITS["7"])
        page.settled()
        assert page.text("digit") == "7"


def test_what_was_drawn_meanwhile_is_read_in_the_end(page: Page) -> None:
    """One request at a time, and the last is of the whole drawing."""
    page.js(
        "window.under = window.most = 0; const own = window.fetch;"
        "window.fetch = async (path, options) => {"
        "  window.sent = options.body; window.most = Math.max(most, ++window.under);"
        "  await new Promise((done) => setTimeout(done, 300));"
        "  try { return await own(path, options); } finally { window.under--; } };"
    )
    page.draw(DIGITS["4"])
    page.settled()
    page.wait("!under")
    assert page.js("return most") == 1
    assert page.text("digit") == "4"
    share = float((sent(page) < 128).mean())
    assert share == pytest.approx(ink(page), abs=0.003)


def test_strokes_are_round_and_as_wide_as_those_of_mnist(page: Page) -> None:
    watch(page)
    page.draw([[(0.5, 0.2), (0.5, 0.8)]])
    page.settled()
    row = sent(page)[SIDE // 2]
    assert (row < 128).sum() == pytest.approx(0.08 * SIDE, abs=1)
    page.driver.find_element("id", "clear").click()
    page.draw([[(0.3, 0.4), (0.3, 0.4)]])  # a dot
    page.wait("digit.textContent.trim()")
    columns = np.flatnonzero((sent(page) < 128).any(axis=0))
    assert columns.mean() == pytest.approx(0.3 * SIDE, abs=2)
    assert len(columns) == pytest.approx(0.08 * SIDE, abs=1)
    assert all(right - left == 1 for left, right in pairwise(columns))
