"""A trained network as one file: its arrays, and a description of what they are.

The format is safetensors: reading it runs no code, while Jittor's own files are pickles. The
description stands in the file's header as JSON, with a digest of it and of all arrays: a bit that
flipped on a disk is not to end in an answer. Nothing here starts Jittor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from stages.shared.digits import LONGEST
from stages.shared.files import Record, RecordError, from_json, listed, replacing, shortened
from stages.shared.params import ClassName
from stages.shared.program import UserError

PATH = Path("models/digits.safetensors")
PRETRAINED = Path("models/fast.safetensors")  # of the recipe `fast`; Git holds it

_Side = Annotated[int, Field(ge=1, le=LONGEST)]  # pixels

Arrays = dict[str, NDArray[Any]]


def _check_differ(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("names", "Input should be names that differ")
    return names


class ModelFileError(UserError):
    """A file that does not hold the network that it should."""


class Description(Record):
    """What a trained network is, and what is needed to use it.

    Attributes:
        format: version of this description; it changes when the keys change.
        network: its key in `networks.NETWORKS`.
        image_size: height and width of its images in pixels.
        class_names: a name for each logit, in order.
        mean: mean pixel of the images that were trained on, scaled to 0..1.
        std: their standard deviation.
        held_out: how many images of the training set were not trained on.
        params: the block `train` of params.yaml that it was trained with.
        versions: the programs that it was trained with.
    """

    format: Literal["digits-3"] = "digits-3"
    network: str
    image_size: tuple[_Side, _Side]
    class_names: Annotated[list[ClassName], AfterValidator(_check_differ)] = Field(
        min_length=2, max_length=256
    )
    mean: float = Field(ge=0, le=1)
    std: float = Field(gt=0, le=1)
    held_out: int = Field(ge=0)
    params: dict[str, Any]
    versions: dict[str, str]


class _Sealed(Description):
    """What stands in the file: the description, and the digest of it and of the arrays."""

    sha256: str


def digest(arrays: Mapping[str, NDArray[Any]], text: str) -> str:
    """The SHA-256 of arrays, their names, types and shapes, and of a text about them.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def default() -> Path:
    """The network that was trained here last; where none was, the one that Git holds."""
    return PATH if PATH.exists() else PRETRAINED


def save(path: Path, arrays: Mapping[str, NDArray[Any]], description: Description) -> None:
    """Write a network; the same content gives the same bytes.

    Args:
        path: the .safetensors file; it appears whole or not at all.
        arrays: parameters and running statistics by name.
        description: what they are.
    """
    sha256 = digest(arrays, description.model_dump_json())
    sealed = _Sealed(**description.model_dump(), sha256=sha256)
    with replacing(path) as part:
        # One key: safetensors writes several in an order that changes from run to run.
        # And as bytes, since the library's own writing fails without the system's error.
        part.write_bytes(to_bytes(dict(arrays), {"description": sealed.model_dump_json()}))


def load(path: Path) -> tuple[Arrays, Description]:
    """Read what `save` wrote.

    Args:
        path: a .safetensors file.

    Raises:
        ModelFileError: the file is missing, damaged or not one of ours.
    """
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise ModelFileError(f"{path}: {what}; `dvc repro train` makes it")
    arrays, metadata = read(path)
    try:
        sealed = from_json(_Sealed, metadata.get("description", "{}"))
    except RecordError as error:
        raise ModelFileError(
            f"{path}: its description is not that of a network ({error})"
        ) from None
    description = Description(**sealed.model_dump(exclude={"sha256"}))
    if sealed.sha256 != digest(arrays, description.model_dump_json()):
        raise ModelFileError(
            f"{path}: its content is not what was saved (the SHA-256 within differs);"
            " remove it, then `dvc repro train`"
        )
    return arrays, description


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Read a safetensors file: its arrays by name, and what its header says beside them.

    Raises:
        ModelFileError: it is damaged, or of another kind.
        OSError: it is not there, or cannot be read.
    """
    try:
        path.open("rb").close()  # safetensors calls a file that may not be read missing
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except OSError:
        raise
    except Exception as error:  # a header can promise much that NumPy lacks
        what = shortened(str(error))
        raise ModelFileError(f"{path}: not a safetensors file ({what})") from None


def check(
    origin: str, found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Make sure that arrays are those of a network: finite float32, by its names, in its shapes.

    Args:
        origin: where the arrays come from, for the message.
        found: arrays by name.
        expected: the network's shapes by name.

    Raises:
        ModelFileError: a name is missing or unknown, a shape or type differs, or a number is
            infinite or none at all.
    """
    for problem, names in (
        ("lacks", expected.keys() - found.keys()),
        ("has the unknown", found.keys() - expected.keys()),
    ):
        if names:
            raise ModelFileError(f"{origin}: {problem} {listed(names)}")
    for name, shape in expected.items():
        array = found[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ModelFileError(
                f"{origin}: {name} is {array.dtype} {shortened(str(array.shape))},"
                f" expected float32 {shape}"
            )
        if not np.isfinite(array).all():
            value = array[~np.isfinite(array)][0]
            raise ModelFileError(f"{origin}: {name} holds {value}, expected finite numbers")
