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

    While the workers of a training have the layer divided, its weight and bias hold the rows of
    this worker. It computes those outputs for the images of all of them.

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
        outputs = self.weight.shape[0]
        divided = outputs < self.out_features
        if divided:
            x = exchange.every_row(x)
        name = f"kernels::Linear<{len(bias)}, {int(self.relu)}>"
        kernel = Kernel("linear", name, "in0_shape0, in0_shape1, in1_shape0")  # N, in and out
        shape = (x.shape[0], outputs)
        y: jt.Var = Affine(kernel, shape, self.relu)(x, self.weight, *bias)
        return exchange.own_rows(y, self.out_features) if divided else y
