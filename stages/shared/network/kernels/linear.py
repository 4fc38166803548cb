"""A linear layer for the CPU, drop-in for `jittor.nn.Linear`; its kernels are in linear.h."""

from __future__ import annotations

from typing import Any

from stages.shared.network.kernels import call, exchange
from stages.shared.network.kernels.affine import Affine, Kernel
from stages.shared.network.runtime import jt, nn


class Linear(nn.Linear):
    """`jittor.nn.Linear`, with this project's kernels on the CPU.

    CUDA, inputs of other than 2 dimensions, other types than float32 and empty arrays take
    Jittor's implementation.

    While the workers of a training have the layer divided, its weight holds the columns of this
    worker, for as many of the inputs. It computes what these add to the outputs of all images.

    Args:
        relu: replace what is negative in the output by 0, in the same pass.
        others: as `jittor.nn.Linear` takes them.
    """

    def __init__(self, *others: Any, relu: bool = False, **named: Any) -> None:
        super().__init__(*others, **named)
        self.relu = relu

    def execute(self, x: jt.Var) -> jt.Var:
        """Map float32 (N, in) to float32 (N, out)."""
        bias = [] if self.bias is None else [self.bias]
        shapes_agree = x.ndim == 2 and x.shape[1] == self.in_features
        if not shapes_agree or not call.usable(x, self.weight, *bias):
            return call.fallback(super().execute(x), self.relu)
        if self.weight.shape[1] < self.in_features:
            y = exchange.sum_rows(_linear(exchange.own_columns(x), [self.weight], relu=False))
            return call.fallback(y + self.bias if bias else y, self.relu)
        return _linear(x, [self.weight, *bias], self.relu)


def _linear(x: jt.Var, layer: list[jt.Var], relu: bool) -> jt.Var:
    """Map float32 (N, in) to (N, out) by a weight, (out, in), and a bias where one is given."""
    name = f"kernels::Linear<{len(layer) - 1}, {int(relu)}>"
    kernel = Kernel("linear", name, "in0_shape0, in0_shape1, in1_shape0")  # N, in and out
    y: jt.Var = Affine(kernel, (x.shape[0], layer[0].shape[0]), relu)(x, *layer)
    return y
