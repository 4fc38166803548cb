"""A folder of pictures as a data set, and parameters that do not fit what there is."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import check, decode, download
from stages.shared import datasets, digits, files, idx, own
from stages.shared.program import UserError
from tests.conftest import TOP, Repository

CLASSES = ["circle", "square", "star"]
PARTS = ("train/", "test/")


def paint(path: Path, seed: int, size: tuple[int, int] = (9, 8)) -> np.ndarray:
    """Write a picture of that height and width, and give its pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def params(**values: object) -> None:
    tree = yaml.safe_load((TOP / "params.yaml").read_text())
    tree["download"] = {"dataset": "own", "sources": ["mine"]}
    tree["decode"]["num_classes"] = 3
    tree["train"]["validation_images"] = 2
    for key, value in values.items():
        block, _, name = key.partition("__")
        tree[block][name] = value
    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 8 pictures of each class, and params.yaml beside it that names it."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(CLASSES):
        for index in range(8):
            paint(Path("mine") / name / f"{index}.png", 10 * number + index)
    params()
    return Path("mine")


def test_a_folder_for_each_class_becomes_a_data_set(mine: Path) -> None:
    (mine / "README.md").write_text("about them")
    (mine / "star/.DS_Store").touch()
    check.main()
    download.main()
    decode.main()
    assert digits.load_class_names(digits.FOLDER) == CLASSES
    train, test = (digits.load(digits.FOLDER, part) for part in ("train", "test"))
    # The seventh of each eight is for the test.
    assert test.labels.tolist() == [0, 1, 2]
    assert train.labels.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    for label, name in enumerate(CLASSES):
        drawn = [np.asarray(Image.open(mine / name / f"{index}.png")) for index in range(8)]
        assert np.array_equal(test.images[label], drawn.pop(6))
        assert np.array_equal(train.images[train.labels == label], drawn)


def test_a_name_does_not_steer_the_terminal(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.rename("\x1b[2J\nmine")
    params(download__sources=["\x1b[2J\nmine"])
    download.main()
    assert capsys.readouterr().out.endswith(r"3 classes from \x1b[2J\nmine" + "\n")


def test_train_and_test_can_be_told_apart(mine: Path) -> None:
    shutil.rmtree(mine)
    drawn = {part: paint(mine / f"{part}{name}/1.png", n) for n, part in enumerate(PARTS)
             for name in CLASSES[:2]}  # fmt: skip
    params(decode__num_classes=2, train__validation_images=1)
    check.main()
    download.main()
    decode.main()
    for part in PARTS:
        found = digits.load(digits.FOLDER, part.removesuffix("/"))
        assert found.labels.tolist() == [0, 1]
        assert np.array_equal(found.images[1], drawn[part])


def test_names_in_the_parameters_come_first(mine: Path) -> None:
    params(decode__class_names=["o", "#", "*"])
    download.main()
    decode.main()
    assert digits.load_class_names(digits.FOLDER) == ["o", "#", "*"]
    # And the names of pictures that are gone do not outlive them.
    shutil.rmtree(mine)
    mine.mkdir()
    for name, array in zip(
        datasets.IDX_FILES, [np.zeros((3, 4, 5), np.uint8), np.arange(3, dtype=np.uint8)] * 2,
        strict=True,
    ):  # fmt: skip
        idx.write(mine / name, array)
    params()
    download.main()
    decode.main()
    assert digits.load_class_names(digits.FOLDER) == ["0", "1", "2"]


def test_colour_and_transparency_become_grey_on_white(mine: Path) -> None:
    ink = np.zeros((9, 8, 4), np.uint8)
    ink[4, 3] = [255, 0, 0, 255]
    Image.fromarray(ink, "RGBA").save(mine / "circle/0.png")
    download.main()
    grey = idx.read(datasets.RAW / datasets.IDX_FILES[0])[0]
    assert grey[4, 3] == 76  # of red, by ITU-R 601
    assert (np.delete(grey.ravel(), 4 * 8 + 3) == 255).all()


def remove(*paths: Path) -> None:
    for path in paths:
        files.remove(path)


def flatten(mine: Path) -> None:
    shutil.copy(mine / "star/1.png", mine)
    remove(mine / "circle", mine / "square", mine / "star")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "other size": (
        lambda mine: paint(mine / "square/3.png", 0, (9, 7)),
        "square/3.png: 9 x 7 pixels, expected 9 x 8 as mine/circle/0.png has",
    ),
    "no picture": (
        lambda mine: (mine / "square/3.png").write_text("<html>"),
        "square/3.png: not a whole picture",
    ),
    "another format": (
        lambda mine: Image.new("L", (8, 9)).save(mine / "square/3.png", format="EPS"),
        "square/3.png: not a whole picture",
    ),
    "cut short": (
        lambda mine: (mine / "square/3.png").write_bytes((mine / "star/1.png").read_bytes()[:90]),
        "square/3.png: not a whole picture",
    ),
    "a camera's marks, cut short": (
        lambda mine: Image.new("L", (8, 9)).save(
            mine / "square/3.png", format="WEBP", exif=b"Exif\0\0II*\0"
        ),
        "square/3.png: not a whole picture",
    ),
    "16 bits": (
        lambda mine: Image.fromarray(np.zeros((9, 8), np.uint16)).save(mine / "square/3.png"),
        "square/3.png: pixels of the kind I;16, expected 8 bits each",
    ),
    "too large": (
        lambda mine: Image.new("L", (2000, 1)).save(mine / "square/3.png"),
        "square/3.png: 1 x 2000 pixels, expected 1024 at most on a side",
    ),
    "a name that steers": (
        lambda mine: (mine / "square/\x1b[2J\nerror: 3.txt").touch(),
        r"square/\x1b[2J\nerror: 3.txt: expected nothing but pictures: .png, ",
    ),
    "a class that a page would take for code": (
        lambda mine: (mine / "star").rename(mine / "<star"),
        "mine/<star: a class, expected a name of 1 to 40 printable letters without <",
    ),
    "a name without end": (
        lambda mine: (mine / "star").rename(mine / ("star" * 11)),
        "mine/starstarstarstarstarstarstarstarstarstarstar: a class, expected a name of 1 to 40",
    ),
    "IDX beside them": (
        lambda mine: (mine / f"{datasets.IDX_FILES[3]}.gz").touch(),
        "mine: holds IDX files and pictures in circle, expected either",
    ),
    "nothing to test": (
        lambda mine: [shutil.move(mine, "all"), shutil.copytree("all", mine / "train")],
        "mine: a folder train alone, expected train and test",
    ),
    "more classes than a label can tell": (
        lambda mine: [paint(mine / f"{n}/1.png", n) for n in range(254)],
        "mine: folders of 257 class(es), expected of 2 to 256",
    ),
    "a text": (
        lambda mine: (mine / "square/notes.txt").touch(),
        "square/notes.txt: expected nothing but pictures: .png, ",
    ),
    "one beside the folders": (
        lambda mine: shutil.copy(mine / "star/1.png", mine),
        "mine/1.png: a picture of no class, expected it in a folder of its class",
    ),
    "all in one folder": (
        flatten,
        "mine/1.png: a picture of no class, expected it in a folder of its class",
    ),
    "no text": (
        lambda mine: (mine / "star").rename(mine / os.fsdecode(b"caf\xe9")),
        r"mine/caf\udce9: expected a name in UTF-8",
    ),
    "empty": (lambda mine: (mine / "triangle").mkdir(), "triangle: no picture, expected one"),
    "few": (
        lambda mine: remove(*mine.glob("*/[01].png")),
        "mine: no picture for the test, expected 7 or more of a class",
    ),
    "one class": (
        lambda mine: remove(mine / "square", mine / "star"),
        "mine: folders of 1 class(es), expected of 2 to 256",
    ),
    "a class to test alone": (
        lambda mine: [
            shutil.move(mine, "all"),
            shutil.copytree("all", mine / "train"),
            shutil.copytree("all", mine / "test"),
            paint(mine / "test/blob/1.png", 0),
        ],
        "test/blob: a class that train/ does not have",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_folder_is_named(mine: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(mine)
    with pytest.raises(UserError) as raised:
        download.main()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_other_classes_than_the_parameters_say_are_told_at_once(mine: Path) -> None:
    params(decode__num_classes=10)
    said = "decode.num_classes is 10, expected 3, as there are folders for circle, square, star"
    with pytest.raises(UserError, match=said):
        check.main()
    download.main()
    with pytest.raises(UserError, match=said):
        decode.main()
    assert mine.exists()


def test_folders_that_are_numbers_are_sorted_as_numbers(mine: Path) -> None:
    shutil.rmtree(mine)
    for number in range(12):
        paint(mine / f"{number}/1.png", number)
    paint(mine / "0/7.png", 0)
    for index in range(7):
        paint(mine / f"0/{index}.png", 0)
    found = own.pictures("mine")
    assert found is not None
    assert found.class_names == [str(number) for number in range(12)]
    (mine / "x").mkdir()
    paint(mine / "x/1.png", 0)
    found = own.pictures("mine")
    assert found is not None
    assert found.class_names[:3] == ["0", "1", "10"]


def write_idx(mine: Path, zipped: bool, **arrays: np.ndarray) -> None:
    """50 images to train on and 7 to test with, in place of what is there; or others."""
    files.remove(mine)
    mine.mkdir()
    stored = {
        "train_images": np.zeros((50, 9, 8), np.uint8),
        "train_labels": np.zeros(50, np.uint8),
        "test_images": np.zeros((7, 9, 8), np.uint8),
        "test_labels": np.zeros(7, np.uint8),
    } | arrays
    for name, array in zip(datasets.IDX_FILES, stored.values(), strict=True):
        path = mine / name
        idx.write(path, array)
        if zipped:
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()


IDX_FAULTS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "too small for the network": (
        {
            name: np.zeros((n, 9, 7), np.uint8)
            for name, n in [("train_images", 50), ("test_images", 7)]
        },
        "9 x 7 pixels, expected 8 or more on a side, as train.network is tutorial",
    ),
    "too large": (
        {"train_images": np.zeros((50, 9, 1025), np.uint8)},
        "images of 9 x 1025 pixels, expected 1024 at most on a side",
    ),
    "other sizes": (
        {"test_images": np.zeros((7, 9, 9), np.uint8)},
        r"images of \(9, 9\), expected \(9, 8\) as in the training set",
    ),
    "too few labels": (
        {"test_labels": np.zeros(6, np.uint8)},
        "6 labels, expected one for 7 images",
    ),
    "a label too large": (
        {"test_labels": np.array([0, 1, 2, 3, 2, 1, 0], np.uint8)},
        "label 3 at index 3, expected 0 to 2",
    ),
    "other numbers": ({"train_labels": np.zeros(50, np.int16)}, "int16 of .*expected uint8"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("fault", IDX_FAULTS)
def test_idx_files_that_cannot_be_trained_on_are_told_before_anything_is_removed(
    mine: Path, fault: str, zipped: bool
) -> None:
    arrays, said = IDX_FAULTS[fault]
    write_idx(mine, zipped, **arrays)
    with pytest.raises(UserError, match=f"mine/.*{said}"):
        check.main()


@pytest.mark.usefixtures("mine")
def test_pictures_too_small_for_the_network_are_told_before_anything_is_removed() -> None:
    params(train__network="compact")
    said = "mine/circle/0.png: 9 x 8 pixels, expected 11 or more on a side, as train.network is co"
    with pytest.raises(UserError, match=said):
        check.main()


@pytest.mark.parametrize("name", datasets.IDX_FILES)
@pytest.mark.parametrize("by", [-1, 1])
def test_an_idx_file_of_another_length_is_told_before_anything_is_removed(
    mine: Path, name: str, by: int
) -> None:
    write_idx(mine, zipped=False)
    whole = (mine / name).read_bytes()
    (mine / name).write_bytes(whole[:by] if by < 0 else whole + b"\0")
    said = f"{name}: {len(whole) + by} bytes, expected {len(whole)} as its header says"
    with pytest.raises(UserError, match=said):
        check.main()


def test_idx_files_are_four_and_each_is_there_once(mine: Path) -> None:
    write_idx(mine, zipped=False)
    check.main()
    name = datasets.IDX_FILES[2]
    (mine / name).rename(mine / f"{name}.gz")
    check.main()  # whatever it is called
    (mine / name).touch()
    with pytest.raises(UserError, match=f"mine: holds both {name}.gz and {name}, expected one"):
        check.main()
    (mine / name).unlink()
    (mine / f"{name}.gz").unlink()
    with pytest.raises(UserError, match=f"mine: holds neither {name}.gz nor {name}, expected all"):
        check.main()


def test_a_set_too_small_for_validation_is_told_before_it_is_fetched(mine: Path) -> None:
    def refused(held_out: int, words: str, **values: object) -> None:
        params(train__validation_images=held_out, **values)
        said = f"train.validation_images is {held_out}, expected fewer than the {words}"
        with pytest.raises(UserError, match=said):
            check.main()
        params(train__validation_images=held_out - 1, **values)
        check.main()

    refused(21, "21 training images of mine")
    for zipped in (False, True):
        write_idx(mine, zipped)
        refused(50, "50 training images of mine")
    refused(60_000, "60000 training images of MNIST", download__dataset="mnist")
    # Nothing is known of it, so nothing is said.
    shutil.rmtree(mine)
    mine.mkdir()
    assert own.check("mine", "compact", 3) is None
    params(train__validation_images=70_000)
    check.main()


@pytest.mark.usefixtures("mine")
def test_images_in_a_folder_that_nobody_watches_are_refused() -> None:
    Path("empty").mkdir()
    params(download__sources=["empty", "http://127.0.0.1:9/", "mine"])
    said = r"download\.sources\.2 is 'mine', expected own images in the first source"
    with pytest.raises(UserError, match=said):
        check.main()
    # What is published is known by its SHA-256, wherever it lies.
    params(download__sources=["empty", "mine"], download__dataset="mnist")
    check.main()


@pytest.mark.slow
def test_a_picture_that_changes_in_its_folder_is_read_again(
    make_repository: Callable[[], Repository],
) -> None:
    repository = make_repository()
    folder = repository.path / "data/own"
    for number, name in enumerate(CLASSES):
        for index in range(8):
            paint(folder / f"{name}/{index}.png", 10 * number + index, (11, 12))
    repository.set(
        download__sources=["data/own"], decode__num_classes=3, train__validation_images=2
    )
    repository.run("dvc", "repro", "decode")
    assert repository.run("git", "status", "--porcelain", "data").stdout == ""
    drawn = paint(folder / "circle/0.png", 99, (11, 12))
    said = repository.run("dvc", "repro", "decode").stdout
    assert "Running stage 'decode'" in said
    found = digits.load(repository.path / digits.FOLDER, "train")
    assert np.array_equal(found.images[0], drawn)
