"""Digits that touch: the ways to cut a mark that may be two of them.

Which cut is right, and whether there is one, only reading the pieces can tell (recognition-based
segmentation: Casey and Lecolinet, "A Survey of Methods and Strategies in Character Segmentation",
1996, section IV). So few marks are cut, each in few ways, and `reader` takes the surest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.tools.reading.form import stroke_width

Mask = NDArray[np.bool_]

_WIDE = 1.05  # of its height: a narrower mark is one digit; of 3,000 test images 93 % are
_CROSSED = 2.0  # strokes' widths of ink that a cut may go through
_PLACES = ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8))  # of the width: a cut stays within one of these
_CRUMB = 0.1  # of a half's ink: a smaller piece was torn off the other half
_ASIDE = 0.01  # pixels of ink that a step aside counts for: cuts are no longer than they need be


def cuts(marks: Mask) -> list[tuple[Mask, Mask]]:
    """Ways to cut a mark into a left and a right digit.

    Args:
        marks: (h, w), cut to the mark.

    Returns:
        For each way the left and the right half, of the same shape; none where it is one digit.
    """
    high, wide = marks.shape
    if wide <= _WIDE * high:
        return []
    across, most = np.arange(wide), _CROSSED * stroke_width(marks)
    found = []
    for first, last in _PLACES:
        start = int(first * wide)
        path, ink = _path(marks[:, start : int(np.ceil(last * wide))])
        if ink > most:
            continue
        is_left = across <= path[:, None] + start
        halves = _without_crumbs(marks & is_left), _without_crumbs(marks & ~is_left)
        if halves[0].any() and halves[1].any():
            found.append(halves)
    return found


def _path(marks: Mask) -> tuple[NDArray[np.int64], float]:
    """The way from top to bottom through the least ink: a column for each row, and that ink."""
    cost = marks.astype(np.float64)
    sums, back = cost[0], []
    for row in cost[1:]:
        beside = np.pad(sums, 1, constant_values=np.inf) + _ASIDE
        steps = np.stack([sums, beside[:-2], beside[2:]])
        back.append(steps.argmin(axis=0))
        sums = steps.min(axis=0) + row
    column = int(sums.argmin())
    columns, ink = [column], float(sums[column])
    for step in reversed(back):
        column += (0, -1, 1)[step[column]]
        columns.append(column)
    return np.array(columns[::-1]), ink


def _without_crumbs(marks: Mask) -> Mask:
    areas, count = ndimage.label(marks, np.ones((3, 3)))
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= _CRUMB * sizes.sum())[areas] & marks)
