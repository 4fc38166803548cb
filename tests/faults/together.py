"""Runs at the same time: in one repository, on one cold cache of Jittor's, and out of a queue."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.conftest import Repository
from tests.faults import small
from tests.faults.trial import Trial

WHAT = "two runs in one repository, two clones on one empty cache, a queue with a job that fails"
WHOLE, SHORT = 6, 1

_LONGEST = 300.0  # seconds that a queue may take


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first, whole, expected = small.finished()
    for number in range(count):
        place = folder / str(number)
        place.mkdir()
        if number % 3 == 0:
            yield _one_repository(rng, first.copy(place / "shared"), expected)
        elif number % 3 == 1:
            home = place / "kernels"
            # The first time Jittor's core is not there either, which takes minutes to build.
            yield _one_cache(first, place, home if number == 1 else small.cold_home(home), expected)
        else:
            yield _queue(whole.copy(place / "queue"))
        shutil.rmtree(place)


def _begun(repository: Repository, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=repository.path,
        env={**repository.environment, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _one_repository(rng: Random, repository: Repository, expected: dict[str, str]) -> Trial:
    what = "two runs in one repository"
    one = _begun(repository)
    time.sleep(rng.uniform(0, 3))
    two = _begun(repository)
    said = [process.communicate()[0] for process in (one, two)]
    if wrong := [text for text in said if "Traceback" in text]:
        return Trial(what, "lost", wrong[0][-1500:])
    if one.returncode and two.returncode:
        return Trial(what, "lost", f"neither ended well: {said[1][-1500:]}")
    return small.ends_well(what, repository, expected)


def _one_cache(first: Repository, place: Path, home: Path, expected: dict[str, str]) -> Trial:
    what = "two clones on one cold cache"
    clones = [first.copy(place / name) for name in ("one", "two")]
    runs = [_begun(clone, JITTOR_HOME=str(home)) for clone in clones]
    for process, clone in zip(runs, clones, strict=True):
        said = process.communicate()[0]
        if process.returncode:
            return Trial(what, "lost", said[-1500:])
        if small.digests(clone) != expected:
            return Trial(what, "lost", "other bytes")
    return Trial(what, "survived")


def _queue(repository: Repository) -> Trial:
    what = "a queue with a job that fails"
    for name, rate in {"low": 0.01, "diverges": 1000, "high": 0.03}.items():
        change = f"train.learning_rate={rate}"
        repository.run("dvc", "exp", "run", "--queue", "-n", name, "-S", change)
    repository.run("dvc", "queue", "start", "--jobs", "2")
    end = time.monotonic() + _LONGEST
    status = "Queued"
    while "Queued" in status or "Running" in status:
        if time.monotonic() > end:
            return Trial(what, "lost", f"the queue did not end:\n{status}")
        time.sleep(1)
        status = repository.run("dvc", "queue", "status").stdout
    known = repository.run("dvc", "exp", "list", "--name-only").stdout.split()
    reason = repository.run("dvc", "queue", "logs", "diverges").stdout
    if sorted(known) != ["high", "low"] or "Failed" not in status:
        return Trial(what, "lost", f"{status}\nknown are {known}")
    if "error: the loss is" not in reason or "Traceback" in reason:
        return Trial(what, "lost", reason[-1500:])
    return Trial(what, "survived")
