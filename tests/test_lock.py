"""`python -m tests.lock` tells results that are not from this code and these parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TOP, Repository

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(finished: Repository, tmp_path: Path) -> Repository:
    """A fresh clone: neither data nor weights are in it, nor in a cache."""
    finished.run("git", "clone", "-q", str(finished.path), str(tmp_path / "clone"))
    return Repository(tmp_path / "clone")


def lines(repository: Repository) -> list[str]:
    """What it complains of."""
    done = repository.run("python", str(TOP / "tests/lock.py"), check=False)
    found = done.stderr.splitlines()
    assert done.returncode == bool(found)
    assert all(line.endswith(": run `dvc repro` and commit what it leaves") for line in found)
    return [line.split(": run")[0] for line in found]


def test_the_committed_results_of_a_run_are_in_order(clone: Repository) -> None:
    assert not lines(clone)


def test_other_code_is_named_with_each_stage_that_it_is_of(clone: Repository) -> None:
    with (clone.path / "stages/shared/network/runtime.py").open("a") as file:
        file.write("# a comment\n")
    assert lines(clone) == [
        "error: train: stages/shared/network is modified",
        "error: evaluate: stages/shared/network is modified",
    ]


def test_another_parameter_command_or_result_is_named(clone: Repository) -> None:
    clone.set(plot__smoothing=3)
    path = clone.path / "dvc.yaml"
    path.write_text(path.read_text().replace("-m stages.decode", "-B -m stages.decode"))
    (clone.path / "plots/figures/loss.png").unlink()
    assert lines(clone) == [
        "error: decode: changed command",
        "error: plot: params.yaml: plot is modified",
        "error: plot: plots/figures is modified",
    ]
