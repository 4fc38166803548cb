"""How far the confidence of a network can be believed."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from stages.shared.report.style import BLUE, GREY, PERCENT, WIDTH, style
from stages.shared.scoring import Calibration, wilson


def reliability(found: Calibration) -> Figure:
    """Draw accuracy against confidence, over a histogram of the confidences.

    Args:
        found: the bins; at least one of them holds an image.

    Returns:
        The figure; its whiskers are 95 % intervals of the accuracy, wide where a bin holds few
        images.
    """
    images, accuracy = found.images, found.accuracy
    full = np.flatnonzero(images)
    bounds = [wilson(round(accuracy[i] * images[i]), int(images[i])) for i in full]
    spread = [
        [max(0, accuracy[i] - low) for i, (low, _) in zip(full, bounds, strict=True)],
        [max(0, high - accuracy[i]) for i, (_, high) in zip(full, bounds, strict=True)],
    ]
    with style():
        figure = Figure(figsize=(0.8 * WIDTH, 0.85 * WIDTH), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.plot(
            [0, 1], [0, 1], color=GREY, linestyle=(0, (5, 4)), linewidth=1,
            label="as accurate as confident",
        )  # fmt: skip
        top.errorbar(
            found.confidence[full], accuracy[full], spread, color=BLUE, marker="o", markersize=6,
            linestyle="", elinewidth=1.2, capsize=2.5, clip_on=False, zorder=3,
            label="images of a bin, 95% interval",
        )  # fmt: skip
        top.legend(loc="upper left")
        top.set(
            title=f"How far its confidence can be believed: {images.sum():,} test images in"
            f" {len(images)} bins\nExpected calibration error {found.error:.2%}",
            ylabel="accuracy", xlim=(0, 1), ylim=(0, 1),
        )  # fmt: skip
        bottom.bar(
            found.edges[:-1], images, np.diff(found.edges), align="edge", color=BLUE,
            edgecolor="white", linewidth=1,
        )  # fmt: skip
        bottom.set(
            xlabel="confidence", ylabel="images", yscale="log", ylim=(0.7, 1.4 * images.sum())
        )
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        bottom.minorticks_off()
        for axis in (top.yaxis, bottom.xaxis):
            axis.set_major_formatter(PERCENT)
    return figure
