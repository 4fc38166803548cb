"""A 2-D convolution for the CPU, drop-in for `jittor.nn.Conv`.

Its kernels are in conv.h and winograd.h.
"""

from __future__ import annotations

from functools import cache
from math import ceil
from typing import Any, NamedTuple

from stages.shared.network.kernels import call
from stages.shared.network.kernels.affine import Affine, Kernel
from stages.shared.network.runtime import jt, nn

# The widest vector and the largest tile of conv.h: what channels and pairs are rounded up to.
_ROUND = 16


class Plan(NamedTuple):
    """How to convolve images of one size.

    Attributes:
        kernel: what does it.
        positions: height and width of the output.
    """

    kernel: Kernel
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
) -> Plan | None:
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
    if (kernel, stride) == ((3, 3), (1, 1)) and _fewer_products(channels, outputs, rows, columns):
        header, name = "winograd", "Winograd"
        constants = [*image, outputs, *padding]
    else:
        header, name = "conv", "Conv"
        constants = [*image, outputs, *kernel, *stride, *padding]
    name = f"kernels::{name}<{', '.join(map(str, [*constants, int(bias), int(relu)]))}>"
    return Plan(Kernel(header, name, "in0_shape0"), (rows, columns))


def _fewer_products(channels: int, outputs: int, rows: int, columns: int) -> bool:
    """Whether winograd.h takes at most two thirds of the products of conv.h, and little besides.

    Each channel is transformed for all outputs, and each output for all channels, so that it takes
    some of both. With fewer products saved the transforms cost more than they save.
    """
    tiles = ceil(rows / 2) * ceil(columns / 2)
    return min(channels, outputs) >= 16 and 16 * tiles * 3 <= 9 * rows * columns * 2


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
        plan = self.plan(x)
        if plan is None:
            return call.fallback(super().execute(x), self.relu)
        bias = [] if self.bias is None else [self.bias]
        shape = (x.shape[0], self.out_channels, *plan.positions)
        return Affine(plan.kernel, shape, self.relu)(x, self.weight, *bias)

    def plan(self, x: jt.Var) -> Plan | None:
        """How the kernels would convolve x, float32 (N, C, H, W); None where they cannot."""
        biased = self.bias is not None
        arrays = [x, self.weight, self.bias] if biased else [x, self.weight]
        if self.groups != 1 or self.dilation != (1, 1) or not call.usable(*arrays):
            return None
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            return None
        image = tuple(x.shape[1:])
        window = (self.kernel_size, self.stride, self.padding)
        return _plan(image, self.out_channels, *window, biased, self.relu)
