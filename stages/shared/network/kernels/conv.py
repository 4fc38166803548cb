"""A 2-D convolution for the CPU, drop-in for `jittor.nn.Conv`; its kernels are in conv.h."""

from __future__ import annotations

from typing import Any

from stages.shared.network.kernels import call
from stages.shared.network.kernels.affine import Affine, Lines
from stages.shared.network.runtime import jt, nn

# The widest vector and the largest tile of conv.h: what channels and pairs are rounded up to.
_ROUND = 16


class Conv(nn.Conv):
    """`jittor.nn.Conv`, with kernels of its own on the CPU.

    Groups, dilation, CUDA, other types than float32, empty arrays, and images of so many numbers
    that an `int` of C++ cannot count them take Jittor's own way.

    Args:
        relu: replace what is negative in the output by 0, in the same pass.
        others: as `jittor.nn.Conv` takes them.
    """

    def __init__(self, *others: Any, relu: bool = False, **named: Any) -> None:
        super().__init__(*others, **named)
        self.relu = relu

    def execute(self, x: jt.Var) -> jt.Var:
        """Map float32 (N, C, H, W) to float32 (N, O, H', W')."""
        if not self._is_for_kernels(x):
            return call.jittors_way(super().execute(x), self.relu)
        bias = [] if self.bias is None else [self.bias]
        n, channels, height, width = x.shape
        constants = (
            *(channels, height, width, self.out_channels),
            *(*self.kernel_size, *self.stride, *self.padding),
            *(len(bias), int(self.relu)),
        )
        kernel = f"kernels::Conv<{', '.join(map(str, constants))}>"
        lines = Lines(
            forward=f"{kernel}::forward(in0_shape0, in0_p, in1_p, in2_p, out0_p);",
            grad_x=f"{kernel}::grad_x(in0_shape0, in0_p, in1_p, in2_p, out0_p);",
            grad_w=f"{kernel}::grad_w(in0_shape0, in0_p, in1_p, in2_p, out0_p, out1_p);",
        )
        shape = (n, self.out_channels, *self._positions(height, width))
        return Affine("conv", lines, shape, self.relu)(x, self.weight, *bias)

    def _positions(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for those of the input."""
        (kh, kw), (sy, sx), (py, px) = self.kernel_size, self.stride, self.padding
        return (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1

    def _is_for_kernels(self, x: jt.Var) -> bool:
        bias = [] if self.bias is None else [self.bias]
        if self.groups != 1 or self.dilation != (1, 1) or not call.usable(x, self.weight, *bias):
            return False
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            return False
        _, channels, height, width = x.shape
        rows, columns = self._positions(height, width)
        (kh, kw), (sy, sx), (py, px) = self.kernel_size, self.stride, self.padding
        if min(rows, columns) < 1 or min(py, px) < 0:
            return False
        wide_channels, wide_outputs = channels + _ROUND, self.out_channels + _ROUND
        return call.fits(
            channels * (height + 2 * py + sy) * (width + 2 * px + sx),
            wide_channels * (height * width + 1),
            wide_outputs * rows * columns,
            kh * kw * rows * columns,
            wide_outputs * (channels * kh * kw + _ROUND),
        )
