"""The networks once more, as the frameworks without layers of their own need them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Conv(NamedTuple):
    """A convolution with a bias; what follows it in the same line."""

    name: str
    stride: int = 1
    padding: int = 0
    norm: str = ""  # of the BatchNorm after it
    pool: bool = False  # 2 x 2, the largest
    # ReLU comes after the norm, and before the pooling.


class Linear(NamedTuple):
    """A linear layer with a bias."""

    name: str
    relu: bool = False


NETWORKS: dict[str, tuple[list[Conv], list[Linear]]] = {
    "tutorial": (
        [Conv("conv1"), Conv("conv2", norm="bn", pool=True)],
        [Linear("fc1", relu=True), Linear("fc2")],
    ),
    "compact": (
        [Conv("conv1", stride=2, norm="bn1"), Conv("conv2", stride=2, norm="bn2")],
        [Linear("fc1", relu=True), Linear("fc2")],
    ),
    "deep": (
        [
            Conv("conv1", norm="bn1"),
            Conv("conv2", norm="bn2", pool=True),
            Conv("conv3", padding=1, norm="bn3"),
            Conv("conv4", norm="bn4", pool=True),
            Conv("conv5", padding=1, norm="bn5"),
            Conv("conv6", norm="bn6"),
        ],
        [Linear("fc")],
    ),
}
EPS, MOMENTUM = 1e-5, 0.1  # of BatchNorm; the momentum is the weight of the new statistics


def turned(network: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights for NHWC images: HWIO, and linear ones as (in, out) with channels last."""
    convolutions, linears = NETWORKS[network]
    channels = len(arrays[f"{convolutions[-1].name}.bias"])
    result = dict(arrays)
    for layer in convolutions:
        result[f"{layer.name}.weight"] = arrays[f"{layer.name}.weight"].transpose(2, 3, 1, 0)
    for linear in linears:
        result[f"{linear.name}.weight"] = arrays[f"{linear.name}.weight"].T
    first = f"{linears[0].name}.weight"
    side = int((len(result[first]) / channels) ** 0.5)
    by_pixels = result[first].reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    result[first] = by_pixels.reshape(channels * side * side, -1)
    return {name: np.ascontiguousarray(array) for name, array in result.items()}
