"""Marks in the form of MNIST: light strokes on black, 20 pixels on the larger side, centred by
mass on the middle of 28 x 28 (LeCun et al., "Gradient-Based Learning Applied to Document
Recognition", 1998, section III A), as wide as MNIST's pens drew them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

_INK_SHARE = 20 / 28  # of the picture's side that the larger side of the digit takes
_FINE = 160  # pixels of the larger side while strokes are brought to their width
_THINNEST, _WANTED, _WIDEST = 0.085, 0.12, 0.24  # of the larger side: a stroke's width


def stroke_width(marks: NDArray[np.bool_]) -> float:
    """How wide the strokes are on average, in pixels.

    Across a strip of width w the distance to its edge is w / 4 on average.
    """
    inside = ndimage.distance_transform_edt(np.pad(marks, 1))[1:-1, 1:-1]
    return max(1.0, 4 * float(inside[marks].mean()) - 2)


def bring(
    strength: NDArray[np.float64], marks: NDArray[np.bool_], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Bring one digit to the form of MNIST.

    Args:
        strength: (h, w), 0 for paper to 1 for ink, cut to the digit.
        marks: bool (h, w), where its strokes are.
        size: height and width of the result in pixels.

    Returns:
        uint8 of that size, light on dark.
    """
    fine = _FINE / max(marks.shape)
    digit = _resized(strength, [max(1, round(fine * side)) for side in marks.shape])
    strokes = digit > 0.5
    if not strokes.any():
        strokes = digit >= digit.max() / 2
    width = stroke_width(strokes) / _FINE
    if width < _THINNEST:
        radius = (_WANTED - width) / 2 * _FINE
        reach = int(np.ceil(radius))
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        digit = ndimage.grey_dilation(
            np.pad(digit, reach + 1), footprint=np.hypot(rows, columns) <= radius
        )
    rows, columns = (np.flatnonzero((digit > 0.25).any(axis=axis)) for axis in (1, 0))
    digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(_INK_SHARE * side / length for side, length in zip(size, digit.shape, strict=True))
    small = _resized(digit, [max(1, round(scale * length)) for length in digit.shape])
    result = np.zeros(size, np.uint8)
    top, left = (
        int(np.clip(round(side / 2 - middle), 0, side - length))
        for side, middle, length in zip(
            size, ndimage.center_of_mass(small), small.shape, strict=True
        )
    )
    result[top : top + small.shape[0], left : left + small.shape[1]] = np.round(255 * small)
    return result


def _resized(image: NDArray[np.float64], shape: list[int]) -> NDArray[np.float64]:
    # Pillow's filter widens as it shrinks, so thin strokes are kept; it may overshoot a little.
    picture = Image.fromarray(image.astype(np.float32))
    return np.asarray(
        picture.resize((shape[1], shape[0]), Image.Resampling.LANCZOS), np.float64
    ).clip(0, 1)
