"""`params.yaml` as typed blocks, checked whole before any work starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from stages.shared.files import Record, describe
from stages.shared.program import UserError

_UNKNOWN = "extra_forbidden"  # pydantic's name for a key that no block has

Tree = dict[str, Any]


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


class Download(Record):
    """Where the images come from."""

    dataset: Literal["mnist", "fashion_mnist", "own"]
    sources: list[str] = Field(min_length=1)


class Decode(Record):
    """What the decoded arrays must hold."""

    num_classes: int = Field(ge=2, le=256)
    class_names: list[str]

    @model_validator(mode="after")
    def _names_fit(self) -> Decode:
        if len(self.class_names) not in (0, self.num_classes):
            raise ValueError(
                f"class_names has {len(self.class_names)} names, expected none or"
                f" {self.num_classes}, as num_classes says"
            )
        twice = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if twice:
            raise ValueError(
                f"class_names has {', '.join(twice)} twice, expected names that differ"
            )
        return self


class Augment(Record):
    """The largest change of each kind that a training image is given; 0 is none."""

    shift: Number = Field(ge=0)
    rotate: Number = Field(ge=0, le=180)
    scale: Number = Field(ge=0, lt=1)
    shear: Number = Field(ge=0)

    def any(self) -> bool:
        """Whether there is any change at all."""
        return bool(self.shift or self.rotate or self.scale or self.shear)


class Train(Record):
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
    ema_decay: Number = Field(ge=0, lt=1)
    augment: Augment
    validation_images: int = Field(ge=1)
    patience: int = Field(ge=0)
    keep: Literal["best", "last"]
    seed: int = Field(ge=0, lt=2**31)
    device: Device
    log_every: int = Field(ge=1)


class Evaluate(Record):
    """How the test images are read."""

    batch_size: int = Field(ge=1)
    device: Device


class Plot(Record):
    """How the pictures are drawn."""

    smoothing: int = Field(ge=1)


class Blocks(Record):
    """A block for each stage that reads parameters."""

    download: Download
    decode: Decode
    train: Train
    evaluate: Evaluate
    plot: Plot


class Params(Blocks):
    """The whole of params.yaml: the blocks, and named changes of them.

    Attributes:
        recipes: by name, the keys that the recipe changes, in the form of the blocks.
    """

    recipes: dict[str, Tree]


_Kind = TypeVar("_Kind", bound=Blocks)


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check every block of `path`, and every recipe as if its changes had been made.

    Args:
        path: a YAML file.

    Returns:
        The blocks, typed and frozen.

    Raises:
        ParamsError: the file is missing or not YAML, a key is unknown (the message names the
            nearest known one) or missing, or a value has the wrong type or is out of range.
            Every problem is named, a line each.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the top of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    params, problems = _checked(Params, {} if tree is None else tree)
    if params:
        blocks = {key: tree[key] for key in Blocks.model_fields}
        for name, changes in params.recipes.items():
            _, found = _checked(Blocks, _merged(blocks, changes))
            problems += [f"recipes.{name}.{problem}" for problem in found]
    if problems or not params:
        raise ParamsError("\n       ".join(f"{path}: {problem}" for problem in problems))
    return params


def overrides(recipe: Tree, above: str = "") -> dict[str, Any]:
    """Flatten a recipe to dotted keys, the form in which `dvc exp run -S` takes changes.

    Args:
        recipe: one of `Params.recipes`.
        above: the dotted key of the block that `recipe` is, with a dot at its end.
    """
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= overrides(dict(value), f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


def _checked(kind: type[_Kind], tree: object) -> tuple[_Kind | None, list[str]]:
    """The blocks, or None and what is wrong with them, a line each."""
    try:
        return kind.model_validate(tree), []
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
    # A misspelt key is missing as well; its own line says so better.
    unknown = [problem["loc"] for problem in found if problem["type"] == _UNKNOWN]
    meant = {(*keys[:-1], _nearest(kind, keys)) for keys in unknown}
    told = [p for p in found if p["type"] != "missing" or p["loc"] not in meant]
    return None, [_describe(kind, problem) for problem in told]


def _merged(tree: Tree, changes: Tree) -> Tree:
    """`tree` with its values replaced by those of `changes`, block by block."""
    result = dict(tree)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _describe(kind: type[Blocks], problem: dict[str, Any]) -> str:
    """One line for one of pydantic's findings: the key, what was found, what was expected."""
    keys = problem["loc"]
    if problem["type"] == _UNKNOWN:
        near = _nearest(kind, keys)
        known = ", ".join(_block_at(kind, keys[:-1]).model_fields)
        hint = f"did you mean {near}?" if near else f"known keys: {known}"
        return f"{describe(problem)}; {hint}"
    if problem["type"] == "value_error":  # of a check of ours over a whole block
        return f"{'.'.join(keys)}.{problem['ctx']['error']}"
    return describe({**problem, "loc": keys or ("the file",)})


def _nearest(kind: type[Blocks], keys: tuple[int | str, ...]) -> str | None:
    """The known key that looks most like the last of `keys`."""
    known = list(_block_at(kind, keys[:-1]).model_fields)
    near = difflib.get_close_matches(str(keys[-1]), known, n=1)
    return near[0] if near else None


def _block_at(kind: type[Blocks], keys: tuple[int | str, ...]) -> type[Record]:
    """The block that stands under `keys` in the file."""
    block: type[Record] = kind
    for key in keys:
        annotation = block.model_fields[str(key)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, Record)
        block = annotation
    return block
