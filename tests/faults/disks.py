"""A disk that fills up: the run says so, and goes on once there is room."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.conftest import TOP
from tests.faults import small
from tests.faults.trial import Trial, in_namespace

WHAT = "a small disk under data, models, plots, DVC's cache, or Jittor's kernels"
WHOLE, SHORT = 25, 1

# More than each folder can hold before the run needs more: bytes.
_ROOM = {
    "data": 1_000_000,
    "models": 800_000,
    "plots": 300_000,
    ".dvc/cache": 1_900_000,
    "Jittor's cache": 2_500_000,  # for kernels, of which it has none
}


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first, _, expected = small.finished()
    where = "from stages.shared.network import runtime; print(runtime.jittor_utils.cache_path)"
    found = subprocess.run([sys.executable, "-c", where], cwd=TOP, capture_output=True, text=True)
    kernels = shlex.quote(f"{found.stdout.strip()}/jit")
    for number in range(count):
        name = list(_ROOM)[number % len(_ROOM)]
        size = rng.randrange(8192, _ROOM[name])
        repository = first.copy(folder / "full")
        what = f"{name} on a disk of {size} bytes"
        mount = f"mount -t tmpfs -o size={size} none"
        if name == "Jittor's cache":
            mount = f"{mount} {kernels}"
        else:
            (repository.path / name).mkdir(exist_ok=True)
            mount = f"{mount} {name}"
        if name in ("data", "models", "plots"):  # Git's file stays where it was
            mount = f"cp {name}/.gitignore .kept && {mount} && cp .kept {name}/.gitignore"
        done = small.repro(repository, *in_namespace(mount))
        named = "kernels in" if name == "Jittor's cache" else name
        wrong = small.refused(done, named) or small.refused(done, "No space left", "no space left")
        if wrong:
            yield Trial(what, "lost", wrong)
        else:
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)
