"""The autograd function that the convolution and the linear layer share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt


class Kernel(NamedTuple):
    """A C++ type with two functions, `forward` and `grad`.

    Attributes:
        header: the C++ file, as `call.call` takes it.
        name: the type.
        sizes: the arguments that both begin with, in the words of `call.call`, where the first
            input is x and the second the weight.
    """

    header: str
    name: str
    sizes: str


class Affine(jt.Function):
    """y = layer(x, weight) + bias, then ReLU if wanted.

    Args:
        kernel: what computes y from x, weight and bias; and dx, dweight and dbias from x, weight,
            dy and y.
        shape: of y.
        relu: the kernel does ReLU, so that the gradients read y.
    """

    def __init__(self, kernel: Kernel, shape: Sequence[int], relu: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.shape = shape
        self.relu = relu

    def execute(self, x: jt.Var, weight: jt.Var, *bias: jt.Var) -> jt.Var:
        """Map x to y, both float32; `bias` is one array or none."""
        header, name, sizes = self.kernel
        line = f"{name}::forward({sizes}, in0_p, in1_p, in2_p, out0_p);"
        # The line names a third array, even where the kernel does not read it.
        inputs = [x, weight, bias[0] if bias else weight]
        (y,) = call.call(header, line, inputs, [self.shape])
        self.saved = x, weight, y if self.relu else None
        self.biased = bool(bias)
        self.of_x = call.shape_of_gradient(x)
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var | None, ...]:
        """Map the gradient of y to those of x, weight and bias; None for an x that wants none."""
        x, weight, y = self.saved
        header, name, sizes = self.kernel
        inputs = [x, weight, dy, dy if y is None else y]
        shapes, outputs = call.gradients(self.of_x, [weight.shape, weight.shape[:1]])
        line = f"{name}::grad({sizes}, in0_p, in1_p, in2_p, in3_p, {outputs});"
        found = call.call(header, line, inputs, shapes)
        dx, dw, db = found if self.of_x else (None, *found)
        return (dx, dw, db) if self.biased else (dx, dw)
