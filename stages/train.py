"""Train the network.

Reads data/npy/train-*.npy; writes models/digits.safetensors, the curves in plots/training, and the
speed curve in plots/speed, which DVC does not track: no two runs share it.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np

from stages.shared import digits, params
from stages.shared.network import classifier as weights
from stages.shared.network import networks, runtime
from stages.shared.network.classifier import Trained
from stages.shared.program import run
from stages.shared.training import loop as training
from stages.shared.training.checkpoints import Checkpoints, fingerprint
from stages.shared.training.progress import Curves

DATA = Path("data/npy")
MODEL = Path("models/digits.safetensors")
CURVES = Path("plots/training")
SPEED = Path("plots/speed")
CHECKPOINTS = Path("models/checkpoints")


def main() -> None:
    everything = params.load()
    settings, classes = everything.train, everything.decode.classes
    device = runtime.use(settings.device, settings.seed)
    print(f"training on {device.name}: {device.reason}")
    data = digits.load(DATA, "train")
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    mean, deviation = digits.mean_and_deviation(data, held_out)
    trained = Trained(
        network=networks.build(settings.network, data.image_size, classes),
        name=settings.network,
        image_size=data.image_size,
        classes=digits.class_names(everything.download.dataset, classes),
        mean=mean,
        deviation=deviation,
        params=settings.model_dump(),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "jittor": runtime.jt.__version__,
        },
    )
    facts = {
        "params": settings.model_dump(),
        "classes": trained.classes,
        "device": device.name,
        "versions": trained.versions,
    }
    files = (DATA / "train-images.npy", DATA / "train-labels.npy")
    checkpoints = Checkpoints(CHECKPOINTS, fingerprint(facts, files))
    for other in checkpoints.others():
        print(f"left aside: {other}, of other parameters, data or code")
    learned = len(data) - len(held_out)
    steps = settings.epochs * training.steps_an_epoch(learned, settings.batch_size)
    with Curves(CURVES, SPEED, steps) as curves:
        for event in training.fit(trained, data, held_out, settings, checkpoints):
            curves.draw(event)
    weights.save(trained, MODEL)
    checkpoints.clear()


if __name__ == "__main__":
    run(main)
