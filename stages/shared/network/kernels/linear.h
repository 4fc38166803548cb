// A linear layer: y = x w' + bias, ReLU on it if wanted, and the gradients.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/linear.cc && ./a.out
//
// Linear<BIAS, RELU>::plain_forward, plain_grad_x and plain_grad_w are the formula; forward and
// grad are the kernels.
//
// Counts are long: no batch, however large, is too many for them.
#ifndef KERNELS_LINEAR_H
#define KERNELS_LINEAR_H

#include "vector.h"

namespace kernels {
namespace {

// x (N, I), w (O, I), bias (O), y and dy (N, O). BIAS: there is a bias, which is not read
// otherwise. RELU: y is after ReLU, and where it is 0 nothing of dy goes back; without it the
// gradients do not read y.
template <bool BIAS, bool RELU>
struct Linear {
    // The formula.

    static void plain_forward(long N, long I, long O, const float* x, const float* w,
                              const float* bias, float* y) {
        for (long n = 0; n < N; n++)
            for (long o = 0; o < O; o++) {
                double sum = BIAS ? bias[o] : 0;
                for (long i = 0; i < I; i++) sum += (double)x[n * I + i] * w[o * I + i];
                y[n * O + o] = RELU && sum < 0 ? 0 : sum;
            }
    }

    static void plain_grad_x(long N, long I, long O, const float* dy, const float* w,
                             const float* y, float* dx) {
        for (long n = 0; n < N; n++)
            for (long i = 0; i < I; i++) {
                double sum = 0;
                for (long o = 0; o < O; o++)
                    if (!RELU || y[n * O + o] > 0) sum += (double)dy[n * O + o] * w[o * I + i];
                dx[n * I + i] = sum;
            }
    }

    static void plain_grad_w(long N, long I, long O, const float* x, const float* dy,
                             const float* y, float* dw, float* dbias) {
        for (long o = 0; o < O; o++)
            for (long i = -1; i < I; i++) {  // the bias is the weight of a pixel that is always 1
                double sum = 0;
                for (long n = 0; n < N; n++)
                    if (!RELU || y[n * O + o] > 0)
                        sum += (double)dy[n * O + o] * (i < 0 ? 1 : x[n * I + i]);
                (i < 0 ? dbias[o] : dw[o * I + i]) = sum;
            }
    }

    // The kernels.

    static void forward(long N, long I, long O, const float* x, const float* w, const float* bias,
                        float* y);
    // Where dx is null it is not computed.
    static void grad(long N, long I, long O, const float* x, const float* w, const float* dy,
                     const float* y, float* dx, float* dw, float* dbias);
};

// Forward. x is transposed first, so that a vector holds one pixel of V images, and a tile of
// LINES outputs for up to MOST such vectors is summed in registers: with the MOST pixels and one
// weight they are 21 of 32 registers, or 11 of 16.
constexpr int LINES = 4, MOST = REGISTERS == 32 ? 4 : 2;
// Pixels are taken in chunks, so that what all the tiles read of x and w stays in the L1 cache.
constexpr int CHUNK = 256;

// sums[r][v] += sum over k < count of x[k][v] * w[r][k], for n vectors of images.
template <int lines, int n>
inline void forward_tile(const float* x, long x_row, const float* w, long w_row, long count,
                         float* sums) {
    vec acc[lines][n];
    #pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) acc[r][v] = load(sums + r * x_row + v * V);
    for (long k = 0; k < count; k++, x += x_row) {
        vec xv[n];
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) xv[v] = load(x + v * V);
        #pragma GCC unroll 4
        for (int r = 0; r < lines; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < n; v++) acc[r][v] = fma(xv[v], all(w[r * w_row + k]), acc[r][v]);
    }
    #pragma GCC unroll 4
    for (int r = 0; r < lines; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) store(sums + r * x_row + v * V, acc[r][v]);
}

// The same for all images.
template <int lines>
inline void forward_lines(const float* x, long x_row, const float* w, long w_row, long count,
                          float* sums) {
    const long vectors = x_row / V;
    long v = 0;
    for (; v + MOST <= vectors; v += MOST)
        forward_tile<lines, MOST>(x + v * V, x_row, w, w_row, count, sums + v * V);
    for (; v < vectors; v++)
        forward_tile<lines, 1>(x + v * V, x_row, w, w_row, count, sums + v * V);
}

// The sums of outputs first to last - 1, from the transposed x.
inline void forward_outputs(long first, long last, long I, const float* x, long x_row,
                            const float* w, float* sums) {
    clear(sums + first * x_row, (last - first) * x_row);
    for (long k = 0; k < I; k += CHUNK) {
        const long count = least(CHUNK, I - k);
        const float *xk = x + k * x_row, *wk = w + k;
        long o = first;
        for (; o + LINES <= last; o += LINES)
            forward_lines<LINES>(xk, x_row, wk + o * I, I, count, sums + o * x_row);
        for (; o < last; o++) forward_lines<1>(xk, x_row, wk + o * I, I, count, sums + o * x_row);
    }
}

template <bool BIAS, bool RELU>
void Linear<BIAS, RELU>::forward(long N, long I, long O, const float* x, const float* w,
                                 const float* bias, float* y) {
    const long x_row = round_up(N, V);
    const long parts = omp_get_max_threads();  // each output is summed whole by one thread
    float* turned = scratch<0>(I * x_row);
    float* sums = scratch<1>(O * x_row);
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (long k = 0; k < I; k += V) {
            float* rows = turned + k * x_row;
            const long count = least(V, I - k);
            if (N < x_row) clear(rows, count * x_row);
            turn(x + k, I, N, count, rows, x_row);
        }
        #pragma omp for schedule(static)
        for (long part = 0; part < parts; part++)
            forward_outputs(O * part / parts, O * (part + 1) / parts, I, turned, x_row, w, sums);
        #pragma omp for schedule(static)
        for (long n = 0; n < N; n += V) {
            const long count = least(V, N - n);
            turn(sums + n, x_row, O, count, y + n * O, O);
            for (float* row = y + n * O; row < y + (n + count) * O; row += O)
                for (long o = 0; o < O; o++) {
                    const float z = row[o] + (BIAS ? bias[o] : 0.f);
                    row[o] = RELU && !(z > 0) ? 0.f : z;
                }
        }
    }
}

// Gradients: out (M, P) = a x, that is out[m][p] = sum over c < C of a(c, m) * x[c][p] with
// a(c, m) = a[c * a_c + m * a_m]. A tile of ROWS rows by COLS vectors is summed in registers: with
// COLS of x and one of a they are 28 of 32 registers, or all 16.
constexpr int ROWS = REGISTERS == 32 ? 8 : 4, COLS = 3;
// x is read in panels of columns, copied so that a panel lies in one piece and stays in the cache.
constexpr int PANEL = 2 * COLS * V;

template <int rows, int n>
inline void product_tile(const float* a, long a_c, long a_m, const float* x, long C, float* out,
                         long out_row) {
    vec acc[rows][n] = {};
    for (long c = 0; c < C; c++, a += a_c, x += PANEL) {
        vec xv[n];
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) xv[v] = load(x + v * V);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            #pragma GCC unroll 4
            for (int v = 0; v < n; v++) acc[r][v] = fma(xv[v], all(a[r * a_m]), acc[r][v]);
    }
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < n; v++) store(out + r * out_row + v * V, acc[r][v]);
}

// Some rows of out, over the `width` columns of one panel; the last may fill part of a vector.
template <int rows>
inline void product_rows(const float* a, long a_c, long a_m, const float* x, long C, int width,
                         float* out, long out_row) {
    int p = 0;
    for (; p + COLS * V <= width; p += COLS * V)
        product_tile<rows, COLS>(a, a_c, a_m, x + p, C, out + p, out_row);
    for (; p + V <= width; p += V) product_tile<rows, 1>(a, a_c, a_m, x + p, C, out + p, out_row);
    if (p == width) return;
    float last[rows * V];
    product_tile<rows, 1>(a, a_c, a_m, x + p, C, last, V);
    for (int r = 0; r < rows; r++) copy(out + r * out_row + p, last + r * V, width - p);
}

inline void product(const float* a, long a_c, long a_m, long M, const float* x, long C, long P,
                    float* out) {
    #pragma omp parallel
    {
        float* panel = scratch<1>(C * PANEL);
        #pragma omp for schedule(static)
        for (long p = 0; p < P; p += PANEL) {
            const int width = least(PANEL, P - p);
            for (long c = 0; c < C; c++) copy(panel + c * PANEL, x + c * P + p, width);
            long m = 0;
            for (; m + ROWS <= M; m += ROWS)
                product_rows<ROWS>(a + m * a_m, a_c, a_m, panel, C, width, out + m * P + p, P);
            for (; m < M; m++)
                product_rows<1>(a + m * a_m, a_c, a_m, panel, C, width, out + m * P + p, P);
        }
    }
}

template <bool BIAS, bool RELU>
void Linear<BIAS, RELU>::grad(long N, long I, long O, const float* x, const float* w,
                              const float* dy, const float* y, float* dx, float* dw, float* dbias) {
    const float* through = RELU ? through_relu(dy, y, N * O, scratch<0>(N * O)) : dy;
    if (dx) product(through, 1, O, N, w, O, I, dx);
    product(through, O, 1, O, x, N, I, dw);
    clear(dbias, O);
    for (long n = 0; n < N; n++)
        for (long o = 0; o < O; o++) dbias[o] += through[n * O + o];
}

}  // namespace
}  // namespace kernels

#endif  // KERNELS_LINEAR_H
