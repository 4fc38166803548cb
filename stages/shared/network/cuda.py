"""What this machine has of CUDA, and which toolkit Jittor would take, without starting any of it.

Jittor fails, or computes on with half of it, where a part is missing, too old or too new, so each
part is looked for before, in the places where Jittor looks. Only the standard library is used:
`make doctor` asks on a bare machine too, with any Python from 3.8 on.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

OWN = "cuda"  # the toolkit that `make cuda` makes: this folder of the environment
LAID_OUT = "packages.txt"  # a file of such a toolkit, written last

_MACHINE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "aarch64"
_SYSTEM = Path(f"/usr/lib/{_MACHINE}-linux-gnu")
# The libraries that Jittor loads, with the header of each; it wants them in their versions of old.
_LIBRARIES = ("cublas", "cudnn", "curand", "cufft", "cusparse")
_CUDNN_8 = tuple(f"libcudnn_{a}_{b}.so" for a in ("ops", "cnn") for b in ("infer", "train"))
_HEADERS = ("cuda_runtime.h", "npp.h")
_NEWEST, _NEWEST_CUDNN = 12, 8  # that Jittor's own sources compile with


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        fault: why it cannot be used; None where it answers and has a device.
        cuda: the newest CUDA that it runs, such as (13, 0).
        release: its own version, such as "580.65.06"; empty where the system does not say.
        device: the name of the first card.
    """

    fault: str | None
    cuda: tuple[int, int] = (0, 0)
    release: str = ""
    device: str = ""

    def __str__(self) -> str:
        if self.fault:
            return f"no NVIDIA driver answers ({self.fault})"
        named = f"driver {self.release}".strip()
        return f"{self.device}, {named} for CUDA up to {_dotted(self.cuda)}"


@dataclass(frozen=True)
class Part:
    """One thing that Jittor needs of a toolkit.

    Attributes:
        name: such as "cublas".
        place: where it was found.
        fault: what is missing or does not fit; None where it will do.
        version: where its files say.
    """

    name: str
    place: Path | None
    fault: str | None = None
    version: str = ""


@dataclass(frozen=True)
class Toolkit:
    """A folder with a CUDA compiler, its headers and its libraries.

    Attributes:
        origin: how it was come by, in words for the user.
        nvcc: its compiler, which is what Jittor is given.
        version: of CUDA, such as (13, 0, 88); (0,) where the compiler does not run.
        parts: all that Jittor needs, in the order in which it meets them.
    """

    origin: str
    nvcc: Path
    version: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def fault(self) -> str | None:
        """The first thing that is wrong with it; None where Jittor should be able to use it."""
        return next((f"{part.name}: {part.fault}" for part in self.parts if part.fault), None)

    def __str__(self) -> str:
        return f"CUDA {_dotted(self.version)} of {self.nvcc}, {self.origin}"


@dataclass(frozen=True)
class Choice:
    """What Jittor would be given.

    Attributes:
        toolkit: None where there is none that can be used.
        reason: why this one, or why none, in words for the user.
    """

    toolkit: Toolkit | None
    reason: str


def driver() -> Driver:
    """Ask the driver. Nothing is raised."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        missing = "cannot open shared object file" in str(error)
        return Driver("libcuda.so.1 not found" if missing else str(error))
    version, count, name = ctypes.c_int(0), ctypes.c_int(0), ctypes.create_string_buffer(100)
    try:
        for function, arguments in (
            ("cuInit", [0]),
            ("cuDriverGetVersion", [ctypes.byref(version)]),
            ("cuDeviceGetCount", [ctypes.byref(count)]),
        ):
            code = getattr(library, function)(*arguments)
            if code:
                return Driver(f"{function} gives error {code}")
        if count.value < 1:
            return Driver("it finds no device")
        library.cuDeviceGetName(name, len(name), 0)
    except AttributeError:
        return Driver("libcuda.so.1 is not the driver's library")
    speaks = (version.value // 1000, version.value % 1000 // 10)
    return Driver(None, speaks, _release(), name.value.decode(errors="replace"))


def toolkits(environment: Path, home: Path) -> list[Toolkit]:
    """Every toolkit on the machine, the one to take first.

    Args:
        environment: the folder of the Python environment.
        home: the folder in which Jittor keeps `.cache/jittor`.

    Returns:
        With nvcc_path in the environment that one alone; none where that is empty. Nothing is
        raised.
    """
    asked = os.environ.get("nvcc_path")
    if asked is not None:
        found = [("asked for by nvcc_path", asked)] if asked else []
    else:
        found = [("made by `make cuda`", str(environment / OWN / "bin/nvcc"))]
        kept = (home / ".cache/jittor/jtcuda").glob("*/bin/nvcc")
        found += [("installed by Jittor", str(path)) for path in sorted(kept, reverse=True)]
        system = ("nvcc", "/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")
        found += [("the system's", name) for name in system]
    result: list[Toolkit] = []
    for origin, name in found:
        path = shutil.which(name)
        nvcc = _followed(Path(path)) if path else None
        if nvcc and nvcc not in [toolkit.nvcc for toolkit in result]:
            result.append(_examined(origin, nvcc))
    return result


def choose(found: Driver, candidates: list[Toolkit]) -> Choice:
    """The toolkit to give to Jittor: the first that has all parts and suits the driver.

    Args:
        found: as `driver` gives it.
        candidates: as `toolkits` gives them.
    """
    if os.environ.get("nvcc_path") == "":
        return Choice(None, "CUDA is turned off (nvcc_path is empty in the environment)")
    if found.fault:
        return Choice(None, str(found))
    faults = [_fault(found, toolkit) for toolkit in candidates]
    for toolkit, fault in zip(candidates, faults):  # noqa: B905  # Python 3.8 knows no `strict`
        if not fault:
            return Choice(toolkit, f"{toolkit}; {found}")
    asked = os.environ.get("nvcc_path")
    missing = f"{asked} not found" if asked else "no nvcc found"
    told = [f"{t.nvcc}: {fault}" for t, fault in zip(candidates, faults)]  # noqa: B905
    return Choice(None, f"no usable CUDA toolkit ({'; '.join(told or [missing])}); see make doctor")


def _fault(found: Driver, toolkit: Toolkit) -> str | None:
    """What stands in the way of a toolkit on this machine."""
    # Within one major version a driver runs what any minor one compiled.
    if not toolkit.fault and found.cuda[0] < toolkit.version[0]:
        return f"it is CUDA {_dotted(toolkit.version)}, the driver is for {_dotted(found.cuda)}"
    return toolkit.fault


def _release() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return ""
    match = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return match[1] if match else ""


def _followed(nvcc: Path) -> Path:
    """The compiler itself: links are followed, and a script that runs one is asked where it lies.

    /usr/bin/nvcc keeps its name: Jittor knows a distribution's package by it.
    """
    if str(nvcc) == "/usr/bin/nvcc":
        return nvcc
    nvcc = nvcc.resolve()
    if (nvcc.parents[1] / "include").is_dir() and (nvcc.parents[1] / "lib64").is_dir():
        return nvcc
    top = re.search(r"^#\$ TOP=(\S+)", _output([str(nvcc), "-dryrun", "none.cu"]), re.MULTILINE)
    real = Path(os.path.normpath(top[1]), "bin/nvcc") if top else nvcc
    return real if real.is_file() else nvcc


def _examined(origin: str, nvcc: Path) -> Toolkit:
    """Look for all parts of the toolkit that a compiler belongs to."""
    top = nvcc.parents[1]
    match = re.search(r"release (\d+\.\d+)(?:, V([\d.]+))?", _output([str(nvcc), "--version"]))
    version = tuple(int(n) for n in (match[2] or match[1]).split(".")) if match else (0,)
    target = top / f"targets/{_MACHINE}-linux"
    include = [top / "include", target / "include", Path("/usr/include")]
    lib = [nvcc.parent, top / "lib64", target / "lib", _SYSTEM, Path("/usr/lib")]
    fault = None if match else "does not run"
    laid_out = (top / LAID_OUT).is_file()
    if version[0] > _NEWEST and not laid_out:
        fault = f"CUDA {version[0]}, expected {_NEWEST} at most; `make cuda` brings one that fits"
    parts = [Part("nvcc", nvcc, fault, _dotted(version) if match else "")]
    # The one that Jittor loads from this very place, or its import fails.
    own = _SYSTEM if str(nvcc) == "/usr/bin/nvcc" else top / "lib64"
    parts.append(_part("cudart", [own], ["libcudart.so"]))
    parts.append(_part("headers", include, _HEADERS))
    for name in _LIBRARIES:
        header = _part(name, include, [f"{name}.h"])
        files = [f"lib{name}.so", *(_CUDNN_8 if name == "cudnn" else ())]
        part = _part(name, lib, files) if not header.fault else header
        parts.append(_checked(part, header.place, laid_out) if name == "cudnn" else part)
    return Toolkit(origin, nvcc, version, tuple(parts))


def _part(name: str, folders: list[Path], files: list[str] | tuple[str, ...]) -> Part:
    """Look for files, each in the first folder that has it."""
    places = [next((f / file for f in folders if (f / file).is_file()), None) for file in files]
    missing = [file for file, place in zip(files, places) if not place]  # noqa: B905
    if missing:
        return Part(name, None, f"{missing[0]} not found in {folders[0]}")
    return Part(name, places[0])


def _checked(cudnn: Part, header: Path | None, laid_out: bool) -> Part:
    """The part with its version, which Jittor's sources can be too old for."""
    try:
        text = header.with_name("cudnn_version.h").read_text(encoding="utf-8") if header else ""
    except (OSError, ValueError):
        text = ""
    version = re.findall(r"^#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL) (\d+)", text, re.MULTILINE)
    fault = cudnn.fault
    if version and int(version[0]) > _NEWEST_CUDNN and not laid_out:
        fault = f"cuDNN {version[0]}, expected 8; `make cuda` brings one that fits"
    return replace(cudnn, place=cudnn.place or header, fault=fault, version=".".join(version))


def _output(command: list[str]) -> str:
    """All that a command prints; nothing if it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
