"""The loop learns, says how it goes, stops when it breaks, and does the same again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages.shared import digits, params
from stages.shared.digits import Digits
from stages.shared.model_file import Description
from stages.shared.network import classifier, runtime
from stages.shared.network.classifier import Classifier
from stages.shared.params import Augment, Train
from stages.shared.training import loop
from stages.shared.training.checkpoints import CheckpointError, Checkpoints
from stages.shared.training.events import Epoch, Event, Resumed, Step
from stages.shared.training.loop import TrainingError
from stages.shared.training.state import State

pytestmark = pytest.mark.slow

SETTINGS = params.load(Path(__file__).parents[1] / "params.yaml").train.model_copy(
    update={"batch_size": 16, "validation_images": 20, "log_every": 3, "learning_rate": 0.01}
)


def stripes(count: int = 120) -> Digits:
    """Pictures of one bright row each; the label says which."""
    labels = np.resize(np.arange(3, dtype=np.uint8), count)
    images = np.random.default_rng(0).integers(0, 60, (count, 12, 12), dtype=np.uint8)
    images[np.arange(count), labels * 4] = 255
    return Digits(images, labels)


def begin(
    settings: Train, checkpoints: Checkpoints | None = None
) -> tuple[Classifier, Iterator[Event]]:
    data = stripes()
    runtime.use("cpu", settings.seed)
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    result = classifier.build(
        Description(
            network=settings.network,
            image_size=data.image_size,
            class_names=["a", "b", "c"],
            mean=0.2,
            std=0.3,
            held_out=len(held_out),
            params=settings.model_dump(),
            versions={},
        )
    )
    return result, loop.fit(result, data, held_out, settings, checkpoints)


def trained(
    settings: Train, checkpoints: Checkpoints | None = None
) -> tuple[Classifier, list[Event]]:
    result, events = begin(settings, checkpoints)
    return result, list(events)


def arrays(result: Classifier) -> dict[str, list[float]]:
    return {name: array.tolist() for name, array in classifier.state(result.network).items()}


def test_it_learns_and_tells() -> None:
    result, events = trained(SETTINGS.model_copy(update={"epochs": 4}))
    steps = [event for event in events if isinstance(event, Step)]
    epochs = [event for event in events if isinstance(event, Epoch)]
    # 100 images in batches of 16 are 7 steps: a point each 3 and one at the epoch's end.
    assert [step.step for step in steps[:4]] == [3, 6, 7, 9]
    assert [(epoch.epoch, epoch.step) for epoch in epochs] == [(1, 7), (2, 14), (3, 21), (4, 28)]
    assert steps[-1].loss < steps[0].loss
    assert all(0 <= step.accuracy <= 1 and step.images_per_second > 0 for step in steps)
    assert epochs[-1].accuracy == 1.0
    data = stripes()
    assert (result.logits(data.images).argmax(axis=1) == data.labels).mean() == 1.0


def test_validation_is_what_evaluation_says_of_the_same_images() -> None:
    result, events = trained(SETTINGS)
    data = stripes()
    held_out = digits.held_out(len(data), SETTINGS.validation_images, SETTINGS.seed)
    logits = result.logits(data.images[held_out]).astype(np.float64)
    own = logits[np.arange(len(held_out)), data.labels[held_out]]
    loss = (np.log(np.exp(logits).sum(axis=1)) - own).mean()
    last = events[-1]
    assert isinstance(last, Epoch)
    assert last.loss == pytest.approx(loss, rel=1e-4)
    assert last.accuracy == (logits.argmax(axis=1) == data.labels[held_out]).mean()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for run, seed in enumerate((5, 5, 6)):
        result, _ = trained(SETTINGS.model_copy(update={"seed": seed}))
        classifier.save(result, tmp_path / str(run))
        hashes.append(hashlib.sha256((tmp_path / str(run)).read_bytes()).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; a train.learning"):
        trained(SETTINGS.model_copy(update={"learning_rate": 1e30}))


def test_an_epoch_sees_the_last_smaller_batch_too() -> None:
    assert loop.steps_per_epoch(55_000, 64) == 860
    assert loop.steps_per_epoch(64, 64) == 1


LEVERS = SETTINGS.model_copy(
    update={
        "network": "compact",
        "epochs": 4,
        "schedule": "one_cycle",
        "nesterov": True,
        "label_smoothing": 0.1,
        "ema_decay": 0.9,
        "augment": Augment(shift=1, rotate=5, scale=0.1, shear=0.1),
        "learning_rate": 0.05,
    }
)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(tmp_path: Path, optimizer: str) -> None:
    settings = LEVERS.model_copy(update={"optimizer": optimizer, "learning_rate": 0.01})
    whole, told = trained(settings)
    checkpoints = Checkpoints(tmp_path, "run")
    _, events = begin(settings, checkpoints)
    for event in events:
        if isinstance(event, Step) and event.step == 18:  # in the third epoch
            break
    events.close()  # type: ignore[attr-defined]
    resumed, told_again = trained(settings, checkpoints)
    assert told_again[0] == Resumed(2)
    assert arrays(resumed) == arrays(whole)
    assert [e for e in told_again[1:] if isinstance(e, Epoch)] == [
        e for e in told if isinstance(e, Epoch)
    ]
    assert [e.loss for e in told_again[1:] if isinstance(e, Step)] == [
        e.loss for e in told if isinstance(e, Step)
    ]


def test_the_loss_still_falls_after_resuming(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 3, "learning_rate": 0.003})
    checkpoints = Checkpoints(tmp_path, "run")
    _, events = begin(settings, checkpoints)
    for event in events:
        if isinstance(event, Step) and event.epoch == 1:
            break
    _, told = trained(settings, checkpoints)
    epochs = [event.loss for event in told if isinstance(event, Epoch)]
    assert epochs[2] < epochs[1] < epochs[0]


@pytest.mark.parametrize(
    ("without", "rest", "said"),
    [
        ("network/bn.bias", {}, "its network: lacks bn.bias"),
        ("kept/fc1.bias", {}, "its best: lacks fc1.bias"),
        ("optimizer/values.0", {}, "its optimizer: lacks values.0"),
        ("", {"optimizer_steps": None}, "KeyError('optimizer_steps')"),
        ("", {"best": 3}, "TypeError("),
        ("", {"events": [["Nothing", {}]]}, "KeyError('Nothing')"),
    ],
)
def test_a_checkpoint_that_is_whole_and_of_another_network_is_set_aside(
    tmp_path: Path, without: str, rest: dict[str, object], said: str
) -> None:
    checkpoints = Checkpoints(tmp_path, "run")
    _, events = begin(SETTINGS.model_copy(update={"epochs": 2}), checkpoints)
    next(event for event in events if isinstance(event, Epoch))
    next(events)  # the checkpoint is there
    saved = checkpoints.load()
    assert saved
    arrays, progress = saved
    progress |= rest
    checkpoints.save(
        {name: array for name, array in arrays.items() if name != without},
        {key: value for key, value in progress.items() if value is not None},
    )
    with pytest.raises(CheckpointError) as caught:
        trained(SETTINGS, checkpoints)
    aside = checkpoints.path.with_suffix(".damaged")
    start = f"{checkpoints.path}: not a checkpoint of this network ({said}"
    assert str(caught.value).startswith(start)
    assert f"it is {aside} now, and the next run starts anew" in str(caught.value)
    assert aside.exists()
    assert not any(isinstance(event, Resumed) for event in trained(SETTINGS, checkpoints)[1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"network": "tutorial", "batch_size": 64, "optimizer": "adam"}, [(256, 9216)] * 3),
        ({"network": "compact", "batch_size": 127, "ema_decay": 0.9}, [(128, 800)] * 3),
        ({"network": "compact", "batch_size": 128}, []),
        ({"network": "compact", "batch_size": 9}, [(10, 128), (128, 800)] * 2),
    ],
)
def test_workers_divide_layers_that_are_larger_each_way_than_a_batch(
    changes: dict[str, object], expected: list[tuple[int, int]]
) -> None:
    settings = Train.model_validate({**SETTINGS.model_dump(), **changes})
    description = Description(
        network=settings.network,
        image_size=(28, 28),
        class_names=list("0123456789"),
        mean=0.2,
        std=0.3,
        held_out=0,
        params={},
        versions={},
    )
    state = State(classifier.build(description), settings, steps=1)
    # Weights, their averages, and what the optimizer remembers of them.
    assert sorted(tuple(var.shape) for var in state.divisible()) == sorted(expected)


def test_the_kept_epoch_is_the_best_or_the_last() -> None:
    # At this rate validation gets worse again.
    settings = SETTINGS.model_copy(update={"epochs": 5, "learning_rate": 0.3, "network": "compact"})
    data = stripes()
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    for keep in ("best", "last"):
        result, told = trained(settings.model_copy(update={"keep": keep}))
        epochs = [event for event in told if isinstance(event, Epoch)]
        right = result.logits(data.images[held_out]).argmax(axis=1) == data.labels[held_out]
        wanted = max(e.accuracy for e in epochs) if keep == "best" else epochs[-1].accuracy
        assert right.mean() == wanted


def test_patience_ends_a_run_that_gets_no_better() -> None:
    settings = SETTINGS.model_copy(update={"epochs": 50, "patience": 2, "network": "compact"})
    _, told = trained(settings)
    epochs = [event for event in told if isinstance(event, Epoch)]
    best: Epoch | None = None
    for event in epochs:
        best = event if event.beats(best) else best
    assert best
    assert epochs[-1].epoch == best.epoch + 2 < 50


@pytest.mark.parametrize(
    "lever",
    [
        {"ema_decay": 0.5},
        {"label_smoothing": 0.2},
        {"nesterov": True},
        {"schedule": "cosine"},
        {"augment": Augment(shift=2, rotate=0, scale=0, shear=0)},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ],
)
def test_every_lever_moves_the_weights(lever: dict[str, object]) -> None:
    settings = SETTINGS.model_copy(update={"network": "compact"})
    plain, _ = trained(settings)
    moved, _ = trained(settings.model_copy(update=lever))
    assert arrays(plain) != arrays(moved)


def test_smoothing_is_the_mean_with_uniform_labels() -> None:
    runtime.use("cpu")
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1], np.uint8)
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    smooth = np.full((5, 3), 0.3 / 3) + 0.7 * np.eye(3)[labels]
    expected = -(smooth * log_share).sum(axis=1).mean()
    assert loop._loss(runtime.jt.array(logits), labels, 0.3).item() == pytest.approx(expected)


def test_on_a_gpu_the_same_is_told_and_nothing_is_fetched_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sums of a GPU, on the CPU: only what the loop looks at says that there is one."""
    settings = SETTINGS.model_copy(update={"network": "compact", "epochs": 2})
    _, expected = trained(settings)
    fetched = 0

    class Window(loop._Window):
        def fetch(self) -> None:
            nonlocal fetched
            fetched += 1
            super().fetch()

    class OnGpu:
        flags = SimpleNamespace(use_cuda=1)

        def __getattr__(self, name: str) -> object:
            return getattr(runtime.jt, name)

    monkeypatch.setattr(loop, "jt", OnGpu())
    monkeypatch.setattr(loop, "_Window", Window)
    _, found = trained(settings)
    assert [without_speed(event) for event in found] == [without_speed(e) for e in expected]
    assert fetched == len(found)  # once for each point of the curves

    learner, events = begin(settings.model_copy(update={"learning_rate": 900.0}))
    learner.network.fc2.weight.update(learner.network.fc2.weight * float("inf"))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 3; a train.learning_rate"):
        list(events)


def without_speed(event: Event) -> object:
    return replace(event, images_per_second=0.0) if isinstance(event, Step) else event
