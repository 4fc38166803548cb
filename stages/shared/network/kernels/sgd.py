"""SGD whose step is one kernel over all parameters; it is in sgd.h."""

from __future__ import annotations

from functools import cache

from stages.shared.network.kernels import call
from stages.shared.network.runtime import jt, nn

_SETTINGS = ("rate", "momentum", "decay", "dampening", "nesterov")


@cache  # it is asked for at each step
def _line(parameters: int) -> str:
    """The call for arrays in this order: all parameters, all gradients, all velocities."""
    n = parameters
    arrays = ", ".join(
        f"{{in{i}->num, in{i}_p, in{i + n}_p, in{i + 2 * n}_p, out{i}_p, out{i + n}_p}}"
        for i in range(n)
    )
    settings = ", ".join(f'data["{name}"]' for name in _SETTINGS)
    return f"kernels::sgd({{{arrays}}}, {settings});"


class SGD(nn.SGD):
    """`jittor.nn.SGD`, with a kernel of this project on the CPU; CUDA falls back to Jittor's."""

    def step(self, loss: jt.Var | None = None, retain_graph: bool = False) -> None:
        """Go one step down the gradient of `loss`, or of what `backward` was called with."""
        arrays = [p for group in self.param_groups for p in group["params"]]
        if not call.usable(*arrays):
            super().step(loss, retain_graph)
            return
        self.pre_step(loss, retain_graph)
        for group in self.param_groups:
            triples = zip(group["params"], group["grads"], group["values"], strict=True)
            chosen = [triple for triple in triples if not triple[0].is_stop_grad()]
            if not chosen:
                continue
            params, grads, values = zip(*chosen, strict=True)
            changed = [*params, *values]
            keys = {"rate": "lr", "decay": "weight_decay"}
            settings = {
                n: group.get(keys.get(n, n), getattr(self, keys.get(n, n))) for n in _SETTINGS
            }
            new = call.call(
                "sgd",
                _line(len(params)),
                [*params, *grads, *values],
                [var.shape for var in changed],
                data={name: float(value) for name, value in settings.items()},
            )
            for var, value in zip(changed, new, strict=True):
                var.update(value)
        self.post_step()
