"""Pictures of single digits, made to look as those of MNIST do.

MNIST holds light strokes on black, scaled to 20 pixels on the larger side and laid with their
centre of mass on the middle of 28 x 28 (LeCun et al., "Gradient-Based Learning Applied to Document
Recognition", 1998, section III A). A picture from elsewhere is brought to the same form.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.ndimage import binary_propagation, center_of_mass

from stages.shared.program import UserError

FORMATS = ("PNG", "JPEG")
_INK_SHARE = 20 / 28  # of the picture's side that the larger side of the digit takes
_MOST_PIXELS = 50_000_000  # of a picture: ten times those of a scanned page
_LONGEST = 2048  # pixels of a side that are kept of a larger picture
_LEAST_CONTRAST = 24  # grey levels between ink and paper, above the noise of a blank photo


class PictureError(UserError):
    """A file that is no picture, or a picture without a digit."""


def load(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG file as grey.

    Transparent parts become paper: white under dark ink, black under light ink. Of an animation
    the first frame is read, and a camera's rotation mark is obeyed.

    Args:
        path: the file.

    Returns:
        uint8 (H, W), of the size of the picture, or smaller where that is large.

    Raises:
        PictureError: the file is no PNG or JPEG, is damaged, or has too many pixels.
        OSError: the file cannot be read at all.
    """
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise PictureError(
                        f"{path}: {picture.width:,} x {picture.height:,} pixels,"
                        f" expected {_MOST_PIXELS:,} at most"
                    )
                if max(picture.size) > _LONGEST and not picture.mode.startswith("I"):
                    picture.thumbnail((_LONGEST, _LONGEST))
                return _grey(ImageOps.exif_transpose(picture))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            detail = str(error).splitlines()[0] if not isinstance(error, OSError) else ""
            raise PictureError(
                f"{path}: not a whole picture, expected {' or '.join(FORMATS)} or IDX"
                + (f" ({detail})" if detail else "")
            ) from None


def check_contrast(pixels: NDArray[np.uint8]) -> None:
    """Make sure that there is something on a picture of any size.

    Raises:
        PictureError: it is blank.
    """
    if int(pixels.max()) - int(pixels.min()) < _LEAST_CONTRAST:
        raise _blank(pixels)


def _blank(grey: NDArray[np.uint8]) -> PictureError:
    return PictureError(f"blank: found no digit in {grey.shape[1]} x {grey.shape[0]} pixels")


def is_light_on_dark(grey: NDArray[np.uint8]) -> bool:
    """Whether the border of a (H, W) picture, where the paper is, is darker than its ink."""
    return bool(np.median(_border(grey)) <= _otsu(grey))


def prepare(grey: NDArray[np.uint8], size: tuple[int, int] = (28, 28)) -> NDArray[np.uint8]:
    """Bring a picture of one digit to the form of MNIST.

    The paper, which the border shows, becomes 0 and the ink 255; the rest lies between. The paper
    must be about evenly lit.

    Args:
        grey: uint8 (H, W), of any size, dark on light or light on dark.
        size: height and width of the result in pixels.

    Returns:
        uint8 of that size, light on dark.

    Raises:
        PictureError: the picture is blank.
    """
    light = grey if is_light_on_dark(grey) else ~grey
    threshold = _otsu(light)
    dark, strokes = light[light <= threshold], light[light > threshold]
    if not dark.size or not strokes.size or strokes.mean() - dark.mean() < _LEAST_CONTRAST:
        raise _blank(grey)
    paper = float(np.median(dark))
    # Of the strokes the lightest are whole ink; the others are their soft edges.
    full = float(np.quantile(strokes, 0.9))
    ink = np.clip((light - paper) / (full - paper), 0, 1)
    # The edge of a stroke fades out below Otsu's threshold and belongs to the digit; what is as
    # faint but apart from any stroke is noise of the paper.
    found = binary_propagation(
        light > threshold, mask=ink > 0.5 * (threshold - paper) / (full - paper)
    )
    ink[~found] = 0
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = min(_INK_SHARE * side / length for side, length in zip(size, digit.shape, strict=True))
    high, wide = (max(1, round(scale * length)) for length in digit.shape)
    # Pillow's filter widens as it shrinks, so thin strokes are kept; it may overshoot a little.
    small = np.asarray(
        Image.fromarray(digit.astype(np.float32)).resize((wide, high), Image.Resampling.LANCZOS)
    ).clip(0, 1)
    result = np.zeros(size, np.uint8)
    top, left = (
        int(np.clip(round(side / 2 - middle), 0, side - length))
        for side, middle, length in zip(size, center_of_mass(small), small.shape, strict=True)
    )
    result[top : top + high, left : left + wide] = np.round(255 * small)
    return result


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them
        return (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    parts = np.asarray(picture.convert("RGBA").convert("LA"), dtype=np.float64)
    level, alpha = parts[..., 0], parts[..., 1] / 255
    seen = alpha.sum()
    paper = 0 if seen and (level * alpha).sum() / seen > 127.5 else 255
    grey: NDArray[np.uint8] = np.round(level * alpha + paper * (1 - alpha)).astype(np.uint8)
    return grey


def _border(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


def _otsu(grey: NDArray[np.uint8]) -> int:
    """The level that parts the pixels into two sets, each as alike as can be: Otsu, "A Threshold
    Selection Method from Gray-Level Histograms", 1979. The lower set holds the level itself."""
    count = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    below = count.cumsum()
    above = below[-1] - below
    total = (count * np.arange(256)).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = total / below - (total[-1] - total) / above
    return int(np.argmax(np.nan_to_num(below * above * gap**2)))
