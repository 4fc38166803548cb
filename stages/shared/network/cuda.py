"""Whether a GPU can be used here, found out without importing Jittor.

Jittor fails at its import where it finds an `nvcc` but no CUDA runtime or no driver, so the answer
must be known before. Only the standard library is used: `make doctor` asks on a bare machine too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cuda:
    """What was found of CUDA.

    Attributes:
        usable: whether driver, compiler and runtime all answer.
        reason: why it is usable or not, in words for the user.
        nvcc: the CUDA compiler to give to Jittor as `nvcc_path`; None unless usable.
    """

    usable: bool
    reason: str
    nvcc: str | None = None


def find() -> Cuda:
    """Ask the driver, the compiler and the runtime, in this order.

    Returns:
        The answer, with the reason of the first that fails. Nothing is raised.
    """
    if os.environ.get("nvcc_path") == "":
        return Cuda(False, "CUDA is turned off (nvcc_path is empty in the environment)")
    fault = _driver_fault()
    if fault:
        return Cuda(False, f"no NVIDIA driver answers ({fault})")
    fault = "nvcc not found"
    for nvcc in _compilers():
        if not _runs(nvcc):
            fault = f"{nvcc} does not run"
        elif not _runtime(nvcc).is_file():
            fault = f"no CUDA runtime beside {nvcc} ({_runtime(nvcc)} not found)"
        else:
            return Cuda(True, f"the NVIDIA driver and {nvcc} answer", str(nvcc))
    return Cuda(False, f"no usable CUDA toolkit: {fault}")


def _driver_fault() -> str | None:
    """What is wrong with the driver; None where it answers and has a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        missing = "cannot open shared object file" in str(error)
        return "libcuda.so.1 not found" if missing else str(error)
    try:
        code = driver.cuInit(0)
        if code != 0:
            return f"cuInit gives error {code}"
        count = ctypes.c_int(0)
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    except AttributeError:
        return "libcuda.so.1 is not the driver's library"
    if code != 0:
        return f"cuDeviceGetCount gives error {code}"
    return None if count.value > 0 else "it finds no device"


def _compilers() -> list[Path]:
    """Every nvcc in the order of Jittor's own search, links followed as Jittor follows them."""
    asked = os.environ.get("nvcc_path")
    names = [asked] if asked else ["nvcc", "/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc"]
    found = [shutil.which(name) for name in names]
    # /usr/bin/nvcc keeps its name: Jittor knows a distribution's package by it.
    return [Path(p) if p == "/usr/bin/nvcc" else Path(p).resolve() for p in found if p]


def _runs(nvcc: Path) -> bool:
    try:
        command = [str(nvcc), "--version"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _runtime(nvcc: Path) -> Path:
    """Where Jittor loads the runtime from: this very file, or its import fails."""
    if str(nvcc) == "/usr/bin/nvcc":
        return Path(f"/usr/lib/{platform.machine()}-linux-gnu/libcudart.so")
    return nvcc.parent.parent / "lib64" / "libcudart.so"
