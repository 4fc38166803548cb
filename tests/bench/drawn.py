"""Pictures of digits as people make them, drawn by program: each hand, kind and seed gives one.

A hand is where the shape comes from: the test set's own digits, or a font that Matplotlib brings.
A kind is how it comes to the screen: pen, paper, light, camera, scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.morphology import skeletonize

from stages.shared import digits

Array = NDArray[np.float64]
Random = np.random.Generator

SIDE = 600  # pixels of a page
PAPER, INK = 235.0, 40.0
FONTS = {
    "sans": "DejaVuSans",
    "sans bold": "DejaVuSans-Bold",
    "mono": "DejaVuSansMono",
    "serif": "DejaVuSerif",
    "STIX": "STIXGeneral",
    "STIX italic": "STIXGeneralItalic",
    "Computer Modern": "cmr10",
    "Computer Modern italic": "cmti10",
    "Computer Modern sans": "cmss10",
    "Computer Modern typewriter": "cmtt10",
}
HANDS = ("writer 1", "writer 2", "writer 3", "writer 4", *FONTS)


@cache
def _test_set() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    data = digits.load(digits.FOLDER, "test")
    return data.images, data.labels


def _written(digit: int, random: Random) -> Array:
    """One of the test set's digits as a smooth shape of 280 pixels, 0 to 1."""
    images, labels = _test_set()
    image = Image.fromarray(images[random.choice(np.flatnonzero(labels == digit))])
    large = np.asarray(image.resize((392, 392), Image.Resampling.BICUBIC), np.float64) / 255
    return np.asarray(np.clip((ndimage.gaussian_filter(large, 3) - 0.3) / 0.3, 0, 1))


def _font(name: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", f"{name}.ttf"), size)


def _printed(text: str, name: str, outline: int = 0) -> Array:
    """Text in a font, its letters about 280 pixels high, 0 to 1."""
    size = 280 / (_font(name, 100).getbbox("8")[3] - _font(name, 100).getbbox("8")[1]) * 100
    font = _font(name, size)
    left, top, right, bottom = font.getbbox(text)
    room = 60
    picture = Image.new("L", (int(right - left) + 2 * room, int(bottom - top) + 2 * room))
    draw = ImageDraw.Draw(picture)
    draw.text((room - left, room - top), text, fill=255, font=font)
    shape = np.asarray(picture, np.float64) / 255
    if not outline:
        return shape
    inside = ndimage.distance_transform_edt(shape > 0.5)
    return np.asarray(np.clip(outline + 0.5 - inside, 0, 1) * (shape > 0.5))


def shape_of(hand: str, digit: int, random: Random) -> Array:
    """The digit as a hand makes it, (H, W), 0 to 1, about 280 pixels high."""
    if hand in FONTS:
        return _printed(str(digit), FONTS[hand])
    return _written(digit, random)


def thin(shape: Array, width: float) -> Array:
    """The middle line of a shape, drawn anew with a pen of `width` pixels."""
    away = ndimage.distance_transform_edt(~skeletonize(shape > 0.5))
    return np.asarray(np.clip(width / 2 + 0.5 - away, 0, 1))


def placed(shape: Array, random: Random, side: int = SIDE) -> Array:
    """A shape somewhere near the middle of an empty page."""
    page = np.zeros((side, side))
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = (
        (side - length) // 2 + int(random.integers(-side // 12, side // 12 + 1))
        for length in shape.shape
    )
    page[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
    return page


def _paper(page: Array, ink: float = INK) -> Array:
    return PAPER + (ink - PAPER) * page


def _picture(grey: Array) -> Image.Image:
    return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8))


def _grid() -> tuple[Array, Array]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    return rows, columns


def _along(random: Random) -> Array:
    """0 to 1 over the page, from one side or corner to the other."""
    rows, columns = _grid()
    angle = random.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * rows + np.sin(angle) * columns
    return np.asarray((slope - slope.min()) / np.ptp(slope))


def _camera(grey: Array, random: Random, noise: float = 3) -> Image.Image:
    blurred = ndimage.gaussian_filter(grey, 1)
    return _picture(blurred + random.normal(0, noise, grey.shape))


def _transparent(page: Array, random: Random) -> Image.Image:
    ink = tuple(int(level) for level in random.integers(0, 90, 3))
    picture = Image.new("RGBA", (SIDE, SIDE), (*ink, 0))
    picture.putalpha(_picture(255 * page))
    return picture


def _in_colours(page: Array, paper: tuple[int, ...], ink: tuple[int, ...]) -> Image.Image:
    both = np.asarray(paper) + (np.asarray(ink) - paper) * page[..., None]
    return Image.fromarray(both.round().astype(np.uint8))


def _coloured(page: Array, random: Random) -> Image.Image:
    inks = [(30, 60, 160), (190, 30, 40), (20, 110, 50), (90, 30, 120)]
    return _in_colours(page, (250, 244, 228), inks[random.integers(len(inks))])


def _yellow(page: Array, _: Random) -> Image.Image:
    return _in_colours(page, (245, 245, 245), (255, 230, 40))


def _lines(step: int, width: int, start: int, across: bool) -> Array:
    rows = np.zeros((SIDE, SIDE))
    for offset in range(start, SIDE, step):
        rows[offset : offset + width] = 1
    return rows if across else rows.T


def _squared(page: Array, random: Random) -> Image.Image:
    start = int(random.integers(30))
    lines = np.maximum(_lines(30, 1, start, True), _lines(30, 1, start, False))
    return _picture(np.minimum(PAPER - 35 * lines, _paper(page)))


def _turned(lines: Array, random: Random, most: float) -> Array:
    angle = float(random.uniform(-most, most))
    return np.asarray(ndimage.rotate(lines, angle, reshape=False, order=1, mode="nearest"))


def _ruled(dark: float) -> Callable[[Array, Random], Image.Image]:
    def draw(page: Array, random: Random) -> Image.Image:
        step, width = int(random.integers(50, 90)), int(random.integers(2, 4))
        lines = _turned(_lines(step, width, int(random.integers(step)), True), random, 1)
        return _picture(np.minimum(PAPER - dark * lines, _paper(page)))

    return draw


def _shadow(page: Array, random: Random) -> Image.Image:
    soft = random.uniform(0.01, 0.06)
    dark = ndimage.gaussian_filter((_along(random) < random.uniform(0.3, 0.6)) * 1.0, soft * SIDE)
    return _camera(_paper(page) * (1 - random.uniform(0.35, 0.55) * dark), random)


def _gradient(page: Array, random: Random) -> Image.Image:
    return _camera(_paper(page) * (1 - 0.55 * _along(random)), random)


def _vignette(page: Array, random: Random) -> Image.Image:
    rows, columns = _grid()
    away = np.hypot(rows - 0.5, columns - 0.5) / np.hypot(0.5, 0.5)
    return _camera(_paper(page) * (1 - random.uniform(0.5, 0.65) * away**2), random)


def _sheet(page: Array, random: Random) -> Image.Image:
    """A white sheet, a little turned, with some of the table on every side."""
    edge = int(random.integers(25, 60))
    sheet = np.zeros((SIDE, SIDE))
    sheet[edge:-edge, edge:-edge] = 1
    sheet = _turned(sheet, random, 4)
    table = random.uniform(35, 100)
    return _camera(table + (_paper(page) - table) * sheet, random)


def _table_edge(page: Array, random: Random) -> Image.Image:
    sheet = np.zeros((SIDE, SIDE))
    sheet[:, int(random.integers(40, 90)) :] = 1
    sheet = np.rot90(_turned(sheet, random, 3), random.integers(4))
    table = random.uniform(35, 110)
    return _camera(table + (_paper(page) - table) * sheet, random)


def _scan_edge(page: Array, random: Random) -> Image.Image:
    grey = _paper(page)
    for turn in range(4):
        if turn == 0 or random.random() < 0.7:
            np.rot90(grey, turn)[:, : random.integers(4, 25)] = random.uniform(0, 30)
    return _picture(grey)


def _boxed(page: Array, random: Random) -> Image.Image:
    rows, columns = np.flatnonzero(page.any(axis=1)), np.flatnonzero(page.any(axis=0))
    gaps = random.integers(15, 70, 4)
    picture = _picture(_paper(page))
    ImageDraw.Draw(picture).rectangle(
        (
            max(5, columns[0] - gaps[0]), max(5, rows[0] - gaps[1]),
            min(SIDE - 6, columns[-1] + gaps[2]), min(SIDE - 6, rows[-1] + gaps[3]),
        ),
        outline=int(INK), width=int(random.integers(3, 9)),
    )  # fmt: skip
    return picture.rotate(random.uniform(-2, 2), Image.Resampling.BICUBIC, fillcolor=int(PAPER))


def _pencil(page: Array, random: Random) -> Image.Image:
    grain = ndimage.gaussian_filter(random.normal(0, 1, page.shape), 1.5)
    level = random.uniform(150, 175)
    uneven = np.clip(page * (1 + 1.2 * grain), 0, 1)
    paper = 222 + (level - 222) * uneven
    return _picture(paper + 12 * grain + random.normal(0, 5, page.shape))


def _specks(page: Array, random: Random) -> Image.Image:
    picture = _picture(_paper(page))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(1, 6)):
        x, y = random.uniform(0.02, 0.15, 2) * SIDE
        x, y = (
            (SIDE - x if random.random() < 0.5 else x),
            (SIDE - y if random.random() < 0.5 else y),
        )
        size = random.integers(2, 6)
        draw.ellipse((x, y, x + size, y + size), fill=int(INK))
    return picture


def _photo(page: Array, random: Random) -> Image.Image:
    turned = np.asarray(ndimage.rotate(page, random.uniform(-5, 5), reshape=False, order=1))
    light = 1 - 0.25 * _along(random)
    return _camera((175 + (60 - 175) * turned.clip(0, 1)) * light, random, 6)


def _chalk(page: Array, random: Random) -> Image.Image:
    grain = ndimage.gaussian_filter(random.normal(0, 1, page.shape), 2)
    board = 45 + 25 * _along(random) + 10 * grain
    return _camera(board + (215 - board) * page * np.clip(0.9 + grain, 0, 1), random)


def _twelve_bits(page: Array, _: Random) -> Image.Image:
    return Image.fromarray((_paper(page) * 16).astype(np.uint16))


def _plain(page: Array, _: Random) -> Image.Image:
    return _picture(_paper(page))


Kind = Callable[[Array, Random], Image.Image]
# Each with the letters that its file's name ends in.
KINDS: dict[str, tuple[Kind, str]] = {
    "marker": (_plain, "png"),
    "inverted": (lambda page, _: _picture(255 * page), "png"),
    "transparent": (_transparent, "png"),
    "coloured ink": (_coloured, "png"),
    "yellow ink": (_yellow, "png"),
    "squared paper": (_squared, "png"),
    "thin pen": (lambda page, random: _plain(page, random).resize((400, 400)), "png"),
    "outlined": (_plain, "png"),
    "pencil on grainy paper": (_pencil, "png"),
    "photo": (_photo, "jpg"),
    "chalk on a board": (_chalk, "jpg"),
    "shadow across": (_shadow, "jpg"),
    "light that falls to 45 %": (_gradient, "jpg"),
    "vignette": (_vignette, "jpg"),
    "white sheet on a dark table": (_sheet, "jpg"),
    "edge of the table": (_table_edge, "jpg"),
    "edge of the scanner": (_scan_edge, "png"),
    "box round it": (_boxed, "png"),
    "pale rules": (_ruled(35), "png"),
    "rules as dark as the ink": (_ruled(PAPER - INK), "png"),
    "specks": (_specks, "png"),
    "12 bits in 16": (_twelve_bits, "png"),
}


def draw(kind: str, hand: str, digit: int, seed: int) -> Image.Image | None:
    """One picture of a digit, or None where a hand has no such kind."""
    random = np.random.default_rng((seed, list(KINDS).index(kind), HANDS.index(hand), digit))
    if kind == "outlined":
        if hand not in FONTS:
            return None
        page = placed(_printed(str(digit), FONTS[hand], int(random.integers(4, 8))), random)
    else:
        shape = shape_of(hand, digit, random)
        if kind == "thin pen":
            shape = thin(shape, 6)  # 4 pixels on 400
        page = placed(shape, random)
    return KINDS[kind][0](page, random)


# What is no digit and does not look like one: O, I, S, Z, B and the like are left out.
_SIGNS = "ACEFHKMNPRUVWXadefhkmnrtuvwx&@#%?$=+*<{~ÄΩЖ"


def _polyline(points: Array, closed: bool, width: int) -> Array:
    picture = Image.new("L", (280, 280))
    corners = [(float(x), float(y)) for x, y in points]
    ImageDraw.Draw(picture).line(
        corners + corners[:1] * closed, fill=255, width=width, joint="curve"
    )
    return np.asarray(picture, np.float64) / 255


def _shape(random: Random) -> Array:
    """A triangle, square, star, cross, house or arrow, by its corners."""
    turn, count = random.uniform(0, 2 * np.pi), int(random.choice([3, 4, 5, 6]))
    step = 2 if count == 5 else 1
    angles = turn + 2 * np.pi * np.arange(count) * step / count
    points = 140 + 120 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if random.random() < 0.3:  # a star of strokes through the middle
        ends = [_polyline(np.stack([p, 280 - p]), False, 20) for p in points[:3]]
        return np.asarray(np.maximum.reduce(ends))
    return _polyline(points, True, int(random.integers(8, 30)))


def _scribble(random: Random) -> Array:
    points = np.cumsum(random.normal(0, 60, (int(random.integers(12, 30)), 2)), axis=0)
    points -= points.min(axis=0)
    return _polyline(10 + 260 * points / points.max(axis=0), False, int(random.integers(8, 20)))


def draw_other(seed: int) -> Image.Image:
    """A picture that holds no digit: a sign, a shape, a scribble or blotches."""
    random = np.random.default_rng((seed, 1_000_003))
    which = int(random.integers(4))
    if which == 3:
        blots = ndimage.gaussian_filter(random.normal(0, 1, (SIDE, SIDE)), random.uniform(8, 40))
        return _camera(128 + 90 * blots / np.abs(blots).max(), random)
    if which == 0:
        name = FONTS[str(random.choice(list(FONTS)))]
        sign = _SIGNS[random.integers(len(_SIGNS) - 3 * ("DejaVu" not in name))]
        shape = _printed(sign, name)
    else:
        shape = (_shape, _scribble)[which - 1](random)
    kind = ("marker", "photo", "inverted", "coloured ink", "shadow across")[random.integers(5)]
    return KINDS[kind][0](placed(shape, random), random)


def draw_string(seed: int) -> tuple[str, Image.Image]:
    """Two to five digits of one hand in a line, and what they are."""
    random = np.random.default_rng((seed, 2_000_003))
    hand = HANDS[seed % len(HANDS)]
    text = "".join(map(str, random.integers(0, 10, int(random.integers(2, 6)))))
    line = np.zeros((420, 0))
    for digit in text:
        page = placed(shape_of(hand, int(digit), random), random, 420)
        columns = np.flatnonzero(page.any(axis=0))
        gap = np.zeros((420, int(random.integers(15, 60))))
        line = np.hstack([line, page[:, columns[0] : columns[-1] + 1], gap])
    return text, _picture(_paper(np.pad(line, ((40, 40), (80, 60)))))


def draw_touching(seed: int) -> tuple[str, Image.Image]:
    """Two digits of one hand, so near that they touch, and what they are."""
    random = np.random.default_rng((seed, 3_000_003))
    hand = HANDS[seed % len(HANDS)]
    text = "".join(map(str, random.integers(0, 10, 2)))
    shapes = []
    for digit in text:
        page = placed(shape_of(hand, int(digit), random), random, 420)
        columns = np.flatnonzero(page.any(axis=0))
        shapes.append(page[:, columns[0] : columns[-1] + 1])
    first, second = shapes
    start, wide = first.shape[1], second.shape[1]
    first = np.pad(first, ((0, 0), (0, wide)))
    # From right to left until there is ink of both in one place, and a little further.
    while start > 0 and not np.any((first[:, start : start + wide] > 0.5) & (second > 0.5)):
        start -= 1
    start = max(0, start - int(random.integers(0, 15)))
    first[:, start : start + wide] = np.maximum(first[:, start : start + wide], second)
    return text, _picture(_paper(np.pad(first, ((40, 40), (80, 60)))))


SEVERAL = {"two to five digits": draw_string, "two that touch": draw_touching}
