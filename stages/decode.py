"""Turn the IDX files into arrays that NumPy can map.

Reads data/raw, plain or gzipped; writes data/npy: images uint8 (N, rows, columns) and labels
uint8 (N,), for train and for test.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from stages.shared import idx, params
from stages.shared.program import UserError, run

FILES = {
    "train-images.npy": "train-images-idx3-ubyte",
    "train-labels.npy": "train-labels-idx1-ubyte",
    "test-images.npy": "t10k-images-idx3-ubyte",
    "test-labels.npy": "t10k-labels-idx1-ubyte",
}


class DecodeError(UserError):
    """IDX files that are sound each, but are no set of labelled images."""


def decode(raw: Path, npy: Path, classes: int) -> None:
    """Write the four arrays of `raw` to `npy`: all of them, or none.

    Args:
        raw: the folder with the IDX files named in `FILES`.
        npy: the folder for the .npy files; made if it is not there.
        classes: labels must run from 0 to `classes` - 1.

    Raises:
        IdxError: a file is not IDX to the last byte.
        DecodeError: a file is missing, or the arrays do not fit each other or `classes`.
        OSError: a file cannot be read or written.
    """
    missing = [str(raw / name) for name in FILES.values() if not (raw / name).exists()]
    if missing:
        raise DecodeError(f"{', '.join(missing)}: no such file; `dvc repro download` fetches it")
    npy.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=npy) as folder:
        part = Path(folder)
        for array, name in FILES.items():
            idx.decode_to_npy(raw / name, part / array)
        check(part, raw, classes)
        for array in FILES:
            (part / array).replace(npy / array)


def check(npy: Path, raw: Path, classes: int) -> None:
    """Raise `DecodeError`, naming the file of `raw`, if the arrays in `npy` are no data set."""
    arrays = {name: np.load(npy / name, mmap_mode="r") for name in FILES}
    for name, array in arrays.items():
        ndim = 3 if "images" in name else 1
        if array.dtype != np.uint8 or array.ndim != ndim or array.size == 0:
            raise DecodeError(
                f"{raw / FILES[name]}: {array.dtype} of {array.shape}, "
                f"expected uint8 of {ndim} dimensions, none of them 0"
            )
    for part in ("train", "test"):
        images, labels = arrays[f"{part}-images.npy"], arrays[f"{part}-labels.npy"]
        path = raw / FILES[f"{part}-labels.npy"]
        if len(labels) != len(images):
            raise DecodeError(
                f"{path}: {len(labels)} labels, expected one for {len(images)} images"
            )
        if labels.max() >= classes:
            place = int(np.argmax(labels >= classes))
            raise DecodeError(
                f"{path}: label {labels[place]} at index {place}, expected 0 to {classes - 1}"
            )
    train, test = (arrays[f"{part}-images.npy"].shape[1:] for part in ("train", "test"))
    if train != test:
        path = raw / FILES["test-images.npy"]
        raise DecodeError(f"{path}: images of {test}, expected {train} as in the training set")


def main() -> None:
    """Run the stage on the folders that dvc.yaml names."""
    decode(Path("data/raw"), Path("data/npy"), params.load().decode.classes)


if __name__ == "__main__":
    run(main)
