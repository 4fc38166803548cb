"""The pages of `dvc plots show` and `dvc plots diff`, as Chromium without a network shows them.

The plots are made up, so that no stage runs; their definitions are those of the real dvc.yaml.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from stages.shared import params, scoring
from stages.shared.curves import Curves
from tests.chromium import NEEDED, chromium
from tests.conftest import Repository

pytestmark = NEEDED

FIGURES = ["hardest.png", "mistakes.png", "reliability.png", "samples.png"]
WIDTH = 1400  # pixels, of the window and, above what fits beside another, of the figures


def stand_in(repository: Repository) -> None:
    """Write something in the place of each dependency and output that is not there."""
    stages = yaml.safe_load((repository.path / "dvc.yaml").read_text())["stages"].values()
    for stage in stages:
        for entry in [*stage["deps"], *stage["outs"]]:
            path = repository.path / (entry if isinstance(entry, str) else next(iter(entry)))
            if not path.exists():
                file = path if path.suffix else path / "file"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("stands for a real one\n")


def draw(repository: Repository, epochs: int) -> None:
    """Write plots/ as a run of `epochs` epochs would: its curves, predictions and figures."""
    random = np.random.default_rng(epochs)
    plots = repository.path / "plots"
    steps = np.arange(10, 400 * epochs, 10)
    ends = np.arange(1, epochs + 1) * 400
    written = Curves(plots / "training")
    for step in map(int, steps):
        fall = math.exp(-step / 100)
        written.log(step, {"train/loss": 2.3 * fall, "train/accuracy": 1 - 0.9 * fall})
        written.log(step, {"train/learning_rate": 0.02 * epochs})
    for epoch, step in enumerate(map(int, ends), start=1):
        written.log(step, {"validation/loss": 0.3 / epoch, "validation/accuracy": 1 - 0.1 / epoch})
    written.end()

    actual = np.arange(500) % 10
    # Most pairs of classes never meet here, and still have their cell.
    predicted = np.where(random.random(500) < 0.95, actual, random.integers(0, 10, 500))
    result = scoring.Predictions(actual, predicted, np.full(500, 0.9))
    scores = scoring.score(np.eye(10)[predicted], actual, [str(label) for label in range(10)])
    scoring.write(plots / "evaluation", scores, result)

    (plots / "figures").mkdir(exist_ok=True)
    for name in FIGURES:
        Image.new("RGB", (WIDTH, 900), (60 * epochs, 120, 180)).save(plots / "figures" / name)


def quiet(done: subprocess.CompletedProcess[str]) -> None:
    """Nothing that DVC did failed, nor does it warn of anything."""
    assert done.stderr == ""


@pytest.fixture(scope="session")
def repository(make_repository: Callable[[], Repository]) -> Repository:
    """Two experiments, `short` and `long`, both committed too, and pages/ that show them."""
    repository = make_repository()
    for name, epochs in {"short": 1, "long": 3}.items():
        draw(repository, epochs)
        stand_in(repository)
        repository.run("git", "add", "plots")
        repository.run("dvc", "exp", "save", "-n", name)
        repository.commit(name)
    repository.run("dvc", "plots", "show", "-o", "pages/bare")
    repository.run(sys.executable, "-m", "stages.tools.page")
    quiet(repository.run("dvc", "plots", "show", "-o", "pages/show"))
    quiet(repository.run("dvc", "plots", "diff", "short", "long", "-o", "pages/diff"))
    rate = repository.path / "plots/training/plots/metrics/train/learning_rate.tsv"
    rate.unlink()
    repository.run("dvc", "exp", "save", "-n", "lacking")
    repository.run("dvc", "plots", "diff", "lacking", "-o", "pages/lacking")
    return repository


class Browser:
    """Chromium without a network, and what it tried to fetch and complained of."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.fetched: list[str] = []
        self.errors: list[str] = []

    def open(self, page: Path) -> None:
        """Show a page, and wait until each plot on it is drawn, unless Vega is not there."""
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri())
        WebDriverWait(self.driver, 30).until(
            lambda _: self.js(
                "const plots = [...document.querySelectorAll('div:not([hidden]) > script')];"
                "return plots.every((plot) => !window.vegaEmbed"
                " || plot.parentElement.querySelector('svg'));"
            )
        )
        messages = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        self.fetched = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        self.errors = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE"
        ]

    def js(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def shapes(self, selector: str) -> list[dict[str, Any]]:
        """Where the visible shapes lie, in pixels of the page, and their colours."""
        return list(
            self.js(
                f"""
                return [...document.querySelectorAll({json.dumps(selector)})].map((shape) => {{
                  const {{ x, y, width, height }} = shape.getBoundingClientRect();
                  const {{ fill, stroke, opacity }} = getComputedStyle(shape);
                  return {{ x, y, width, height, fill, stroke, opacity: Number(opacity) }};
                }}).filter(({{ opacity }}) => opacity > 0);
                """
            )
        )

    def curves(self, plot: str) -> list[dict[str, Any]]:
        """The lines of a plot that run over most of its width, the smoothed and the raw ones."""
        return [line for line in self.shapes(f"#{plot} .mark-line path") if line["width"] > 100]

    def words(self, plot: str) -> list[str]:
        """All texts in a plot."""
        return list(
            self.js(
                f"""
                return [...document.querySelectorAll("#{plot} text")].map((t) => t.textContent);
                """
            )
        )

    def cells(self) -> list[dict[str, Any]]:
        """The visible cells of the confusion."""
        return [
            cell
            for cell in self.shapes("#confusion .mark-rect.role-mark path")
            if cell["width"] > 10
        ]

    def too_wide(self) -> list[str]:
        """The plots that do not fit into their cards."""
        return list(
            self.js(
                """
                return [...document.querySelectorAll("main > div")]
                  .filter((card) => card.scrollWidth > card.clientWidth)
                  .map((card) => card.id);
                """
            )
        )

    def figures(self) -> list[dict[str, Any]]:
        """Each picture's file name, its own width and that on the page, and its right edge."""
        return list(
            self.js(
                """
                return [...document.images].map((image) => ({
                  name: image.src.split("/").at(-1),
                  natural: image.naturalWidth,
                  shown: image.getBoundingClientRect().width,
                  right: image.getBoundingClientRect().right,
                }));
                """
            )
        )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium"), WIDTH) as driver:
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        yield Browser(driver)


def local(browser: Browser) -> bool:
    return bool(browser.fetched) and all(url.startswith("file:") for url in browser.fetched)


def test_without_set_up_the_page_asks_the_web_for_vega(
    repository: Repository, browser: Browser
) -> None:
    browser.open(repository.path / "pages/bare/index.html")
    assert not local(browser)
    assert not browser.shapes("svg")


def test_show_draws_everything_without_a_network(repository: Repository, browser: Browser) -> None:
    browser.open(repository.path / "pages/show/index.html")
    assert local(browser)
    assert browser.errors == []
    assert browser.too_wide() == []

    for plot in ("loss", "accuracy"):
        assert len({line["stroke"] for line in browser.curves(plot)}) == 2
        assert {"training", "validation"} <= set(browser.words(plot))
    assert max(line["width"] for line in browser.curves("loss")) > 400  # the width of its card
    assert browser.curves("learning_rate")
    # On a scale by powers, what falls by the same factor in each step is straight.
    assert {"10", "0.1", "0.001"} <= set(browser.words("loss"))

    cells = browser.cells()
    assert len({(cell["x"], cell["y"]) for cell in cells}) == len(cells) == 100
    assert len({cell["fill"] for cell in cells}) >= 3

    table = browser.words("scores")
    assert "accuracy" in table
    assert "96.40%" in table
    assert "18" in table
    assert {"precision", "recall", "f1", "93.07%"} <= set(browser.words("per_class"))
    headings = [heading.text for heading in browser.driver.find_elements("css selector", "main p")]
    assert {"Hardest", "Mistakes", "Reliability", "Samples"} <= set(headings)
    assert not any("/" in heading for heading in headings)

    figures = browser.figures()
    assert [figure["name"] for figure in figures] == [
        f"workspace_plots_figures_{name}" for name in FIGURES
    ]
    for figure in figures:
        assert figure["natural"] == WIDTH
        assert 400 < figure["shown"] < figure["right"] < WIDTH


def test_diff_draws_both_experiments_without_a_network(
    repository: Repository, browser: Browser
) -> None:
    browser.open(repository.path / "pages/diff/index.html")
    assert local(browser)
    assert browser.errors == []
    assert browser.too_wide() == []

    # One epoch is one point of validation, and no line.
    for plot, colours in {"loss": 3, "accuracy": 3, "learning_rate": 2}.items():
        assert len({line["stroke"] for line in browser.curves(plot)}) == colours
    assert {"94.80%", "96.40%"} <= set(browser.words("scores"))

    cells = browser.cells()
    assert len({(cell["x"], cell["y"]) for cell in cells}) == len(cells) == 200

    figures = browser.figures()
    assert [figure["name"] for figure in figures] == [
        f"{name}_plots_figures_{figure}" for figure in FIGURES for name in ("short", "long")
    ]
    for figure in figures:
        assert figure["natural"] == WIDTH
        assert 400 < figure["shown"] < figure["right"] < WIDTH


def test_a_plot_that_no_revision_has_leaves_no_gap(
    repository: Repository, browser: Browser
) -> None:
    browser.open(repository.path / "pages/lacking/index.html")
    assert browser.errors == []
    assert len({line["stroke"] for line in browser.curves("loss")}) == 4
    assert not browser.driver.find_element("id", "learning_rate").is_displayed()


def test_a_run_of_which_no_epoch_has_ended_is_shown_without_a_complaint(
    make_repository: Callable[[], Repository], browser: Browser
) -> None:
    repository = make_repository()
    draw(repository, 1)
    stand_in(repository)
    Curves(repository.path / "plots/training").log(10, {"train/loss": 2.0, "train/accuracy": 0.2})
    repository.run(sys.executable, "-m", "stages.tools.page")
    quiet(repository.run("dvc", "plots", "show"))
    for command in (["plots", "show", "--json"], ["metrics", "show"], ["exp", "show", "--json"]):
        assert "failed" not in repository.run("dvc", *command).stderr
    browser.open(repository.path / "dvc_plots/index.html")
    assert browser.errors == []


def test_the_tables_fit_a_terminal(repository: Repository) -> None:
    for command in (
        ["metrics", "show"],
        ["metrics", "diff", "short", "long"],
        ["exp", "show", "-A", "--only-changed", "--drop", ".*(/|yaml$|loss)|Created"],
    ):
        shown = repository.run("dvc", *command).stdout
        assert "accuracy" in shown
        assert max(map(len, shown.splitlines())) <= 120, shown


def test_no_metric_has_the_name_of_a_parameter(repository: Repository) -> None:
    metrics = json.loads(repository.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    names = {name for file in metrics.values() for name in params.overrides(dict(file["data"]))}
    assert {"accuracy", "train.loss", "validation.accuracy"} <= names
    assert not names & params.overrides(params.load().model_dump()).keys()


def test_a_constant_is_labelled_with_its_value(repository: Repository, browser: Browser) -> None:
    browser.open(repository.path / "pages/show/index.html")
    labels = browser.driver.find_elements("css selector", "#learning_rate .role-axis-label text")
    assert labels[-1].text == "0.06"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_a_light_and_in_a_dark_desktop(
    repository: Repository, browser: Browser, scheme: str
) -> None:
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.open(repository.path / "pages/show/index.html")
    card = browser.js("return getComputedStyle(document.getElementById('loss')).backgroundColor")
    labels = browser.shapes("#loss .role-axis-label text, #loss .role-legend-label text")
    assert labels
    for label in labels:
        assert abs(brightness(label["fill"]) - brightness(card)) > 150


def brightness(colour: str) -> float:
    """The mean of a CSS `rgb(r, g, b)`, 0 to 255."""
    return float(np.mean([int(part) for part in colour.removeprefix("rgb(")[:-1].split(",")]))


def test_set_up_leaves_git_clean(repository: Repository) -> None:
    changed = repository.run("git", "status", "--porcelain", ".dvc").stdout
    assert changed == ""
    assert (repository.path / ".dvc/plots/page.html").stat().st_size > 500_000
