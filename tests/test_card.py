from typing import Any

import pytest

from stages.shared.datasets import DATASETS
from stages.shared.model_file import Description
from stages.shared.report import card
from stages.shared.scoring import Scores

ABOUT = Description(
    network="compact",
    image_size=(20, 30),
    class_names=["cat", "dog"],
    mean=0.5,
    std=0.25,
    held_out=1500,
    params={
        "nesterov": False,
        "validation_images": 1500,
        "weight_decay": 1e-4,
        "augment": {"shift": 2.0},
    },
    versions={"python": "3.11.7", "jittor": "1.3"},
)
ONE = {"images": 1200, "precision": 0.5, "recall": 0.251, "f1": 0.1}
SCORES: dict[str, Any] = {
    "images": 2400,
    "errors": 1200,
    "accuracy": 0.5,
    "top2_accuracy": 1.0,
    "loss": 0.69315,
    "calibration_error": 0.0312,
    "macro_f1": 0.1,
    "per_class": {"cat": ONE, "dog": {**ONE, "images": 0, "recall": None}},
}


def page(dataset: str = "mnist", **scores: object) -> str:
    found = Scores.model_validate({**SCORES, **scores})
    return card.page(DATASETS[dataset], 60_000, ABOUT, "fast", found, [0, 947, 2000, 9729])


def test_it_tells_the_scores() -> None:
    lines = page().splitlines()
    assert "| accuracy | 50.00% |" in lines
    assert "| mistakes | 1,200 |" in lines
    assert "| expected calibration error | 3.12% |" in lines
    assert "| cat | 1,200 | 50.00% | 25.10% | 10.00% |" in lines
    assert "| dog | 0 | 50.00% | – | 10.00% |" in lines


def test_where_figures_have_numbers_the_table_says_which_class_each_is() -> None:
    found = Scores.model_validate(SCORES)
    text = card.page(DATASETS["own"], 60, ABOUT, None, found, [], numbered=True)
    assert "| 0: cat | 1,200 |" in text
    assert "| 1: dog | 0 |" in text


def test_the_interval_is_wilsons() -> None:
    # (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with n = 2400, z = 1.96
    assert "| accuracy, 95% interval (Wilson) | 48.00% to 52.00% |" in page()
    assert "99.84% to 100.00% |" in page(errors=0, accuracy=1.0)


def test_nearly_all_is_not_told_as_all() -> None:
    assert "| accuracy | 99.996% |" in page(errors=1, accuracy=0.99996)


def test_it_tells_the_recipe_in_the_words_of_the_params() -> None:
    text = page()
    assert "It is the recipe `fast`." in text
    start = text.index("| parameter |")
    assert text[start:].splitlines()[2:6] == [
        "| augment.shift | 2 |",
        "| nesterov | false |",
        "| validation_images | 1500 |",
        "| weight_decay | 0.0001 |",
    ]
    assert "60,000 training images, of which 1,500 are held out" in text
    assert "20 × 30 pixels" in text
    assert "It knows 2 classes" in text
    assert "| jittor | 1.3 |\n| python | 3.11.7 |" in text


@pytest.mark.parametrize(
    ("dataset", "words"),
    [("mnist", "handwritten"), ("fashion_mnist", "clothing"), ("own", "The user's own")],
)
def test_each_data_set_has_its_own_words(dataset: str, words: str) -> None:
    text = page(dataset)
    assert words in text
    assert DATASETS[dataset].licence in text
    assert ("9679 and 9729, counted from 0" in text) == (dataset == "mnist")
    assert ("2 of the 1,200 mistakes are on those images" in text) == (dataset == "mnist")
    assert ("digit " in text) == (dataset == "mnist")


def test_it_is_whole_markdown() -> None:
    text = page()
    assert text.endswith(" |\n")
    assert "{" not in text
    assert "None" not in text
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("#", "!")):  # each stands apart, or some readers run it into the text
            assert not any(lines[number + 1 : number + 2])
            assert number == 0 or not lines[number - 1]
        if line.startswith("| ---"):
            assert line.count("|") == lines[number - 1].count("|") == lines[number + 1].count("|")
            assert not lines[number - 2]


def test_no_name_is_a_link_or_a_picture() -> None:
    names = {"![a](b)": ONE, "[a](b)": ONE, "`a`": ONE, "a\\": ONE}
    lines = page(per_class=names).splitlines()
    for name in (r"!\[a](b)", r"\[a](b)", r"\`a\`", "a\\\\"):
        assert any(line.startswith(f"| {name} | 1,200 |") for line in lines), name


def test_no_name_breaks_a_table() -> None:
    text = page(per_class={"a|b": ONE, "line\nend": ONE})
    assert r"| a\|b | 1,200 |" in text
    assert r"| line\\nend | 1,200 |" in text
