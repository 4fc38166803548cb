"""Softmax and cross-entropy in one kernel each way."""

from __future__ import annotations

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt, nn

_FORWARD = """
    const int N = in0_shape0, C = in0_shape1;
    double total = 0;
    for (int n = 0; n < N; n++) {
        const float* x = in0_p + n * C;
        float *p = out1_p + n * C, most = x[0], sum = 0;
        for (int c = 1; c < C; c++) most = std::max(most, x[c]);
        for (int c = 0; c < C; c++) sum += p[c] = std::exp(x[c] - most);
        for (int c = 0; c < C; c++) p[c] /= sum;
        total += std::log(sum) + most - x[in1_p[n]];
    }
    out0_p[0] = total / N;
"""

_GRAD = """
    const int N = in0_shape0, C = in0_shape1;
    const float each = in2_p[0] / N;
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            out_p[n * C + c] = (in0_p[n * C + c] - (c == in1_p[n] ? 1.f : 0.f)) * each;
"""


class _CrossEntropy(jt.Function):
    def execute(self, logits: jt.Var, labels: jt.Var) -> jt.Var:
        loss, probabilities = jt.code(
            [(1,), logits.shape],
            ["float32", "float32"],
            [logits, labels],
            cpu_header="#include <algorithm>\n#include <cmath>\n",
            cpu_src=_FORWARD,
        )
        self.saved = probabilities, labels
        return loss

    def grad(self, dloss: jt.Var) -> tuple[jt.Var, None]:
        probabilities, labels = self.saved
        inputs = [probabilities, labels, dloss]
        return jt.code(probabilities.shape, "float32", inputs, cpu_src=_GRAD), None


def cross_entropy(logits: jt.Var, labels: jt.Var) -> jt.Var:
    """Mean cross-entropy, as `jittor.nn.cross_entropy_loss` computes it.

    Args:
        logits: float32 (N, C).
        labels: int32 (N,), each from 0 to C - 1.

    Returns:
        float32 (1,), in nats.
    """
    if not vector.usable(logits) or logits.ndim != 2 or labels.dtype != "int32":
        return nn.cross_entropy_loss(logits, labels)
    return _CrossEntropy()(logits, labels.stop_grad())
