#include "stages/shared/network/kernels/conv_norm.h"

#include <cstdint>

#include "tests/kernels/check.h"

using check::Floats;
using check::numbers;
using check::unwritten;

// Both at once gives the same bytes as one after the other.
template <class Convolution, class Norm, int INPUTS, int WEIGHTS, class Index>
void compare(const char* name, long N) {
    typedef kernels::ConvNorm<Convolution, Norm> Both;
    constexpr int O = Both::O;
    check::shape("%s, N %ld", name, N);
    const size_t middle = N * O * Both::P, pooled = N * O * Both::POOLED;
    const float eps = 1e-5, momentum = 0.1;
    const auto x = numbers(N * INPUTS), w = numbers(WEIGHTS), w_bias = numbers(O);
    const auto weight = numbers(O), bias = numbers(O), dy = numbers(pooled);
    const auto old_mean = numbers(O), old_var = numbers(O, 0.5, 1.5);

    auto between = unwritten(middle), fast_between = between, y = unwritten(pooled), fast_y = y;
    auto mean = unwritten(O), fast_mean = mean, inverse = mean, fast_inverse = mean;
    auto new_mean = mean, fast_new_mean = mean, new_var = mean, fast_new_var = mean;
    std::vector<Index> index(pooled), fast_index(pooled);
    Convolution::forward(N, x.data(), w.data(), w_bias.data(), between.data());
    Norm::train(N, eps, momentum, between.data(), weight.data(), bias.data(), old_mean.data(),
                old_var.data(), y.data(), index.data(), mean.data(), inverse.data(),
                new_mean.data(), new_var.data());
    Both::train(N, eps, momentum, x.data(), w.data(), w_bias.data(), weight.data(), bias.data(),
                old_mean.data(), old_var.data(), fast_between.data(), fast_y.data(),
                fast_index.data(), fast_mean.data(), fast_inverse.data(), fast_new_mean.data(),
                fast_new_var.data());
    check::same("between", between, fast_between, 0);
    check::same("y", y, fast_y, 0);
    check::same("index", Floats(index.begin(), index.end()),
                Floats(fast_index.begin(), fast_index.end()), 0);
    check::same("mean", mean, fast_mean, 0);
    check::same("inverse", inverse, fast_inverse, 0);
    check::same("new mean", new_mean, fast_new_mean, 0);
    check::same("new var", new_var, fast_new_var, 0);

    auto between_grad = unwritten(middle), dx = unwritten(x.size()), fast_dx = dx;
    auto dw = unwritten(WEIGHTS), fast_dw = dw, dw_bias = unwritten(O), fast_dw_bias = dw_bias;
    auto dweight = dw_bias, fast_dweight = dw_bias, dbias = dw_bias, fast_dbias = dw_bias;
    Norm::grad(N, between.data(), weight.data(), mean.data(), inverse.data(), dy.data(), y.data(),
               index.data(), between_grad.data(), dweight.data(), dbias.data());
    Convolution::grad(N, x.data(), w.data(), between_grad.data(), between.data(), dx.data(),
                      dw.data(), dw_bias.data());
    Both::grad(N, x.data(), w.data(), between.data(), weight.data(), mean.data(), inverse.data(),
               dy.data(), y.data(), index.data(), fast_dx.data(), fast_dw.data(),
               fast_dw_bias.data(), fast_dweight.data(), fast_dbias.data());
    check::same("dx", dx, fast_dx, 0);
    check::same("dw", dw, fast_dw, 0);
    check::same("dw_bias", dw_bias, fast_dw_bias, 0);
    check::same("dweight", dweight, fast_dweight, 0);
    check::same("dbias", dbias, fast_dbias, 0);

    auto z = unwritten(pooled), fast_z = z;
    Norm::evaluate(N, eps, between.data(), weight.data(), bias.data(), old_mean.data(),
                   old_var.data(), z.data());
    Both::evaluate(N, eps, x.data(), w.data(), w_bias.data(), weight.data(), bias.data(),
                   old_mean.data(), old_var.data(), fast_z.data());
    check::same("y of evaluate", z, fast_z, 0);
}

int main() {
    using namespace kernels;
    compare<Conv<1, 28, 28, 16, 5, 5, 2, 2, 0, 0, true, false>, BatchNorm<16, 12, 12, 1, true>, 784,
            400, uint16_t>("5 x 5, stride 2", 19);
    compare<Conv<3, 9, 7, 5, 3, 3, 1, 1, 1, 1, false, false>, BatchNorm<5, 9, 7, 2, true>, 189, 135,
            uint16_t>("odd edges, which pooling drops", 2);
    compare<Winograd<16, 12, 12, 32, 1, 1, true, false>, BatchNorm<32, 12, 12, 2, true>, 2304, 4608,
            uint16_t>("Winograd", 20);
    compare<Winograd<17, 5, 6, 20, 1, 1, true, false>, BatchNorm<20, 5, 6, 1, false>, 510, 3060,
            int>("Winograd, channels beyond whole vectors", 33);
    return check::result();
}
