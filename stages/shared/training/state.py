"""The state of a training run between two epochs, and how it is kept and taken up again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stages.shared import model_file
from stages.shared.model_file import Arrays
from stages.shared.network import classifier as classifiers
from stages.shared.network import kernels
from stages.shared.network.classifier import Classifier
from stages.shared.network.kernels import Linear
from stages.shared.network.networks import Network
from stages.shared.network.runtime import jt, nn
from stages.shared.params import Train
from stages.shared.training.events import Epoch, Step


class State:
    """A run: the network, the optimizer, the moving average, and what has happened so far.

    Args:
        classifier: with fresh weights; it is trained in place.
        settings: the hyperparameters.
        steps: optimizer steps of the whole run.

    Attributes:
        step: optimizer steps taken.
        epoch: epochs finished.
        events: every `Step` and `Epoch` of the finished epochs.
        best: the best of these epochs.
        kept: the weights of the epoch that `settings.keep` names.
        ema: the network with averaged weights; None where there is no average.
    """

    def __init__(self, classifier: Classifier, settings: Train, steps: int) -> None:
        self.classifier = classifier
        self.settings = settings
        self.steps = steps
        self.step = 0
        self.epoch = 0
        self.events: list[Step | Epoch] = []
        self.best: Epoch | None = None
        self.kept: Arrays = {}
        self.optimizer = _optimizer(classifier.network, settings)
        self.ema: Network | None = None
        if settings.ema_decay:
            self.ema = classifiers.build(classifier.description).network
            classifiers.load_state(self.ema, classifiers.state(classifier.network), "the average")

    @property
    def is_stale(self) -> bool:
        """Whether validation has not become better for `settings.patience` epochs."""
        patience = self.settings.patience
        return bool(patience and self.best and self.epoch - self.best.epoch >= patience)

    @property
    def scored(self) -> Network:
        """The network that is validated and kept: the moving average, where there is one."""
        return self.ema or self.classifier.network

    def update_ema(self) -> None:
        """Move the average towards the network; faster in the first steps, when it is far off."""
        if self.ema is None:
            return
        decay = min(self.settings.ema_decay, self.step / (self.step + 9))
        averages, values = (
            list(network.state_dict().values()) for network in (self.ema, self.classifier.network)
        )
        kernels.update_ema(averages, values, decay)

    def end_epoch(self, result: Epoch) -> None:
        """Take note of a finished epoch, and keep its weights if they are the ones to keep."""
        self.epoch = result.epoch
        self.events.append(result)
        if self.settings.keep == "last" or result.beats(self.best):
            self.kept = classifiers.state(self.scored)
        if result.beats(self.best):
            self.best = result

    def end(self) -> None:
        """Put the weights to keep into the classifier's network, in evaluation mode."""
        classifiers.load_state(self.classifier.network, self.kept, "the run")
        self.classifier.network.eval()

    def save(self) -> tuple[Arrays, dict[str, Any]]:
        """All that `restore` needs: arrays by name, and the rest as JSON can hold it."""
        arrays = {
            **_prefixed("network", classifiers.state(self.classifier.network)),
            **_prefixed("optimizer", {n: v.numpy() for n, v in self._momenta().items()}),
            **_prefixed("ema", classifiers.state(self.ema) if self.ema else {}),
            **_prefixed("kept", self.kept),
        }
        rest = {
            "step": self.step,
            "epoch": self.epoch,
            "optimizer_steps": self.optimizer.n_step,
            "best": self.best and asdict(self.best),
            "events": [[type(event).__name__, asdict(event)] for event in self.events],
        }
        return arrays, rest

    def restore(self, arrays: Arrays, rest: dict[str, Any]) -> None:
        """Take up what `save` gave in an earlier process.

        Raises:
            ModelFileError: the arrays are not those of this network.
            LookupError, TypeError, ValueError, AttributeError: the rest is not what `save` gave.
        """
        network = self.classifier.network
        classifiers.load_state(network, _with_prefix("network", arrays), "its network")
        if self.ema:
            classifiers.load_state(self.ema, _with_prefix("ema", arrays), "its average")
        self.kept = _with_prefix("kept", arrays)
        model_file.check("its best", self.kept, classifiers.shapes(network))
        # The momenta alone: loading Jittor's whole optimizer state would stop the gradients of
        # the parameters, which that state holds as well.
        momenta, found = self._momenta(), _with_prefix("optimizer", arrays)
        expected = {name: tuple(var.shape) for name, var in momenta.items()}
        model_file.check("its optimizer", found, expected)
        for name, array in found.items():
            momenta[name].update(jt.array(array))
        self.optimizer.n_step = rest["optimizer_steps"]
        self.step, self.epoch = rest["step"], rest["epoch"]
        self.best = Epoch(**rest["best"])
        kinds = {"Step": Step, "Epoch": Epoch}
        self.events = [kinds[kind](**values) for kind, values in rest["events"]]

    def divisible(self) -> list[jt.Var]:
        """What workers had better divide: linear layers that are larger each way than a batch.

        Their inputs and outputs are less to hand around than the gradients of their weights are to
        add up, and each worker reads and updates its share of the weights alone. That is A.
        Krizhevsky, "One weird trick for parallelizing convolutional neural networks",
        arXiv:1404.5997, 2014; here it is the inputs that are divided, since there are more of them.

        Returns:
            Weights, and what the optimizer and the average remember of each.
        """
        networks = [self.classifier.network, *([self.ema] if self.ema else [])]
        found = [
            layer.weight
            for network in networks
            for _, layer in network.layers()
            if isinstance(layer, Linear)
            and min(layer.in_features, layer.out_features) > self.settings.batch_size
        ]
        params = self.optimizer.param_groups[0]["params"]
        numbers = {n for n, param in enumerate(params) if any(param is var for var in found)}
        momenta = self._momenta().items()
        return found + [var for name, var in momenta if int(name.split(".")[1]) in numbers]

    def _momenta(self) -> dict[str, jt.Var]:
        """What the optimizer remembers of each parameter, by kind and number."""
        group = self.optimizer.param_groups[0]
        kinds = [kind for kind in ("values", "m") if kind in group]
        return {f"{kind}.{n}": var for kind in kinds for n, var in enumerate(group[kind])}


def _optimizer(network: Network, settings: Train) -> Any:
    """The optimizer that the settings name, over all parameters of the network."""
    rate, decay = settings.learning_rate, settings.weight_decay
    parameters = network.parameters()
    if settings.optimizer == "sgd":
        return kernels.SGD(parameters, rate, settings.momentum, decay, nesterov=settings.nesterov)
    kind = nn.Adam if settings.optimizer == "adam" else nn.AdamW
    return kind(parameters, rate, weight_decay=decay)


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _with_prefix(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names have this prefix, without it."""
    start = prefix + "/"
    return {n.removeprefix(start): array for n, array in arrays.items() if n.startswith(start)}
