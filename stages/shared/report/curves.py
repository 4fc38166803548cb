"""The loss and the accuracy over training."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from stages.shared.curves import Series
from stages.shared.report.style import BLUE, PERCENT, VERMILION, WIDTH, style
from stages.shared.scoring import percent


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Take the moving average of (N,) values, centred.

    Near an end it reaches as far to one side as to the other, and so over fewer values: it begins
    and ends where the values do.
    """
    before, after, last = window // 2, (window - 1) // 2, len(values) - 1
    result = np.empty(len(values))
    for i in range(len(values)):
        reach = min(i, last - i)
        result[i] = values[i - min(before, reach) : i + min(after, reach) + 1].mean()
    return result


def loss_curve(train: Series, validation: Series, window: int) -> Figure:
    """Draw the cross-entropy loss over training, in nats.

    Args:
        train: the loss of the steps between two points.
        validation: the loss of the held-out images, one point per epoch.
        window: points of `train` in its moving average.

    Returns:
        The figure. Its scale is logarithmic where the highest loss is ten times the median or
        more: a linear one would press half of the curve into its lowest tenth.
    """
    smoothed = smooth(train.values, window)
    lowest = min(smoothed.min(), validation.values.min())
    with style():
        figure, axes = _curves(train, smoothed, validation, window, f"{validation.values[-1]:.3f}")
        axes.set(title="Loss during training", ylabel="cross-entropy, nats")
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
        validation: the accuracy of the held-out images, one point per epoch.
        window: points of `train` in its moving average.

    Returns:
        The figure. Its scale begins where all but the lowest tenth of the batches lie, since the
        climb of the first steps would squeeze all that follows into a line.
    """
    floor = min(np.quantile(train.values, 0.1), validation.values.min())
    with style():
        reached = percent(float(validation.values[-1]))
        smoothed = smooth(train.values, window)
        figure, axes = _curves(train, smoothed, validation, window, reached, legend="lower right")
        axes.set(title="Accuracy during training", ylabel="images read correctly")
        axes.set_ylim(max(0, floor - (1 - floor)) if floor < 1 else 0.9, 1.002)
        axes.yaxis.set_major_formatter(PERCENT)
    return figure


def _curves(
    train: Series,
    smoothed: NDArray[np.float64],
    validation: Series,
    window: int,
    reached: str,
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
        label=f"training, mean of {min(window, len(train.steps))} points, fewer at the ends",
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
        label=f"validation, at the end {reached}",
    )
    axes.set_xlabel("optimizer step")
    axes.set_xlim(0, max(train.steps.max(), validation.steps.max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.legend(loc=legend)
    return figure, axes
