"""Hostile pictures: read, or refused in a line, by `predict` and as somebody's own images."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
from PIL import ExifTags, Image, ImageDraw

from stages.shared import idx, own
from stages.shared.datasets import IDX_FILES
from stages.shared.model_file import Description
from stages.tools import predict
from tests.faults.trial import Trial, judged, mutated

WHAT = "hostile pictures"
WHOLE, SHORT = 1_000, 100

_OF_DIGITS = Description(
    network="compact", image_size=(28, 28), mean=0.13, std=0.3, held_out=0, params={}, versions={},
    class_names=[str(digit) for digit in range(10)],
)  # fmt: skip
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "CMYK", "F")


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    ways: list[Callable[[Random, Path], str]] = [_odd, _odd, _damaged, _damaged, _strange]
    for number in range(count):
        path = folder / f"{number}.png"
        what = rng.choice(ways)(rng, path)
        seen = judged(what, lambda p=path: _read_or_refused(p))  # type: ignore[misc]
        made = judged(f"own {what}", lambda p=path: _made_or_refused(p))  # type: ignore[misc]
        yield made if seen.ended == "survived" else seen
        path.unlink()


def _read_or_refused(path: Path) -> bool:
    found, wrong = predict.fitted([path], _OF_DIGITS)
    for error in wrong:
        raise error
    return all(picture.digit.pixels.shape == (28, 28) for picture in found)


def _made_or_refused(path: Path) -> bool:
    """Make IDX files of a folder of two classes, in which each picture is this one."""
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        for part in ("train/1", "train/2", "test/1", "test/2"):
            (folder / part).mkdir(parents=True)
            (folder / part / path.name).symlink_to(path)
        found = own.pictures(name)
        assert found
        own.write(found, folder)
        images = idx.read(folder / IDX_FILES[0])
        return (
            images.dtype == np.uint8 and len(images) == 2 and bool((images[0] == images[1]).all())
        )


def _drawn(rng: Random, mode: str, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("L", size, rng.randrange(256))
    box = (size[0] // 4, size[1] // 4, max(size[0] // 2, 1), max(size[1] * 3 // 4, 1))
    if box[0] <= box[2] and box[1] <= box[3]:
        ImageDraw.Draw(picture).rectangle(box, fill=rng.randrange(256))
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture).astype(np.uint16) << 8)
    return picture.convert(mode)


def _odd(rng: Random, path: Path) -> str:
    """A whole picture of a strange mode, size or kind."""
    mode = rng.choice(_MODES)
    size = rng.choice([(1, 1), (1, 300), (300, 1), (28, 28), (3000, 20), (90, 70), (2, 2)])
    kind = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
    picture = _drawn(rng, mode, size)
    try:
        picture.save(path, kind)
    except (OSError, ValueError):  # the kind has no such mode
        picture.convert("L").save(path, kind)
    return f"{kind} {mode} {size}"


def _damaged(rng: Random, path: Path) -> str:
    """A picture that a camera turned, with changed bytes."""
    kind = rng.choice(["PNG", "JPEG", "WEBP"])
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = rng.randint(1, 8)
    _drawn(rng, rng.choice(["L", "RGB"]), (40, 50)).save(stream, kind, exif=exif)
    path.write_bytes(mutated(rng, stream.getvalue()))
    return f"{kind} with changed bytes"


def _strange(rng: Random, path: Path) -> str:
    """Something else under a picture's name."""
    way = rng.randrange(6)
    if way == 0:
        os.mkfifo(path)
        return "a pipe"
    contents = {
        1: b"",
        2: b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        3: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\0\0\0\0",
        4: b"\0\0\x08\x03" + b"\xff" * 12,
        5: rng.randbytes(200),
    }
    path.write_bytes(contents[way])
    return f"no picture {way}"
