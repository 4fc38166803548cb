"""Some steps of training by a team, as a program: writes the weights that they end with.

`python -m tests.team SETTINGS FOLDER IMAGES OUT`, alone or under mpirun, trains one epoch on the
first IMAGES arrays in FOLDER. SETTINGS is JSON: what differs from params.yaml in `train`, and
"nudge": what is added to each first weight, as a share of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.numpy import save_file

from stages.shared import digits, params
from stages.shared.digits import Digits
from stages.shared.model_file import Description
from stages.shared.network import classifier, runtime
from stages.shared.params import Train
from stages.shared.training import loop, mpirun


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
        events = list(loop.fit(trained, data, held_out, settings))
        if team.rank == 0:
            save_file(classifier.state(trained.network), out)
            print(json.dumps([vars(event) for event in events]))


if __name__ == "__main__":
    main()
