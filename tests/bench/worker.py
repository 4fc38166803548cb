"""One side of the benchmark: a process that answers requests, a line of JSON each.

It imports neither framework. A side hands over its actions; whatever else it prints goes to
standard error, since the answers have standard output for themselves.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Action = Callable[..., Any]

IMAGE_SIZE = (28, 28)
CLASSES = 10
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.002, 0.9, 1e-4


def batch(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 (size, 1, 28, 28), and labels, int32 (size,): noise around ten patterns."""
    patterns = np.random.default_rng(0).random((CLASSES, 1, *IMAGE_SIZE), np.float32)
    noise = np.random.default_rng((1, seed))
    labels = noise.integers(0, CLASSES, size).astype(np.int32)
    return patterns[labels] + noise.random((size, 1, *IMAGE_SIZE), np.float32), labels


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """How long each of some calls took."""
    result = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        result.append(time.perf_counter() - began)
    return result


class Products(NamedTuple):
    """Some products of large matrices."""

    seconds: list[float]  # of each
    cores: float  # that they kept busy: seconds of all threads by seconds of the clock


def products(work: Callable[[], object], times: int) -> Products:
    """Time some products."""
    clock, threads = time.perf_counter(), time.process_time()
    each = seconds(work, times)
    busy = time.process_time() - threads
    return Products(each, busy / (time.perf_counter() - clock))


class Framework(ABC):
    """One network and its optimizer in some framework; what `build` made is asked for the rest."""

    @abstractmethod
    def mode(self, training: bool) -> None:
        """Get ready for `step`, or else for `infer`."""

    @abstractmethod
    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Take a training step, whole, and give its loss."""

    @abstractmethod
    def infer(self, images: np.ndarray) -> np.ndarray:
        """The logits of some images."""

    def logits(self, size: int) -> list[list[float]]:
        """Of one batch."""
        self.mode(training=False)
        result: list[list[float]] = self.infer(batch(size, 0)[0]).tolist()
        return result

    def losses(self, size: int, steps: int) -> list[float]:
        """Of some training steps."""
        self.mode(training=True)
        return [self.step(*batch(size, number)) for number in range(steps)]

    def train(self, size: int, steps: int) -> list[float]:
        """Seconds that each of some training steps took."""
        self.mode(training=True)
        images, labels = batch(size, 0)
        return seconds(lambda: self.step(images, labels), steps)

    def evaluate(self, images: int, size: int) -> list[float]:
        """Seconds that logits for some images took, in batches."""
        self.mode(training=False)
        one = batch(size, 0)[0]
        return seconds(lambda: [self.infer(one) for _ in range(images // size)], 1)


ACTIONS = ("build", "logits", "losses", "train", "evaluate", "versions", "matrix_product")


def serve(side: Framework, *more: str) -> None:
    """Answer requests, `[action, arguments]`, until standard input ends.

    Args:
        side: has a method for each of `ACTIONS`.
        more: its other methods that can be asked for.
    """
    actions: dict[str, Action] = {name: getattr(side, name) for name in (*ACTIONS, *more)}
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(actions[name](**arguments)), file=answers)
