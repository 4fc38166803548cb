import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from stages.tools import pictures
from stages.tools.pictures import PictureError

Grey = NDArray[np.uint8]


def page() -> Grey:
    """A slanted stroke, light on dark."""
    rows, columns = np.mgrid[0:210, 0:300]
    return np.asarray(255 * (np.abs(columns - 150 + (rows - 105) // 2) < 12), np.uint8)


def saved(path: Path, picture: Image.Image, **options: Any) -> Grey:
    picture.save(path, **options)
    return pictures.load(path)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_paper_contrasts_with_the_ink(tmp_path: Path, ink: int) -> None:
    picture = Image.merge("LA", [Image.new("L", (300, 210), ink), Image.fromarray(page())])
    grey = saved(tmp_path / "ink.png", picture)
    np.testing.assert_array_equal(grey, page() if ink else 255 - page())


def test_yellow_ink_on_white_is_as_dark_as_its_blue(tmp_path: Path) -> None:
    blank = Image.new("L", (300, 210), 250)
    yellow = Image.merge("RGB", [blank, blank, Image.fromarray(250 - page() // 255 * 200)])
    grey = saved(tmp_path / "yellow.png", yellow)
    assert sorted(np.unique(grey)) == [50, 250]


def test_of_colours_that_the_eye_tells_apart_the_luminance_is_taken(tmp_path: Path) -> None:
    dark = Image.fromarray(255 - page())
    blue = Image.merge("RGB", [dark, dark, Image.new("L", dark.size, 255)])
    np.testing.assert_array_equal(saved(tmp_path / "blue.png", blue), np.asarray(blue.convert("L")))


@pytest.mark.parametrize("factor", [1, 16, 257])  # 8, 12 and 16 bits
def test_sixteen_bits_keep_their_shades(tmp_path: Path, factor: int) -> None:
    deep = Image.fromarray(page().astype(np.uint16) * factor)
    grey = saved(tmp_path / "deep.png", deep)
    assert np.abs(grey.astype(int) - page()).max() <= 1


def test_real_numbers_are_spread_over_all_shades(tmp_path: Path) -> None:
    real = Image.fromarray(page().astype(np.float32) / 1000)
    assert np.abs(saved(tmp_path / "real.tiff", real).astype(int) - page()).max() <= 1


@pytest.mark.parametrize(
    ("name", "most"),
    [("x.webp", 40), ("x.bmp", 0), ("x.gif", 0), ("x.tiff", 0), ("x.jp2", 60), ("x.pgm", 0)],
)
def test_any_format_is_read(tmp_path: Path, name: str, most: int) -> None:
    if name == "x.jp2" and not features.check("jpg_2000"):
        pytest.skip("this Pillow was built without JPEG 2000")
    grey = saved(tmp_path / name, Image.fromarray(page()))
    assert np.abs(grey.astype(int) - page()).max() <= most


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(page()), Image.new("L", (300, 210))
    grey = saved(tmp_path / "moving.png", first, save_all=True, append_images=[second])
    np.testing.assert_array_equal(grey, page())


def test_a_heic_picture_is_named_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(PictureError, match=r"IMG_1\.HEIC: a HEIC picture, .* export it as JPEG"):
        pictures.load(path)


def png_bytes() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(page() ^ np.arange(300, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"not a picture\n", png_bytes()[:200], png_bytes()[:-300], b"GIF89a" + bytes(40)),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start Ghostscript
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"x\.png: not a whole picture, expected PNG, JPEG"):
        pictures.load(path)


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (9000, 9000)).save(path)
    with pytest.raises(PictureError, match="9,000 x 9,000 pixels, expected 50,000,000 at most"):
        pictures.load(path)


def test_a_large_picture_is_kept_small(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (5000, 3000), 200).save(path)
    assert pictures.load(path).shape == (1229, 2048)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_pixels_are_widened_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """Else 50 million of them would take gigabytes."""
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.arange(1_000_000).reshape(1000, 1000).astype(kind)).save(path)
    whole = pictures.load(path)
    monkeypatch.setattr(pictures, "_AT_A_TIME", 7_000)
    monkeypatch.setattr(pictures, "_grey", np.asarray)
    tracemalloc.start()
    grey = pictures.load(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(grey, whole)
    assert most < 3 * 4 * whole.size


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_large_deep_picture_is_turned_and_kept_small(tmp_path: Path, kind: type) -> None:
    deep = Image.fromarray(np.kron(page(), np.ones((1, 10))).astype(kind))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert saved(tmp_path / "deep.tiff", deep, exif=exif).shape == (2048, 143)
