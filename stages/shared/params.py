"""`params.yaml` as typed blocks, checked whole before any work starts."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stages.shared.program import UserError

_UNKNOWN = "extra_forbidden"  # pydantic's name for a key that no block has


class ParamsError(UserError):
    """A key or a value of params.yaml that the pipeline cannot use."""


def _number(value: object) -> object:
    """Read `1e-4`: a number to people and to DVC, but text to PyYAML, which wants `1.0e-4`."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Device = Literal["auto", "cpu", "cuda"]


class _Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Download(_Block):
    """Where the images come from."""

    dataset: Literal["mnist", "fashion_mnist", "own"]
    sources: list[str] = Field(min_length=1)


class Decode(_Block):
    """What the decoded arrays must hold."""

    classes: int = Field(ge=2, le=256)


class Augment(_Block):
    """The largest change of each kind that a training image is given; 0 is none."""

    shift: Number = Field(ge=0)
    rotate: Number = Field(ge=0, le=180)
    scale: Number = Field(ge=0, lt=1)
    shear: Number = Field(ge=0)

    def any(self) -> bool:
        """Whether there is any change at all."""
        return bool(self.shift or self.rotate or self.scale or self.shear)


class Train(_Block):
    """The network and how it learns."""

    network: Literal["tutorial", "compact", "deep"]
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: Number = Field(gt=0)
    schedule: Literal["constant", "cosine", "one_cycle"]
    momentum: Number = Field(ge=0, lt=1)
    nesterov: bool
    weight_decay: Number = Field(ge=0)
    label_smoothing: Number = Field(ge=0, lt=1)
    moving_average: Number = Field(ge=0, lt=1)
    augment: Augment
    validation_images: int = Field(ge=1)
    patience: int = Field(ge=0)
    keep: Literal["best", "last"]
    seed: int = Field(ge=0, lt=2**31)
    device: Device
    log_every: int = Field(ge=1)


class Evaluate(_Block):
    """How the test images are read."""

    batch_size: int = Field(ge=1)
    device: Device


class Plot(_Block):
    """How the pictures are drawn."""

    smoothing: int = Field(ge=1)


class Export(_Block):
    """What else the weights are written as."""

    formats: list[Literal["onnx"]] = Field(max_length=1)


class Params(_Block):
    """The whole of params.yaml, one block a stage."""

    download: Download
    decode: Decode
    train: Train
    evaluate: Evaluate
    plot: Plot
    export: Export


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check every block of `path`.

    Args:
        path: a YAML file with one block a stage.

    Returns:
        The blocks, typed and frozen.

    Raises:
        ParamsError: the file is missing or no YAML, a key is unknown (the message names the
            nearest known one) or missing, or a value has the wrong type or is out of range.
            Every problem is named, a line each.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the top of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate({} if tree is None else tree)
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
        # A misspelt key is missing as well; its own line says so better.
        meant = {(*p["loc"][:-1], _nearest(p["loc"])) for p in found if p["type"] == _UNKNOWN}
        told = [p for p in found if p["type"] != "missing" or p["loc"] not in meant]
        problems = [_describe(problem) for problem in told]
        raise ParamsError("\n       ".join(f"{path}: {text}" for text in problems)) from None


def _describe(problem: dict[str, Any]) -> str:
    """One line for one of pydantic's findings: the key, what was found, what was expected."""
    place = problem["loc"]
    key = ".".join(str(part) for part in place) or "the file"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == _UNKNOWN:
        near = _nearest(place)
        known = ", ".join(_block_at(place[:-1]).model_fields)
        hint = f"did you mean {near}?" if near else f"known keys: {known}"
        return f"{key} is not a known key; {hint}"
    expected = problem["msg"].removeprefix("Input should be ")
    return f"{key} is {problem['input']!r}, expected {expected}"


def _nearest(place: tuple[int | str, ...]) -> str | None:
    """The known key that looks most like the one at `place`."""
    known = list(_block_at(place[:-1]).model_fields)
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return near[0] if near else None


def _block_at(place: tuple[int | str, ...]) -> type[_Block]:
    """The model whose keys stand at `place` in the file."""
    block: type[_Block] = Params
    for part in place:
        annotation = block.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, _Block)
        block = annotation
    return block
