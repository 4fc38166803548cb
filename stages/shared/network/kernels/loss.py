"""Softmax and cross-entropy in one kernel each way; they are in loss.h."""

from __future__ import annotations

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn


class _CrossEntropy(jt.Function):
    def execute(self, logits: jt.Var, labels: jt.Var) -> jt.Var:
        loss, probabilities = call.call(
            "loss",
            "kernels::CrossEntropy::forward(in0_shape0, in0_shape1, in0_p, in1_p, out0_p, out1_p);",
            [logits, labels],
            [(1,), logits.shape],
        )
        self.saved = probabilities, labels
        return loss

    def grad(self, dloss: jt.Var) -> tuple[jt.Var, None]:
        probabilities, labels = self.saved
        (dlogits,) = call.call(
            "loss",
            "kernels::CrossEntropy::grad(in0_shape0, in0_shape1, in0_p, in1_p, in2_p, out0_p);",
            [probabilities, labels, dloss],
            [probabilities.shape],
        )
        return dlogits, None


def cross_entropy(logits: jt.Var, labels: jt.Var) -> jt.Var:
    """Mean cross-entropy, as `jittor.nn.cross_entropy_loss` computes it.

    CUDA, other types and shapes, and empty arrays take Jittor's own way.

    Args:
        logits: float32 (N, C).
        labels: int32 (N,), each from 0 to C - 1. An image with another is left out of the mean, as
            Jittor leaves it out.

    Returns:
        float32 (1,), in nats.
    """
    shapes_agree = logits.ndim == 2 and list(labels.shape) == list(logits.shape[:1])
    if not shapes_agree or not call.usable(logits) or labels.dtype != "int32":
        return nn.cross_entropy_loss(logits, labels)
    return _CrossEntropy()(logits, labels.stop_grad())
