"""A 2-D convolution for the CPU, drop-in for `jittor.nn.Conv`."""

from __future__ import annotations

from typing import Any

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt, nn

# Vectors run over channels, whose number is mostly a multiple of a vector's width, while images end
# anywhere. The weights are turned for that once a call, and each image's result is turned back.
#
# An image with padding is copied to scratch memory, and for a stride S it becomes S x S planes of
# every S-th pixel: every tap of the kernel then reads one plane at a fixed offset from a position,
# whatever the stride. WS is the width of such a plane.
_GEOMETRY = """
namespace {
constexpr int OH = (H + 2 * PY - KH) / SY + 1, OW = (W + 2 * PX - KW) / SX + 1, P = OH * OW;
constexpr int HS = ceil_div(H + 2 * PY, SY), WS = ceil_div(W + 2 * PX, SX);
constexpr int PLANE = HS * WS, CHANNEL = SY * SX * PLANE, PLANES = C * CHANNEL;
constexpr int T = KH * KW, Q = C * T;
constexpr bool AS_IT_IS = SY == 1 && SX == 1 && PY == 0 && PX == 0;

// Where tap q % T of channel q / T lies, from the place of a position.
inline int offset(int q) {
    const int ky = q % T / KW, kx = q % KW;
    return q / T * CHANNEL + (ky % SY * SX + kx % SX) * PLANE + ky / SY * WS + kx / SX;
}

inline const float* split(const float* x, float* planes) {
    if (AS_IT_IS) return x;
    for (int c = 0; c < C; c++)
        for (int y = PY; y < H + PY; y++, x += W) {
            float* row = planes + c * CHANNEL + (y % SY) * SX * PLANE + y / SY * WS;
            if (SX == 1)
                memcpy(row + PX, x, W * 4);
            else
                for (int i = 0; i < W; i++) row[(i + PX) % SX * PLANE + (i + PX) / SX] = x[i];
        }
    return planes;
}

// What of an image's dy comes through ReLU.
inline const float* masked(const float* dy, const float* y, float* room) {
    if (!RELU) return dy;
    for (int i = 0; i < O * P; i++) room[i] = y[i] > 0 ? dy[i] : 0.f;
    return room;
}

// A tile of sums, `columns` vectors of channels for each of `across` things, fills the registers
// and leaves room for the operands.
constexpr int SUMS = REGISTERS == 32 ? 24 : 12;
constexpr int divisor(int vectors, int most) {
    return vectors % most == 0 ? most : divisor(vectors, most - 1);
}
constexpr int across(int columns) { return SUMS / columns > 12 ? 12 : SUMS / columns; }

// sums[i][v] += sum over k < count of w[k][v] * x(i, k)
template <int n, int columns, class Operand>
inline void add_products(vec (&sums)[n][columns], int count, const float* w, Operand x) {
    for (int k = 0; k < count; k++, w += columns * V) {
        vec wv[columns];
        #pragma GCC unroll 4
        for (int v = 0; v < columns; v++) wv[v] = load(w + v * V);
        #pragma GCC unroll 12
        for (int i = 0; i < n; i++)
            #pragma GCC unroll 4
            for (int v = 0; v < columns; v++) sums[i][v] += wv[v] * x(i, k);
    }
}

// Calls work(size, p) for all positions p, at most `most` at a time and about as many each time.
template <int most, class Work>
inline void in_tiles(Work work) {
    constexpr int size = ceil_div(P, ceil_div(P, most)), rest = P % size;
    for (int p = 0; p + size <= P; p += size) work(std::integral_constant<int, size>(), p);
    if (rest) work(std::integral_constant<int, rest ? rest : 1>(), P - rest);
}

constexpr int WIDE_O = ceil_div(O, V) * V, WIDE_C = ceil_div(C, V) * V;
constexpr int COLUMNS_O = divisor(WIDE_O / V, REGISTERS == 32 ? 3 : 2);
constexpr int COLUMNS_C = divisor(WIDE_C / V, REGISTERS == 32 ? 3 : 2);

// The output at n positions for some channels, as rows of channels.
template <int n>
inline void forward_tile(const float* x, const int* place, const int* at, const float* w,
                         const float* bias, float* rows) {
    const float* from[n];
    vec sums[n][COLUMNS_O];
    #pragma GCC unroll 12
    for (int i = 0; i < n; i++) {
        from[i] = x + place[i];
        #pragma GCC unroll 4
        for (int v = 0; v < COLUMNS_O; v++) sums[i][v] = load(bias + v * V);
    }
    add_products(sums, Q, w, [&](int i, int q) { return from[i][at[q]]; });
    #pragma GCC unroll 12
    for (int i = 0; i < n; i++)
        #pragma GCC unroll 4
        for (int v = 0; v < COLUMNS_O; v++) {
            vec y = sums[i][v];
            store(rows + i * WIDE_O + v * V, RELU ? (y > 0 ? y : vec{}) : y);
        }
}

// Adds what the gradients of n positions mean for one tap to the pixels that it read.
template <int n>
inline void gradient_tile(const float* dy, const int* pixel, const float* w, float* dx) {
    vec sums[n][COLUMNS_C] = {};
    add_products(sums, O, w, [dy](int i, int o) { return dy[o * P + i]; });
    #pragma GCC unroll 12
    for (int i = 0; i < n; i++)
        #pragma GCC unroll 4
        for (int v = 0; v < COLUMNS_C; v++) {
            float* to = dx + pixel[i] * WIDE_C + v * V;
            store(to, load(to) + sums[i][v]);
        }
}
}  // namespace
"""

_FORWARD = """
    const int N = in0_shape0;
    constexpr int BLOCK = COLUMNS_O * V;
    int at[Q];
    std::vector<int> place(P);
    for (int q = 0; q < Q; q++) at[q] = offset(q);
    for (int p = 0; p < P; p++) place[p] = p / OW * WS + p % OW;
    float* weights = scratch<0>((size_t)WIDE_O * Q);
    float* bias = scratch<1>(WIDE_O);
    memset(bias, 0, WIDE_O * 4);
    if (BIAS) memcpy(bias, in2_p, O * 4);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int o = 0; o < WIDE_O; o += BLOCK) {
            float* block = weights + (long)o * Q;
            if (o + BLOCK > O) memset(block, 0, BLOCK * Q * 4);
            turn(in1_p + (long)o * Q, Q, std::min(BLOCK, O - o), Q, block, BLOCK);
        }
        float* planes = scratch<2>(AS_IT_IS ? 0 : PLANES);
        float* rows = scratch<3>(P * WIDE_O);
        if (!AS_IT_IS) memset(planes, 0, PLANES * 4);
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            const float* x = split(in0_p + (long)n * C * H * W, planes);
            for (int o = 0; o < WIDE_O; o += BLOCK)
                in_tiles<across(COLUMNS_O)>([&](auto size, int p) {
                    forward_tile<decltype(size)::value>(x, &place[p], at, weights + (long)o * Q,
                                                        bias + o, rows + p * WIDE_O + o);
                });
            turn(rows, WIDE_O, P, O, out_p + (long)n * O * P, P);
        }
    }
"""

# What each position's gradient means for each tap is added to the pixel that the tap read; one row
# more than there are pixels takes what falls on the padding.
_GRAD_X = """
    const int N = in0_shape0;
    constexpr int BLOCK = COLUMNS_C * V;
    std::vector<int> pixel(T * P);
    for (int t = 0; t < T; t++)
        for (int p = 0; p < P; p++) {
            const int y = p / OW * SY + t / KW - PY, x = p % OW * SX + t % KW - PX;
            pixel[t * P + p] = y < 0 || y >= H || x < 0 || x >= W ? H * W : y * W + x;
        }
    float* weights = scratch<0>((size_t)T * WIDE_C * O);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int o = 0; o < O; o++)
            for (int c = 0; c < WIDE_C; c++)
                for (int t = 0; t < T; t++)
                    weights[((long)t * WIDE_C + c / BLOCK * BLOCK) * O + o * BLOCK + c % BLOCK] =
                        c < C ? in1_p[((long)o * C + c) * T + t] : 0.f;
        float* room = scratch<1>(RELU ? O * P : 0);
        float* dx = scratch<2>((H * W + 1) * WIDE_C);
        #pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            const float* dy = masked(in0_p + (long)n * O * P, in2_p + (long)n * O * P, room);
            memset(dx, 0, H * W * WIDE_C * 4);
            for (int c = 0; c < WIDE_C; c += BLOCK)
                for (int t = 0; t < T; t++)
                    in_tiles<across(COLUMNS_C)>([&](auto size, int p) {
                        gradient_tile<decltype(size)::value>(dy + p, &pixel[t * P + p],
                                                             weights + ((long)t * WIDE_C + c) * O,
                                                             dx + c);
                    });
            turn(dx, WIDE_C, H * W, C, out_p + (long)n * C * H * W, H * W);
        }
    }
"""

# Rows are pairs of an input channel and a tap, columns are output channels, and the sum runs over
# positions. Images are summed in GROUPS of fixed size, whatever the number of threads, so that the
# order of the additions, and with it the last bit, is always the same.
_GRAD_W = """
    const int N = in0_shape0;
    constexpr int COLUMNS = divisor(WIDE_O / V, REGISTERS == 32 ? 4 : 2), BLOCK = COLUMNS * V;
    constexpr int PAIRS = across(COLUMNS), ROWS_W = ceil_div(Q, PAIRS) * PAIRS;
    constexpr int NEAR = 128;  // positions that stay in the nearest cache
    constexpr int STRIP = NEAR / OW > 1 ? NEAR / OW : 1, TOGETHER = ceil_div(NEAR, P);
    const int groups = std::min(N, 16);
    int at[ROWS_W];
    for (int q = 0; q < ROWS_W; q++) at[q] = q < Q ? offset(q) : 0;
    const long size = (long)(ROWS_W + 1) * WIDE_O;  // one more row for the bias
    float* partial = scratch<0>(groups * size);
    #pragma omp parallel
    {
        float* planes = scratch<1>(AS_IT_IS ? 0 : TOGETHER * PLANES);
        float* room = scratch<2>(RELU ? O * P : 0);
        float* dy = scratch<3>(TOGETHER * P * WIDE_O);
        if (!AS_IT_IS) memset(planes, 0, TOGETHER * PLANES * 4);
        memset(dy, 0, TOGETHER * P * WIDE_O * 4);
        #pragma omp for schedule(static)
        for (int group = 0; group < groups; group++) {
            float* dw = partial + group * size;
            memset(dw, 0, size * 4);
            const int end = (long)N * (group + 1) / groups;
            for (int first = (long)N * group / groups; first < end; first += TOGETHER) {
                const int images = std::min(TOGETHER, end - first);
                for (int i = 0; i < images; i++) {
                    const long n = first + i;
                    split(in0_p + n * C * H * W, planes + i * PLANES);
                    turn(masked(in1_p + n * O * P, in2_p + n * O * P, room), P, O, P,
                         dy + i * P * WIDE_O, WIDE_O);
                }
                const float* x = AS_IT_IS ? in0_p + (long)first * C * H * W : planes;
                for (int o = 0; o < WIDE_O; o += V) {
                    vec sum = load(dw + ROWS_W * WIDE_O + o);
                    for (int p = 0; p < images * P; p++) sum += load(dy + p * WIDE_O + o);
                    store(dw + ROWS_W * WIDE_O + o, sum);
                }
                for (int top = 0; top < images * OH; top += STRIP)
                    for (int q = 0; q < ROWS_W; q += PAIRS)
                        for (int o = 0; o < WIDE_O; o += BLOCK) {
                            vec sums[PAIRS][COLUMNS];
                            const float* from[PAIRS];
                            #pragma GCC unroll 12
                            for (int i = 0; i < PAIRS; i++) {
                                from[i] = x + at[q + i];
                                #pragma GCC unroll 4
                                for (int v = 0; v < COLUMNS; v++)
                                    sums[i][v] = load(dw + (q + i) * WIDE_O + o + v * V);
                            }
                            for (int r = top; r < std::min(images * OH, top + STRIP); r++) {
                                const float* d = dy + r * OW * WIDE_O + o;
                                const int begin = r / OH * PLANES + r % OH * WS;
                                for (int j = begin; j < begin + OW; j++, d += WIDE_O) {
                                    vec dv[COLUMNS];
                                    #pragma GCC unroll 4
                                    for (int v = 0; v < COLUMNS; v++) dv[v] = load(d + v * V);
                                    #pragma GCC unroll 12
                                    for (int i = 0; i < PAIRS; i++)
                                        #pragma GCC unroll 4
                                        for (int v = 0; v < COLUMNS; v++)
                                            sums[i][v] += dv[v] * from[i][j];
                                }
                            }
                            #pragma GCC unroll 12
                            for (int i = 0; i < PAIRS; i++)
                                #pragma GCC unroll 4
                                for (int v = 0; v < COLUMNS; v++)
                                    store(dw + (q + i) * WIDE_O + o + v * V, sums[i][v]);
                        }
            }
        }
        #pragma omp for schedule(static)
        for (long i = 0; i < size; i += V) {
            vec sum{};
            for (int group = 0; group < groups; group++) sum += load(partial + group * size + i);
            store(partial + i, sum);
        }
        #pragma omp for schedule(static)
        for (int o = 0; o < O; o += V)
            turn(partial + o, WIDE_O, Q, std::min(V, O - o), out0_p + (long)o * Q, Q);
    }
    memcpy(out1_p, partial + ROWS_W * WIDE_O, O * 4);
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
