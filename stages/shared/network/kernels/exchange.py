"""What the workers of one training hand each other around a layer that they have divided.

The call is in exchange.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.shared.network import workers
from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt


class _Exchange(jt.Function):
    """One exchange on the way forward, and on the way back its opposite.

    Args:
        there: the address of the function for the way forward, as `workers.Exchanges` has it.
        back: that for the gradients.
        shape: of what comes out.
    """

    def __init__(self, there: float, back: float, shape: tuple[int, int]) -> None:
        super().__init__()
        self.there, self.back = there, back
        self.shape = shape

    def execute(self, x: jt.Var) -> jt.Var:
        self.of_x = call.shape_of_gradient(x)
        return _exchanged(x, self.there, self.shape)

    def grad(self, dy: jt.Var) -> jt.Var | None:
        return None if self.of_x is None else _exchanged(dy, self.back, self.of_x)


def own_columns(x: jt.Var) -> jt.Var:
    """Map all columns of this worker's images, float32 (n, C), to its columns of all images.

    Returns:
        float32 (N, c).
    """
    team = workers.current()
    there, back = team.exchanges.own_columns, team.exchanges.own_rows
    mine = team.slice(x.shape[1])
    y: jt.Var = _Exchange(there, back, (team.computed, mine.stop - mine.start))(x)
    return y


def sum_rows(x: jt.Var) -> jt.Var:
    """Add up over all workers what each has for all images, float32 (N, C).

    Returns:
        The sums for this worker's images, (n, C).
    """
    team = workers.current()
    there, back = team.exchanges.sum_rows, team.exchanges.every_row
    mine = team.slice(team.computed)
    y: jt.Var = _Exchange(there, back, (mine.stop - mine.start, x.shape[1]))(x)
    return y


def _exchanged(x: jt.Var, address: float, shape: Sequence[int]) -> jt.Var:
    line = (
        'kernels::exchange_at(data["address"])(in0_p, in0_shape0, in0_shape1, out0_p, out0_shape0,'
        " out0_shape1);"
    )
    (y,) = call.call("exchange", line, [x], [shape], data={"address": address})
    return y
