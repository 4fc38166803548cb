"""The page of stages.tools.draw as a person uses it, in Chromium.

`python -m tests.drawing` makes stages/tools/drawing/draw.png, with the network that models/ holds
(Chinese is seen in it where a font for it is installed).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.interaction import POINTER_MOUSE
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.wait import WebDriverWait

from tests.chromium import chromium

TOP = Path(__file__).parents[1]
PICTURE = TOP / "stages/tools/drawing/draw.png"
WIDTH, HEIGHT = 760, 604  # pixels of each half of it

Stroke = list[tuple[float, float]]  # x and y from 0 to 1 on the sheet


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> Stroke:
    """A part of an ellipse about (x, y), from one angle to another in degrees.

    Angles go as on a clock's face: 0 is up, 90 is right.
    """
    angles = np.radians(np.linspace(start, end, 24))
    return [(x + wide * float(np.sin(a)), y - high * float(np.cos(a))) for a in angles]


# As somebody writes them who takes care.
DIGITS: dict[str, list[Stroke]] = {
    "0": [arc(0.5, 0.5, 0.19, 0.3, 0, -360)],
    "1": [[(0.52, 0.2), (0.48, 0.8)]],
    "2": [[*arc(0.5, 0.36, 0.17, 0.16, -80, 120), (0.33, 0.78), (0.7, 0.77)]],
    "3": [[*arc(0.48, 0.35, 0.16, 0.15, -70, 165), *arc(0.48, 0.64, 0.18, 0.16, 10, 245)]],
    "4": [[(0.36, 0.22), (0.32, 0.53), (0.7, 0.52)], [(0.63, 0.22), (0.6, 0.82)]],
    "5": [[(0.68, 0.22), (0.38, 0.23), (0.36, 0.46), *arc(0.48, 0.61, 0.2, 0.18, -30, 235)]],
    "6": [[(0.6, 0.2), (0.45, 0.34), *arc(0.5, 0.63, 0.17, 0.16, -70, -420)]],
    "7": [[(0.3, 0.25), (0.7, 0.24), (0.47, 0.8)]],
    "8": [[*arc(0.5, 0.36, 0.14, 0.14, 20, -170), *arc(0.5, 0.65, 0.16, 0.15, 0, 350), (0.6, 0.2)]],
    "9": [[*arc(0.5, 0.37, 0.16, 0.16, 80, -280), (0.62, 0.8)]],
}


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[str]:
    """Run the tool in a folder that holds the project, and give the address of its page."""
    command = [sys.executable, "-m", "stages.tools.draw", "--no-browser", *(words or ("--port=0",))]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            (url,) = (word for word in server.stdout.readline().split() if "http" in word)
            yield url
        finally:
            server.terminate()


class Page:
    """The page in a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load the page, and wait until it knows its network."""
        self.driver.get(url)
        self.wait("document.querySelectorAll('#bars li').length")

    def js(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        WebDriverWait(self.driver, 20).until(lambda _: self.js(f"return Boolean({condition});"))

    def draw(self, strokes: list[Stroke], lift: bool = True, kind: str = POINTER_MOUSE) -> None:
        """Draw by mouse, touch or pen; without `lift` the last stroke is left unfinished."""
        corner = self.js(
            "const { left, top, width, height } = paper.getBoundingClientRect();"
            "return [left, top, width, height];"
        )
        left, top, width, height = corner
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, "drawing"), duration=8)
        pointer = actions.pointer_action
        for stroke in strokes:
            for number, (x, y) in enumerate(stroke):
                pointer.move_to_location(int(left + x * width), int(top + y * height))
                if number == 0:
                    pointer.pointer_down()
            if lift or stroke is not strokes[-1]:
                pointer.pointer_up()
        actions.perform()

    def settled(self) -> None:
        """Wait until what is drawn has been read."""
        self.wait("digit.textContent.trim()")
        self.wait("document.querySelector('main').ariaBusy === 'false'")

    def text(self, name: str) -> str:
        return str(self.driver.find_element("id", name).text)

    def shares(self) -> dict[str, str]:
        """What stands beside each bar."""
        rows = self.js(
            "return [...bars.children].map((row) => [row.querySelector('.name').textContent,"
            " row.querySelector('.share').textContent]);"
        )
        return dict(rows)

    def seen(self) -> np.ndarray:
        """The picture that the network got: uint8 (H, W)."""
        width, height, levels = self.js(
            "const { width, height } = seen;"
            "const { data } = seen.getContext('2d').getImageData(0, 0, width, height);"
            "return [width, height, [...data].filter((_, i) => i % 4 === 0)];"
        )
        return np.array(levels, np.uint8).reshape(height, width)

    def prefer(self, scheme: str) -> None:
        """Make the desktop a light or a dark one."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Give the page another size, in its own pixels, as a desktop or a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1 + phone}
        metrics["mobile"] = phone
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self) -> Image.Image:
        self.wait("!document.getAnimations().length")
        return Image.open(BytesIO(self.driver.get_screenshot_as_png()))


def main() -> None:
    """Make the picture for the README: a digit half drawn, in light, and whole, in dark."""
    (whole,) = DIGITS["3"]
    halves = []
    with (
        tempfile.TemporaryDirectory() as folder,
        chromium(Path(folder), WIDTH, HEIGHT) as driver,
        serving(TOP) as url,
    ):
        page = Page(driver)
        page.resize(WIDTH, HEIGHT)
        page.open(url)
        for scheme, stroke in {"light": whole[:35], "dark": whole}.items():
            page.prefer(scheme)
            page.js("undo.click()")
            page.draw([stroke])
            page.settled()
            halves.append(page.picture().convert("RGB"))
    both = Image.new("RGB", (2 * WIDTH, HEIGHT))
    for number, half in enumerate(halves):
        both.paste(half, (number * WIDTH, 0))
    both.quantize(256).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(TOP)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
