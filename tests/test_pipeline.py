"""The true pipeline, by the real `dvc`, on a small real sample of MNIST."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.conftest import Repository

pytestmark = pytest.mark.slow

STAGES = ["check", "download", "decode", "train", "evaluate", "plot", "export"]


def ran(repository: Repository) -> list[str]:
    """Run the pipeline; the stages that had something to do, in their order."""
    lines = repository.run("dvc", "repro").stdout.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage '")]


def refused(repository: Repository) -> str:
    """Run the pipeline, which must fail without a traceback; what it said."""
    result = repository.run("dvc", "repro", check=False)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "Traceback" not in said
    return said


def is_as_committed(repository: Repository) -> bool:
    return not repository.run("git", "status", "--porcelain").stdout


def test_the_stages_run_in_their_order(finished: Repository) -> None:
    said = finished.run("dvc", "repro", "--force", "--dry").stdout
    assert [line.split("'")[1] for line in said.splitlines() if "Running stage" in line] == STAGES


def test_it_leaves_what_it_says(finished: Repository) -> None:
    path = finished.path
    assert (path / "models/digits.safetensors").stat().st_size > 100_000
    scores = json.loads((path / "plots/evaluation/metrics.json").read_text())
    assert 0.5 < scores["accuracy"] < 1
    assert len((path / "plots/evaluation/predictions.csv").read_text().splitlines()) == 201
    figures = sorted(file.name for file in (path / "plots/figures").iterdir())
    assert figures == [
        "accuracy.png",
        "confusion.png",
        "hardest.png",
        "loss.png",
        "mistakes.png",
        "reliability.png",
        "samples.png",
    ]
    card = (path / "plots/README.md").read_text()
    assert f"**{scores['accuracy']:.2%}** of the 200 test images" in card
    assert not list((path / "models/checkpoints").glob("*"))


def test_git_holds_the_small_results_and_dvc_the_large(finished: Repository) -> None:
    held = finished.run("git", "ls-files", "data", "models", "plots").stdout.split()
    assert "plots/evaluation/metrics.json" in held
    assert "plots/figures/loss.png" in held
    assert "plots/README.md" in held
    large = ("data", "models", "plots/training")
    assert [name for name in held if name.startswith(large)] == [
        "data/.gitignore",
        "data/own/README.md",
        "models/.gitignore",
    ]
    assert is_as_committed(finished)


def test_again_nothing_runs(finished: Repository) -> None:
    assert ran(finished) == []
    assert "Data and pipelines are up to date" in finished.run("dvc", "status").stdout


def test_forced_it_gives_the_same_bytes(finished: Repository) -> None:
    finished.run("dvc", "repro", "--force", "--single-item", "train")
    finished.run("dvc", "repro", "--force", "--single-item", "plot")
    assert is_as_committed(finished)


def test_dvc_shows_the_run(finished: Repository) -> None:
    assert "plots/evaluation/metrics.json" in finished.run("dvc", "metrics", "show").stdout
    assert "failed" not in finished.run("dvc", "plots", "show").stderr
    page = (finished.path / "dvc_plots/index.html").read_text()
    for name in ("Loss", "What each class was taken for", "mistakes.png"):
        assert name in page


def test_a_changed_learning_rate_runs_what_depends_on_it(finished: Repository) -> None:
    finished.set(train__learning_rate=0.01)
    assert "train.learning_rate" in finished.run("dvc", "params", "diff").stdout
    assert ran(finished) == ["check", "train", "evaluate", "plot", "export"]
    difference = json.loads(finished.run("dvc", "metrics", "diff", "--json").stdout)
    assert "loss" in difference["plots/evaluation/metrics.json"]
    finished.commit("A lower learning rate")
    text = finished.run("dvc", "params", "diff", "HEAD~1").stdout
    assert text.splitlines()[1].split() == ["params.yaml", "train.learning_rate", "0.02", "0.01"]


def test_changed_and_changed_back_trains_nothing_again(finished: Repository) -> None:
    finished.set(train__learning_rate=0.01)
    assert "train" in ran(finished)
    finished.set(train__learning_rate=0.02)
    assert set(ran(finished)) <= {"check", "evaluate", "plot"}  # seconds each
    assert is_as_committed(finished)
    said = finished.run("dvc", "exp", "run", "-S", "train.learning_rate=0.01").stdout
    assert "Stage 'train' is cached - skipping run" in said


def test_training_that_cannot_begin_leaves_the_curves(finished: Repository) -> None:
    names = finished.path / "data/npy/class_names.json"
    content = names.read_bytes()
    names.unlink()
    done = finished.run("python", "-m", "stages.train", check=False)
    names.write_bytes(content)
    assert "class_names.json: no such file" in done.stderr
    assert ran(finished) == []
    assert is_as_committed(finished)


def test_a_refused_parameter_takes_nothing_away(finished: Repository) -> None:
    outputs = [finished.path / "models", finished.path / "plots"]
    before = {file: file.read_bytes() for out in outputs for file in out.rglob("*.*")}
    path = finished.path / "params.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("momentum:", "momentun:"))
    assert "train.momentun is not a known key; did you mean momentum?" in refused(finished)
    result = finished.run("dvc", "exp", "run", "-S", "train.learning_rate=-1", check=False)
    assert result.returncode != 0
    assert {file: file.read_bytes() for out in outputs for file in out.rglob("*.*")} == before
    path.write_text(whole)
    assert ran(finished) == []
    assert is_as_committed(finished)


def test_own_images_are_those_that_their_folder_holds_now(
    finished: Repository, tmp_path: Path
) -> None:
    own = tmp_path / "my images"
    shutil.copytree(finished.path / "data/raw", own)
    labels = own / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_text("<!DOCTYPE html>")
    finished.set(download__sources=[str(own)])
    assert f"{labels.name}: starts with the bytes 3c 21, expected 00 00" in refused(finished)
    labels.write_bytes(whole)
    finished.run("dvc", "repro", "decode")
    assert "up to date" in finished.run("dvc", "status", "decode").stdout
    labels.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert ran(finished)[:2] == ["download", "decode"]
    assert (finished.path / "data/raw/train-labels-idx1-ubyte").read_bytes() != whole


@pytest.mark.parametrize(
    "first", ["http://127.0.0.1:9/mnist", "package:jittor_offline", "no/folder"]
)
def test_the_first_source_is_a_folder_or_the_run_stops_in_words(
    finished: Repository, first: str
) -> None:
    finished.set(download__sources=[first])
    assert f"download.sources.0 is '{first}', expected a folder that is there" in refused(finished)
    assert (finished.path / "models/digits.safetensors").exists()


@pytest.mark.parametrize("first", [".", "data", "data/raw", "models", "../"])
def test_the_first_source_is_apart_from_what_stages_write(finished: Repository, first: str) -> None:
    """DVC refuses these before any stage runs, and names no key; who asks `check` learns it."""
    finished.set(download__sources=[first])
    said = finished.run("python", "-m", "stages.check", check=False).stderr
    assert f"download.sources.0 is '{first}', expected a folder apart from " in said


def test_a_pipe_among_the_own_images_holds_nobody_up(finished: Repository, tmp_path: Path) -> None:
    own = tmp_path / "own"  # beside the repository, which lies in the same folder
    own.mkdir()
    os.mkfifo(own / "train-labels-idx1-ubyte")
    finished.set(download__sources=[str(own)])
    assert "with train-labels-idx1-ubyte in it, expected nothing but files" in refused(finished)


def test_a_diverging_run_leaves_no_weights_and_says_how_the_old_come_back(
    finished: Repository,
) -> None:
    path = finished.path / "models/digits.safetensors"
    before = path.read_bytes()
    finished.set(train__learning_rate=1000)
    said = refused(finished)
    assert "error: the loss is" in said
    assert not path.exists()
    advice = re.search(r"come back by: (.*)", said)
    assert advice
    finished.run("sh", "-c", advice[1])
    assert path.read_bytes() == before
    finished.run("git", "checkout", "-q", "params.yaml")
    assert ran(finished) == []
    assert is_as_committed(finished)


def test_a_device_that_is_not_there_is_an_error(finished: Repository) -> None:
    from stages.shared.network import cuda

    if not cuda.driver().fault:
        pytest.skip("there is a GPU here")
    finished.set(train__device="cuda")
    assert "error: params.yaml: a device is 'cuda', but" in refused(finished)


def test_the_artifact_is_declared(finished: Repository) -> None:
    artifact = Repo(str(finished.path)).artifacts.read()["dvc.yaml"]["digits"]
    assert (artifact.path, artifact.type) == ("models/digits.safetensors", "model")
    assert artifact.desc
    assert artifact.labels
