"""Draw a sweep: python -m stages.tools.sweep [NAME]

Reads what `dvc exp show` knows of the last commit's experiments; writes dvc_plots/sweep.png:
parallel coordinates, a line for each experiment, and a heat map over the two numbers that take most
values, where a cell that stands for several experiments has their mean and says so. Those that
failed are named, and drawn nowhere.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.shared import curves, params
from stages.shared.report.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    PERCENT,
    VERMILION,
    WIDTH,
    bare,
    save,
    sign,
    style,
)
from stages.shared.scoring import percent

PICTURE = Path("dvc_plots/sweep.png")  # beside the pages of `dvc plots`
SCORED = str(curves.FOLDER / "metrics.json")
REPEATED = "train.seed"  # experiments that differ in this alone are one point of the heat map
SIGNED = ("download.dataset", "train.epochs", "train.validation_images", REPEATED)

_LETTERS = 18  # of a value, as it is written in the picture

SHADE = LinearSegmentedColormap.from_list("shade", ["#F4F4F4", "#9CC8E4", BLUE, "#00304F"])


@dataclass(frozen=True)
class Experiment:
    """One that ended well.

    Attributes:
        name: as DVC calls it.
        values: of every parameter, by its dotted key.
        score: the share of the held-out images that it read correctly.
    """

    name: str
    values: dict[str, Any]
    score: float


def read(shown: list[dict[str, Any]], prefix: str) -> tuple[list[Experiment], list[str], list[str]]:
    """Take the last commit's experiments out of `dvc exp show --json`.

    Args:
        shown: what that command gives.
        prefix: how their names begin.

    Returns:
        Those that ended well; the names of those that failed, and of those without parameters or
        a score from 0 to 1.
    """
    found, failed, unscored = [], [], []
    for one in shown[-1]["experiments"] or []:
        revision, executor = one["revs"][0], one["executor"] or {}
        name = one["name"] or revision["rev"][:7]
        if not name.startswith(prefix):
            continue
        if revision["error"] or executor.get("state") == "failed":
            failed.append(name)  # DVC shows the commit's own scores beside these
        elif revision["data"] and executor.get("state") not in ("queued", "running"):
            try:
                tree = dict(revision["data"]["params"]["params.yaml"]["data"])
                score = revision["data"]["metrics"][SCORED]["data"]["validation"]["accuracy"]
                if not 0 <= score <= 1:  # nor is what is no number
                    raise ValueError(score)
            except (KeyError, TypeError, ValueError):
                unscored.append(name)
                continue
            tree.pop("recipes", None)
            found.append(Experiment(name, params.overrides(tree), score))
    return found, sorted(failed), sorted(unscored)


def varied(experiments: list[Experiment]) -> dict[str, list[Any]]:
    """By key, the values of each parameter that is not the same in all, in order: words first."""
    found: dict[str, list[Any]] = {}
    for key in {key for one in experiments for key in one.values}:
        values = {json.dumps(one.values.get(key)): one.values.get(key) for one in experiments}
        if len(values) > 1:
            found[key] = sorted(values.values(), key=_rank)
    return dict(sorted(found.items(), key=lambda item: (_is_number(item[1]), item[0])))


def _rank(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, int | float)
    return number, value if number else str(value)


def _is_number(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def draw(experiments: list[Experiment]) -> Figure:
    """Draw the scores of experiments by the parameters in which they differ.

    Args:
        experiments: two or more, which differ in a parameter at least.
    """
    keys = varied(experiments)
    numbers = sorted(
        (k for k in keys if k != REPEATED and _is_number(keys[k])),
        key=lambda key: (key not in SIGNED, len(keys[key])),
    )
    *_, columns, rows = [None, None, *numbers]  # the longer of the two goes down the page
    others = [key for key in keys if key not in (columns, rows, REPEATED)]
    panels = keys[others[0]] if others else [None]
    scores = np.array([one.score for one in experiments])
    scale = Normalize(scores.min(), scores.max())
    height = 0.42 * WIDTH + 0.8 + 0.35 * len(keys[rows] if rows else [None])
    with style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        spec = figure.add_gridspec(
            2, len(panels), height_ratios=[0.42 * WIDTH, height - 0.42 * WIDTH]
        )
        _parallel(figure.add_subplot(spec[0, :]), experiments, keys, scale)
        grid = [figure.add_subplot(spec[1, index]) for index in range(len(panels))]
        for axes, value in zip(grid, panels, strict=True):
            chosen = [e for e in experiments if not others or e.values.get(others[0]) == value]
            _heat(axes, chosen, (rows, columns), keys, scale)
            title = f"{others[0]}: {_short(value)}" if others else ""
            axes.set_title(title, size=9, parse_math=False)
            axes.tick_params(labelleft=axes is grid[0])
        grid[0].set_ylabel(rows or "")
        bar = figure.colorbar(ScalarMappable(scale, SHADE), ax=grid, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(PERCENT)
    values = experiments[0].values
    same = [f"{key} {values[key]}" for key in SIGNED if key in values and key not in keys]
    sign(figure, ", ".join(same))
    return figure


def _short(value: Any) -> str:
    """A parameter's value, if need be its beginning alone; nothing for None."""
    text = "" if value is None else str(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


def _parallel(
    axes: Axes, experiments: list[Experiment], keys: dict[str, list[Any]], scale: Normalize
) -> None:
    """A line for each experiment through its values, evenly spaced, to its score."""
    best = max(experiments, key=lambda one: one.score)
    for one in sorted(experiments, key=lambda one: one.score):
        heights = [
            values.index(one.values.get(key)) / max(len(values) - 1, 1)
            for key, values in keys.items()
        ]
        axes.plot(
            [*heights, float(scale(one.score))],
            color=VERMILION if one is best else SHADE(0.25 + 0.75 * scale(one.score)),
            linewidth=2.4 if one is best else 1,
            zorder=3 if one is best else 2,
        )
    last = len(keys)
    ends = [(percent(share), float(scale(share))) for share in (scale.vmin or 0, scale.vmax or 0)]
    ticks = [
        *([(_short(v), i / (len(vs) - 1)) for i, v in enumerate(vs)] for vs in keys.values()),
        ends,
    ]
    for index, marks in enumerate(ticks):
        axes.axvline(index, color=GREY, linewidth=0.8, zorder=1)
        for text, height in marks:
            axes.text(
                index + (0.02 if index == last else -0.02),
                height,
                text,
                ha="left" if index == last else "right",
                va="center",
                size=8,
                color=INK,
                parse_math=False,  # a value is no formula, whatever signs stand in it
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                zorder=4,
            )
    names = [*keys, "validation accuracy"]
    if last > 3:  # names are longer than axes are apart: every second one is a line lower
        names = ["\n" * (index % 2) + name for index, name in enumerate(names)]
    axes.set_xticks(range(last + 1), names)
    axes.set(yticks=[], xlim=(-0.35, last + 0.35), ylim=(-0.06, 1.06))
    bare(axes)
    axes.set_title(
        f"{len(experiments)} experiments; the best on held-out images is {best.name},"
        f" {percent(best.score)}",
        parse_math=False,
    )


def _heat(
    axes: Axes,
    experiments: list[Experiment],
    sides: tuple[str | None, str | None],
    keys: dict[str, list[Any]],
    scale: Normalize,
) -> None:
    """Mean scores by two parameters; an empty cell is one that nobody tried."""
    rows, columns = (keys[side] if side else [None] for side in sides)
    means = np.full((len(rows), len(columns)), np.nan)
    counts = np.zeros(means.shape, int)
    for row, column in np.ndindex(means.shape):
        cell = [
            one.score
            for one in experiments
            if (not sides[0] or one.values.get(sides[0]) == rows[row])
            and (not sides[1] or one.values.get(sides[1]) == columns[column])
        ]
        if cell:
            means[row, column], counts[row, column] = np.mean(cell), len(cell)
    axes.imshow(means, cmap=SHADE, norm=scale, aspect="auto")
    _write(axes, means, counts, scale)
    axes.set_xticks(range(len(columns)), map(_short, columns), parse_math=False)
    axes.set_yticks(range(len(rows)), map(_short, rows), parse_math=False)
    axes.set_xlabel(sides[1] or "")
    bare(axes)


def _write(
    axes: Axes, means: NDArray[np.float64], counts: NDArray[np.int_], scale: Normalize
) -> None:
    """The scores in their cells, each with the number of experiments where it is a mean."""
    for row, column in zip(*np.nonzero(np.isfinite(means)), strict=True):
        dark = scale(means[row, column]) > 0.55
        many = f"\nmean of {counts[row, column]}" if counts[row, column] > 1 else ""
        axes.text(
            column, row, percent(float(means[row, column])) + many, size=8, ha="center",
            va="center", color="white" if dark else INK,
        )  # fmt: skip
    rows, columns = means.shape
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, color=PALE, linewidth=0.8)
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, color=PALE, linewidth=0.8)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.sweep", description="Draw a sweep of experiments."
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default="", help="how the experiments' names begin"
    )
    name = parser.parse_args().name
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--hide-queued"]
    dvc = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if dvc.returncode:
        raise SystemExit(dvc.returncode)  # DVC has said why
    experiments, failed, unscored = read(json.loads(dvc.stdout), name)
    for one in failed:
        print(f"failed: {one}; `dvc queue logs {shlex.quote(one)}` says why")
    for one in unscored:
        print(f"left out: {one}; no validation.accuracy from 0 to 1 in its {SCORED}")
    if not varied(experiments):
        named = f" whose names begin with {name!r}" if name else ""
        raise UserError(
            f"of the last commit's experiments{named} {len(experiments)} ended well, expected two"
            " or more that differ"
        )
    save(draw(experiments), PICTURE)
    print(f"{PICTURE}: {len(experiments)} experiments")


if __name__ == "__main__":
    run(main)
