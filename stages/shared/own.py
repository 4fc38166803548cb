"""The user's own images: how many they are, and a folder of pictures made into IDX files.

The pictures of a class lie in a folder of its name, CLASS/FILE.png; or such folders lie in train/
and in test/, where it matters which picture is for what.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.shared import digits, idx
from stages.shared.datasets import IDX_FILES
from stages.shared.params import MOST_CLASSES, NAMEABLE, SMALLEST, is_class_name
from stages.shared.program import UserError, in_a_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")  # whatever the name says; no other reader
EVERY = 7  # of a class's pictures, by name, this one is for the test: MNIST has 60,000 and 10,000
_PARTS = ("train", "test")


class OwnError(UserError):
    """A folder of pictures that is no data set, said in one line whatever a file is called."""

    def __init__(self, said: str) -> None:
        super().__init__(in_a_line(said))


class Pictures(NamedTuple):
    """The pictures in a folder: their files and labels."""

    class_names: list[str]  # in the order of the labels
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]


def pictures(source: str) -> Pictures | None:
    """Find the pictures in a folder.

    Args:
        source: as in `download.sources`.

    Returns:
        What there is, by name, or by number where every name is one; None where it is no folder
        with folders in it, or has IDX files.

    Raises:
        OwnError: a class has no picture or holds something else, a picture is in no class or
            beside IDX files, none is left for the test, there are too many classes, or a name is
            not UTF-8 or holds what no class may be called by.
        OSError: a folder cannot be read.
    """
    folder = Path(source)
    if not folder.is_dir():
        return None
    if any(path.name.startswith(IDX_FILES) for path in folder.iterdir()):
        for name in _folders(folder):
            if _holds_pictures(folder / name):
                raise OwnError(f"{folder}: holds IDX files and pictures in {name}, expected either")
        return None
    stray = [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
    if stray:
        raise OwnError(f"{min(stray)}: a picture of no class, expected it in a folder of its class")
    names = _folders(folder)
    if not names:
        return None
    if len(names) == 1 and names[0] in _PARTS:
        raise OwnError(f"{folder}: a folder {names[0]} alone, expected {' and '.join(_PARTS)}")
    if names == sorted(_PARTS):
        names = _folders(folder / "train")
        train, test = (_labelled(folder / part, names) for part in _PARTS)
        unknown = set(_folders(folder / "test")) - set(names)
        if unknown:
            raise OwnError(f"{folder / 'test' / min(unknown)}: a class that train/ does not have")
    else:
        each = [_labelled(folder, [name], label) for label, name in enumerate(names)]
        test = [one for pictures in each for one in pictures[EVERY - 1 :: EVERY]]
        kept = {path for path, _ in test}
        train = [one for pictures in each for one in pictures if one[0] not in kept]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise OwnError(f"{folder / name}: expected a name in UTF-8") from None
        if not is_class_name(name):
            raise OwnError(f"{folder / name}: a class, expected a name of {NAMEABLE}")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise OwnError(
            f"{folder}: folders of {len(names)} class(es), expected of 2 to {MOST_CLASSES}"
        )
    if not test:
        raise OwnError(
            f"{folder}: no picture for the test, expected {EVERY} or more of a class, the last of"
            " which is, or folders train and test"
        )
    return Pictures(names, train, test)


def write(found: Pictures, folder: Path) -> None:
    """Write pictures as the four IDX files, and the names of their classes beside them.

    Args:
        found: as `pictures` gives it. Transparent parts become white paper; colours become grey.
        folder: made if it is not there.

    Raises:
        OwnError: a file is no whole picture of 8 bits, or its size is not that of the first.
        OSError: a file cannot be read, or the folder not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = _grey(found.train[0][0]).shape
    for part, (images, labels) in zip(
        (found.train, found.test), (IDX_FILES[:2], IDX_FILES[2:]), strict=True
    ):
        stack = np.empty((len(part), *size), np.uint8)
        for index, (path, _) in enumerate(part):
            grey = _grey(path)
            if grey.shape != size:
                raise OwnError(
                    f"{path}: {_in_words(grey.shape)} pixels, expected {_in_words(size)} as"
                    f" {found.train[0][0]} has"
                )
            stack[index] = grey
        idx.write(folder / images, stack)
        idx.write(folder / labels, np.array([label for _, label in part], np.uint8))
    digits.save_class_names(folder, found.class_names)


def check_classes(class_names: list[str], num_classes: int) -> None:
    """Make sure that there are as many classes as params.yaml says.

    Raises:
        OwnError: there are more or fewer.
    """
    if len(class_names) != num_classes:
        shown = ", ".join(class_names[:10]) + ("..." if len(class_names) > 10 else "")
        raise OwnError(
            f"params.yaml: decode.num_classes is {num_classes}, expected {len(class_names)}, as"
            f" there are folders for {shown}"
        )


def check(source: str, network: str, num_classes: int) -> int | None:
    """Make sure that a network can be trained on what a source holds, as far as that is cheap.

    Of pictures the first is opened; of IDX files the headers and the labels are read.

    Args:
        source: as in `download.sources`.
        network: a key of `params.SMALLEST`.
        num_classes: labels must run from 0 to `num_classes` - 1.

    Returns:
        How many images there are to train on; None where that cannot be known yet.

    Raises:
        OwnError: there are other classes, or the images are too small for the network.
        digits.DigitsError, idx.IdxError: they are no data set.
        OSError: a file cannot be read.
    """
    if found := pictures(source):
        check_classes(found.class_names, num_classes)
        path, size = found.train[0][0], _grey(found.train[0][0]).shape
        images = len(found.train)
    elif files := _idx_files(source):
        headers = [idx.header(path) for path in files]
        digits.check_headers(dict(zip(files, headers, strict=True)))
        for path in files:
            idx.check_length(path)
        for labels in files[1::2]:
            digits.check_labels(labels, idx.read(labels), num_classes)
        path, shape = files[0], headers[0][1]
        images, size = shape[0], shape[1:]
    else:
        return None
    if min(size) < SMALLEST[network]:
        raise OwnError(
            f"{path}: {_in_words(size)} pixels, expected {SMALLEST[network]} or more on a side, as"
            f" train.network is {network}"
        )
    return images


def _idx_files(source: str) -> list[Path]:
    """The four IDX files of a folder, each plain or gzipped; none where it has none of them.

    Raises:
        OwnError: one is missing, or there twice.
    """
    forms = {name: (Path(source, f"{name}.gz"), Path(source, name)) for name in IDX_FILES}
    found = {name: [path for path in either if path.exists()] for name, either in forms.items()}
    if not any(found.values()):
        return []
    for name, there in found.items():
        if not there:
            raise OwnError(f"{source}: holds neither {name}.gz nor {name}, expected all four")
        if len(there) > 1:
            raise OwnError(f"{source}: holds both {name}.gz and {name}, expected one of them")
    return [path for (path,) in found.values()]


def _labelled(folder: Path, names: Iterable[str], first: int = 0) -> list[tuple[Path, int]]:
    """The pictures of some classes, by class and name."""
    found = []
    for label, name in enumerate(names, start=first):
        files = sorted(path for path in _visible(folder / name))
        if not files:
            raise OwnError(f"{folder / name}: no picture, expected one or more")
        for path in files:
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                raise OwnError(f"{path}: expected nothing but pictures: {', '.join(SUFFIXES)}")
            found.append((path, label))
    return found


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder; numbers are sorted as such."""
    names = sorted(path.name for path in _visible(folder) if path.is_dir())
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in names):
        names.sort(key=int)
    return names


def _holds_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in _visible(folder))


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, but for what systems hide there; nothing if it is not there."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _grey(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 (H, W)."""
    from PIL import Image, ImageOps  # not needed to count

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if max(picture.size) > digits.LONGEST:
                raise OwnError(
                    f"{path}: {picture.height} x {picture.width} pixels, expected"
                    f" {digits.LONGEST} at most on a side"
                )
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:
                paper = Image.new("RGBA", upright.size, "white")
                paper.alpha_composite(upright.convert("RGBA"))
                upright = paper
            if upright.mode not in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
                raise OwnError(f"{path}: pixels of the kind {upright.mode}, expected 8 bits each")
            return np.asarray(upright.convert("L"))
    except UserError:
        raise
    # Pillow's readers raise what their parsers stumble over: a damaged file has many ways.
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise OwnError(f"{path}: not a whole picture") from None


def _in_words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
