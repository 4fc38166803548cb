"""Ten steps of training, as a program: prints the SHA-256 of the weights that they end with.

`python -m tests.steps CASE FOLDER [PROCESSOR CACHE]` trains on the arrays in FOLDER. With a name of
gcc's, such as haswell, kernels are compiled for that processor in place of this one, and kept in
the folder CACHE, so that the user's own stay as they are.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from stages.shared import digits, params
from stages.shared.digits import Digits
from stages.shared.model_file import Description
from stages.shared.network import classifier, runtime
from stages.shared.params import Train
from stages.shared.training import loop

# Each changes params.yaml. Every lever is in one of them.
CASES: dict[str, dict[str, Any]] = {
    "tutorial": {"network": "tutorial", "optimizer": "adamw"},
    "compact": {"network": "compact", "optimizer": "adam", "schedule": "cosine"},
    "deep": {
        "network": "deep",
        "nesterov": True,
        "schedule": "one_cycle",
        "label_smoothing": 0.1,
        "ema_decay": 0.9,
        "augment": {"shift": 2, "rotate": 15, "scale": 0.15, "shear": 0.25},
    },
}
STEPS, BATCH, HELD_OUT = 10, 30, 50


def settings(case: str) -> Train:
    block = params.load().train.model_dump()
    block |= {"batch_size": BATCH, "learning_rate": 0.01, "device": "cpu", **CASES[case]}
    return Train.model_validate(block)


def train(case: str, folder: Path) -> str:
    """The SHA-256 of what the run keeps."""
    recipe = settings(case)
    runtime.use("cpu", recipe.seed)
    whole = digits.load(folder, "train")
    count = STEPS * BATCH + HELD_OUT
    data = Digits(whole.images[:count], whole.labels[:count])
    held_out = digits.held_out(count, HELD_OUT, recipe.seed)
    mean, std = digits.mean_and_std(data, held_out)
    trained = classifier.build(
        Description(
            network=recipe.network,
            image_size=data.image_size,
            class_names=digits.load_class_names(folder),
            mean=mean,
            std=std,
            held_out=HELD_OUT,
            params={},
            versions={},
        )
    )
    for _ in loop.fit(trained, data, held_out, recipe):
        pass
    found = hashlib.sha256()
    for name, array in sorted(classifier.state(trained.network).items()):
        found.update(name.encode() + array.tobytes())
    return found.hexdigest()


def compile_for(processor: str, cache: Path) -> None:
    flags = runtime.jt.flags
    assert "-march=native" in flags.cc_flags
    flags.cc_flags = flags.cc_flags.replace("-march=native", f"-march={processor}")
    flags.cache_path = str(cache)


def main() -> None:
    case, folder, *other = sys.argv[1:]
    if other:
        compile_for(other[0], Path(other[1]))
    print(train(case, Path(folder)))


if __name__ == "__main__":
    main()
