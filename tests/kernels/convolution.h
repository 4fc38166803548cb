// How a convolution is compared with the plain loops of Conv.
#ifndef TESTS_KERNELS_CONVOLUTION_H
#define TESTS_KERNELS_CONVOLUTION_H

#include "tests/kernels/check.h"

namespace check {

// Plain is a Conv, Fast a Conv or a Winograd of the same shape; an image has INPUTS numbers.
template <class Plain, class Fast, int INPUTS>
void compare(long N) {
    constexpr int O = Plain::OUTPUTS;
    const size_t pixels = N * INPUTS, positions = N * O * Plain::P;
    const auto x = numbers(pixels), w = numbers(O * Plain::Q), bias = numbers(O);
    const auto dy = numbers(positions);

    auto y = unwritten(positions), fast_y = y;
    Plain::plain_forward(N, x.data(), w.data(), bias.data(), y.data());
    Fast::forward(N, x.data(), w.data(), bias.data(), fast_y.data());
    same("y", y, fast_y);

    auto dx = unwritten(pixels), fast_dx = dx, dw = unwritten(w.size()), fast_dw = dw;
    auto dbias = unwritten(O), fast_dbias = dbias;
    Plain::plain_grad_x(N, dy.data(), w.data(), y.data(), dx.data());
    Plain::plain_grad_w(N, x.data(), dy.data(), y.data(), dw.data(), dbias.data());
    Fast::grad(N, x.data(), w.data(), dy.data(), y.data(), fast_dx.data(), fast_dw.data(),
               fast_dbias.data());
    same("dx", dx, fast_dx);
    same("dw", dw, fast_dw);
    same("dbias", dbias, fast_dbias);

    auto lone_dw = unwritten(w.size()), lone_dbias = unwritten(O);  // where dx is not wanted
    Fast::grad(N, x.data(), w.data(), dy.data(), y.data(), nullptr, lone_dw.data(),
               lone_dbias.data());
    same("dw alone", fast_dw, lone_dw, 0);
    same("dbias alone", fast_dbias, lone_dbias, 0);
}

}  // namespace check

#endif  // TESTS_KERNELS_CONVOLUTION_H
