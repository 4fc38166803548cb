"""The networks that can be trained, each as a list of named layers.

The layers are Jittor's own with faster CPU kernels beneath. `relu=True` and `pool=2` on a layer
are the ReLU and the 2 x 2 max-pool that follow it, computed in the same pass; a convolution and a
BatchNorm that follow each other run as one kernel. To add a network,
write a function that lists its layers, enter it in `NETWORKS`, and add its key to
`params.Train.network` and `params.SMALLEST`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from stages.shared.network.kernels import BatchNorm, Conv, Linear, conv_norm
from stages.shared.network.runtime import jt, nn
from stages.shared.params import SMALLEST
from stages.shared.program import UserError


class NetworkError(UserError):
    """A network that cannot be built."""


class Flatten(nn.Module):
    """All values of an image in a row, as a linear layer wants them."""

    def execute(self, x: jt.Var) -> jt.Var:
        """Map (N, C, H, W) to (N, C * H * W)."""
        return jt.reshape(x, [x.shape[0], -1])


Layers = list[tuple[str, nn.Module]]


def tutorial(image_size: tuple[int, int], num_classes: int) -> Layers:
    """Jittor's MNIST tutorial: two convolutions, one max-pool, two linear layers.

    2,381,066 parameters and 13.2 million multiply-adds for 28 x 28 images and 10 classes.

    Args:
        image_size: height and width in pixels, at least 8 each.
        num_classes: how many logits an image gets.
    """
    height, width = ((side - 4) // 2 for side in image_size)
    return [
        ("conv1", Conv(1, 32, 3, relu=True)),
        ("conv2", Conv(32, 64, 3)),
        ("bn", BatchNorm(64, relu=True, pool=2)),
        ("flatten", Flatten()),
        ("fc1", Linear(64 * height * width, 256, relu=True)),
        ("fc2", Linear(256, num_classes)),
    ]


def compact(image_size: tuple[int, int], num_classes: int) -> Layers:
    """Made for speed: strides in place of pooling leave little to compute.

    108,970 parameters and 0.28 million multiply-adds for 28 x 28 images and 10 classes.

    Args:
        image_size: height and width in pixels, at least 11 each.
        num_classes: how many logits an image gets.
    """
    height, width = (((side - 3) // 2 - 1) // 2 for side in image_size)
    return [
        ("conv1", Conv(1, 16, 5, stride=2)),
        ("bn1", BatchNorm(16, relu=True)),
        ("conv2", Conv(16, 32, 3, stride=2)),
        ("bn2", BatchNorm(32, relu=True)),
        ("flatten", Flatten()),
        ("fc1", Linear(32 * height * width, 128, relu=True)),
        ("fc2", Linear(128, num_classes)),
    ]


def deep(image_size: tuple[int, int], num_classes: int) -> Layers:
    """Made for accuracy: six convolutions, each with BatchNorm, and one linear layer.

    294,058 parameters and 12.3 million multiply-adds for 28 x 28 images and 10 classes. Channels
    grow as the images shrink, so that no layer takes more than a third of the work.

    Args:
        image_size: height and width in pixels, at least 20 each.
        num_classes: how many logits an image gets.
    """
    height, width = (((side - 4) // 2 - 2) // 2 - 2 for side in image_size)
    return [
        ("conv1", Conv(1, 16, 3)),
        ("bn1", BatchNorm(16, relu=True)),
        ("conv2", Conv(16, 32, 3)),
        ("bn2", BatchNorm(32, relu=True, pool=2)),
        ("conv3", Conv(32, 64, 3, padding=1)),
        ("bn3", BatchNorm(64, relu=True)),
        ("conv4", Conv(64, 64, 3)),
        ("bn4", BatchNorm(64, relu=True, pool=2)),
        ("conv5", Conv(64, 128, 3, padding=1)),
        ("bn5", BatchNorm(128, relu=True)),
        ("conv6", Conv(128, 128, 3)),
        ("bn6", BatchNorm(128, relu=True)),
        ("flatten", Flatten()),
        ("fc", Linear(128 * height * width, num_classes)),
    ]


NETWORKS: dict[str, Callable[[tuple[int, int], int], Layers]] = {
    "tutorial": tutorial,
    "compact": compact,
    "deep": deep,
}


class Network(nn.Module):
    """Layers that run one after the other.

    Args:
        layers: with the names that their weights are stored under.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.names = [name for name, _ in layers]
        for name, layer in layers:
            setattr(self, name, layer)

    def layers(self) -> Layers:
        """The layers with their names, in the order in which they run."""
        return [(name, getattr(self, name)) for name in self.names]

    def execute(self, x: jt.Var) -> jt.Var:
        """Map images, float32 (N, 1, H, W), to logits, float32 (N, num_classes)."""
        layers = [layer for _, layer in self.layers()]
        while layers:
            match layers:
                case [Conv() as conv, BatchNorm() as norm, *layers]:
                    x = conv_norm(x, conv, norm)
                case [layer, *layers]:
                    x = layer(x)
        return x


def build(name: str, image_size: tuple[int, int], num_classes: int) -> Network:
    """Make a network with fresh weights, drawn from Jittor's generator.

    Args:
        name: a key of `NETWORKS`.
        image_size: height and width of the images in pixels.
        num_classes: how many logits an image gets.

    Raises:
        NetworkError: there is no such network, the images are too small for it, or its weights are
            more than the memory of this machine.
    """
    if name not in NETWORKS:
        raise NetworkError(f"network is {name!r}, expected one of: {', '.join(sorted(NETWORKS))}")
    smallest = SMALLEST[name]
    if min(image_size) < smallest:
        raise NetworkError(
            f"network {name!r} needs images of {smallest} x {smallest} pixels or more,"
            f" found {image_size[0]} x {image_size[1]}"
        )
    network = Network(NETWORKS[name](image_size, num_classes))
    needed = 4 * sum(math.prod(var.shape) for var in network.state_dict().values())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise NetworkError(
            f"network {name!r} for images of {image_size[0]} x {image_size[1]} has weights of"
            f" {needed / 1e9:.1f} GB, expected fewer than the {memory / 1e9:.1f} GB of memory here"
        )
    return network


class Size(NamedTuple):
    """How large a network is."""

    parameters: int  # numbers that are learned
    multiply_adds: int  # of one image, without BatchNorm and pooling


def size(network: Network, image_size: tuple[int, int]) -> Size:
    """Count what a network learns and computes, from its list of layers.

    Args:
        network: made of Conv, BatchNorm, Flatten and Linear layers.
        image_size: height and width of the images in pixels.
    """
    parameters = multiply_adds = 0
    sides = image_size
    for _, layer in network.layers():
        learned = [] if isinstance(layer, Flatten) else [layer.weight, layer.bias]
        parameters += sum(math.prod(var.shape) for var in learned if var is not None)
        if isinstance(layer, Conv):
            sizes = zip(sides, layer.padding, layer.kernel_size, layer.stride, strict=True)
            height, width = ((side + 2 * pad - k) // stride + 1 for side, pad, k, stride in sizes)
            sides = height, width
            # Each weight is used once for each pixel of the layer's output.
            multiply_adds += math.prod(layer.weight.shape) * height * width
        elif isinstance(layer, BatchNorm):
            sides = sides[0] // layer.pool, sides[1] // layer.pool
        elif isinstance(layer, Linear):
            multiply_adds += math.prod(layer.weight.shape)
    return Size(parameters, multiply_adds)
