// Images moved by affine maps, bilinear, black beyond their edges.
//
// Alone, from the top folder: g++ -O2 -fopenmp -I. tests/kernels/warp.cc && ./a.out
//
// plain_warp is the formula, warp the kernel.
#ifndef KERNELS_WARP_H
#define KERNELS_WARP_H

#include <cmath>

namespace kernels {
namespace {

// N images of H x W pixels in x and y; maps (N, 2, 3). Within an image x and y run from -1 to 1,
// from edge to edge, so that the middle of column j of W lies at (2 j + 1) / W - 1. The pixel at
// (x, y) of the new image shows what is at (map[0] x + map[1] y + map[2], map[3] x + map[4] y +
// map[5]) in the old one.

// The formula.

inline void plain_warp(long N, int H, int W, const float* x, const float* maps, float* y) {
    for (long k = 0; k < N * H * W; k++) {
        const float *image = x + k / (H * W) * H * W, *m = maps + k / (H * W) * 6;
        const double u = (k % W * 2 + 1.) / W - 1, v = (k / W % H * 2 + 1.) / H - 1;
        const double column = ((m[0] * u + m[1] * v + m[2] + 1) * W - 1) / 2;
        const double row = ((m[3] * u + m[4] * v + m[5] + 1) * H - 1) / 2;
        double sum = 0;
        for (int r = 0; r < H; r++)
            for (int c = 0; c < W; c++) {
                const double near = 1 - std::fabs(column - c), close = 1 - std::fabs(row - r);
                if (near > 0 && close > 0) sum += image[r * W + c] * near * close;
            }
        y[k] = sum;
    }
}

// The kernel.

inline float pixel(const float* image, int H, int W, int row, int column) {
    return row < 0 || row >= H || column < 0 || column >= W ? 0.f : image[row * W + column];
}

inline float bilinear(const float* image, int H, int W, float row, float column) {
    // Also where one of the two is no number.
    if (!(row > -1 && row < H && column > -1 && column < W)) return 0;
    const int top = (int)(row + 1) - 1, left = (int)(column + 1) - 1;
    const float down = row - top, right = column - left;
    const float upper =
        pixel(image, H, W, top, left) * (1 - right) + pixel(image, H, W, top, left + 1) * right;
    const float lower = pixel(image, H, W, top + 1, left) * (1 - right) +
                        pixel(image, H, W, top + 1, left + 1) * right;
    return upper * (1 - down) + lower * down;
}

inline void warp(long N, int H, int W, const float* x, const float* maps, float* y) {
    #pragma omp parallel for schedule(static)
    for (long n = 0; n < N; n++) {
        const float *image = x + n * H * W, *m = maps + n * 6;
        float* to = y + n * H * W;
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) {
                const float u = (2 * j + 1) / (float)W - 1, v = (2 * i + 1) / (float)H - 1;
                const float column = ((m[0] * u + m[1] * v + m[2] + 1) * W - 1) / 2;
                const float row = ((m[3] * u + m[4] * v + m[5] + 1) * H - 1) / 2;
                to[i * W + j] = bilinear(image, H, W, row, column);
            }
    }
}

}  // namespace
}  // namespace kernels

#endif  // KERNELS_WARP_H
