"""Images moved by affine maps in one kernel; it is in warp.h."""

from __future__ import annotations

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn


def warp(pixels: jt.Var, maps: jt.Var) -> jt.Var:
    """Move the pixels of each image by its map, bilinear, with black beyond the edges.

    There is no gradient. CUDA, images of other than one channel or of so many pixels that an `int`
    of C++ cannot count them, and empty arrays (which Jittor refuses) fall back to Jittor's ops.

    Args:
        pixels: float32 (N, 1, H, W).
        maps: float32 (N, 2, 3); each maps a point of the new image to the point of the old one that
            it shows. x and y run from -1 to 1 in both, from edge to edge.

    Returns:
        float32 (N, 1, H, W).
    """
    count, channels, height, width = pixels.shape
    shapes_agree = channels == 1 and list(maps.shape) == [count, 2, 3]
    if not shapes_agree or not call.fits(height * width) or not call.usable(pixels, maps):
        grid = nn.affine_grid(maps, pixels.shape, align_corners=False)
        return nn.grid_sample(
            pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )
    (moved,) = call.call(
        "warp",
        "kernels::warp(in0_shape0, in0_shape2, in0_shape3, in0_p, in1_p, out0_p);",
        [pixels, maps],
        [pixels.shape],
    )
    return moved
