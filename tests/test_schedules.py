"""Schedules start, peak and end where they say."""

from __future__ import annotations

import pytest

from stages.shared.training.schedules import learning_rate


def rates(schedule: str, steps: int = 100) -> list[float]:
    return [learning_rate(schedule, 0.4, step, steps) for step in range(steps)]


def test_constant_stays() -> None:
    assert rates("constant") == [0.4] * 100


def test_cosine_falls_from_the_highest_to_almost_nothing() -> None:
    values = rates("cosine")
    assert values[0] == 0.4
    assert values[50] == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 0.001


def test_one_cycle_rises_for_a_quarter_and_falls_after_it() -> None:
    values = rates("one_cycle")
    assert values[0] == pytest.approx(0.016)
    assert values[25] == max(values) == 0.4
    assert values[:26] == sorted(values[:26])
    assert values[25:] == sorted(values[25:], reverse=True)
    assert 0 < values[-1] < 0.001


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_a_run_of_one_step_has_a_rate(schedule: str) -> None:
    assert 0 < learning_rate(schedule, 0.4, 0, 1) <= 0.4
