"""One digit of a picture, read with a doubt; or two, where it is two that touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stages.tools.reading import doubt
from stages.tools.reading.digits import Digit

# What a network makes of images, uint8 (N, H, W), light on dark: float64 (N, num_classes), 0 to 1.
Network = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

# How sure the network must be of each piece of a mark. With 0.5 three of 2,000 drawn digits were
# cut that it had read right.
_CLEAR = 0.8


@dataclass(frozen=True)
class Reading:
    """What a network makes of a digit.

    Attributes:
        digit: that was read.
        every: float64 (variants, num_classes), the probabilities for each of `doubt.variants`.
    """

    digit: Digit
    every: NDArray[np.float64]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of each class: float64 (num_classes,)."""
        return np.asarray(self.every.mean(axis=0))

    @cached_property
    def confidence(self) -> float:
        """How likely the likeliest class is right, 0 to 1."""
        return doubt.confidence(self.digit.pixels, self.every)


def read(digit: Digit, network: Network) -> list[Reading]:
    """Read a digit.

    Args:
        digit: in the form of MNIST.
        network: that was trained on digits.

    Returns:
        One reading; or more, from left to right, where the network is unsure of the whole, and
        sure of each piece that it can be cut into.
    """
    as_one = whole(digit, network)
    best, least = [as_one], _CLEAR
    if as_one.confidence >= doubt.SURE:
        return best
    for halves in digit.cuts:
        pieces = [piece for half in halves for piece in read(half, network)]
        found = min(piece.confidence for piece in pieces)
        if found > least:
            best, least = pieces, found
    return best


def whole(digit: Digit, network: Network) -> Reading:
    """Read a digit as one, whatever it looks like."""
    return Reading(digit, network(doubt.variants(digit.pixels[None])[:, 0]))
