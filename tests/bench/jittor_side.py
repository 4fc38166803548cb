"""The project's networks, with its loss and optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.shared import fast, networks, runtime
from stages.shared.runtime import jt
from tests.bench import worker


class Jittor:
    """One network and its optimizer."""

    def build(self, network: str, weights: str) -> None:
        """Make the network and write its first weights to the file `weights`."""
        runtime.use("cpu", seed=0)
        self.network = networks.build(network, worker.IMAGE_SIZE, worker.CLASSES)
        arrays = {name: var.numpy() for name, var in self.network.state_dict().items()}
        np.savez(weights, **arrays)
        self.optimizer = fast.SGD(
            self.network.parameters(), worker.LEARNING_RATE, worker.MOMENTUM, worker.WEIGHT_DECAY
        )

    def logits(self, size: int) -> list[list[float]]:
        """Of one batch, in evaluation mode."""
        self.network.eval()
        with jt.no_grad():
            result: list[list[float]] = self.network(jt.array(worker.batch(size, 0)[0])).tolist()
        return result

    def losses(self, size: int, steps: int) -> list[float]:
        """Of some training steps."""
        self.network.train()
        return [self._step(*worker.batch(size, step)) for step in range(steps)]

    def train(self, size: int, steps: int) -> list[float]:
        """Seconds that each of some training steps took."""
        self.network.train()
        images, labels = worker.batch(size, 0)
        return worker.seconds(lambda: self._step(images, labels), steps)

    def evaluate(self, images: int, size: int) -> list[float]:
        """Seconds that logits for some images took, in batches."""
        self.network.eval()
        one = worker.batch(size, 0)[0]

        def work() -> None:
            with jt.no_grad():
                for _ in range(images // size):
                    self.network(jt.array(one)).numpy()

        return worker.seconds(work, 1)

    def _step(self, images: Any, labels: Any) -> float:
        loss = fast.cross_entropy(self.network(jt.array(images)), jt.array(labels))
        self.optimizer.step(loss)
        value = float(loss.item())
        jt.sync_all()
        return value

    def matrix_product(self, size: int, times: int) -> list[float]:
        """Seconds that each of some products of square matrices took."""
        a, b = jt.rand(size, size), jt.rand(size, size)
        return worker.seconds(lambda: jt.matmul(a, b).sync(True), times)

    def versions(self) -> dict[str, str]:
        return {"jittor": jt.__version__}


if __name__ == "__main__":
    side = Jittor()
    names = ("build", "logits", "losses", "train", "evaluate", "versions", "matrix_product")
    worker.serve({name: getattr(side, name) for name in names})
