"""What is found of CUDA on made-up machines.

A small real library stands in the driver's place; the toolkits are of empty files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.shared.network import cuda

ROOT = Path(__file__).parents[1]
DRIVER = """
extern "C" int cuInit(unsigned) {{ return {init}; }}
extern "C" int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}
extern "C" int cuDeviceGetCount(int *count) {{ *count = {devices}; return 0; }}
extern "C" int cuDeviceGetName(char *name, int, int) {{ name[0] = 'A'; name[1] = 0; return 0; }}
"""
NVCC = """#!/bin/sh
echo "Cuda compilation tools, release {major}, V{version}"
"""


def library(folder: Path, source: str) -> Path:
    """A folder with a libcuda.so.1 of this source."""
    folder.mkdir()
    command = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(folder / "libcuda.so.1")]
    subprocess.run(command, input=source, text=True, check=True)
    return folder


def driver(folder: Path, version: int = 13000, init: int = 0, devices: int = 1) -> Path:
    """A folder with a driver that answers; its version is 1000 x major + 10 x minor."""
    return library(folder, DRIVER.format(init=init, devices=devices, version=version))


def toolkit(top: Path, version: str = "12.4.131", cudnn: int | None = 8) -> Path:
    """A CUDA toolkit with all that Jittor looks for.

    Args:
        top: its folder.
        version: of CUDA.
        cudnn: the major version of cuDNN; None where it is not installed.

    Returns:
        Its compiler.
    """
    nvcc = top / "bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(NVCC.format(major=version.rpartition(".")[0], version=version))
    nvcc.chmod(0o755)
    names = ["cublas", "curand", "cufft", "cusparse", *(["cudnn"] if cudnn else [])]
    headers = [f"{name}.h" for name in (*names, "cuda_runtime", "npp")]
    libraries = [f"lib{name}.so" for name in (*names, "cudart")]
    if cudnn == 8:
        parts = ("ops_infer", "ops_train", "cnn_infer", "cnn_train")
        libraries += [f"libcudnn_{part}.so" for part in parts]
    for folder, files in (("include", headers), ("lib64", libraries)):
        (top / folder).mkdir()
        for name in files:
            (top / folder / name).touch()
    version_header = f"#define CUDNN_MAJOR {cudnn}\n#define CUDNN_MINOR 5\n"
    (top / "include/cudnn_version.h").write_text(version_header)
    return nvcc


Rows = list[tuple[str, str]]


def table(tmp_path: Path, libraries: Path | None = None, **variables: str) -> Rows:
    """The rows of doctor's table in a process that sees these libraries and variables.

    Its environment is tmp_path/venv, and Jittor's home tmp_path/home.
    """
    environment = {"PATH": os.defpath, "LD_LIBRARY_PATH": str(libraries or tmp_path), **variables}
    code = (
        "import json, pathlib, sys; from stages.tools import doctor;"
        " from stages.shared.network import cuda; top = pathlib.Path(sys.argv[1]);"
        " found = cuda.toolkits(top / 'venv', top / 'home');"
        " print(json.dumps(doctor.gpu(cuda.driver(), found)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [(what, how) for what, how in json.loads(done.stdout)]


def choice(rows: Rows) -> str:
    assert rows[-1][0] == "device: cuda"
    return rows[-1][1]


def test_a_toolkit_of_12_4_with_cudnn_8_is_taken_as_it_is(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda-12.4")
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(nvcc))
    top = tmp_path / "cuda-12.4"
    assert rows == [
        ("GPU", "A, driver for CUDA up to 13.0"),
        ("toolkit", f"CUDA 12.4.131 of {nvcc}, asked for by nvcc_path"),
        ("  nvcc", f"{nvcc} 12.4.131"),
        ("  cudart", f"{top}/lib64/libcudart.so"),
        ("  headers", f"{top}/include/cuda_runtime.h"),
        ("  cublas", f"{top}/lib64/libcublas.so"),
        ("  cudnn", f"{top}/lib64/libcudnn.so 8.5"),
        ("  curand", f"{top}/lib64/libcurand.so"),
        ("  cufft", f"{top}/lib64/libcufft.so"),
        ("  cusparse", f"{top}/lib64/libcusparse.so"),
        (
            "device: cuda",
            f"takes CUDA 12.4.131 of {nvcc}, asked for by nvcc_path; A, driver for CUDA up to 13.0",
        ),
    ]


def test_without_a_driver_the_toolkits_are_shown_and_none_is_taken(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    (tmp_path / "libcuda.so.1").write_text("no library")
    rows = table(tmp_path, nvcc_path=str(nvcc))
    assert rows[0][1].startswith("no NVIDIA driver answers (")
    assert "libcuda.so.1" in rows[0][1]
    assert len(rows) == 11
    assert choice(rows) == f"error: {rows[0][1]}"


def test_a_driver_that_is_too_old_for_the_toolkit(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda", version="12.4.131")
    rows = table(tmp_path, driver(tmp_path / "driver", version=11080), nvcc_path=str(nvcc))
    assert choice(rows) == (
        f"error: no usable CUDA toolkit ({nvcc}: it is CUDA 12.4.131, the driver is for 11.8);"
        " see make doctor"
    )
    # Any minor version does: NVIDIA promises that.
    rows = table(tmp_path, driver(tmp_path / "other", version=12000), nvcc_path=str(nvcc))
    assert choice(rows).startswith("takes CUDA 12.4.131")


@pytest.mark.parametrize(
    ("version", "cudnn", "part", "said"),
    [
        ("12.4.131", 9, "cudnn", "cuDNN 9, expected 8; `make cuda` brings one that fits"),
        ("12.4.131", None, "cudnn", "cudnn.h not found in {}/include"),
        ("13.0.88", 8, "nvcc", "CUDA 13, expected 12 at most; `make cuda` brings one that fits"),
    ],
)
def test_a_part_that_does_not_fit_is_named(
    tmp_path: Path, version: str, cudnn: int | None, part: str, said: str
) -> None:
    if part == "cudnn" and cudnn is None and Path("/usr/include/cudnn.h").exists():
        pytest.skip("this machine has cuDNN where every toolkit finds it")
    nvcc = toolkit(tmp_path / "cuda", version, cudnn)
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(nvcc))
    expected = said.format(tmp_path / "cuda")
    assert dict(rows)[f"  {part}"].endswith(expected)
    assert choice(rows).startswith(f"error: no usable CUDA toolkit ({nvcc}: {part}: {expected}")


@pytest.mark.parametrize("missing", ["lib64/libcudart.so", "include/npp.h", "lib64/libcufft.so"])
def test_a_part_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    (tmp_path / "cuda" / missing).unlink()
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(nvcc))
    assert f"{Path(missing).name} not found in {tmp_path}" in choice(rows)


def test_one_of_jittors_four_names_of_cudnn_is_missing(tmp_path: Path) -> None:
    """Without it Jittor's silent log lets the import pass, and what is left computes."""
    nvcc = toolkit(tmp_path / "cuda")
    (tmp_path / "cuda/lib64/libcudnn_cnn_train.so").unlink()
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(nvcc))
    assert "cudnn: libcudnn_cnn_train.so not found" in choice(rows)


def test_the_order_of_toolkits(tmp_path: Path) -> None:
    """The environment's own, then Jittor's, then the system's; one asked for is the only one."""
    where = driver(tmp_path / "driver")
    on_path = toolkit(tmp_path / "system")
    path = f"{on_path.parent}:{os.defpath}"
    assert f"takes CUDA 12.4.131 of {on_path}, the system's" in choice(
        table(tmp_path, where, PATH=path)
    )
    installed = toolkit(tmp_path / "home/.cache/jittor/jtcuda/cuda12.2_cudnn8_linux", "12.2.140")
    assert f"takes CUDA 12.2.140 of {installed}, installed by Jittor" in choice(
        table(tmp_path, where, PATH=path)
    )
    own = toolkit(tmp_path / "venv" / cuda.OWN, "13.0.88", cudnn=9)
    for name in ("ops_infer", "ops_train", "cnn_infer", "cnn_train"):
        (tmp_path / "venv" / cuda.OWN / f"lib64/libcudnn_{name}.so").touch()
    # Not finished: `make cuda` was stopped.
    assert "installed by Jittor" in choice(table(tmp_path, where, PATH=path))
    (tmp_path / "venv" / cuda.OWN / cuda.LAID_OUT).touch()
    rows = table(tmp_path, where, PATH=path)
    assert f"takes CUDA 13.0.88 of {own}, made by `make cuda`" in choice(rows)
    assert [how for what, how in rows if what == "toolkit"][:3] == [
        f"CUDA 13.0.88 of {own}, made by `make cuda`",
        f"CUDA 12.2.140 of {installed}, installed by Jittor",
        f"CUDA 12.4.131 of {on_path}, the system's",
    ]
    rows = table(tmp_path, where, PATH=path, nvcc_path=str(on_path))
    assert "asked for by nvcc_path" in choice(rows)
    assert len([what for what, _ in rows if what == "toolkit"]) == 1


def test_a_linked_compiler_is_followed_to_its_toolkit(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    link = tmp_path / "nvcc"
    link.symlink_to(nvcc)
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(link))
    assert f"takes CUDA 12.4.131 of {nvcc}," in choice(rows)


def test_a_script_that_runs_a_compiler_is_followed_to_its_toolkit(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    nvcc.write_text(f"{nvcc.read_text()}echo '#$ TOP={tmp_path}/cuda/bin/..'\n")
    script = tmp_path / "nvcc"
    script.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    script.chmod(0o755)
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(script))
    assert f"takes CUDA 12.4.131 of {nvcc}," in choice(rows)


def test_a_driver_without_its_functions(tmp_path: Path) -> None:
    rows = table(tmp_path, library(tmp_path / "other", "int nothing;"))
    assert rows[0][1] == "no NVIDIA driver answers (libcuda.so.1 is not the driver's library)"


@pytest.mark.parametrize(
    ("init", "devices", "fault"),
    [(100, 0, "cuInit gives error 100"), (0, 0, "it finds no device")],
)
def test_a_driver_without_a_device(tmp_path: Path, init: int, devices: int, fault: str) -> None:
    rows = table(tmp_path, driver(tmp_path / "driver", init=init, devices=devices))
    assert choice(rows) == f"error: no NVIDIA driver answers ({fault})"


def test_a_compiler_that_does_not_run(tmp_path: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path=str(nvcc))
    assert f"({nvcc}: nvcc: does not run)" in choice(rows)


def test_a_compiler_that_is_not_there(tmp_path: Path) -> None:
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path="/nowhere/nvcc")
    assert "no usable CUDA toolkit (/nowhere/nvcc not found)" in choice(rows)


def test_turned_off_by_the_user(tmp_path: Path) -> None:
    rows = table(tmp_path, driver(tmp_path / "driver"), nvcc_path="")
    assert choice(rows) == "error: CUDA is turned off (nvcc_path is empty in the environment)"
