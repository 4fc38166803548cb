"""The model card: a page of Markdown about one trained network, made from plain values.

Its sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. The page holds
nothing that two runs of the same pipeline differ in, so it is the same byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.shared.datasets import Dataset
from stages.shared.model_file import Description
from stages.shared.program import in_a_line
from stages.shared.scoring import Scores, percent, wilson

PATH = Path(
    "plots/README.md"
)  # not among the figures, as `dvc plots` takes all files there for some


def page(
    dataset: Dataset,
    training_images: int,
    about: Description,
    recipe: str | None,
    found: Scores,
    misread: Collection[int],
    numbered: bool = False,
) -> str:
    """Write the card, for a folder that has the figures in its subfolder figures/.

    Args:
        dataset: what the network was trained on.
        training_images: how many there are, those held out among them.
        about: the network.
        recipe: the key in `recipes` of params.yaml that it was trained by, if it is one.
        found: its scores on the test images.
        misread: indices of the test images that it misreads.
        numbered: whether the figures have numbers in place of the classes' names.

    Returns:
        Markdown, of lines of any length, with a line end after the last.
    """
    height, width = about.image_size
    low, high = wilson(found.images - found.errors, found.images)
    parameters = _table(("parameter", "value"), sorted(_flat(about.params)))
    named = f"It is the recipe `{recipe}`. " if recipe else ""
    overall = _table(
        ("score", "value"),
        [
            ("images", f"{found.images:,}"),
            ("mistakes", f"{found.errors:,}"),
            ("accuracy", f"{percent(found.accuracy)}"),
            ("accuracy, 95% interval (Wilson)", f"{low:.2%} to {high:.2%}"),
            ("right class among the likeliest two", f"{percent(found.top2_accuracy)}"),
            ("cross-entropy, nats", f"{found.loss:.4f}"),
            ("expected calibration error", f"{found.calibration_error:.2%}"),
            ("macro F1", f"{percent(found.macro_f1)}"),
        ],
    )
    classes = list(found.per_class)
    if numbered:
        classes = [f"{number}: {name}" for number, name in enumerate(classes)]
    by_class = _table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (name, f"{one.images:,}", _share(one.precision), _share(one.recall), _share(one.f1))
            for name, one in zip(classes, found.per_class.values(), strict=True)
        ],
    )
    versions = _table(("program", "version"), sorted(about.versions.items()))
    limits = dataset.limits.format(
        contested=_listed(dataset.contested),
        shared=f"{len({*dataset.contested} & {*misread})} of the {found.errors:,} mistakes",
    )
    return f"""# Model card: `{about.network}` on {dataset.title}

**{percent(found.accuracy)}** of the {found.images:,} test images are read correctly,
{found.errors:,} are not. `dvc repro` writes this page and its figures; the weights that they are
about, `models/digits.safetensors`, are those that `dvc.lock` of the same commit names.

## Intended use

{dataset.use} of {height} × {width} pixels, grey, light on dark;
`python -m stages.tools.predict` brings other pictures to that form. It is made to learn from and to
compare with. It is not made for decisions about people or money: nothing here says how it does on
pictures of another origin.

## Data

{dataset.origin} {dataset.licence}

{training_images:,} training images, of which {about.held_out:,} are held out for validation;
{found.images:,} test images, which are used for no choice.

![The first training images of each class](figures/samples.png)

## Recipe

The block `train` of `params.yaml`, as the file of weights holds it. {named}The layers of
`{about.network}` stand in [networks.py](../stages/shared/network/networks.py).

{parameters}

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

The most confident mistakes: what each is, what it was read as, how confidently, and its index in
the test set, from 0.

![The most confident mistakes](figures/hardest.png)

## Limits

{limits}
- It knows {len(about.class_names)} classes and nothing else. Whatever
  a picture shows gets one of them, often with high confidence; of digits `stages.tools.predict`
  says when to doubt that.
- These are the scores of one network, of one seed; another seed gives others. The interval above
  says only how far the choice of the test images may move the accuracy.

## Versions

{versions}
"""


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers in words: "1, 2 and 3, counted from 0"; nothing for no numbers."""
    if not numbers:
        return ""
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}, counted from 0"


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
    return "–" if value is None else percent(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown: the first column to the left, the others to the right."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    # A name is no link and no code, whatever signs stand in it.
    escaped = (
        [re.sub(r"([\\|`[])", r"\\\1", in_a_line(cell)) for cell in cells] for cells in lines
    )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
