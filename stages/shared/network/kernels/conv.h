// A 2-D convolution: y = x * w + bias, ReLU on it if wanted, and the gradients.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/conv.cc && ./a.out
//
// Conv<...>::plain_forward, plain_grad_x and plain_grad_w are the formula; forward and grad are the
// kernels.
//
// What counts within one image is int, and conv.py sees to it that it fits; what counts over
// images is long.
#ifndef KERNELS_CONV_H
#define KERNELS_CONV_H

#include "tile.h"

namespace kernels {
namespace {

// x (N, C, H, W), w (O, C, KH, KW), bias (O), y and dy (N, O, OH, OW). BIAS: there is a bias, which
// is not read otherwise. RELU: y is after ReLU, and where it is 0 nothing of dy goes back; without
// it the gradients do not read y.
//
// How the kernels go about it: vectors run over channels, whose number is mostly a multiple of a
// vector's width, while images end anywhere. The weights are transposed for that once per call, and
// each image's result is transposed back.
template <int C, int H, int W, int O, int KH, int KW, int SY, int SX, int PY, int PX, bool BIAS,
          bool RELU>
struct Conv : Convolution<Conv<C, H, W, O, KH, KW, SY, SX, PY, PX, BIAS, RELU>> {
    static constexpr int OUTPUTS = O;
    static constexpr bool HAS_RELU = RELU;
    static constexpr int OH = (H + 2 * PY - KH) / SY + 1, OW = (W + 2 * PX - KW) / SX + 1;
    static constexpr int P = OH * OW;  // positions of the kernel, which are pixels of y
    static constexpr int T = KH * KW;  // taps of the kernel
    static constexpr int Q = C * T;    // pairs of an input channel and a tap

    // The formula.

    // Calls work(w, x, y) with the index of a weight, and of the pixels of x and y that it joins,
    // for all n. Where a tap falls on the padding there is no such pixel.
    template <class Work>
    static void plain_each(long N, Work work) {
        for (long n = 0; n < N; n++)
            for (int o = 0; o < O; o++)
                for (int p = 0; p < P; p++)
                    for (int q = 0; q < Q; q++) {
                        const int row = p / OW * SY + q % T / KW - PY;
                        const int column = p % OW * SX + q % KW - PX;
                        if (row < 0 || row >= H || column < 0 || column >= W) continue;
                        work(o * Q + q, ((n * C + q / T) * H + row) * W + column,
                             (n * O + o) * P + p);
                    }
    }

    static void plain_forward(long N, const float* x, const float* w, const float* bias, float* y) {
        std::vector<double> sums(N * O * P);
        for (size_t i = 0; i < sums.size(); i++) sums[i] = BIAS ? bias[i / P % O] : 0;
        plain_each(N, [&](int k, long i, long j) { sums[j] += (double)x[i] * w[k]; });
        for (size_t i = 0; i < sums.size(); i++) y[i] = RELU && sums[i] < 0 ? 0 : sums[i];
    }

    static void plain_grad_x(long N, const float* dy, const float* w, const float* y, float* dx) {
        std::vector<double> sums(N * C * H * W);
        plain_each(N, [&](int k, long i, long j) {
            if (!RELU || y[j] > 0) sums[i] += (double)dy[j] * w[k];
        });
        std::copy(sums.begin(), sums.end(), dx);
    }

    static void plain_grad_w(long N, const float* x, const float* dy, const float* y, float* dw,
                             float* dbias) {
        std::vector<double> sums(O * Q), bias(O);
        plain_each(N, [&](int k, long i, long j) {
            if (!RELU || y[j] > 0) sums[k] += (double)dy[j] * x[i];
        });
        for (long j = 0; j < N * O * P; j++)
            if (!RELU || y[j] > 0) bias[j / P % O] += dy[j];
        std::copy(sums.begin(), sums.end(), dw);
        std::copy(bias.begin(), bias.end(), dbias);
    }

    // The kernels.

    // Channels are filled up with zeros to whole vectors.
    static constexpr int WIDE_O = round_up(O, V), WIDE_C = round_up(C, V);

    // An image with padding is copied to scratch memory, and for a stride S it becomes S x S planes
    // of every S-th pixel: every tap then reads one plane at a fixed offset from a position,
    // whatever the stride. Such a plane is HS x WS; a channel has SY * SX of them.
    static constexpr int HS = ceil_div(H + 2 * PY, SY), WS = ceil_div(W + 2 * PX, SX);
    static constexpr int PLANE = HS * WS, CHANNEL = SY * SX * PLANE, PLANES = C * CHANNEL;
    static constexpr bool AS_IT_IS = SY == 1 && SX == 1 && PY == 0 && PX == 0;

    static const float* split(const float* x, float* planes) {
        if (AS_IT_IS) return x;
        for (int c = 0; c < C; c++)
            for (int y = PY; y < H + PY; y++, x += W) {
                float* row = planes + c * CHANNEL + (y % SY) * SX * PLANE + y / SY * WS;
                if (SX == 1)
                    copy(row + PX, x, W);
                else
                    for (int i = 0; i < W; i++) row[(i + PX) % SX * PLANE + (i + PX) / SX] = x[i];
            }
        return planes;
    }

    // Where position p begins in a plane, and where the tap of pair q lies from there.
    static int begin(int p) { return p / OW * WS + p % OW; }
    static int offset(int q) {
        const int ky = q % T / KW, kx = q % KW;
        return q / T * CHANNEL + (ky % SY * SX + kx % SX) * PLANE + ky / SY * WS + kx / SX;
    }

    static constexpr int COLUMNS_O = divisor(WIDE_O / V, MOST_COLUMNS), BLOCK_O = COLUMNS_O * V;
    static constexpr int COLUMNS_C = divisor(WIDE_C / V, MOST_COLUMNS), BLOCK_C = COLUMNS_C * V;

    // Forward.

    // weights[block of outputs][q][output in it], from w[output][q].
    static void turn_weights(const float* w, float* weights) {
        #pragma omp for schedule(static)
        for (int o = 0; o < WIDE_O; o += BLOCK_O) {
            float* block = weights + (long)o * Q;
            if (o + BLOCK_O > O) clear(block, (size_t)BLOCK_O * Q);
            turn(w + (long)o * Q, Q, least(BLOCK_O, O - o), Q, block, BLOCK_O);
        }
    }

    // The output at n positions for one block of outputs, as rows of outputs.
    template <int n>
    static void forward_tile(const float* x, const int* begins, const int* offsets, const float* w,
                             const float* bias, float* rows) {
        const float* from[n];
        vec sums[n][COLUMNS_O];
        #pragma GCC unroll 12
        for (int i = 0; i < n; i++) {
            from[i] = x + begins[i];
            #pragma GCC unroll 4
            for (int v = 0; v < COLUMNS_O; v++) sums[i][v] = load(bias + v * V);
        }
        add_products(sums, Q, w, BLOCK_O, [&](int i, int q) { return from[i][offsets[q]]; });
        #pragma GCC unroll 12
        for (int i = 0; i < n; i++)
            #pragma GCC unroll 4
            for (int v = 0; v < COLUMNS_O; v++) {
                vec y = sums[i][v];
                store(rows + i * WIDE_O + v * V, RELU ? (y > 0 ? y : vec{}) : y);
            }
    }

    // Calls finish(n, rows) with the result for each image, as P rows of WIDE_O outputs.
    template <class Finish>
    static void forward_each(long N, const float* x, const float* w, const float* given_bias,
                             Finish finish) {
        int* offsets = scratch<0, int>(Q);
        int* begins = scratch<1, int>(P);
        for (int q = 0; q < Q; q++) offsets[q] = offset(q);
        for (int p = 0; p < P; p++) begins[p] = begin(p);
        float* weights = scratch<2>((size_t)WIDE_O * Q);
        float* bias = scratch<3>(WIDE_O);
        clear(bias, WIDE_O);
        if (BIAS) copy(bias, given_bias, O);
        #pragma omp parallel
        {
            turn_weights(w, weights);
            float* planes = scratch<4>(AS_IT_IS ? 0 : PLANES);
            float* rows = scratch<5>(P * WIDE_O);
            if (!AS_IT_IS) clear(planes, PLANES);
            #pragma omp for schedule(static)
            for (long n = 0; n < N; n++) {
                const float* image = split(x + n * C * H * W, planes);
                for (int o = 0; o < WIDE_O; o += BLOCK_O)
                    in_tiles<P, across(COLUMNS_O)>([&](auto size, int p) {
                        forward_tile<decltype(size)::value>(image, &begins[p], offsets,
                                                            weights + (long)o * Q, bias + o,
                                                            rows + p * WIDE_O + o);
                    });
                finish(n, rows);
            }
        }
    }

    // Gradient of x: at each position each tap adds its part of dy to the pixel that it read.

    // The pixel that tap t reads at position p; for the padding a spare one after the last, which
    // is dropped.
    static int pixel(int t, int p) {
        const int y = p / OW * SY + t / KW - PY, x = p % OW * SX + t % KW - PX;
        return y < 0 || y >= H || x < 0 || x >= W ? H * W : y * W + x;
    }

    // weights[t][block of channels][o][channel in it], from w[o][channel][t].
    static void turn_weights_by_tap(const float* w, float* weights) {
        #pragma omp for schedule(static)
        for (int o = 0; o < O; o++)
            for (int c = 0; c < WIDE_C; c++)
                for (int t = 0; t < T; t++)
                    weights[((long)t * WIDE_C + c / BLOCK_C * BLOCK_C) * O + o * BLOCK_C +
                            c % BLOCK_C] = c < C ? w[((long)o * C + c) * T + t] : 0.f;
    }

    // Adds the part of dy at n positions that belongs to one tap and one block of channels.
    template <int n>
    static void grad_x_tile(const float* dy, const int* pixels, const float* w, float* dx) {
        vec sums[n][COLUMNS_C] = {};
        add_products(sums, O, w, BLOCK_C, [dy](int i, int o) { return dy[i * WIDE_O + o]; });
        #pragma GCC unroll 12
        for (int i = 0; i < n; i++)
            #pragma GCC unroll 4
            for (int v = 0; v < COLUMNS_C; v++) {
                float* to = dx + pixels[i] * WIDE_C + v * V;
                store(to, load(to) + sums[i][v]);
            }
    }

    // From the rows of one image's dy to those of its dx.
    static void grad_x_rows(const float* dy, const int* pixels, const float* weights, float* dx) {
        clear(dx, H * W * WIDE_C);
        for (int c = 0; c < WIDE_C; c += BLOCK_C)
            for (int t = 0; t < T; t++)
                in_tiles<P, across(COLUMNS_C)>([&](auto size, int p) {
                    grad_x_tile<decltype(size)::value>(dy + p * WIDE_O, &pixels[t * P + p],
                                                       weights + ((long)t * WIDE_C + c) * O,
                                                       dx + c);
                });
    }

    // Gradient of w: rows are pairs q, columns are outputs, and the sum runs over positions.

    // So many positions at a time that their rows of dy, 32 KB for 64 outputs, stay in the nearest
    // cache while all weights are read. Small images are taken TOGETHER, of large ones a STRIP of
    // rows.
    static constexpr int NEAR = 128;
    static constexpr int STRIP = NEAR / OW > 1 ? NEAR / OW : 1, TOGETHER = ceil_div(NEAR, P);
    // Here a fourth vector pays, since the one factor comes straight from memory.
    static constexpr int COLUMNS_W = divisor(WIDE_O / V, REGISTERS == 32 ? 4 : 2);
    static constexpr int BLOCK_W = COLUMNS_W * V;
    static constexpr int PAIRS = across(COLUMNS_W), ROWS_W = ceil_div(Q, PAIRS) * PAIRS;

    // Adds what rows `top` to `bottom` - 1 of dy mean for PAIRS pairs and one block of outputs.
    // Rows go on from image to image.
    static void grad_w_tile(const float* x, const int* offsets, const float* dy, long top,
                            long bottom, float* dw) {
        vec sums[PAIRS][COLUMNS_W];
        const float* from[PAIRS];
        for (int i = 0; i < PAIRS; i++) from[i] = x + offsets[i];
        load_sums(dw, WIDE_O, sums);
        for (long r = top; r < bottom; r++) {
            const float* d = dy + r * OW * WIDE_O;
            const long first = r / OH * PLANES + r % OH * WS;
            for (long j = first; j < first + OW; j++, d += WIDE_O) {
                vec dv[COLUMNS_W];
                #pragma GCC unroll 4
                for (int v = 0; v < COLUMNS_W; v++) dv[v] = load(d + v * V);
                #pragma GCC unroll 12
                for (int i = 0; i < PAIRS; i++)
                    #pragma GCC unroll 4
                    for (int v = 0; v < COLUMNS_W; v++)
                        sums[i][v] = fma(dv[v], all(from[i][j]), sums[i][v]);
            }
        }
        store_sums(sums, dw, WIDE_O);
    }

    // The same for all weights, in strips.
    static void add_grad_w(int images, const float* x, const int* offsets, const float* dy,
                           float* dw) {
        const long rows = (long)images * OH;
        for (long top = 0; top < rows; top += STRIP)
            for (int q = 0; q < ROWS_W; q += PAIRS)
                for (int o = 0; o < WIDE_O; o += BLOCK_W)
                    grad_w_tile(x, offsets + q, dy + o, top, least(rows, top + STRIP),
                                dw + q * WIDE_O + o);
    }

    // Both gradients. source(n, rows) writes dy of an image, as P rows of WIDE_O outputs of which
    // those beyond O stay 0. Where dx is null it is not computed.
    template <class Source>
    static void grad_each(long N, const float* x, const float* w, Source source, float* dx,
                          float* dw, float* dbias) {
        const long groups = std::max(least(N, GROUPS), 1L);
        const long size = (ROWS_W + 1L) * WIDE_O;  // one more row for the bias
        float* partial = scratch<0>(groups * size);
        float* weights = scratch<1>(dx ? (size_t)T * WIDE_C * O : 0);
        int* offsets = scratch<0, int>(ROWS_W);
        int* pixels = scratch<1, int>(T * P);
        for (int q = 0; q < ROWS_W; q++) offsets[q] = q < Q ? offset(q) : 0;
        for (int t = 0; t < T; t++)
            for (int p = 0; p < P; p++) pixels[t * P + p] = pixel(t, p);
        #pragma omp parallel
        {
            if (dx) turn_weights_by_tap(w, weights);
            float* planes = scratch<2>(AS_IT_IS ? 0 : (size_t)TOGETHER * PLANES);
            float* rows = scratch<3>((size_t)TOGETHER * P * WIDE_O);
            float* dx_rows = scratch<4>(dx ? (H * W + 1) * WIDE_C : 0);
            if (!AS_IT_IS) clear(planes, (size_t)TOGETHER * PLANES);
            clear(rows, (size_t)TOGETHER * P * WIDE_O);
            #pragma omp for schedule(static)
            for (long group = 0; group < groups; group++) {
                float* sums = partial + group * size;
                clear(sums, size);
                const long end = N * (group + 1) / groups;
                for (long first = N * group / groups; first < end; first += TOGETHER) {
                    const int images = least(TOGETHER, end - first);
                    for (int i = 0; i < images; i++) {
                        const long n = first + i;
                        float* dy = rows + (long)i * P * WIDE_O;
                        split(x + n * C * H * W, planes + (long)i * PLANES);
                        source(n, dy);
                        if (!dx) continue;
                        grad_x_rows(dy, pixels, weights, dx_rows);
                        turn(dx_rows, WIDE_C, H * W, C, dx + n * C * H * W, H * W);
                    }
                    add_rows(rows, images * P, WIDE_O, sums + (long)ROWS_W * WIDE_O);
                    add_grad_w(images, AS_IT_IS ? x + first * C * H * W : planes, offsets, rows,
                               sums);
                }
            }
            add_groups(groups, size, partial);
            #pragma omp for schedule(static)
            for (int o = 0; o < O; o += V)
                turn(partial + o, WIDE_O, Q, least(V, O - o), dw + (long)o * Q, Q);
        }
        copy(dbias, partial + (long)ROWS_W * WIDE_O, O);
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_CONV_H
