"""A 2-D convolution for the CPU, drop-in for `jittor.nn.Conv`."""

from __future__ import annotations

from typing import Any

from stages.shared.fast import vector
from stages.shared.runtime import jt, nn

# An image is copied to scratch memory with its padding, and for a stride S as S x S planes of every
# S-th pixel: every tap of the kernel then reads one plane at a fixed offset, whatever the stride.
# A position is row * WS + column. Columns from OW to WS hold no result; they are computed all the
# same, so that a vector may run across rows.
_GEOMETRY = """
namespace {
constexpr int OH = (H + 2 * PY - KH) / SY + 1, OW = (W + 2 * PX - KW) / SX + 1;
constexpr int HS = ceil_div(H + 2 * PY, SY), WS = ceil_div(W + 2 * PX, SX);
constexpr int PLANE = HS * WS, CHANNEL = SY * SX * PLANE, T = KH * KW;
constexpr int POSITIONS = (OH - 1) * WS + OW, VECTORS = ceil_div(POSITIONS, V);
constexpr size_t PLANES = (size_t)C * CHANNEL + VECTORS * V;

inline int offset(int t) {
    int ky = t / KW, kx = t % KW;
    return (ky % SY * SX + kx % SX) * PLANE + ky / SY * WS + kx / SX;
}

inline void split(const float* x, float* planes) {
    for (int c = 0; c < C; c++)
        for (int y = PY; y < H + PY; y++, x += W) {
            float* row = planes + c * CHANNEL + (y % SY) * SX * PLANE + y / SY * WS;
            if (SX == 1)
                memcpy(row + PX, x, W * 4);
            else
                for (int i = 0; i < W; i++) row[(i + PX) % SX * PLANE + (i + PX) / SX] = x[i];
        }
}
}  // namespace
"""

_FORWARD = """
    const int N = in0_shape0;
    const int blocks = ceil_div(O, ROWS);
    int taps[T];
    for (int t = 0; t < T; t++) taps[t] = offset(t);
    float* packed = scratch<0>(blocks * ROWS * C * T);
    for (int o = 0; o < blocks * ROWS; o++)
        for (int q = 0; q < C * T; q++)
            packed[(o / ROWS * C * T + q) * ROWS + o % ROWS] = o < O ? in1_p[o * C * T + q] : 0.f;
    #pragma omp parallel
    {
        float* planes = scratch<1>(PLANES);
        float* row = scratch<2>(ROWS * VECTORS * V);
        memset(planes, 0, PLANES * 4);
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            split(in0_p + (long)n * C * H * W, planes);
            for (int b = 0; b < blocks; b++) {
                rows_of_sums(planes, CHANNEL, C, taps, T, packed + b * ROWS * C * T, row,
                             VECTORS * V, VECTORS);
                for (int o = b * ROWS; o < std::min(O, (b + 1) * ROWS); o++) {
                    const float* from = row + (o - b * ROWS) * VECTORS * V;
                    float* to = out_p + ((long)n * O + o) * OH * OW;
                    const float bias = BIAS ? in2_p[o] : 0.f;
                    for (int i = 0; i < OH; i++)
                        for (int j = 0; j < OW; j++) {
                            float y = from[i * WS + j] + bias;
                            to[i * OW + j] = RELU && !(y > 0) ? 0.f : y;
                        }
                }
            }
        }
    }
"""

# Each plane of the input's gradient is a convolution of the output's gradient with the taps that
# read that plane. The empty columns between the rows stand for the zeros around an image.
_GRAD_X = """
    const int N = in0_shape0;
    constexpr int blocks = ceil_div(C, ROWS), vectors = ceil_div(PLANE, V);
    constexpr int GUARD = (KH - 1) / SY * WS + (KW - 1) / SX;
    constexpr int STEP = GUARD + (OH * WS > PLANE ? OH * WS : PLANE);
    int taps[SY * SX][T], count[SY * SX] = {}, begin[SY * SX];
    for (int t = 0; t < T; t++) {
        int ky = t / KW, kx = t % KW, plane = ky % SY * SX + kx % SX;
        taps[plane][count[plane]++] = GUARD - (ky / SY * WS + kx / SX);
    }
    float* packed = scratch<0>((long)blocks * ROWS * O * T);
    float* to = packed;
    for (int plane = 0; plane < SY * SX; plane++) {
        begin[plane] = to - packed;
        for (int b = 0; b < blocks; b++)
            for (int o = 0; o < O; o++)
                for (int t = 0; t < T; t++) {
                    if (t / KW % SY * SX + t % KW % SX != plane) continue;
                    for (int c = b * ROWS; c < (b + 1) * ROWS; c++)
                        *to++ = c < C ? in1_p[(o * C + c) * T + t] : 0.f;
                }
    }
    #pragma omp parallel
    {
        float* dy = scratch<1>((size_t)O * STEP + V);
        float* row = scratch<2>(ROWS * vectors * V);
        memset(dy, 0, ((size_t)O * STEP + V) * 4);
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            for (int o = 0; o < O; o++) {
                const long image = ((long)n * O + o) * OH * OW;
                for (int i = 0; i < OH; i++)
                    for (int j = 0; j < OW; j++) {
                        float g = in0_p[image + i * OW + j];
                        if (RELU) g = in2_p[image + i * OW + j] > 0 ? g : 0.f;
                        dy[o * STEP + GUARD + i * WS + j] = g;
                    }
            }
            for (int plane = 0; plane < SY * SX; plane++) {
                // What this plane holds of the image, without the padding.
                const int y0 = plane / SX - PY, x0 = plane % SX - PX;
                const int top = ceil_div(std::max(0, -y0), SY);
                const int left = ceil_div(std::max(0, -x0), SX);
                const int end = std::min(HS, ceil_div(std::max(0, H - y0), SY));
                const int right = std::min(WS, ceil_div(std::max(0, W - x0), SX));
                if (top >= end) continue;
                for (int b = 0; b < blocks; b++) {
                    rows_of_sums(dy + top * WS, STEP, O, taps[plane], count[plane],
                                 packed + begin[plane] + (long)b * O * count[plane] * ROWS, row,
                                 vectors * V, ceil_div((end - top) * WS, V));
                    for (int c = b * ROWS; c < std::min(C, (b + 1) * ROWS); c++)
                        for (int i = top; i < end; i++) {
                            const float* from = row + (c - b * ROWS) * vectors * V + (i - top) * WS;
                            float* dx = out_p + (((long)n * C + c) * H + i * SY + y0) * W + x0;
                            for (int j = left; j < right; j++) dx[j * SX] = from[j];
                        }
                }
            }
        }
    }
"""

# Rows are pairs of an input channel and a tap, columns are output channels, and the sum runs over
# pixels. Images are summed in GROUPS of fixed size, whatever the number of threads, so that the
# order of the additions, and with it the last bit, is always the same.
_GRAD_W = """
    const int N = in0_shape0;
    constexpr int OV = ceil_div(O, V), WIDE = OV * V, MOST = REGISTERS == 32 ? 4 : 2;
    constexpr int COLUMNS = OV % MOST == 0 ? MOST : OV % 3 == 0 && MOST > 3 ? 3
                          : OV % 2 == 0 ? 2 : 1;
    constexpr int PAIRS = (REGISTERS == 32 ? 24 : 12) / COLUMNS > 12 ? 12
                        : (REGISTERS == 32 ? 24 : 12) / COLUMNS;
    constexpr int Q = ceil_div(C * T, PAIRS) * PAIRS;
    constexpr int STRIP = 96 / OW > 1 ? 96 / OW : 1;  // rows of pixels that fit the nearest cache
    const int groups = std::min(N, 16);
    int at[Q];
    for (int q = 0; q < Q; q++) at[q] = q < C * T ? q / T * CHANNEL + offset(q % T) : 0;
    const long size = (long)(Q + 1) * WIDE;  // one more row for the bias
    float* partial = scratch<0>(groups * size);
    #pragma omp parallel
    {
        float* planes = scratch<1>(PLANES);
        float* dy = scratch<2>(OH * OW * WIDE);
        memset(planes, 0, PLANES * 4);
        memset(dy, 0, OH * OW * WIDE * 4);
        #pragma omp for schedule(static)
        for (int group = 0; group < groups; group++) {
            float* dw = partial + group * size;
            memset(dw, 0, size * 4);
            for (int n = (long)N * group / groups; n < (long)N * (group + 1) / groups; n++) {
                split(in0_p + (long)n * C * H * W, planes);
                const float* g = in1_p + (long)n * O * OH * OW;
                const float* y = RELU ? in2_p + (long)n * O * OH * OW : g;
                for (int o0 = 0; o0 < O; o0 += V)
                    for (int p = 0; p < OH * OW; p++)
                        for (int o = o0; o < (o0 + V < O ? o0 + V : O); o++) {
                            float d = g[o * OH * OW + p];
                            if (RELU) d = y[o * OH * OW + p] > 0 ? d : 0.f;
                            dy[p * WIDE + o] = d;
                        }
                for (int v = 0; v < OV; v++) {
                    vec sum = load(dw + Q * WIDE + v * V);
                    for (int p = 0; p < OH * OW; p++) sum += load(dy + p * WIDE + v * V);
                    store(dw + Q * WIDE + v * V, sum);
                }
                for (int top = 0; top < OH; top += STRIP)
                    for (int q = 0; q < Q; q += PAIRS)
                        for (int o = 0; o < WIDE; o += COLUMNS * V) {
                            vec acc[PAIRS][COLUMNS];
                            const float* x[PAIRS];
                            #pragma GCC unroll 12
                            for (int i = 0; i < PAIRS; i++) {
                                x[i] = planes + at[q + i];
                                #pragma GCC unroll 4
                                for (int v = 0; v < COLUMNS; v++)
                                    acc[i][v] = load(dw + (q + i) * WIDE + o + v * V);
                            }
                            for (int r = top; r < std::min(OH, top + STRIP); r++) {
                                const float* d = dy + r * OW * WIDE + o;
                                for (int j = r * WS; j < r * WS + OW; j++, d += WIDE) {
                                    vec dv[COLUMNS];
                                    #pragma GCC unroll 4
                                    for (int v = 0; v < COLUMNS; v++) dv[v] = load(d + v * V);
                                    #pragma GCC unroll 12
                                    for (int i = 0; i < PAIRS; i++)
                                        #pragma GCC unroll 4
                                        for (int v = 0; v < COLUMNS; v++)
                                            acc[i][v] += dv[v] * x[i][j];
                                }
                            }
                            #pragma GCC unroll 12
                            for (int i = 0; i < PAIRS; i++)
                                #pragma GCC unroll 4
                                for (int v = 0; v < COLUMNS; v++)
                                    store(dw + (q + i) * WIDE + o + v * V, acc[i][v]);
                        }
            }
        }
        #pragma omp for schedule(static) nowait
        for (int q = 0; q < C * T; q++)
            for (int o = 0; o < O; o++) {
                float sum = 0;
                const float* from = partial + q * WIDE + o;
                for (int group = 0; group < groups; group++) sum += from[group * size];
                out0_p[o * C * T + q] = sum;
            }
        // Apart from the loop above: -Ofast lets the compiler turn one store out of two into both,
        // and a thread would then write back what another has just changed.
        #pragma omp for schedule(static)
        for (int o = 0; o < O; o++) {
            float sum = 0;
            const float* from = partial + Q * WIDE + o;
            for (int group = 0; group < groups; group++) sum += from[group * size];
            out1_p[o] = sum;
        }
    }
"""


class _Convolution(jt.Function):
    """The three kernels of a convolution, for images of one size."""

    def __init__(self, header: str, shape: tuple[int, ...], relu: bool) -> None:
        super().__init__()
        self.header = header
        self.shape = shape
        self.relu = relu

    def execute(self, x: jt.Var, weight: jt.Var, *bias: jt.Var) -> jt.Var:
        third = bias[0] if bias else weight  # the kernel names it, even where it does not read it
        y = jt.code(
            self.shape, x.dtype, [x, weight, third], cpu_header=self.header, cpu_src=_FORWARD
        )
        self.saved = x, weight, y if self.relu else None
        self.biased = bool(bias)
        return y

    def grad(self, dy: jt.Var) -> tuple[jt.Var, ...]:
        x, weight, y = self.saved
        y = dy if y is None else y
        dx = jt.code(x.shape, x.dtype, [dy, weight, y], cpu_header=self.header, cpu_src=_GRAD_X)
        dw, db = jt.code(
            [weight.shape, self.shape[1:2]],
            [x.dtype, x.dtype],
            [x, dy, y],
            cpu_header=self.header,
            cpu_src=_GRAD_W,
        )
        return (dx, dw, db) if self.biased else (dx, dw)


class Conv(nn.Conv):
    """`jittor.nn.Conv`, with kernels of its own on the CPU.

    Groups, dilation, CUDA and other types than float32 take Jittor's own way.

    Args:
        relu: replace what is negative in the output by 0, in the same pass.
        others: as `jittor.nn.Conv` takes them.
    """

    def __init__(self, *others: Any, relu: bool = False, **named: Any) -> None:
        super().__init__(*others, **named)
        self.relu = relu

    def execute(self, x: jt.Var) -> jt.Var:
        """Map float32 (N, C, H, W) to float32 (N, O, H', W')."""
        bias = [] if self.bias is None else [self.bias]
        plain = self.groups == 1 and self.dilation == (1, 1)
        if not plain or not vector.usable(x, self.weight, *bias):
            y = super().execute(x)
            return nn.relu(y) if self.relu else y
        sizes = (self.kernel_size, self.stride, self.padding)
        (kh, kw), (sy, sx), (py, px) = sizes
        n, channels, height, width = x.shape
        rows, columns = (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1
        constants = (
            f"constexpr int C = {channels}, H = {height}, W = {width}, O = {self.out_channels},"
            f" KH = {kh}, KW = {kw}, SY = {sy}, SX = {sx}, PY = {py}, PX = {px};"
            f" constexpr bool BIAS = {len(bias)}, RELU = {int(self.relu)};"
        )
        header = vector.HEADER + constants + _GEOMETRY
        shape = (n, self.out_channels, rows, columns)
        return _Convolution(header, shape, self.relu)(x, self.weight, *bias)
