"""The Jittor modules that can be trained."""

from __future__ import annotations

from collections.abc import Callable

from stages.shared.errors import UserError
from stages.shared.runtime import jt, nn


class NetworkError(UserError):
    """A network that cannot be built."""


class Tutorial(nn.Module):
    """Jittor's MNIST tutorial: two convolutions, one max-pool, two linear layers.

    2,381,066 parameters and 13.2 million multiply-adds for 28 x 28 images and 10 classes.

    Args:
        image_size: height and width in pixels, at least 6 each.
        classes: how many logits an image gets.
    """

    def __init__(self, image_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = ((side - 4) // 2 for side in image_size)
        self.conv1 = nn.Conv(1, 32, 3)
        self.conv2 = nn.Conv(32, 64, 3)
        self.bn = nn.BatchNorm(64)
        self.relu = nn.Relu()
        self.max_pool = nn.Pool(2, 2)
        self.fc1 = nn.Linear(64 * height * width, 256)
        self.fc2 = nn.Linear(256, classes)

    def execute(self, x: jt.Var) -> jt.Var:
        """Map images, float32 (N, 1, H, W), to logits, float32 (N, classes)."""
        x = self.relu(self.conv1(x))
        x = self.relu(self.bn(self.conv2(x)))
        x = self.max_pool(x)
        x = jt.reshape(x, [x.shape[0], -1])
        x = self.relu(self.fc1(x))
        return self.fc2(x)


NETWORKS: dict[str, Callable[[tuple[int, int], int], nn.Module]] = {"tutorial": Tutorial}


def build(name: str, image_size: tuple[int, int], classes: int) -> nn.Module:
    """Make a network with fresh weights, drawn from Jittor's generator.

    Args:
        name: a key of `NETWORKS`.
        image_size: height and width of the images in pixels.
        classes: how many logits an image gets.

    Raises:
        NetworkError: there is no such network, or the images are too small for it.
    """
    if name not in NETWORKS:
        raise NetworkError(f"network is {name!r}, expected one of: {', '.join(sorted(NETWORKS))}")
    if min(image_size) < 6:
        raise NetworkError(f"network {name!r} needs images of 6 x 6 or more, found {image_size}")
    return NETWORKS[name](image_size, classes)
