// Softmax and cross-entropy, both ways.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/loss.cc && ./a.out
//
// CrossEntropy::plain_forward and plain_grad are the formula, forward and grad the kernels. They
// run on one core: the logits of a batch are too few to share.
#ifndef KERNELS_LOSS_H
#define KERNELS_LOSS_H

#include <algorithm>
#include <cmath>

namespace kernels {
namespace {

// logits (N, C), labels (N): loss = mean over n of log(sum over c of e^logits[n][c]) -
// logits[n][label], and probabilities = e^logits / their sum, which the gradient needs. An image
// whose label is no class is left out, as Jittor leaves it out.
struct CrossEntropy {
    static long labelled(long N, long C, const int* labels) {
        long count = 0;
        for (long n = 0; n < N; n++) count += labels[n] >= 0 && labels[n] < C;
        return count;
    }

    // The formula.

    static void plain_forward(long N, long C, const float* logits, const int* labels, float* loss,
                              float* probabilities) {
        double total = 0;
        for (long n = 0; n < N; n++) {
            const float* x = logits + n * C;
            double most = x[0], sum = 0;
            for (long c = 0; c < C; c++) most = std::max(most, (double)x[c]);
            for (long c = 0; c < C; c++) sum += std::exp(x[c] - most);
            for (long c = 0; c < C; c++) probabilities[n * C + c] = std::exp(x[c] - most) / sum;
            if (labels[n] >= 0 && labels[n] < C) total += std::log(sum) + most - x[labels[n]];
        }
        *loss = total / labelled(N, C, labels);
    }

    // dlogits[n][c] = dloss / images * (probability - 1 at the label).
    static void plain_grad(long N, long C, const float* probabilities, const int* labels,
                           const float* dloss, float* dlogits) {
        const double each = (double)*dloss / labelled(N, C, labels);
        for (long n = 0; n < N; n++)
            for (long c = 0; c < C; c++)
                dlogits[n * C + c] =
                    labels[n] < 0 || labels[n] >= C
                        ? 0
                        : (probabilities[n * C + c] - (double)(c == labels[n])) * each;
    }

    // The kernels.

    static void forward(long N, long C, const float* logits, const int* labels, float* loss,
                        float* probabilities) {
        double total = 0;
        for (long n = 0; n < N; n++) {
            const float* x = logits + n * C;
            float *p = probabilities + n * C, most = x[0], sum = 0;
            for (long c = 1; c < C; c++) most = std::max(most, x[c]);
            for (long c = 0; c < C; c++) sum += p[c] = std::exp(x[c] - most);
            for (long c = 0; c < C; c++) p[c] /= sum;
            if (labels[n] >= 0 && labels[n] < C) total += std::log(sum) + most - x[labels[n]];
        }
        *loss = total / labelled(N, C, labels);
    }

    static void grad(long N, long C, const float* probabilities, const int* labels,
                     const float* dloss, float* dlogits) {
        const float each = *dloss / labelled(N, C, labels);
        for (long n = 0; n < N; n++) {
            const float* p = probabilities + n * C;
            const float own = labels[n] >= 0 && labels[n] < C ? each : 0;
            for (long c = 0; c < C; c++)
                dlogits[n * C + c] = (p[c] - (c == labels[n] ? 1.f : 0.f)) * own;
        }
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_LOSS_H
