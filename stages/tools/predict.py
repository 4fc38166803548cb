"""Read the digits in pictures: python -m stages.tools.predict FILE...

Reads PNG, JPEG and IDX files and models/digits.safetensors; writes to standard output and, where
--explain names one, a PNG of what the network saw and the probability that it gave each class.
"""

from __future__ import annotations

from stages.shared.program import UserError, run, visible

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.special import softmax

from stages.shared import idx, model_file
from stages.shared.report import style
from stages.tools import explanation, pictures
from stages.tools.pictures import PictureError


@dataclass(frozen=True)
class Picture:
    """An image in the form that the network was trained on."""

    file: Path
    index: int  # in the file, from 0
    pixels: NDArray[np.uint8]  # (H, W), of the network's size
    from_idx: bool


@dataclass(frozen=True)
class Reading:
    """What the network says about one picture."""

    file: Path
    index: int  # of the image in its file
    digit: str
    confidence: float  # 0 to 1


def main() -> None:
    arguments = parse()
    # Jittor takes seconds to start: what is wrong is told before.
    size = model_file.load(arguments.model)[1].image_size
    if arguments.explain:
        check_target(arguments.explain, arguments.files)
    found, wrong = fitted(arguments.files, size)
    if arguments.explain:
        check_count(len(found))
    if found:
        tell(found, arguments)
    if wrong:
        raise PictureError("\nerror: ".join(map(str, wrong)))


def tell(found: list[Picture], arguments: argparse.Namespace) -> None:
    """Read pictures, and print what they are."""
    from stages.shared.network import classifier

    trained = classifier.load(arguments.model)
    class_names = trained.description.class_names
    images = np.stack([picture.pixels for picture in found])
    probabilities = softmax(trained.logits(images).astype(np.float64), axis=1)
    readings = read(found, probabilities, class_names)
    if arguments.explain:
        explain(found, images, probabilities, class_names, arguments.explain)
    if arguments.json:
        print(json.dumps([as_json(reading) for reading in readings], indent=2, allow_nan=False))
    else:
        show(readings, Console())


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: files (list of Path), model, explain (Path or None), json."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.predict", description="Read the digits in pictures."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="PNG, JPEG or IDX")
    parser.add_argument(
        "--model",
        metavar="FILE",
        type=Path,
        default=model_file.PATH,
        help=f"the network to use ({model_file.PATH})",
    )
    parser.add_argument(
        "--explain", metavar="PNG", type=Path, help="draw what the network saw into this file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(words)


def fitted(
    files: list[Path], size: tuple[int, int]
) -> tuple[list[Picture], list[UserError | OSError]]:
    """All pictures of some files, and what is wrong with the others.

    One file is in memory at a time; of each picture only what the network sees is kept.
    """
    found: list[Picture] = []
    wrong: list[UserError | OSError] = []
    for path in files:
        try:
            stack, from_idx = load(path)
        except (UserError, OSError) as error:
            wrong.append(error)
            continue
        for index, pixels in enumerate(stack):
            try:
                found.append(Picture(path, index, fit(pixels, from_idx, size), from_idx))
            except PictureError as error:
                wrong.append(PictureError(f"{path}: image {index}: {error}"))
    return found, wrong


def load(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Read all images of a file: one of PNG and JPEG, any number of IDX, plain or gzipped.

    Returns:
        uint8 (N, H, W), and whether the file is IDX.

    Raises:
        PictureError: the file is no picture, or IDX of something else than uint8 images.
        idx.IdxError: the file begins as IDX does, but is damaged.
        OSError: the file cannot be read at all.
    """
    if not path.is_file():
        raise PictureError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    with path.open("rb") as file:
        is_idx = file.read(2) in (b"\0\0", b"\x1f\x8b")
    if not is_idx:
        return pictures.load(path)[None], False
    array = idx.read(path)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        raise PictureError(
            f"{path}: {array.dtype} {array.shape}, expected images: uint8 of (N, H, W) or (H, W)"
        )
    return array.astype(np.uint8, copy=False).reshape(-1, *array.shape[-2:]), True


def fit(pixels: NDArray[np.uint8], from_idx: bool, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a picture to the form that the network was trained on.

    An image out of an IDX file, of the right size and light on dark, has that form already.

    Args:
        pixels: uint8 (H, W).
        from_idx: whether it is out of an IDX file.
        size: height and width that the network wants.

    Raises:
        PictureError: the picture is blank.
    """
    if from_idx and pixels.shape == size and pictures.is_light_on_dark(pixels):
        pictures.check_contrast(pixels)
        return pixels.copy()  # its file's other images need not stay
    return pictures.prepare(pixels, size)


def check_target(target: Path, files: list[Path]) -> None:
    """Make sure that pictures can be explained in `target`.

    Raises:
        PictureError: it is no name of a PNG, or it is one of the files (the name of the first was
            forgotten, say).
    """
    if target.suffix.lower() != ".png":
        raise PictureError(f"--explain: {target}, expected a name that ends in .png")
    if target.exists() and any(path.exists() and target.samefile(path) for path in files):
        raise PictureError(f"--explain: {target} is one of the pictures, expected another file")


def check_count(count: int) -> None:
    """Make sure that so many pictures can be explained.

    Raises:
        PictureError: there are too many of them for a figure.
    """
    if count > explanation.MOST:
        most = explanation.MOST
        raise PictureError(f"--explain: {count} pictures, expected {most} or fewer")


def explain(
    found: list[Picture],
    images: NDArray[np.uint8],
    probabilities: NDArray[np.float64],
    class_names: list[str],
    target: Path,
) -> None:
    """Draw N pictures, as `fit` brought them to the network, and their probabilities.

    Args:
        found: N pictures.
        images: uint8 (N, H, W).
        probabilities: float64 (N, num_classes), 0 to 1.
        class_names: in the order of the columns.
        target: the PNG to write.
    """
    names = [f"{p.file.name}, image {p.index}" if p.from_idx else p.file.name for p in found]
    style.save(explanation.draw(images, probabilities, class_names, names), target)


def read(
    found: list[Picture], probabilities: NDArray[np.float64], class_names: list[str]
) -> list[Reading]:
    """Name the likeliest class of each picture.

    Args:
        found: N pictures.
        probabilities: float64 (N, num_classes), 0 to 1.
        class_names: in the order of the columns.
    """
    return [
        Reading(picture.file, picture.index, class_names[row.argmax()], float(row.max()))
        for picture, row in zip(found, probabilities, strict=True)
    ]


def as_json(reading: Reading) -> dict[str, Any]:
    """A reading as JSON can hold it: file, image, digit, confidence to six digits."""
    return {
        "file": str(reading.file),
        "image": reading.index,
        "digit": reading.digit,
        "confidence": round(reading.confidence, 6),
    }


def show(readings: list[Reading], console: Console) -> None:
    """Print a table on a terminal, else a line a picture: file, image, digit, confidence."""
    rows = [
        (in_a_line(str(r.file)), str(r.index), in_a_line(r.digit), f"{r.confidence:.2%}")
        for r in readings
    ]
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for file, index, digit, confidence in rows:
            print(
                f"{file:{widths[0]}}  {index:>{widths[1]}}  {digit:{widths[2]}}  "
                f"{confidence:>{widths[3]}}",
                file=console.file,
            )
        return
    table = Table("file", box=SIMPLE)
    table.add_column("image", justify="right")
    table.add_column("digit", style="bold")
    table.add_column("confidence", justify="right")
    for row in rows:
        table.add_row(*map(Text, row))  # Text, as a file's name may look like rich's markup
    console.print(table)


def in_a_line(text: str) -> str:
    """A file's or a class's name, of which no letter steers the terminal or ends the line."""
    return visible(text).replace("\n", "\\n")


if __name__ == "__main__":
    run(main)
