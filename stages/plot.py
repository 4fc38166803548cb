"""Draw the figures.

Reads the curves in plots/training, the scores and predictions in plots/evaluation and the arrays
in data/npy; writes plots/figures/{loss,accuracy,samples,confusion,mistakes,reliability}.png, all of
them or none.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from stages.shared import digits, figures, params, scoring
from stages.shared.digits import Digits
from stages.shared.errors import UserError, run
from stages.shared.figures import Series
from stages.shared.scoring import Predictions

DATA = Path("data/npy")
CURVES = Path("plots/training/plots/metrics")
EVALUATION = Path("plots/evaluation")
FIGURES = Path("plots/figures")


class PlotError(UserError):
    """Results of an earlier stage that cannot be drawn."""


def main() -> None:
    window = params.load().plot.smoothing
    curves = {
        f"{part}/{name}": read_curve(CURVES / part / f"{name}.tsv", name)
        for part in ("train", "validation")
        for name in ("loss", "accuracy")
    }
    train, test = digits.load(DATA, "train"), digits.load(DATA, "test")
    classes = read_classes(EVALUATION / "metrics.json")
    result = read_predictions(EVALUATION / "predictions.csv", test, classes)
    write(draw(curves, train, test, classes, result, window), FIGURES)


def draw(
    curves: dict[str, Series],
    train: Digits,
    test: Digits,
    classes: list[str],
    result: Predictions,
    window: int,
) -> dict[str, Figure]:
    """Draw every figure, by the name that its file gets.

    Args:
        curves: train/ and validation/ loss and accuracy.
        train: where the samples are taken from.
        test: the images that `result` is about.
        classes: names, in the order of their numbers.
        result: a prediction for each test image.
        window: points in the moving average of the curves.
    """
    return {
        "loss": figures.loss_curve(curves["train/loss"], curves["validation/loss"], window),
        "accuracy": figures.accuracy_curve(
            curves["train/accuracy"], curves["validation/accuracy"], window
        ),
        "samples": figures.samples(train.images, train.labels, classes),
        "confusion": figures.confusion(result.actual, result.predicted, classes),
        "mistakes": figures.mistakes(test.images, *result, classes),
        "reliability": figures.reliability(*scoring.calibrate(result)),
    }


def write(drawn: dict[str, Figure], folder: Path) -> None:
    """Make `folder` hold these figures as NAME.png and nothing else; on failure it stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".figures-", dir=folder.parent) as scratch:
        made = Path(scratch, folder.name)
        made.mkdir()
        for name, figure in drawn.items():
            figures.save(figure, made / f"{name}.png")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def read_curve(path: Path, name: str) -> Series:
    """Read one of DVCLive's curves.

    Args:
        path: tab-separated, with the columns step and `name`.
        name: of the metric.

    Raises:
        PlotError: the file is missing, holds other columns or no point, or a value is no number.
    """
    rows = csv.reader(_text(path, "train").splitlines(), delimiter="\t")
    header = next(rows, [])
    if header != ["step", name]:
        raise PlotError(f"{path}: columns {', '.join(header) or 'none'}, expected step, {name}")
    steps, values = [], []
    for line, row in enumerate(rows, start=2):
        try:
            step, value = int(row[0]), float(row[1])
        except (ValueError, IndexError):
            value = math.nan
        if not math.isfinite(value):
            found = " ".join(row)
            raise PlotError(f"{path}: line {line} is {found!r}, expected a step and a number")
        steps.append(step)
        values.append(value)
    if not steps:
        raise PlotError(f"{path}: no point, expected one or more")
    return Series(np.array(steps), np.array(values))


def read_classes(path: Path) -> list[str]:
    """Read the names of the classes, in order, from the scores.

    Raises:
        PlotError: the file is missing, is no JSON or holds no classes.
    """
    try:
        classes = list(json.loads(_text(path, "evaluate"))["classes"].keys())
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PlotError(f"{path}: not the scores of a network ({error})") from None
    if len(classes) < 2:
        raise PlotError(f"{path}: {len(classes)} classes, expected 2 or more")
    return classes


def read_predictions(path: Path, test: Digits, classes: list[str]) -> Predictions:
    """Read the predictions of the test images.

    Raises:
        PlotError: the file is missing or damaged, or is not about these images and classes.
    """
    try:
        result = scoring.from_csv(_text(path, "evaluate"))
    except scoring.ScoringError as error:
        raise PlotError(f"{path}: {error}") from None
    if not np.array_equal(result.actual, test.labels):
        raise PlotError(f"{path}: not about the test images; `dvc repro evaluate` makes it anew")
    highest = max(result.actual.max(), result.predicted.max())
    if highest >= len(classes):
        raise PlotError(f"{path}: class {highest}, expected 0 to {len(classes) - 1}")
    return result


def _text(path: Path, stage: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlotError(f"{path}: no such file; `dvc repro {stage}` makes it") from None
    except UnicodeDecodeError:
        raise PlotError(f"{path}: not text") from None


if __name__ == "__main__":
    run(main)
