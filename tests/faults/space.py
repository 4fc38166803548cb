"""Files that may not grow: the stage says which, nothing half-written stays, and it goes on."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults import small
from tests.faults.trial import Trial

WHAT = "a stage that may write no more than so many bytes to a file"
WHOLE, SHORT = 21, 2

# What each stage writes, and a size that one of its files is larger than.
_STAGES = {
    "check": ("data/checked.txt", 20),
    "download": ("data/raw", 50_000),
    "decode": ("data/npy", 50_000),
    "train": ("models", 100_000),
    "evaluate": ("plots/evaluation", 500),
    "plot": ("plots/figures", 10_000),
    "export": ("models/digits.onnx", 100_000),
}


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    _, whole, expected = small.finished()
    for number in range(count):
        stage = list(_STAGES)[number % len(_STAGES)]
        name, most = _STAGES[stage]
        size = rng.randrange(most)
        repository = whole.copy(folder / "full")
        what = f"{stage}, {size} bytes"
        out = repository.path / name
        if out.is_dir() and name != "models":
            shutil.rmtree(out)
        elif name != "models":
            out.unlink()
        else:
            (out / "digits.safetensors").unlink()
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}"],
            cwd=repository.path,
            env=repository.environment,
            preexec_fn=lambda s=size: resource.setrlimit(resource.RLIMIT_FSIZE, (s, s)),  # type: ignore[misc]
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # An epoch's order has no name; its folder is named.
        wrong = small.refused(done, name.split("/")[0], "Jittor", f"'{repository.path}'")
        left = [path.name for path in repository.path.rglob(".*.part")]
        if wrong or left:
            yield Trial(what, "lost", wrong or f"left behind: {left}")
        else:
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)
