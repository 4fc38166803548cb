"""`cuda.find` against small real libraries in the driver's place and made-up toolkits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DRIVER = """
extern "C" int cuInit(unsigned) {{ return {init}; }}
extern "C" int cuDeviceGetCount(int *count) {{ *count = {devices}; return 0; }}
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A folder whose libcuda.so.1 answers and has one device."""
    return build(tmp_path / "driver", DRIVER.format(init=0, devices=1))


@pytest.fixture
def nvcc(tmp_path: Path) -> Path:
    """A toolkit with a compiler that runs and its runtime where Jittor loads it from."""
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho release 12.2, V12.2.140\n")
    nvcc.chmod(0o755)
    runtime = tmp_path / "toolkit" / "lib64" / "libcudart.so"
    runtime.parent.mkdir()
    runtime.touch()
    return nvcc


def build(folder: Path, source: str) -> Path:
    folder.mkdir()
    library = folder / "libcuda.so.1"
    command = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    return folder


def find(libraries: Path, nvcc: Path | str | None) -> tuple[bool, str]:
    """What `find` says in a process that sees these libraries and this `nvcc_path`."""
    environment = {"PATH": os.defpath, "LD_LIBRARY_PATH": str(libraries)}
    if nvcc is not None:
        environment["nvcc_path"] = str(nvcc)
    code = (
        "from stages.shared.network import cuda; c = cuda.find(); print(c.usable, c.nvcc, c.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    usable, found, reason = done.stdout.rstrip("\n").split(" ", 2)
    assert (found != "None") == (usable == "True")
    return usable == "True", reason


def test_driver_compiler_and_runtime_make_it_usable(driver: Path, nvcc: Path) -> None:
    assert find(driver, nvcc) == (True, f"the NVIDIA driver and {nvcc} answer")


def test_a_linked_compiler_is_followed_to_its_toolkit(driver: Path, nvcc: Path) -> None:
    link = driver / "nvcc"
    link.symlink_to(nvcc)
    assert find(driver, link) == (True, f"the NVIDIA driver and {nvcc} answer")


def test_no_driver(tmp_path: Path, nvcc: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    usable, reason = find(tmp_path, nvcc)
    assert not usable
    assert reason.startswith("no NVIDIA driver answers (")
    assert "libcuda.so.1" in reason


def test_a_driver_without_its_functions(tmp_path: Path, nvcc: Path) -> None:
    libraries = build(tmp_path / "other", "int nothing;")
    assert find(libraries, nvcc) == (
        False,
        "no NVIDIA driver answers (libcuda.so.1 is not the driver's library)",
    )


@pytest.mark.parametrize(
    ("init", "devices", "fault"),
    [(100, 0, "cuInit gives error 100"), (0, 0, "it finds no device")],
)
def test_a_driver_without_a_device(
    tmp_path: Path, nvcc: Path, init: int, devices: int, fault: str
) -> None:
    libraries = build(tmp_path / "driver", DRIVER.format(init=init, devices=devices))
    assert find(libraries, nvcc) == (False, f"no NVIDIA driver answers ({fault})")


def test_no_runtime_beside_the_compiler(driver: Path, nvcc: Path) -> None:
    runtime = nvcc.parents[1] / "lib64" / "libcudart.so"
    runtime.unlink()
    fault = f"no CUDA runtime beside {nvcc} ({runtime} not found)"
    assert find(driver, nvcc) == (False, f"no usable CUDA toolkit: {fault}")


def test_a_compiler_that_does_not_run(driver: Path, nvcc: Path) -> None:
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    assert find(driver, nvcc) == (False, f"no usable CUDA toolkit: {nvcc} does not run")


def test_a_compiler_that_is_not_there(driver: Path) -> None:
    assert find(driver, "/nowhere/nvcc") == (False, "no usable CUDA toolkit: nvcc not found")


def test_turned_off_by_the_user(driver: Path) -> None:
    assert find(driver, "")[1].startswith("CUDA is turned off")
