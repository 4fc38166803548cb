"""The learning rate of each step."""

from __future__ import annotations

import math

from stages.shared import elementary

WARM_UP = 0.25  # the share of one_cycle's steps in which the rate rises
_START = 0.04  # where it rises from, as a share of the highest


def learning_rate(schedule: str, highest: float, step: int, steps: int) -> float:
    """The learning rate of one optimizer step.

    Args:
        schedule: "constant"; "cosine", half a cosine from `highest` to zero (Loshchilov and
            Hutter, "SGDR", ICLR 2017, without restarts); or "one_cycle", a straight rise and
            then half a cosine to zero (after Smith and Topin, "Super-Convergence", 2018).
        highest: the highest rate of the schedule.
        step: optimizer steps taken before this one, from 0.
        steps: optimizer steps of the whole run.

    Returns:
        A rate above 0 and not above `highest`.
    """
    if schedule == "constant":
        return highest
    rise = WARM_UP * steps if schedule == "one_cycle" else 0.0
    if step < rise:
        return highest * (_START + (1 - _START) * step / rise)
    return highest * 0.5 * (1 + elementary.cos(math.pi * (step - rise) / (steps - rise)))
