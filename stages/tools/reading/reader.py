"""One digit of a picture, read with a doubt; or two, where it is two that touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.shared.model_file import Description
from stages.tools.reading import doubt, fitting
from stages.tools.reading.digits import Digit

# What a network makes of images, uint8 (N, H, W): float64 (N, num_classes), 0 to 1.
Network = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

# How sure the network must be of each piece of a mark. With 0.5 three of 2,000 drawn digits were
# cut that it had read right.
_CLEAR = 0.8


@dataclass(frozen=True)
class Reading:
    """What a network makes of a digit.

    Attributes:
        digit: that was read.
        every: float64 (variants, num_classes), the probabilities for each variant of it.
        confidence: how likely the likeliest class is right, 0 to 1.
    """

    digit: Digit
    every: NDArray[np.float64]
    confidence: float

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of each class: float64 (num_classes,)."""
        return np.asarray(self.every.mean(axis=0))

    @property
    def is_sure(self) -> bool:
        """Whether the likeliest class is more likely right than wrong."""
        return self.confidence >= doubt.SURE


def read_fitted(digit: Digit, network: Network, description: Description) -> list[Reading]:
    """Read what `fitting.fit` has found on a picture.

    Args:
        digit: in the form that the network was trained on.
        network: of whatever classes.
        description: of the network.

    Returns:
        As `read`; one reading by a network of something else than digits, which is believed.
    """
    if not fitting.reads_digits(description):
        every = network(digit.pixels[None])
        return [Reading(digit, every, float(every.max()))]
    if description.mean < 0.5:
        return read(digit, network)
    readings = read(digit.negative, lambda images: network(~images))
    return [replace(one, digit=one.digit.negative) for one in readings]


def read(digit: Digit, network: Network) -> list[Reading]:
    """Read a digit.

    Args:
        digit: in the form of MNIST.
        network: that was trained on digits, light on dark.

    Returns:
        One reading; or more, from left to right, where the network is unsure of the whole, and
        sure of each piece that it can be cut into.
    """
    as_one = whole(digit, network)
    best, least = [as_one], _CLEAR
    if as_one.is_sure:
        return best
    for halves in digit.cuts:
        pieces = [piece for half in halves for piece in read(half, network)]
        found = min(piece.confidence for piece in pieces)
        if found > least:
            best, least = pieces, found
    return best


def whole(digit: Digit, network: Network) -> Reading:
    """Read a digit as one, whatever it looks like."""
    every = network(doubt.variants(digit.pixels[None])[:, 0])
    return Reading(digit, every, doubt.confidence(digit.pixels, every))
