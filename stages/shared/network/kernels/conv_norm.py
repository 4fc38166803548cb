"""A convolution and the BatchNorm after it as one kernel; it is in conv_norm.h."""

from __future__ import annotations

from stages.shared.network.kernels import call
from stages.shared.network.kernels.affine import Kernel
from stages.shared.network.kernels.conv import Conv
from stages.shared.network.kernels.norm import ADD_UP, BatchNorm
from stages.shared.network.runtime import jt


class _Training(jt.Function):
    """The two kernels of a training step, for images of one size."""

    def __init__(
        self, kernel: Kernel, between: tuple[int, ...], shape: tuple[int, ...], norm: BatchNorm
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.between = between
        self.shape = shape
        self.norm = norm

    def execute(
        self, x: jt.Var, w: jt.Var, weight: jt.Var, bias: jt.Var, *w_bias: jt.Var
    ) -> jt.Var:
        header, name, sizes = self.kernel
        norm = self.norm
        inputs = [x, w, w_bias[0] if w_bias else w, weight, bias, *norm.running]
        between, y, index, mean, inverse, *running = call.call(
            header,
            f'{name}::train({sizes}, data["eps"], data["momentum"], in0_p, in1_p, in2_p, in3_p,'
            " in4_p, in5_p, in6_p, out0_p, out1_p, out2_p, out3_p, out4_p, out5_p, out6_p,"
            f" {ADD_UP});",
            inputs,
            [self.between, self.shape, self.shape, *[weight.shape] * 4],
            ["float32", "float32", norm.index_type(self.between), *["float32"] * 4],
            data={"eps": norm.eps, "momentum": norm.momentum, **norm.workers()},
        )
        norm.update(running)
        self.saved = x, w, between, weight, mean, inverse, y, index
        self.biased = bool(w_bias)
        self.of_x = call.shape_of_gradient(x)
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var | None, ...]:
        header, name, sizes = self.kernel
        x, w, between, weight, mean, inverse, y, index = self.saved
        others = [w.shape, weight.shape, weight.shape, weight.shape]
        shapes, outputs = call.gradients(self.of_x, others)
        found = call.call(
            header,
            f"{name}::grad({sizes}, in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, in6_p, in7_p, in8_p,"
            f" {outputs}, {ADD_UP});",
            [x, w, between, weight, mean, inverse, dy, y, index],
            shapes,
            data=self.norm.workers(),
        )
        dx, dw, dw_bias, dweight, dbias = found if self.of_x else (None, *found)
        return (dx, dw, dweight, dbias, dw_bias) if self.biased else (dx, dw, dweight, dbias)


def conv_norm(x: jt.Var, conv: Conv, norm: BatchNorm) -> jt.Var:
    """norm(conv(x)), to the same bytes, but faster: most of what lies between stays in the cache.

    What the kernels cannot take goes through the two layers one after the other.

    Args:
        x: float32 (N, C, H, W).
        conv: without ReLU.
        norm: of its outputs.

    Returns:
        float32 (N, O, H' // pool, W' // pool).
    """
    plan = None if conv.relu else conv.plan(x)
    between = (x.shape[0], conv.out_channels, *plan.positions) if plan else None
    inner = norm.kernel(between) if between else None
    if plan is None or between is None or inner is None:
        y: jt.Var = norm(conv(x))
        return y
    name = f"kernels::ConvNorm<{plan.kernel.name}, {inner}>"
    kernel = plan.kernel._replace(header="conv_norm", name=name)
    n, channels, height, width = between
    shape = (n, channels, height // norm.pool, width // norm.pool)
    w_bias = [] if conv.bias is None else [conv.bias]
    if norm.is_train:
        return _Training(kernel, between, shape, norm)(
            x, conv.weight, norm.weight, norm.bias, *w_bias
        )
    inputs = [x, conv.weight, *(w_bias or [conv.weight]), norm.weight, norm.bias, *norm.running]
    (y,) = call.call(
        kernel.header,
        f'{name}::evaluate({kernel.sizes}, data["eps"], in0_p, in1_p, in2_p, in3_p, in4_p, in5_p,'
        " in6_p, out0_p);",
        inputs,
        [shape],
        data={"eps": norm.eps},
    )
    return y
