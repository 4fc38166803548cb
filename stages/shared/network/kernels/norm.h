// BatchNorm with ReLU and 2 x 2 max-pooling after it, in one pass, and its gradient.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/norm.cc && ./a.out
//
// BatchNorm<...>::plain_train, plain_evaluate and plain_grad are the formula; train, evaluate and
// grad are the kernels.
//
// What counts within one image is int, and norm.py sees to it that it fits; what counts over
// images is long.
#ifndef KERNELS_NORM_H
#define KERNELS_NORM_H

#include <cmath>
#include <cstdint>

#include "vector.h"

namespace kernels {
namespace {

// Adds each of so many numbers up over the workers of a training, in place; null for one worker.
using AddUp = void (*)(double*, long);

// workers.py gives its address as a number.
inline AddUp add_up_at(double address) { return (AddUp)(uintptr_t)address; }

// x and dx (N, C, H, W); y, dy and index (N, C, PH, PW); all else (C). A plane is one channel of
// one image. POOL is 1 or 2; index, where POOL is 2, is that of the pixel in its plane that was the
// largest of its square, as any type of integer that can hold H * W - 1.
template <int C, int H, int W, int POOL, bool RELU>
struct BatchNorm {
    static constexpr int CHANNELS = C;
    static constexpr int PH = H / POOL, PW = W / POOL, SIZE = H * W, POOLED = PH * PW;

    // The formula.

    // y = scale * x + shift, then the largest of each square, then ReLU, for one plane. The first
    // of equals counts, by rows within a column.
    template <class Index>
    static void plain_plane(const float* x, double scale, double shift, float* y, Index* index) {
        for (int i = 0; i < POOLED; i++) {
            int top = -1;
            for (int column = 0; column < POOL; column++)
                for (int row = 0; row < POOL; row++) {
                    const int at = (i / PW * POOL + row) * W + i % PW * POOL + column;
                    if (top < 0 || scale * x[at] > scale * x[top]) top = at;
                }
            y[i] = RELU ? std::max(scale * x[top] + shift, 0.) : scale * x[top] + shift;
            if (POOL == 2 && index) index[i] = top;
        }
    }

    // With mean and var of a channel over all images: y = (x - mean) / sqrt(var + eps) * weight +
    // bias; inverse = 1 / sqrt(var + eps); running += momentum * (mean or var - running).
    template <class Index>
    static void plain_train(long N, double eps, double momentum, const float* x,
                            const float* weight, const float* bias, const float* running_mean,
                            const float* running_var, float* y, Index* index, float* mean,
                            float* inverse, float* new_mean, float* new_var) {
        for (int c = 0; c < C; c++) {
            double sum = 0, squares = 0;
            for (long i = 0; i < N * SIZE; i++) sum += x[(i / SIZE * C + c) * SIZE + i % SIZE];
            const double m = sum / (N * SIZE);
            for (long i = 0; i < N * SIZE; i++)
                squares += std::pow(x[(i / SIZE * C + c) * SIZE + i % SIZE] - m, 2);
            const double var = squares / (N * SIZE), scale = weight[c] / std::sqrt(var + eps);
            for (long plane = c; plane < N * C; plane += C)
                plain_plane(x + plane * SIZE, scale, bias[c] - m * scale, y + plane * POOLED,
                            index + plane * POOLED);
            mean[c] = m;
            inverse[c] = 1 / std::sqrt(var + eps);
            new_mean[c] = running_mean[c] + momentum * (m - running_mean[c]);
            new_var[c] = running_var[c] + momentum * (var - running_var[c]);
        }
    }

    // The same with the running mean and var.
    static void plain_evaluate(long N, double eps, const float* x, const float* weight,
                               const float* bias, const float* mean, const float* var, float* y) {
        for (long plane = 0; plane < N * C; plane++) {
            const int c = plane % C;
            const double scale = weight[c] / std::sqrt(var[c] + eps);
            plain_plane<int>(x + plane * SIZE, scale, bias[c] - mean[c] * scale, y + plane * POOLED,
                             nullptr);
        }
    }

    // With g = dy where ReLU let it through, at the pixel that was the largest, and n = (x - mean)
    // * inverse: dweight = sum of g n, dbias = sum of g, and dx = weight * inverse * (g - mean of g
    // - n * mean of g n).
    template <class Index>
    static void plain_grad(long N, const float* x, const float* weight, const float* mean,
                           const float* inverse, const float* dy, const float* y,
                           const Index* index, float* dx, float* dweight, float* dbias) {
        std::vector<double> g(N * C * SIZE);
        for (long i = 0; i < N * C * POOLED; i++)
            if (!RELU || y[i] > 0)
                g[i / POOLED * SIZE + (POOL == 2 ? index[i] : i % POOLED)] += dy[i];
        for (int c = 0; c < C; c++) {
            double sum = 0, product = 0;
            for (int pass = 0; pass < 2; pass++)
                for (long i = 0; i < N * SIZE; i++) {
                    const long at = (i / SIZE * C + c) * SIZE + i % SIZE;
                    const double n = (x[at] - mean[c]) * (double)inverse[c];
                    if (pass == 0) sum += g[at], product += g[at] * n;
                    if (pass == 1)
                        dx[at] = weight[c] * inverse[c] *
                                 (g[at] - sum / (N * SIZE) - n * product / (N * SIZE));
                }
            dweight[c] = product;
            dbias[c] = sum;
        }
    }

    // The kernels. Planes are summed each on their own and then in order, so that the last bit does
    // not depend on the number of threads.

    // For both halves of a pooled plane's squares: the larger, and its index.
    struct Room {
        float* most = scratch<22>(POOL == 2 ? 2 * POOLED : 0);
        int* index = scratch<23, int>(POOL == 2 ? 2 * POOLED : 0);
    };

    // y and index of one plane, the latter where it is wanted. The two rows of a square are
    // compared first, so that both loops run over neighbours in memory.
    template <bool wanted, class Index>
    static void plane(const float* x, float scale, float shift, const Room& room, float* y,
                      Index* index) {
        if (POOL == 1) {
            #pragma omp simd
            for (int i = 0; i < SIZE; i++) {
                float v = scale * x[i] + shift;
                y[i] = RELU && !(v > 0) ? 0.f : v;
            }
            return;
        }
        float* most = room.most;
        int* most_index = room.index;
        for (int i = 0; i < PH; i++)
            #pragma omp simd
            for (int j = 0; j < 2 * PW; j++) {
                const int at = 2 * i * W + j;
                float top = scale * x[at] + shift, low = scale * x[at + W] + shift;
                most[2 * i * PW + j] = low > top ? low : top;
                if (wanted) most_index[2 * i * PW + j] = low > top ? at + W : at;
            }
        // The value and the index in loops of their own: gcc vectorises both then.
        #pragma omp simd
        for (int i = 0; i < POOLED; i++) {
            const float left = most[2 * i], right = most[2 * i + 1];
            const float v = right > left ? right : left;
            y[i] = RELU && !(v > 0) ? 0.f : v;
        }
        if (!wanted) return;
        #pragma omp simd
        for (int i = 0; i < POOLED; i++) {
            // Both are read, though one is enough: gcc does not vectorise reads under a condition.
            const int left_index = most_index[2 * i], right_index = most_index[2 * i + 1];
            index[i] = most[2 * i + 1] > most[2 * i] ? right_index : left_index;
        }
    }

    // sums[0] of x and sums[1] of its squares, for one plane.
    static void plane_sums(const float* x, float* sums) {
        const TwoSums of(x, x, SIZE);
        sums[0] = of.first;
        sums[1] = of.product;
    }

    // The two sums of each channel over all its planes, and how many numbers went into each.
    struct Totals {
        double values[2 * C + 1] = {};
        Totals(long N, const float* sums) {
            for (int c = 0; c < C; c++)
                for (long n = 0; n < N; n++)
                    for (int i = 0; i < 2; i++) values[2 * c + i] += sums[(n * C + c) * 2 + i];
            values[2 * C] = (double)N * SIZE;
        }
        double first(int c) const { return values[2 * c]; }
        double second(int c) const { return values[2 * c + 1]; }
        double count() const { return values[2 * C]; }
        void over_workers(AddUp add_up) {
            if (add_up) add_up(values, 2 * C + 1);
        }
    };

    // From the two sums of each plane to what plain_train writes of each channel.
    static void statistics(long N, float eps, float momentum, const float* sums,
                           const float* running_mean, const float* running_var, float* mean,
                           float* inverse, float* new_mean, float* new_var, AddUp add_up) {
        Totals totals(N, sums);
        totals.over_workers(add_up);
        const double count = totals.count();
        for (int c = 0; c < C; c++) {
            const double m = totals.first(c) / count;
            const double var = std::max(totals.second(c) / count - m * m, 0.0);
            mean[c] = m;
            inverse[c] = 1 / std::sqrt(var + eps);
            new_mean[c] = running_mean[c] + (m - running_mean[c]) * momentum;
            new_var[c] = running_var[c] + (var - running_var[c]) * momentum;
        }
    }

    // y and index of all planes, by all threads.
    template <class Index>
    static void normalise(long N, const float* x, const float* weight, const float* bias,
                          const float* mean, const float* inverse, float* y, Index* index) {
        const Room room;
        #pragma omp for schedule(static)
        for (long p = 0; p < N * C; p++) {
            const int c = p % C;
            const float scale = weight[c] * inverse[c], shift = bias[c] - mean[c] * scale;
            plane<POOL == 2>(x + p * SIZE, scale, shift, room, y + p * POOLED, index + p * POOLED);
        }
    }

    template <class Index>
    static void train(long N, float eps, float momentum, const float* x, const float* weight,
                      const float* bias, const float* running_mean, const float* running_var,
                      float* y, Index* index, float* mean, float* inverse, float* new_mean,
                      float* new_var, AddUp add_up = nullptr) {
        float* sums = scratch<20>(N * C * 2);
        #pragma omp parallel
        {
            #pragma omp for schedule(static)
            for (long p = 0; p < N * C; p++) plane_sums(x + p * SIZE, sums + p * 2);
            // The thread that called: add_up is a function of Python's, whose lock that one holds.
            #pragma omp master
            statistics(N, eps, momentum, sums, running_mean, running_var, mean, inverse, new_mean,
                       new_var, add_up);
            #pragma omp barrier
            normalise(N, x, weight, bias, mean, inverse, y, index);
        }
    }

    // y = scale x + shift for each channel, with the running mean and var.
    static void scale_and_shift(float eps, const float* weight, const float* bias,
                                const float* mean, const float* var, float* scales, float* shifts) {
        for (int c = 0; c < C; c++) {
            scales[c] = weight[c] / std::sqrt(var[c] + eps);
            shifts[c] = bias[c] - mean[c] * scales[c];
        }
    }

    static void evaluate(long N, float eps, const float* x, const float* weight, const float* bias,
                         const float* mean, const float* var, float* y) {
        float* scales = scratch<26>(C);
        float* shifts = scratch<27>(C);
        scale_and_shift(eps, weight, bias, mean, var, scales, shifts);
        #pragma omp parallel
        {
            const Room room;
            #pragma omp for schedule(static)
            for (long p = 0; p < N * C; p++)
                plane<false, int>(x + p * SIZE, scales[p % C], shifts[p % C], room, y + p * POOLED,
                                  nullptr);
        }
    }

    // The y of `evaluate` for one image, of rows of pixels by `wide` channels, to the same bytes.
    static void evaluate_rows(const float* x, int wide, const float* scales, const float* shifts,
                              float* y) {
        for (int i = 0; i < POOLED; i++, y += wide) {
            const float* from = x + (long)(i / PW * POOL * W + i % PW * POOL) * wide;
            for (int c = 0; c < wide; c += V) {
                const vec scale = load(scales + c), shift = load(shifts + c);
                const auto at = [&](int k) {
                    return scale * load(from + (long)k * wide + c) + shift;
                };
                vec v = at(0);
                if (POOL == 2) {
                    const vec low = at(W), top_right = at(1), low_right = at(W + 1);
                    const vec left = low > v ? low : v;
                    const vec right = low_right > top_right ? low_right : top_right;
                    v = right > left ? right : left;
                }
                store(y + c, RELU ? (v > 0 ? v : vec{}) : v);
            }
        }
    }

    // With g as in plain_grad: sums[0] of g and sums[1] of g (x - mean) * inverse, for one plane.
    template <class Index>
    static void grad_sums(const float* x, float mean, float inverse, const float* dy,
                          const float* y, const Index* index, float* g, float* centred,
                          float* sums) {
        #pragma omp simd
        for (int i = 0; i < POOLED; i++) {
            g[i] = RELU && !(y[i] > 0) ? 0.f : dy[i];
            centred[i] = x[POOL == 2 ? index[i] : i] - mean;
        }
        const TwoSums of(g, centred, POOLED);
        sums[0] = of.first;
        sums[1] = of.product * inverse;
    }

    // dx of one plane = scale * g + by_x * x + rest.
    template <class Index>
    static void grad_plane(const float* x, float scale, float by_x, float rest, const float* dy,
                           const float* y, const Index* index, float* dx) {
        #pragma omp simd
        for (int i = 0; i < SIZE; i++) dx[i] = rest + by_x * x[i];
        for (int i = 0; i < POOLED; i++) {
            float g = RELU && !(y[i] > 0) ? 0.f : scale * dy[i];
            dx[POOL == 2 ? index[i] : i] += g;
        }
    }

    // The gradients of weight and bias, from this worker's images. slopes[2 c] is the mean of g
    // over those of all workers, slopes[2 c + 1] that of g n, times inverse.
    template <class Index>
    static void grad_weight(long N, const float* x, const float* mean, const float* inverse,
                            const float* dy, const float* y, const Index* index, float* slopes,
                            float* dweight, float* dbias, AddUp add_up) {
        float* sums = scratch<20>(N * C * 2);
        #pragma omp parallel
        {
            float* g = scratch<24>(POOLED);
            float* centred = scratch<25>(POOLED);
            #pragma omp for schedule(static)
            for (long p = 0; p < N * C; p++)
                grad_sums(x + p * SIZE, mean[p % C], inverse[p % C], dy + p * POOLED,
                          y + p * POOLED, index + p * POOLED, g, centred, sums + p * 2);
        }
        Totals totals(N, sums);
        for (int c = 0; c < C; c++) {
            dweight[c] = totals.second(c);
            dbias[c] = totals.first(c);
        }
        totals.over_workers(add_up);
        for (int c = 0; c < C; c++) {
            slopes[c * 2] = totals.first(c) / totals.count();
            slopes[c * 2 + 1] = totals.second(c) / totals.count() * inverse[c];
        }
    }

    // dx of plane p alone.
    template <class Index>
    static void grad_x(long p, const float* x, const float* weight, const float* mean,
                       const float* inverse, const float* slopes, const float* dy, const float* y,
                       const Index* index, float* dx) {
        const int c = p % C;
        const float scale = weight[c] * inverse[c], by_x = -scale * slopes[c * 2 + 1];
        const float rest = -scale * slopes[c * 2] - by_x * mean[c];
        grad_plane(x + p * SIZE, scale, by_x, rest, dy + p * POOLED, y + p * POOLED,
                   index + p * POOLED, dx);
    }

    template <class Index>
    static void grad(long N, const float* x, const float* weight, const float* mean,
                     const float* inverse, const float* dy, const float* y, const Index* index,
                     float* dx, float* dweight, float* dbias, AddUp add_up = nullptr) {
        float* slopes = scratch<21>(C * 2);
        grad_weight(N, x, mean, inverse, dy, y, index, slopes, dweight, dbias, add_up);
        #pragma omp parallel for schedule(static)
        for (long p = 0; p < N * C; p++)
            grad_x(p, x, weight, mean, inverse, slopes, dy, y, index, dx + p * SIZE);
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_NORM_H
