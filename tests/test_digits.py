"""Batches hold every image once, in an order that the seed and the epoch decide."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.shared import datasets, digits
from stages.shared.digits import Digits, DigitsError
from tests.faults.trial import ImpossibleError, in_namespace

NONE = np.empty(0, np.uint32)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def some(count: int = 10) -> Digits:
    images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
    return Digits(images, np.arange(count, dtype=np.uint8))


@given(st.integers(2, 300), st.data(), st.integers(0, 9))
def test_an_epoch_sees_all_images_but_those_held_out(
    count: int, data: st.DataObject, seed: int
) -> None:
    validation = data.draw(st.integers(1, count - 1))
    held_out = digits.held_out(count, validation, seed)
    order = digits.shuffled(count, held_out, seed, epoch=0)
    assert len(held_out) == validation
    assert np.array_equal(held_out, np.sort(held_out))
    assert sorted([*order, *held_out]) == list(range(count))


def test_images_are_left_out_of_an_order_of_several_chunks() -> None:
    held_out = np.array([0, 9_999, 10_000, 10_001, 24_999], np.uint32)
    order = digits.shuffled(25_000, held_out, seed=0, epoch=0)
    assert np.array_equal(np.sort([*order, *held_out]), np.arange(25_000))


def test_the_seed_decides_what_is_held_out() -> None:
    first, again, other = (digits.held_out(1000, 100, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_order_is_not_in_the_memory_of_the_process() -> None:
    count = 3_000_000  # 12 MB
    tracemalloc.start()
    try:
        held_out = digits.held_out(count, 1000, seed=0)
        order = digits.shuffled(count, held_out, seed=0, epoch=0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(order) == count - 1000
    assert most < 1_000_000


def test_an_order_is_numpys_own_shuffle() -> None:
    order = np.arange(20_000, dtype=np.uint32)
    np.random.default_rng((3, 5)).shuffle(order)
    assert np.array_equal(digits.shuffled(20_000, NONE, seed=3, epoch=5), order)


def test_a_full_disk_is_told_before_a_page_is_missing(tmp_path: Path) -> None:
    """What has no page on the disk ends a process by a signal, once it is written to."""
    try:
        full = in_namespace(f"mount -t tmpfs -o size=8192 none '{tmp_path}' && cd '{tmp_path}'")
    except ImpossibleError as error:
        pytest.skip(str(error))
    code = "from stages.shared import digits; digits.held_out(100_000, 10, 0)"
    command = [*full, sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said == f"OSError: [Errno 28] No space left on device: '{tmp_path}'"


def test_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DigitsError, match="validation_images is 10, expected fewer than the 10"):
        digits.held_out(10, 10, seed=0)


def test_each_epoch_has_an_order_of_its_own_that_can_be_had_again() -> None:
    orders = [digits.shuffled(100, NONE, 7, epoch) for epoch in (0, 1, 0)]
    assert np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], orders[1])


@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_keep_image_and_label_together_and_lose_none(count: int, size: int) -> None:
    data = some(count)
    order = digits.shuffled(count, NONE, 0, 0)
    seen = [(images.copy(), labels) for images, labels in digits.batches(data, order, size)]
    assert [len(labels) for _, labels in seen[:-1]] == [size] * (len(seen) - 1)
    assert np.array_equal(np.concatenate([labels for _, labels in seen]), order)
    for images, labels in seen:
        assert np.array_equal(images[:, 0, 0], labels * 4)


@pytest.mark.parametrize("pixels", [1, 100, 10_000_000])
def test_mean_and_std_are_numpys(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_PIXELS", pixels)  # in memory at a time
    images = np.random.default_rng(0).integers(0, 256, (50, 5, 4), dtype=np.uint8)
    data = Digits(images, np.zeros(50, np.uint8))
    mean, std = digits.mean_and_std(data, np.arange(20, 50, dtype=np.uint32))
    assert mean == pytest.approx((images[:20] / 255).mean())
    assert std == pytest.approx((images[:20] / 255).std())


def test_images_of_one_colour_can_be_normalised() -> None:
    for grey in (0, 102):  # of which the mean in float64 is not the value itself
        data = Digits(np.full((3, 2, 2), grey, np.uint8), np.zeros(3, np.uint8))
        mean, std = digits.mean_and_std(data, NONE)
        assert mean == pytest.approx(grey / 255)
        assert std == 1


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
    put(tmp_path, np.zeros((3, 0, 5), np.uint8), np.zeros(3, np.uint8))
    with pytest.raises(
        DigitsError, match=r"images\.npy: found the shape \(3, 0, 5\), expected no d"
    ):
        digits.load(tmp_path, "train")
    put(tmp_path, np.zeros((3, 1, 1025), np.uint8), np.zeros(3, np.uint8))
    with pytest.raises(DigitsError, match="images of 1 x 1025 pixels, expected 1024 at most"):
        digits.load(tmp_path, "train")
    put(tmp_path, np.zeros((3, 5, 6), np.uint8), np.zeros(3, np.uint8))
    (tmp_path / "train-labels.npy").write_bytes(b"\x93NUMPY garbage")
    with pytest.raises(DigitsError, match=r"train-labels\.npy: not a \.npy file"):
        digits.load(tmp_path, "train")


def test_a_label_without_a_class_is_named_with_its_file(tmp_path: Path) -> None:
    put(tmp_path, np.zeros((3, 5, 6), np.uint8), np.array([0, 1, 32], np.uint8))
    with pytest.raises(
        DigitsError, match=r"train-labels\.npy: label 32 at index 2, expected 0 to 1"
    ):
        digits.load(tmp_path, "train", 2)


def npy(header: str, data: bytes = b"\0" * 90) -> bytes:
    """A .npy file with this header."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(tmp_path: Path) -> bytes:
    np.savez(tmp_path / "x.npz", np.zeros((3, 5, 6), np.uint8))
    return (tmp_path / "x.npz").read_bytes()


FORM = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"
BROKEN = {
    "an archive": archive,
    "a pickle": lambda _: pickle.dumps(np.zeros((3, 5, 6), np.uint8)),
    "objects": lambda _: npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 5, 6), }"),
    "a negative size": lambda _: npy(FORM % "(3, -5, 6)"),
    "too large": lambda _: npy(FORM % "(3, 5, 10**9)".replace("10**9", "1000000000")),
    "overflowing": lambda _: npy(FORM % f"({2**62}, {2**62}, 6)"),
    "text for a size": lambda _: npy(FORM % "('3', 5, 6)"),
    "cut short": lambda _: npy(FORM % "(3, 5, 6)", b"\0" * 89),
    "many names": lambda _: npy(f"{{'descr': [('{'x' * 3000}', 'u1')], {FORM[17:]}" % "(3, 5, 6)"),
    "no header": lambda _: npy("{"),
    "code": lambda _: npy("__import__('os').system('true')"),
    "nested": lambda _: npy("(" * 100),
    "nothing": lambda _: b"",
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_npy_file_is_refused_in_a_line(
    tmp_path: Path, content: Callable[[Path], bytes]
) -> None:
    put(tmp_path, np.zeros((3, 5, 6), np.uint8), np.zeros(3, np.uint8))
    (tmp_path / "train-images.npy").write_bytes(content(tmp_path))
    with pytest.raises(DigitsError) as caught:
        digits.load(tmp_path, "train")
    assert "train-images.npy: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_classes_have_the_users_names_or_the_data_sets_or_numbers() -> None:
    assert datasets.class_names("mnist", 3, []) == ["0", "1", "2"]
    assert datasets.class_names("fashion_mnist", 10, [])[9] == "ankle boot"
    assert datasets.class_names("fashion_mnist", 2, []) == ["0", "1"]
    assert datasets.class_names("own", 12, [])[-1] == "11"
    assert datasets.class_names("fashion_mnist", 10, list("abcdefghij"))[9] == "j"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file; `dvc repro decode` makes it"),
        ("[", "not JSON"),
        ("{}", "found {}, expected a list of names"),
        ("[1]", "expected a list of names"),
        ('["a", ""]', "expected a list of names"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
        ('["a", "\\ud800"]', "not JSON"),
        ("[]", "found [], expected a list of 2 to 256 names that differ"),
        ('["a"]', "found ['a'], expected a list of 2 to 256 names that differ"),
        ('["a", "b", "a"]', "expected a list of 2 to 256 names that differ"),
        (f"[{', '.join(f'{n}' for n in range(5000))}]", "expected a list of names"),
        ('["a", "<b"]', "found '<b', expected names of 1 to 40 printable letters without <"),
        ('["a", "b\\n"]', "found 'b\\n', expected names of 1 to 40 printable letters without <"),
    ],
)
def test_names_that_cannot_be_read_are_told(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "class_names.json").write_text(text)
    with pytest.raises(DigitsError) as raised:
        digits.load_class_names(tmp_path)
    assert str(tmp_path / "class_names.json") in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < len(str(tmp_path)) + 300
