#include "stages/shared/network/kernels/winograd.h"

#include "stages/shared/network/kernels/conv.h"
#include "tests/kernels/check.h"

using check::numbers;
using check::unwritten;

template <int C, int H, int W, int O, int PY, int PX, bool BIAS, bool RELU>
void compare(long N) {
    typedef kernels::Conv<C, H, W, O, 3, 3, 1, 1, PY, PX, BIAS, RELU> Conv;
    typedef kernels::Winograd<C, H, W, O, PY, PX, BIAS, RELU> Winograd;
    check::shape("N %ld C %d H %d W %d O %d padding %d, %d", N, C, H, W, O, PY, PX);
    const size_t pixels = N * C * H * W, positions = N * O * Conv::P;
    const auto x = numbers(pixels), w = numbers(O * Conv::Q), bias = numbers(O);
    const auto dy = numbers(positions);

    auto y = unwritten(positions), fast_y = y;
    Conv::plain_forward(N, x.data(), w.data(), bias.data(), y.data());
    Winograd::forward(N, x.data(), w.data(), bias.data(), fast_y.data());
    check::same("y", y, fast_y);

    auto dx = unwritten(pixels), fast_dx = dx, dw = unwritten(w.size()), fast_dw = dw;
    auto dbias = unwritten(O), fast_dbias = dbias;
    Conv::plain_grad_x(N, dy.data(), w.data(), y.data(), dx.data());
    Conv::plain_grad_w(N, x.data(), dy.data(), y.data(), dw.data(), dbias.data());
    Winograd::grad(N, x.data(), w.data(), dy.data(), y.data(), fast_dx.data(), fast_dw.data(),
                   fast_dbias.data());
    check::same("dx", dx, fast_dx);
    check::same("dw", dw, fast_dw);
    check::same("dbias", dbias, fast_dbias);

    auto lone_dw = unwritten(w.size()), lone_dbias = unwritten(O);  // where dx is not wanted
    Winograd::grad(N, x.data(), w.data(), dy.data(), y.data(), nullptr, lone_dw.data(),
                   lone_dbias.data());
    check::same("dw alone", fast_dw, lone_dw, 0);
    check::same("dbias alone", fast_dbias, lone_dbias, 0);
}

int main() {
    //      C  H   W   O   padding bias relu   N
    compare<3, 4, 3, 80, 0, 0, true, true>(0);  // no image; first, without memory
    compare<32, 26, 26, 64, 0, 0, true, true>(2);
    compare<16, 12, 12, 32, 1, 1, true, false>(37);  // more images than groups
    compare<1, 3, 3, 1, 0, 0, false, false>(1);      // the smallest
    compare<17, 11, 10, 50, 1, 1, true, true>(3);    // channels beyond whole vectors; odd edges
    compare<3, 9, 14, 3, 0, 1, false, true>(2);      // oblong
    compare<3, 4, 3, 80, 2, 1, true, true>(150);     // few tiles; images together
    return check::result();
}
