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
                if picture.width * picture.height > _MOST_PIXELS:
                    raise PictureError(
                        f"{path}: {picture.width:,} x {picture.height:,} pixels,"
                        f" expected {_MOST_PIXELS:,} at most"
                    )
                if max(picture.size) > _LONGEST and picture.mode[0] not in "IF":
                    picture.thumbnail((_LONGEST, _LONGEST))
                return _grey(ImageOps.exif_transpose(picture))
        except UserError:
            raise
        # Pillow's readers raise what their parsers stumble over: a damaged file has many ways.
        except Exception as error:
            detail = str(error).splitlines()[:1] if not isinstance(error, OSError) else []
            raise PictureError(
                f"{path}: not a whole picture, expected {EXPECTED}"
                + "".join(f" ({line})" for line in detail)
            ) from None


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode[0] in "IF":  # 16 or 32 bits; Pillow's own conversion would clip them
        return _shallow(np.asarray(picture))
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
    if deep.dtype.kind == "f":
        level = np.nan_to_num(deep.astype(np.float64))
        low, high = float(level.min()), float(level.max())
        return np.asarray(255 * (level - low) / max(high - low, 1e-9), np.uint8)
    whole = deep.astype(np.int64).clip(0)
    return np.asarray(whole >> max(0, int(whole.max()).bit_length() - 8), np.uint8)
