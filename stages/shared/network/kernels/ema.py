"""An exponential moving average of many arrays as one kernel; it is in ema.h."""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt


def update_ema(averages: Sequence[jt.Var], values: Sequence[jt.Var], decay: float) -> None:
    """Move each average towards its value: average = decay * average + (1 - decay) * value.

    CUDA, other types than float32, and empty arrays fall back to Jittor's implementation.

    Args:
        averages: changed in place, any shapes.
        values: as many, of the same shapes.
        decay: from 0 to 1.

    Raises:
        ValueError: there are more of one than of the other, or two shapes differ.
    """
    for average, value in zip(averages, values, strict=True):
        if list(average.shape) != list(value.shape):
            raise ValueError(f"the average is {average.shape}, its value {value.shape}")
    if not averages:
        return
    if not call.usable(*averages, *values):
        for average, value in zip(averages, values, strict=True):
            average.update(decay * average + (1 - decay) * value)
        return
    count = len(averages)
    arrays = ", ".join(f"{{in{i}->num, in{i}_p, in{i + count}_p, out{i}_p}}" for i in range(count))
    moved = call.call(
        "ema",
        f'kernels::update_ema({{{arrays}}}, data["decay"]);',
        [*averages, *values],
        [average.shape for average in averages],
        data={"decay": decay},
    )
    for average, new in zip(averages, moved, strict=True):
        average.update(new)
