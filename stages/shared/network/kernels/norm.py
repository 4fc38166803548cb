"""BatchNorm for the CPU, with ReLU and max-pooling in the same pass, drop-in for `nn.BatchNorm`.

Its kernels are in norm.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.shared.network import workers
from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn

# The last argument of the kernels of training, from what `BatchNorm.workers` gives.
ADD_UP = 'kernels::add_up_at(data["add_up"])'


class _Training(jt.Function):
    """The two kernels of a training step, for images of one size."""

    def __init__(self, kernel: str, shape: tuple[int, ...], norm: BatchNorm) -> None:
        super().__init__()
        self.kernel = kernel
        self.shape = shape
        self.norm = norm

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var) -> jt.Var:
        norm = self.norm
        y, index, mean, inverse, *running = call.call(
            "norm",
            f'{self.kernel}::train(in0_shape0, data["eps"], data["momentum"], in0_p, in1_p, in2_p,'
            " in3_p, in4_p, out0_p, out1_p, out2_p, out3_p, out4_p, out5_p,"
            f" {ADD_UP});",
            [x, weight, bias, *norm.running],
            [self.shape, self.shape, *[weight.shape] * 4],
            ["float32", norm.index_type(x.shape), *["float32"] * 4],
            data={"eps": norm.eps, "momentum": norm.momentum, **norm.workers()},
        )
        norm.update(running)
        self.saved = x, weight, mean, inverse, y, index
        return y

    def grad(self, dy: jt.Var) -> list[jt.Var]:
        x, weight, mean, inverse, y, index = self.saved
        return call.call(
            "norm",
            f"{self.kernel}::grad(in0_shape0, in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, in6_p,"
            f" out0_p, out1_p, out2_p, {ADD_UP});",
            [x, weight, mean, inverse, dy, y, index],
            [x.shape, weight.shape, weight.shape],
            data=self.norm.workers(),
        )


class BatchNorm(nn.BatchNorm):
    """`jittor.nn.BatchNorm`, with this project's kernels on the CPU.

    CUDA, MPI, inputs of other than 4 dimensions or of another type than float32, empty arrays,
    images of so many pixels that an `int` of C++ cannot count them, and gradients in evaluation
    mode fall back to Jittor's implementation.

    Args:
        features: channels of the input.
        relu: replace what is negative in the result by 0.
        pool: 2 halves height and width afterwards, keeping the maximum of each 2 x 2 square.
        others: as `jittor.nn.BatchNorm` takes them.
    """

    def __init__(
        self, features: int, *others: Any, relu: bool = False, pool: int = 1, **named: Any
    ):
        super().__init__(features, *others, **named)
        assert pool in (1, 2)
        self.relu = relu
        self.pool = pool

    def execute(self, x: jt.Var) -> jt.Var:
        """Map float32 (N, C, H, W) to float32 (N, C, H // pool, W // pool)."""
        kernel = self.kernel(x.shape) if call.usable(x) else None
        if kernel is None:
            # Jittor's own would take the statistics of this worker's images.
            assert workers.current().count == 1 or not self.is_train, "no kernel for these images"
            return call.fallback(super().execute(x), self.relu, self.pool)
        n, channels, height, width = x.shape
        shape = (n, channels, height // self.pool, width // self.pool)
        if self.is_train:
            return _Training(kernel, shape, self)(x, self.weight, self.bias)
        (y,) = call.call(
            "norm",
            f'{kernel}::evaluate(in0_shape0, data["eps"], in0_p, in1_p, in2_p, in3_p, in4_p,'
            " out0_p);",
            [x, self.weight, self.bias, *self.running],
            [shape],
            data={"eps": self.eps},
        )
        return y

    def kernel(self, shape: Sequence[int]) -> str | None:
        """The C++ type for float32 images of this shape, (N, C, H, W); None where there is none."""
        synced = self.sync and jt.in_mpi
        # In evaluation mode there is a kernel for the way forward only.
        lacking = not self.is_train and not jt.flags.no_grad
        if synced or lacking or not self.affine or not call.usable(self.weight):
            return None
        if len(shape) != 4 or shape[1] != self.num_features:
            return None
        _, channels, height, width = shape
        if min(height, width) < self.pool or not call.fits(height * width):
            return None
        return f"kernels::BatchNorm<{channels}, {height}, {width}, {self.pool}, {int(self.relu)}>"

    @staticmethod
    def workers() -> dict[str, float]:
        """What the kernels of training take of the workers, as `call.call` takes numbers."""
        return {"add_up": workers.current().add_up}

    @property
    def running(self) -> tuple[jt.Var, jt.Var]:
        """The running mean and variance, each float32 (C,)."""
        return self.running_mean, self.running_var

    def update(self, running: Sequence[jt.Var]) -> None:
        """Replace the running mean and variance."""
        for var, value in zip(self.running, running, strict=True):
            var.update(value)

    @staticmethod
    def index_type(shape: Sequence[int]) -> str:
        """How the index of a pixel of (N, C, H, W) is stored: in 16 bits where that is enough."""
        return "uint16" if shape[2] * shape[3] <= 2**16 else "int32"
