"""A small repository of its own for each test that runs the real pipeline.

The pipeline runs once in a session; each test gets a copy of what it left, to do with as it likes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.shared import idx, sources
from stages.shared.datasets import DATASETS

TOP = Path(__file__).parents[1]


class Repository:
    """A Git and DVC repository with the project's code and a small real sample of MNIST.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def environment(self) -> dict[str, str]:
        """The environment's programs first, and a wide terminal."""
        folder = Path(sys.executable).parent
        return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "COLUMNS": "200"}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would."""
        result = subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def copy(self, path: Path) -> Repository:
        """The repository once more: DVC's cache as well, but not its locks and other leftovers."""
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns("__pycache__", "tmp"))
        return Repository(path)

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def set(self, **values: object) -> None:
        """Change params.yaml, by dotted key with `__` for the dot."""
        path = self.path / "params.yaml"
        tree = yaml.safe_load(path.read_text())
        for key, value in values.items():
            *blocks, last = key.split("__")
            block = tree
            for name in blocks:
                block = block[name]
            block[last] = value
        path.write_text(yaml.safe_dump(tree, sort_keys=False))


def sample(folder: Path, train: int = 1000, test: int = 200) -> None:
    """Write the first images of the real MNIST as IDX files."""
    whole = folder.parent / "whole"
    sources.fetch(DATASETS["mnist"].files, ["package:jittor_offline"], whole)
    folder.mkdir()
    for path in whole.iterdir():
        count = train if path.name.startswith("train") else test
        idx.write(folder / path.name, np.ascontiguousarray(idx.read(path)[:count]))
    shutil.rmtree(whole)


def begin(path: Path, images: Path) -> Repository:
    """Make a repository with the project's code, committed, whose pipeline has not run yet.

    Args:
        path: an empty folder.
        images: a folder as `sample` writes it.
    """
    for name in ("stages", ".dvc", "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        if (TOP / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local")
            shutil.copytree(TOP / name, path / name, ignore=ignore)
        else:
            shutil.copy(TOP / name, path / name)
    for name in ("data", "models", "plots"):  # where DVC's files begin
        (path / name).mkdir()
        shutil.copy(TOP / name / ".gitignore", path / name)
    (path / "data/own").mkdir()  # Git knows no empty folder
    shutil.copy(TOP / "data/own/README.md", path / "data/own")
    repository = Repository(path)
    repository.set(
        download__dataset="own",
        download__sources=[str(images)],
        train__network="compact",
        train__validation_images=100,
        train__learning_rate=0.02,
        train__log_every=2,
    )
    repository.run("git", "init", "-q", "-b", "main")
    repository.run("git", "config", "user.name", "Test")
    repository.run("git", "config", "user.email", "test@example.com")
    repository.commit("Begin")
    return repository


@pytest.fixture(scope="session")
def make_repository(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], Repository]:
    """Makes repositories; each is committed and has not run yet."""
    images = tmp_path_factory.mktemp("sample") / "idx"
    sample(images)
    return lambda: begin(tmp_path_factory.mktemp("repository"), images)


@pytest.fixture(scope="session")
def finished_once(make_repository: Callable[[], Repository]) -> Repository:
    """The repository whose pipeline has run; for `finished` to copy, and for nobody to change."""
    repository = make_repository()
    repository.run("dvc", "repro")
    repository.commit("First run")
    return repository


@pytest.fixture
def finished(finished_once: Repository, tmp_path: Path) -> Repository:
    """A repository of the test's own whose pipeline has run and is committed."""
    return finished_once.copy(tmp_path / "finished")
