"""The digits of a picture, cut apart and brought to the form that a network reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.tools.reading import form, ink, touching

Mask = NDArray[np.bool_]

_SMALL = 0.4  # of the tallest mark: a lower one is no digit by itself
_NEAR = 0.25  # of the tallest mark: a small mark this near to another belongs to it
_TOUCHING = 0.1  # of the tallest mark: two that are high are of one digit only this near
_OVERLAP = 0.6  # of the narrower of two marks: one above the other, they are of one digit
_SOFT = 2  # pixels that a stroke's edge fades out in
_HALVED = 2  # times at most: one mark is four digits that touch, and no more


@dataclass(frozen=True)
class Digit:
    """A digit of a picture.

    Attributes:
        box: left, top, right and bottom of its ink in pixels of the picture; right and bottom are
            the first pixels beyond it.
        pixels: uint8 (H, W), in the form of MNIST.
        cuts: what it is if it is two digits that touch: for each way to cut it, the left and the
            right one.
    """

    box: tuple[int, int, int, int]
    pixels: NDArray[np.uint8]
    cuts: tuple[tuple[Digit, ...], ...] = ()

    @property
    def negative(self) -> Digit:
        """The same with light and dark exchanged."""
        cuts = tuple(tuple(half.negative for half in halves) for halves in self.cuts)
        return Digit(self.box, ~self.pixels, cuts)


@dataclass
class _Group:
    """Marks that are one digit: their labels, and the rectangle round them."""

    labels: list[int]
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def joined(self, other: _Group) -> _Group:
        return _Group(
            self.labels + other.labels,
            min(self.top, other.top), max(self.bottom, other.bottom),
            min(self.left, other.left), max(self.right, other.right),
        )  # fmt: skip

    def gaps(self, other: _Group) -> tuple[int, int]:
        """Pixels between two groups down and across; below 0 where they overlap."""
        return (
            max(self.top, other.top) - min(self.bottom, other.bottom),
            max(self.left, other.left) - min(self.right, other.right),
        )


def read(grey: NDArray[np.uint8], size: tuple[int, int]) -> list[Digit]:
    """Find the digits of a picture.

    Args:
        grey: uint8 (H, W), of any size, dark on light or light on dark.
        size: height and width of a digit's pixels in the result.

    Returns:
        The digits line by line, each from left to right; none where there is no ink.
    """
    found = ink.find(grey)
    if found is None:
        return []
    areas, _ = ndimage.label(found.marks, np.ones((3, 3)))
    lines = _lines(_groups(areas))
    return [
        _digit(found, np.isin(areas, group.labels), size, grey.shape)
        for line in lines
        for group in line
    ]


def _digit(
    found: ink.Ink, marks: Mask, size: tuple[int, int], whole: tuple[int, ...], cut: int = 0
) -> Digit:
    """Bring one digit into form.

    Args:
        found: the strokes of the picture.
        marks: which of them are the digit's, of the same shape.
        size: of its pixels in the result.
        whole: height and width of the picture.
        cut: how often it was halved already.
    """
    ((rows, columns),) = ndimage.find_objects(marks.astype(np.int8))
    inside = (rows, columns)
    near = ndimage.binary_dilation(marks[inside], np.ones((3, 3)), iterations=_SOFT)
    pixels = form.bring(np.where(near, found.strength[inside], 0), marks[inside], size)
    left, top = (int(side.start / found.scale) for side in (columns, rows))
    right = min(whole[1], round(columns.stop / found.scale))
    bottom = min(whole[0], round(rows.stop / found.scale))
    box = (left, top, max(right, left + 1), max(bottom, top + 1))
    if cut == _HALVED:
        return Digit(box, pixels)
    cuts = []
    for halves in touching.cuts(marks[inside]):
        parts = []
        for half in halves:
            part = np.zeros_like(marks)
            part[inside] = half
            parts.append(_digit(found, part, size, whole, cut + 1))
        cuts.append(tuple(parts))
    return Digit(box, pixels, tuple(cuts))


def _groups(areas: NDArray[np.int32]) -> list[_Group]:
    """Marks put together that are pieces of one digit; what is too low for a digit is left out."""
    groups = [
        _Group([number], rows.start, rows.stop, columns.start, columns.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(areas), 1)
    ]
    tallest = max(max(group.height, group.width) for group in groups)
    groups = [one for one in groups if not any(_underlines(one, other) for other in groups)]
    # From small to large: a piece first finds the stroke beside it.
    groups.sort(key=lambda group: group.height * group.width)
    done: list[_Group] = []
    while groups:
        group = groups.pop(0)
        others = [other for other in groups if _of_one(group, other, tallest)]
        if others:
            nearest = min(others, key=lambda other: max(group.gaps(other)))
            groups.remove(nearest)
            groups.append(group.joined(nearest))
            groups.sort(key=lambda group: group.height * group.width)
        else:
            done.append(group)
    highest = max(group.height for group in done)
    return [group for group in done if group.height > _SMALL * highest]


def _underlines(line: _Group, other: _Group) -> bool:
    """Whether a mark is a level line below another one."""
    _, across = line.gaps(other)
    is_level = line.height < 0.12 * other.height and line.width > 0.4 * other.width
    return is_level and line.top > other.bottom and across < 0


def _of_one(small: _Group, large: _Group, tallest: int) -> bool:
    down, across = small.gaps(large)
    if small.height < _SMALL * tallest and small.width < tallest:
        return max(down, across) < _NEAR * tallest
    return -across > _OVERLAP * min(small.width, large.width) and down < _TOUCHING * tallest


def _lines(groups: list[_Group]) -> list[list[_Group]]:
    """Groups line by line, each from left to right."""
    lines: list[list[_Group]] = []
    for group in sorted(groups, key=lambda group: group.top + group.bottom):
        for line in lines:
            down = min(group.gaps(other)[0] for other in line)
            if -down > 0.5 * min(group.height, min(other.height for other in line)):
                line.append(group)
                break
        else:
            lines.append([group])
    return [sorted(line, key=lambda group: group.left) for line in lines]
