"""The loop learns, says how it goes, stops when it breaks, and does the same again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from stages.shared import digits, networks, params, runtime, training, weights
from stages.shared.digits import Digits
from stages.shared.params import Train
from stages.shared.training import Epoch, Step, TrainingError
from stages.shared.weights import Trained

SETTINGS = params.load(Path(__file__).parents[1] / "params.yaml").train.model_copy(
    update={"batch_size": 16, "validation_images": 20, "log_every": 3, "learning_rate": 0.01}
)


def stripes(count: int = 120) -> Digits:
    """Pictures of one bright row each; the label says which."""
    labels = np.arange(count, dtype=np.uint8) % 3
    images = np.random.default_rng(0).integers(0, 60, (count, 12, 12), dtype=np.uint8)
    images[np.arange(count), labels * 4] = 255
    return Digits(images, labels)


def trained(settings: Train) -> tuple[Trained, list[Step | Epoch]]:
    data = stripes()
    runtime.use("cpu", settings.seed)
    learn, validate = digits.split(len(data), settings.validation_images, settings.seed)
    network = networks.build("tutorial", data.image_size, 3)
    result = Trained(network, "tutorial", data.image_size, ["a", "b", "c"], 0.2, 0.3)
    return result, list(training.fit(result, data, learn, validate, settings))


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
    _, validate = digits.split(len(data), SETTINGS.validation_images, SETTINGS.seed)
    logits = result.logits(data.images[validate]).astype(np.float64)
    own = logits[np.arange(len(validate)), data.labels[validate]]
    loss = (np.log(np.exp(logits).sum(axis=1)) - own).mean()
    last = events[-1]
    assert isinstance(last, Epoch)
    assert last.loss == pytest.approx(loss, rel=1e-4)
    assert last.accuracy == (logits.argmax(axis=1) == data.labels[validate]).mean()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for run, seed in enumerate((5, 5, 6)):
        result, _ = trained(SETTINGS.model_copy(update={"seed": seed}))
        weights.save(result, tmp_path / str(run))
        hashes.append(hashlib.sha256((tmp_path / str(run)).read_bytes()).hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; a train.learning"):
        trained(SETTINGS.model_copy(update={"learning_rate": 1e30}))


def test_an_epoch_sees_the_last_smaller_batch_too() -> None:
    assert training.steps_an_epoch(55_000, 64) == 860
    assert training.steps_an_epoch(64, 64) == 1
