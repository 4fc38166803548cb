"""A linear layer for the CPU, drop-in for `jittor.nn.Linear`."""

from __future__ import annotations

from typing import Any

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt, nn

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
        for (int k = 0; k < I; k += V) {
            float* rows = turned + (long)k * step;
            const int count = std::min(V, I - k);
            if (N < step) memset(rows, 0, (long)count * step * 4);
            turn(in0_p + k, I, N, count, rows, step);
        }
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
        for (int n = 0; n < N; n += V) {
            const int count = std::min(V, N - n);
            turn(sums + n, step, O, count, out_p + (long)n * O, O);
            for (float* y = out_p + (long)n * O; y < out_p + (long)(n + count) * O; y += O)
                for (int o = 0; o < O; o++) {
                    const float z = y[o] + (BIAS ? in2_p[o] : 0.f);
                    y[o] = RELU && !(z > 0) ? 0.f : z;
                }
        }
    }
"""

# out[m][p] = sum over c of a(c, m) * x[c][p], where a(c, m) = a[c * step + m * line]. The columns p
# go by in panels that stay in the cache, and a tile of rows by COLS vectors is summed in registers.
_PRODUCT = """
namespace {
constexpr int ROWS = REGISTERS == 32 ? 8 : 4, COLS = 3, PANEL = 2 * COLS * V;

template <int rows, int n>
inline void sums(const float* a, long step, long line, const float* x, int C, float* out, long to) {
    vec acc[rows][n] = {};
    for (int c = 0; c < C; c++, a += step, x += PANEL) {
        vec xv[n];
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) xv[v] = load(x + v * V);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < n; v++) acc[r][v] += xv[v] * a[r * line];
    }
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) store(out + r * to + v * V, acc[r][v]);
}

template <int rows>
inline void row_of_sums(const float* a, long step, long line, const float* x, int C, int width,
                        float* out, long to) {
    float last[ROWS * V];
    int p = 0;
    for (; p + COLS * V <= width; p += COLS * V)
        sums<rows, COLS>(a, step, line, x + p, C, out + p, to);
    for (; p + V <= width; p += V) sums<rows, 1>(a, step, line, x + p, C, out + p, to);
    if (p == width) return;
    sums<rows, 1>(a, step, line, x + p, C, last, V);
    for (int r = 0; r < rows; r++) memcpy(out + r * to + p, last + r * V, (width - p) * 4);
}

inline void product(const float* a, long step, long line, int M, const float* x, int C, int P,
                    float* out) {
    #pragma omp parallel
    {
        float* panel = scratch<1>((size_t)C * PANEL);
        #pragma omp for schedule(static)
        for (int p = 0; p < P; p += PANEL) {
            const int width = std::min(PANEL, P - p);
            for (int c = 0; c < C; c++) memcpy(panel + c * PANEL, x + (long)c * P + p, width * 4);
            int m = 0;
            for (; m + ROWS <= M; m += ROWS)
                row_of_sums<ROWS>(a + m * line, step, line, panel, C, width,
                                  out + (long)m * P + p, P);
            for (; m < M; m++)
                row_of_sums<1>(a + m * line, step, line, panel, C, width,
                               out + (long)m * P + p, P);
        }
    }
}

// What of dy comes through ReLU.
inline const float* masked(const float* dy, const float* y, int count) {
    if (!RELU) return dy;
    float* room = scratch<0>(count);
    for (int i = 0; i < count; i++) room[i] = y[i] > 0 ? dy[i] : 0.f;
    return room;
}
}  // namespace
"""

_GRAD_X = """
    const int N = in0_shape0, O = in1_shape0, I = in1_shape1;
    product(masked(in0_p, in2_p, N * O), 1, O, N, in1_p, O, I, out_p);
"""

_GRAD_W = """
    const int N = in0_shape0, O = in1_shape1, I = in0_shape1;
    const float* dy = masked(in1_p, in2_p, N * O);
    product(dy, O, 1, O, in0_p, N, I, out0_p);
    memset(out1_p, 0, O * 4);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++) out1_p[o] += dy[(long)n * O + o];
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
