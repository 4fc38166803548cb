#include "stages/shared/network/kernels/linear.h"

#include "tests/kernels/check.h"

using check::numbers;
using check::unwritten;

template <bool BIAS, bool RELU>
void compare(long N, long I, long O) {
    typedef kernels::Linear<BIAS, RELU> Linear;
    check::shape("N %ld in %ld out %ld", N, I, O);
    const auto x = numbers(N * I), w = numbers(O * I), bias = numbers(O), dy = numbers(N * O);

    auto y = unwritten(N * O), fast_y = y;
    Linear::plain_forward(N, I, O, x.data(), w.data(), bias.data(), y.data());
    Linear::forward(N, I, O, x.data(), w.data(), bias.data(), fast_y.data());
    check::same("y", y, fast_y);

    auto dx = unwritten(N * I), fast_dx = dx, dw = unwritten(O * I), fast_dw = dw;
    auto dbias = unwritten(O), fast_dbias = dbias;
    Linear::plain_grad_x(N, I, O, dy.data(), w.data(), y.data(), dx.data());
    Linear::plain_grad_w(N, I, O, x.data(), dy.data(), y.data(), dw.data(), dbias.data());
    Linear::grad(N, I, O, x.data(), w.data(), dy.data(), y.data(), fast_dx.data(), fast_dw.data(),
                 fast_dbias.data());
    check::same("dx", dx, fast_dx);
    check::same("dw", dw, fast_dw);
    check::same("dbias", dbias, fast_dbias);

    auto lone_dw = unwritten(O * I), lone_dbias = unwritten(O);  // where dx is not wanted
    Linear::grad(N, I, O, x.data(), w.data(), dy.data(), y.data(), nullptr, lone_dw.data(),
                 lone_dbias.data());
    check::same("dw alone", fast_dw, lone_dw, 0);
    check::same("dbias alone", fast_dbias, lone_dbias, 0);
}

int main() {
    compare<true, true>(64, 500, 33);
    compare<true, false>(1, 1, 1);
    compare<false, true>(3, 7, 5);
    compare<false, false>(17, 300, 33);
    compare<true, true>(70, 193, 10);
    compare<true, false>(2, 1000, 1);
    compare<true, true>(0, 3, 2);  // an empty batch
    return check::result();
}
