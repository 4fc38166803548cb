"""How sure to be of a digit that was read: whether it looks like one, and holds when moved.

A network that knows ten digits gives an asterisk to one of them, often without a doubt. Two things
tell it from a digit: small changes of the picture change the answer, and its strokes are not those
of a digit (too many ends, crossings or pieces, too thick, too long). A logistic model of both says
how likely the reading is right. It was fitted by `python -m tests.bench.reading --fit` on drawn
pictures, where one in three held no digit, with the networks of `fast` and `accurate`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit
from skimage.morphology import skeletonize

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float64]

SURE = 0.5  # a reading that is less likely right is marked

# Turned by degrees, scaled, slanted; the first changes nothing.
_CHANGES = (
    (0, 1, 0),
    (10, 1, 0),
    (-10, 1, 0),
    (0, 0.88, 0),
    (0, 1.1, 0),
    (0, 1, 0.2),
    (0, 1, -0.2),
)
_MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))  # pixels down and to the right
_FINE = 4  # pixels for one, where strokes are followed

# How many of these a digit has at most; of 1,500 test images 97 % are within each.
_ENDS, _CROSSINGS, _PIECES, _THICK, _LONG = 3, 3, 1, 0.3, 2.6
WEIGHTS = np.array([0.34, 0.52, -1.0, -0.43, -1.88, -6.55, -3.42])
BIAS = 0.06


def variants(images: Images) -> Images:
    """Images, and the same turned, scaled, slanted and moved a little.

    Args:
        images: uint8 (N, H, W).

    Returns:
        uint8 (variants, N, H, W); the first are the images themselves.
    """
    changed = [np.stack([_changed(image, *change) for image in images]) for change in _CHANGES]
    moved = [np.roll(images, move, axis=(1, 2)) for move in _MOVES]
    return np.stack([*changed, *moved])


def _changed(image: Images, degrees: float, scale: float, slant: float) -> Images:
    if (degrees, scale, slant) == (0, 1, 0):
        return image
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, 0], [slant, 1]]) / scale
    middle = (np.array(image.shape) - 1) / 2
    moved = ndimage.affine_transform(
        image.astype(np.float64), matrix, middle - matrix @ middle, order=1
    )
    return np.asarray(moved.round().clip(0, 255), np.uint8)


def signs(image: Images, probabilities: Probabilities) -> NDArray[np.float64]:
    """What tells a digit from something else.

    Args:
        image: uint8 (H, W), in the form of MNIST.
        probabilities: (variants, num_classes), what the network made of its variants.

    Returns:
        (7,): the log-odds of the likeliest class on average, the log of its probability in the
        worst variant, and by how much ends, crossings, pieces, thickness and length of the strokes
        are beyond those of digits.
    """
    mean = probabilities.mean(axis=0)
    best = int(mean.argmax())
    worst = float(probabilities[:, best].min())
    odds = float(logit(np.clip(mean[best], 1e-6, 1 - 1e-6)))
    return np.array([odds, np.log(worst + 1e-4), *_strangeness(image)])


def _strangeness(image: Images) -> list[float]:
    large = ndimage.zoom(
        image.astype(np.float64), _FINE, order=1, grid_mode=True, mode="grid-constant"
    )
    strokes = ndimage.gaussian_filter(large, 1.5) > 100
    if not strokes.any():
        return [0.0, 0.0, 0.0, 0.0, 0.0]
    side = 20 / 28 * max(strokes.shape)
    line = skeletonize(strokes)
    around = ndimage.convolve(line.astype(np.int64), np.ones((3, 3), np.int64)) * line
    ends = int((around == 2).sum())
    crossings = ndimage.label(around >= 4, np.ones((3, 3)))[1]
    pieces = ndimage.label(strokes, np.ones((3, 3)))[1]
    thick = 2 * float(ndimage.distance_transform_edt(strokes).max()) / side
    long = float(line.sum()) / side
    found = ((ends, _ENDS), (crossings, _CROSSINGS), (pieces, _PIECES), (thick, _THICK))
    return [max(0.0, float(have - most)) for have, most in (*found, (long, _LONG))]


def confidence(image: Images, probabilities: Probabilities) -> float:
    """How likely the reading of a picture is right, 0 to 1.

    Args:
        image: uint8 (H, W), in the form of MNIST.
        probabilities: (variants, num_classes), what the network made of `variants` of it.
    """
    return float(expit(signs(image, probabilities) @ WEIGHTS + BIAS))
