"""Small random changes of the training images, a whole batch at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.shared import elementary
from stages.shared.network import kernels
from stages.shared.network.runtime import jt
from stages.shared.params import Augment


def matrices(
    settings: Augment, count: int, image_size: tuple[int, int], seed: tuple[int, ...]
) -> NDArray[np.float32]:
    """Draw an affine map for each image.

    Args:
        settings: the largest change of each kind; every change is uniform up to it, both ways.
        count: how many maps.
        image_size: height and width in pixels, which `settings.shift` is counted in.
        seed: decides the maps, together with nothing else.

    Returns:
        float32 (count, 2, 3): each maps a point of the new image to the point of the old one that
        it shows; x and y run from -1 to 1 in both.
    """
    draw = np.random.default_rng(seed).uniform(-1, 1, (6, count))
    turn = np.deg2rad(settings.rotate) * draw[0]
    size_x, size_y = 1 + settings.scale * draw[1], 1 + settings.scale * draw[2]
    slant = settings.shear * draw[3]
    cos, sin = elementary.cos(turn), elementary.sin(turn)
    height, width = image_size
    # A pixel is another part of the width than of the height, where the image is no square.
    down, right = height / width, width / height
    rows = [
        [cos * size_x, (slant * cos - sin) * size_y * down, 2 * settings.shift / width * draw[4]],
        [sin * size_x * right, (slant * sin + cos) * size_y, 2 * settings.shift / height * draw[5]],
    ]
    return np.moveaxis(np.array(rows, dtype=np.float32), 2, 0)


def warp(pixels: jt.Var, maps: NDArray[np.float32]) -> jt.Var:
    """Move the pixels of each image by its map, bilinear, with black beyond the edges.

    Args:
        pixels: float32 (N, 1, H, W).
        maps: float32 (N, 2, 3), see `matrices`.

    Returns:
        float32 (N, 1, H, W).
    """
    return kernels.warp(pixels, jt.array(maps))
