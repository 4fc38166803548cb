"""A trained network as one file that holds arrays only and describes itself.

The format is safetensors: reading it runs no code, while Jittor's own files are pickles. What the
arrays mean stands in the file's header as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stages.shared.network import networks
from stages.shared.network.runtime import jt, nn
from stages.shared.program import UserError

_FORMAT = "digits-1"


class WeightsError(UserError):
    """A file that does not hold the network that it should."""


@dataclass
class Trained:
    """A network and what is needed to use it.

    Attributes:
        network: the Jittor module.
        name: its key in `networks.NETWORKS`.
        image_size: height and width of its images in pixels.
        classes: a name for each logit, in order.
        mean: mean of the training pixels, scaled to 0..1.
        deviation: their standard deviation.
        params: the parameters it was trained with.
        versions: the programs it was trained with.
    """

    network: nn.Module
    name: str
    image_size: tuple[int, int]
    classes: list[str]
    mean: float
    deviation: float
    params: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def pixels(self, images: NDArray[np.uint8]) -> jt.Var:
        """Bring uint8 images (N, H, W) to the device as float32 (N, 1, H, W), from 0 to 255."""
        return jt.array(np.ascontiguousarray(images)[:, None]).float32()

    def normalised(self, pixels: jt.Var) -> jt.Var:
        """Pixels of mean 0 and deviation 1, over the images that were trained on."""
        return (pixels - 255 * self.mean) / (255 * self.deviation)

    def logits(self, images: NDArray[np.uint8], batch_size: int = 500) -> NDArray[np.float32]:
        """Score images with the network in evaluation mode.

        Args:
            images: uint8 (N, H, W), of the network's image size.
            batch_size: images at once; bounds the memory.

        Returns:
            float32 (N, classes).

        Raises:
            WeightsError: the images have another size.
        """
        if images.shape[1:] != self.image_size:
            raise WeightsError(
                f"found images of {images.shape[1:]} pixels,"
                f" expected {self.image_size}, the size the network was trained on"
            )
        self.network.eval()
        return np.concatenate(list(self._scores(images, batch_size)))

    def _scores(self, images: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.float32]]:
        with jt.no_grad():
            for start in range(0, len(images), size):
                pixels = self.pixels(images[start : start + size])
                yield self.network(self.normalised(pixels)).numpy()


def arrays_of(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The parameters and running statistics of a network, by name."""
    return {name: var.numpy() for name, var in network.state_dict().items()}


def put(network: nn.Module, arrays: Mapping[str, NDArray[np.float32]], origin: str) -> None:
    """Set a network's parameters and running statistics.

    Jittor's own `load_parameters` only logs a wrong shape and is silent on a missing name.

    Args:
        network: the module, changed in place.
        arrays: an array for each of its names, and for no other.
        origin: the file to name in an error.

    Raises:
        WeightsError: a name is missing or unknown, or a shape or type differs.
    """
    own = network.state_dict()
    for problem, names in (
        ("lacks", own.keys() - arrays.keys()),
        ("has the unknown", arrays.keys() - own.keys()),
    ):
        if names:
            raise WeightsError(f"{origin}: {problem} {', '.join(sorted(names))}")
    for name, var in own.items():
        found, expected = arrays[name], tuple(var.shape)
        if found.shape != expected or found.dtype != np.float32:
            raise WeightsError(
                f"{origin}: {name} is {found.dtype} {found.shape}, expected float32 {expected}"
            )
    for name, var in own.items():
        var.update(jt.array(arrays[name]))


def save(trained: Trained, path: Path) -> None:
    """Write a network and its description; the same content gives the same bytes.

    Args:
        trained: what to write.
        path: the .safetensors file; it appears whole or not at all.
    """
    card = {
        "format": _FORMAT,
        "network": trained.name,
        "image_size": trained.image_size,
        "classes": trained.classes,
        "mean": trained.mean,
        "deviation": trained.deviation,
        "params": trained.params,
        "versions": trained.versions,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    # One key: safetensors writes several in an order that changes from run to run.
    save_file(arrays_of(trained.network), partial, {"card": json.dumps(card, sort_keys=True)})
    partial.replace(path)


def load(path: Path) -> Trained:
    """Read a network that `save` wrote, and check every name and shape of it.

    Args:
        path: a .safetensors file.

    Raises:
        WeightsError: the file is missing, damaged, not one of ours, or holds other arrays than
            its network has.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; `dvc repro train` makes it")
    try:
        with safe_open(path, framework="numpy") as file:
            card = json.loads((file.metadata() or {})["card"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if card["format"] != _FORMAT:
            raise WeightsError(f"{path}: format is {card['format']!r}, expected {_FORMAT!r}")
        height, width = card["image_size"]
        network = networks.build(card["network"], (height, width), len(card["classes"]))
        trained = Trained(
            network,
            card["network"],
            (height, width),
            list(card["classes"]),
            float(card["mean"]),
            float(card["deviation"]),
            dict(card["params"]),
            dict(card["versions"]),
        )
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from None
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its description is not that of a network ({error})") from None
    put(network, arrays, str(path))
    return trained
