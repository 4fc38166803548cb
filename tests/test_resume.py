"""A run that was stopped goes on as if it had not been, whenever and however it was stopped."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.conftest import Repository
from tests.moments import Moment, run_until

pytestmark = pytest.mark.slow

MODEL = Path("models/digits.safetensors")
CHECKPOINTS = Path("models/checkpoints")
POINTS = Path("plots/training/plots/metrics/train/loss.tsv")
DIRECT = ("python", "-m", "stages.train")
DVC = ("dvc", "repro", "--single-item", "train")
EPOCHS = 4
POINTS_PER_EPOCH = 8  # 900 images in batches of 64, a point each 2 steps


def point(count: int, delay: float = 0.0) -> Moment:
    """The moment at which this point of the curve is about to be written, the first being 1.

    A run that goes on writes the points before its checkpoint again, and they count.
    """
    return Moment("open", str(POINTS), count, delay)


@pytest.fixture(scope="session")
def ready(make_repository: Callable[[], Repository]) -> Repository:
    """A repository that only has to train, with all that a checkpoint must carry in use.

    It is there to be copied, as DVC would take a second run in it from its run cache.
    """
    repository = make_repository()
    repository.set(
        train__epochs=EPOCHS,
        train__nesterov=True,
        train__schedule="one_cycle",
        train__ema_decay=0.9,
        train__augment__shift=1,
    )
    repository.commit("A run to be stopped")
    repository.run("dvc", "repro", "decode")
    return repository


@pytest.fixture
def repository(ready: Repository, tmp_path: Path) -> Repository:
    """A copy that only has to train."""
    return ready.copy(tmp_path / "repository")


@pytest.fixture(scope="session")
def whole(ready: Repository, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run leaves that nobody stopped."""
    repository = ready.copy(tmp_path_factory.mktemp("whole") / "repository")
    assert "going on" not in repository.run(*DVC).stdout
    return results(repository)


def results(repository: Repository) -> dict[str, bytes]:
    """The weights and every file of the curves."""
    folder = repository.path / "plots/training"
    files = [repository.path / MODEL, *(path for path in folder.rglob("*") if path.is_file())]
    assert len(files) > 5
    return {str(path.relative_to(repository.path)): path.read_bytes() for path in files}


def checkpoints(repository: Repository) -> list[Path]:
    return sorted((repository.path / CHECKPOINTS).glob("*.safetensors"))


def epochs_kept(repository: Repository) -> int:
    """How many epochs are in the checkpoint; 0 where there is none."""
    for path in checkpoints(repository):
        with safe_open(path, framework="numpy") as file:
            return int(json.loads(file.metadata()["progress"])["epoch"])
    return 0


def stop(
    repository: Repository, command: tuple[str, ...], how: signal.Signals, moment: Moment
) -> str:
    """Start a command as a shell does, and at a moment signal all of it as a terminal does.

    Returns:
        All that was printed, by a run that this signal ended and that said no more than it should.
    """
    process = run_until(moment, repository, *command)
    os.killpg(process.pid, how)
    os.killpg(process.pid, signal.SIGCONT)
    text, _ = process.communicate()
    if command is DIRECT or how is signal.SIGKILL:
        assert process.returncode == -how
    assert process.returncode != 0
    if how is signal.SIGINT:
        assert text.splitlines().count("stopped") == 1
        assert "Traceback" not in text
    return text


def goes_on(repository: Repository, epochs: int) -> None:
    """Run once more, from the checkpoint of so many epochs (0 where there must be none)."""
    assert epochs_kept(repository) == epochs
    text = repository.run(*DVC).stdout
    assert text.count("going on from a checkpoint") == bool(epochs)
    if epochs:
        assert f"going on from a checkpoint, after epoch {epochs}\n" in text
    assert not checkpoints(repository)


def random_moments() -> list[object]:
    """Eight moments at random, one in each eighth of the run, with each way to end it twice."""
    drawn = random.Random(3)
    points = range(1, EPOCHS * POINTS_PER_EPOCH + 1)
    length = len(points) // 8
    ways = [(command, how) for how in (signal.SIGINT, signal.SIGKILL) for command in (DIRECT, DVC)]
    chosen: list[object] = []
    for eighth in range(8):
        command, how = ways[eighth % 4]
        count = drawn.choice(points[eighth * length : (eighth + 1) * length])
        name = f"{command[0]}-{how.name}-at-point-{count}"
        # Two points lie 7 ms from each other.
        chosen.append(pytest.param(command, how, count, drawn.uniform(0, 0.005), id=name))
    return chosen


@pytest.mark.parametrize(("command", "how", "count", "delay"), random_moments())
def test_stopped_and_gone_on_is_the_same_to_the_byte(
    repository: Repository,
    whole: dict[str, bytes],
    command: tuple[str, ...],
    how: signal.Signals,
    count: int,
    delay: float,
) -> None:
    stop(repository, command, how, point(count, delay))
    goes_on(repository, epochs_kept(repository))
    assert results(repository) == whole


def test_killed_while_a_checkpoint_is_put_in_its_place(
    repository: Repository, whole: dict[str, bytes]
) -> None:
    stop(repository, DIRECT, signal.SIGKILL, Moment("os.rename", ".safetensors", 2))
    [kept] = checkpoints(repository)
    assert len(list(kept.parent.iterdir())) == 2  # the second lies there under another name
    goes_on(repository, epochs=1)
    assert results(repository) == whole


def test_killed_between_the_model_and_the_end(
    repository: Repository, whole: dict[str, bytes]
) -> None:
    stop(repository, DIRECT, signal.SIGKILL, Moment("os.remove", ".safetensors"))
    assert (repository.path / MODEL).read_bytes() == whole[str(MODEL)]
    goes_on(repository, epochs=EPOCHS)
    assert results(repository) == whole


def test_stopped_twice(repository: Repository, whole: dict[str, bytes]) -> None:
    stop(repository, DVC, signal.SIGKILL, point(POINTS_PER_EPOCH + 3))
    assert epochs_kept(repository) == 1
    stop(repository, DVC, signal.SIGINT, point(2 * POINTS_PER_EPOCH + 3))
    goes_on(repository, epochs=2)
    assert results(repository) == whole


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4])
def test_stopped_while_jittor_starts(repository: Repository, delay: float) -> None:
    text = stop(repository, DIRECT, signal.SIGINT, Moment("import", "jit_utils_core", 1, delay))
    assert text.splitlines()[-1] == "stopped"
    assert "SIG" not in text


def other_params(repository: Repository) -> None:
    repository.set(train__weight_decay=0.001)


def other_data(repository: Repository) -> None:
    path = repository.path / "data/npy/train-images.npy"
    images = np.load(path)
    images[0, 0, 0] ^= 1
    path.unlink()
    np.save(path, images)


def other_code(repository: Repository) -> None:
    path = repository.path / "stages/shared/training/schedules.py"
    path.write_text(path.read_text().replace("_START = 0.04", "_START = 0.05"))


@pytest.mark.parametrize("change", [other_params, other_data, other_code])
def test_a_checkpoint_of_another_run_is_named_and_left(
    repository: Repository, change: Callable[[Repository], None]
) -> None:
    stop(repository, DVC, signal.SIGKILL, point(POINTS_PER_EPOCH + 2))
    [kept] = checkpoints(repository)
    before = kept.read_bytes()
    change(repository)
    text = repository.run(*DIRECT).stdout
    name = kept.relative_to(repository.path)
    assert f"not used: {name}, a checkpoint of other parameters, data or code\n" in text
    assert "going on" not in text
    assert kept.read_bytes() == before
