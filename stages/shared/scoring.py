"""How good predictions are; knows numbers only, neither networks nor pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from stages.shared import elementary
from stages.shared.files import Record, RecordError, replacing, shortened, validated
from stages.shared.program import UserError

FOLDER = Path("plots/evaluation")
_METRICS, _SCORES, _PER_CLASS = "metrics.json", "scores.csv", "per_class.csv"
_PREDICTIONS = "predictions.csv"
COMPARED = ("accuracy", "errors", "loss")  # few, so that `dvc metrics show` fits a terminal
BINS = 15  # of the reliability diagram, as in Guo et al. 2017
COLUMNS = ["index", "actual", "predicted", "confidence"]


class ScoringError(UserError):
    """Predictions that cannot be scored, or a file of results that cannot be read."""


class Predictions(NamedTuple):
    """What a network said about each of N images, in their order."""

    actual: NDArray[np.int64]  # (N,), class indices
    predicted: NDArray[np.int64]  # (N,), class indices
    confidence: NDArray[np.float64]  # (N,), the probability given to `predicted`, 0 to 1


class Calibration(NamedTuple):
    """Confidence beside accuracy in bins of equal width; an empty bin holds NaN in both."""

    edges: NDArray[np.float64]  # (bins + 1,), from 0 to 1; a bin holds its upper edge
    images: NDArray[np.int64]  # (bins,), how many
    confidence: NDArray[np.float64]  # (bins,), mean
    accuracy: NDArray[np.float64]  # (bins,), share read correctly
    error: float  # the expected calibration error, 0 to 1


Share = Annotated[float, Field(ge=0, le=1)]
Images = Annotated[int, Field(ge=0, lt=2**32)]  # as many as IDX can hold


class ClassScores(Record):
    """The scores of one class, 0 to 1; None where the denominator is 0."""

    images: Images
    precision: Share | None
    recall: Share | None
    f1: Share | None


class Overall(Record):
    """The scores of a network over all classes; shares are from 0 to 1.

    Attributes:
        images: how many were scored.
        errors: how many of them were misread.
        accuracy: share that was classified correctly.
        top2_accuracy: share whose class is one of the two most likely.
        loss: mean cross-entropy, in nats.
        calibration_error: see `calibrate`.
        macro_f1: mean of the f1 of those classes that have one.
    """

    images: Annotated[Images, Field(ge=1)]
    errors: Images
    accuracy: Share
    top2_accuracy: Share
    loss: float = Field(ge=0, allow_inf_nan=False)
    calibration_error: Share
    macro_f1: Share


class Scores(Overall):
    """The scores of a network.

    Attributes:
        per_class: by class name, in the order of the class indices.
    """

    per_class: dict[str, ClassScores]


def predictions(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Predictions:
    """Take the likeliest class of each image.

    Args:
        logits: (N, num_classes) float, as a network gives them; only their differences within a
            row matter, so log-probabilities do as well.
        labels: (N,) integers from 0 to num_classes - 1.

    Raises:
        ScoringError: the shapes do not fit each other, there is no image, a logit is not finite
            or a label is not a class.
    """
    logits, labels = _checked(logits, labels)
    predicted = logits.argmax(axis=1)
    confidence = elementary.exp(_log_softmax(logits)[np.arange(len(labels)), predicted])
    return Predictions(labels, predicted, confidence)


def score(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], class_names: list[str]
) -> Scores:
    """Score predictions.

    Args:
        logits: (N, num_classes) float, as for `predictions`.
        labels: (N,) integers from 0 to num_classes - 1.
        class_names: in the order of the columns.

    Returns:
        The scores, shares rounded to six digits.

    Raises:
        ScoringError: as `predictions`, or the number of names is not that of the columns.
    """
    logits, labels = _checked(logits, labels)
    if logits.shape[1] != len(class_names):
        raise ScoringError(
            f"{logits.shape[1]} logits per image, expected one for each of {len(class_names)}"
            " class names"
        )
    result = predictions(logits, labels)
    # Stable, so that a tie falls as it does in argmax and top-2 is never below top-1.
    best_two = np.argsort(-logits, axis=1, kind="stable")[:, :2]
    log_probability = _log_softmax(logits)[np.arange(len(labels)), labels]
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, result.predicted, labels=range(len(class_names)), zero_division=np.nan
    )
    return Scores(
        images=len(labels),
        errors=int((result.predicted != labels).sum()),
        accuracy=_rounded(accuracy_score(labels, result.predicted)),
        top2_accuracy=_rounded((best_two == labels[:, None]).any(axis=1).mean()),
        loss=_rounded(-log_probability.mean()),
        calibration_error=_rounded(calibrate(result).error),
        macro_f1=_rounded(np.nanmean(f1)),
        per_class={
            name: ClassScores(
                images=int(images[number]),
                precision=_share(precision[number]),
                recall=_share(recall[number]),
                f1=_share(f1[number]),
            )
            for number, name in enumerate(class_names)
        },
    )


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
    index = np.searchsorted(edges[1:-1], result.confidence)
    correct = result.actual == result.predicted
    images = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        confidence = np.bincount(index, weights=result.confidence, minlength=bins) / images
        accuracy = np.bincount(index, weights=correct, minlength=bins) / images
    error = float(np.nansum(np.abs(accuracy - confidence) * images) / images.sum())
    return Calibration(edges, images, confidence, accuracy, error)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Bound a share that is known from a sample: Wilson's 95 % interval (Wilson, 1927).

    Args:
        successes: from 0 to `trials`.
        trials: 1 or more.

    Returns:
        The lower and the upper bound, 0 to 1.
    """
    share, z = successes / trials, 1.959963984540054  # 95 % of a normal distribution within +-z
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = (share + z * z / (2 * trials) + sign * spread for sign in (-1, 1))
    return max(0.0, low / (1 + z * z / trials)), min(1.0, high / (1 + z * z / trials))


def percent(share: float) -> str:
    """A share in percent with two digits, or with as many more as tell it from all of them.

    Args:
        share: 0 to 1; only 1 itself is "100.00%".
    """
    for digits in range(2, 6):
        text = f"{share:.{digits}%}"
        if share >= 1 or not text.startswith("100."):
            return text
    return "over 99.9999%"


def write(folder: Path, scores: Scores, result: Predictions) -> None:
    """Write scores and predictions as the files that DVC's metrics and plots read.

    Args:
        folder: made if it is not there; each file appears whole or not at all.
        scores: go to scores.csv and per_class.csv, and those that runs are compared by to
            metrics.json: DVC has a column for each number of it.
        result: goes to predictions.csv, by the names of the classes.
    """
    names = list(scores.per_class)
    overall = scores.model_dump(include=set(Overall.model_fields))
    by_class = scores.model_dump(include={"per_class"})["per_class"]
    compared = {name: overall[name] for name in COMPARED}
    contents = {
        _PREDICTIONS: _csv(
            COLUMNS,
            (
                (index, names[actual], names[predicted], f"{confidence:.6f}")
                for index, (actual, predicted, confidence) in enumerate(zip(*result, strict=True))
            ),
        ),
        _PER_CLASS: _csv(
            ["class", *ClassScores.model_fields],
            ((name, *one.values()) for name, one in by_class.items()),
        ),
        _SCORES: _csv(["score", "value"], overall.items()),
        _METRICS: json.dumps(compared, indent=2) + "\n",
    }
    for name, content in contents.items():
        with replacing(folder / name) as part:
            part.write_text(content, encoding="utf-8")


def read_scores(folder: Path) -> Scores:
    """Read the scores that `write` wrote.

    Raises:
        ScoringError: a file is missing or does not hold scores, each once and within its bounds, or
            those of fewer than two classes.
    """
    path = folder / _SCORES
    overall = _record(
        path, Overall, {key: cell for key, (cell,) in _by_name(path, ["score", "value"])}
    )
    path = folder / _PER_CLASS
    columns = ["class", *ClassScores.model_fields]
    per_class = {
        name: _record(
            path, ClassScores, dict(zip(columns[1:], cells, strict=True)), f"{shortened(name)}."
        )
        for name, cells in _by_name(path, columns)
    }
    if len(per_class) < 2:
        raise ScoringError(f"{path}: {len(per_class)} classes, expected 2 or more")
    return Scores(**overall.model_dump(), per_class=per_class)


def read_predictions(
    folder: Path, labels: NDArray[np.integer[Any]], class_names: list[str]
) -> Predictions:
    """Read the predictions that `write` wrote.

    Args:
        folder: where.
        labels: (N,) integers, of the images that the predictions must be about.
        class_names: in the order of the class indices.

    Raises:
        ScoringError: the file is missing, damaged, or about other images or classes.
    """
    path = folder / _PREDICTIONS
    result = _from_rows(path, _rows(path, COLUMNS), class_names)
    if not np.array_equal(result.actual, labels):
        raise ScoringError(f"{path}: not about the test images; `dvc repro evaluate` makes it anew")
    return result


def _from_rows(path: Path, rows: list[list[str]], class_names: list[str]) -> Predictions:
    """The predictions in a table, every value of it checked."""
    if not rows:
        raise ScoringError(f"{path}: line 2: no prediction, expected one or more")
    actual, predicted, confidence = [], [], []
    numbers = {name: number for number, name in enumerate(class_names)}
    for index, row in enumerate(rows):
        classes = [numbers.get(name, -1) for name in row[1:3]]
        probability = _value(row[3])
        if (
            row[0] != str(index)
            or min(classes) < 0
            or not isinstance(probability, float)
            or not 0 <= probability <= 1
        ):
            raise ScoringError(
                f"{path}: line {index + 2}: {shortened(','.join(row))}, expected {index}, two of"
                f" the {len(class_names)} classes and a confidence from 0 to 1"
            )
        actual.append(classes[0])
        predicted.append(classes[1])
        confidence.append(probability)
    return Predictions(np.array(actual), np.array(predicted), np.array(confidence))


_Kind = TypeVar("_Kind", bound=Record)


def _record(path: Path, kind: type[_Kind], cells: Mapping[str, str], above: str = "") -> _Kind:
    """A record out of the cells of a table; an empty one is None."""
    try:
        return validated(kind, {key: _value(cell) for key, cell in cells.items()})
    except RecordError as error:
        raise ScoringError(f"{path}: not the scores of a network ({above}{error})") from None


def _value(cell: str) -> object:
    """The number in a cell, or its text if it is none; None if it is empty."""
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None


def _csv(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV; None is an empty cell."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([columns, *rows])
    return table.getvalue()


def _rows(path: Path, columns: list[str]) -> list[list[str]]:
    """The rows of a CSV file below its header, each with a cell for each column.

    Raises:
        ScoringError: the file is missing or no CSV, or its columns are others.
    """
    text = _text(path)
    try:
        header, *rows = list(csv.reader(io.StringIO(text))) or [list[str]()]
    except csv.Error as error:
        raise ScoringError(f"{path}: not CSV: {error}") from None
    if header != columns:
        found = shortened(",".join(header))
        raise ScoringError(f"{path}: line 1: columns {found}, expected {','.join(columns)}")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            found = shortened(",".join(row))
            raise ScoringError(f"{path}: line {line}: {found}, expected {','.join(columns)}")
    return rows


def _by_name(path: Path, columns: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The rows of a CSV file by their first cell.

    Raises:
        ScoringError: as `_rows`, or a name comes twice.
    """
    seen = set()
    for line, (name, *cells) in enumerate(_rows(path, columns), start=2):
        if name in seen:
            raise ScoringError(f"{path}: line {line}: {shortened(name)} again, expected it once")
        seen.add(name)
        yield name, cells


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScoringError(f"{path}: no such file; `dvc repro evaluate` makes it") from None
    except UnicodeDecodeError:
        raise ScoringError(f"{path}: not text") from None


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithms of the probabilities of all classes, for each row of logits.

    By our own functions: where SciPy's differ in the last bit between two machines, a number that
    is rounded to six digits may still fall to another side.
    """
    below = logits - logits.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = elementary.exp(below).sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = below - elementary.log(total)
    return result


def _checked(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits as float64 and labels as int64, once they are known to fit each other."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ScoringError(
            f"logits {logits.shape} and labels {labels.shape}, expected (N, num_classes) and (N,) "
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
    """A share as JSON can hold it: None where there was nothing to divide by."""
    return None if np.isnan(value) else _rounded(value)


def _rounded(value: float) -> float:
    return round(float(value), 6)
