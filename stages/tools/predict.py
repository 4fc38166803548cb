"""Read the digits in pictures: python -m stages.tools.predict FILE...

Reads PNG, JPEG and IDX files and models/digits.safetensors; writes to standard output and, where
--explain names one, a PNG of what the network saw and the probability that it gave each class.
"""

from __future__ import annotations

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
from stages.shared.program import run
from stages.shared.report import style
from stages.tools import explanation, pictures
from stages.tools.pictures import PictureError


@dataclass(frozen=True)
class Picture:
    """An image as its file holds it."""

    file: Path
    index: int  # in the file, from 0
    pixels: NDArray[np.uint8]  # (H, W)
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
    # Files first: a wrong one is told at once, not after the seconds that Jittor takes to start.
    found = [picture for path in arguments.files for picture in load(path)]
    if arguments.explain:
        check(arguments.explain, found)
    from stages.shared.network import classifier

    trained = classifier.load(arguments.model)
    about = trained.description
    images = np.stack([fit(picture, about.image_size) for picture in found])
    probabilities = softmax(trained.logits(images).astype(np.float64), axis=1)
    readings = read(found, probabilities, about.class_names)
    if arguments.explain:
        explain(found, images, probabilities, about.class_names, arguments.explain)
    if arguments.json:
        print(json.dumps([as_json(reading) for reading in readings], indent=2))
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


def load(path: Path) -> list[Picture]:
    """Read all images of a file: one of PNG and JPEG, any number of IDX, plain or gzipped.

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
        return [Picture(path, 0, pictures.load(path), False)]
    array = idx.read(path)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        raise PictureError(
            f"{path}: {array.dtype} {array.shape}, expected images: uint8 of (N, H, W) or (H, W)"
        )
    stack = array.astype(np.uint8, copy=False).reshape(-1, *array.shape[-2:])
    return [Picture(path, index, pixels, True) for index, pixels in enumerate(stack)]


def fit(picture: Picture, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring a picture to the form that the network was trained on.

    An image out of an IDX file, of the right size and light on dark, has that form already.

    Raises:
        PictureError: the picture is blank; the message names it.
    """
    pixels = picture.pixels
    if picture.from_idx and pixels.shape == size and pictures.is_light_on_dark(pixels):
        return pixels
    try:
        return pictures.prepare(pixels, size)
    except PictureError as error:
        raise PictureError(f"{picture.file}: image {picture.index}: {error}") from None


def check(target: Path, found: list[Picture]) -> None:
    """Make sure that these pictures can be explained in `target`.

    Raises:
        PictureError: it is no name of a PNG, it is one of the pictures (the first file's name
            was forgotten, say), or there are too many of them for a figure.
    """
    if target.suffix.lower() != ".png":
        raise PictureError(f"--explain: {target}, expected a name that ends in .png")
    if target.exists() and any(target.samefile(picture.file) for picture in found):
        raise PictureError(f"--explain: {target} is one of the pictures, expected another file")
    if len(found) > explanation.MOST:
        most = explanation.MOST
        raise PictureError(f"--explain: {len(found)} pictures, expected {most} or fewer")


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
    rows = [(str(r.file), str(r.index), r.digit, f"{r.confidence:.2%}") for r in readings]
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


if __name__ == "__main__":
    run(main)
