"""Where the ink is: a picture of any light, paper and pen as a map of strokes.

The paper is what is left when everything narrower than a digit's stroke is filled in (a closing of
the grey levels), so shadows, falling light and the edges of sheets belong to it and strokes do not.
What differs from it by half as much as the darkest of its mark is ink. Of that are dropped, in
this order: rules from border to border, boxes round other marks, what touches the border, specks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

from stages.tools.reading.form import stroke_width

Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Strength = NDArray[np.float64]
Box = tuple[int, int, int, int]  # top, left, bottom, right

_LARGEST, _SMALLEST = 480, 240  # pixels of the larger side that is worked on
_STROKE = 0.3  # of the smaller side: no stroke is wider
_FAINTEST = 0.08  # share of the light that the faintest ink takes away
_RULE = 0.025  # of the larger side: no rule is wider
_TRUE = 0.85  # share of true edges below which marks may not be strokes at all
_EVEN = 0.1  # of the variance of all levels: within ink and paper there is no more on even paper
_RULED = 0.5  # of its way that a rule is seen beside strokes
_SLOPES = np.linspace(-0.06, 0.06, 49)  # pixels down for one across, of a rule
_SPECK = 0.15  # of the tallest mark: what is smaller in both directions is a speck
_LEAST_MARK = 6  # pixels
_MOST_MARKS = 60  # of a picture that are looked at, the largest
_EVERY_WAY = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class Ink:
    """The strokes of a picture.

    Attributes:
        strength: float64 (H, W), 0 for paper to 1 for full ink; 0 where nothing was found.
        marks: bool (H, W), where ink was found.
        scale: pixels here for one pixel of the picture.
    """

    strength: Strength
    marks: Mask
    scale: float


def find(grey: Grey) -> Ink | None:
    """The strokes of a picture, dark on light or light on dark.

    Args:
        grey: uint8 (H, W).

    Returns:
        None where there are none.
    """
    scale = float(np.clip(max(grey.shape), _SMALLEST, _LARGEST)) / max(grey.shape)
    high, wide = (max(1, round(scale * side)) for side in grey.shape)
    level = np.asarray(
        Image.fromarray(grey.astype(np.float32)).resize((wide, high), Image.Resampling.BICUBIC),
        np.float64,
    ).clip(0, 255)
    level = ndimage.gaussian_filter(level, 0.0022 * max(level.shape))
    dark = 1 - (level + 8) / (_paper(level) + 8)
    light = (level - 255 + _paper(255 - level)) / max(1.0, float(np.quantile(level, 0.99)))
    # The holes of dark strokes are light marks, and so is paper between ink and a shadow: the ink
    # is what is thinner for its size, with a true edge all round.
    steep = ndimage.gaussian_gradient_magnitude(level, 1)
    tried = [_Marks.of(taken, _faint(taken)) for taken in (dark, light)]
    marks = _likeliest(tried, steep)
    if marks.looks(steep).true < _TRUE:
        # Strokes so wide, or a picture cut so close, that ink passed for paper.
        even = _evenly_lit(level)
        marks = marks if even is None else _Marks.of(even, _faint(even))
    marks = _Marks.of(marks.taken, _without_rules(marks.faint))
    found = _cleaned(marks.where)
    if not found.any():
        return None
    near = ndimage.binary_dilation(found, _EVERY_WAY, iterations=2)  # a stroke's soft edge
    strength = np.where(near, (marks.taken / marks.full).clip(0, 1), 0)
    return Ink(strength, found, scale)


@dataclass(frozen=True)
class _Marks:
    """Everything that stands out from the paper in one direction, dark or light.

    Attributes:
        taken: (H, W), how far each pixel is from the paper, 0 to 1.
        faint: bool (H, W), what stands out at all.
        where: bool (H, W), what stands out by half as much as the mark that it is of.
        full: (H, W), the most that a mark stands out, at each of its pixels; 1 elsewhere.
    """

    taken: Strength
    faint: Mask
    where: Mask
    full: Strength

    @classmethod
    def of(cls, taken: Strength, faint: Mask) -> _Marks:
        """Mark by mark, what stands out by half as much as its darkest pixel."""
        areas, count = ndimage.label(faint, _EVERY_WAY)
        # Of a mark the darkest is whole ink; the rest is its soft edge, or a pale rule beneath it.
        whole = np.ones(count + 1)
        whole[1:] = 0
        inside = areas[faint]
        np.maximum.at(whole, inside, taken[faint])
        full = whole[areas]
        return cls(taken, faint, faint & (taken > 0.5 * full), full)

    @property
    def contrast(self) -> float:
        """How far what is darkest is from the paper, 0 to 1."""
        return float(np.quantile(self.taken[self.where], 0.8)) if self.where.any() else 0.0

    def looks(self, steep: Strength) -> _Looks:
        """How the marks look, those aside that are small.

        Args:
            steep: (H, W), how steep the picture is at each pixel.
        """
        areas, _ = ndimage.label(self.where, _EVERY_WAY)
        least = 0.08 * max(areas.shape)
        large = [
            number
            for number, box in enumerate(ndimage.find_objects(areas), 1)
            if max(part.stop - part.start for part in box) > least
        ]
        if not large:
            return _Looks(0, 0)
        marks = np.isin(areas, large)
        rows, columns = (np.flatnonzero(marks.any(axis=axis)) for axis in (1, 0))
        extent = float(np.sqrt(np.ptp(rows) * np.ptp(columns)))
        edge = steep[marks & ~ndimage.binary_erosion(marks, border_value=1)]
        true = float(np.mean(edge > 0.3 * np.quantile(edge, 0.9))) if edge.size else 0.0
        return _Looks(extent / stroke_width(marks), true)


class _Looks(NamedTuple):
    """Whether marks are strokes."""

    thin: float  # their extent in widths of a stroke
    true: float  # share of their edge where the picture changes as sharply as elsewhere on it


def _likeliest(tried: list[_Marks], steep: Strength) -> _Marks:
    """The thinnest for its size, with a true edge all round, of those that stand out enough."""
    strongest = max(marks.contrast for marks in tried)
    looks = [marks.looks(steep) for marks in tried]
    score = [
        (marks.contrast > 0.35 * strongest, one.thin * one.true**3)
        for marks, one in zip(tried, looks, strict=True)
    ]
    return tried[score.index(max(score))]


def _evenly_lit(level: Strength) -> Strength | None:
    """How far each pixel is from a paper of one level, 0 to 1; none if there is no such paper."""
    threshold = threshold_otsu(level)
    dark, light = level[level <= threshold], level[level > threshold]
    within = len(dark) * dark.var() + len(light) * light.var()
    if within > _EVEN * level.size * level.var():
        return None
    border = np.concatenate([level[0], level[-1], level[1:-1, 0], level[1:-1, -1]])
    low, high = float(np.median(dark)), float(np.median(light))
    taken = (level - low) / (high - low)
    return (taken if np.median(border) <= threshold else 1 - taken).clip(0, 1)


def _faint(taken: Strength) -> Mask:
    noise = 1.4826 * float(np.median(np.abs(taken - np.median(taken))))
    return taken > max(_FAINTEST, min(5 * noise, 0.2), 0.2 * float(taken.max()))


def _paper(level: Strength) -> Strength:
    """The light that the paper gives, where there is ink as well."""
    size = round(_STROKE * min(level.shape)) | 1
    wide = np.pad(level.astype(np.float32), size, mode="edge")
    closed = ndimage.grey_closing(wide, size=(size, size))[size:-size, size:-size]
    return np.maximum(closed, level)


def _without_rules(marks: Mask) -> Mask:
    """Marks without straight thin lines from border to border; strokes across them stay whole."""
    for _ in range(2):
        marks = _without_level_rules(marks).T  # once across, once down
    return marks


def _without_level_rules(marks: Mask) -> Mask:
    high, wide = marks.shape
    reach = max(3, round(_RULE * max(marks.shape)))
    runs = _run_lengths(marks)
    thin = marks & (runs <= reach)
    rows, columns = np.nonzero(thin)
    removed = np.zeros_like(marks)
    end = max(2, round(0.01 * wide))
    across = np.arange(wide)
    for slope in sorted(_SLOPES, key=abs):
        if len(rows) < _RULED * wide:
            break
        tilt = slope * (across - wide / 2)
        heights = np.round(rows - tilt[columns]).astype(int)
        counts = np.bincount(heights - heights.min())
        for height in np.flatnonzero(counts > 0.3 * wide) + heights.min():
            line = np.round(height + tilt).astype(int)
            if line.min() < reach or line.max() >= high - reach:  # the border drops it
                continue
            band = np.clip(line + np.arange(-1, 2)[:, None], 0, high - 1)
            left = thin[band, across] & ~removed[band, across]
            # A rule goes from border to border. It is seen thin over half of its way, and what
            # hides the rest are strokes.
            seen = marks[band, across].any(axis=0)
            ends = seen[:end].any() and seen[-end:].any()
            if not ends or seen.mean() < 0.9 or left.any(axis=0).mean() < _RULED:
                continue
            thickness = float(np.median(runs[band, across][left]))
            band = np.clip(line + np.arange(-reach, reach + 1)[:, None], 0, high - 1)
            gone = thin[band, across] & (runs[band, across] <= 1.6 * thickness + 1)
            removed[band, across] |= gone
        still = ~removed[rows, columns]
        rows, columns = rows[still], columns[still]
    kept = marks & ~removed
    # What was a stroke and a rule is a stroke again.
    joined = ndimage.binary_closing(np.pad(kept, reach), np.ones((reach, 1), np.bool_))
    return np.asarray(kept | (joined[reach:-reach, reach:-reach] & removed), np.bool_)


def _run_lengths(marks: Mask) -> NDArray[np.int64]:
    """For each marked pixel, how many marked ones are in a row above and below it, itself too."""
    padded = np.pad(marks, ((1, 1), (0, 0))).T.astype(np.int8)
    flat = padded.ravel()
    edges = np.flatnonzero(np.diff(flat))
    starts, ends = edges[::2] + 1, edges[1::2] + 1
    lengths = np.zeros(flat.size + 1, np.int64)
    lengths[starts] += ends - starts
    lengths[ends] -= ends - starts
    return np.cumsum(lengths)[:-1].reshape(padded.shape).T[1:-1]


def _cleaned(marks: Mask) -> Mask:
    """Marks without boxes, without what touches the border, without specks."""
    areas, count = ndimage.label(marks, _EVERY_WAY)
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = np.sort(np.argsort(-sizes, kind="stable")[:_MOST_MARKS])
    known = np.isin(areas, largest[sizes[largest] >= _LEAST_MARK])
    found = regionprops(np.where(known, areas, 0))
    boxes = [area.bbox for area in found]
    high, wide = marks.shape
    kept = [
        (area.label, box)
        for area, box in zip(found, boxes, strict=True)
        if not _is_frame(area, box, boxes)
    ]
    inner = [
        (number, box)
        for number, box in kept
        if min(box[:2]) > 1 and box[2] < high - 1 and box[3] < wide - 1
    ]
    if any(_tall(box) > 0.12 * min(high, wide) for _, box in inner):
        kept = inner
    tallest = max((_tall(box) for _, box in kept), default=0)
    strokes = [number for number, box in kept if _tall(box) > _SPECK * tallest]
    return np.asarray(np.isin(areas, strokes), np.bool_)


def _tall(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _is_frame(area: Any, box: Box, boxes: list[Box]) -> bool:
    """Whether a mark is a box, or another closed line, round other marks."""
    top, left, bottom, right = box
    high, wide = bottom - top, right - left
    inside = [
        other
        for other in boxes
        if other[0] > top
        and other[1] > left
        and other[2] < bottom
        and other[3] < right
        and _tall(other) > 0.15 * max(high, wide)
    ]
    if not inside or area.image.mean() > 0.5:
        return False
    filled = area.image_filled
    rows, columns = np.nonzero(area.image)
    edge = np.minimum.reduce([rows / high, 1 - rows / high, columns / wide, 1 - columns / wide])
    if float(np.mean(edge < 0.1)) > 0.97 and filled.mean() > 0.88:
        return True
    # A zero in outline is a ring round a ring of nearly its size.
    inner = max(other[2] for other in inside) - min(other[0] for other in inside)
    width = max(other[3] for other in inside) - min(other[1] for other in inside)
    return bool(filled.sum() > 0.95 * area.area_convex and min(inner / high, width / wide) < 0.7)
