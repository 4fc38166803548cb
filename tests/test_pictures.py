import gzip
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages.tools import pictures
from stages.tools.pictures import PictureError

Grey = NDArray[np.uint8]


def real_digits(count: int) -> Grey:
    """The first test images of MNIST, out of the package that ships them."""
    spec = find_spec("jittor_offline")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).with_name("t10k-images-idx3-ubyte.gz")
    with gzip.open(file) as stream:
        data = stream.read(16 + 784 * count)[16:]
    return np.frombuffer(data, np.uint8).reshape(count, 28, 28)


def enlarged(digit: Grey, place: tuple[int, int] = (30, 250)) -> Grey:
    """The digit ten times as large, off the centre of a wide picture."""
    page = np.zeros((420, 600), np.uint8)
    large = Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC)
    page[place[0] : place[0] + 280, place[1] : place[1] + 280] = np.asarray(large)
    return page


def saved(path: Path, picture: Image.Image, **options: Any) -> Grey:
    picture.save(path, **options)
    return pictures.load(path)


def photo(digit: Grey) -> Image.Image:
    """Dark ink on grey paper, with the noise of a camera."""
    page = 60 + 0.55 * (255.0 - enlarged(digit))
    noise = np.random.default_rng(0).normal(0, 6, page.shape)
    return Image.fromarray((page + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("light.png", lambda digit: Image.fromarray(enlarged(digit))),
        ("dark.png", lambda digit: Image.fromarray(255 - enlarged(digit))),
        ("corner.png", lambda digit: Image.fromarray(enlarged(digit, (0, 0)))),
        ("dark.jpg", lambda digit: Image.fromarray(255 - enlarged(digit)).convert("RGB")),
        ("photo.jpg", photo),
    ],
)
def test_a_real_digit_comes_back_nearly_as_it_was(tmp_path: Path, name: str, make: Any) -> None:
    digits = real_digits(30)
    back = np.array([pictures.prepare(saved(tmp_path / name, make(digit))) for digit in digits])
    difference = np.abs(back.astype(float) - digits).mean(axis=(1, 2))
    # Two digits of the same class differ by 34 grey levels on average.
    assert difference.mean() < 8
    assert difference.max() < 24
    assert back.dtype == np.uint8


def test_the_result_has_the_form_of_mnist() -> None:
    for digit in real_digits(6):
        back = pictures.prepare(~enlarged(digit))
        rows, columns = (np.flatnonzero(back.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        weight = back / back.sum()
        middle = [(weight.sum(axis=axis) * np.arange(28)).sum() for axis in (1, 0)]
        assert middle == pytest.approx([14, 14], abs=0.55)


def test_another_image_size() -> None:
    assert pictures.prepare(enlarged(real_digits(1)[0]), (14, 20)).shape == (14, 20)


def test_noise_far_from_the_digit_does_not_shrink_it() -> None:
    page = enlarged(real_digits(1)[0])
    noisy = page.copy()
    noisy[400:404, 5:9] = 70
    np.testing.assert_array_equal(pictures.prepare(noisy), pictures.prepare(page))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_refused(level: int) -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (40, 30))
    blank = np.full((40, 30), level, np.uint8)
    for page in (blank, (blank + noise).clip(0, 255).astype(np.uint8)):
        with pytest.raises(PictureError, match="blank: found no digit in 30 x 40 pixels"):
            pictures.prepare(page)


def test_a_single_pixel_is_blank() -> None:
    with pytest.raises(PictureError, match="blank"):
        pictures.prepare(np.zeros((1, 1), np.uint8))


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_paper_contrasts_with_the_ink(tmp_path: Path, ink: int) -> None:
    digit = real_digits(1)[0]
    page = enlarged(digit)
    picture = Image.merge("LA", [Image.new("L", (600, 420), ink), Image.fromarray(page)])
    grey = saved(tmp_path / "ink.png", picture)
    np.testing.assert_array_equal(grey, page if ink else 255 - page)


def test_colour_and_palette(tmp_path: Path) -> None:
    page = Image.fromarray(255 - enlarged(real_digits(1)[0]))
    plain = pictures.prepare(np.asarray(page))
    blank = Image.new("L", page.size, 255)
    blue = Image.merge("RGB", [page, page, blank])
    for picture in (blue, page.convert("P")):
        back = pictures.prepare(saved(tmp_path / "colour.png", picture))
        assert np.abs(back.astype(float) - plain).mean() < 2


def test_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    page = enlarged(real_digits(1)[0])
    deep = Image.fromarray(page.astype(np.uint16) * 257)
    np.testing.assert_array_equal(saved(tmp_path / "deep.png", deep), page)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    page = enlarged(real_digits(1)[0])
    first, second = Image.fromarray(page), Image.new("L", (600, 420))
    grey = saved(tmp_path / "moving.png", first, save_all=True, append_images=[second])
    np.testing.assert_array_equal(grey, page)


def png_bytes() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(enlarged(real_digits(1)[0])).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture\n", png_bytes()[:200], png_bytes()[:-3000], b"GIF89a" + bytes(40)],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=r"x\.png: not a whole picture, expected PNG or JPEG"):
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
