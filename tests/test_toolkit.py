"""`make cuda` brings NVIDIA's packages into the shape that Jittor wants, and changes none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stages.shared.network import cuda
from stages.tools import toolkit
from stages.tools.toolkit import ToolkitError

PARTS = {
    "cu13": {
        "bin": ["nvcc"],
        "include": ["cuda_runtime.h", "cublas.h", "curand.h", "cufft.h", "cusparse.h"],
        "lib": [
            "libcublas.so.13",
            "libcudart.so.13",
            "libcurand.so.10",
            "libcufft.so.12",
            "libcusparse.so.12",
            "libcudadevrt.a",
        ],
    },
    "cudnn": {
        "include": ["cudnn.h", "cudnn_version.h"],
        "lib": ["libcudnn.so.9", "libcudnn_ops.so.9", "libcudnn_cnn.so.9"],
    },
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The folders that the packages unpack to, with empty files."""
    for part, folders in PARTS.items():
        for folder, names in folders.items():
            (tmp_path / "nvidia" / part / folder).mkdir(parents=True)
            for name in names:
                (tmp_path / "nvidia" / part / folder / name).touch()
    nvcc = tmp_path / "nvidia/cu13/bin/nvcc"
    nvcc.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "release 13.0, V13.0.88" || echo "$@"\n'
    )
    nvcc.chmod(0o755)
    return tmp_path / "nvidia"


def test_all_that_jittor_needs_is_found_in_one_folder(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nvcc_path", raising=False)
    top = tmp_path / "venv" / cuda.OWN
    for _ in range(2):  # the second time in place of the first
        toolkit.make(top, packages)
    found = cuda.toolkits(tmp_path / "venv", tmp_path)[0]
    assert (found.nvcc, found.version, found.fault) == (top / "bin/nvcc", (13, 0, 88), None)
    for old in ("ops_infer", "ops_train", "cnn_infer", "cnn_train"):
        library = (top / f"lib64/libcudnn_{old}.so").resolve()
        assert library == packages / f"cudnn/lib/libcudnn_{old[:3]}.so.9"
    # Under the name with the version too: so libraries find each other.
    assert (top / "lib64/libcudnn_ops.so.9").is_file()
    assert "include" in (top / "include/cudnn.h").read_text()
    assert (packages / "cudnn/include/cudnn.h").read_text() == ""


def test_a_shim_reaches_what_it_stands_before(packages: Path, tmp_path: Path) -> None:
    top = tmp_path / "cuda"
    toolkit.make(top, packages)
    (packages / "cu13/include/cuda_runtime.h").write_text(
        "struct cudaDeviceProp { int memoryBusWidth, integrated; };"
    )
    (packages / "cudnn/include/cudnn.h").write_text(
        "enum cudnnStatus_t { CUDNN_STATUS_SUCCESS, CUDNN_STATUS_NOT_SUPPORTED };"
    )
    source = """
        #include <cuda_runtime.h>
        #include <cudnn.h>
        #include <npp.h>
        int mode(cudaDeviceProp p) { return p.computeMode + p.clockRate + NPP_MAX_32S; }
        bool rnn() { return cudnnGetRNNParamsSize(nullptr, 1, 2.0) == CUDNN_STATUS_NOT_SUPPORTED; }
    """
    command = ["g++", "-std=c++14", "-fsyntax-only", f"-I{top}/include", "-x", "c++", "-"]
    subprocess.run(command, input=source, text=True, check=True)


def test_the_compiler_gets_jittors_words_changed_and_no_others(
    packages: Path, tmp_path: Path
) -> None:
    toolkit.make(tmp_path / "with space/cuda", packages)
    words = ["-std=c++14", "a b", "-arch=compute_80", "-code=sm_80", "-DX='1'", "x.cc"]
    done = subprocess.run(
        [tmp_path / "with space/cuda/bin/nvcc", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "-std=c++17 a b -arch=compute_80 -code=compute_80 -code=sm_80 -DX='1' x.cc\n"
    )


def test_packages_that_are_not_installed_are_named(packages: Path, tmp_path: Path) -> None:
    (packages / "cudnn").rename(tmp_path / "elsewhere")
    with pytest.raises(ToolkitError, match=r"nvidia/cudnn not found; `make cuda` installs it"):
        toolkit.make(tmp_path / "cuda", packages)
    assert not os.path.lexists(tmp_path / "cuda")
