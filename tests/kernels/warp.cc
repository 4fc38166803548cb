#include "stages/shared/network/kernels/warp.h"

#include "tests/kernels/check.h"

using check::Floats;
using check::unwritten;

// Maps that are off the identity by up to `change`.
void compare(long N, int H, int W, float change) {
    check::shape("N %ld H %d W %d change %g", N, H, W, change);
    const auto x = check::numbers(N * H * W, 0, 255);
    auto maps = check::numbers(N * 6, -change, change);
    for (long n = 0; n < N; n++) maps[n * 6] += 1, maps[n * 6 + 4] += 1;

    auto y = unwritten(x.size()), fast_y = y;
    kernels::plain_warp(N, H, W, x.data(), maps.data(), y.data());
    kernels::warp(N, H, W, x.data(), maps.data(), fast_y.data());
    check::same("y", y, fast_y);
}

int main() {
    compare(7, 28, 28, 0.3f);
    compare(5, 28, 28, 0);
    compare(1, 1, 1, 0.2f);
    compare(3, 13, 28, 1);
    compare(2, 9, 5, 5);  // mostly from beyond the edges
    compare(0, 4, 4, 1);  // no image
    return check::result();
}
