"""Files that were damaged after a run: the next one sees it, and every byte comes back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

from stages.shared.network import libraries
from tests.conftest import Repository
from tests.faults import small
from tests.faults.trial import ImpossibleError, Trial
from tests.moments import Moment, run_until

WHAT = (
    "a result, a checkpoint, params.yaml, dvc.yaml, dvc.lock, a file of DVC's cache or of Jittor's,"
    " damaged or unreadable"
)
WHOLE, SHORT = 80, 1

_WAYS = ("flipped", "cut", "emptied", "removed", "a folder")
_RIGHTS = "-dac_override,-dac_read_search"  # by which root reads what nobody may
_TEXTS = ("params.yaml", "dvc.yaml", "dvc.lock")
# Of Jittor's cache: what it compiled, oneDNN, what it notes, and what is noted here.
_PARTS = ("*.so", "libdnnl.so.*.*", "data.md5", "jittor.lock", libraries.NOTES)


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    first, whole, expected = small.finished()
    kernels = folder / "kernels"
    try:
        before: list[str] | None = bounded()
    except ImpossibleError:
        before = None  # what may not be read is left out
    for number in range(count):
        repository = whole.copy(folder / "damaged")
        way = rng.choice(_WAYS)
        if number % 8 == 3 and count >= 8:  # Jittor's cache takes half a minute to make
            if not (folder / "built").exists():
                small.repro(first.copy(folder / "once"), JITTOR_HOME=str(small.cold_home(kernels)))
                for path in kernels.rglob("*.so"):
                    os.utime(path, (0, 0))  # what is new may be in the making, and is not noted
                small.repro(first.copy(folder / "twice"), JITTOR_HOME=str(kernels))
                shutil.copytree(kernels, folder / "built", symlinks=True)
            shutil.rmtree(kernels)
            shutil.copytree(folder / "built", kernels, symlinks=True)
            yield _library(rng, first.copy(folder / "fresh"), kernels, way, expected)
            shutil.rmtree(folder / "fresh")
        elif number % 4 == 3:
            shutil.rmtree(repository.path)
            yield _checkpoint(rng, first.copy(repository.path), way, expected, before)
        elif number % 8 == 4 and before is not None:
            yield _unreadable(rng, repository, expected, before)
        elif number % 4 == 1:
            yield _text(rng, repository, way, expected)
        elif number % 4 == 2:
            yield _copy(rng, repository, way, expected)
        else:
            path = rng.choice(sorted(small.files(repository)))
            damage(rng, path, way)
            what = f"{path.relative_to(repository.path)} {way}"
            yield small.ends_well(what, repository, expected)
        shutil.rmtree(repository.path)


def damage(rng: Random, path: Path, way: str) -> None:
    """Change a file; a new one takes its place, as it may be DVC's own, which is shared."""
    content = bytearray(path.read_bytes())
    mode = path.stat().st_mode
    path.unlink()
    if way == "flipped" and content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif way == "cut":
        path.write_bytes(content[: rng.randrange(len(content) or 1)])
    elif way == "emptied":
        path.touch()
    elif way == "a folder":
        path.mkdir()
        (path / "file").touch()
    if path.is_file():
        path.chmod(mode)  # DVC does not look again at what nobody may write


def bounded() -> list[str]:
    """What to put before a command so that root as well reads only what the mode of a file lets it.

    Raises:
        ImpossibleError: this machine lacks what takes root's rights away.
    """
    if os.geteuid() != 0:
        return []
    before = ["setpriv", "--bounding-set", _RIGHTS, "--inh-caps", _RIGHTS]
    if shutil.which("setpriv") is None or subprocess.run([*before, "true"]).returncode:
        raise ImpossibleError("setpriv is not permitted here")
    return before


def _unreadable(
    rng: Random, repository: Repository, expected: dict[str, str], before: list[str]
) -> Trial:
    """A file that nobody may read: named, and all is well once it may be read again."""
    objects = repository.path / ".dvc/cache/files/md5"
    copies = [path for path in objects.rglob("*") if path.is_file()]
    texts = [repository.path / name for name in _TEXTS]
    path = rng.choice([*sorted(small.files(repository)), *texts, *sorted(copies)])
    if path in copies:
        for name in ("data/raw", "data/npy", "models"):
            shutil.rmtree(repository.path / name)
    content, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(content)
    path.chmod(0)
    what = f"{path.relative_to(repository.path)} unreadable"
    done = small.repro(repository, *before)
    if done.returncode and (wrong := small.refused(done, path.name)):
        return Trial(what, "lost", wrong)
    path.chmod(mode)
    repository.run("git", "checkout", "-q", "--", ".")
    return small.ends_well(what, repository, expected)


def _checkpoint(
    rng: Random,
    repository: Repository,
    way: str,
    expected: dict[str, str],
    before: list[str] | None,
) -> Trial:
    """What a run was to go on from that was stopped before its end: not used, or whole."""
    repository.run("dvc", "repro", "decode")
    done_with = Moment("os.remove", ".safetensors")  # the run's weights are written then
    process = run_until(done_with, repository, "python", "-m", "stages.train")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (path,) = (repository.path / "models/checkpoints").glob("*.safetensors")
    way = rng.choice((way, way if before is None else "unreadable"))
    if way == "unreadable":
        path.chmod(0)
    else:
        damage(rng, path, way)
    what = f"a checkpoint {way}"
    done = small.repro(repository, *(before or []))
    if done.returncode or ("training starts anew" in done.stdout) == (way == "removed"):
        return Trial(what, "lost", done.stdout[-1500:])
    return small.ends_well(what, repository, expected)


def _text(rng: Random, repository: Repository, way: str, expected: dict[str, str]) -> Trial:
    """What people write by hand, and the lock: refused in words, or another pipeline's run."""
    name = rng.choice(_TEXTS)
    path = repository.path / name
    damage(rng, path, way)
    what = f"{name} {way}"
    done = small.repro(repository)
    if done.returncode and (wrong := small.refused(done)):
        return Trial(what, "lost", wrong)
    if path.is_dir():
        shutil.rmtree(path)
    repository.run("git", "restore", *_TEXTS, "plots")
    return small.ends_well(what, repository, expected)


def _copy(rng: Random, repository: Repository, way: str, expected: dict[str, str]) -> Trial:
    """DVC's copy of a result, and the result itself gone: made anew, or named."""
    objects = repository.path / ".dvc/cache/files/md5"
    path = rng.choice(sorted(path for path in objects.rglob("*") if path.is_file()))
    damage(rng, path, way)
    for name in ("data/raw", "data/npy", "models"):
        shutil.rmtree(repository.path / name)
    what = f"a copy of {path.name[-4:]} {way}"
    done = small.repro(repository)
    if done.returncode and not small.refused(done, str(path), path.name):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    elif done.returncode or small.digests(repository) != expected:
        # DVC hands out what its cache holds: `same` finds what is damaged there, and the way out.
        said = repository.run("python", "-m", "stages.tools.same", check=False).stderr
        if "Traceback" in done.stdout or "anew by: " not in said:
            return Trial(what, "lost", f"{done.stdout[-1000:]}\n{said}")
        repository.run("sh", "-c", said.partition("anew by: ")[2])
    repository.run("git", "checkout", "-q", "--", ".")
    return small.ends_well(what, repository, expected)


def _library(
    rng: Random, repository: Repository, kernels: Path, way: str, expected: dict[str, str]
) -> Trial:
    """A part of Jittor's cache: built again."""
    path = rng.choice(sorted(kernels.rglob(rng.choice(_PARTS))))
    if "dnnl" in path.name and way == "flipped":
        way = "cut"  # nothing computes with it
    damage(rng, path, way)
    if path.exists():
        os.utime(path, (0, 0))  # a disk that fails changes no date
    what = f"{path.name[:40]} {way}"
    done = small.repro(repository, JITTOR_HOME=str(kernels))
    if done.returncode and (wrong := small.refused(done, "Jittor")):
        return Trial(what, "lost", wrong)
    return small.ends_well(what, repository, expected, JITTOR_HOME=str(kernels))
