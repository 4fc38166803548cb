"""Read the digits in pictures: python -m stages.tools.predict FILE...

Reads pictures, IDX files and models/digits.safetensors, or while there is none the network that Git
holds; writes to standard output and, where
--explain names one, a PNG of what the network saw and the probability that it gave each class.
"""

from __future__ import annotations

from stages.shared.program import UserError, in_a_line, run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import json
import math
import signal
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.special import softmax

from stages.shared import idx, model_file
from stages.shared.files import shortened
from stages.shared.model_file import Description
from stages.shared.report import style
from stages.shared.scoring import percent
from stages.tools import explanation, pictures
from stages.tools.pictures import PictureError
from stages.tools.reading import doubt, fitting, reader
from stages.tools.reading.digits import Digit

if TYPE_CHECKING:
    from stages.shared.network.classifier import Classifier

_MOST_PIXELS = 250_000_000  # of an IDX file, which is read whole; MNIST's largest has 47 million
_MOST_ERRORS = 20  # that are said, of all that is wrong with the files
_UNSURE = "unsure: not a digit, or not a clear one"


@dataclass(frozen=True)
class Picture:
    """An image in the form that the network was trained on: a whole picture, or one digit of it."""

    file: Path
    index: int  # of the image in its file, from 0
    digit: Digit
    from_idx: bool


@dataclass(frozen=True)
class Answer:
    """A picture, and what a network makes of it."""

    picture: Picture
    probabilities: NDArray[np.float64]  # (num_classes,), 0 to 1
    confidence: float  # how likely the likeliest class is right


@dataclass(frozen=True)
class Reading:
    """What the network says about one picture."""

    file: Path
    index: int  # of the image in its file
    box: tuple[int, int, int, int]  # left, top, right, bottom in the image's pixels
    digit: str
    confidence: float  # 0 to 1

    @property
    def sure(self) -> bool:
        """Whether the reading is more likely right than wrong."""
        return self.confidence >= doubt.SURE


def main() -> None:
    arguments = parse()
    # Jittor takes seconds to start: what is wrong is told before.
    description = model_file.load(arguments.model)[1]
    if arguments.explain:
        check_target(arguments.explain, arguments.files)
    found, wrong = fitted(arguments.files, description)
    if arguments.explain:
        check_count(len(found))
    if found:
        tell(found, arguments)
    if wrong:
        lines = [in_a_line(str(error)) for error in wrong[:_MOST_ERRORS]]
        if more := len(wrong) - len(lines):
            lines.append(f"{more:,} more files or images that cannot be read")
        raise PictureError("\nerror: ".join(lines))


def tell(found: list[Picture], arguments: argparse.Namespace) -> None:
    """Read pictures, and print what they are."""
    from stages.shared.network import classifier

    trained = classifier.load(arguments.model)
    class_names = trained.description.class_names
    answers = asked(found, trained)
    readings = [read(one, class_names) for one in answers]
    if arguments.explain:
        check_count(len(answers))
        explain(answers, readings, class_names, arguments.explain)
    if arguments.json:
        print(json.dumps([as_json(reading) for reading in readings], indent=2, allow_nan=False))
    else:
        show(readings, Console())


def asked(found: list[Picture], trained: Classifier) -> list[Answer]:
    """Ask a network what pictures are; one that is digits that touch becomes several."""

    def network(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.asarray(softmax(trained.logits(images).astype(np.float64), axis=1))

    # What came as it is was made like the training images; of the others it is not known.
    ready = [one.digit.pixels for one in found if one.from_idx]
    rows = iter(network(np.stack(ready)) if ready else ())
    answers = []
    for one in found:
        if one.from_idx:
            row = next(rows)
            answers.append(Answer(one, row, float(row.max())))
            continue
        for reading in reader.read_fitted(one.digit, network, trained.description):
            part = replace(one, digit=reading.digit)
            answers.append(Answer(part, reading.probabilities, reading.confidence))
    return answers


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: files (list of Path), model, explain (Path or None), json."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.predict", description="Read the digits in pictures."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=pictures.EXPECTED)
    parser.add_argument(
        "--model",
        metavar="FILE",
        type=Path,
        default=model_file.default(),
        help=f"the network to use ({model_file.PATH}; none yet: {model_file.PRETRAINED})",
    )
    parser.add_argument(
        "--explain", metavar="PNG", type=Path, help="draw what the network saw into this file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(words)


def fitted(
    files: list[Path], description: Description
) -> tuple[list[Picture], list[UserError | OSError]]:
    """All that can be read in some files, and what is wrong with the others.

    One file is in memory at a time; of each picture only what the network sees is kept. An image
    out of an IDX file, of the network's size, has its form already.
    """
    found: list[Picture] = []
    wrong: list[UserError | OSError] = []
    for path in files:
        try:
            stack, from_idx = load(path)
        except (UserError, OSError) as error:
            wrong.append(error)
            continue
        ready = from_idx and stack.shape[1:] == description.image_size
        for index, pixels in enumerate(stack):
            try:
                parts = [fitting.as_it_is(pixels)] if ready else fitting.fit(pixels, description)
            except PictureError as error:
                wrong.append(PictureError(f"{path}: image {index}: {error}"))
                continue
            found += [Picture(path, index, part, ready) for part in parts]
    return found, wrong


def load(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Read all images of a file: one of a picture, any number of IDX, plain or gzipped.

    Returns:
        uint8 (N, H, W), and whether the file is IDX.

    Raises:
        PictureError: the file is no picture, IDX of something else than uint8 images, or an image
            or all of them together have too many pixels.
        idx.IdxError: the file begins as IDX does, but is damaged.
        OSError: the file cannot be read at all.
    """
    if path.is_dir():
        raise PictureError(f"{path}: a folder, expected a file; its pictures are {path}/*")
    if not path.is_file():
        raise PictureError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    with path.open("rb") as file:
        head = file.read(3)
    # Three zeros begin a picture of another kind (AVIF, JPEG 2000): IDX has no such type.
    if head[:2] not in (b"\0\0", b"\x1f\x8b") or head == b"\0\0\0":
        return pictures.load(path)[None], False
    dtype, shape = idx.header(path)
    if dtype != np.uint8 or len(shape) not in (2, 3) or not math.prod(shape):
        raise PictureError(
            f"{path}: {dtype} {shortened(str(shape))}, expected images: uint8 of (N, H, W) or"
            " (H, W)"
        )
    pictures.check_size(str(path), shape[-1], shape[-2])
    if math.prod(shape) > _MOST_PIXELS:
        raise PictureError(
            f"{path}: {math.prod(shape):,} pixels in all, expected {_MOST_PIXELS:,} at most"
        )
    return idx.read(path).astype(np.uint8, copy=False).reshape(-1, *shape[-2:]), True


def check_target(target: Path, files: list[Path]) -> None:
    """Make sure that pictures can be explained in `target`.

    Raises:
        PictureError: it is no name of a PNG, or it is one of the files (the name of the first was
            forgotten, say).
    """
    shown = in_a_line(str(target))
    if target.suffix.lower() != ".png":
        raise PictureError(f"--explain: {shown}, expected a name that ends in .png")
    if target.exists() and any(path.exists() and target.samefile(path) for path in files):
        raise PictureError(f"--explain: {shown} is one of the pictures, expected another file")


def check_count(count: int) -> None:
    """Make sure that so many pictures can be explained.

    Raises:
        PictureError: there are too many of them for a figure.
    """
    if count > explanation.MOST:
        most = explanation.MOST
        raise PictureError(f"--explain: {count} pictures, expected {most} or fewer")


def explain(
    answers: list[Answer], readings: list[Reading], class_names: list[str], target: Path
) -> None:
    """Draw pictures, as they were brought to the network, and their probabilities.

    Args:
        answers: N pictures.
        readings: what was read in them.
        class_names: in the order of the probabilities.
        target: the PNG to write.
    """
    pictures = [answer.picture for answer in answers]
    of_file = Counter(picture.file for picture in pictures)
    count = Counter[Path]()
    names = []
    for picture, reading in zip(pictures, readings, strict=True):
        count[picture.file] += 1
        part = f"image {picture.index}" if picture.from_idx else f"digit {count[picture.file]}"
        alone = of_file[picture.file] == 1 and not picture.from_idx
        name = picture.file.name if alone else f"{picture.file.name}, {part}"
        names.append(name if reading.sure else f"{name}, unsure ({reading.confidence:.0%})")
    images = np.stack([picture.digit.pixels for picture in pictures])
    probabilities = np.stack([answer.probabilities for answer in answers])
    drawable = style.drawable(class_names)
    style.save(explanation.draw(images, probabilities, drawable, names), target)


def read(answer: Answer, class_names: list[str]) -> Reading:
    """Name the likeliest class of a picture."""
    one = answer.picture
    name = class_names[answer.probabilities.argmax()]
    return Reading(one.file, one.index, one.digit.box, name, answer.confidence)


def as_json(reading: Reading) -> dict[str, Any]:
    """A reading as JSON can hold it: file, image, box, digit, confidence to six digits, sure."""
    return {
        "file": str(reading.file),
        "image": reading.index,
        "box": list(reading.box),
        "digit": reading.digit,
        "confidence": round(reading.confidence, 6),
        "sure": reading.sure,
    }


def show(readings: list[Reading], console: Console) -> None:
    """Print a table on a terminal, else a line a picture: file, image, digit, confidence."""
    rows = [
        (
            in_a_line(str(r.file)), str(r.index), in_a_line(r.digit), percent(r.confidence),
            "" if r.sure else _UNSURE,
        )
        for r in readings
    ]  # fmt: skip
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for file, index, digit, confidence, remark in rows:
            line = (
                f"{file:{widths[0]}}  {index:>{widths[1]}}  {digit:{widths[2]}}  "
                f"{confidence:>{widths[3]}}  {remark}"
            )
            print(line.rstrip(), file=console.file)
        return
    table = Table("file", box=SIMPLE)
    table.add_column("image", justify="right")
    table.add_column("digit", style="bold")
    table.add_column("confidence", justify="right")
    table.add_column()
    for row in rows:
        table.add_row(*map(Text, row))  # Text, as a file's name may look like rich's markup
    console.print(table)


if __name__ == "__main__":
    # Where `head` has read enough the program ends as others do, without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    run(main)
