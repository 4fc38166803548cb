// Exponential moving averages of many arrays at once.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/ema.cc && ./a.out
//
// plain_update_ema is the formula, update_ema the kernel.
#ifndef KERNELS_EMA_H
#define KERNELS_EMA_H

#include <initializer_list>

namespace kernels {
namespace {

// `count` averages, the values that they follow, and where the new averages go.
struct Average {
    long count;
    const float *averages, *values;
    float* new_averages;
};

// The formula.

inline void plain_update_ema(const Average& a, double decay) {
    for (long i = 0; i < a.count; i++)
        a.new_averages[i] = decay * a.averages[i] + (1 - decay) * a.values[i];
}

// The kernel.

// This thread's part of one array. No barrier at its end: no array needs another.
inline void ema_share(long count, const float* __restrict__ averages,
                      const float* __restrict__ values, float* __restrict__ new_averages,
                      float decay) {
    #pragma omp for schedule(static) nowait
    for (long i = 0; i < count; i++)
        new_averages[i] = decay * averages[i] + (1 - decay) * values[i];
}

inline void update_ema(std::initializer_list<Average> arrays, float decay) {
    #pragma omp parallel
    for (const Average& a : arrays) ema_share(a.count, a.averages, a.values, a.new_averages, decay);
}

}  // namespace
}  // namespace kernels

#endif  // KERNELS_EMA_H
