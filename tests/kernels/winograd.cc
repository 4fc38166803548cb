#include "stages/shared/network/kernels/winograd.h"

#include "stages/shared/network/kernels/conv.h"
#include "tests/kernels/convolution.h"

template <int C, int H, int W, int O, int PY, int PX, bool BIAS, bool RELU>
void compare(long N) {
    typedef kernels::Conv<C, H, W, O, 3, 3, 1, 1, PY, PX, BIAS, RELU> Conv;
    typedef kernels::Winograd<C, H, W, O, PY, PX, BIAS, RELU> Winograd;
    check::shape("N %ld C %d H %d W %d O %d padding %d, %d", N, C, H, W, O, PY, PX);
    check::compare<Conv, Winograd, C * H * W>(N);
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
