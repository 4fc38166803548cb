"""A picture of what a network saw and how likely it took each class to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.shared.report.style import BLUE, GREY, PERCENT, WIDTH, picture, style, text_size
from stages.shared.scoring import percent

MOST = 20  # rows of one figure; nobody reads a taller one


def draw(
    images: NDArray[np.uint8],
    probabilities: NDArray[np.floating[Any]],
    class_names: list[str],
    names: list[str],
) -> Figure:
    """Draw what a network saw and what it made of it, one row per image.

    Args:
        images: uint8 (N, H, W), light on dark, as the network gets them; N from 1 to
            `MOST`.
        probabilities: (N, num_classes), 0 to 1.
        class_names: in the order of the columns.
        names: what each image is called.
    """
    size, indices = len(class_names), range(len(class_names))
    every = -(-size // 40)  # more names would lie upon each other
    text = text_size(size, 5)
    turned = text_size(size, max(map(len, class_names))) < 6
    with style():
        figure = Figure(
            figsize=(WIDTH, (1.9 if turned else 1.5) * len(images)), layout="constrained"
        )
        grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=[1, 5])
        for (left, right), image, row, name in zip(grid, images, probabilities, names, strict=True):
            picture(left, image)
            best = int(row.argmax())
            bars = right.bar(indices, row, color=GREY, width=0.7)
            bars[best].set_color(BLUE)
            for index in np.flatnonzero(row >= 0.005) if text > 6 else [best]:
                share = f"{row[index]:.1%}" if row[index] < 0.9995 else percent(float(row[index]))
                right.text(index, row[index] + 0.02, share, size=max(6, min(8, text)), ha="center")
            right.set(xlim=(-0.6, size - 0.4), ylim=(0, 1), yticks=(0, 0.5, 1))
            right.yaxis.set_major_formatter(PERCENT)
            right.set_xticks(
                indices[::every], class_names[::every],
                size=None if turned else min(9, text_size(size, 2)),
                rotation=45 if turned else 0, ha="right" if turned else "center",
                rotation_mode="anchor", parse_math=False,
            )  # fmt: skip
            right.tick_params(length=0)
            right.grid(False, axis="x")
            right.set_title(
                f"{_short(name)}: {class_names[best]}, {percent(float(row[best]))}",
                size=9, pad=14,
                parse_math=False,  # a name is no formula, whatever signs stand in it
            )  # fmt: skip
    return figure


def _short(name: str, letters: int = 60) -> str:
    """The end of a file's name, without bytes that are no text."""
    text = name.encode(errors="replace").decode()
    return text if len(text) <= letters else f"…{text[1 - letters :]}"
