"""The training loop: steps, schedule, averaged weights, early stopping, resuming."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from stages.shared import digits
from stages.shared.digits import Digits, Images, Indices, Labels
from stages.shared.network import classifier as weights
from stages.shared.network import kernels as fast
from stages.shared.network import networks
from stages.shared.network.classifier import Trained
from stages.shared.network.runtime import jt, nn
from stages.shared.params import Train
from stages.shared.program import UserError
from stages.shared.training import augmentation, schedules
from stages.shared.training.checkpoints import Arrays, Checkpoints


class TrainingError(UserError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Step:
    """What the steps since the last one of these did, on average.

    Attributes:
        step: optimizer steps taken since the start.
        epoch: epochs finished before this step.
        loss: what was minimised, in nats: the cross-entropy, label smoothing included.
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

    def beats(self, other: Epoch | None) -> bool:
        """Whether this epoch is better: by accuracy, and by loss where that is the same."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


_Event = TypeVar("_Event", Step, Epoch)

# What is drawn from (seed, step) for the changes of the images.
_AUGMENT = 1


@dataclass(frozen=True)
class Resumed:
    """The run goes on from a checkpoint; its earlier events follow.

    Attributes:
        epoch: epochs that were finished.
    """

    epoch: int


def steps_an_epoch(images: int, batch_size: int) -> int:
    """How many batches `images` fill; the last may be smaller."""
    return math.ceil(images / batch_size)


def fit(
    trained: Trained,
    data: Digits,
    held_out: Indices,
    settings: Train,
    checkpoints: Checkpoints | None = None,
) -> Iterator[Step | Epoch | Resumed]:
    """Train a network in place, and tell how it goes.

    Everything random in an epoch is drawn from the seed and the epoch's number, so that an epoch
    after a checkpoint is the epoch that would have been.

    Args:
        trained: the network, with fresh weights; it ends in evaluation mode, with the weights of
            the epoch that `settings.keep` names.
        data: images and labels.
        held_out: which of them to score after each epoch, ascending; the others are learned from.
        settings: the hyperparameters.
        checkpoints: where each epoch is kept, and where an earlier run may have stopped.

    Yields:
        A `Step` each `settings.log_every` steps and at an epoch's end, and an `Epoch` after it.
        After a `Resumed` come the events of the epochs before, as they were.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    learned = len(data) - len(held_out)
    run = _Run(trained, settings, steps_an_epoch(learned, settings.batch_size))
    saved = checkpoints.load() if checkpoints else None
    if saved:
        run.restore(*saved)
        yield Resumed(run.epoch)
        yield from run.events
    while run.epoch < settings.epochs and not run.is_stale:
        order = digits.shuffled(len(data), held_out, settings.seed, run.epoch)
        batches = digits.batches(data, order, settings.batch_size)
        yield from run.train(batches)
        yield run.validate(digits.batches(data, held_out, size=500))
        if checkpoints:
            checkpoints.save(*run.state())
    run.finish()


class _Run:
    """The state of a run between two steps."""

    def __init__(self, trained: Trained, settings: Train, steps_an_epoch: int) -> None:
        self.trained = trained
        self.settings = settings
        self.steps = steps_an_epoch * settings.epochs
        self.step = 0
        self.epoch = 0
        self.events: list[Step | Epoch] = []
        self.best: Epoch | None = None
        self.best_arrays: Arrays = {}
        self.optimizer = _optimizer(trained.network, settings)
        self.average: nn.Module | None = None
        if settings.moving_average:
            self.average = networks.build(trained.name, trained.image_size, len(trained.classes))
            weights.put(self.average, weights.arrays_of(trained.network), "the average")

    @property
    def is_stale(self) -> bool:
        """Whether validation has not got better for as long as the settings allow."""
        patience = self.settings.patience
        return bool(patience and self.best and self.epoch - self.best.epoch >= patience)

    @property
    def usable(self) -> nn.Module:
        """The network whose weights count: the average, where there is one."""
        return self.average or self.trained.network

    def train(self, batches: Iterator[tuple[Images, Labels]]) -> Iterator[Step]:
        """Run an epoch's steps."""
        settings = self.settings
        # For dropout; the other generators take the seed and the epoch where they are used.
        jt.set_seed(_mix(settings.seed, self.epoch))
        self.trained.network.train()
        window = _Window()
        for images, labels in batches:
            self.optimizer.lr = schedules.learning_rate(
                settings.schedule, settings.learning_rate, self.step, self.steps
            )
            logits = self.trained.network(self._inputs(images))
            loss = _loss(logits, labels, settings.label_smoothing)
            self.optimizer.step(loss)
            self.step += 1
            if self.average:
                self._follow()
            window.add(loss.item(), _right(logits, labels), len(labels))
            if not math.isfinite(window.last_loss):
                raise TrainingError(
                    f"the loss is {window.last_loss} at step {self.step};"
                    f" a train.learning_rate below {settings.learning_rate} may help"
                )
            if self.step % settings.log_every == 0:
                yield self._record(window.close(self.step, self.epoch, self.optimizer.lr))
                window = _Window()
        if window.images:
            yield self._record(window.close(self.step, self.epoch, self.optimizer.lr))

    def validate(self, batches: Iterator[tuple[Images, Labels]]) -> Epoch:
        """Score the held-out images, and keep the weights if they are the best so far."""
        network = self.usable
        network.eval()
        losses, right, count = 0.0, 0, 0
        with jt.no_grad():
            for images, labels in batches:
                logits = network(self.trained.normalised(self.trained.pixels(images)))
                losses += _loss(logits, labels, 0.0).item() * len(labels)
                right += _right(logits, labels)
                count += len(labels)
        self.epoch += 1
        result = Epoch(self.step, self.epoch, losses / count, right / count)
        self._record(result)
        if self.settings.keep == "last" or result.beats(self.best):
            self.best_arrays = weights.arrays_of(network)
        if result.beats(self.best):
            self.best = result
        return result

    def finish(self) -> None:
        """Put the weights to keep into the network."""
        weights.put(self.trained.network, self.best_arrays, "the run")
        self.trained.network.eval()

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """All that `restore` needs."""
        arrays = {
            **_prefixed("network", weights.arrays_of(self.trained.network)),
            **_prefixed("optimizer", {n: v.numpy() for n, v in self._memory().items()}),
            **_prefixed("average", weights.arrays_of(self.average) if self.average else {}),
            **_prefixed("best", self.best_arrays),
        }
        progress = {
            "step": self.step,
            "epoch": self.epoch,
            "optimizer_steps": self.optimizer.n_step,
            "best": self.best and asdict(self.best),
            "events": [[type(event).__name__, asdict(event)] for event in self.events],
        }
        return arrays, progress

    def restore(self, arrays: Arrays, progress: dict[str, Any]) -> None:
        """Take up the state of an earlier run."""
        weights.put(self.trained.network, _without("network", arrays), "the checkpoint")
        if self.average:
            weights.put(self.average, _without("average", arrays), "the checkpoint")
        self.best_arrays = _without("best", arrays)
        # The momenta alone: to load Jittor's whole optimizer state would stop the gradients of
        # the parameters, which it holds as well.
        memory = self._memory()
        for name, array in _without("optimizer", arrays).items():
            memory[name].update(jt.array(array))
        self.optimizer.n_step = progress["optimizer_steps"]
        self.step, self.epoch = progress["step"], progress["epoch"]
        self.best = Epoch(**progress["best"])
        kinds = {"Step": Step, "Epoch": Epoch}
        self.events = [kinds[kind](**values) for kind, values in progress["events"]]

    def _inputs(self, images: Images) -> jt.Var:
        pixels = self.trained.pixels(images)
        augment = self.settings.augment
        if augment.any():
            seed = (self.settings.seed, self.step, _AUGMENT)
            maps = augmentation.matrices(augment, len(images), self.trained.image_size, seed)
            pixels = augmentation.warp(pixels, maps)
        return self.trained.normalised(pixels)

    def _follow(self) -> None:
        """Move the average towards the network; faster in the first steps, when it is far off."""
        assert self.average
        keep = min(self.settings.moving_average, self.step / (self.step + 9))
        own = self.trained.network.state_dict().values()
        fast.update_ema(list(self.average.state_dict().values()), list(own), keep)

    def _memory(self) -> dict[str, jt.Var]:
        """What the optimizer remembers of each parameter, by kind and number."""
        group = self.optimizer.param_groups[0]
        kinds = [kind for kind in ("values", "m") if kind in group]
        return {f"{kind}.{n}": var for kind in kinds for n, var in enumerate(group[kind])}

    def _record(self, event: _Event) -> _Event:
        self.events.append(event)
        return event


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


def _optimizer(network: nn.Module, settings: Train) -> Any:
    """Jittor's optimizer of that name."""
    rate, decay = settings.learning_rate, settings.weight_decay
    parameters = network.parameters()
    if settings.optimizer == "sgd":
        return fast.SGD(parameters, rate, settings.momentum, decay, nesterov=settings.nesterov)
    kind = nn.Adam if settings.optimizer == "adam" else nn.AdamW
    return kind(parameters, rate, weight_decay=decay)


def _loss(logits: jt.Var, labels: Labels, smoothing: float) -> jt.Var:
    """Mean cross-entropy, with labels smoothed after Szegedy et al., "Rethinking the Inception
    Architecture", CVPR 2016: a share of each goes to all classes alike.
    """
    targets = jt.array(labels.astype(np.int32))
    loss = fast.cross_entropy(logits, targets)
    if smoothing:
        uniform = -nn.log_softmax(logits, dim=1).mean()
        loss = (1 - smoothing) * loss + smoothing * uniform
    return loss


def _right(logits: jt.Var, labels: Labels) -> int:
    return int((logits.numpy().argmax(axis=1) == labels).sum())


def _mix(seed: int, epoch: int) -> int:
    """One seed for an epoch; Jittor takes a single 31-bit number."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _without(prefix: str, arrays: Arrays) -> Arrays:
    start = prefix + "/"
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
