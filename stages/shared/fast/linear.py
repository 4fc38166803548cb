"""A linear layer for the CPU, drop-in for `jittor.nn.Linear`."""

from __future__ import annotations

from typing import Any

from stages.shared.fast import vector
from stages.shared.runtime import jt, nn

# A tile of B x V images by LINES outputs is summed in registers. Pixels go by in chunks that stay
# in the cache; the images' side is turned over first, so that a vector holds one pixel of V images.
_FORWARD_HEADER = """
namespace {
constexpr int LINES = 4, MOST = REGISTERS == 32 ? 4 : 2, CHUNK = 256;

template <int lines, int n>
inline void tile(const float* x, long step, const float* w, long line, int count, float* sums) {
    vec acc[lines][n];
    #pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) acc[r][v] = load(sums + r * step + v * V);
    for (int k = 0; k < count; k++, x += step) {
        vec xv[n];
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) xv[v] = load(x + v * V);
        #pragma GCC unroll 4
        for (int r = 0; r < lines; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < n; v++) acc[r][v] += xv[v] * w[r * line + k];
    }
    #pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) store(sums + r * step + v * V, acc[r][v]);
}

template <int lines>
inline void tiles(const float* x, int step, const float* w, long line, int count, float* sums) {
    int v = 0, vectors = step / V;
    for (; v + MOST <= vectors; v += MOST)
        tile<lines, MOST>(x + v * V, step, w, line, count, sums + v * V);
    for (; v < vectors; v++) tile<lines, 1>(x + v * V, step, w, line, count, sums + v * V);
}
}  // namespace
"""

_FORWARD = """
    const int N = in0_shape0, I = in0_shape1, O = in1_shape0, step = ceil_div(N, V) * V;
    const int parts = omp_get_max_threads();  // each output is summed whole by one thread
    float* turned = scratch<0>((size_t)I * step);
    float* sums = scratch<1>((size_t)O * step);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int k0 = 0; k0 < I; k0 += V)
            for (int n0 = 0; n0 < step; n0 += V)
                for (int k = k0; k < std::min(I, k0 + V); k++)
                    for (int n = n0; n < n0 + V; n++)
                        turned[(long)k * step + n] = n < N ? in0_p[(long)n * I + k] : 0.f;
        #pragma omp for schedule(static)
        for (int part = 0; part < parts; part++) {
            const int first = (long)O * part / parts, last = (long)O * (part + 1) / parts;
            memset(sums + (long)first * step, 0, (long)(last - first) * step * 4);
            for (int k = 0; k < I; k += CHUNK) {
                const int count = std::min(CHUNK, I - k);
                const float* x = turned + (long)k * step;
                int o = first;
                for (; o + LINES <= last; o += LINES)
                    tiles<LINES>(x, step, in1_p + (long)o * I + k, I, count, sums + o * step);
                for (; o < last; o++)
                    tiles<1>(x, step, in1_p + (long)o * I + k, I, count, sums + o * step);
            }
        }
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n++)
            for (int o = 0; o < O; o++) {
                float y = sums[(long)o * step + n] + (BIAS ? in2_p[o] : 0.f);
                out_p[(long)n * O + o] = RELU && !(y > 0) ? 0.f : y;
            }
    }
"""

# out[m][p] = sum over c of a[c][m] * x[c][p], a panel of columns p at a time.
_PRODUCT = """
namespace {
constexpr int PANEL = 4 * COLS * V;

// `packed` holds a as [m / ROWS][c][m % ROWS], with zeros to fill the last block.
inline void product(const float* packed, int M, const float* x, int C, int P, float* out) {
    #pragma omp parallel
    {
        float* panel = scratch<2>((size_t)C * PANEL);
        float* rows = scratch<3>(ROWS * PANEL);
        const int tap = 0;
        #pragma omp for schedule(static)
        for (int p = 0; p < P; p += PANEL) {
            const int width = std::min(PANEL, P - p);
            for (int c = 0; c < C; c++) memcpy(panel + c * PANEL, x + (long)c * P + p, width * 4);
            for (int m = 0; m < M; m += ROWS) {
                const bool direct = m + ROWS <= M && width % V == 0;
                rows_of_sums(panel, PANEL, C, &tap, 1, packed + (long)m * C,
                             direct ? out + (long)m * P + p : rows, direct ? P : PANEL,
                             ceil_div(width, V));
                for (int r = 0; !direct && r < std::min(ROWS, M - m); r++)
                    memcpy(out + (long)(m + r) * P + p, rows + r * PANEL, width * 4);
            }
        }
    }
}
}  // namespace
"""

_GRAD_X = """
    const int N = in0_shape0, O = in1_shape0, I = in1_shape1;
    const int blocks = ceil_div(N, ROWS);
    float* packed = scratch<0>((size_t)blocks * ROWS * O);
    for (int n = 0; n < blocks * ROWS; n++)
        for (int o = 0; o < O; o++) {
            float g = n < N ? in0_p[n * O + o] : 0.f;
            if (RELU && n < N && !(in2_p[n * O + o] > 0)) g = 0;
            packed[(long)n / ROWS * O * ROWS + o * ROWS + n % ROWS] = g;
        }
    product(packed, N, in1_p, O, I, out_p);
"""

_GRAD_W = """
    const int N = in0_shape0, O = in1_shape1, I = in0_shape1;
    const int blocks = ceil_div(O, ROWS);
    float* packed = scratch<0>((size_t)blocks * ROWS * N);
    memset(packed, 0, (size_t)blocks * ROWS * N * 4);
    memset(out1_p, 0, O * 4);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++) {
            float g = in1_p[n * O + o];
            if (RELU && !(in2_p[n * O + o] > 0)) g = 0;
            packed[(long)o / ROWS * N * ROWS + n * ROWS + o % ROWS] = g;
            out1_p[o] += g;
        }
    product(packed, O, in0_p, N, I, out0_p);
"""


class _Product(jt.Function):
    """The three kernels of a linear layer."""

    def __init__(self, constants: str, relu: bool) -> None:
        super().__init__()
        self.header = vector.HEADER + constants
        self.relu = relu

    def execute(self, x: jt.Var, weight: jt.Var, *bias: jt.Var) -> jt.Var:
        third = bias[0] if bias else weight  # the kernel names it, even where it does not read it
        y = jt.code(
            (x.shape[0], weight.shape[0]),
            x.dtype,
            [x, weight, third],
            cpu_header=self.header + _FORWARD_HEADER,
            cpu_src=_FORWARD,
        )
        self.saved = x, weight, y if self.relu else None
        self.biased = bool(bias)
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        x, weight, y = self.saved
        y = dy if y is None else y
        header = self.header + _PRODUCT
        dx = jt.code(x.shape, x.dtype, [dy, weight, y], cpu_header=header, cpu_src=_GRAD_X)
        dw, db = jt.code(
            [weight.shape, weight.shape[:1]],
            [x.dtype, x.dtype],
            [x, dy, y],
            cpu_header=header,
            cpu_src=_GRAD_W,
        )
        return (dx, dw, db) if self.biased else (dx, dw)


class Linear(nn.Linear):
    """`jittor.nn.Linear`, with kernels of its own on the CPU.

    CUDA, inputs of other than 2 dimensions and of other types than float32 take Jittor's own way.

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
        if x.ndim != 2 or not vector.usable(x, self.weight, *bias):
            y = super().execute(x)
            return nn.relu(y) if self.relu else y
        constants = f"constexpr bool BIAS = {len(bias)}, RELU = {int(self.relu)};"
        return _Product(constants, self.relu)(x, self.weight, *bias)
