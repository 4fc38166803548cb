"""`params.yaml` as typed blocks, checked whole before any work starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from stages.shared.files import Record, describe, listed, shortened
from stages.shared.program import UserError

_UNKNOWN = "extra_forbidden"  # pydantic's name for a key that no block has

Tree = dict[str, Any]


class ParamsError(UserError):
    """A key or a value of params.yaml that the pipeline cannot use."""


# No more than any run can want: what is larger is a slip, and overflows somewhere else.
_MOST = 1_000_000
_BYTES = 100_000  # of the whole file
_DEPTH = 20  # of blocks and lists in each other
_TOLD = 10  # problems that are named; of more only the number

Count = Annotated[int, Field(ge=1, le=_MOST)]
Number = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _check_path(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "Input should be without the letter NUL")
    return text


Place = Annotated[str, Field(max_length=2000), AfterValidator(_check_path)]
Source = Annotated[Place, Field(min_length=1)]
Device = Literal["cpu", "cuda"]

# The smallest images that each network can be made for: pixels of each side. Jittor's pooling wants
# an image larger than its kernel, hence 8 and not 6.
SMALLEST = {"tutorial": 8, "compact": 11, "deep": 20}

MOST_CLASSES = 256  # a label is a byte
NAMEABLE = "1 to 40 printable letters without <"  # what the name of a class may consist of
_LETTERS = 40  # as many have room beside a table and a figure


def is_class_name(name: str) -> bool:
    """Whether a class can have this name in tables, figures and pages.

    A line's end would break a table, and the pages of `dvc plots` carry names within a script, in
    which a `<` could begin code.
    """
    return 1 <= len(name) <= _LETTERS and name.isprintable() and "<" not in name


def _check_class_name(name: str) -> str:
    if not is_class_name(name):
        raise PydanticCustomError("class_name", "Input should be {what}", {"what": NAMEABLE})
    return name


ClassName = Annotated[str, AfterValidator(_check_class_name)]


# More of them Jittor's pooling cannot take on a GPU: CUDA counts no further in that direction.
_MOST_ON_GPU = 65_535


def _check_batch(batch_size: int, device: str) -> None:
    """Refuse a batch that the device cannot take.

    Raises:
        ValueError: as pydantic wants it.
    """
    if device == "cuda" and batch_size > _MOST_ON_GPU:
        raise ValueError(
            f"batch_size is {batch_size}, expected at most {_MOST_ON_GPU} on device cuda"
        )


class Download(Record):
    """Where the images come from."""

    dataset: Literal["mnist", "fashion_mnist", "own"]
    sources: list[Source] = Field(min_length=1, max_length=100)


class Decode(Record):
    """What the decoded arrays must hold."""

    num_classes: int = Field(ge=2, le=MOST_CLASSES)
    class_names: list[ClassName]

    @model_validator(mode="after")
    def _names_fit(self) -> Decode:
        if len(self.class_names) not in (0, self.num_classes):
            raise ValueError(
                f"class_names has {len(self.class_names)} names, expected none or"
                f" {self.num_classes}, as num_classes says"
            )
        twice = {name for name in self.class_names if self.class_names.count(name) > 1}
        if twice:
            raise ValueError(f"class_names has {listed(twice)} twice, expected names that differ")
        return self


class Augment(Record):
    """The largest change of each kind that a training image is given; 0 is none."""

    shift: Number
    rotate: Number = Field(le=180)
    scale: Share
    shear: Number

    def any(self) -> bool:
        """Whether there is any change at all."""
        return bool(self.shift or self.rotate or self.scale or self.shear)


class Train(Record):
    """The network and how it learns."""

    network: Literal["tutorial", "compact", "deep"]
    epochs: Count
    batch_size: Count
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: Number = Field(gt=0)
    schedule: Literal["constant", "cosine", "one_cycle"]
    momentum: Share
    nesterov: bool
    weight_decay: Number
    label_smoothing: Share
    ema_decay: Share
    augment: Augment
    validation_images: Count
    patience: int = Field(ge=0, le=_MOST)
    keep: Literal["best", "last"]
    seed: int = Field(ge=0, lt=2**31)
    device: Device
    log_every: Count
    workers: int = Field(ge=1, le=1000)
    hosts: Place

    @model_validator(mode="after")
    def _workers_compute(self) -> Train:
        if self.workers > 1 and self.device == "cuda":
            raise ValueError("workers is more than 1 with device cuda, expected cpu")
        if self.workers > self.batch_size:
            raise ValueError(
                f"workers is {self.workers}, expected no more than the batch_size of"
                f" {self.batch_size}"
            )
        return self

    def check_hosts(self) -> None:
        """Make sure that the host file, where one is wanted, is there and names a host.

        Raises:
            ParamsError: it does not.
        """
        if self.workers == 1 or not self.hosts:
            return
        said = f"params.yaml: train.hosts is {shortened(self.hosts)!r}"
        path = Path(self.hosts)
        if not path.is_file():
            there = "a folder" if path.is_dir() else "not there"
            raise ParamsError(f"{said}, which is {there}, expected a file with names of hosts")
        lines = path.read_text("utf-8", "replace").splitlines()
        if not any(line.partition("#")[0].strip() for line in lines):
            raise ParamsError(f"{said}, in which nothing stands, expected a line for each host")

    def shape(self) -> Tree:
        """What shapes the result but for rounding: all but where the work is done."""
        return self.model_dump(exclude={"workers", "hosts"})

    @model_validator(mode="after")
    def _batch_fits(self) -> Train:
        _check_batch(self.batch_size, self.device)
        return self


class Evaluate(Record):
    """How the test images are read."""

    batch_size: Count
    device: Device

    @model_validator(mode="after")
    def _batch_fits(self) -> Evaluate:
        _check_batch(self.batch_size, self.device)
        return self


class Plot(Record):
    """How the pictures are drawn."""

    smoothing: Count


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
            nearest known one), missing or there twice, or a value has the wrong type or is out of
            range. The first problems are named, a line each.
    """
    tree = _read(path)
    params, problems = _checked(Params, {} if tree is None else tree)
    if params:
        blocks = {key: tree[key] for key in Blocks.model_fields}
        for name, changes in params.recipes.items():
            _, found = _checked(Blocks, merged(blocks, changes))
            problems += [f"recipes.{shortened(name)}.{problem}" for problem in found]
    if problems or not params:
        more = len(problems) - _TOLD
        told = [f"{path}: {problem}" for problem in problems[:_TOLD]]
        told += [f"{path}: and {more} more such problems"] if more > 0 else []
        raise ParamsError("\n       ".join(told))
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


def recipe_of(train: Tree, recipes: Mapping[str, Tree]) -> str | None:
    """The recipe by which a network was trained.

    Args:
        train: the block `train` that it was trained with.
        recipes: as `Params.recipes`. What a recipe does not state counts as the first states it.

    Returns:
        The first recipe whose every value is that of the block; None where there is none.
    """
    base = next(iter(recipes.values()), {})
    values = overrides(train)
    for name, recipe in recipes.items():
        stated = overrides(merged(base, recipe).get("train", {}))
        if stated and all(values.get(key) == value for key, value in stated.items()):
            return name
    return None


def _read(path: Path) -> Any:
    """What a YAML file holds, as DVC reads it: YAML 1.2, and no key twice.

    What could grow beyond the file's own size, or stop the parser, is refused before it is built.

    Raises:
        ParamsError: as `load` says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES + 1)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the top of the repository") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > _BYTES:
        raise ParamsError(f"{path}: more than {_BYTES:,} bytes, expected some hundred lines")
    try:
        text = data.decode("utf-8")
        _check_form(text)
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        what = str(error.problem).splitlines()[0]
        raise ParamsError(f"{path}: not YAML: line {line}: {shortened(what)}") from None
    # Also what a parser trips over in other ways: days that no month has, numbers without end.
    except Exception as error:
        what = " ".join(str(error).split())
        raise ParamsError(f"{path}: not YAML: {shortened(what)}") from None


def _check_form(text: str) -> None:
    """Refuse YAML that means more than it says.

    Raises:
        ValueError: it repeats itself by reference, or is nested beyond reason.
        ruamel.yaml.error.YAMLError: it is no YAML.
    """
    depth = 0
    for event in YAML(typ="safe").parse(text):
        if isinstance(event, AliasEvent):
            line = event.start_mark.line + 1
            raise ValueError(f"line {line}: *{event.anchor}, expected the values themselves")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _DEPTH:
            line = event.start_mark.line + 1
            raise ValueError(f"line {line}: more than {_DEPTH} blocks in each other")


def _checked(kind: type[_Kind], tree: object) -> tuple[_Kind | None, list[str]]:
    """The blocks, or None and what is wrong with them, a line each."""
    try:
        return kind.model_validate(tree), []
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(problem) for problem in error.errors()]
    # A misspelt key is missing as well; its own line says so better.
    unknown = [problem["loc"] for problem in found if problem["type"] == _UNKNOWN][:_TOLD]
    meant = {(*keys[:-1], _nearest(kind, keys)) for keys in unknown}
    told = [p for p in found if p["type"] != "missing" or p["loc"] not in meant]
    # To look for what was meant takes long where there are thousands.
    hinted = [_describe(kind, problem) for problem in told[:_TOLD]]
    return None, hinted + [describe(problem) for problem in told[_TOLD:]]


def merged(tree: Tree, changes: Tree) -> Tree:
    """`tree` with its values replaced by those of `changes`, block by block."""
    result = dict(tree)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
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
