"""Lay NVIDIA's packages out as the CUDA toolkit that Jittor wants: `make cuda` runs it.

Jittor asks one folder for everything: bin/nvcc, include, and lib64 with names that have no version.
The packages of requirements-cuda.txt lie elsewhere in the environment, and are newer than Jittor:
links bring them into that shape, and a few small headers beside this file bring back what CUDA 13
and cuDNN 9 took away. Jittor's own files stay as they are.

Reads .venv/lib/python3.*/site-packages/nvidia and writes .venv/cuda.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from stages.shared.network import cuda
from stages.shared.program import UserError, run

_SHIMS = Path(__file__).parent / "cuda"
_PARTS = ("cu13", "cudnn")  # the folders that the packages are unpacked to
# Four of cuDNN 8's libraries, which Jittor loads by name, and where cuDNN 9 keeps what was in them.
_OLD_NAMES = {
    "libcudnn_ops_infer.so": "libcudnn_ops.so",
    "libcudnn_ops_train.so": "libcudnn_ops.so",
    "libcudnn_cnn_infer.so": "libcudnn_cnn.so",
    "libcudnn_cnn_train.so": "libcudnn_cnn.so",
}


class ToolkitError(UserError):
    """A toolkit that cannot be made of what is installed."""


def make(target: Path, packages: Path) -> None:
    """Make a toolkit of links and shims, in place of one that was there.

    Args:
        target: the folder of the toolkit.
        packages: the folder that NVIDIA's packages share, with cu13 and cudnn in it.

    Raises:
        ToolkitError: one of the two is not there.
    """
    for part in _PARTS:
        if not (packages / part / "include").is_dir():
            raise ToolkitError(f"{packages / part} not found; `make cuda` installs it")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_SHIMS, target)
    (target / "nvidia").symlink_to(packages)
    (target / "lib64").mkdir()
    for part in _PARTS:
        for header in (packages / part / "include").iterdir():
            _link(target / "include" / header.name, header)
        for library in (packages / part / "lib").glob("lib*"):
            # Under its own name, by which libraries find each other, and without the version.
            _link(target / "lib64" / library.name, library)
            _link(target / "lib64" / re.sub(r"\.so\.[\d.]+$", ".so", library.name), library)
    for old, new in _OLD_NAMES.items():
        _link(target / "lib64" / old, target / "lib64" / new)
    # Last: it says that all of it is there.
    (target / cuda.LAID_OUT).write_text(_versions(), encoding="utf-8")


def _link(name: Path, to: Path) -> None:
    """Make a link, where nothing has the name yet: a shim goes before what it includes."""
    if not name.exists() and to.exists():
        name.symlink_to(to)


def _versions() -> str:
    """The installed packages of NVIDIA's, a line each."""
    found = {
        f"{package.metadata['Name']} {package.version}\n"
        for package in metadata.distributions()
        if str(package.metadata["Name"]).startswith(("nvidia-cu", "nvidia-nv"))
    }
    return "".join(sorted(found))


def main() -> None:
    target = Path(sys.prefix, cuda.OWN)
    make(target, Path(sysconfig.get_path("purelib"), "nvidia"))
    print(f"{target}: a CUDA toolkit in the shape that Jittor wants")


if __name__ == "__main__":
    run(main)
