"""Picture files of any format that Pillow reads whole, as grey levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stages.shared.program import UserError

# All that hold pixels and are known by their first bytes. EPS is not among them: Pillow starts
# another program for it.
FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "SGI", "QOI",
)  # fmt: skip
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MOST_PIXELS = 50_000_000  # of a picture: ten times those of a scanned page
_LONGEST = 2048  # pixels of a side that are kept of a larger picture
_AT_A_TIME = 1 << 20  # pixels of more than 8 bits that are widened at once
_PALE = 2.0  # a colour that varies so much more than the luminance shows the ink better
EXPECTED = "PNG, JPEG, WebP, GIF, BMP, TIFF or IDX"


class PictureError(UserError):
    """A file that is no picture, or a picture without a digit."""


def load(path: Path) -> NDArray[np.uint8]:
    """Read a picture as grey.

    Transparent parts become paper: white under dark ink, black under light ink. Of an animation
    the first frame is read, and a camera's rotation mark is obeyed. Of a colour that the eye sees
    and the luminance hardly shows (yellow on white), the channel that shows it best is taken.

    Args:
        path: the file.

    Returns:
        uint8 (H, W), of the size of the picture, or smaller where that is large.

    Raises:
        PictureError: the file is of no format in `FORMATS`, is damaged, or has too many pixels.
        OSError: the file cannot be read at all.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
            raise PictureError(
                f"{path}: a HEIC picture, which is not read here, expected {EXPECTED};"
                " export it as JPEG"
            )
        file.seek(0)
        try:
            with Image.open(file, formats=FORMATS) as picture:
                check_size(str(path), *picture.size)
                upright: Image.Image = picture
                if picture.mode[0] in "IF":  # 16 or 32 bits; Pillow's own conversion clips them
                    ImageOps.exif_transpose(picture, in_place=True)
                    upright = Image.fromarray(_shallow(np.asarray(picture)))
                if max(upright.size) > _LONGEST:
                    upright.thumbnail((_LONGEST, _LONGEST))
                return _grey(ImageOps.exif_transpose(upright))
        except UserError:
            raise
        # Pillow's readers raise what their parsers stumble over: a damaged file has many ways.
        except Exception as error:
            detail = str(error).splitlines()[:1] if not isinstance(error, OSError) else []
            raise PictureError(
                f"{path}: not a whole picture, expected {EXPECTED}"
                + "".join(f" ({line})" for line in detail)
            ) from None


def check_size(what: str, width: int, height: int) -> None:
    """Make sure that a picture of so many pixels can be read in a home computer's memory.

    Raises:
        PictureError: it has too many; `what` comes first.
    """
    if width * height > _MOST_PIXELS:
        raise PictureError(
            f"{what}: {width:,} x {height:,} pixels, expected {_MOST_PIXELS:,} at most"
        )


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    parts = np.asarray(picture.convert("RGBA"), dtype=np.float64)
    level = np.asarray(picture.convert("RGBA").convert("L"), dtype=np.float64)
    alpha = parts[..., 3] / 255
    seen = alpha.sum()
    paper = 0 if seen and (level * alpha).sum() / seen > 127.5 else 255
    levels = [level, *np.moveaxis(parts[..., :3], -1, 0)]
    levels = [one * alpha + paper * (1 - alpha) for one in levels]
    spread = [float(one.std()) for one in levels]
    best = int(np.argmax(spread))
    grey: NDArray[np.uint8] = np.round(
        levels[best if spread[best] > _PALE * spread[0] else 0]
    ).astype(np.uint8)
    return grey


def _shallow(deep: NDArray[np.generic]) -> NDArray[np.uint8]:
    """More than 8 bits as 8: of a camera's 12 bits in 16 the upper 8 of the 12."""
    pixels = deep.reshape(-1)
    parts = [pixels[i : i + _AT_A_TIME] for i in range(0, pixels.size, _AT_A_TIME)]
    if deep.dtype.kind == "f":
        low = min(float(_finite(part).min()) for part in parts)
        high = max(float(_finite(part).max()) for part in parts)
        scale = max(high - low, 1e-9)
        made = [np.asarray(255 * (_finite(part) - low) / scale, np.uint8) for part in parts]
    else:
        shift = max(0, max(0, int(pixels.max())).bit_length() - 8)
        made = [np.asarray(part.astype(np.int64).clip(0) >> shift, np.uint8) for part in parts]
    return np.concatenate(made).reshape(deep.shape)


def _finite(level: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(level.astype(np.float64))
