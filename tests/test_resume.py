"""A run that was stopped goes on as if it had not been, whenever and however it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.conftest import Repository

pytestmark = pytest.mark.slow

MODEL = Path("models/digits.safetensors")
CHECKPOINTS = Path("models/checkpoints")
POINTS = Path("plots/training/plots/metrics/train/loss.tsv")
DIRECT = ("python", "-m", "stages.train")
DVC = ("dvc", "repro", "--single-item", "train")
# Dies where the second checkpoint is written and not yet in its place.
DYING = (
    "python",
    "-c",
    """
import os, runpy, signal
from pathlib import Path
put, calls = Path.replace, []
def replace(self, target):
    calls.append(target)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, target)
Path.replace = replace
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
""",
)
EPOCHS = 4
POINTS_AN_EPOCH = 8  # 900 images in batches of 64, a point each 2 steps


@pytest.fixture(scope="module")
def ready(make_repository: Callable[[], Repository]) -> Repository:
    """A repository that only has to train, with all that a checkpoint must carry in use."""
    repository = make_repository()
    repository.set(
        train__epochs=EPOCHS,
        train__nesterov=True,
        train__schedule="one_cycle",
        train__moving_average=0.9,
        train__augment__shift=1,
    )
    repository.commit("A run to be stopped")
    repository.run("dvc", "repro", "decode")
    return repository


@pytest.fixture(scope="module")
def make_copy(
    ready: Repository, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Repository]:
    """Makes copies: DVC would take a second run of one repository from its run cache."""

    def make() -> Repository:
        path = tmp_path_factory.mktemp("copy") / "repository"
        shutil.copytree(ready.path, path)
        return Repository(path)

    return make


@pytest.fixture(scope="module")
def whole(make_copy: Callable[[], Repository]) -> dict[str, bytes]:
    """What a run leaves that nobody stopped."""
    repository = make_copy()
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


def points(count: int) -> Callable[[Repository, int], bool]:
    """Whether the curve has as many points."""

    def reached(repository: Repository, _: int) -> bool:
        try:
            return len((repository.path / POINTS).read_bytes().splitlines()) > count
        except FileNotFoundError:
            return False

    return reached


def never(_: Repository, __: int) -> bool:
    return False


def the_model_is_there(repository: Repository, _: int) -> bool:
    return (repository.path / MODEL).exists()


def stop(
    repository: Repository,
    command: tuple[str, ...],
    number: signal.Signals,
    reached: Callable[[Repository, int], bool],
    delay: float,
) -> tuple[int, str]:
    """Start a command as a shell does, and signal all of it as a terminal does.

    Args:
        repository: where.
        command: what to start.
        number: the signal.
        reached: whether the moment has come; it is given the process's number as well.
        delay: seconds to wait from then on.

    Returns:
        The exit code and all that was printed.
    """
    process = subprocess.Popen(
        command,
        cwd=repository.path,
        env=repository.environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not reached(repository, process.pid):
        time.sleep(0.0005)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):  # it was over before the signal came
        os.killpg(process.pid, number)
    text, _ = process.communicate()
    return process.returncode, text


def moments() -> list[object]:
    """Eight moments at random, and the two at which a file is being put in its place."""
    drawn = random.Random(3)
    ways = [(DIRECT, signal.SIGINT), (DVC, signal.SIGINT), (DIRECT, signal.SIGKILL)]
    ways.append((DVC, signal.SIGKILL))
    chosen: list[object] = []
    for number in range(8):
        command, how = ways[number % 4]
        # One in each eighth of the run, so that they are spread over all of it.
        count = drawn.randrange(number * EPOCHS, (number + 1) * EPOCHS)
        name = f"{command[0]}-{how.name}-after-point-{count}"
        moment = (command, how, points(count), drawn.uniform(0, 0.005))
        chosen.append(pytest.param(*moment, id=name))
    for name, moment in {
        "in-a-checkpoint": (DYING, signal.SIGKILL, never, 0.0),
        "at-the-very-end": (DIRECT, signal.SIGKILL, the_model_is_there, 0.0),
    }.items():
        chosen.append(pytest.param(*moment, id=name))
    return chosen


@pytest.mark.parametrize(("command", "number", "reached", "delay"), moments())
def test_stopped_and_gone_on_is_the_same_to_the_byte(
    make_copy: Callable[[], Repository],
    whole: dict[str, bytes],
    command: tuple[str, ...],
    number: signal.Signals,
    reached: Callable[[Repository, int], bool],
    delay: float,
) -> None:
    repository = make_copy()
    code, text = stop(repository, command, number, reached, delay)
    kept = epochs_kept(repository)
    print(f"code {code}, {kept} epochs kept, said:\n{text}")
    if command is DYING:
        assert kept == 1
        assert list((repository.path / CHECKPOINTS).glob("*.part"))
    if number is signal.SIGINT and code != 0:  # 0 where the run was over before the signal
        assert text.splitlines().count("stopped") == 1
        assert "Traceback" not in text
    again = repository.run(*DVC).stdout
    assert again.count("going on from a checkpoint") == bool(kept)
    if kept:
        assert f"going on from a checkpoint, after epoch {kept}\n" in again
    assert results(repository) == whole
    assert not checkpoints(repository)


def test_stopped_twice(make_copy: Callable[[], Repository], whole: dict[str, bytes]) -> None:
    repository = make_copy()
    stop(repository, DVC, signal.SIGKILL, points(POINTS_AN_EPOCH + 2), 0)
    assert epochs_kept(repository) == 1
    stop(repository, DVC, signal.SIGINT, points(2 * POINTS_AN_EPOCH + 2), 0)
    assert epochs_kept(repository) == 2
    assert "going on from a checkpoint, after epoch 2\n" in repository.run(*DVC).stdout
    assert results(repository) == whole


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4])
def test_stopped_while_jittor_starts(make_copy: Callable[[], Repository], delay: float) -> None:
    repository = make_copy()

    def importing(_: Repository, process: int) -> bool:
        return "jit_utils_core" in Path(f"/proc/{process}/maps").read_text()

    code, text = stop(repository, DIRECT, signal.SIGINT, importing, delay)
    assert code == -signal.SIGINT
    assert text.splitlines()[-1] == "stopped"
    assert "Traceback" not in text
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
    make_copy: Callable[[], Repository], change: Callable[[Repository], None]
) -> None:
    repository = make_copy()
    stop(repository, DVC, signal.SIGKILL, points(POINTS_AN_EPOCH + 1), 0)
    [kept] = checkpoints(repository)
    before = kept.read_bytes()
    change(repository)
    text = repository.run(*DIRECT).stdout
    name = kept.relative_to(repository.path)
    assert f"left aside: {name}, of other parameters, data or code\n" in text
    assert "going on" not in text
    assert kept.read_bytes() == before
