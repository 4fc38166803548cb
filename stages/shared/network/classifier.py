"""A network together with its description: it maps images to logits, and is saved and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.shared import digits, model_file
from stages.shared.digits import Digits, Indices
from stages.shared.model_file import Description, ModelFileError
from stages.shared.network import networks, runtime
from stages.shared.network.networks import Network, NetworkError
from stages.shared.network.runtime import jt
from stages.shared.params import Train
from stages.shared.program import UserError


class ClassifierError(UserError):
    """Images that the network was not made for."""


@dataclass(frozen=True)
class Classifier:
    """A network that can be trained and used.

    Attributes:
        network: the Jittor module.
        description: what it was built as, and how its pixels are scaled.
        origin: where it comes from, for messages.
    """

    network: Network
    description: Description
    origin: str = "the network"

    def pixels(self, images: NDArray[np.uint8]) -> jt.Var:
        """Bring uint8 images (N, H, W) to the device as float32 (N, 1, H, W), from 0 to 255."""
        return jt.array(np.ascontiguousarray(images)[:, None]).float32()

    def normalised(self, pixels: jt.Var) -> jt.Var:
        """Scale pixels so that those that were trained on have mean 0 and standard deviation 1.

        Args:
            pixels: float32 (N, 1, H, W), from 0 to 255.

        Returns:
            float32 (N, 1, H, W).
        """
        return (pixels - 255 * self.description.mean) / (255 * self.description.std)

    def logits(self, images: NDArray[np.uint8], batch_size: int = 500) -> NDArray[np.float32]:
        """Score images with the network in evaluation mode.

        Args:
            images: uint8 (N, H, W), of the network's image size.
            batch_size: images at once; bounds the memory.

        Returns:
            float32 (N, num_classes).

        Raises:
            ClassifierError: the images have another size, or the weights are such that an answer
                is no finite number.
        """
        if images.shape[1:] != self.description.image_size:
            raise ClassifierError(
                f"found images of {images.shape[1:]} pixels,"
                f" expected {self.description.image_size}, the size the network was trained on"
            )
        self.network.eval()
        logits = np.concatenate(list(self._scores(images, batch_size)))
        if not np.isfinite(logits).all():
            raise ClassifierError(f"{self.origin}: answers with numbers that are not finite")
        return logits

    def _scores(self, images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.float32]]:
        with jt.no_grad():
            for start in range(0, len(images), size):
                pixels = self.pixels(images[start : start + size])
                yield self.network(self.normalised(pixels)).numpy()


def describe(
    settings: Train, data: Digits, held_out: Indices, class_names: list[str]
) -> Description:
    """Say what is to be trained, and on what.

    Args:
        settings: the hyperparameters.
        data: all images of the training set.
        held_out: indices of those that are not trained on, ascending.
        class_names: a name for each label.
    """
    mean, std = digits.mean_and_std(data, held_out)
    return Description(
        network=settings.network,
        image_size=data.image_size,
        class_names=class_names,
        mean=mean,
        std=std,
        held_out=len(held_out),
        params=settings.shape(),
        versions=runtime.versions(),
    )


def build(description: Description) -> Classifier:
    """Make the network that a description speaks of, with fresh weights.

    They are drawn on the CPU, so that a seed gives the same ones on every device.

    Raises:
        NetworkError: there is no such network, or the images are too small for it.
    """
    with jt.flag_scope(use_cuda=0):
        network = _described(description)
        jt.sync_all()  # drawn now: later the device would be another
    return Classifier(network, description)


def _described(description: Description) -> Network:
    """A network whose weights have shapes, but are not drawn before something reads them."""
    return networks.build(description.network, description.image_size, len(description.class_names))


def state(network: Network) -> dict[str, NDArray[np.float32]]:
    """Copy the parameters and running statistics of a network, by name."""
    return {name: var.numpy() for name, var in network.state_dict().items()}


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's parameters and running statistics, by name."""
    return {name: tuple(var.shape) for name, var in network.state_dict().items()}


def load_state(network: Network, arrays: Mapping[str, NDArray[Any]], origin: str) -> None:
    """Set a network's parameters and running statistics.

    Jittor's own `load_parameters` only logs a wrong shape and is silent on a missing name.

    Args:
        network: changed in place.
        arrays: an array for each of its names, and for no other.
        origin: where they come from, for the message.

    Raises:
        ModelFileError: as `model_file.check` says, or a variance is negative.
    """
    model_file.check(origin, arrays, shapes(network))
    own = network.state_dict()
    for name in own:
        if name.endswith("running_var") and arrays[name].min() < 0:
            least = arrays[name].min()
            raise ModelFileError(f"{origin}: {name} holds {least}, expected variances")
    for name, var in own.items():
        var.update(jt.array(arrays[name]))


def save(classifier: Classifier, path: Path) -> None:
    """Write a classifier; the same one gives the same bytes, whole or not at all."""
    model_file.save(path, state(classifier.network), classifier.description)


def load(path: Path) -> Classifier:
    """Read a classifier that `save` wrote, and check every name and shape of its arrays.

    Raises:
        ModelFileError: the file is missing, damaged, not one of ours, of a network that is not
            known here, or holds other arrays than its network has.
    """
    arrays, description = model_file.load(path)
    try:
        # Not drawn: a description can speak of more weights than there is memory for.
        network = _described(description)
    except NetworkError as error:
        raise ModelFileError(f"{path}: {error}") from None
    load_state(network, arrays, str(path))
    return Classifier(network, description, str(path))
