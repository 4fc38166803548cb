#include "stages/shared/network/kernels/conv.h"

#include "tests/kernels/check.h"

using check::numbers;
using check::unwritten;

template <int C, int H, int W, int O, int KH, int KW, int SY, int SX, int PY, int PX, bool BIAS,
          bool RELU>
void compare(long N) {
    typedef kernels::Conv<C, H, W, O, KH, KW, SY, SX, PY, PX, BIAS, RELU> Conv;
    check::shape("N %ld C %d H %d W %d O %d kernel %d x %d stride %d, %d padding %d, %d", N, C, H,
                 W, O, KH, KW, SY, SX, PY, PX);
    const size_t pixels = N * C * H * W, positions = N * O * Conv::P;
    const auto x = numbers(pixels), w = numbers(O * Conv::Q), bias = numbers(O);
    const auto dy = numbers(positions);

    auto y = unwritten(positions), fast_y = y;
    Conv::plain_forward(N, x.data(), w.data(), bias.data(), y.data());
    Conv::forward(N, x.data(), w.data(), bias.data(), fast_y.data());
    check::same("y", y, fast_y);

    auto dx = unwritten(pixels), fast_dx = dx, dw = unwritten(w.size()), fast_dw = dw;
    auto dbias = unwritten(O), fast_dbias = dbias;
    Conv::plain_grad_x(N, dy.data(), w.data(), y.data(), dx.data());
    Conv::plain_grad_w(N, x.data(), dy.data(), y.data(), dw.data(), dbias.data());
    Conv::grad(N, x.data(), w.data(), dy.data(), y.data(), fast_dx.data(), fast_dw.data(),
               fast_dbias.data());
    check::same("dx", dx, fast_dx);
    check::same("dw", dw, fast_dw);
    check::same("dbias", dbias, fast_dbias);

    auto lone_dw = unwritten(w.size()), lone_dbias = unwritten(O);  // where dx is not wanted
    Conv::grad(N, x.data(), w.data(), dy.data(), y.data(), nullptr, lone_dw.data(),
               lone_dbias.data());
    check::same("dw alone", fast_dw, lone_dw, 0);
    check::same("dbias alone", fast_dbias, lone_dbias, 0);
}

int main() {
    //      C  H   W   O   kernel stride padding bias   relu   N
    compare<3, 4, 3, 80, 4, 3, 1, 1, 0, 0, true, true>(0);  // no image; first, without memory
    compare<1, 28, 28, 32, 3, 3, 1, 1, 0, 0, true, true>(2);
    compare<1, 13, 28, 16, 5, 5, 2, 2, 0, 0, true, false>(37);  // more images than groups
    compare<1, 5, 5, 1, 3, 3, 1, 1, 0, 0, false, false>(1);     // the smallest
    compare<17, 11, 10, 50, 3, 3, 2, 2, 1, 1, true, true>(3);   // channels beyond whole vectors
    compare<3, 9, 14, 3, 2, 3, 1, 2, 0, 1, false, true>(2);     // oblong
    compare<3, 4, 3, 80, 4, 3, 1, 1, 0, 0, true, true>(150);    // one position; images together
    return check::result();
}
