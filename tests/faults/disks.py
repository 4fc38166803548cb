"""A disk that fills up: the run says so, and goes on once there is room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults import small
from tests.faults.trial import Trial, in_namespace

WHAT = "a small disk under data, models, plots, or DVC's cache"
WHOLE, SHORT = 20, 2

# More than each folder can hold before the run needs more: bytes.
_ROOM = {
    "data": 1_000_000,
    "models": 800_000,
    "plots": 300_000,
    ".dvc/cache": 1_900_000,
}


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first = small.made(folder)
    whole = first.copy(folder / "whole")
    assert small.repro(whole).returncode == 0
    expected = small.digests(whole)
    for number in range(count):
        name = list(_ROOM)[number % len(_ROOM)]
        size = rng.randrange(8192, _ROOM[name])
        repository = first.copy(folder / "full")
        (repository.path / name).mkdir(exist_ok=True)
        what = f"{name} on a disk of {size} bytes"
        mount = f"mount -t tmpfs -o size={size} none {name}"
        if name != ".dvc/cache":  # Git's file stays where it was
            mount = f"cp {name}/.gitignore .kept && {mount} && cp .kept {name}/.gitignore"
        done = small.repro(repository, *in_namespace(mount))
        wrong = small.refused(done, name) or small.refused(done, "No space left", "no space left")
        if wrong:
            yield Trial(what, "lost", wrong)
        else:
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)
