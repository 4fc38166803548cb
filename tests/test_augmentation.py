"""Training images move by as much as the settings say, and the same way each time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from stages.shared.network import runtime
from stages.shared.params import Augment
from stages.shared.training import augmentation

NONE = Augment(shift=0, rotate=0, scale=0, shear=0)


def warped(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    runtime.use("cpu")
    pixels = runtime.jt.array(images.astype(np.float32)[:, None])
    result: np.ndarray = augmentation.warp(pixels, maps).numpy()[:, 0]
    return result


def pictures(count: int = 4, height: int = 11, width: int = 14) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width), dtype=np.uint8)


@pytest.mark.slow
def test_no_change_is_no_change() -> None:
    images = pictures()
    maps = augmentation.matrices(NONE, 4, (11, 14), (0,))
    np.testing.assert_allclose(warped(images, maps), images, atol=1e-3)


def test_the_seed_decides_and_each_image_has_a_map_of_its_own() -> None:
    settings = Augment(shift=2, rotate=10, scale=0.1, shear=0.1)
    first, again, other = (
        augmentation.matrices(settings, 5, (28, 28), (0, step, 1)) for step in (7, 7, 8)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({row.tobytes() for row in first}) == 5


@pytest.mark.slow
def test_a_shift_is_counted_in_pixels() -> None:
    maps = augmentation.matrices(Augment(shift=3, rotate=0, scale=0, shear=0), 1000, (11, 14), (0,))
    columns, rows = maps[:, 0, 2] * 14 / 2, maps[:, 1, 2] * 11 / 2
    for moved in (columns, rows):
        assert 2.9 < np.abs(moved).max() <= 3
        assert abs(moved.mean()) < 0.2
    one = np.array([[[1, 0, 2 * 2 / 14], [0, 1, 0]]], np.float32)
    images = pictures(1)
    np.testing.assert_allclose(warped(images, one)[0, :, :-2], images[0, :, 2:], atol=1e-3)
    np.testing.assert_allclose(warped(images, one)[0, :, -2:], 0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        Augment(shift=0, rotate=30, scale=0, shear=0),
        Augment(shift=0, rotate=0, scale=0.3, shear=0),
        Augment(shift=1, rotate=20, scale=0.2, shear=0.3),
    ],
)
def test_a_map_is_what_scipy_makes_of_it(settings: Augment) -> None:
    images = pictures(3, 15, 15)
    maps = augmentation.matrices(settings, 3, (15, 15), (5,))
    for image, map_, result in zip(images, maps, warped(images, maps), strict=True):
        # From -1..1 to pixels, and from (x, y) to (row, column).
        matrix = map_[::-1, 1::-1].astype(float)
        centre = np.array([7.0, 7.0])
        offset = map_[::-1, 2] * 7.5 + centre - matrix @ centre
        padded = np.pad(image.astype(float), 8)
        place = offset + 8 - matrix @ [8, 8]
        expected = affine_transform(padded, matrix, place, order=1)[8:-8, 8:-8]
        np.testing.assert_allclose(result, expected, atol=0.05)


def test_a_turn_keeps_sizes_and_a_shear_keeps_areas() -> None:
    turns = augmentation.matrices(Augment(shift=0, rotate=40, scale=0, shear=0), 9, (28, 28), (1,))
    for turn in turns[:, :, :2]:
        np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-6)
    slants = augmentation.matrices(
        Augment(shift=0, rotate=0, scale=0, shear=0.5), 9, (28, 28), (1,)
    )
    np.testing.assert_allclose(np.linalg.det(slants[:, :, :2]), 1, atol=1e-6)
    assert np.abs(slants[:, 0, 1]).max() > 0.2


def test_a_turn_is_one_also_where_the_image_is_no_square() -> None:
    """A pixel down turns into as many as a pixel right, at a right angle."""
    height, width = 20, 60
    settings = Augment(shift=0, rotate=30, scale=0, shear=0)
    for map_ in augmentation.matrices(settings, 20, (height, width), (1,)).astype(np.float64):
        # From -1..1 to pixels.
        turn = np.diag([width, height]) @ map_[:, :2] @ np.diag([1 / width, 1 / height])
        np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-6)


def test_a_shear_is_counted_in_pixels() -> None:
    height, width = 20, 60
    settings = Augment(shift=0, rotate=0, scale=0, shear=0.5)
    maps = augmentation.matrices(settings, 1000, (height, width), (1,))
    assert 0.49 < np.abs(maps[:, 0, 1] * width / height).max() <= 0.5
