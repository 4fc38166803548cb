"""Draw the figures and write the model card.

Reads the curves in plots/training, the scores and predictions in plots/evaluation, the arrays in
data/npy and the description in models/digits.safetensors; writes
plots/figures/{loss,accuracy,samples,confusion,mistakes,hardest,reliability}.png, all of them or
none, and plots/README.md, which shows them (beside their folder, as `dvc plots` takes every file in
it for a figure).
"""

from __future__ import annotations

import csv
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open

from stages.shared import digits, params, scoring
from stages.shared.digits import Digits
from stages.shared.program import UserError, run
from stages.shared.report import card, figures
from stages.shared.report.card import CardError, Description, Scores
from stages.shared.report.figures import Series
from stages.shared.scoring import Predictions

DATA = Path("data/npy")
CURVES = Path("plots/training/plots/metrics")
EVALUATION = Path("plots/evaluation")
MODEL = Path("models/digits.safetensors")
FIGURES = Path("plots/figures")
CARD = Path("plots/README.md")


class PlotError(UserError):
    """Results of an earlier stage that cannot be drawn."""


def main() -> None:
    settings = params.load()
    curves = {
        f"{part}/{name}": read_curve(CURVES / part / f"{name}.tsv", name)
        for part in ("train", "validation")
        for name in ("loss", "accuracy")
    }
    train, test = digits.load(DATA, "train"), digits.load(DATA, "test")
    scores = read_scores(EVALUATION / "metrics.json")
    classes = list(scores.classes)
    result = read_predictions(EVALUATION / "predictions.csv", test, classes)
    page = card.page(
        settings.download.dataset,
        len(train),
        read_description(MODEL),
        scores,
        np.flatnonzero(result.actual != result.predicted).tolist(),
    )
    write(draw(curves, train, test, classes, result, settings.plot.smoothing), FIGURES)
    CARD.write_text(page, encoding="utf-8")


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
        "hardest": figures.hardest(test.images, *result, classes),
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


def read_scores(path: Path) -> Scores:
    """Read the scores; the names of the classes are in them, in order.

    Raises:
        PlotError: the file is missing, holds no scores, or those of fewer than two classes.
    """
    try:
        scores = card.scores(_text(path, "evaluate"))
    except CardError as error:
        raise PlotError(f"{path}: not the scores of a network ({error})") from None
    if len(scores.classes) < 2:
        raise PlotError(f"{path}: {len(scores.classes)} classes, expected 2 or more")
    return scores


def read_description(path: Path) -> Description:
    """Read what the weights say about themselves, and none of the weights.

    Raises:
        PlotError: the file is missing, is not safetensors or has no such description.
    """
    if not path.is_file():
        raise PlotError(f"{path}: no such file; `dvc repro train` makes it")
    try:
        with safe_open(path, framework="numpy") as file:
            return card.description((file.metadata() or {}).get("card", ""))
    except SafetensorError as error:
        raise PlotError(f"{path}: not a safetensors file ({error})") from None
    except CardError as error:
        raise PlotError(f"{path}: its description is not that of a network ({error})") from None


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
