"""The same networks in JAX; needs the environment of requirements/jax.txt.

One compiled function is a whole training step, with its arrays donated. Images are NHWC, which
XLA's convolutions for a CPU want.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.bench import worker
from tests.bench.architectures import EPS, MOMENTUM, NETWORKS, Conv, turned

Arrays = dict[str, Any]


def convolve(arrays: Arrays, layer: Conv, x: Any) -> Any:
    """A convolution of NHWC images by HWIO weights."""
    y = lax.conv_general_dilated(
        x,
        arrays[f"{layer.name}.weight"],
        (layer.stride, layer.stride),
        [(layer.padding, layer.padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + arrays[f"{layer.name}.bias"]


def normalise(weights: Arrays, running: Arrays, name: str, x: Any, training: bool) -> Any:
    """BatchNorm; in training it returns the statistics to keep, too."""
    if training:
        mean = x.mean((0, 1, 2))
        var = jnp.maximum((x * x).mean((0, 1, 2)) - mean * mean, 0)
        new = {f"{name}.running_mean": mean, f"{name}.running_var": var}
        kept = {key: running[key] + (value - running[key]) * MOMENTUM for key, value in new.items()}
    else:
        mean, var, kept = running[f"{name}.running_mean"], running[f"{name}.running_var"], {}
    scale = weights[f"{name}.weight"] * lax.rsqrt(var + EPS)
    return x * scale + (weights[f"{name}.bias"] - mean * scale), kept


def logits_of(
    network: str, weights: Arrays, running: Arrays, x: Any, training: bool
) -> tuple[Any, Arrays]:
    """Logits of float32 (N, 28, 28, 1), and the running statistics after them."""
    convolutions, linears = NETWORKS[network]
    kept = dict(running)
    for layer in convolutions:
        x = convolve(weights, layer, x)
        if layer.norm:
            x, new = normalise(weights, running, layer.norm, x, training)
            kept.update(new)
        x = jax.nn.relu(x)
        if layer.pool:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(x.shape[0], -1)
    for linear in linears:
        x = x @ weights[f"{linear.name}.weight"] + weights[f"{linear.name}.bias"]
        x = jax.nn.relu(x) if linear.relu else x
    return x, kept


class Jax(worker.Framework):
    """One network and its optimizer."""

    def build(self, network: str, weights: str) -> None:
        """Make the network with the weights in the file `weights`."""
        arrays = turned(network, dict(np.load(weights)))
        self.running = {n: jnp.asarray(a) for n, a in arrays.items() if "running" in n}
        self.weights = {n: jnp.asarray(a) for n, a in arrays.items() if "running" not in n}
        self.velocities = {name: jnp.zeros_like(a) for name, a in self.weights.items()}

        def loss_of(w: Arrays, running: Arrays, x: Any, labels: Any) -> tuple[Any, Arrays]:
            logits, kept = logits_of(network, w, running, x, training=True)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
            return -picked.mean(), kept

        def step(w: Arrays, v: Arrays, running: Arrays, x: Any, labels: Any) -> Any:
            (loss, kept), grads = jax.value_and_grad(loss_of, has_aux=True)(w, running, x, labels)
            v = {n: worker.MOMENTUM * v[n] + grads[n] + worker.WEIGHT_DECAY * w[n] for n in w}
            return loss, {n: w[n] - worker.LEARNING_RATE * v[n] for n in w}, v, kept

        self._step = jax.jit(step, donate_argnums=(0, 1, 2))
        self._infer = jax.jit(lambda w, running, x: logits_of(network, w, running, x, False)[0])

    def matrix_product(self, size: int, times: int) -> worker.Products:
        """Seconds that each of some products of square matrices took, and the cores they used."""
        a, b = (jnp.asarray(m) for m in np.random.default_rng(0).random((2, size, size), "float32"))
        product = jax.jit(jnp.matmul)
        product(a, b).block_until_ready()
        return worker.products(lambda: product(a, b).block_until_ready(), times)

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__}

    def mode(self, training: bool) -> None:
        """Nothing: there is a function for each."""

    def infer(self, images: np.ndarray) -> np.ndarray:
        x = images.transpose(0, 2, 3, 1)
        return np.asarray(self._infer(self.weights, self.running, x))

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        loss, self.weights, self.velocities, self.running = self._step(
            self.weights, self.velocities, self.running, images.transpose(0, 2, 3, 1), labels
        )
        return float(loss)


if __name__ == "__main__":
    worker.serve(Jax())
