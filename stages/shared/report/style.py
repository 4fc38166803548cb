"""What all figures share: colours, fonts, sizes, the square of classes, and how one is saved.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind eyes tell
apart; line styles, markers and lightness carry the same difference in grey. Every figure is a
`Figure` of its own, so nothing is shared with pyplot or between two pictures.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from stages.shared.files import replacing

BLUE, VERMILION, INK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#6E6E6E", "#EDEDED"
WIDTH = 8.0  # inches; at 200 dots per inch twice the 800 pixels of a README
HEAT = LinearSegmentedColormap.from_list("heat", ["#FFFFFF", "#F6C9A8", VERMILION, "#5E2A00"])
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}%")
TITLE_SIZE = 10.5  # points
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine has it
    "font.size": 9,
    "axes.titlesize": TITLE_SIZE,
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


def style() -> AbstractContextManager[None]:
    """Our settings over matplotlib's own, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(["default", _STYLE])


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: drawn in `style`.
        path: the file.
    """
    with replacing(path) as part, style(), warnings.catch_warnings():
        # Of a file's name in letters that the font lacks: it is drawn as boxes, and that is all.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(part, format="png", metadata={"Software": None})


def drawable(class_names: list[str]) -> list[str]:
    """The names as figures can have them: the number of each class if a letter would be a box.

    Only the font that comes with matplotlib is the same on every machine, and it has no Chinese.
    """
    letters = get_font(findfont(str(_STYLE["font.family"]))).get_charmap()
    if all(ord(letter) in letters for name in class_names for letter in name):
        return class_names
    return [str(number) for number in range(len(class_names))]


def sign(figure: Figure, about: str) -> None:
    """Say under a figure what it is about: it may be seen far from the page that says so."""
    with style():
        figure.text(0.99, -0.01, about, ha="right", va="top", size=8, color=GREY)


def picture(axes: Axes, image: NDArray[np.uint8]) -> None:
    """One image, light on dark, as ink on paper in a pale frame."""
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.set_axis_on()
    axes.grid(False)
    axes.spines[:].set(visible=True, color=PALE)


def matrix(class_names: list[str]) -> tuple[Figure, Axes]:
    """A square of classes by classes with a pale line between cells and a framed diagonal."""
    size = len(class_names)
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    longest = max(map(len, class_names))
    turned = longest > 1 and text_size(size, longest) < 8
    axes.set_xticks(
        range(size),
        class_names,
        rotation=45 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
        parse_math=False,  # a name is no formula, whatever signs stand in it
    )
    axes.set_yticks(range(size), class_names, parse_math=False)
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
    bare(axes)
    return figure, axes


def bare(axes: Axes) -> None:
    """Take away grid, frame and ticks."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def text_size(cells: int, letters: int) -> float:
    """Points in which so many letters fit in one of so many cells across a figure."""
    return float(min(9, 72 * 0.75 * WIDTH / cells / (0.75 * letters)))
