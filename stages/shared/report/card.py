"""The model card: a page of Markdown about one trained network, made from plain values.

Its sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. The page holds
nothing that two runs of the same pipeline differ in, so it is the same byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.stats import binomtest

from stages.shared.program import UserError


class CardError(UserError):
    """A description or scores that a page cannot be made from."""


class Recipe(BaseModel):
    """The parameters of a training run; there are more, and all of them are shown."""

    model_config = ConfigDict(extra="allow")

    validation_images: int  # how many of the training images are held out


class Description(BaseModel):
    """What a file of weights says about itself; other keys are left alone."""

    network: str
    image_size: tuple[int, int]  # height and width in pixels
    classes: list[str]
    params: Recipe
    versions: dict[str, str]


class ClassScores(BaseModel):
    """The scores of one class; a share from 0 to 1, or None where it is one of nothing."""

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


class Scores(BaseModel):
    """The scores of a network; shares from 0 to 1."""

    images: int
    errors: int
    accuracy: float
    top2_accuracy: float
    loss: float  # nats
    calibration_error: float
    macro_f1: float
    classes: dict[str, ClassScores]


_Model = TypeVar("_Model", bound=BaseModel)
_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "own": "own images"}
_USES = {
    "mnist": "It reads a single handwritten digit in a picture",
    "fashion_mnist": "It names the piece of clothing in a picture",
    "own": "It tells the classes that it was trained on apart, in pictures",
}
_SOURCES = {
    "mnist": """MNIST (LeCun, Bottou, Bengio and Haffner, \"Gradient-based learning applied to
document recognition\", 1998): digits written by employees of the United States Census Bureau and
by high-school students, scaled and centred. Each published file is accepted on its SHA-256 alone.
""",
    "fashion_mnist": """Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747, 2017): pictures
of articles from a shop's catalogue, in the form of MNIST's digits. Each published file is accepted
on its SHA-256 alone.
""",
    "own": "The user's own four IDX files; the pipeline knows nothing more about them.\n",
}
# Test images, from 0, in which three or more of five people saw something else than the label: from
# the answers published with the paper that the page names.
_CONTESTED = (
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520),
    *(3558, 5937, 6651, 6783, 8527, 9679, 9729),
)
_LIMITS = {
    "mnist": """\
- Some labels are contested: of 15 test images the published label was confirmed by two or fewer of
  the five people asked by Northcutt, Athalye and Mueller ("Pervasive Label Errors in Test Sets
  Destabilize Machine Learning Benchmarks", NeurIPS 2021). They are the images {contested}.
  The scores here take every label as published; {shared} are on those images.
- The writers were in the United States around 1990. Digits as other places write them, such as a 1
  with a long upstroke or a 7 with a bar, are fewer.
- A picture holds one digit. Numbers of several digits must be cut apart first.
""",
    "fashion_mnist": "- Each picture is of one article before an even ground, as in a shop.\n",
    "own": "- What these images do not cover is known only to those who made them.\n",
}


def description(text: str) -> Description:
    """Read the JSON that stands in a file of weights.

    Raises:
        CardError: it is no JSON, or a key is missing or of another type; the message names one.
    """
    return _read(Description, text)


def scores(text: str) -> Scores:
    """Read scores from JSON.

    Raises:
        CardError: as `description`.
    """
    return _read(Scores, text)


def page(
    dataset: str,
    training_images: int,
    about: Description,
    found: Scores,
    misread: Collection[int],
) -> str:
    """Write the card, for a folder that has the figures in its subfolder figures/.

    Args:
        dataset: mnist, fashion_mnist or own.
        training_images: how many there are, those held out among them.
        about: the network.
        found: its scores on the test images.
        misread: the numbers of the test images that it misreads, from 0.

    Returns:
        Markdown, of lines of any length, with a line end after the last.
    """
    height, width = about.image_size
    held_out = about.params.validation_images
    chance = binomtest(found.images - found.errors, found.images).proportion_ci(method="wilson")
    recipe = _table(("parameter", "value"), sorted(_flat(about.params.model_dump())))
    overall = _table(
        ("score", "value"),
        [
            ("images", f"{found.images:,}"),
            ("mistakes", f"{found.errors:,}"),
            ("accuracy", f"{found.accuracy:.2%}"),
            ("accuracy, 95% interval (Wilson)", f"{chance.low:.2%} to {chance.high:.2%}"),
            ("right class among the likeliest two", f"{found.top2_accuracy:.2%}"),
            ("cross-entropy, nats", f"{found.loss:.4f}"),
            ("expected calibration error", f"{found.calibration_error:.2%}"),
            ("macro F1", f"{found.macro_f1:.2%}"),
        ],
    )
    by_class = _table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (name, f"{one.images:,}", _share(one.precision), _share(one.recall), _share(one.f1))
            for name, one in found.classes.items()
        ],
    )
    versions = _table(("program", "version"), sorted(about.versions.items()))
    limits = _LIMITS[dataset].format(
        contested=f"{', '.join(map(str, _CONTESTED[:-1]))} and {_CONTESTED[-1]}, counted from 0",
        shared=f"{len({*_CONTESTED} & {*misread})} of the {found.errors:,} mistakes",
    )
    return f"""# Model card: `{about.network}` on {_NAMES[dataset]}

**{found.accuracy:.2%}** of the {found.images:,} test images are read correctly, {found.errors:,}
are not. `dvc repro` writes this page and its figures; the weights that they are about,
`models/digits.safetensors`, are those that `dvc.lock` of the same commit names.

## Intended use

{_USES[dataset]} of {height} × {width} pixels, grey, light on dark;
`python -m stages.tools.predict` brings other pictures to that form. It is made to learn from and to
compare with. It is not made for decisions about people or money: nothing here says how it does on
pictures of another origin.

## Data

{_SOURCES[dataset]}
{training_images:,} training images, of which {held_out:,} are held out to choose by;
{found.images:,} test images, by which nothing is chosen.

![The first training images of each class](figures/samples.png)

## Recipe

The block `train` of `params.yaml`, as the file of weights holds it. The layers of
`{about.network}` stand in [networks.py](../stages/shared/network/networks.py).

{recipe}

![The loss during training](figures/loss.png)

![The accuracy during training](figures/accuracy.png)

## Scores

{overall}

{by_class}

![How often each class was taken for each other](figures/confusion.png)

![The most confident mistake of each kind](figures/mistakes.png)

How far its confidence can be believed:

![Accuracy against confidence](figures/reliability.png)

## The hardest test images

The most confident mistakes: what each is, what it was read as, how confidently, and its number in
the test set, counted from 0.

![The most confident mistakes](figures/hardest.png)

## Limits

{limits}- It knows {len(about.classes)} classes and nothing else. Whatever
  a picture shows gets one of them, often with high confidence.
- These are the scores of one network, of one seed; another seed gives others. The interval above
  says only how far the choice of the test images may move the accuracy.

## Versions

{versions}

## Hardware and times

On two cores of an Intel Xeon (AVX-512), without a GPU, the optimizer's steps of the recipes took
33 s (tutorial), 4 s (fast) and 12 minutes (accurate), medians over seeds on MNIST. This page
is the same byte for byte after every run, so it holds no time of the run that made it; how these
were measured stands in the [README](../README.md#results).
"""


def _read(kind: type[_Model], text: str) -> _Model:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CardError(f"{key}: {first['msg']}" if key else first["msg"]) from None


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values, as params.yaml would write them."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif isinstance(value, bool):
            yield f"{above}{key}", str(value).lower()
        else:
            yield f"{above}{key}", f"{value:g}" if isinstance(value, float) else str(value)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown: the first column to the left, the others to the right."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
