"""All figures of a run, by the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from stages.shared import scoring
from stages.shared.curves import Series
from stages.shared.digits import Digits
from stages.shared.files import replacing
from stages.shared.report import calibration, confusion, curves, images, style
from stages.shared.scoring import Predictions

FOLDER = Path("plots/figures")
CURVES = ("train/loss", "validation/loss", "train/accuracy", "validation/accuracy")


def draw(
    series: Mapping[str, Series],
    train: Digits,
    test: Digits,
    class_names: list[str],
    result: Predictions,
    window: int,
    about: str,
) -> dict[str, Figure]:
    """Draw every figure.

    Args:
        series: the curves named in `CURVES`.
        train: where the samples are taken from.
        test: the images that `result` is about.
        class_names: in the order of the class indices.
        result: a prediction for each test image.
        window: points in the moving average of the curves.
        about: data set, network and so on, a line under every figure.
    """
    drawn = {
        "loss": curves.loss_curve(series["train/loss"], series["validation/loss"], window),
        "accuracy": curves.accuracy_curve(
            series["train/accuracy"], series["validation/accuracy"], window
        ),
        "samples": images.samples(train.images, train.labels, class_names),
        "confusion": confusion.confusion(result.actual, result.predicted, class_names),
        "mistakes": images.mistakes(test.images, result, class_names),
        "hardest": images.hardest(test.images, result, class_names),
        "reliability": calibration.reliability(scoring.calibrate(result)),
    }
    for figure in drawn.values():
        style.sign(figure, about)
    return drawn


def write(drawn: Mapping[str, Figure], folder: Path) -> None:
    """Make `folder` hold these figures as NAME.png and nothing else; on failure it stays as it was.

    Nothing else, since `dvc plots` takes every file in it for a figure.
    """
    with replacing(folder) as part:
        part.mkdir()
        for name, figure in drawn.items():
            style.save(figure, part / f"{name}.png")
