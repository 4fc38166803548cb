"""A sweep: a grid in DVC's queue, and the picture of what came of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from stages.shared.report import style
from stages.tools import sweep
from stages.tools.sweep import Experiment
from tests.conftest import Repository


def shown(name: str, state: str | None, train: dict[str, Any], score: float) -> dict[str, Any]:
    """An experiment as `dvc exp show --json` has it."""
    params = {"params.yaml": {"data": {"train": train, "recipes": {"fast": {}}}}}
    metrics = {sweep.SCORED: {"data": {"validation": {"accuracy": score}}}}
    error = {"msg": "Experiment run failed", "type": ""} if state == "failed" else None
    data = {"params": params, "metrics": metrics}
    revision = {"rev": "0" * 40, "data": data, "error": error}
    return {"name": name, "revs": [revision], "executor": state and {"state": state}}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_those_that_failed_are_named_and_have_no_score() -> None:
    commit = {
        "experiments": [
            shown("grid-1", "success", {"seed": 1}, 0.9),
            shown("grid-2", "failed", {"seed": 2}, 0.8),  # DVC gives it the commit's score
            shown("grid-3", "running", {"seed": 3}, 0.8),
            shown("grid-4", None, {"seed": 4}, 0.7),
            shown("another", "success", {"seed": 5}, 0.6),
        ]
    }
    found, failed, _ = sweep.read([{}, commit], "grid")
    assert failed == ["grid-2"]
    assert found == [
        Experiment("grid-1", {"train.seed": 1}, 0.9),
        Experiment("grid-4", {"train.seed": 4}, 0.7),
    ]
    assert sweep.read([{}, {"experiments": None}], "") == ([], [], [])


@pytest.mark.parametrize("score", [None, "x", float("nan"), 1.5])
def test_one_without_a_score_is_named_and_left_out(score: Any) -> None:
    commit = {"experiments": [shown("a", None, {"seed": 1}, score), shown("b", None, {}, 0.5)]}
    del commit["experiments"][1]["revs"][0]["data"]["metrics"][sweep.SCORED]["data"]
    assert sweep.read([{}, commit], "") == ([], [], ["a", "b"])


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Names, values and scores that lie on each other, and with "" each that leaves the page."""
    with style.style():
        figure.canvas.draw()
    parallel, *heat = figure.axes
    titles = [axes.title for axes in figure.axes if axes.title.get_text()]
    cells = [text for axes in heat for text in axes.texts]
    texts = [*parallel.get_xticklabels(), *parallel.texts, *titles, *cells]
    boxes = []
    for text in texts:
        left, bottom, right, top = text.get_window_extent().extents
        if text.get_text().startswith("\n"):  # nothing stands in its first line
            top = (bottom + top) / 2
        boxes.append((text.get_text(), Bbox.from_extents(left, bottom, right, top)))
    page = figure.bbox
    found = [(word, "") for word, box in boxes if box.x0 < page.x0 or box.x1 > page.x1]
    for number, (word, box) in enumerate(boxes):
        found += [(word, other) for other, b in boxes[:number] if box.overlaps(b)]
    return found


def test_many_parameters_with_long_names_and_values_can_be_read() -> None:
    classes = [[], ["zero", "one", "two", "three", "four", "five"]]
    many = [
        Experiment(str(number), {
            "decode.class_names": classes[number % 2], "train.network": f"net {number // 2}",
            "train.batch_size": 64 * number, "train.learning_rate": number / 100,
            "train.label_smoothing": number / 10, "train.validation_images": 10000 * number,
        }, 0.9 + number / 100)
        for number in range(4)
    ]  # fmt: skip
    assert overlapping(sweep.draw(many)) == []


def test_no_name_is_a_formula(tmp_path: Path) -> None:
    both = [Experiment(f"a$_${rate}", {"train.rate": f"${rate}_$"}, rate) for rate in (0.5, 0.6)]
    style.save(sweep.draw(both), tmp_path / "x.png")


def test_a_cell_is_the_mean_over_seeds_and_is_empty_where_nobody_tried() -> None:
    grid = [
        Experiment(f"{net}-{size}-{rate}-{seed}", {
            "train.network": net, "train.batch_size": size, "train.learning_rate": rate,
            "train.seed": seed, "train.epochs": 1,
        }, score + 0.01 * seed)
        for net, size, rate, score in (
            ("deep", 64, 0.1, 0.5), ("deep", 256, 0.1, 0.6), ("deep", 64, 0.02, 0.7),
            ("compact", 64, 0.05, 0.8), ("compact", 256, 0.05, 0.9),
        )
        for seed in (0, 1)
    ]  # fmt: skip
    drawn = words(sweep.draw(grid))
    cells = [text for text in drawn if re.fullmatch(r"\d\d\.50%\nmean of 2", text)]
    assert [text[:6] for text in sorted(cells)] == [
        "50.50%",
        "60.50%",
        "70.50%",
        "80.50%",
        "90.50%",
    ]
    assert "10 experiments; the best on held-out images is compact-256-0.05-1, 91.00%" in drawn
    assert {"train.network: compact", "train.network: deep", "train.learning_rate"} <= set(drawn)
    assert "train.epochs" not in drawn
    assert "train.epochs 1" in drawn  # what all of them share


def test_a_score_that_is_nearly_all_is_not_called_all() -> None:
    pair = [Experiment(str(rate), {"train.learning_rate": rate}, 0.999996) for rate in (1, 2)]
    assert not any(text.startswith("100") for text in words(sweep.draw(pair)))


@pytest.mark.parametrize("key", ["train.seed", "train.learning_rate", "train.network"])
def test_two_that_differ_in_one_thing_are_drawn(key: str, tmp_path: Path) -> None:
    two = [Experiment(str(value), {key: value}, 0.9) for value in (1, 2)]
    style.save(sweep.draw(two), tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.slow
def test_nothing_to_draw_is_said_in_a_line(finished: Repository) -> None:
    done = finished.run("python", "-m", "stages.tools.sweep", "grid", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: of the last commit's experiments whose names begin with 'grid' 0 ended well,"
        " expected two or more that differ\n"
    )


@pytest.mark.slow
@pytest.mark.scale
def test_ten_in_a_queue_end_with_ten_results_and_one_that_fails_is_named(
    finished: Repository,
) -> None:
    queue = ("dvc", "exp", "run", "--queue")
    rates = ("-S", "train.learning_rate=range(0.01,0.06,0.01)")
    # Five at first, then one that cannot train, then five more.
    finished.run(*queue, "-n", "grid", *rates, "train")
    finished.run(*queue, "-n", "grid-bad", "-S", "train.validation_images=5000", "train")
    finished.run(*queue, "-n", "grid-late", *rates, "-S", "train.batch_size=32", "train")
    said = finished.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    assert "Failed to reproduce experiment(s) 'grid-bad'" in said.stderr
    status = finished.run("dvc", "queue", "status").stdout
    assert (status.count("Success"), status.count("Failed")) == (10, 1)
    drawn = finished.run("python", "-m", "stages.tools.sweep", "grid").stdout
    assert drawn == (
        "failed: grid-bad; `dvc queue logs grid-bad` says why\n"
        "dvc_plots/sweep.png: 10 experiments\n"
    )
    assert "expected fewer than the 1000" in finished.run("dvc", "queue", "logs", "grid-bad").stdout
    table = finished.run("dvc", "exp", "show", "--csv", "--hide-failed", "--hide-workspace").stdout
    assert len(re.findall("grid-(?:late-)?[1-5],", table)) == 10
