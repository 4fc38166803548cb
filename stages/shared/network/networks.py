"""The Jittor modules that can be trained.

Their layers are Jittor's own with faster kernels beneath; `relu=True` and `pool=2` on a layer are
the ReLU and the 2 x 2 max-pool that follow it, done in the same pass.
"""

from __future__ import annotations

from stages.shared.network.kernels import BatchNorm, Conv, Linear
from stages.shared.network.runtime import jt, nn
from stages.shared.program import UserError


class NetworkError(UserError):
    """A network that cannot be built."""


class Tutorial(nn.Module):
    """Jittor's MNIST tutorial: two convolutions, one max-pool, two linear layers.

    2,381,066 parameters and 13.2 million multiply-adds for 28 x 28 images and 10 classes.

    Args:
        image_size: height and width in pixels, at least 8 each.
        classes: how many logits an image gets.
    """

    smallest = 8  # Jittor's pooling wants an image larger than its kernel

    def __init__(self, image_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = ((side - 4) // 2 for side in image_size)
        self.conv1 = Conv(1, 32, 3, relu=True)
        self.conv2 = Conv(32, 64, 3)
        self.bn = BatchNorm(64, relu=True, pool=2)
        self.fc1 = Linear(64 * height * width, 256, relu=True)
        self.fc2 = Linear(256, classes)

    def execute(self, x: jt.Var) -> jt.Var:
        """Map images, float32 (N, 1, H, W), to logits, float32 (N, classes)."""
        x = self.conv1(x)
        x = self.bn(self.conv2(x))
        x = jt.reshape(x, [x.shape[0], -1])
        x = self.fc1(x)
        return self.fc2(x)


class Compact(nn.Module):
    """Made for speed: strides in place of pooling leave little to compute.

    108,970 parameters and 0.28 million multiply-adds for 28 x 28 images and 10 classes.

    Args:
        image_size: height and width in pixels, at least 11 each.
        classes: how many logits an image gets.
    """

    smallest = 11

    def __init__(self, image_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = (((side - 3) // 2 - 1) // 2 for side in image_size)
        self.conv1 = Conv(1, 16, 5, stride=2)
        self.bn1 = BatchNorm(16, relu=True)
        self.conv2 = Conv(16, 32, 3, stride=2)
        self.bn2 = BatchNorm(32, relu=True)
        self.fc1 = Linear(32 * height * width, 128, relu=True)
        self.fc2 = Linear(128, classes)

    def execute(self, x: jt.Var) -> jt.Var:
        """Map images, float32 (N, 1, H, W), to logits, float32 (N, classes)."""
        x = self.bn1(self.conv1(x))
        x = self.bn2(self.conv2(x))
        x = jt.reshape(x, [x.shape[0], -1])
        x = self.fc1(x)
        return self.fc2(x)


class Deep(nn.Module):
    """Made for accuracy: six convolutions, each with BatchNorm, and one linear layer.

    294,058 parameters and 12.3 million multiply-adds for 28 x 28 images and 10 classes. Channels
    grow as the images shrink, so that no layer takes more than a third of the work.

    Args:
        image_size: height and width in pixels, at least 20 each.
        classes: how many logits an image gets.
    """

    smallest = 20

    def __init__(self, image_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        height, width = (((side - 4) // 2 - 2) // 2 - 2 for side in image_size)
        self.conv1 = Conv(1, 16, 3)
        self.bn1 = BatchNorm(16, relu=True)
        self.conv2 = Conv(16, 32, 3)
        self.bn2 = BatchNorm(32, relu=True, pool=2)
        self.conv3 = Conv(32, 64, 3, padding=1)
        self.bn3 = BatchNorm(64, relu=True)
        self.conv4 = Conv(64, 64, 3)
        self.bn4 = BatchNorm(64, relu=True, pool=2)
        self.conv5 = Conv(64, 128, 3, padding=1)
        self.bn5 = BatchNorm(128, relu=True)
        self.conv6 = Conv(128, 128, 3)
        self.bn6 = BatchNorm(128, relu=True)
        self.fc = Linear(128 * height * width, classes)

    def execute(self, x: jt.Var) -> jt.Var:
        """Map images, float32 (N, 1, H, W), to logits, float32 (N, classes)."""
        x = self.bn1(self.conv1(x))
        x = self.bn2(self.conv2(x))
        x = self.bn3(self.conv3(x))
        x = self.bn4(self.conv4(x))
        x = self.bn5(self.conv5(x))
        x = self.bn6(self.conv6(x))
        x = jt.reshape(x, [x.shape[0], -1])
        return self.fc(x)


NETWORKS: dict[str, type[Tutorial | Compact | Deep]] = {
    "tutorial": Tutorial,
    "compact": Compact,
    "deep": Deep,
}


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
    smallest = NETWORKS[name].smallest
    if min(image_size) < smallest:
        raise NetworkError(
            f"network {name!r} needs images of {smallest} x {smallest} pixels or more,"
            f" found {image_size[0]} x {image_size[1]}"
        )
    return NETWORKS[name](image_size, classes)
