"""Batches hold every image once, in an order that the seed and the epoch decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared import digits
from stages.shared.digits import Digits, DigitsError


def some(count: int = 10) -> Digits:
    images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
    return Digits(images, np.arange(count, dtype=np.uint8))


@given(st.integers(2, 300), st.data(), st.integers(0, 9))
def test_a_split_parts_the_images_without_loss(count: int, data: st.DataObject, seed: int) -> None:
    held = data.draw(st.integers(1, count - 1))
    learn, validate = digits.split(count, held, seed)
    assert len(validate) == held
    assert sorted([*learn, *validate]) == list(range(count))


def test_the_seed_decides_the_split() -> None:
    first, again, other = (digits.split(1000, 100, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DigitsError, match="validation_images is 10, expected fewer than the 10"):
        digits.split(10, 10, seed=0)


def test_each_epoch_has_an_order_of_its_own_that_can_be_had_again() -> None:
    indices = np.arange(100, dtype=np.uint32)
    orders = [digits.shuffled(indices, 7, epoch) for epoch in (0, 1, 0)]
    assert np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])
    assert np.array_equal(np.sort(orders[1]), indices)


@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_keep_image_and_label_together_and_lose_none(count: int, size: int) -> None:
    data = some(count)
    order = digits.shuffled(np.arange(count, dtype=np.uint32), 0, 0)
    seen = list(digits.batches(data, order, size))
    assert [len(labels) for _, labels in seen[:-1]] == [size] * (len(seen) - 1)
    assert np.array_equal(np.concatenate([labels for _, labels in seen]), order)
    for images, labels in seen:
        assert np.array_equal(images[:, 0, 0], labels * 4)


def test_mean_and_deviation_are_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 4), dtype=np.uint8)
    data = Digits(images, np.zeros(50, np.uint8))
    mean, deviation = digits.mean_and_deviation(data, np.arange(10, 30, dtype=np.uint32))
    assert mean == pytest.approx((images[10:30] / 255).mean())
    assert deviation == pytest.approx((images[10:30] / 255).std())


def test_images_of_one_colour_can_be_normalised() -> None:
    data = Digits(np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.uint8))
    assert digits.mean_and_deviation(data, np.arange(3, dtype=np.uint32)) == (0.0, 1.0)


def put(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    np.save(folder / "train-images.npy", images)
    np.save(folder / "train-labels.npy", labels)


def test_images_stay_on_disk(tmp_path: Path) -> None:
    put(tmp_path, np.zeros((3, 5, 6), np.uint8), np.zeros(3, np.uint8))
    data = digits.load(tmp_path, "train")
    assert isinstance(data.images, np.memmap)
    assert (len(data), data.image_size) == (3, (5, 6))


def test_arrays_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match=r"train-images\.npy: no such file"):
        digits.load(tmp_path, "train")
    put(tmp_path, np.zeros((3, 5, 6), np.float32), np.zeros(3, np.uint8))
    with pytest.raises(DigitsError, match="found float32 with 3 dimensions, expected uint8"):
        digits.load(tmp_path, "train")
    put(tmp_path, np.zeros((3, 5, 6), np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(DigitsError, match="3 train images but 4 labels"):
        digits.load(tmp_path, "train")
    (tmp_path / "train-labels.npy").write_bytes(b"\x93NUMPY garbage")
    with pytest.raises(DigitsError, match=r"train-labels\.npy: not a \.npy file"):
        digits.load(tmp_path, "train")


def test_classes_have_names_or_are_their_own() -> None:
    assert digits.class_names("mnist", 3) == ["0", "1", "2"]
    assert digits.class_names("fashion_mnist", 10)[9] == "ankle boot"
    assert digits.class_names("own", 12)[-1] == "11"
