// A convolution and the BatchNorm after it as one: what lies between the two is still in the
// nearest caches where the second needs it.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/conv_norm.cc && ./a.out
//
// The formula is one after the other: Conv or Winograd, then BatchNorm, of conv.h, winograd.h and
// norm.h. So are the results, to the byte.
#ifndef KERNELS_CONV_NORM_H
#define KERNELS_CONV_NORM_H

#include "conv.h"
#include "norm.h"
#include "winograd.h"

namespace kernels {
namespace {

// Convolution is a Conv or a Winograd, Norm the BatchNorm of its results. x (N, C, H, W) and the
// convolution's w and its bias; `between` (N, O, OH, OW) is its result. All else is as in norm.h.
template <class Convolution, class Norm>
struct ConvNorm {
    static constexpr int O = Norm::CHANNELS, P = Norm::SIZE, WIDE = Convolution::WIDE_O;
    static constexpr int POOLED = Norm::POOLED;

    template <class Index>
    static void train(long N, float eps, float momentum, const float* x, const float* w,
                      const float* w_bias, const float* weight, const float* bias,
                      const float* running_mean, const float* running_var, float* between, float* y,
                      Index* index, float* mean, float* inverse, float* new_mean, float* new_var,
                      AddUp add_up = nullptr) {
        float* sums = scratch<30>(N * O * 2);
        Convolution::forward_each(N, x, w, w_bias, [=](long n, const float* rows) {
            float* planes = between + n * O * P;
            turn(rows, WIDE, P, O, planes, P);
            for (int o = 0; o < O; o++) Norm::plane_sums(planes + o * P, sums + (n * O + o) * 2);
        });
        Norm::statistics(N, eps, momentum, sums, running_mean, running_var, mean, inverse, new_mean,
                         new_var, add_up);
        #pragma omp parallel
        Norm::normalise(N, between, weight, bias, mean, inverse, y, index);
    }

    static void evaluate(long N, float eps, const float* x, const float* w, const float* w_bias,
                         const float* weight, const float* bias, const float* mean,
                         const float* var, float* y) {
        float* scales = scratch<31>(WIDE);
        float* shifts = scratch<32>(WIDE);
        clear(scales, WIDE);
        clear(shifts, WIDE);
        Norm::scale_and_shift(eps, weight, bias, mean, var, scales, shifts);
        Convolution::forward_each(N, x, w, w_bias, [=](long n, const float* rows) {
            float* pooled = scratch<33>(POOLED * WIDE);
            Norm::evaluate_rows(rows, WIDE, scales, shifts, pooled);
            turn(pooled, WIDE, POOLED, O, y + n * O * POOLED, POOLED);
        });
    }

    // Where dx is null it is not computed.
    template <class Index>
    static void grad(long N, const float* x, const float* w, const float* between,
                     const float* weight, const float* mean, const float* inverse, const float* dy,
                     const float* y, const Index* index, float* dx, float* dw, float* dw_bias,
                     float* dweight, float* dbias, AddUp add_up = nullptr) {
        float* slopes = scratch<30>(O * 2);
        Norm::grad_weight(N, between, mean, inverse, dy, y, index, slopes, dweight, dbias, add_up);
        Convolution::grad_each(
            N, x, w,
            [=](long n, float* rows) {
                float* planes = scratch<31>(O * P);
                for (int o = 0; o < O; o++)
                    Norm::grad_x(n * O + o, between, weight, mean, inverse, slopes, dy, y, index,
                                 planes + o * P);
                turn(planes, P, O, P, rows, WIDE);
            },
            dx, dw, dw_bias);
    }
};

}  // namespace
}  // namespace kernels

#endif  // KERNELS_CONV_NORM_H
