"""Elementary functions that give the same bytes on every machine.

Those of NumPy, SciPy and the C library are made from other code for each kind of processor, and
differ in the last bit from one to the next and from version to version. These are made of +, -, *
and /, which IEEE 754 rounds in one way only, and of operations that are exact (rint, frexp, ldexp).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_Angles = TypeVar("_Angles", float, Values)

# log(2) in two parts; the first ends in so many zeros that a whole number up to 2**20 times it is
# exact.
_LOG_2_HIGH, _LOG_2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")


def cos(angle: _Angles) -> _Angles:
    """Compute the cosine, by its series.

    Args:
        angle: radians, -pi to pi; a number, or an array of any shape.

    Returns:
        It, within 1e-15.
    """
    square = angle * angle
    rest = 1.0 - 0.0 * angle  # 1, in the shape of the angle
    for k in range(28, 0, -2):
        rest = 1.0 - square / ((k - 1) * k) * rest
    return rest


def sin(angle: _Angles) -> _Angles:
    """Compute the sine as `cos` does the cosine."""
    square = angle * angle
    rest = 1.0 - 0.0 * angle
    for k in range(29, 1, -2):
        rest = 1.0 - square / ((k - 1) * k) * rest
    return angle * rest


def exp(x: Values) -> Values:
    """Compute e^x: 2^n e^r with n whole and r at most log(2) / 2 either way, by the series of e^r.

    Args:
        x: any shape, finite, at most 709.

    Returns:
        It, within two units of the last digit; where it is below 1e-300, 0 or nearly so.
    """
    bounded = np.maximum(x, -800)  # below it all is 0
    n = np.rint(bounded / (_LOG_2_HIGH + _LOG_2_LOW))
    r = (bounded - n * _LOG_2_HIGH) - n * _LOG_2_LOW
    total = np.ones_like(r)
    for k in range(14, 0, -1):
        total = 1 + r / k * total
    result: Values = np.ldexp(total, n.astype(np.int32))
    return result


def log(x: Values) -> Values:
    """Compute the natural logarithm.

    It is n log(2) + log(m) with x = 2^n m and m near 1, and log(m) is 2 artanh(s) with
    s = (m - 1) / (m + 1), by its series.

    Args:
        x: any shape, finite and above 0.

    Returns:
        It, within three units of the last digit.
    """
    m, n = np.frexp(x)
    small = m < 0.7071067811865476
    m, n = np.where(small, 2 * m, m), np.where(small, n - 1, n)
    s = (m - 1) / (m + 1)
    square = s * s
    total = np.zeros_like(s)
    for k in range(21, 1, -2):
        total = (total + 1 / k) * square
    return n * _LOG_2_HIGH + (n * _LOG_2_LOW + 2 * (s + s * total))
