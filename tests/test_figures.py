import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from stages.shared import digits
from stages.shared.curves import Series
from stages.shared.report import calibration, confusion, curves, figures, images, style
from stages.shared.scoring import Calibration, Predictions
from stages.tools import explanation


def every_figure(size: int, wrong: float = 0.2, count: int = 300) -> dict[str, Figure]:
    random = np.random.default_rng(size)
    classes = [f"class {number}" if size == 10 else str(number) for number in range(size)]
    pictures = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    actual = np.arange(count) % size
    moved = (actual + random.integers(1, size, count)) % size
    predicted = np.where(random.random(count) < wrong, moved, actual)
    result = Predictions(actual, predicted, random.random(count))
    steps = np.arange(10, 510, 10)
    loss = Series(steps, 2.3 * np.exp(-steps / 50) + 0.02)
    accuracy = Series(steps, 1 - np.exp(-steps / 50))
    one = np.array([500])
    edges = np.linspace(0, 1, 16)
    filled = np.arange(15)
    nothing = np.where(filled > 0, 0.5, np.nan)
    return {
        "loss": curves.loss_curve(loss, Series(one, np.array([0.1])), 20),
        "accuracy": curves.accuracy_curve(accuracy, Series(one, np.array([0.97])), 20),
        "samples": images.samples(pictures, actual, classes),
        "confusion": confusion.confusion(actual, predicted, classes),
        "mistakes": images.mistakes(pictures, result, classes),
        "hardest": images.hardest(pictures, result, classes),
        "explanation": explanation.draw(
            pictures[:3], random.dirichlet(np.ones(size), 3), classes, ["a.png", "b", "$c$_^.png"]
        ),
        "reliability": calibration.reliability(Calibration(edges, filled, nothing, nothing, 0.01)),
    }


def digest_of_all(folder: Path) -> str:
    for name, figure in every_figure(10).items():
        style.save(figure, folder / f"{name}.png")
    files = sorted(folder.glob("*.png"))
    assert len(files) == 8
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_no_backend_that_is_asked_for_keeps_a_program_from_starting() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.tools.sweep", "--help"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, matplotlib; matplotlib.rcParams['font.size'] = 20;"
        "from tests import test_figures as t; print(t.digest_of_all(pathlib.Path(sys.argv[1])))"
    )
    (tmp_path / "other").mkdir()
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "other")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == digest_of_all(tmp_path)


@pytest.mark.parametrize("size", [2, 26])
def test_any_number_of_classes(size: int, tmp_path: Path) -> None:
    for figure in every_figure(size).values():
        style.save(figure, tmp_path / "figure.png")
        for axes in figure.axes:
            assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
        with Image.open(tmp_path / "figure.png") as picture:
            assert 1200 < picture.width < 1800
            assert np.asarray(picture.convert("L")).min() < 100


@pytest.mark.filterwarnings("error")
def test_names_that_would_be_boxes_are_numbers() -> None:
    assert style.drawable(["Schuh", "сапог", "café"]) == ["Schuh", "сапог", "café"]
    assert style.drawable(["Schuh", "鞋"]) == ["0", "1"]


def test_perfect_predictions_are_drawn(tmp_path: Path) -> None:
    for figure in every_figure(10, wrong=0).values():
        style.save(figure, tmp_path / "figure.png")


@pytest.mark.filterwarnings("error")
def test_curves_of_one_point_and_of_perfection(tmp_path: Path) -> None:
    point = Series(np.array([0]), np.array([1.0]))
    for figure in (curves.loss_curve(point, point, 20), curves.accuracy_curve(point, point, 20)):
        style.save(figure, tmp_path / "figure.png")


def test_the_scale_of_the_loss_fits_it() -> None:
    steps = np.arange(100)
    end = Series(np.array([99]), np.array([0.5]))
    steep = curves.loss_curve(Series(steps, 2.3 * np.exp(-steps / 9) + 0.01), end, 5)
    level = curves.loss_curve(Series(steps, np.linspace(2, 1, 100)), end, 5)
    assert steep.axes[0].get_yscale() == "log"
    assert level.axes[0].get_yscale() == "linear"
    assert level.axes[0].get_ylim()[0] == 0


def test_smoothing_is_a_centred_mean_of_what_there_is() -> None:
    values = np.array([3.0, 0.0, 6.0, 3.0])
    assert curves.smooth(values, 3).tolist() == [3.0, 3.0, 3.0, 3.0]
    assert curves.smooth(values, 1).tolist() == values.tolist()
    assert curves.smooth(values, 50).tolist() == [3.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize("points", [1, 2, 14, 20_000])
@pytest.mark.parametrize("window", [1, 10, 11, 1000])
def test_the_smoothed_curve_begins_and_ends_where_the_raw_one_does(
    points: int, window: int
) -> None:
    values = 2.3 * np.exp(-np.arange(points) / 9) + np.random.default_rng(0).random(points)
    smoothed = curves.smooth(values, window)
    assert len(smoothed) == points
    assert (smoothed[0], smoothed[-1]) == (values[0], values[-1])
    if points > 2 * window:
        middle = points // 2
        near = values[middle - window // 2 : middle + (window + 1) // 2]
        assert smoothed[middle] == pytest.approx(near.mean())


def test_each_cell_has_its_most_confident_image() -> None:
    actual = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([1, 1, 0, 1, 1, 0])
    confidence = np.array([0.6, 0.9, 0.5, 0.7, 0.7, 0.4])
    cells = images.most_confident(Predictions(actual, predicted, confidence), 3)
    assert cells.tolist() == [[2, 1, -1], [-1, 3, -1], [5, -1, -1]]


def test_the_mistakes_show_those_images() -> None:
    levels = np.array([51, 102, 153, 204], dtype=np.uint8)
    pictures = np.broadcast_to(levels[:, None, None], (4, 18, 18))
    actual, predicted = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1])
    result = Predictions(actual, predicted, np.array([0.6, 0.9, 0.5, 0.8]))
    figure = images.mistakes(pictures, result, ["a", "b"])
    ink = np.asarray(figure.axes[0].images[0].get_array())
    centres = ink[10::20, 10::20]  # cells of 18 pixels and a margin of 1 on each side
    assert centres == pytest.approx(np.array([[0, 0.4], [0.6, 0.8 * 0.4]]))
    assert "3 of 4 test images misread, in 2 of 2 ways" in figure.axes[0].get_title(loc="left")


def test_the_confusion_counts_and_colours_mistakes_only() -> None:
    actual, predicted = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1])
    axes = confusion.confusion(actual, predicted, ["a", "b"]).axes[0]
    words = {(t.get_position(), t.get_text()) for t in axes.texts}
    assert {((0, 0), "3"), ((1, 0), "1"), ((1, 1), "1")} <= words
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0, 0.25], [0, 0]]


def test_the_hardest_are_the_surest_mistakes_in_order() -> None:
    pictures = np.zeros((40, 9, 9), dtype=np.uint8)
    pictures[:, 4, 4] = np.arange(40)
    actual, predicted = np.zeros(40, dtype=int), np.ones(40, dtype=int)
    predicted[39] = 0
    confidence = np.arange(40) / 100 + 0.5
    figure = images.hardest(pictures, Predictions(actual, predicted, confidence), ["a", "b"])
    shown = [int(np.asarray(axes.images[0].get_array())[4, 4]) for axes in figure.axes]
    assert shown == list(range(38, 23, -1))
    assert figure.axes[0].get_title() == "a read as b\n88.00%, no. 38"
    assert figure.get_suptitle().startswith("The most confident mistakes: 15 of 39 ")


def test_a_mistake_of_full_confidence_is_not_told_as_certain() -> None:
    pictures = np.zeros((2, 9, 9), dtype=np.uint8)
    result = Predictions(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 0.99998]))
    figure = images.hardest(pictures, result, ["a", "b"])
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == [
        "a read as b\nover 99.9999%, no. 0",
        "a read as b\n99.998%, no. 1",
    ]


def test_every_figure_is_signed() -> None:
    point = Series(np.array([0]), np.array([0.5]))
    some = digits.Digits(np.zeros((6, 9, 9), np.uint8), np.array([0, 1] * 3, np.uint8))
    result = Predictions(some.labels.astype(int), np.zeros(6, int), np.full(6, 0.9))
    series = dict.fromkeys(figures.CURVES, point)
    drawn = figures.draw(series, some, some, ["a", "b"], result, 10, "MNIST, seed 7")
    assert len(drawn) == 7
    for figure in drawn.values():
        assert "MNIST, seed 7" in [text.get_text() for text in figure.texts]


def test_an_explanation_shows_what_was_seen_and_every_probability() -> None:
    pictures = np.arange(2 * 20 * 20, dtype=np.uint8).reshape(2, 20, 20)
    probabilities = np.array([[0.1, 0.896, 0.004], [0.5, 0.25, 0.25]])
    figure = explanation.draw(pictures, probabilities, ["a", "b", "c"], ["one.png", "two.png"])
    seen, bars = figure.axes[::2], figure.axes[1::2]
    for axes, image in zip(seen, pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), image)
    for axes, row in zip(bars, probabilities, strict=True):
        assert [bar.get_height() for bar in axes.patches] == row.tolist()  # type: ignore[attr-defined]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert bars[0].get_title(loc="left") == "one.png: b, 89.60%"
    assert [text.get_text() for text in bars[0].texts] == ["10.0%", "89.6%"]
    first, best, _ = (bar.get_facecolor() for bar in bars[0].patches)
    assert first != best


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["数字.png", "b\udcff.png", "a" * 250, r"$\frac$.png"])
def test_any_name_of_a_file_can_be_explained(name: str, tmp_path: Path) -> None:
    figure = explanation.draw(
        np.zeros((1, 20, 20), np.uint8), np.array([[0.5, 0.5]]), ["a", "b"], [name]
    )
    style.save(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert 1200 < picture.width < 1800


@pytest.mark.parametrize("names", [["$1", "$5"], [r"$\frac$", "$"]])
def test_the_name_of_a_class_is_no_formula(names: list[str], tmp_path: Path) -> None:
    pictures = np.zeros((4, 8, 8), np.uint8)
    actual = np.array([0, 0, 1, 1])
    result = Predictions(actual, 1 - actual, np.full(4, 0.5))
    drawn = [
        images.samples(pictures, actual, names),
        images.mistakes(pictures, result, names),
        images.hardest(pictures, result, names),
        confusion.confusion(actual, 1 - actual, names),
        explanation.draw(pictures[:1], np.full((1, 2), 0.5), names, ["a"]),
    ]
    for figure in drawn:
        style.save(figure, tmp_path / "figure.png")
        texts = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert texts
        assert not any(text.get_parse_math() for text in texts)
