// A 3 x 3 convolution with fewer products: F(2 x 2, 3 x 3) of Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2015, https://arxiv.org/abs/1509.09308. Four pixels of y take 16
// products of each pair of channels and not 36.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/winograd.cc && ./a.out
//
// The formula is that of Conv in conv.h, and so it has no other here. The sums are others, so the
// last bits are others too.
//
// What counts within one image is int, and conv.py sees to it that it fits; what counts over
// images is long.
#ifndef KERNELS_WINOGRAD_H
#define KERNELS_WINOGRAD_H

#include "tile.h"

namespace kernels {
namespace {

// The one-dimensional transforms. B' takes four pixels of x to four numbers, G three weights; their
// products are summed over channels, and A' takes the sums to two pixels of y. The gradients go the
// same ways back, by B, G' and A.
inline void times_Bt(vec& a, vec& b, vec& c, vec& d) {
    const vec x = b, y = c;
    a -= y;
    b = x + y;
    c = y - x;
    d = x - d;
}
inline void times_B(vec& a, vec& b, vec& c, vec& d) {
    const vec x = b, y = c;
    b = x - y + d;
    c = x + y - a;
    d = -d;
}
inline void times_At(vec& a, vec& b, vec& c, vec& d) {
    a = a + b + c;
    b = b - c - d;
}
inline void times_A(vec& a, vec& b, vec& c, vec& d) {
    d = -b;
    c = a - b;
    b = a + b;
}
inline void times_G(vec& a, vec& b, vec& c, vec& d) {
    const vec sum = (a + c) * all(0.5f), middle = b * all(0.5f);
    d = c;
    b = sum + middle;
    c = sum - middle;
}
inline void times_Gt(vec& a, vec& b, vec& c, vec& d) {
    const vec sum = (b + c) * all(0.5f);
    b = (b - c) * all(0.5f);
    a = a + sum;
    c = sum + d;
}

// The two-dimensional ones: 4 x 4 numbers by rows, of which so many columns, and then so many rows,
// are transformed.
template <int columns, int rows, class Transform>
inline void both_ways(vec (&d)[16], Transform times) {
    #pragma GCC unroll 4
    for (int i = 0; i < columns; i++) times(d[i], d[i + 4], d[i + 8], d[i + 12]);
    #pragma GCC unroll 4
    for (int i = 0; i < 4 * rows; i += 4) times(d[i], d[i + 1], d[i + 2], d[i + 3]);
}

// 16 vectors from and to memory, `step` floats apart.
inline void load_16(const float* from, long step, vec (&d)[16]) {
    #pragma GCC unroll 16
    for (int i = 0; i < 16; i++) d[i] = load(from + i * step);
}
inline void store_16(const vec (&d)[16], float* to, long step) {
    #pragma GCC unroll 16
    for (int i = 0; i < 16; i++) store(to + i * step, d[i]);
}

// x (N, C, H, W), w (O, C, 3, 3), bias (O), y and dy (N, O, OH, OW); PY and PX are the padding.
// BIAS: there is a bias, which is not read otherwise. RELU: y is after ReLU, and where it is 0
// nothing of dy goes back; without it the gradients do not read y.
//
// y is cut into tiles of 2 x 2 pixels, x into tiles of 4 x 4 that overlap. The 16 numbers that a
// tile becomes are its spectrum: all first numbers of some tiles lie together as a matrix of tiles
// by channels, then all second ones, and so on. Images and results lie as pixels by channels
// meanwhile, so that vectors run over channels.
template <int C, int H, int W, int O, int PY, int PX, bool BIAS, bool RELU>
struct Winograd : Convolution<Winograd<C, H, W, O, PY, PX, BIAS, RELU>> {
    static constexpr int OUTPUTS = O;
    static constexpr bool HAS_RELU = RELU;
    static constexpr int OH = H + 2 * PY - 2, OW = W + 2 * PX - 2, P = OH * OW;
    static constexpr int TW = ceil_div(OW, 2), TILES = ceil_div(OH, 2) * TW;
    static constexpr int WIDE_O = round_up(O, V), WIDE_C = round_up(C, V);
    static constexpr int X = (H * W + 1) * WIDE_C, Y = (P + 1) * WIDE_O;  // of one image

    // So many tiles at a time that their spectra stay in a near cache. Small images are taken
    // TOGETHER, of large ones a PIECE.
    static constexpr int NEAR = 48;
    static constexpr int PIECE = ceil_div(TILES, ceil_div(TILES, NEAR));
    static constexpr int TOGETHER = (NEAR + TILES / 2) / TILES > 1 ? (NEAR + TILES / 2) / TILES : 1;
    static constexpr int COUNT = PIECE * TOGETHER;
    // A spectrum's numbers lie so far apart. A vector more than the tiles need: else the 16 would
    // mostly fall on the same lines of the cache.
    static constexpr long STEP_X = COUNT * WIDE_C + V, STEP_Y = COUNT * WIDE_O + V;

    static constexpr int COLUMNS_O = divisor(WIDE_O / V, MOST_COLUMNS), BLOCK_O = COLUMNS_O * V;
    static constexpr int COLUMNS_C = divisor(WIDE_C / V, MOST_COLUMNS), BLOCK_C = COLUMNS_C * V;

    // The pixels of x and of y in a tile, by rows. Outside of the image it is a spare one after the
    // last: zero where it is read, and dropped where it is written.
    static int x_pixel(int tile, int i) {
        const int y = tile / TW * 2 + i / 4 - PY, x = tile % TW * 2 + i % 4 - PX;
        return y < 0 || y >= H || x < 0 || x >= W ? H * W : y * W + x;
    }
    static int y_pixel(int tile, int i) {
        const int y = tile / TW * 2 + i / 2, x = tile % TW * 2 + i % 2;
        return y >= OH || x >= OW ? P : y * OW + x;
    }
    struct Pixels {
        int* x = scratch<0, int>(TILES * 16);
        int* y = scratch<1, int>(TILES * 4);
        Pixels() {
            for (int t = 0; t < TILES; t++) {
                for (int i = 0; i < 16; i++) x[t * 16 + i] = x_pixel(t, i) * WIDE_C;
                for (int i = 0; i < 4; i++) y[t * 4 + i] = y_pixel(t, i) * WIDE_O;
            }
        }
    };

    // Calls work(pixels, j) for the tiles `first` to `last` - 1 of some images, with the index of
    // the image's first pixel in units of `size`, and the tile's row in the spectra.
    template <class Work>
    static void each_tile(int images, int first, int last, Work work) {
        for (int i = 0; i < images; i++)
            for (int t = first; t < last; t++) work(i, t, i * (last - first) + t - first);
    }

    // spectra of x: [16][COUNT][WIDE_C], 16 steps of STEP_X
    static void spectra_of_x(const float* rows, const int* pixels, int images, int first, int last,
                             float* spectra) {
        each_tile(images, first, last, [&](int image, int t, int j) {
            const float* from = rows + (long)image * X;
            for (int c = 0; c < WIDE_C; c += V) {
                vec d[16];
                #pragma GCC unroll 16
                for (int i = 0; i < 16; i++) d[i] = load(from + pixels[t * 16 + i] + c);
                both_ways<4, 4>(d, times_Bt);
                store_16(d, spectra + j * WIDE_C + c, STEP_X);
            }
        });
    }

    // And back: what each tile means is added to its pixels.
    static void add_to_x(const float* spectra, const int* pixels, int images, int first, int last,
                         float* rows) {
        each_tile(images, first, last, [&](int image, int t, int j) {
            float* to = rows + (long)image * X;
            for (int c = 0; c < WIDE_C; c += V) {
                vec d[16];
                load_16(spectra + j * WIDE_C + c, STEP_X, d);
                both_ways<4, 4>(d, times_B);
                #pragma GCC unroll 16
                for (int i = 0; i < 16; i++) {
                    float* pixel = to + pixels[t * 16 + i] + c;
                    store(pixel, load(pixel) + d[i]);
                }
            }
        });
    }

    // spectra of dy: [16][COUNT][WIDE_O], 16 steps of STEP_Y
    static void spectra_of_y(const float* rows, const int* pixels, int images, int first, int last,
                             float* spectra) {
        each_tile(images, first, last, [&](int image, int t, int j) {
            const float* from = rows + (long)image * Y;
            for (int o = 0; o < WIDE_O; o += V) {
                vec d[16];
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++)
                    d[i / 2 * 4 + i % 2] = load(from + pixels[t * 4 + i] + o);
                both_ways<2, 4>(d, times_A);
                store_16(d, spectra + j * WIDE_O + o, STEP_Y);
            }
        });
    }

    // And y from its spectra, with bias and ReLU.
    static void y_of(const float* spectra, const int* pixels, int images, int first, int last,
                     const float* bias, float* rows) {
        each_tile(images, first, last, [&](int image, int t, int j) {
            float* to = rows + (long)image * Y;
            for (int o = 0; o < WIDE_O; o += V) {
                vec d[16];
                load_16(spectra + j * WIDE_O + o, STEP_Y, d);
                both_ways<4, 2>(d, times_At);
                #pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    vec y = d[i / 2 * 4 + i % 2] + load(bias + o);
                    store(to + pixels[t * 4 + i] + o, RELU ? (y > 0 ? y : vec{}) : y);
                }
            }
        });
    }

    // spectra of w: [16][block of rows][column][row in it], where the tap t of a row and a column
    // is w[row * row_step + column * column_step + t].
    template <int rows, int columns, int block>
    static void spectra_of_w(const float* w, int row_step, int column_step, float* spectra) {
        #pragma omp for schedule(static)
        for (int r = 0; r < (int)round_up(rows, V); r += V)
            for (int k = 0; k < columns; k++) {
                float taps[9][V];
                for (int l = 0; l < V; l++)
                    for (int t = 0; t < 9; t++)
                        taps[t][l] =
                            r + l < rows ? w[(r + l) * row_step + k * column_step + t] : 0.f;
                vec d[16];
                for (int t = 0; t < 9; t++) d[t / 3 * 4 + t % 3] = load(taps[t]);
                both_ways<3, 4>(d, times_G);
                const int at = (r / block * columns + k) * block + r % block;
                store_16(d, spectra + at, round_up(rows, V) * columns);
            }
    }

    // out[j][column] = sum over k of x[j][k] * w[k][column], for each of the 16 numbers of the
    // spectra: x is [16][COUNT][wide_k], w [16][block][k][column in it], out [16][COUNT][wide].
    // Only the first `used` rows are wanted.
    template <int k, int wide_k, int wide, int columns>
    static void products(const float* x, const float* w, int used, float* out) {
        for (int f = 0; f < 16; f++)
            for (int b = 0; b < wide; b += columns * V)
                in_tiles<COUNT, across(columns)>(
                    [&](auto size, int j) {
                        constexpr int n = decltype(size)::value;
                        vec sums[n][columns] = {};
                        const float* from = x + f * (COUNT * wide_k + V) + j * wide_k;
                        add_products(sums, k, w + ((long)f * wide + b) * k, columns * V,
                                     [from](int i, int c) { return from[i * wide_k + c]; });
                        store_sums(sums, out + f * (COUNT * wide + V) + j * wide + b, wide);
                    },
                    used);
    }

    // Calls finish(n, rows) with the result for each image, as P rows of WIDE_O outputs.
    template <class Finish>
    static void forward_each(long N, const float* x, const float* w, const float* given_bias,
                             Finish finish) {
        const Pixels pixels;
        float* w_spectra = scratch<2>(16L * C * WIDE_O);
        float* bias = scratch<3>(WIDE_O);
        clear(bias, WIDE_O);
        if (BIAS) copy(bias, given_bias, O);
        #pragma omp parallel
        {
            spectra_of_w<O, C, BLOCK_O>(w, C * 9, 9, w_spectra);
            float* x_rows = scratch<4>((long)TOGETHER * X);
            float* y_rows = scratch<5>((long)TOGETHER * Y);
            float* x_spectra = scratch<6>(16 * STEP_X);
            float* y_spectra = scratch<7>(16 * STEP_Y);
            clear(x_rows, (long)TOGETHER * X);
            #pragma omp for schedule(static)
            for (long n = 0; n < N; n += TOGETHER) {
                const int images = least(TOGETHER, N - n);
                rows_of_x(x + n * C * H * W, images, x_rows);
                for (int t = 0; t < TILES; t += PIECE) {
                    const int last = least(TILES, t + PIECE), used = images * (last - t);
                    spectra_of_x(x_rows, pixels.x, images, t, last, x_spectra);
                    products<C, WIDE_C, WIDE_O, COLUMNS_O>(x_spectra, w_spectra, used, y_spectra);
                    y_of(y_spectra, pixels.y, images, t, last, bias, y_rows);
                }
                for (int i = 0; i < images; i++) finish(n + i, y_rows + (long)i * Y);
            }
        }
    }

    static void rows_of_x(const float* x, int images, float* rows) {
        for (int i = 0; i < images; i++)
            turn(x + (long)i * C * H * W, H * W, C, H * W, rows + (long)i * X, WIDE_C);
    }

    // Adds to dw [16][C][WIDE_O] what `count` tiles mean.
    static void add_products_of_tiles(const float* x, const float* dy, int count, float* dw) {
        for (int f = 0; f < 16; f++)
            for (int o = 0; o < WIDE_O; o += BLOCK_O)
                in_tiles<C, across(COLUMNS_O)>([&](auto size, int c) {
                    constexpr int n = decltype(size)::value;
                    vec sums[n][COLUMNS_O];
                    float* to = dw + ((long)f * C + c) * WIDE_O + o;
                    load_sums(to, WIDE_O, sums);
                    const float* from = x + f * STEP_X + c;
                    add_products(sums, count, dy + f * STEP_Y + o, WIDE_O,
                                 [from](int i, int j) { return from[(long)j * WIDE_C + i]; });
                    store_sums(sums, to, WIDE_O);
                });
    }

    // Both gradients. source(n, rows) writes dy of an image, as P rows of WIDE_O outputs of which
    // those beyond O stay 0. Where dx is null it is not computed.
    template <class Source>
    static void grad_each(long N, const float* x, const float* w, Source source, float* dx,
                          float* dw, float* dbias) {
        const Pixels pixels;
        const long groups = std::max(least(N, GROUPS), 1L), size = (16L * C + 1) * WIDE_O;
        float* partial = scratch<0>(groups * size);
        float* w_spectra = scratch<1>(dx ? 16L * WIDE_C * O : 0);
        #pragma omp parallel
        {
            if (dx) spectra_of_w<C, O, BLOCK_C>(w, 9, C * 9, w_spectra);
            float* dx_rows = scratch<3>(dx ? (long)TOGETHER * X : 0);
            float* x_rows = scratch<4>((long)TOGETHER * X);
            float* y_rows = scratch<5>((long)TOGETHER * Y);
            float* x_spectra = scratch<6>(16 * STEP_X);
            float* y_spectra = scratch<7>(16 * STEP_Y);
            clear(x_rows, (long)TOGETHER * X);
            clear(y_rows, (long)TOGETHER * Y);
            #pragma omp for schedule(static)
            for (long group = 0; group < groups; group++) {
                float* sums = partial + group * size;
                clear(sums, size);
                const long end = N * (group + 1) / groups;
                for (long n = N * group / groups; n < end; n += TOGETHER) {
                    const int images = least(TOGETHER, end - n);
                    rows_of_x(x + n * C * H * W, images, x_rows);
                    for (int i = 0; i < images; i++) {
                        source(n + i, y_rows + (long)i * Y);
                        add_rows(y_rows + (long)i * Y, P, WIDE_O, sums + 16L * C * WIDE_O);
                    }
                    if (dx) clear(dx_rows, (long)images * X);
                    for (int t = 0; t < TILES; t += PIECE) {
                        const int last = least(TILES, t + PIECE), used = images * (last - t);
                        spectra_of_y(y_rows, pixels.y, images, t, last, y_spectra);
                        if (dx) {
                            products<O, WIDE_O, WIDE_C, COLUMNS_C>(y_spectra, w_spectra, used,
                                                                   x_spectra);
                            add_to_x(x_spectra, pixels.x, images, t, last, dx_rows);
                        }
                        spectra_of_x(x_rows, pixels.x, images, t, last, x_spectra);
                        add_products_of_tiles(x_spectra, y_spectra, used, sums);
                    }
                    for (int i = 0; dx && i < images; i++)
                        turn(dx_rows + (long)i * X, WIDE_C, H * W, C, dx + (n + i) * C * H * W,
                             H * W);
                }
            }
            add_groups(groups, size, partial);
            #pragma omp for schedule(static)
            for (int o = 0; o < O; o += V)
                for (int c = 0; c < C; c++) {
                    vec d[16];
                    load_16(partial + (long)c * WIDE_O + o, (long)C * WIDE_O, d);
                    both_ways<4, 3>(d, times_Gt);
                    for (int t = 0; t < 9; t++)
                        for (int l = 0; l < least(V, O - o); l++)
                            dw[((long)(o + l) * C + c) * 9 + t] = d[t / 3 * 4 + t % 3][l];
                }
        }
        copy(dbias, partial + 16L * C * WIDE_O, O);
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_WINOGRAD_H
