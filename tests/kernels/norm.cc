#include "stages/shared/network/kernels/norm.h"

#include <cstdint>

#include "tests/kernels/check.h"

using check::Floats;
using check::numbers;
using check::unwritten;

// Index is the type of the index of the largest pixel of a square.
template <int C, int H, int W, int POOL, bool RELU, class Index>
void compare(long N) {
    typedef kernels::BatchNorm<C, H, W, POOL, RELU> Norm;
    check::shape("N %ld C %d H %d W %d pool %d relu %d", N, C, H, W, POOL, RELU);
    const size_t pixels = N * C * H * W, pooled = N * C * Norm::POOLED;
    const double eps = 1e-5, momentum = 0.1;
    const auto x = numbers(pixels, -1, 2), dy = numbers(pooled), weight = numbers(C), bias = weight;
    const auto old_mean = numbers(C), old_var = numbers(C, 0.5, 1.5);

    auto y = unwritten(pooled), fast_y = y, mean = unwritten(C), fast_mean = mean;
    auto inverse = mean, fast_inverse = mean, new_mean = mean, fast_new_mean = mean;
    auto new_var = mean, fast_new_var = mean;
    std::vector<Index> index(pooled), fast_index(pooled);
    Norm::plain_train(N, eps, momentum, x.data(), weight.data(), bias.data(), old_mean.data(),
                      old_var.data(), y.data(), index.data(), mean.data(), inverse.data(),
                      new_mean.data(), new_var.data());
    Norm::train(N, eps, momentum, x.data(), weight.data(), bias.data(), old_mean.data(),
                old_var.data(), fast_y.data(), fast_index.data(), fast_mean.data(),
                fast_inverse.data(), fast_new_mean.data(), fast_new_var.data());
    check::same("y", y, fast_y, 1e-4);
    check::same("mean", mean, fast_mean);
    check::same("inverse", inverse, fast_inverse);
    check::same("new mean", new_mean, fast_new_mean);
    check::same("new var", new_var, fast_new_var);
    check::same("index", Floats(index.begin(), index.end()),
                Floats(fast_index.begin(), fast_index.end()), 0);

    auto dx = unwritten(pixels), fast_dx = dx, dweight = unwritten(C), fast_dweight = dweight;
    auto dbias = dweight, fast_dbias = dweight;
    Norm::plain_grad(N, x.data(), weight.data(), mean.data(), inverse.data(), dy.data(), y.data(),
                     index.data(), dx.data(), dweight.data(), dbias.data());
    Norm::grad(N, x.data(), weight.data(), mean.data(), inverse.data(), dy.data(), y.data(),
               index.data(), fast_dx.data(), fast_dweight.data(), fast_dbias.data());
    check::same("dx", dx, fast_dx);
    check::same("dweight", dweight, fast_dweight, 1e-4);
    check::same("dbias", dbias, fast_dbias, 1e-4);

    auto z = unwritten(pooled), fast_z = z;
    Norm::plain_evaluate(N, eps, x.data(), weight.data(), bias.data(), old_mean.data(),
                         old_var.data(), z.data());
    Norm::evaluate(N, eps, x.data(), weight.data(), bias.data(), old_mean.data(), old_var.data(),
                   fast_z.data());
    check::same("y of evaluate", z, fast_z);
}

int main() {
    //      C  H  W  pool relu
    compare<7, 24, 24, 2, true, uint16_t>(3);
    compare<1, 3, 3, 2, true, uint16_t>(1);  // the smallest
    compare<5, 7, 9, 2, true, uint16_t>(3);  // an odd edge, which pooling drops
    compare<3, 13, 8, 2, false, int>(4);
    compare<17, 4, 5, 1, true, uint16_t>(2);
    compare<2, 33, 3, 1, false, uint16_t>(9);
    compare<1, 256, 256, 2, true, uint16_t>(1);  // the most pixels that 16 bits can tell apart
    compare<1, 258, 258, 2, true, int>(2);
    return check::result();
}
