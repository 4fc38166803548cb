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
WHOLE, SHORT = 52, 1

_STAGES = ("check", "download", "decode", "train", "evaluate", "plot", "export")
_MOMENT = 0.5  # seconds from the start of a stage within which it is hit
_COLD = 6  # of so many trials one begins without a compiled kernel, and takes half a minute


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first, _, expected = small.finished()  # whose kernels are compiled
    kernels = folder / "kernels"  # a home of Jittor's that each cold trial finds at the same place
    aims = rng.sample(_STAGES, len(_STAGES))  # each stage is hit once, however short
    lengths = {}
    if count > len(aims):
        shutil.copytree(small.cold_home(kernels), folder / "none")
        for cold in (False, True):
            repository = first.copy(folder / "whole")
            began = time.perf_counter()
            done = small.repro(repository, **_variables(kernels, cold))
            assert done.returncode == 0, done.stdout
            lengths[cold] = time.perf_counter() - began
            shutil.rmtree(repository.path)
    hits = 0
    while hits < count:
        cold = hits % _COLD == _COLD - 1 and bool(lengths)
        if cold:
            shutil.rmtree(kernels)
            shutil.copytree(folder / "none", kernels)
        repository = first.copy(folder / "killed")
        variables = _variables(kernels, cold)
        whom = rng.choice(("everything", "DVC", "the stage"))
        if hits < len(aims):
            stage, after = aims[hits], rng.uniform(0, _MOMENT)
            what = f"{whom}, {after:.2f} s after {stage} began"
        else:
            stage, after = "", rng.uniform(0.2, lengths[cold])
            what = f"{whom} after {after:.2f} of {lengths[cold]:.1f} s"
        environment = {**repository.environment, **variables}
        if killed(repository.path, environment, whom, after, stage):
            hits += 1
            yield small.ends_well(what, repository, expected, **variables)
        shutil.rmtree(repository.path)


def _variables(kernels: Path, cold: bool) -> dict[str, str]:
    return {"JITTOR_HOME": str(kernels)} if cold else {}


def killed(path: Path, environment: dict[str, str], whom: str, after: float, stage: str) -> bool:
    """Start a run and kill some of it, so many seconds after it, or a stage of it, has begun.

    Returns:
        Whether there was something to kill.
    """
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=path,
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while stage and process.poll() is None and not small.is_running(process.pid, stage):
        time.sleep(0.01)
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
