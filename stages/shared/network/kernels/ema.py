"""A moving average of many arrays as one kernel."""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt


def follow(averages: Sequence[jt.Var], values: Sequence[jt.Var], keep: float) -> None:
    """Move each average towards its value: average = keep * average + (1 - keep) * value.

    Args:
        averages: changed in place, any shapes.
        values: of the same shapes.
        keep: from 0 to 1.
    """
    if not vector.usable(*averages, *values):
        for average, value in zip(averages, values, strict=True):
            average.update(keep * average + (1 - keep) * value)
        return
    count = len(averages)
    passes = "".join(
        f"""
        #pragma omp for schedule(static) nowait
        for (long i = 0; i < in{n}->num; i++)
            out{n}_p[i] = keep * in{n}_p[i] + (1 - keep) * in{n + count}_p[i];
        """
        for n in range(count)
    )
    moved = jt.code(
        [average.shape for average in averages],
        [average.dtype for average in averages],
        [*averages, *values],
        cpu_src=f'const float keep = data["keep"];\n#pragma omp parallel\n{{{passes}}}\n',
        data={"keep": keep},
    )
    for average, new in zip(averages, moved, strict=True):
        average.update(new)
