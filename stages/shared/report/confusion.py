"""The confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.shared.report.style import GREY, HEAT, INK, PERCENT, matrix, style, text_size
from stages.shared.scoring import percent


def confusion(
    actual: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], class_names: list[str]
) -> Figure:
    """Draw the confusion matrix: counts in the cells, mistakes coloured by their share of a row.

    The diagonal has no colour, since on a scale that holds it every mistake would be white.

    Args:
        actual: (N,) integers, class indices.
        predicted: (N,) integers, class indices.
        class_names: in the order of the class indices.
    """
    size = len(class_names)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    right = np.diag(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    scale = Normalize(0, share.max() or 1)
    with style():
        figure, axes = matrix(class_names)
        figure.set_figheight(0.9 * figure.get_figwidth())  # the scale beside it takes of its width
        axes.imshow(share, cmap=HEAT, norm=scale, zorder=0.5)
        text = text_size(size, len(f"{counts.max()}"))
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = scale(share[row, column]) > 0.55
            axes.text(
                column,
                row,
                str(counts[row, column]),
                size=text,
                color="white" if dark else INK,
                weight="bold" if row == column else "normal",
                ha="center",
                va="center_baseline",
            )
        small = min(8, text_size(size, 3))
        axes.text(size - 0.4, -0.6, "recall", size=small, color=GREY)
        for row in np.flatnonzero(counts.sum(axis=1)):
            recall = _recall(int(right[row]), int(counts[row].sum()))
            axes.text(size - 0.4, row, recall, size=small, color=GREY, va="center")
        bar = figure.colorbar(ScalarMappable(scale, HEAT), ax=axes, shrink=0.6, aspect=32, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(PERCENT)
        bar.set_label("mistakes, share of the actual class")
        axes.set_title(
            f"Confusion matrix: {len(actual) - right.sum():,} of {len(actual):,} test images"
            " misread\nA cell counts the images of a class (row) taken for another (column)"
        )
    return figure


def _recall(right: int, images: int) -> str:
    """A recall with one digit, or more where it would seem to be perfect and is not."""
    share = f"{right / images:.1%}"
    return percent(right / images) if share == "100.0%" and right < images else share
