"""BatchNorm for the CPU, with ReLU and max-pooling in the same pass, drop-in for `nn.BatchNorm`."""

from __future__ import annotations

from typing import Any

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt, nn

# A plane is one channel of one image. Planes are summed each on their own and then in order, so
# that the last bit does not depend on the number of threads.
_PLANES = """
namespace {
constexpr int PH = H / POOL, PW = W / POOL, SIZE = H * W, POOLED = PH * PW;

// y = a * x + b, then ReLU, then the maximum of each POOL x POOL square. `origin`, where it is
// wanted, is the place of that maximum in the plane. The rows of two are compared first, so that
// both loops run over neighbours in memory.
template <bool wanted>
inline void pass(const float* x, float a, float b, float* y, unsigned short* origin) {
    if (POOL == 1) {
        #pragma omp simd
        for (int i = 0; i < SIZE; i++) {
            float v = a * x[i] + b;
            y[i] = RELU && !(v > 0) ? 0.f : v;
        }
        return;
    }
    float most[4 * POOLED];
    int place[4 * POOLED];
    for (int i = 0; i < PH; i++)
        #pragma omp simd
        for (int j = 0; j < 2 * PW; j++) {
            const int at = 2 * i * W + j;
            float top = a * x[at] + b, low = a * x[at + W] + b;
            most[2 * i * PW + j] = low > top ? low : top;
            if (wanted) place[2 * i * PW + j] = low > top ? at + W : at;
        }
    #pragma omp simd
    for (int i = 0; i < POOLED; i++) {
        float left = most[2 * i], right = most[2 * i + 1], v = right > left ? right : left;
        y[i] = RELU && !(v > 0) ? 0.f : v;
        if (wanted) origin[i] = right > left ? place[2 * i + 1] : place[2 * i];
    }
}
}  // namespace
"""

_TRAIN = """
    const int N = in0_shape0;
    const float eps = data["eps"], momentum = data["momentum"];
    const double count = (double)N * SIZE;
    float* sums = scratch<0>((size_t)N * C * 2);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int plane = 0; plane < N * C; plane++) {
            const float* x = in0_p + (long)plane * SIZE;
            float sum = 0, squares = 0;
            #pragma omp simd reduction(+ : sum, squares)
            for (int i = 0; i < SIZE; i++) {
                sum += x[i];
                squares += x[i] * x[i];
            }
            sums[plane * 2] = sum;
            sums[plane * 2 + 1] = squares;
        }
        #pragma omp single
        for (int c = 0; c < C; c++) {
            double sum = 0, squares = 0;
            for (int n = 0; n < N; n++) {
                sum += sums[(n * C + c) * 2];
                squares += sums[(n * C + c) * 2 + 1];
            }
            double mean = sum / count, var = std::max(squares / count - mean * mean, 0.0);
            out2_p[c] = mean;
            out3_p[c] = 1 / std::sqrt(var + eps);
            out4_p[c] = in3_p[c] + (mean - in3_p[c]) * momentum;
            out5_p[c] = in4_p[c] + (var - in4_p[c]) * momentum;
        }
        #pragma omp for schedule(static)
        for (int plane = 0; plane < N * C; plane++) {
            const int c = plane % C;
            const float a = in1_p[c] * out3_p[c], b = in2_p[c] - out2_p[c] * a;
            pass<POOL == 2>(in0_p + (long)plane * SIZE, a, b, out0_p + (long)plane * POOLED,
                            out1_p + (long)plane * POOLED);
        }
    }
"""

_EVALUATE = """
    const int N = in0_shape0;
    const float eps = data["eps"];
    #pragma omp parallel for schedule(static)
    for (int plane = 0; plane < N * C; plane++) {
        const int c = plane % C;
        const float a = in1_p[c] / std::sqrt(in4_p[c] + eps), b = in2_p[c] - in3_p[c] * a;
        pass<false>(in0_p + (long)plane * SIZE, a, b, out0_p + (long)plane * POOLED, nullptr);
    }
"""

# in: x, weight, mean, 1 / deviation, dy, y, origin. With g what of dy came through ReLU and
# n = (x - mean) / deviation: dx = weight / deviation * (g - mean of g - n * mean of g n), where g
# lies at the origin of each maximum and is 0 elsewhere.
_GRAD = """
    const int N = in0_shape0;
    const double count = (double)N * SIZE;
    float* sums = scratch<0>((size_t)N * C * 2);
    float* slope = scratch<1>(C * 2);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int plane = 0; plane < N * C; plane++) {
            const float mean = in2_p[plane % C];
            const float *x = in0_p + (long)plane * SIZE, *dy = in4_p + (long)plane * POOLED;
            const float* y = in5_p + (long)plane * POOLED;
            const unsigned short* origin = in6_p + (long)plane * POOLED;
            float sum = 0, product = 0;
            #pragma omp simd reduction(+ : sum, product)
            for (int i = 0; i < POOLED; i++) {
                float g = RELU && !(y[i] > 0) ? 0.f : dy[i];
                sum += g;
                product += g * (x[POOL == 2 ? origin[i] : i] - mean);
            }
            sums[plane * 2] = sum;
            sums[plane * 2 + 1] = product * in3_p[plane % C];
        }
        #pragma omp single
        for (int c = 0; c < C; c++) {
            double sum = 0, product = 0;
            for (int n = 0; n < N; n++) {
                sum += sums[(n * C + c) * 2];
                product += sums[(n * C + c) * 2 + 1];
            }
            out1_p[c] = product;
            out2_p[c] = sum;
            slope[c * 2] = sum / count;
            slope[c * 2 + 1] = product / count * in3_p[c];
        }
        #pragma omp for schedule(static)
        for (int plane = 0; plane < N * C; plane++) {
            const int c = plane % C;
            const float a = in1_p[c] * in3_p[c], by_x = -a * slope[c * 2 + 1];
            const float rest = -a * slope[c * 2] - by_x * in2_p[c];
            const float *x = in0_p + (long)plane * SIZE, *dy = in4_p + (long)plane * POOLED;
            const float* y = in5_p + (long)plane * POOLED;
            const unsigned short* origin = in6_p + (long)plane * POOLED;
            float* dx = out0_p + (long)plane * SIZE;
            #pragma omp simd
            for (int i = 0; i < SIZE; i++) dx[i] = rest + by_x * x[i];
            for (int i = 0; i < POOLED; i++) {
                float g = RELU && !(y[i] > 0) ? 0.f : a * dy[i];
                dx[POOL == 2 ? origin[i] : i] += g;
            }
        }
    }
"""


class _Normalisation(jt.Function):
    """The two kernels of a training step, for images of one size."""

    def __init__(self, header: str, pooled: tuple[int, ...], norm: nn.BatchNorm) -> None:
        super().__init__()
        self.header = header
        self.pooled = pooled
        self.norm = norm

    def execute(self, x: jt.Var, weight: jt.Var, bias: jt.Var) -> jt.Var:
        norm = self.norm
        per_channel = weight.shape
        y, origin, mean, inverse, running_mean, running_var = jt.code(
            [self.pooled, self.pooled, *[per_channel] * 4],
            ["float32", "uint16", *["float32"] * 4],
            [x, weight, bias, norm.running_mean, norm.running_var],
            cpu_header=self.header,
            cpu_src=_TRAIN,
            data={"eps": norm.eps, "momentum": norm.momentum},
        )
        norm.running_mean.update(running_mean)
        norm.running_var.update(running_var)
        self.saved = x, weight, mean, inverse, y, origin
        return y

    def grad(self, dy: jt.Var) -> list[jt.Var]:
        x, weight, mean, inverse, y, origin = self.saved
        grads: list[jt.Var] = jt.code(
            [x.shape, weight.shape, weight.shape],
            ["float32"] * 3,
            [x, weight, mean, inverse, dy, y, origin],
            cpu_header=self.header,
            cpu_src=_GRAD,
        )
        return grads


class BatchNorm(nn.BatchNorm):
    """`jittor.nn.BatchNorm`, with kernels of its own on the CPU.

    CUDA, MPI, inputs of other than 4 dimensions or of another type than float32, and gradients in
    evaluation mode take Jittor's own way.

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
        synced = self.sync and jt.in_mpi
        # In evaluation mode there is a kernel for the way forward only.
        lacking = not self.is_train and not jt.flags.no_grad
        usable = x.ndim == 4 and self.affine and vector.usable(x, self.weight)
        if not usable or synced or lacking:
            y = super().execute(x)
            y = nn.relu(y) if self.relu else y
            return nn.Pool(2)(y) if self.pool == 2 else y
        n, channels, height, width = x.shape
        header = (
            "#include <cmath>\n"
            + vector.HEADER
            + f"constexpr int C = {channels}, H = {height}, W = {width}, POOL = {self.pool};"
            + f" constexpr bool RELU = {int(self.relu)};"
            + _PLANES
        )
        pooled = (n, channels, height // self.pool, width // self.pool)
        if self.is_train:
            return _Normalisation(header, pooled, self)(x, self.weight, self.bias)
        return jt.code(
            pooled,
            "float32",
            [x, self.weight, self.bias, self.running_mean, self.running_var],
            cpu_header=header,
            cpu_src=_EVALUATE,
            data={"eps": self.eps},
        )
