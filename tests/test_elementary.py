"""Functions from + - * / alone are as good as the C library's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.shared import elementary

ANGLES = np.linspace(-math.pi, math.pi, 100_001)


def units(found: np.ndarray, expected: np.ndarray) -> float:
    """How far apart they are at most, in units of the last digit."""
    return float((np.abs(found - expected) / np.spacing(np.abs(expected))).max())


def test_cos_and_sin() -> None:
    assert np.abs(elementary.cos(ANGLES) - np.cos(ANGLES)).max() < 1e-15
    assert np.abs(elementary.sin(ANGLES) - np.sin(ANGLES)).max() < 1e-15


@pytest.mark.parametrize("angle", [0.0, 0.1, math.pi / 2, math.pi, -math.pi])
def test_a_number_is_as_good_as_an_array(angle: float) -> None:
    for function in (elementary.cos, elementary.sin):
        value = function(angle)
        assert type(value) is float
        assert value == function(np.array([angle]))[0]


def test_exp() -> None:
    x = np.linspace(-690, 709, 1_000_003)
    assert units(elementary.exp(x), np.exp(x)) <= 2
    edges = np.array([0.0, -1e-300, -745.2, -1e308])
    assert elementary.exp(edges).tolist() == [1, 1, 0, 0]


def test_log() -> None:
    x = np.concatenate([np.linspace(0.5, 2, 1_000_003), 10.0 ** np.arange(-300, 300)])
    assert units(elementary.log(x), np.log(x)) <= 3
    assert elementary.log(np.array([1.0, 5e-324])).tolist() == [0, math.log(5e-324)]
