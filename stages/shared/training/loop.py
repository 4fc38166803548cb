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
        CheckpointError: what is kept there is of another network.
    """
    steps = settings.epochs * steps_per_epoch(len(data) - len(held_out), settings.batch_size)
    state = State(classifier, settings, steps)
    team = workers.current()
    saved = checkpoints.load() if checkpoints else None
    if checkpoints and saved:
        try:
            state.restore(*saved)
        # What some other program wrote there can be anything.
        except (UserError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise checkpoints.refused(error) from None
    saved = team.broadcast(saved)
    if saved:
        if not checkpoints:
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
    size, team = state.settings.batch_size, workers.current()
    parts = [team.part(min(size, len(order) - start)) for start in range(0, len(order), size)]
    batches = digits.batches(data, order, size, lambda images: team.part(images).chosen)
    state.classifier.network.train()
    threads, window = Threads(), _Window()
    with team.divided(state.divisible()):
        for part, (images, labels) in zip(parts, batches, strict=True):
            threads.settle()
            loss, logits = step(state, images, labels, part)
            window.add(loss, logits, labels, part.copies)
            window.check(state)
            if state.step % state.settings.log_every == 0:
                yield window.close(state)
                window = _Window()
    if window.images:
        yield window.close(state)


def step(state: State, images: Images, labels: Labels, part: Part) -> tuple[jt.Var, jt.Var]:
    """Describe one optimizer step to Jittor, which computes it when a number is asked for.

    Args:
        state: changed; its network is in training mode.
        images: uint8 (N, H, W), this worker's part of the batch.
        labels: uint8 (N,).
        part: which part it is.

    Returns:
        The mean loss of these images, float32 (1,), and the logits, float32 (N, classes).
    """
    settings, team = state.settings, workers.current()
    team.computed = part.computed
    state.optimizer.lr = schedules.learning_rate(
        settings.schedule, settings.learning_rate, state.step, state.steps
    )
    logits = state.classifier.network(_inputs(state, images, part))
    loss = _loss(logits, labels, settings.label_smoothing)
    state.optimizer.backward(loss if part.share == 1 else loss * part.share)
    team.sum_gradients(state.optimizer)
    state.optimizer.step()
    state.step += 1
    state.update_ema()
    return loss, logits


def _validate(state: State, batches: Batches) -> Epoch:
    """Score the held-out images."""
    network = state.scored
    network.eval()
    window = _Window()
    with jt.no_grad():
        for images, labels in batches:
            logits = network(state.classifier.normalised(state.classifier.pixels(images)))
            window.add(_loss(logits, labels, 0.0), logits, labels)
    losses, correct, count = window.over_workers()
    return Epoch(state.step, state.epoch + 1, losses / count, correct / count)


class _Window:
    """Sums over the steps between two `Step`s, or over the batches of a validation.

    On a GPU the numbers of each batch stay there until `fetch`: to ask for them in each step would
    make the card wait for the host, and the host for the card.

    Attributes:
        losses: the sum over images, in nats.
        correct: for how many images the likeliest class is the label.
        images: how many there were; also those that were not fetched yet.
    """

    def __init__(self) -> None:
        self.losses = 0.0
        self.correct = 0.0
        self.images = 0.0
        self.began = time.perf_counter()
        self._waiting: list[tuple[jt.Var, jt.Var, int, int]] = []

    def add(self, loss: jt.Var, logits: jt.Var, labels: Labels, copies: int = 1) -> None:
        """Take note of a batch.

        Args:
            loss: its mean.
            logits: float32 (N, classes).
            labels: (N,), of any integer type.
            copies: how many workers take note of the same.
        """
        self.images += len(labels) / copies
        if jt.flags.use_cuda:
            right = jt.argmax(logits, dim=1)[0] == jt.array(labels.astype(np.int32))
            self._waiting.append((loss, right.int32().sum(), len(labels), copies))
            jt.sync_all()  # the work begins, and nobody waits for its end
        else:
            self._take(loss.item(), _correct(logits, labels), len(labels), copies)

    def fetch(self) -> None:
        """Bring the sums up to date, in the order of the batches."""
        for loss, right, images, copies in self._waiting:
            self._take(loss.item(), right.item(), images, copies)
        self._waiting = []

    def over_workers(self) -> tuple[float, ...]:
        """The losses, the correct and the images of all workers."""
        self.fetch()
        return workers.current().sums(self.losses, self.correct, self.images)

    def _take(self, loss: float, correct: int, images: int, copies: int) -> None:
        self.losses += loss * images / copies
        self.correct += correct / copies

    def check(self, state: State) -> None:
        """Make sure that the losses that were fetched are numbers.

        Raises:
            TrainingError: they are not; on a GPU that may be some steps late.
        """
        if not math.isfinite(self.losses):
            raise TrainingError(
                f"the loss is {self.losses} at step {state.step};"
                f" a train.learning_rate below {state.settings.learning_rate} may help"
            )

    def close(self, state: State) -> Step:
        """The means over the images of all workers; the run takes note of them.

        Raises:
            TrainingError: see `check`.
        """
        losses, correct, images = self.over_workers()
        self.check(state)
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
