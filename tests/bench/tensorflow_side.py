"""The same networks in TensorFlow; needs the environment of requirements/tensorflow.txt.

One tf.function is a whole training step. Images are NHWC: on a CPU TensorFlow has no other gradient
of a convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tests.bench import worker
from tests.bench.architectures import EPS, MOMENTUM, NETWORKS, turned


class TensorFlow(worker.Framework):
    """One network and its optimizer."""

    def build(self, network: str, weights: str, xla: bool = False) -> None:
        """Make the network with the weights in the file `weights`; XLA compiles it if asked to."""
        self.network = network
        arrays = turned(network, dict(np.load(weights)))
        self.variables = {name: tf.Variable(array) for name, array in arrays.items()}
        self.trained = [name for name in arrays if "running" not in name]
        self.velocities = {n: tf.Variable(tf.zeros_like(self.variables[n])) for n in self.trained}
        self._compiled_step = tf.function(self._descend, jit_compile=xla)
        self._compiled_logits = tf.function(
            lambda x: self._logits(x, training=False), jit_compile=xla
        )

    def matrix_product(self, size: int, times: int) -> worker.Products:
        """Seconds that each of some products of square matrices took, and the cores they used."""
        a, b = tf.random.uniform((size, size)), tf.random.uniform((size, size))
        product = tf.function(tf.matmul)
        product(a, b).numpy()
        return worker.products(lambda: product(a, b).numpy(), times)

    def versions(self) -> dict[str, str]:
        return {"tensorflow": tf.__version__}

    def mode(self, training: bool) -> None:
        """Nothing: there is a function for each."""

    def infer(self, images: np.ndarray) -> np.ndarray:
        x = tf.constant(images.transpose(0, 2, 3, 1))
        result: np.ndarray = self._compiled_logits(x).numpy()
        return result

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        x = tf.constant(images.transpose(0, 2, 3, 1))
        return float(self._compiled_step(x, tf.constant(labels)))

    def _logits(self, x: Any, training: bool) -> Any:
        own = self.variables
        convolutions, linears = NETWORKS[self.network]
        for layer in convolutions:
            pads = [[0, 0], [layer.padding] * 2, [layer.padding] * 2, [0, 0]]
            y = tf.nn.conv2d(x, own[f"{layer.name}.weight"], layer.stride, pads)
            x = tf.nn.bias_add(y, own[f"{layer.name}.bias"])
            if layer.norm:
                x = self._norm(layer.norm, x, training)
            x = tf.nn.relu(x)
            if layer.pool:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.reshape(x, (x.shape[0], -1))
        for linear in linears:
            x = tf.matmul(x, own[f"{linear.name}.weight"]) + own[f"{linear.name}.bias"]
            x = tf.nn.relu(x) if linear.relu else x
        return x

    def _norm(self, name: str, x: Any, training: bool) -> Any:
        scale, shift, mean, var = (
            self.variables[f"{name}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if not training:
            y, *_ = tf.compat.v1.nn.fused_batch_norm(
                x, scale, shift, mean, var, epsilon=EPS, is_training=False
            )
            return y
        y, now_mean, now_var = tf.compat.v1.nn.fused_batch_norm(x, scale, shift, epsilon=EPS)
        mean.assign_add((now_mean - mean) * MOMENTUM)
        var.assign_add((now_var - var) * MOMENTUM)
        return y

    def _descend(self, x: Any, labels: Any) -> Any:
        own = [self.variables[name] for name in self.trained]
        with tf.GradientTape() as tape:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self._logits(x, True))
            loss = tf.reduce_mean(each)
        for name, grad in zip(self.trained, tape.gradient(loss, own), strict=True):
            weight, velocity = self.variables[name], self.velocities[name]
            velocity.assign(worker.MOMENTUM * velocity + grad + worker.WEIGHT_DECAY * weight)
            weight.assign_sub(worker.LEARNING_RATE * velocity)
        return loss


if __name__ == "__main__":
    worker.serve(TensorFlow())
