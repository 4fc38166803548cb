"""The training loop: batches, steps, validation after each epoch, early stopping, resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np

from stages.shared import digits
from stages.shared.digits import Digits, Images, Indices, Labels
from stages.shared.network import kernels, workers
from stages.shared.network.classifier import Classifier
from stages.shared.network.runtime import jt
from stages.shared.network.workers import Part
from stages.shared.params import Train
from stages.shared.program import UserError
from stages.shared.training import augmentation, schedules
from stages.shared.training.checkpoints import Checkpoints
from stages.shared.training.events import Epoch, Event, Resumed, Step
from stages.shared.training.state import State
from stages.shared.training.threads import Threads

_VALIDATED_AT_ONCE = 500  # images; bounds the memory and has no influence on the result
_AUGMENT = 1  # sets what is drawn from (seed, step, this) apart from other uses of the seed

Batches = Iterator[tuple[Images, Labels]]


class TrainingError(UserError):
    """Training that cannot go on."""


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many batches `images` fill; the last may be smaller."""
    return math.ceil(images / batch_size)


def fit(
    classifier: Classifier,
    data: Digits,
    held_out: Indices,
    settings: Train,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Event]:
    """Train a network in place, and tell how it goes.

    Everything random in an epoch is drawn from the seed and the epoch's number, so that an epoch
    after a checkpoint is the epoch that would have been. Where several workers train one network,
    each calls this with the same arguments, and the events of all are the same.

    Args:
        classifier: with fresh weights; its network ends in evaluation mode, with the weights of
            the epoch that `settings.keep` names.
        data: images and labels.
        held_out: indices of the images to score after each epoch, ascending; the others are
            trained on.
        settings: the hyperparameters.
        checkpoints: where each epoch is kept, and where an earlier run may have stopped; that of
            the first worker counts.

    Yields:
        A `Step` every `settings.log_every` steps and at an epoch's end, and an `Epoch` after it.
        After a `Resumed` come the events of the epochs before, as they were.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    steps = settings.epochs * steps_per_epoch(len(data) - len(held_out), settings.batch_size)
    state = State(classifier, settings, steps)
    team = workers.current()
    saved = team.broadcast(checkpoints.load() if checkpoints else None)
    if saved:
        state.restore(*saved)
        yield Resumed(state.epoch)
        yield from state.events
    while state.epoch < settings.epochs and not state.is_stale:
        order = digits.shuffled(len(data), held_out, settings.seed, state.epoch)
        yield from _train(state, data, order)
        mine = held_out[team.slice(len(held_out))]
        result = _validate(state, digits.batches(data, mine, _VALIDATED_AT_ONCE))
        state.end_epoch(result)
        yield result
        if checkpoints:
            checkpoints.save(*state.save())
    state.end()


def _train(state: State, data: Digits, order: Indices) -> Iterator[Step]:
    """Run the optimizer steps of one epoch, on this worker's part of each batch."""
    settings, network, team = state.settings, state.classifier.network, workers.current()
    size = settings.batch_size
    parts = [team.part(min(size, len(order) - start)) for start in range(0, len(order), size)]
    batches = digits.batches(data, order, size, lambda images: team.part(images).chosen)
    network.train()
    threads, window = Threads(), _Window()
    for part, (images, labels) in zip(parts, batches, strict=True):
        threads.settle()
        state.optimizer.lr = schedules.learning_rate(
            settings.schedule, settings.learning_rate, state.step, state.steps
        )
        logits = network(_inputs(state, images, part))
        loss = _loss(logits, labels, settings.label_smoothing)
        state.optimizer.backward(loss if part.share == 1 else loss * part.share)
        team.sum_gradients(state.optimizer)
        state.optimizer.step()
        state.step += 1
        state.update_ema()
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {state.step};"
                f" a train.learning_rate below {settings.learning_rate} may help"
            )
        window.add(value, _correct(logits, labels) / part.copies, len(labels) / part.copies)
        if state.step % settings.log_every == 0:
            yield window.close(state)
            window = _Window()
    if window.images:
        yield window.close(state)


def _validate(state: State, batches: Batches) -> Epoch:
    """Score the held-out images."""
    network = state.scored
    network.eval()
    losses, correct, count = 0.0, 0.0, 0.0
    with jt.no_grad():
        for images, labels in batches:
            logits = network(state.classifier.normalised(state.classifier.pixels(images)))
            losses += _loss(logits, labels, 0.0).item() * len(labels)
            correct += _correct(logits, labels)
            count += len(labels)
    losses, correct, count = workers.current().sums(losses, correct, count)
    return Epoch(state.step, state.epoch + 1, losses / count, correct / count)


class _Window:
    """Sums over the steps between two `Step`s."""

    def __init__(self) -> None:
        self.losses = 0.0
        self.correct = 0.0
        self.images = 0.0
        self.began = time.perf_counter()

    def add(self, loss: float, correct: float, images: float) -> None:
        self.losses += loss * images
        self.correct += correct
        self.images += images

    def close(self, state: State) -> Step:
        """The means over the images of all workers; the run takes note of them."""
        losses, correct, images = workers.current().sums(self.losses, self.correct, self.images)
        event = Step(
            state.step,
            state.epoch,
            losses / images,
            correct / images,
            state.optimizer.lr,
            images / (time.perf_counter() - self.began),
        )
        state.events.append(event)
        return event


def _inputs(state: State, images: Images, part: Part) -> jt.Var:
    """What the network is given: changed at random if the settings say so, and normalised."""
    pixels = state.classifier.pixels(images)
    settings = state.settings
    if settings.augment.any():
        seed = (settings.seed, state.step, _AUGMENT)
        size = state.classifier.description.image_size
        # Drawn for the whole batch, so that an image is changed alike by any number of workers.
        maps = augmentation.matrices(settings.augment, part.of, size, seed)
        pixels = augmentation.warp(pixels, maps[part.chosen])
    # Nobody asks for the gradient of the images, and so the first layer does not compute it.
    return state.classifier.normalised(pixels).stop_grad()


def _loss(logits: jt.Var, labels: Labels, smoothing: float) -> jt.Var:
    """Mean cross-entropy of a batch; labels of any integer type."""
    return kernels.cross_entropy(logits, jt.array(labels.astype(np.int32)), smoothing)


def _correct(logits: jt.Var, labels: Labels) -> int:
    """For how many images the likeliest class is the label."""
    return int((logits.numpy().argmax(axis=1) == labels).sum())
