"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.shared import digits
from stages.shared.digits import Digits, Indices
from stages.shared.errors import UserError
from stages.shared.params import Train
from stages.shared.runtime import jt, nn
from stages.shared.weights import Trained


class TrainingError(UserError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Step:
    """What the steps since the last one of these did, on average.

    Attributes:
        step: optimizer steps taken since the start.
        epoch: epochs finished before this step.
        loss: mean cross-entropy, in nats.
        accuracy: share of the images that were read right, 0..1.
        learning_rate: of the last of these steps.
        images_per_second: speed of these steps, waiting for data included.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class Epoch:
    """How an epoch ended.

    Attributes:
        step: optimizer steps taken since the start.
        epoch: epochs finished.
        loss: mean cross-entropy on the held-out images, in nats.
        accuracy: share of the held-out images that were read right, 0..1.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float


def steps_an_epoch(images: int, batch_size: int) -> int:
    """How many batches `images` fill; the last may be smaller."""
    return math.ceil(images / batch_size)


def fit(
    trained: Trained, data: Digits, training: Indices, validation: Indices, settings: Train
) -> Iterator[Step | Epoch]:
    """Train a network in place, and tell how it goes.

    Args:
        trained: the network; it ends in evaluation mode.
        data: images and labels.
        training: which of them to learn from.
        validation: which of them to score after each epoch.
        settings: the hyperparameters.

    Yields:
        A `Step` each `settings.log_every` steps and at an epoch's end, and an `Epoch` after it.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    optimizer = nn.SGD(
        trained.network.parameters(),
        settings.learning_rate,
        settings.momentum,
        settings.weight_decay,
    )
    step = 0
    for epoch in range(settings.epochs):
        trained.network.train()
        order = digits.shuffled(training, settings.seed, epoch)
        window = _Window()
        for images, labels in digits.batches(data, order, settings.batch_size):
            logits = trained.network(trained.inputs(images))
            targets = jt.array(labels.astype(np.int32))
            loss = nn.cross_entropy_loss(logits, targets)
            optimizer.step(loss)
            step += 1
            window.add(loss.item(), _right(logits, labels), len(labels))
            if not math.isfinite(window.last_loss):
                raise TrainingError(
                    f"the loss is {window.last_loss} at step {step};"
                    f" a train.learning_rate below {settings.learning_rate} may help"
                )
            if step % settings.log_every == 0:
                yield window.close(step, epoch, optimizer.lr)
                window = _Window()
        if window.images:
            yield window.close(step, epoch, optimizer.lr)
        yield _validate(trained, data, validation, step, epoch + 1)
    trained.network.eval()


class _Window:
    """Sums over the steps between two `Step`s."""

    def __init__(self) -> None:
        self.losses = 0.0
        self.last_loss = 0.0
        self.right = 0
        self.images = 0
        self.began = time.perf_counter()

    def add(self, loss: float, right: int, images: int) -> None:
        self.last_loss = loss
        self.losses += loss * images
        self.right += right
        self.images += images

    def close(self, step: int, epoch: int, learning_rate: float) -> Step:
        return Step(
            step,
            epoch,
            self.losses / self.images,
            self.right / self.images,
            learning_rate,
            self.images / (time.perf_counter() - self.began),
        )


def _right(logits: jt.Var, labels: digits.Labels) -> int:
    return int((logits.numpy().argmax(axis=1) == labels).sum())


def _validate(trained: Trained, data: Digits, validation: Indices, step: int, epoch: int) -> Epoch:
    losses, right = 0.0, 0
    trained.network.eval()
    with jt.no_grad():
        for images, labels in digits.batches(data, validation, size=500):
            logits = trained.network(trained.inputs(images))
            loss = nn.cross_entropy_loss(logits, jt.array(labels.astype(np.int32)))
            losses += loss.item() * len(labels)
            right += _right(logits, labels)
    return Epoch(step, epoch, losses / len(validation), right / len(validation))
