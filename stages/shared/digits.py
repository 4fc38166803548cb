"""The decoded arrays as batches: split, shuffle, normalise.

Whole batches are cut out of uint8 arrays that stay on disk, mapped: no worker processes, no loop
over images. Each order is drawn from (seed, epoch) alone, so that any epoch can be begun anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.shared.program import UserError

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Indices = NDArray[np.uint32]

# Apart from the epochs, which count from 0: what else is drawn from the seed.
_SPLIT = 2**32 - 1
_CHUNK = 10_000  # images at once, where all of them go by


_NAMES = {
    "fashion_mnist": [
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ]
}


class DigitsError(UserError):
    """Arrays that cannot be trained on."""


@dataclass(frozen=True)
class Digits:
    """Images and their labels, in step.

    Attributes:
        images: uint8 (N, H, W), mapped from disk.
        labels: uint8 (N,).
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[1], self.images.shape[2]


def class_names(dataset: str, classes: int) -> list[str]:
    """What the labels of a data set stand for, in their order.

    Args:
        dataset: as params.yaml names it.
        classes: how many there are; of a data set without names here, a label is its own name.
    """
    names = _NAMES.get(dataset, [])
    return names if len(names) == classes else [str(label) for label in range(classes)]


def load(folder: Path, part: str) -> Digits:
    """Map `part`-images.npy and `part`-labels.npy.

    Args:
        folder: where `decode` wrote them.
        part: "train" or "test".

    Raises:
        DigitsError: a file is missing, is no .npy file, or the two do not fit together.
    """
    images = _map(folder / f"{part}-images.npy", dimensions=3)
    labels = _map(folder / f"{part}-labels.npy", dimensions=1)
    if len(images) != len(labels):
        raise DigitsError(f"{folder}: {len(images)} {part} images but {len(labels)} labels")
    return Digits(images, np.asarray(labels))


def _map(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise DigitsError(f"{path}: no such file; `dvc repro decode` makes it") from None
    except (ValueError, EOFError) as error:
        raise DigitsError(f"{path}: not a .npy file ({error})") from None
    if array.dtype != np.uint8 or array.ndim != dimensions:
        found = f"{array.dtype} with {array.ndim}"
        raise DigitsError(f"{path}: found {found} dimensions, expected uint8 with {dimensions}")
    return array


def held_out(count: int, validation: int, seed: int) -> Indices:
    """Choose the images of the training set that are not trained on.

    Args:
        count: how many images there are.
        validation: how many of them to hold out.
        seed: decides which.

    Returns:
        Their indices, ascending.

    Raises:
        DigitsError: nothing would be left to train on.
    """
    if validation >= count:
        raise DigitsError(
            f"params.yaml: train.validation_images is {validation},"
            f" expected fewer than the {count} images there are"
        )
    order = np.arange(count, dtype=np.uint32)
    np.random.default_rng((seed, _SPLIT)).shuffle(order)
    return np.sort(order[:validation])


def shuffled(count: int, without: Indices, seed: int, epoch: int) -> Indices:
    """The order in which an epoch sees the images.

    Made anew for each epoch and in place: of millions of images, one array of indices is all that
    is ever in memory.

    Args:
        count: how many images there are.
        without: those that it does not see, ascending.
        seed: decides the order, with the epoch.
        epoch: its number.
    """
    order = np.arange(count - len(without), dtype=np.uint32)
    skipped = without - np.arange(len(without), dtype=np.uint32)
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        chunk += np.searchsorted(skipped, chunk, side="right").astype(np.uint32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def batches(digits: Digits, indices: Indices, size: int) -> Iterator[tuple[Images, Labels]]:
    """Cut `indices` into batches, in the order given.

    Yields:
        uint8 images (n, H, W) and uint8 labels (n,), in memory; n is `size`, but for the last
        batch, which holds the rest. The next batch's images take the place of this one's: fresh
        memory would cost more than the copying.
    """
    room = np.empty((min(size, len(indices)), *digits.image_size), np.uint8)
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        images = room[: len(chosen)]
        # Other modes of take() copy by way of a buffer.
        np.take(digits.images, chosen, axis=0, out=images, mode="clip")
        yield images, digits.labels[chosen]


def mean_and_deviation(digits: Digits, without: Indices) -> tuple[float, float]:
    """Mean and standard deviation of the pixels, each scaled to 0..1.

    Counted value by value, so that the result is exact and the images are never in memory at
    once.

    Args:
        digits: the images.
        without: which of them do not count.
    """
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(digits), _CHUNK):
        counts += _values(digits.images[start : start + _CHUNK])
    for images, _ in batches(digits, without, _CHUNK):
        counts -= _values(images)
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    # Pictures of one colour have no deviation; dividing by one leaves them as they are.
    return mean, variance**0.5 or 1.0


def _values(images: Images) -> NDArray[np.int64]:
    """How many pixels there are of each value."""
    return np.bincount(images.ravel(), minlength=256)
