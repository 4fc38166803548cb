"""A small pipeline for the kinds of faults that happen to whole runs."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.conftest import TOP, Repository, begin, sample
from tests.faults.trial import Trial

RESULTS = ("data/raw", "data/npy", "models", "plots")


def made(folder: Path) -> Repository:
    """A repository in `folder` that has not run yet."""
    sample(folder / "idx", train=600, test=100)
    path = folder / "first"
    path.mkdir()
    return begin(path, folder / "idx")


class Finished(NamedTuple):
    """A repository before and after its first run; for all kinds to copy, and none to change."""

    first: Repository
    whole: Repository  # committed
    expected: dict[str, str]  # its `digests`


@cache
def finished() -> Finished:
    """What `made` gives, and the same once it has run; it goes with this process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    first = made(folder)
    whole = first.copy(folder / "whole")
    done = repro(whole)
    assert done.returncode == 0, done.stdout
    whole.commit("First run")
    return Finished(first, whole, digests(whole))


def cold_home(folder: Path) -> Path:
    """A JITTOR_HOME in `folder` with Jittor's core, but with no kernel.

    Jittor knows its parts by where they lie: elsewhere it would build some of them again.
    """
    where = "import jittor_utils; print(jittor_utils.home(), jittor_utils.cache_path)"
    started = f"from stages.shared.network import runtime; {where}"
    done = subprocess.run(
        [sys.executable, "-c", started], cwd=TOP, capture_output=True, text=True, check=True
    )
    home, core = map(Path, done.stdout.split())
    cache = folder / ".cache/jittor"
    shutil.copytree(
        core,
        cache / core.relative_to(home / ".cache/jittor"),
        ignore=lambda path, names: names if Path(path) == core / "jit" else [],
    )
    shutil.copytree(home / ".cache/jittor/mkl", cache / "mkl")
    start = [sys.executable, "-m", "stages.shared.network.runtime"]
    environment = {**os.environ, "JITTOR_HOME": str(folder)}
    subprocess.run(start, cwd=TOP, env=environment, capture_output=True)  # and once more then
    subprocess.run(start, cwd=TOP, env=environment, capture_output=True, check=True)
    return folder


def digests(repository: Repository) -> dict[str, str]:
    """The SHA-256 of every result, by its path."""
    return {
        str(path.relative_to(repository.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files(repository))
    }


def files(repository: Repository) -> Iterator[Path]:
    """Every result; not what a stopped run keeps to go on with."""
    for name in RESULTS:
        for path in (repository.path / name).rglob("*"):
            if path.is_file() and "checkpoints" not in path.parts and path.name != ".gitignore":
                yield path


def repro(
    repository: Repository, *before: str, **variables: str | None
) -> subprocess.CompletedProcess[str]:
    """Run the pipeline; None takes a variable out of the environment."""
    environment: dict[str, str] = dict(repository.environment)
    for name, value in variables.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return subprocess.run(
        [*before, "dvc", "repro"],
        cwd=repository.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ends_well(
    what: str, repository: Repository, expected: dict[str, str], **variables: str | None
) -> Trial:
    """Whether a run now gives what is expected."""
    done = repro(repository, **variables)
    lock = repository.path / ".dvc/tmp/rwlock"
    if done.returncode and "rwlock" in done.stdout:  # a killed DVC left it empty, and says so
        lock.unlink()
        done = repro(repository, **variables)
    if done.returncode:
        return Trial(what, "lost", done.stdout[-1500:])
    found = digests(repository)
    if found != expected:
        other = [name for name in found.keys() | expected if found.get(name) != expected.get(name)]
        return Trial(what, "lost", f"other bytes: {', '.join(sorted(other))}")
    return Trial(what, "survived")


def refused(done: subprocess.CompletedProcess[str], *names: str) -> str:
    """What is wrong with how a run was refused; empty if it was, in words.

    Args:
        done: the run.
        names: of which one must stand in a line that says what is wrong; none asks for no more
            than such a line.
    """
    if not done.returncode:
        return "it was not refused"
    if "Traceback" in done.stdout:
        return done.stdout[-1500:]
    errors = [line for line in done.stdout.splitlines() if line.lower().startswith("error: ")]
    if not any(name in line for line in errors for name in names or ("",)):
        return f"none of {names} is named: {done.stdout[-1500:]}"
    return ""


def trees(group: int) -> list[int]:
    """The processes of a group, those that were started last first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # A zombie has ended, and may stay for as long as nobody asks for it.
        if int(fields[2]) == group and fields[0] != "Z":
            found.append((int(fields[19]), int(path.parent.name)))
    return [number for _, number in sorted(found, reverse=True)]


def is_running(group: int, stage: str) -> bool:
    """Whether a stage of the run is at work."""
    for number in trees(group):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if f"stages.{stage}" in Path(f"/proc/{number}/cmdline").read_text().split("\0"):
                return True
    return False


def wait_for_none(group: int) -> None:
    """Until no process of the group is left: what was killed takes its time to go."""
    while trees(group):
        time.sleep(0.01)
