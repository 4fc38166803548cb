"""Read pictures drawn by program, and count what is read right: python -m tests.bench.reading

    python -m tests.bench.reading --json tests/bench/reading.json fast=FILE accurate=FILE

reads them with trained networks and writes the table of stages/tools/README.md; with --fit it
prints the weights of `stages.tools.reading.doubt` instead, fitted on other pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from stages.shared.model_file import Description
from stages.tools import pictures
from stages.tools.reading import doubt, fitting, reader
from stages.tools.reading.digits import Digit
from stages.tools.reading.reader import Network
from tests.bench import drawn
from tests.bench.common import markdown

TABLE_SEED, FIT_SEED = 1, 2
STRINGS, OTHERS = 60, 200
_OF_DIGITS = Description(
    network="compact", image_size=(28, 28), mean=0.13, std=0.3, held_out=0, params={}, versions={},
    class_names=[str(digit) for digit in range(10)],
)  # fmt: skip
_HANDS = (
    *("writer 1", "writer 2", "writer 3", "sans", "serif", "STIX italic"),
    *("Computer Modern", "Computer Modern italic", "Computer Modern sans"),
)


class Item(NamedTuple):
    """What was found on one picture."""

    kind: str
    text: str  # the digits on it; none on one that holds no digit
    digits: list[Digit]


class _Task(NamedTuple):
    """A picture to draw and to take apart."""

    kind: str  # none: a picture without a digit
    hand: str
    digit: int
    seed: int


def _taken_apart(task: _Task) -> Item | None:
    """Draw a picture, and read it out of a file as `predict` does."""
    suffix = "png"
    picture: Image.Image | None
    if task.kind in drawn.KINDS:
        text, suffix = str(task.digit), drawn.KINDS[task.kind][1]
        picture = drawn.draw(*task)
    elif task.kind:
        text, picture = drawn.SEVERAL[task.kind](task.seed)
    else:
        text, picture = "", drawn.draw_other(task.seed)
    if picture is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"picture.{suffix}")
        picture.save(path)
        return Item(task.kind, text, list(fitting.fit(pictures.load(path), _OF_DIGITS)))


def items(seed: int, hands: tuple[str, ...]) -> list[Item]:
    """Pictures of every kind, of several digits, and of none, taken apart by all cores."""
    tasks = [
        _Task(kind, hand, digit, seed)
        for kind in drawn.KINDS for hand in hands for digit in range(10)
    ]  # fmt: skip
    tasks += [
        _Task(kind, "", 0, STRINGS * seed + n) for kind in drawn.SEVERAL for n in range(STRINGS)
    ]
    tasks += [_Task("", "", 0, OTHERS * seed + n) for n in range(OTHERS)]
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(_taken_apart, tasks, chunksize=20))
    return [item for item in found if item is not None]


def asked(network: Any) -> Network:
    """The probabilities that a network gives."""
    return lambda images: softmax(network.logits(images).astype(np.float64), axis=1)


def fit(models: dict[str, Path]) -> tuple[NDArray[np.float64], float]:
    """The weights of the model of doubt: is a reading right?

    One part in three is of pictures without a digit, whatever their number.
    """
    from stages.shared.network import classifier

    found = items(FIT_SEED, _HANDS[2:5])  # before Jittor starts its threads
    found = [item for item in found if item.kind != "two that touch"]  # there to be cut
    networks = [classifier.load(path) for path in models.values()]
    signs, right, share = [], [], []
    for network in networks:
        for item in found:
            parts = [reader.whole(digit, asked(network)) for digit in item.digits]
            text = item.text if len(item.text) == len(parts) else " " * len(parts)
            for part, actual in zip(parts, text, strict=True):
                signs.append(doubt.signs(part.digit.pixels, part.every))
                right.append(str(part.probabilities.argmax()) == actual)
                share.append(bool(item.text))
    of_digits = np.array(share)
    weight = np.where(of_digits, 2 / of_digits.sum(), 1 / (~of_digits).sum()) * len(of_digits) / 3
    model = LogisticRegression().fit(np.array(signs), np.array(right), sample_weight=weight)
    return model.coef_[0], float(model.intercept_[0])


def measure(models: dict[str, Path]) -> dict[str, Any]:
    """What each network reads right of every kind, and how its doubt fits."""
    from stages.shared.network import classifier

    found = items(TABLE_SEED, _HANDS)  # before Jittor starts its threads
    result: dict[str, Any] = {}
    for name, path in models.items():
        network = classifier.load(path)
        counts: dict[str, list[int]] = {}
        unsure_of_digits, unsure_of_others, confidences, rights = [], [], [], []
        for item in found:
            parts = [one for digit in item.digits for one in reader.read(digit, asked(network))]
            sure = [one.confidence for one in parts]
            if not item.text:
                unsure_of_others.append(max(sure) < doubt.SURE)
                continue
            right = "".join(str(one.probabilities.argmax()) for one in parts) == item.text
            count = counts.setdefault(item.kind, [0, 0])
            count[0] += right
            count[1] += 1
            if right:
                unsure_of_digits.append(min(sure) < doubt.SURE)
            confidences.append(float(np.prod(sure)))
            rights.append(right)
        result[name] = {
            "kinds": counts,
            "digits": [int(np.sum(unsure_of_digits)), len(unsure_of_digits)],
            "others": [int(np.sum(unsure_of_others)), len(unsure_of_others)],
            "confidence": float(np.mean(confidences)),
            "accuracy": float(np.mean(rights)),
        }
    return result


def table(result: dict[str, Any]) -> str:
    """A row for each kind, a column for each network."""
    names = list(result)
    lines = [
        [kind, str(count), *(f"{result[n]['kinds'][kind][0] / count:.1%}" for n in names)]
        for kind, (_, count) in result[names[0]]["kinds"].items()
    ]
    return markdown(["pictures", "n", *(f"read right by `{name}`" for name in names)], lines)


def doubts(result: dict[str, Any]) -> str:
    """How the doubt of each network fits, a row each."""
    lines = [
        [
            f"`{name}`",
            f"{found['confidence']:.1%}",
            f"{found['accuracy']:.1%}",
            "{:.1%} of {}".format(found["digits"][0] / found["digits"][1], found["digits"][1]),
            "{:.1%} of {}".format(found["others"][0] / found["others"][1], found["others"][1]),
        ]
        for name, found in result.items()
    ]
    head = ["recipe", "mean confidence", "read right", "read right, called unsure"]
    return markdown([*head, "no digit, called unsure"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reading", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE", help="trained networks")
    parser.add_argument("--json", type=Path, help="where the counts go")
    parser.add_argument("--fit", action="store_true", help="print the weights of the doubt")
    arguments = parser.parse_args()
    models = {name: Path(file) for name, _, file in (m.partition("=") for m in arguments.models)}
    if arguments.fit:
        weights, bias = fit(models)
        print(f"WEIGHTS = np.array({weights.round(2).tolist()})\nBIAS = {bias:.2f}")
        return
    result = measure(models)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result), doubts(result), sep="\n\n")


if __name__ == "__main__":
    main()
