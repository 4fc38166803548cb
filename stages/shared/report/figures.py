"""Matplotlib pictures of arrays; knows what is drawn, not where it comes from.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind eyes tell
apart; line styles, markers and lightness carry the same difference in grey. Every function makes
a `Figure` of its own, so nothing is shared with pyplot or between two pictures.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from scipy.stats import binomtest

BLUE, VERMILION, INK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#6E6E6E", "#EDEDED"
WIDTH = 8.0  # inches; at 200 dots an inch twice the 800 pixels of a README
_HEAT = LinearSegmentedColormap.from_list("heat", ["#FFFFFF", "#F6C9A8", VERMILION, "#5E2A00"])
MOST_EXPLAINED = 20  # rows of one figure; a taller one is no page that anybody reads
_HARDEST, _COLUMNS = 15, 5
_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}%")
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.08,
}


class Series(NamedTuple):
    """A curve: one value at each step, both of the same length of 1 or more and all finite."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes on the same machine."""
    with _style(), warnings.catch_warnings():
        # Of a file's name in letters that the font lacks: it is drawn as boxes, and that is all.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, format="png", metadata={"Software": None})


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Take the moving average of (N,) values, centred; at the ends over those that there are."""
    weights = np.ones(min(window, len(values)))
    total = np.convolve(values, weights, mode="same")
    return total / np.convolve(np.ones(len(values)), weights, mode="same")


def loss_curve(train: Series, validation: Series, window: int) -> Figure:
    """Draw the cross-entropy loss over training, in nats.

    Args:
        train: the loss of the steps between two points.
        validation: the loss of the held-out images, a point an epoch.
        window: points of `train` in its moving average.

    Returns:
        The figure. Its scale is logarithmic where the highest loss is ten times the median or
        more: a linear one would press half of the curve into its lowest tenth.
    """
    smoothed = smooth(train.values, window)
    lowest = min(smoothed.min(), validation.values.min())
    with _style():
        figure, axes = _curves(train, smoothed, validation, window, "{:.3f}")
        axes.set(title="Loss", ylabel="cross-entropy, nats")
        if lowest > 0 and train.values.max() >= 10 * np.median(train.values):
            axes.set_yscale("log")
            # Single batches reach far down by chance; on this scale they would take half of it.
            axes.set_ylim(bottom=lowest / 3)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
    return figure


def accuracy_curve(train: Series, validation: Series, window: int) -> Figure:
    """Draw the accuracy over training.

    Args:
        train: the accuracy of the steps between two points, 0 to 1.
        validation: the accuracy of the held-out images, a point an epoch.
        window: points of `train` in its moving average.

    Returns:
        The figure. Its scale begins where all but the lowest tenth of the batches lie, since the
        climb of the first steps would squeeze all that follows into a line.
    """
    floor = min(np.quantile(train.values, 0.1), validation.values.min())
    with _style():
        figure, axes = _curves(
            train, smooth(train.values, window), validation, window, "{:.2%}", legend="lower right"
        )
        axes.set(title="Accuracy", ylabel="images read correctly")
        axes.set_ylim(max(0, floor - (1 - floor)) if floor < 1 else 0.9, 1.002)
        axes.yaxis.set_major_formatter(_PERCENT)
    return figure


def samples(
    images: NDArray[np.uint8], labels: NDArray[np.integer[Any]], classes: list[str]
) -> Figure:
    """Draw the first images of each class, a row a class.

    Args:
        images: uint8 (N, H, W), light on dark.
        labels: (N,) integers, numbers of classes.
        classes: names, in the order of their numbers.
    """
    columns = 16
    cells = np.full((len(classes), columns), -1)
    for number in range(len(classes)):
        first = np.flatnonzero(labels == number)[:columns]
        cells[number, : len(first)] = first
    with _style():
        figure, axes = _grid(_mosaic(images, cells), len(classes), columns)
        axes.set_title(f"The first {columns} training images of each class")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xticks([])
    return figure


def confusion(
    actual: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: list[str]
) -> Figure:
    """Draw the confusion matrix: counts in the cells, mistakes coloured by their share of a row.

    The diagonal has no colour, since on a scale that holds it every mistake would be white.

    Args:
        actual: (N,) integers, numbers of classes.
        predicted: (N,) integers, numbers of classes.
        classes: names, in the order of their numbers.
    """
    size = len(classes)
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (actual, predicted), 1)
    right = np.diag(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    scale = Normalize(0, share.max() or 1)
    with _style():
        figure, axes = _matrix(classes)
        axes.imshow(share, cmap=_HEAT, norm=scale, zorder=0.5)
        text = _text_size(size, len(f"{counts.max()}"))
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
        small = min(8, _text_size(size, 3))
        axes.text(size - 0.4, -0.6, "recall", size=small, color=GREY)
        for row in np.flatnonzero(counts.sum(axis=1)):
            recall = f"{right[row] / counts[row].sum():.1%}"
            axes.text(size - 0.4, row, recall, size=small, color=GREY, va="center")
        bar = figure.colorbar(
            ScalarMappable(scale, _HEAT), ax=axes, shrink=0.6, aspect=32, pad=0.02
        )
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(_PERCENT)
        bar.set_label("mistakes, share of the actual class")
        axes.set_title(f"{len(actual) - right.sum():,} of {len(actual):,} test images misread")
    return figure


def most_confident(
    actual: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    size: int,
) -> NDArray[np.int64]:
    """Find, for each pair of an actual and a predicted class, the image most surely read so.

    Args:
        actual: (N,) integers from 0 to size - 1.
        predicted: (N,) integers from 0 to size - 1.
        confidence: (N,) numbers.
        size: how many classes there are.

    Returns:
        (size, size) integers, actual by predicted: the image's number, -1 where no image was read
        so. Of images with the same confidence the first is taken.
    """
    order = np.argsort(-confidence, kind="stable")
    pairs, first = np.unique(actual[order].astype(int) * size + predicted[order], return_index=True)
    cells = np.full(size * size, -1)
    cells[pairs] = order[first]
    return cells.reshape(size, size)


def mistakes(
    images: NDArray[np.uint8],
    actual: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    classes: list[str],
) -> Figure:
    """Draw, for each way to be wrong, the image that was most confidently misread so.

    The diagonal holds the images most confidently read correctly, dimmed and framed.

    Args:
        images: uint8 (N, H, W), light on dark.
        actual: (N,) integers, numbers of classes.
        predicted: (N,) integers, numbers of classes.
        confidence: (N,) numbers, 0 to 1.
        classes: names, in the order of their numbers.
    """
    size = len(classes)
    cells = most_confident(actual, predicted, confidence, size)
    dim = np.where(np.eye(size, dtype=bool), 0.4, 1.0)
    wrong = int((actual != predicted).sum())
    kinds = int((cells[~np.eye(size, dtype=bool)] >= 0).sum())
    with _style():
        figure, axes = _matrix(classes)
        axes.imshow(
            _mosaic(images, cells, dim),
            cmap="gray_r",
            vmin=0,
            vmax=1,
            extent=(-0.5, size - 0.5, size - 0.5, -0.5),
            zorder=0.5,
        )
        axes.set_title(
            f"The most confident mistake of each kind: {wrong:,} of {len(actual):,} test images"
            f" misread, in {kinds} of {size * (size - 1)} ways"
        )
    return figure


def hardest(
    images: NDArray[np.uint8],
    actual: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    confidence: NDArray[np.floating[Any]],
    classes: list[str],
) -> Figure:
    """Draw the most confident mistakes, the surest first, each with its number among the images.

    Args:
        images: uint8 (N, H, W), light on dark.
        actual: (N,) integers, numbers of classes.
        predicted: (N,) integers, numbers of classes.
        confidence: (N,) numbers, 0 to 1.
        classes: names, in the order of their numbers.
    """
    surest = np.argsort(-confidence, kind="stable")
    wrong = surest[actual[surest] != predicted[surest]]
    shown = wrong[:_HARDEST]
    rows = max(1, -(-len(shown) // _COLUMNS))
    with _style():
        figure = Figure(figsize=(WIDTH, 0.4 + 1.65 * rows), layout="constrained")
        title = f"The most confident mistakes: {len(shown)} of {len(wrong):,}"
        figure.suptitle(title, x=0.01, ha="left", size=_STYLE["axes.titlesize"])
        grid = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
        for axes in grid:
            axes.set_axis_off()
        for axes, index in zip(grid, shown, strict=False):
            _picture(axes, images[index])
            axes.set_title(
                f"{classes[actual[index]]} read as {classes[predicted[index]]}\n"
                f"{confidence[index]:.2%}, no. {index}",
                loc="center", size=8, pad=4,
            )  # fmt: skip
    return figure


def explanation(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.floating[Any]],
    classes: list[str],
    names: list[str],
) -> Figure:
    """Draw what a network saw and what it made of it, a row an image.

    Args:
        images: uint8 (N, H, W), light on dark, as the network gets them; N from 1 to
            `MOST_EXPLAINED`.
        probabilities: (N, classes), 0 to 1.
        classes: names, in the order of the columns.
        names: what each image is called.
    """
    size, places = len(classes), range(len(classes))
    every = -(-size // 40)  # more names would lie upon each other
    text = _text_size(size, 5)
    turned = _text_size(size, max(map(len, classes))) < 6
    with _style():
        figure = Figure(
            figsize=(WIDTH, (1.9 if turned else 1.5) * len(images)), layout="constrained"
        )
        grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 5])
        for (left, right), image, row, name in zip(grid, images, probabilities, names, strict=True):
            _picture(left, image)
            best = int(row.argmax())
            bars = right.bar(places, row, color=GREY, width=0.7)
            bars[best].set_color(BLUE)
            for place in np.flatnonzero(row >= 0.005) if text > 6 else [best]:
                share = f"{row[place]:.1%}"
                right.text(place, row[place] + 0.02, share, size=max(6, min(8, text)), ha="center")
            right.set(xlim=(-0.6, size - 0.4), ylim=(0, 1), yticks=(0, 0.5, 1))
            right.yaxis.set_major_formatter(_PERCENT)
            right.set_xticks(
                places[::every], classes[::every],
                size=None if turned else min(9, _text_size(size, 2)),
                rotation=45 if turned else 0, ha="right" if turned else "center",
                rotation_mode="anchor",
            )  # fmt: skip
            right.tick_params(length=0)
            right.grid(False, axis="x")
            right.set_title(
                f"{_short(name)}: {classes[best]}, {row[best]:.2%}",
                size=9, pad=14,
                parse_math=False,  # a name is no formula, whatever signs stand in it
            )  # fmt: skip
    return figure


def reliability(
    edges: NDArray[np.float64],
    images: NDArray[np.int64],
    confidence: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    error: float,
) -> Figure:
    """Draw accuracy against confidence, over a histogram of the confidences.

    Args:
        edges: (bins + 1,), of the bins, from 0 to 1.
        images: (bins,), how many lie in each.
        confidence: (bins,), their mean confidence; anything where there is none.
        accuracy: (bins,), the share of them that was read correctly; likewise.
        error: the expected calibration error, 0 to 1.

    Returns:
        The figure; its whiskers are Wilson's 95 % intervals of the accuracy (Wilson 1927), wide
        where a bin holds few images.
    """
    full = np.flatnonzero(images)
    intervals = [
        binomtest(round(accuracy[i] * images[i]), int(images[i])).proportion_ci(method="wilson")
        for i in full
    ]
    spread = [
        [max(0, accuracy[i] - interval.low) for i, interval in zip(full, intervals, strict=True)],
        [max(0, interval.high - accuracy[i]) for i, interval in zip(full, intervals, strict=True)],
    ]
    with _style():
        figure = Figure(figsize=(0.8 * WIDTH, 0.85 * WIDTH), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot([0, 1], [0, 1], color=GREY, linestyle=(0, (5, 4)), linewidth=1)
        top.text(
            0.03, 0.01, "as accurate as confident", color=GREY, size=8, va="center",
            rotation=45, rotation_mode="anchor", transform_rotates_text=True,
        )  # fmt: skip
        top.errorbar(
            confidence[full], accuracy[full], spread, color=BLUE, marker="o", markersize=6,
            linestyle="", elinewidth=1.2, capsize=2.5, clip_on=False, zorder=3,
        )  # fmt: skip
        top.set(
            title=f"Expected calibration error {error:.2%}"
            f" ({images.sum():,} test images, {len(images)} bins)",
            ylabel="accuracy", xlim=(0, 1), ylim=(0, 1),
        )  # fmt: skip
        bottom.bar(
            edges[:-1], images, np.diff(edges), align="edge", color=BLUE, edgecolor="white",
            linewidth=1,
        )  # fmt: skip
        bottom.set(xlabel="confidence", ylabel="images", yscale="log", ylim=(0.7, None))
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        bottom.minorticks_off()
        for axis in (top.yaxis, bottom.xaxis):
            axis.set_major_formatter(_PERCENT)
    return figure


def _style() -> AbstractContextManager[None]:
    """Our settings over matplotlib's own, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(["default", _STYLE])


def _curves(
    train: Series,
    smoothed: NDArray[np.float64],
    validation: Series,
    window: int,
    value: str,
    legend: Literal["upper right", "lower right"] = "upper right",
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 0.5 * WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.plot(*train, color=BLUE, alpha=0.3, linewidth=0.6, label="training, as logged")
    axes.plot(
        train.steps,
        smoothed,
        color=BLUE,
        linewidth=1.8,
        marker="o" if len(train.steps) == 1 else "",  # a line of one point is invisible
        label=f"training, mean of {min(window, len(train.steps))} points",
    )
    axes.plot(
        *validation,
        color=VERMILION,
        linestyle=(0, (4, 2)),
        linewidth=1.4,
        marker="D",
        markersize=6,
        markeredgecolor="white",
        clip_on=False,
        zorder=4,
        label=f"validation, at the end {value.format(validation.values[-1])}",
    )
    axes.set_xlabel("optimizer step")
    axes.set_xlim(0, max(train.steps.max(), validation.steps.max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.legend(loc=legend)
    return figure, axes


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
    return max(1, length // 18), max(1, length // 18)


def _short(name: str, letters: int = 60) -> str:
    """The end of a file's name, without bytes that are no text."""
    text = name.encode(errors="replace").decode()
    return text if len(text) <= letters else f"…{text[1 - letters :]}"


def _picture(axes: Axes, image: NDArray[np.uint8]) -> None:
    """One image, light on dark, as ink on paper in a pale frame."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.set_axis_on()
    axes.grid(False)
    axes.spines[:].set(visible=True, color=PALE)


def _grid(mosaic: NDArray[np.float64], rows: int, columns: int) -> tuple[Figure, Axes]:
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
    _bare(axes)
    return figure, axes


def _matrix(classes: list[str]) -> tuple[Figure, Axes]:
    """A square of classes by classes with a pale line between cells and a framed diagonal."""
    size = len(classes)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    longest = max(map(len, classes))
    turned = longest > 1 and _text_size(size, longest) < 8
    axes.set_xticks(
        range(size),
        classes,
        rotation=45 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(size), classes)
    axes.set(xlabel="predicted", ylabel="actual")
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    axes.hlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color=PALE, linewidth=0.8)
    axes.vlines(np.arange(size + 1) - 0.5, -0.5, size - 0.5, color=PALE, linewidth=0.8)
    for number in range(size):
        axes.add_patch(
            Rectangle(
                (number - 0.5, number - 0.5),
                1,
                1,
                fill=False,
                edgecolor=GREY,
                linewidth=0.8,
                zorder=3,
            )
        )
    _bare(axes)
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _text_size(cells: int, letters: int) -> float:
    """Points in which so many letters fit in one of so many cells across a figure."""
    return float(min(9, 72 * 0.75 * WIDTH / cells / (0.75 * letters)))
