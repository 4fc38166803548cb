"""Some steps of training by a team, as a program: writes the weights that they end with.

`python -m tests.team SETTINGS FOLDER IMAGES OUT`, alone or under mpirun, trains one epoch on the
first IMAGES arrays in FOLDER. SETTINGS is JSON: what differs from params.yaml in `train`, and
"nudge": what is added to each first weight, as a share of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from stages.shared import digits, params
from stages.shared.digits import Digits
from stages.shared.model_file import Description
from stages.shared.network import classifier, runtime
from stages.shared.network.workers import Team, Workers
from stages.shared.params import Train
from stages.shared.training import loop, mpirun
from stages.shared.training.events import Epoch, Step

TOP = Path(__file__).parents[1]


def spent(team: Workers) -> tuple[float, int]:
    """Seconds in adding up and bytes added up so far."""
    return (team.seconds, team.bytes) if isinstance(team, Team) else (0.0, 0)


def run(count: int, changes: dict[str, Any], folder: Path, images: int, out: Path) -> Any:
    """Run this program with so many workers, which share two cores; what it prints."""
    text = json.dumps({"workers": count, "device": "cpu", **changes})
    program = [sys.executable, "-m", "tests.team", text, str(folder), str(images), str(out)]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    if count > 1:
        path, found = mpirun.find()
        assert path is not None, found
        environment[mpirun.STARTED] = str(count)
        program = mpirun.command(path, count, "", program, environment)
    done = subprocess.run(program, cwd=TOP, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[0])


def main() -> None:
    text, folder, images, out = sys.argv[1:]
    changes = json.loads(text)
    nudge = changes.pop("nudge", 0.0)
    block = params.load().train.model_dump()
    settings = Train.model_validate({**block, **changes})
    whole = digits.load(Path(folder), "train")
    data = Digits(whole.images[: int(images)], whole.labels[: int(images)])
    held_out = digits.held_out(len(data), settings.validation_images, settings.seed)
    mean, std = digits.mean_and_std(data, held_out)
    with mpirun.joined(settings.workers) as team:
        runtime.use("cpu", settings.seed)
        trained = classifier.build(
            Description(
                network=settings.network,
                image_size=data.image_size,
                class_names=digits.load_class_names(Path(folder)),
                mean=mean,
                std=std,
                held_out=len(held_out),
                params={},
                versions={},
            )
        )
        if nudge:
            state = classifier.state(trained.network)
            nudged = {name: array * (1 + nudge) for name, array in state.items()}
            classifier.load_state(trained.network, nudged, "the nudged weights")
        points, validation, skipped = [], [0.0, 0.0], (0.0, 0)
        began = time.perf_counter()
        for event in loop.fit(trained, data, held_out, settings):
            if isinstance(event, Epoch):
                validation = [event.loss, event.accuracy]
            if isinstance(event, Step):
                points.append(event)
                if len(points) == 2:  # kernels have been compiled by now
                    began, skipped = time.perf_counter(), spent(team)
        seconds, summed = (a - b for a, b in zip(spent(team), skipped, strict=True))
        steps = points[-1].step - points[min(1, len(points) - 1)].step
        found = {
            "images_per_second": statistics.median(
                p.images_per_second for p in points[1:] or points
            ),
            "communication": seconds / (time.perf_counter() - began),
            "bytes_per_step": summed / max(steps, 1),
            "losses": [point.loss for point in points],
            "validation": validation,
        }
        if team.rank == 0:
            save_file(classifier.state(trained.network), out)
            print(json.dumps(found))


if __name__ == "__main__":
    main()
