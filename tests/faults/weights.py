"""Damaged weights, arrays and checkpoints: refused, or whole; never code that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from stages.shared import digits, model_file
from stages.shared.model_file import Description
from stages.shared.training.checkpoints import Checkpoints
from tests.faults.trial import Trial, judged, mutated

WHAT = "damaged weights, .npy files and checkpoints"
WHOLE, SHORT = 10_000, 1_000

_ARRAYS = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.zeros(5, np.float32)}
_ABOUT = Description(
    network="tutorial",
    image_size=(28, 28),
    class_names=["a", "b"],
    mean=0.5,
    std=0.25,
    held_out=1,
    params={},
    versions={},
)


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    weights, npy = folder / "digits.safetensors", folder / "train-images.npy"
    checkpoints = Checkpoints(folder, "a" * 64)
    model_file.save(weights, _ARRAYS, _ABOUT)
    np.save(npy, np.zeros((3, 4, 5), np.uint8))
    np.save(folder / "train-labels.npy", np.zeros(3, np.uint8))
    checkpoints.save(_ARRAYS, {"epoch": 1})
    works = {
        weights: lambda: _the_same(weights),
        npy: lambda: digits.load(folder, "train").images.dtype == np.uint8,
        checkpoints.path: lambda: _nothing_or_all(checkpoints),
    }
    good = {path: path.read_bytes() for path in works}
    for _ in range(count):
        path = rng.choice(list(works))
        content = mutated(rng, good[path])
        path.write_bytes(content)
        yield judged(f"{path.suffix}: {content[:24].hex()}", works[path])
        path.write_bytes(good[path])


def _the_same(path: Path) -> bool:
    arrays, about = model_file.load(path)
    same = all(np.array_equal(arrays[name], array) for name, array in _ARRAYS.items())
    return same and about == _ABOUT


def _nothing_or_all(checkpoints: Checkpoints) -> bool:
    found = checkpoints.load()
    if found is None:
        return True
    arrays, progress = found
    same = all(np.array_equal(arrays[name], array) for name, array in _ARRAYS.items())
    return same and progress == {"epoch": 1}
