"""How good predictions are; knows numbers only, neither networks nor pictures."""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from stages.shared.program import UserError

BINS = 15  # of the reliability diagram, as in Guo et al. 2017
COLUMNS = ["index", "actual", "predicted", "confidence"]


class ScoringError(UserError):
    """Predictions that cannot be scored, or a table of them that cannot be read."""


class Predictions(NamedTuple):
    """What a network said about each of N images, in their order."""

    actual: NDArray[np.int64]  # (N,), class numbers
    predicted: NDArray[np.int64]  # (N,), class numbers
    confidence: NDArray[np.float64]  # (N,), the probability given to `predicted`, 0 to 1


class Calibration(NamedTuple):
    """Confidence beside accuracy in bins of equal width; an empty bin holds NaN in both."""

    edges: NDArray[np.float64]  # (bins + 1,), from 0 to 1; a bin holds its upper edge
    images: NDArray[np.int64]  # (bins,), how many
    confidence: NDArray[np.float64]  # (bins,), mean
    accuracy: NDArray[np.float64]  # (bins,), share read correctly
    error: float  # the expected calibration error, 0 to 1


def predictions(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Predictions:
    """Take the likeliest class of each image.

    Args:
        logits: (N, classes) float, as a network gives them; only their differences within a row
            matter, so log-probabilities do as well.
        labels: (N,) integers from 0 to classes - 1.

    Raises:
        ScoringError: the shapes do not fit each other, there is no image, a logit is not finite
            or a label is no class.
    """
    logits, labels = _checked(logits, labels)
    predicted = logits.argmax(axis=1)
    confidence = softmax(logits, axis=1)[np.arange(len(labels)), predicted]
    return Predictions(labels, predicted, confidence)


def score(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], classes: list[str]
) -> dict[str, Any]:
    """Score predictions.

    Args:
        logits: (N, classes) float, as for `predictions`.
        labels: (N,) integers from 0 to classes - 1.
        classes: the name of each class, in the order of the columns.

    Returns:
        What JSON can hold, in an order that never changes, shares from 0 to 1 and rounded to six
        digits: images, errors, accuracy, top2_accuracy, loss (mean cross-entropy in nats),
        calibration_error (see `calibrate`), macro_f1, and under `classes` by name: images,
        precision, recall, f1. A share of nothing (the recall of a class without images, say) is
        None, and macro_f1 is the mean of those f1 that exist.

    Raises:
        ScoringError: as `predictions`, or the number of names is not that of the columns.
    """
    logits, labels = _checked(logits, labels)
    if logits.shape[1] != len(classes):
        raise ScoringError(f"{logits.shape[1]} logits an image, expected {len(classes)}, a class")
    result = predictions(logits, labels)
    # Stable, so that a tie falls as it does in argmax and top-2 is never below top-1.
    best_two = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    log_probability = log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, result.predicted, labels=range(len(classes)), zero_division=np.nan
    )
    return {
        "images": len(labels),
        "errors": int((result.predicted != labels).sum()),
        "accuracy": _share(accuracy_score(labels, result.predicted)),
        "top2_accuracy": _share((best_two == labels[:, None]).any(axis=1).mean()),
        "loss": _share(-log_probability.mean()),
        "calibration_error": _share(calibrate(result).error),
        "macro_f1": _share(np.nanmean(f1)),
        "classes": {
            name: {
                "images": int(images[number]),
                "precision": _share(precision[number]),
                "recall": _share(recall[number]),
                "f1": _share(f1[number]),
            }
            for number, name in enumerate(classes)
        },
    }


def calibrate(result: Predictions, bins: int = BINS) -> Calibration:
    """Compare confidence with accuracy, after Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017.

    Args:
        result: the predictions of one image or more.
        bins: of equal width, between 0 and 1, each without its lower edge and with its upper one.

    Returns:
        The bins, and the expected calibration error: the mean over images of the gap between the
        accuracy and the mean confidence of their bin.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], result.confidence)
    correct = result.actual == result.predicted
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        confidence = np.bincount(place, weights=result.confidence, minlength=bins) / images
        accuracy = np.bincount(place, weights=correct, minlength=bins) / images
    error = float(np.nansum(np.abs(accuracy - confidence) * images) / images.sum())
    return Calibration(edges, images, confidence, accuracy, error)


def to_csv(result: Predictions) -> str:
    """Write predictions as the CSV that `from_csv` and DVC's confusion plot read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, (actual, predicted, confidence) in enumerate(zip(*result, strict=True)):
        writer.writerow([index, actual, predicted, f"{confidence:.6f}"])
    return text.getvalue()


def from_csv(text: str) -> Predictions:
    """Read predictions back.

    Raises:
        ScoringError: the columns are others, there is no row, a row is out of order or not whole,
            or a value is no class number or no probability; the message names the line.
    """
    try:
        header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    except csv.Error as error:
        raise ScoringError(f"not CSV: {error}") from None
    if header != COLUMNS:
        raise ScoringError(f"line 1: columns {','.join(header)}, expected {','.join(COLUMNS)}")
    if not rows:
        raise ScoringError("line 2: no prediction, expected one or more")
    actual, predicted, confidence = [], [], []
    for index, row in enumerate(rows):
        try:
            number, *classes = (int(value) for value in row[:3])
            probability = float(row[3])
            whole = len(row) == 4 and number == index and min(classes) >= 0
        except (ValueError, IndexError):
            whole = False
        if not whole or not 0 <= probability <= 1:
            raise ScoringError(
                f"line {index + 2}: {','.join(row)}, expected {index}, two class numbers and a "
                "confidence from 0 to 1"
            )
        actual.append(classes[0])
        predicted.append(classes[1])
        confidence.append(probability)
    return Predictions(np.array(actual), np.array(predicted), np.array(confidence))


def _checked(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Both in the types that are reckoned in, once they are known to fit each other."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ScoringError(
            f"logits {logits.shape} and labels {labels.shape}, expected (N, classes) and (N,) "
            "with N of 1 or more"
        )
    unusable = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(unusable):
        raise ScoringError(
            f"{len(unusable)} of {len(logits)} images have a logit that is not finite (the first "
            f"is image {unusable[0]}): the weights are unusable"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ScoringError(
            f"labels from {labels.min()} to {labels.max()}, expected 0 to {logits.shape[1] - 1}"
        )
    return logits.astype(np.float64), labels.astype(np.int64)


def _share(value: float) -> float | None:
    """A plain number that JSON can hold, or None where there was nothing to divide by."""
    return None if np.isnan(value) else round(float(value), 6)
