"""Softmax and cross-entropy: one kernel forward, one backward; they are in loss.h."""

from __future__ import annotations

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn


class _CrossEntropy(jt.Function):
    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.data = {"smoothing": smoothing}

    def execute(self, logits: jt.Var, labels: jt.Var) -> jt.Var:
        loss, probabilities = call.call(
            "loss",
            "kernels::CrossEntropy::forward(in0_shape0, in0_shape1,"
            ' data["smoothing"], in0_p, in1_p, out0_p, out1_p);',
            [logits, labels],
            [(1,), logits.shape],
            data=self.data,
        )
        self.saved = probabilities, labels
        return loss

    def grad(self, dloss: jt.Var) -> tuple[jt.Var, None]:
        probabilities, labels = self.saved
        (dlogits,) = call.call(
            "loss",
            "kernels::CrossEntropy::grad(in0_shape0, in0_shape1,"
            ' data["smoothing"], in0_p, in1_p, in2_p, out0_p);',
            [probabilities, labels, dloss],
            [probabilities.shape],
            data=self.data,
        )
        return dlogits, None


def cross_entropy(logits: jt.Var, labels: jt.Var, smoothing: float = 0.0) -> jt.Var:
    """Mean cross-entropy, as `jittor.nn.cross_entropy_loss` computes it, with smoothed labels.

    Smoothed as by Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016. CUDA, other
    types and shapes, and empty arrays fall back to Jittor's implementation.

    Args:
        logits: float32 (N, C).
        labels: int32 (N,), each from 0 to C - 1. An image with another is left out of the mean, as
            Jittor leaves it out.
        smoothing: share of each label that is spread over all classes alike, 0 to 1.

    Returns:
        float32 (1,), in nats.
    """
    shapes_agree = logits.ndim == 2 and list(labels.shape) == list(logits.shape[:1])
    if shapes_agree and call.usable(logits) and labels.dtype == "int32":
        return _CrossEntropy(smoothing)(logits, labels.stop_grad())
    loss = nn.cross_entropy_loss(logits, labels)
    if not smoothing:
        return loss
    return (1 - smoothing) * loss - smoothing * nn.log_softmax(logits, dim=1).mean()
