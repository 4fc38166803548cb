import json
from typing import Any

import pytest

from stages.shared.report import card
from stages.shared.report.card import CardError

ABOUT: dict[str, Any] = {
    "format": "digits-1",
    "network": "compact",
    "image_size": [20, 30],
    "classes": ["cat", "dog"],
    "mean": 0.5,
    "params": {
        "nesterov": False,
        "validation_images": 1500,
        "weight_decay": 1e-4,
        "augment": {"shift": 2.0},
    },
    "versions": {"python": "3.11.7", "jittor": "1.3"},
}
ONE = {"images": 1200, "precision": 0.5, "recall": 0.251, "f1": 0.1}
SCORES: dict[str, Any] = {
    "images": 2400,
    "errors": 1200,
    "accuracy": 0.5,
    "top2_accuracy": 1.0,
    "loss": 0.69315,
    "calibration_error": 0.0312,
    "macro_f1": 0.1,
    "classes": {"cat": ONE, "dog": {**ONE, "images": 0, "recall": None}},
}


def page(dataset: str = "mnist", **scores: object) -> str:
    about = card.description(json.dumps(ABOUT))
    found = card.scores(json.dumps({**SCORES, **scores}))
    return card.page(dataset, 60_000, about, found, [0, 947, 2000, 9729])


def test_it_tells_the_scores() -> None:
    lines = page().splitlines()
    assert "| accuracy | 50.00% |" in lines
    assert "| mistakes | 1,200 |" in lines
    assert "| expected calibration error | 3.12% |" in lines
    assert "| cat | 1,200 | 50.00% | 25.10% | 10.00% |" in lines
    assert "| dog | 0 | 50.00% | – | 10.00% |" in lines


def test_the_interval_is_wilsons() -> None:
    # (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with n = 2400, z = 1.96
    assert "| accuracy, 95% interval (Wilson) | 48.00% to 52.00% |" in page()
    assert "99.84% to 100.00% |" in page(errors=0, accuracy=1)


def test_it_tells_the_recipe_in_the_words_of_the_params() -> None:
    text = page()
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
    assert ("9679 and 9729, counted from 0" in text) == (dataset == "mnist")
    assert ("2 of the 1,200 mistakes are on those images" in text) == (dataset == "mnist")
    assert ("digit " in text) == (dataset == "mnist")


def test_it_is_whole_markdown() -> None:
    text = page()
    assert text.endswith(".\n")
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


@pytest.mark.parametrize("key", ["network", "image_size", "classes", "params", "versions"])
def test_a_description_without_a_key_is_refused(key: str) -> None:
    rest = {name: value for name, value in ABOUT.items() if name != key}
    with pytest.raises(CardError, match=f"^{key}: Field required$"):
        card.description(json.dumps(rest))


@pytest.mark.parametrize("key", list(SCORES))
def test_scores_without_a_key_are_refused(key: str) -> None:
    rest = {name: value for name, value in SCORES.items() if name != key}
    with pytest.raises(CardError, match=f"^{key}: Field required$"):
        card.scores(json.dumps(rest))


def test_a_wrong_value_deep_down_is_named_in_one_line() -> None:
    classes = {"cat": {**ONE, "recall": "much"}}
    with pytest.raises(CardError, match=r"^classes\.cat\.recall: .*number") as raised:
        card.scores(json.dumps({**SCORES, "classes": classes}))
    assert "\n" not in str(raised.value)
    with pytest.raises(CardError, match="JSON"):
        card.scores("{")
