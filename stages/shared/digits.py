"""The decoded arrays: whether they are a data set, and how they are split and cut into batches.

Whole batches are cut out of uint8 arrays that stay on disk, mapped: no worker processes, no loop
over images. Each order is drawn from (seed, epoch) alone, so that any epoch can be begun anew. It
lies in a mapped file as well: what the process holds itself does not grow with the data.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.shared.files import naming, shortened, shown
from stages.shared.params import NAMEABLE, is_class_name
from stages.shared.program import UserError

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Indices = NDArray[np.uint32]

FOLDER = Path("data/npy")
ARRAYS = ("train-images.npy", "train-labels.npy", "test-images.npy", "test-labels.npy")
CLASS_NAMES = "class_names.json"
LONGEST = 1024  # pixels of a side of an image that a network can be made for

_SPLIT = 2**32 - 1  # stands where an epoch's number would: the split is drawn from (seed, this)
_CHUNK = 10_000  # indices of images in memory at a time, where all of them are read
_PIXELS = 8_000_000  # in memory at a time, where all are read: counting takes 8 bytes for each


class DigitsError(UserError):
    """Arrays that are not a data set, or that cannot be trained on."""


@dataclass(frozen=True)
class Digits:
    """Images and their labels; both have N items.

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


def check(folder: Path, num_classes: int, sources: Mapping[str, Path]) -> None:
    """Make sure that the four arrays in a folder are a data set.

    Args:
        folder: holds the files named in `ARRAYS`.
        num_classes: labels must run from 0 to `num_classes` - 1.
        sources: by the name of each array, the file that it was made from, for the message.

    Raises:
        DigitsError: an array is not uint8 or has the wrong number of dimensions, there is not a
            label for each image, a label is too large, a side of an image is too long, or the test
            images differ in size.
    """
    arrays = {name: _mapped(folder / name) for name in ARRAYS}
    check_headers({sources[name]: (array.dtype, array.shape) for name, array in arrays.items()})
    for name in ARRAYS[1::2]:
        check_labels(sources[name], arrays[name], num_classes)


def check_headers(headers: Mapping[Path, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Make sure that four arrays can be a data set, by their types and shapes.

    Args:
        headers: of the files that hold them, in the order of `ARRAYS`.

    Raises:
        DigitsError: as `check` says, but for the labels' own values.
    """
    for (path, (dtype, shape)), name in zip(headers.items(), ARRAYS, strict=True):
        ndim = 3 if "images" in name else 1
        if dtype != np.uint8 or len(shape) != ndim or 0 in shape:
            raise DigitsError(
                f"{path}: {dtype} of {shortened(str(shape))}, "
                f"expected uint8 of {ndim} dimensions, none of them 0"
            )
    paths, shapes = list(headers), [shape for _, shape in headers.values()]
    for images, labels in ((0, 1), (2, 3)):
        if shapes[labels] != shapes[images][:1]:
            raise DigitsError(
                f"{paths[labels]}: {shapes[labels][0]} labels, expected one for"
                f" {shapes[images][0]} images"
            )
        _check_size(paths[images], shapes[images][1:])
    train, test = shapes[0][1:], shapes[2][1:]
    if train != test:
        raise DigitsError(f"{paths[2]}: images of {test}, expected {train} as in the training set")


def _check_size(path: Path, size: tuple[int, ...]) -> None:
    """Refuse images of which a side is longer than `LONGEST`."""
    if max(size) > LONGEST:
        found = " x ".join(map(str, size))
        raise DigitsError(f"{path}: images of {found} pixels, expected {LONGEST} at most on a side")


def load(folder: Path, part: str, num_classes: int = 256) -> Digits:
    """Map `part`-images.npy and `part`-labels.npy.

    Args:
        folder: where `decode` wrote them.
        part: "train" or "test".
        num_classes: labels must run from 0 to `num_classes` - 1.

    Raises:
        DigitsError: a file is missing, is not a .npy file, or holds nothing, or the two do not fit
            together, or a label or a side of an image is too large.
    """
    path = folder / f"{part}-images.npy"
    images = _map(path, ndim=3)
    _check_size(path, images.shape[1:])
    path = folder / f"{part}-labels.npy"
    labels = np.asarray(_map(path, ndim=1))
    if len(images) != len(labels):
        raise DigitsError(f"{folder}: {len(images)} {part} images but {len(labels)} labels")
    check_labels(path, labels, num_classes)
    return Digits(images, labels)


def check_labels(path: Path, labels: NDArray[Any], num_classes: int) -> None:
    """Make sure that labels run from 0 to `num_classes` - 1.

    Args:
        path: the file that they come from, for the message.
        labels: of any unsigned type.
        num_classes: how many there may be.

    Raises:
        DigitsError: one is larger.
    """
    if labels.size and labels.max() >= num_classes:
        index = int(np.argmax(labels >= num_classes))
        raise DigitsError(
            f"{path}: label {labels[index]} at index {index}, expected 0 to {num_classes - 1}"
        )


def _map(path: Path, ndim: int) -> NDArray[np.uint8]:
    try:
        array = _mapped(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError:
        raise
    except Exception as error:  # a header can be broken in many ways
        raise DigitsError(f"{path}: not a .npy file ({shortened(str(error))})") from None
    if array.dtype != np.uint8 or array.ndim != ndim:
        found = f"{shortened(str(array.dtype))} with {array.ndim}"
        raise DigitsError(f"{path}: found {found} dimensions, expected uint8 with {ndim}")
    if array.size == 0:
        raise DigitsError(f"{path}: found the shape {array.shape}, expected no dimension of 0")
    return array


def _mapped(path: Path) -> NDArray[Any]:
    """A .npy file, and nothing else: NumPy's own `load` opens archives and pickles as well."""
    array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call]
    return array


def save_class_names(folder: Path, names: list[str]) -> None:
    """Write the class names, in the order of the labels, as JSON."""
    text = json.dumps(names, ensure_ascii=False) + "\n"
    (folder / CLASS_NAMES).write_text(text, encoding="utf-8")


def load_class_names(folder: Path) -> list[str]:
    """Read the class names, in the order of the labels.

    Args:
        folder: where `decode` wrote them.

    Raises:
        DigitsError: the file is missing or does not hold a list of names that differ, and that
            classes can have.
    """
    path = folder / CLASS_NAMES
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(names, ensure_ascii=False).encode()  # JSON can spell half a letter
    except FileNotFoundError:
        raise _missing(path) from None
    except (ValueError, RecursionError) as error:
        raise DigitsError(f"{path}: not JSON ({error})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DigitsError(f"{path}: found {shown(names)}, expected a list of names")
    if not 2 <= len(names) <= 256 or len(set(names)) < len(names):
        raise DigitsError(
            f"{path}: found {shown(names)}, expected a list of 2 to 256 names that differ"
        )
    for name in names:
        if not is_class_name(name):
            raise DigitsError(f"{path}: found {shown(name)}, expected names of {NAMEABLE}")
    return names


def _missing(path: Path) -> DigitsError:
    return DigitsError(f"{path}: no such file; `dvc repro decode` makes it")


def _counted(count: int) -> Indices:
    """0 to `count` - 1 in a file without a name, which ends with the array.

    The file lies in the working directory: where the data has room, four bytes more for each image
    have it too, while the system's folder for such files is memory on many machines.

    Raises:
        OSError: the disk has no room for it.
    """
    folder = Path.cwd()
    with naming(folder), tempfile.TemporaryFile(dir=folder) as file:
        # Mapped pages that find no room on the disk would end the process without a word.
        os.posix_fallocate(file.fileno(), 0, 4 * count)
        # A plain array over the mapping: NumPy shuffles its own subclasses by the slow way.
        order = np.asarray(np.memmap(file, np.uint32, "r+", shape=(count,)))
    for start in range(0, count, _CHUNK):
        order[start : start + _CHUNK] = np.arange(start, min(start + _CHUNK, count))
    return order


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
    order = _counted(count)
    np.random.default_rng((seed, _SPLIT)).shuffle(order)
    return np.sort(order[:validation])


def shuffled(count: int, held_out: Indices, seed: int, epoch: int) -> Indices:
    """Draw the order in which an epoch sees the images.

    Args:
        count: how many images there are.
        held_out: indices of the held-out images, ascending; the epoch does not see them.
        seed: decides the order, together with the epoch.
        epoch: its number, from 0.

    Returns:
        uint32 (count - len(held_out),): every other index once; mapped, as `_counted` says.

    Raises:
        OSError: the disk has no room for it.
    """
    order = _counted(count - len(held_out))
    skipped = held_out - np.arange(len(held_out), dtype=np.uint32)
    for start in range(0, len(order), _CHUNK):
        chunk = order[start : start + _CHUNK]
        chunk += np.searchsorted(skipped, chunk, side="right").astype(np.uint32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def _whole(images: int) -> slice:
    return slice(0, images)


def batches(
    digits: Digits, indices: Indices, size: int, part: Callable[[int], slice] = _whole
) -> Iterator[tuple[Images, Labels]]:
    """Cut `indices` into batches, in the order given.

    Args:
        digits: images and labels.
        indices: of the images that are wanted.
        size: images in a batch.
        part: which of a batch of so many images are wanted, where it is not all of them.

    Yields:
        uint8 images (n, H, W) and uint8 labels (n,), in memory; n is `size` except for the last
        batch, which holds the rest. Each batch overwrites the images of the one before: fresh
        memory would cost more than the copying.
    """
    room = np.empty((min(size, len(indices)), *digits.image_size), np.uint8)
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        chosen = chosen[part(len(chosen))]
        images = room[: len(chosen)]
        # Other modes of take() copy by way of a buffer.
        np.take(digits.images, chosen, axis=0, out=images, mode="clip")
        yield images, digits.labels[chosen]


def mean_and_std(digits: Digits, held_out: Indices) -> tuple[float, float]:
    """Compute mean and standard deviation of the pixels, each scaled to 0..1.

    They are counted value by value, so that the result is exact and the images are never in
    memory all at once.

    Args:
        digits: the images.
        held_out: indices of the held-out images, ascending; they do not count.

    Returns:
        The mean and the standard deviation. Where all pixels are the same the latter is given as 1,
        so that dividing by it leaves them as they are.
    """
    counts = np.zeros(256, dtype=np.int64)
    chunk = max(1, _PIXELS // math.prod(digits.image_size))
    for start in range(0, len(digits), chunk):
        counts += _values(digits.images[start : start + chunk])
    for images, _ in batches(digits, held_out, chunk):
        counts -= _values(images)
    values = np.arange(256) / 255
    mean = float((counts * values).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    return mean, math.sqrt(variance) if np.count_nonzero(counts) > 1 else 1.0


def _values(images: Images) -> NDArray[np.int64]:
    """Count the pixels of each value, 0 to 255."""
    return np.bincount(images.ravel(), minlength=256)
