#include "stages/shared/network/kernels/conv.h"

#include "tests/kernels/convolution.h"

template <int C, int H, int W, int O, int KH, int KW, int SY, int SX, int PY, int PX, bool BIAS,
          bool RELU>
void compare(long N) {
    typedef kernels::Conv<C, H, W, O, KH, KW, SY, SX, PY, PX, BIAS, RELU> Conv;
    check::shape("N %ld C %d H %d W %d O %d kernel %d x %d stride %d, %d padding %d, %d", N, C, H,
                 W, O, KH, KW, SY, SX, PY, PX);
    check::compare<Conv, Conv, C * H * W>(N);
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
