"""Pictures brought to the form that a network was trained on, by what its file says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.shared.datasets import DATASETS
from stages.shared.model_file import Description
from stages.tools.pictures import PictureError
from stages.tools.reading import digits
from stages.tools.reading.digits import Digit

_CLOTHES = DATASETS["fashion_mnist"].class_names
_LEAST_CONTRAST = 24  # grey levels between ink and paper, above the noise of a blank photo
_TURNED = 0.7  # of the border that is not as the training images' paper: dark and light change
_TRIMMED = 12  # what is fewer grey levels from the paper is cut off round a piece of clothing


def reads_digits(description: Description) -> bool:
    """Whether a network was trained on digits, as the names of its classes say."""
    return description.class_names == [str(digit) for digit in range(10)]


def as_it_is(pixels: NDArray[np.uint8]) -> Digit:
    """An image that has the network's form already: it came out of an IDX file of that size.

    Raises:
        PictureError: it is blank.
    """
    if np.ptp(pixels.astype(np.int64)) < _LEAST_CONTRAST:
        raise blank(pixels)
    # A copy, so that its file's other images need not stay.
    return Digit((0, 0, pixels.shape[1], pixels.shape[0]), pixels.copy())


def fit(pixels: NDArray[np.uint8], description: Description) -> Sequence[Digit]:
    """Bring what is on a picture to the form that a network was trained on.

    For a network of digits each digit is found and brought to the form of MNIST. For any other the
    picture is taken whole, scaled with its paper round it; Fashion-MNIST's are trimmed first and
    fill the image, as theirs were made (Xiao, Rasul and Vollgraf, 2017, section 2). Light on dark
    or dark on light, it becomes as the training images are on average.

    Args:
        pixels: uint8 (H, W), of any size.
        description: of the network.

    Raises:
        PictureError: the picture is blank.
    """
    if np.ptp(pixels.astype(np.int64)) < _LEAST_CONTRAST:
        raise blank(pixels)
    size = description.image_size
    is_dark = description.mean < 0.5
    if reads_digits(description):
        found = digits.read(pixels, size)
        if not found:
            raise blank(pixels)
        return found if is_dark else [one.negative for one in found]
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    # An object may touch the border here and there; most of it is paper.
    if float(np.mean((border < 128) != is_dark)) > _TURNED:
        pixels, border = ~pixels, ~border
    paper = int(np.median(border))
    left, top, right, bottom = 0, 0, pixels.shape[1], pixels.shape[0]
    if pixels.shape != size and tuple(description.class_names) == _CLOTHES:
        stands_out = np.abs(pixels.astype(np.int64) - paper) >= _TRIMMED
        rows, columns = (np.flatnonzero(stands_out.any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    inside = pixels[top:bottom, left:right]
    box = (int(left), int(top), int(right), int(bottom))
    return [Digit(box, _scaled(inside, size, paper))]


def _scaled(pixels: NDArray[np.uint8], size: tuple[int, int], paper: int) -> NDArray[np.uint8]:
    """A picture as large as `size` lets it be, in the middle of its paper."""
    scale = min(new / old for new, old in zip(size, pixels.shape, strict=True))
    high, wide = (max(1, round(scale * side)) for side in pixels.shape)
    result = np.full(size, paper, np.uint8)
    top, left = (size[0] - high) // 2, (size[1] - wide) // 2
    small = Image.fromarray(pixels).resize((wide, high), Image.Resampling.LANCZOS)
    result[top : top + high, left : left + wide] = np.asarray(small)
    return result


def blank(pixels: NDArray[np.uint8]) -> PictureError:
    """The error of a picture with nothing on it."""
    return PictureError(f"blank: found no digit in {pixels.shape[1]} x {pixels.shape[0]} pixels")
