"""A 2-D convolution for the CPU, drop-in for `jittor.nn.Conv`; its kernels are in conv.h."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from stages.shared.network.kernels import call
from stages.shared.network.kernels.affine import Affine, Lines
from stages.shared.network.runtime import jt, nn

# The widest vector and the largest tile of conv.h: what channels and pairs are rounded up to.
_ROUND = 16


class _Plan(NamedTuple):
    """What the kernels need for images of one size.

    Attributes:
        lines: the calls.
        positions: height and width of the output.
    """

    lines: Lines
    positions: tuple[int, int]


@cache  # a layer asks at each call
def _plan(
    image: tuple[int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    bias: bool,
    relu: bool,
) -> _Plan | None:
    """How to convolve images of (channels, height, width), or None where the kernels cannot."""
    channels, height, width = image
    (kh, kw), (sy, sx), (py, px) = kernel, stride, padding
    rows, columns = (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1
    countable = call.fits(
        channels * (height + 2 * py + sy) * (width + 2 * px + sx),
        (channels + _ROUND) * (height * width + 1),
        (outputs + _ROUND) * rows * columns,
        kh * kw * rows * columns,
        (outputs + _ROUND) * (channels * kh * kw + _ROUND),
        outputs * (channels + _ROUND) * kh * kw,
    )
    if min(rows, columns) < 1 or min(padding) < 0 or not countable:
        return None
    constants = (*image, outputs, *kernel, *stride, *padding, int(bias), int(relu))
    name = f"kernels::Conv<{', '.join(map(str, constants))}>"
    lines = Lines(
        forward=f"{name}::forward(in0_shape0, in0_p, in1_p, in2_p, out0_p);",
        grad_x=f"{name}::grad_x(in0_shape0, in0_p, in1_p, in2_p, out0_p);",
        grad_w=f"{name}::grad_w(in0_shape0, in0_p, in1_p, in2_p, out0_p, out1_p);",
    )
    return _Plan(lines, (rows, columns))


class Conv(nn.Conv):
    """`jittor.nn.Conv`, with this project's kernels on the CPU.

    Groups, dilation, CUDA, other types than float32, empty arrays, and images of so many numbers
    that an `int` of C++ cannot count them fall back to Jittor's implementation.

    Args:
        relu: replace what is negative in the output by 0, in the same pass.
        others: as `jittor.nn.Conv` takes them.
    """

    def __init__(self, *others: Any, relu: bool = False, **named: Any) -> None:
        super().__init__(*others, **named)
        self.relu = relu

    def execute(self, x: jt.Var) -> jt.Var:
        """Map float32 (N, C, H, W) to float32 (N, O, H', W')."""
        plan = self._plan(x)
        if plan is None:
            return call.fallback(super().execute(x), self.relu)
        bias = [] if self.bias is None else [self.bias]
        shape = (x.shape[0], self.out_channels, *plan.positions)
        return Affine("conv", plan.lines, shape, self.relu)(x, self.weight, *bias)

    def _plan(self, x: jt.Var) -> _Plan | None:
        """How the kernels would do it, or None where they cannot."""
        biased = self.bias is not None
        arrays = [x, self.weight, self.bias] if biased else [x, self.weight]
        if self.groups != 1 or self.dilation != (1, 1) or not call.usable(*arrays):
            return None
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            return None
        image = tuple(x.shape[1:])
        window = (self.kernel_size, self.stride, self.padding)
        return _plan(image, self.out_channels, *window, biased, self.relu)
