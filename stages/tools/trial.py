"""One network on one device, for `gpu`: an epoch of training, logits, and where a step's time goes.

python -m stages.tools.trial REQUEST reads a JSON file as `gpu` writes it, the parameters and
data/npy; writes the trained network, logits of a given one, and a JSON file of figures.
"""

from __future__ import annotations

from stages.shared.program import UserError, run

# isort: split
import argparse
import hashlib
import time
from itertools import islice
from pathlib import Path

import numpy as np

from stages.shared import digits
from stages.shared.digits import Digits
from stages.shared.files import Record, RecordError, from_json
from stages.shared.network import device
from stages.shared.params import Train

STEPS = 100  # that are timed


class Request(Record):
    """What to try.

    Attributes:
        train: as the block of params.yaml.
        images: how many of the training images to take.
        weights: the network whose logits are wanted; where it is not there, the one trained here.
        out: where results go: OUT.safetensors, OUT.npy and OUT.json.
    """

    train: Train
    images: int
    weights: str
    out: str


class Result(Record):
    """What came of it.

    Attributes:
        versions: what the weights depend on.
        sha256: of the trained arrays.
        validation: share of the held-out images read correctly.
        images_per_second: of training, compilation left out.
        host: seconds of a step in which the host describes and launches it.
        step: seconds of a step, all in all; the card waits for the host where this is hardly more.
    """

    versions: dict[str, str]
    sha256: str
    validation: float
    images_per_second: float
    host: float
    step: float


def attempt(request: Request) -> Result:
    """Train, score and time, on the device that is settled."""
    from stages.shared.network import classifier, runtime, workers
    from stages.shared.training import loop
    from stages.shared.training.events import Epoch
    from stages.shared.training.state import State

    settings = request.train
    runtime.use(settings.device, settings.seed)
    whole = digits.load(digits.FOLDER, "train")
    data = Digits(whole.images[: request.images], whole.labels[: request.images])
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    class_names = digits.load_class_names(digits.FOLDER)
    learner = classifier.build(classifier.describe(settings, data, held_out, class_names))
    events = list(loop.fit(learner, data, held_out, settings))
    out, weights = Path(request.out), Path(request.weights)
    classifier.save(learner, out.with_suffix(".safetensors"))
    arrays = classifier.state(learner.network)
    sha256 = hashlib.sha256(b"".join(array.tobytes() for _, array in sorted(arrays.items())))
    scored = classifier.load(weights) if weights.exists() else learner
    test = digits.load(digits.FOLDER, "test")
    np.save(out.with_suffix(".npy"), scored.logits(test.images))

    # All is compiled by now. The batches are used again and again: what is learned matters to none.
    state = State(learner, settings, STEPS + 1)
    learner.network.train()
    order = digits.shuffled(len(data), held_out, settings.seed, 0)
    batches = list(islice(digits.batches(data, order, settings.batch_size), STEPS + 1))
    batches = [batch for batch in batches if len(batch[1]) == settings.batch_size] or batches[:1]
    part = workers.current().part(len(batches[0][1]))
    loop.step(state, *batches[0], part)
    runtime.jt.sync_all(True)
    began = time.perf_counter()
    for number in range(STEPS):
        loop.step(state, *batches[number % len(batches)], part)
        runtime.jt.sync_all()  # launched, not awaited
    launched = time.perf_counter()
    runtime.jt.sync_all(True)
    took = time.perf_counter() - began
    return Result(
        versions=runtime.versions(),
        sha256=sha256.hexdigest(),
        validation=next(e.accuracy for e in reversed(events) if isinstance(e, Epoch)),
        images_per_second=STEPS * len(batches[0][1]) / took,
        host=(launched - began) / STEPS,
        step=took / STEPS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.tools.trial", description=__doc__)
    parser.add_argument("request", metavar="REQUEST", type=Path)
    path = parser.parse_args().request
    try:
        request = from_json(Request, path.read_text("utf-8", "replace"))
    except RecordError as error:
        raise UserError(f"{path}: not a request of `gpu` ({error})") from None
    device.select(request.train.device)
    result = attempt(request)
    Path(request.out).with_suffix(".json").write_text(result.model_dump_json(), "utf-8")


if __name__ == "__main__":
    run(main)
