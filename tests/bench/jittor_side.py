"""The project's networks, with its loss and optimizer."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.shared import digits, params
from stages.shared.curves import Curves
from stages.shared.model_file import Description
from stages.shared.network import classifier, kernels, networks, runtime
from stages.shared.network.classifier import Classifier
from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt
from stages.shared.training import loop
from stages.shared.training.progress import Display
from tests.bench import worker

# What a kernel is, by a regular expression for the line that calls it or for Jittor's name of it.
_KERNELS = {
    r"kernels::(Conv|Winograd)<[^>]*>::forward": "convolution",
    r"kernels::(Conv|Winograd)<[^>]*>::grad": "convolution, gradients",
    r"kernels::ConvNorm<.*>::train": "convolution, BatchNorm, ReLU, pooling",
    r"kernels::ConvNorm<.*>::grad": "convolution, BatchNorm, ReLU, pooling, gradients",
    r"kernels::Linear<[^>]*>::forward": "linear",
    r"kernels::Linear<[^>]*>::grad": "linear, gradients",
    r"kernels::CrossEntropy::": "loss and optimizer",
    r"kernels::sgd\(": "loss and optimizer",
    "mkl_conv_backward_x": "convolution, gradient of the input",
    "mkl_conv_backward_w": "convolution, gradient of the weights",
    "mkl_conv": "convolution",
    "mkl_matmul": "linear and its gradients (one kernel for all three)",
    "reindex": "convolution with one channel, as loops",
    "reduce": "sums over arrays",
    "code": "pooling and its gradient",
    "": "element by element",
}


class Jittor(worker.Framework):
    """One network and its optimizer."""

    def build(self, network: str, weights: str, plain: bool = False) -> None:
        """Make the network and write its first weights to the file `weights`.

        Where `plain` is set, every kernel leaves its work to Jittor, here and from now on.
        """
        runtime.use("cpu", seed=0)
        if plain:
            call.usable = lambda *_: False
        self.network = networks.build(network, worker.IMAGE_SIZE, worker.CLASSES)
        arrays = {name: var.numpy() for name, var in self.network.state_dict().items()}
        np.savez(weights, **arrays)
        self.optimizer = kernels.SGD(
            self.network.parameters(), worker.LEARNING_RATE, worker.MOMENTUM, worker.WEIGHT_DECAY
        )

    def restore(self, weights: str) -> None:
        """Set the first weights again, as `build` wrote them, for another peer to compare with."""
        self.network.load_state_dict(dict(np.load(weights)))
        self.optimizer = kernels.SGD(
            self.network.parameters(), worker.LEARNING_RATE, worker.MOMENTUM, worker.WEIGHT_DECAY
        )

    def size(self) -> dict[str, int]:
        """Parameters, and the multiply-adds of one image: to evaluate it, and to train on it.

        Training has three products for each layer, but the first layer has no gradient of its
        input to compute.
        """
        whole = networks.size(self.network, worker.IMAGE_SIZE)
        first = networks.size(networks.Network(self.network.layers()[:1]), worker.IMAGE_SIZE)
        return {
            "parameters": whole.parameters,
            "evaluate": whole.multiply_adds,
            "train": 3 * whole.multiply_adds - first.multiply_adds,
        }

    def profile(self, size: int, steps: int) -> list[tuple[str, float]]:
        """Seconds of a training step by kind of kernel, by Jittor's profiler; the longest first."""
        self.network.train()
        images, labels = worker.batch(size, 0)
        self.step(images, labels)
        with jt.profile_scope() as report:
            for _ in range(steps):
                self.step(images, labels)
        names, rows = report[0], report[1:]
        name, total = names.index("Name"), names.index("TotalTime")
        seconds: dict[str, float] = defaultdict(float)
        for row in rows:
            kind = next(kind for line, kind in _KERNELS.items() if re.search(line, row[name]))
            seconds[kind] += float(row[total]) / 1e9 / steps
        return sorted(seconds.items(), key=lambda item: -item[1])

    def parts(self, size: int) -> dict[str, float]:
        """Seconds of a training step by what they go into; medians of 300 steps."""
        self.network.train()
        images, labels = worker.batch(size, 0)
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(300):
            began = time.perf_counter()
            given = jt.array(images).stop_grad(), jt.array(labels)
            fed = time.perf_counter()
            mean = kernels.cross_entropy(self.network(given[0]), given[1])
            self.optimizer.step(mean)
            described = time.perf_counter()
            mean.item()
            jt.sync_all()
            done = time.perf_counter()
            found["feeding"].append(fed - began)
            found["graph"].append(described - fed)
            found["rest"].append(done - described)
        result = {name: statistics.median(each) for name, each in found.items()}
        result["kernels"] = sum(seconds for _, seconds in self.profile(size, 100))
        result["rest"] = max(result["rest"] - result["kernels"], 0.0)
        return result

    def shares(self, folder: str, network: str, size: int, log_every: int) -> dict[str, Any]:
        """What feeding and logging take of an epoch on 20,000 real images: medians of seven."""
        os.chdir(folder)
        runtime.use("cpu", seed=0)
        recipe = {"network": network, "batch_size": size, "log_every": log_every}
        settings = params.load().train.model_copy(update=recipe)
        data = digits.load(Path("data/npy"), "train")
        data = digits.Digits(data.images[:20_500], data.labels[:20_500])
        held_out = digits.held_out(len(data), 500, seed=0)
        clock = _Clock()
        learner = _fresh(network, mean=0, std=1)
        object.__setattr__(learner, "pixels", clock.wrap("feeding", learner.pixels))  # it is frozen
        cut = digits.batches
        digits.batches = lambda *args, **named: clock.each("feeding", cut(*args, **named))
        steps = (len(data) - len(held_out)) // size
        with Display(Curves(Path("plots/training")), steps) as display:
            show = clock.wrap("logging", display.show)
            found: dict[str, list[float]] = defaultdict(list)
            for _ in range(8):
                clock.seconds.clear()
                began = time.perf_counter()
                for event in loop.fit(learner, data, held_out, settings):
                    show(event)
                whole = time.perf_counter() - began
                for name, seconds in clock.seconds.items():
                    found[name].append(seconds / whole)
        digits.batches = cut
        # Kernels are compiled in the first epoch.
        taken = {name: statistics.median(shares[1:]) for name, shares in found.items()}
        return {"network": network, "batch": size, "log_every": log_every, **taken}

    def accuracy(self, seed: int) -> float:
        """On 10,000 held-out images, after the four epochs of the recipe `fast`."""
        runtime.use("cpu", seed=seed)
        everything = params.load()
        recipe = {**everything.recipes["fast"]["train"], "seed": seed}
        data = digits.load(Path("data/npy"), "train")
        held_out = digits.held_out(len(data), 10_000, seed)
        learner = _fresh("compact", *digits.mean_and_std(data, held_out))
        settings = everything.train.model_copy(update=recipe)
        events = list(loop.fit(learner, data, held_out, settings))
        return events[-1].accuracy  # type: ignore[union-attr]

    def mode(self, training: bool) -> None:
        self.network.train() if training else self.network.eval()

    def infer(self, images: np.ndarray) -> np.ndarray:
        with jt.no_grad():
            result: np.ndarray = self.network(jt.array(images)).numpy()
        return result

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        mean = kernels.cross_entropy(self.network(jt.array(images).stop_grad()), jt.array(labels))
        self.optimizer.step(mean)
        value = float(mean.item())
        jt.sync_all()
        return value

    def matrix_product(self, size: int, times: int) -> worker.Products:
        """Seconds that each of some products of square matrices took, and the cores they used."""
        a, b = jt.rand(size, size), jt.rand(size, size)
        return worker.products(lambda: jt.matmul(a, b).sync(True), times)

    def versions(self) -> dict[str, str]:
        return {"jittor": jt.__version__}


def _fresh(network: str, mean: float, std: float) -> Classifier:
    """A classifier that has learned nothing yet."""
    return classifier.build(
        Description(
            network=network,
            image_size=worker.IMAGE_SIZE,
            class_names=["?"] * worker.CLASSES,
            mean=mean,
            std=std,
            held_out=0,
            params={},
            versions={},
        )
    )


class _Clock:
    """Adds up what calls take, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def wrap(self, name: str, work: Any) -> Any:
        """The same function, timed."""

        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            result = work(*args)
            self.seconds[name] += time.perf_counter() - began
            return result

        return timed

    def each(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """The same iterator, timed."""
        step = self.wrap(name, lambda: next(items, None))
        while (item := step()) is not None:
            yield item


if __name__ == "__main__":
    more = ("restore", "size", "profile", "parts", "shares", "accuracy")
    worker.serve(Jittor(), *more)
