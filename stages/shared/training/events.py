"""What a training run tells of itself while it goes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A point of the training curves: means over the steps since the point before.

    Attributes:
        step: optimizer steps taken since the start.
        epoch: epochs finished before this step.
        loss: what was minimised, in nats: the cross-entropy, label smoothing included.
        accuracy: share of the images that were read correctly, 0..1.
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
        accuracy: share of the held-out images that were read correctly, 0..1.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float

    def beats(self, other: Epoch | None) -> bool:
        """Whether this epoch is better: by accuracy, and by loss where that is the same."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Resumed:
    """The run goes on from a checkpoint; the events of its finished epochs follow.

    Attributes:
        epoch: epochs that were finished.
    """

    epoch: int


Event = Step | Epoch | Resumed
