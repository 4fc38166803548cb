"""Pictures of the images themselves: samples, and mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.shared.report.style import TITLE_SIZE, WIDTH, bare, matrix, picture, style
from stages.shared.scoring import Predictions, percent

_SAMPLES = 16  # of each class
_HARDEST, _COLUMNS = 15, 5


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.integer[Any]], class_names: list[str]
) -> Figure:
    """Draw the first images of each class, a row a class.

    Args:
        images: uint8 (N, H, W), light on dark.
        labels: (N,) integers, class indices.
        class_names: in the order of the class indices.
    """
    columns = _SAMPLES
    cells = np.full((len(class_names), columns), -1)
    for number in range(len(class_names)):
        first = np.flatnonzero(labels == number)[:columns]
        cells[number, : len(first)] = first
    with style():
        figure, axes = _grid(_mosaic(images, cells), len(class_names), columns)
        axes.set_title(f"The first {columns} training images of each class")
        axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
        axes.set_xticks([])
    return figure


def most_confident(
    result: Predictions,
    size: int,
) -> NDArray[np.int64]:
    """Find, for each pair of an actual and a predicted class, the image most surely read so.

    Args:
        result: of N images, class indices from 0 to size - 1.
        size: how many classes there are.

    Returns:
        (size, size) integers, actual by predicted: the image's number, -1 where no image was read
        so. Of images with the same confidence the first is taken.
    """
    order = np.argsort(-result.confidence, kind="stable")
    pair = result.actual[order].astype(int) * size + result.predicted[order]
    pairs, first = np.unique(pair, return_index=True)
    cells = np.full(size * size, -1)
    cells[pairs] = order[first]
    return cells.reshape(size, size)


def mistakes(
    images: NDArray[np.uint8],
    result: Predictions,
    class_names: list[str],
) -> Figure:
    """Draw, for each way to be wrong, the image that was most confidently misread so.

    The diagonal holds the images most confidently read correctly, dimmed and framed.

    Args:
        images: uint8 (N, H, W), light on dark.
        result: what was read in each of them.
        class_names: in the order of the class indices.
    """
    size = len(class_names)
    cells = most_confident(result, size)
    dim = np.where(np.eye(size, dtype=bool), 0.4, 1.0)
    wrong, read = int((result.actual != result.predicted).sum()), len(result.actual)
    kinds = int((cells[~np.eye(size, dtype=bool)] >= 0).sum())
    with style():
        figure, axes = matrix(class_names)
        axes.imshow(
            _mosaic(images, cells, dim),
            cmap="gray_r",
            vmin=0,
            vmax=1,
            extent=(-0.5, size - 0.5, size - 0.5, -0.5),
            zorder=0.5,
        )
        axes.set_title(
            f"The most confident mistake of each kind: {wrong:,} of {read:,} test images"
            f" misread, in {kinds} of {size * (size - 1)} ways\n"
            "Grey, in the frames: the image of each class most confidently read correctly"
        )
    return figure


def hardest(
    images: NDArray[np.uint8],
    result: Predictions,
    class_names: list[str],
) -> Figure:
    """Draw the most confident mistakes, the surest first, each with its number among the images.

    Args:
        images: uint8 (N, H, W), light on dark.
        result: what was read in each of them.
        class_names: in the order of the class indices.
    """
    actual, predicted, confidence = result
    surest = np.argsort(-confidence, kind="stable")
    wrong = surest[actual[surest] != predicted[surest]]
    shown = wrong[:_HARDEST]
    rows = max(1, -(-len(shown) // _COLUMNS))
    with style():
        figure = Figure(figsize=(WIDTH, 0.4 + 1.65 * rows), layout="constrained")
        title = f"The most confident mistakes: {len(shown)} of {len(wrong):,} misread test images"
        title += ", with confidence and number"
        figure.suptitle(title, x=0.01, ha="left", size=TITLE_SIZE)
        grid = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        for axes in grid:
            axes.set_axis_off()
        for axes, index in zip(grid, shown, strict=False):
            picture(axes, images[index])
            axes.set_title(
                f"{class_names[actual[index]]} read as {class_names[predicted[index]]}\n"
                # The table has six digits; 1 there is a little less.
                f"{percent(min(confidence[index], 1 - 1e-9))}, no. {index}",
                loc="center", size=8, pad=4, parse_math=False,
            )  # fmt: skip
    return figure


def _mosaic(
    images: NDArray[np.uint8], cells: NDArray[np.int64], dim: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Lay images out as one, a ninth of a cell apart.

    Args:
        images: uint8 (N, H, W), light on dark.
        cells: (rows, columns) integers, which image stands where; -1 leaves the cell blank.
        dim: (rows, columns), what the ink of each cell is multiplied by.

    Returns:
        (rows * height, columns * width) of ink, 0 to 1.
    """
    ink = np.where((cells >= 0)[..., None, None], images[cells] / 255, 0)
    if dim is not None:
        ink *= dim[..., None, None]
    height, width = images.shape[1:]
    gaps = ((0, 0), (0, 0), _gap(height), _gap(width))
    padded = np.pad(ink, gaps)
    rows, columns, high, wide = padded.shape
    return padded.transpose(0, 2, 1, 3).reshape(rows * high, columns * wide)


def _gap(length: int) -> tuple[int, int]:
    """The pixels before and after an image of that length."""
    return max(1, length // 18), max(1, length // 18)


def _grid(mosaic: NDArray[np.float64], rows: int, columns: int) -> tuple[Figure, Axes]:
    """A figure that is filled by a mosaic of so many rows and columns."""
    high, wide = mosaic.shape[0] / rows, mosaic.shape[1] / columns
    height = WIDTH * (rows * high) / (columns * wide)
    figure = Figure(figsize=(WIDTH, height + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        mosaic,
        cmap="gray_r",
        vmin=0,
        vmax=1,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        aspect=high / wide,
    )
    bare(axes)
    return figure, axes
