// Softmax and cross-entropy with smoothed labels, forward and backward.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/loss.cc && ./a.out
//
// CrossEntropy::plain_forward and plain_grad are the formula, forward and grad the kernels. They
// run on one core: the logits of a batch are too few to share.
#ifndef KERNELS_LOSS_H
#define KERNELS_LOSS_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace kernels {
namespace {

// logits (N, C), labels (N): loss = mean over n of log(sum over c of e^logits[n][c]) - (1 -
// smoothing) * logits[n][label] - smoothing * mean over c of logits[n][c], and probabilities =
// e^logits / their sum, which the gradient needs. An image whose label is no class is left out, as
// Jittor leaves it out.
struct CrossEntropy {
    static bool is_class(long C, int label) { return label >= 0 && label < C; }

    static long labelled(long N, long C, const int* labels) {
        long count = 0;
        for (long n = 0; n < N; n++) count += is_class(C, labels[n]);
        return count;
    }

    // The formula.

    static void plain_forward(long N, long C, double smoothing, const float* logits,
                              const int* labels, float* loss, float* probabilities) {
        double total = 0;
        for (long n = 0; n < N; n++) {
            const float* x = logits + n * C;
            double most = x[0], sum = 0, mean = 0;
            for (long c = 0; c < C; c++) most = std::max(most, (double)x[c]);
            for (long c = 0; c < C; c++) sum += std::exp(x[c] - most), mean += (double)x[c] / C;
            for (long c = 0; c < C; c++) probabilities[n * C + c] = std::exp(x[c] - most) / sum;
            if (is_class(C, labels[n]))
                total += std::log(sum) + most - (1 - smoothing) * x[labels[n]] - smoothing * mean;
        }
        *loss = total / labelled(N, C, labels);
    }

    // dlogits[n][c] = dloss / images * (probability - smoothing / C, and at the label - (1 -
    // smoothing)).
    static void plain_grad(long N, long C, double smoothing, const float* probabilities,
                           const int* labels, const float* dloss, float* dlogits) {
        const double each = (double)*dloss / labelled(N, C, labels);
        for (long n = 0; n < N; n++)
            for (long c = 0; c < C; c++)
                dlogits[n * C + c] = is_class(C, labels[n])
                                         ? (probabilities[n * C + c] - smoothing / C -
                                            (c == labels[n]) * (1 - smoothing)) *
                                               each
                                         : 0;
    }

    // The kernels.

    // The C library's exp and log differ in the last bit from version to version, and from
    // processor to processor. These are sums and products of double precision and nothing else.

    // e^x for x <= 0, to 13 digits: 2^n e^r with n whole and |r| <= log(2) / 2, by the series of
    // e^r.
    static double exponential(double x) {
        x = std::max(x, -700.0);  // beyond it 2^n is no ordinary number, and any float is 0
        // Added to this number, another is rounded, and stands in its lowest bits.
        constexpr double whole = 0x1.8p52;
        const double shifted = x * (1 / LOG_2) + whole, r = x - (shifted - whole) * LOG_2;
        constexpr double factors[] = {1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320,
                                      1. / 5040,     1. / 720,     1. / 120,    1. / 24,
                                      1. / 6,        1. / 2,       1.,          1.};
        double sum = 0;
        #pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sum = sum * r + factors[i];
        uint64_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        bits = (bits + 1023) << 52;  // the exponent of 2^n
        double power;
        memcpy(&power, &bits, sizeof power);
        return sum * power;
    }

    // log(x) for finite x >= 1, to 14 digits: n log(2) + 2 artanh(s) with x = 2^n m, m near 1 and
    // s = (m - 1) / (m + 1).
    static double logarithm(double x) {
        int n;
        double m = std::frexp(x, &n);  // which is exact
        if (m < 0.7071067811865476) m *= 2, n--;
        const double s = (m - 1) / (m + 1);
        double sum = 0;
        for (int k = 19; k > 0; k -= 2) sum = sum * (s * s) + 1. / k;
        return n * LOG_2 + 2 * s * sum;
    }

    static constexpr double LOG_2 = 0.6931471805599453;

    static void forward(long N, long C, double smoothing, const float* logits, const int* labels,
                        float* loss, float* probabilities) {
        double total = 0;
        for (long n = 0; n < N; n++) {
            const float* x = logits + n * C;
            float *p = probabilities + n * C, most = x[0];
            double sum = 0, logit_sum = 0;
            for (long c = 1; c < C; c++) most = std::max(most, x[c]);
            #pragma omp simd
            for (long c = 0; c < C; c++) p[c] = exponential((double)x[c] - most);
            for (long c = 0; c < C; c++) sum += p[c], logit_sum += x[c];
            for (long c = 0; c < C; c++) p[c] /= sum;
            if (!is_class(C, labels[n])) continue;
            const double target = (1 - smoothing) * x[labels[n]] + smoothing * (logit_sum / C);
            total += logarithm(sum) + (most - target);
        }
        *loss = total / labelled(N, C, labels);
    }

    static void grad(long N, long C, double smoothing, const float* probabilities,
                     const int* labels, const float* dloss, float* dlogits) {
        const float each = *dloss / labelled(N, C, labels);
        const float share = smoothing / C, own = 1 - smoothing;
        for (long n = 0; n < N; n++) {
            const float scale = is_class(C, labels[n]) ? each : 0;
            for (long c = 0; c < C; c++) {
                const float target = share + (c == labels[n] ? own : 0.f);
                dlogits[n * C + c] = (probabilities[n * C + c] - target) * scale;
            }
        }
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_LOSS_H
