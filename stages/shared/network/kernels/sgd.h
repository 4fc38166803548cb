// One step of SGD with momentum for all parameters at once.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/sgd.cc && ./a.out
//
// plain_sgd is the formula, sgd the kernel.
#ifndef KERNELS_SGD_H
#define KERNELS_SGD_H

#include <initializer_list>

namespace kernels {
namespace {

// `count` weights with their gradients and velocities, and where the new ones go.
struct Parameter {
    long count;
    const float *weights, *gradients, *velocities;
    float *new_weights, *new_velocities;
};

// The formula.

// gradient' = gradient + weight_decay * weight
// velocity = momentum * velocity + (1 - dampening) * gradient'
// weight -= rate * velocity, or with Nesterov's momentum
// weight -= rate * (gradient' + momentum * velocity)
inline void plain_sgd(const Parameter& p, double rate, double momentum, double weight_decay,
                      double dampening, bool nesterov) {
    for (long i = 0; i < p.count; i++) {
        const double gradient = p.gradients[i] + weight_decay * p.weights[i];
        const double velocity = momentum * p.velocities[i] + (1 - dampening) * gradient;
        p.new_velocities[i] = velocity;
        p.new_weights[i] =
            p.weights[i] - rate * (nesterov ? gradient + momentum * velocity : velocity);
    }
}

// The kernel.

// This thread's part of one array. No barrier at its end: no array needs another.
inline void sgd_share(long count, const float* __restrict__ weights,
                      const float* __restrict__ gradients, const float* __restrict__ velocities,
                      float* __restrict__ new_weights, float* __restrict__ new_velocities,
                      float rate, float momentum, float weight_decay, float dampening,
                      bool nesterov) {
    #pragma omp for schedule(static) nowait
    for (long i = 0; i < count; i++) {
        float d = weights[i] * weight_decay + gradients[i];
        float v = momentum * velocities[i] + d * (1 - dampening);
        new_velocities[i] = v;
        new_weights[i] = weights[i] - (nesterov ? d + momentum * v : v) * rate;
    }
}

inline void sgd(std::initializer_list<Parameter> parameters, float rate, float momentum,
                float weight_decay, float dampening, bool nesterov) {
    #pragma omp parallel
    for (const Parameter& p : parameters)
        sgd_share(p.count, p.weights, p.gradients, p.velocities, p.new_weights, p.new_velocities,
                  rate, momentum, weight_decay, dampening, nesterov);
}

}  // namespace
}  // namespace kernels

#endif  // KERNELS_SGD_H
