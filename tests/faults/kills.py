"""SIGKILL at a random moment of a run: the next one completes, and every byte is the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.faults import small
from tests.faults.trial import Trial

WHAT = "runs killed at a random moment: all of them, DVC alone, or the stage alone"
WHOLE, SHORT = 50, 2


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first = small.made(folder)
    whole = first.copy(folder / "whole")
    small.repro(whole)  # compiles what is not compiled yet
    shutil.rmtree(whole.path)
    whole = first.copy(folder / "whole")
    began = time.perf_counter()
    done = small.repro(whole)
    assert done.returncode == 0, done.stdout
    length, expected = time.perf_counter() - began, small.digests(whole)
    hits = 0
    while hits < count:
        repository = first.copy(folder / "killed")
        whom, after = rng.choice(("everything", "DVC", "the stage")), rng.uniform(0.2, length)
        what = f"{whom} after {after:.2f} of {length:.1f} s"
        if killed(repository.path, repository.environment, whom, after):
            hits += 1
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)


def killed(path: Path, environment: dict[str, str], whom: str, after: float) -> bool:
    """Start a run and kill some of it; whether there was something to kill."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=path,
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after)
    alive = process.poll() is None
    if alive and whom == "everything":
        os.killpg(process.pid, signal.SIGKILL)
    elif alive and whom == "DVC":
        process.kill()
    elif alive:
        try:
            os.kill(small.trees(process.pid)[0], signal.SIGKILL)
        except (IndexError, ProcessLookupError):  # it ended between the look and the blow
            alive = False
    process.wait()
    small.wait_for_none(process.pid)
    return alive
