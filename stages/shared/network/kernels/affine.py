"""The autograd function that the convolution and the linear layer share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt


class Lines(NamedTuple):
    """The calls of the three functions, as `call.call` takes them.

    Attributes:
        forward: from x, weight and bias to y.
        grad_x: from dy, weight and y to dx.
        grad_w: from x, dy and y to dweight and dbias.
    """

    forward: str
    grad_x: str
    grad_w: str


class Affine(jt.Function):
    """y = layer(x, weight) + bias, then ReLU if wanted; forward and backward are C++ functions.

    Args:
        header: the C++ file.
        lines: how its three functions are called.
        shape: of y.
        relu: the kernels do ReLU, so that the gradients read y.
    """

    def __init__(self, header: str, lines: Lines, shape: Sequence[int], relu: bool) -> None:
        super().__init__()
        self.header = header
        self.lines = lines
        self.shape = shape
        self.relu = relu

    def execute(self, x: jt.Var, weight: jt.Var, *bias: jt.Var) -> jt.Var:
        """Map x to y, both float32; `bias` is one array or none."""
        # The line names a third array, even where the kernel does not read it.
        inputs = [x, weight, bias[0] if bias else weight]
        (y,) = call.call(self.header, self.lines.forward, inputs, [self.shape])
        self.saved = x, weight, y if self.relu else None
        self.biased = bool(bias)
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        """Map the gradient of y to those of x, weight and bias."""
        x, weight, y = self.saved
        y = dy if y is None else y
        (dx,) = call.call(self.header, self.lines.grad_x, [dy, weight, y], [x.shape])
        shapes = [weight.shape, weight.shape[:1]]
        dw, db = call.call(self.header, self.lines.grad_w, [x, dy, y], shapes)
        return (dx, dw, db) if self.biased else (dx, dw)
