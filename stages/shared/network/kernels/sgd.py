"""SGD whose step is one kernel over all parameters."""

from __future__ import annotations

from stages.shared.network.kernels import vector
from stages.shared.network.runtime import jt, nn


def _source(parameters: int) -> str:
    """A pass over each of the arrays; in: all parameters, gradients, momenta."""
    one = """
        #pragma omp for schedule(static) nowait
        for (long i = 0; i < in{p}->num; i++) {{
            float d = in{p}_p[i] * decay + in{g}_p[i];
            float v = momentum * in{v}_p[i] + d * (1 - dampening);
            out{v_out}_p[i] = v;
            out{p}_p[i] = in{p}_p[i] - (nesterov ? d + momentum * v : v) * rate;
        }}
    """
    passes = (
        one.format(p=i, g=i + parameters, v=i + 2 * parameters, v_out=i + parameters)
        for i in range(parameters)
    )
    return f"""
    const float rate = data["rate"], momentum = data["momentum"], decay = data["decay"];
    const float dampening = data["dampening"];
    const bool nesterov = data["nesterov"];
    #pragma omp parallel
    {{{"".join(passes)}}}
    """


class SGD(nn.SGD):
    """`jittor.nn.SGD`, with a kernel of its own on the CPU; CUDA takes Jittor's own way."""

    def step(self, loss: jt.Var | None = None, retain_graph: bool = False) -> None:
        """Go one step down the gradient of `loss`, or of what `backward` was called with."""
        arrays = [p for group in self.param_groups for p in group["params"]]
        if not vector.usable(*arrays):
            super().step(loss, retain_graph)
            return
        self.pre_step(loss, retain_graph)
        for group in self.param_groups:
            triples = zip(group["params"], group["grads"], group["values"], strict=True)
            chosen = [triple for triple in triples if not triple[0].is_stop_grad()]
            if not chosen:
                continue
            params, grads, values = zip(*chosen, strict=True)
            outputs = [*params, *values]
            keys = {"rate": "lr", "decay": "weight_decay"}
            names = ("rate", "momentum", "decay", "dampening", "nesterov")
            settings = {n: group.get(keys.get(n, n), getattr(self, keys.get(n, n))) for n in names}
            new = jt.code(
                [var.shape for var in outputs],
                [var.dtype for var in outputs],
                [*params, *grads, *values],
                cpu_src=_source(len(params)),
                data={name: float(value) for name, value in settings.items()},
            )
            for var, value in zip(outputs, new, strict=True):
                var.update(value)
        self.post_step()
