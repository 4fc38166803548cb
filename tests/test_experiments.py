"""Experiments by the real `dvc`: one at once, several at once, side by side, and seen live."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jittor_utils
import pytest

from tests.conftest import Repository
from tests.moments import Moment, run_until

pytestmark = pytest.mark.slow


def core() -> dict[str, int]:
    """When each part of Jittor's core was built."""
    folder = Path(jittor_utils.home()) / ".cache/jittor"
    built = [*folder.rglob("*.so"), *folder.rglob("obj_files/*")]
    return {str(path): path.stat().st_mtime_ns for path in built if path.parent.name != "jit"}


def experiments(repository: Repository) -> dict[str, Any]:
    """The last commit's experiments as `dvc exp show` has them, by name."""
    shown = json.loads(repository.run("dvc", "exp", "show", "--json").stdout)
    return {
        found["name"]: found["revs"][0]["data"]
        for found in shown[-1]["experiments"] or []
        if found["revs"][0]["data"]
    }


def changes(repository: Repository) -> list[list[str]]:
    """The rows of `dvc params diff`: file, parameter, committed value, value now."""
    lines = repository.run("dvc", "params", "diff").stdout.splitlines()
    return [line.split() for line in lines[1:]]


def test_an_experiment_has_its_own_learning_rate_and_shows_what_that_changed(
    finished: Repository,
) -> None:
    text = finished.run("dvc", "exp", "run", "-n", "faster", "-S", "train.learning_rate=0.05")
    assert "Ran experiment(s): faster" in text.stdout
    found = experiments(finished)["faster"]
    assert found["params"]["params.yaml"]["data"]["train"]["learning_rate"] == 0.05
    assert 0 < found["metrics"]["plots/evaluation/metrics.json"]["data"]["accuracy"] <= 1
    assert changes(finished) == [["params.yaml", "train.learning_rate", "0.02", "0.05"]]
    text = finished.run("dvc", "metrics", "diff")
    assert "plots/evaluation/metrics.json  accuracy" in text.stdout
    finished.run("dvc", "plots", "diff")
    page = (finished.path / "dvc_plots/index.html").read_text()
    assert "HEAD" in page
    assert "workspace" in page


def test_an_experiment_is_taken_over(finished: Repository) -> None:
    finished.run("dvc", "exp", "run", "-n", "smooth", "-S", "plot.smoothing=3")
    finished.run("git", "checkout", "-q", ".")
    assert not changes(finished)
    finished.run("dvc", "exp", "apply", "smooth")
    assert changes(finished) == [["params.yaml", "plot.smoothing", "10", "3"]]
    assert "up to date" in finished.run("dvc", "repro").stdout


def test_three_in_a_queue_two_at_once(finished: Repository) -> None:
    before = core()
    assert before
    rates = {"low": 0.005, "middle": 0.01, "high": 0.03}
    for name, rate in rates.items():
        change = f"train.learning_rate={rate}"
        finished.run("dvc", "exp", "run", "--queue", "-n", name, "-S", change)
    finished.run("dvc", "queue", "start", "--jobs", "2")
    while any(word in finished.run("dvc", "queue", "status").stdout for word in ("Queued", "Run")):
        time.sleep(1)
    assert finished.run("dvc", "queue", "status").stdout.count("Success") == 3
    found = experiments(finished)
    for name, rate in rates.items():
        assert found[name]["params"]["params.yaml"]["data"]["train"]["learning_rate"] == rate
        assert found[name]["metrics"]["plots/evaluation/metrics.json"]["data"]["accuracy"] > 0.3
    assert core() == before


def test_a_run_is_seen_while_it_trains(finished: Repository) -> None:
    finished.set(train__epochs=3)
    second_checkpoint = Moment("os.rename", ".safetensors", 2)
    training = run_until(second_checkpoint, finished, "dvc", "repro")
    try:
        plots = json.loads(finished.run("dvc", "plots", "show", "--json").stdout)
        metrics = finished.run("dvc", "metrics", "show").stdout
        shown = json.loads(finished.run("dvc", "exp", "show", "--json").stdout)
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.communicate()
    assert "train.loss" in metrics
    assert "plots/training/metrics.json" in shown[0]["data"]["metrics"]
    points = plots["data"]["loss"][0]["content"]["data"]["values"]
    files = {point["filename"].split("/")[0] for point in points}
    assert files == {"train", "validation"}
