"""The decode stage: four arrays that fit each other, or none and a line that says why."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages import decode
from stages.shared import datasets, digits, idx
from stages.shared.program import UserError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
LEFT = sorted([*digits.ARRAYS, "class_names.json"])
SEVEN = list("abcdefg")  # names for the labels 0 to 6


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder as the download stage leaves it, with 7 and 3 images of 4 by 5 pixels."""
    folder = tmp_path / "raw"
    folder.mkdir()
    random = np.random.default_rng(0)
    for images, labels, count in ((IMAGES, LABELS, 7), (TEST_IMAGES, TEST_LABELS, 3)):
        idx.write(folder / images, random.integers(0, 256, (count, 4, 5), np.uint8))
        idx.write(folder / labels, np.arange(count, dtype=np.uint8))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("zipped", [False, True])
def test_the_arrays_are_those_of_the_files(raw: Path, tmp_path: Path, zipped: bool) -> None:
    pairs = zip(digits.ARRAYS, datasets.IDX_FILES, strict=True)
    expected = {array: idx.read(raw / name) for array, name in pairs}
    if zipped:
        for path in raw.iterdir():
            path.write_bytes(gzip.compress(path.read_bytes()))
    npy = tmp_path / "npy"
    decode.decode(raw, npy, class_names=SEVEN)
    assert names(npy) == LEFT
    assert digits.load_class_names(npy) == SEVEN
    for name, array in expected.items():
        found = np.load(npy / name)
        assert found.dtype == np.uint8
        assert np.array_equal(found, array)


def zeros(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.zeros(shape, np.uint8)


FAULTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": (LABELS, Path.unlink, "no such file; `dvc repro download` fetches it"),
    "cut": (
        TEST_IMAGES,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "ends after 59 bytes of data, expected 60",
    ),
    "images without columns": (
        IMAGES,
        lambda path: idx.write(path, zeros(7, 20)),
        "uint8 of (7, 20), expected uint8 of 3 dimensions",
    ),
    "signed images": (
        IMAGES,
        lambda path: idx.write(path, zeros(7, 4, 5).view(np.int8)),
        "int8 of (7, 4, 5), expected uint8",
    ),
    "labels with columns": (
        LABELS,
        lambda path: idx.write(path, zeros(7, 1)),
        "uint8 of (7, 1), expected uint8 of 1 dimensions",
    ),
    "wide labels": (
        TEST_LABELS,
        lambda path: idx.write(path, zeros(3).astype(np.int32)),
        "int32 of (3,), expected uint8",
    ),
    "no images": (
        TEST_IMAGES,
        lambda path: idx.write(path, zeros(0, 4, 5)),
        "uint8 of (0, 4, 5), expected uint8 of 3 dimensions, none of them 0",
    ),
    "a label too few": (
        LABELS,
        lambda path: idx.write(path, zeros(6)),
        "6 labels, expected one for 7 images",
    ),
    "a label beyond the classes": (
        LABELS,
        lambda path: idx.write(path, np.array([0, 1, 2, 7, 4, 5, 6], np.uint8)),
        "label 7 at index 3, expected 0 to 6",
    ),
    "a side that no network takes": (
        IMAGES,
        lambda path: idx.write(path, zeros(7, 1, 1025)),
        "images of 1 x 1025 pixels, expected 1024 at most on a side",
    ),
    "another size": (
        TEST_IMAGES,
        lambda path: idx.write(path, zeros(3, 5, 4)),
        "images of (5, 4), expected (4, 5) as in the training set",
    ),
}


@pytest.mark.parametrize("before", [False, True], ids=["first run", "run again"])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_file_is_named_and_nothing_is_written(
    raw: Path, tmp_path: Path, fault: str, before: bool
) -> None:
    name, spoil, message = FAULTS[fault]
    npy = tmp_path / "npy"
    if before:
        decode.decode(raw, npy, class_names=SEVEN)
    old = {path.name: path.read_bytes() for path in npy.iterdir()} if before else {}
    spoil(raw / name)
    with pytest.raises(UserError) as caught:
        decode.decode(raw, npy, class_names=SEVEN)
    assert str(raw / name) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(npy) == sorted(old)
    assert all((npy / name).read_bytes() == content for name, content in old.items())


def test_all_that_is_missing_is_named_at_once(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw)
    with pytest.raises(UserError) as caught:
        decode.decode(raw, tmp_path / "npy", class_names=SEVEN)
    assert all(str(raw / name) in str(caught.value) for name in datasets.IDX_FILES)


def test_stopped_in_the_middle_nothing_is_left(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the last file is read."""
    whole = idx.decode_to_npy

    def stop(source: Path, target: Path) -> None:
        if source.name == TEST_LABELS:
            raise KeyboardInterrupt
        whole(source, target)

    monkeypatch.setattr(idx, "decode_to_npy", stop)
    with pytest.raises(KeyboardInterrupt):
        decode.decode(raw, tmp_path / "npy", class_names=SEVEN)
    assert names(tmp_path / "npy") == []
