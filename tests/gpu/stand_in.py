"""A machine with two cards that compute nothing: stand-ins for CUDA's libraries, made with g++.

What is compiled and linked is real; only what runs is not. In a process that has loaded them,
Jittor's own libraries find these in place of NVIDIA's, since they go by the same name (SONAME).
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("stand_in.cc")
_LIBRARIES = ("cudart", "cublasLt", "cublas", "cudnn", "curand", "cufft", "cusparse")

# Python runs it as it starts, in each process: also in those that Jittor starts.
_LOADER = """
import ctypes
for path in {paths}:
    ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
"""


def make(folder: Path, toolkit: Path, driver: int = 13000) -> dict[str, str]:
    """Make the stand-ins.

    Args:
        folder: an empty one, for the libraries.
        toolkit: a CUDA toolkit with the libraries that they stand in for.
        driver: the version of CUDA that the driver knows, as 1000 x major + 10 x minor.

    Returns:
        The variables of the environment with which a process takes them.
    """
    (folder / "driver").mkdir(parents=True)
    (folder / "start").mkdir()
    define = ["-DCUDA", f"-DDRIVER={driver}"]
    _compile(folder / "driver/libcuda.so.1", toolkit, define, [])
    (folder / "driver/libcuda.so").symlink_to("libcuda.so.1")
    made = []
    for name in _LIBRARIES:
        real = toolkit / "lib64" / f"lib{name}.so"
        table = subprocess.run(
            ["objdump", "-p", str(real)], capture_output=True, text=True, check=True
        ).stdout
        soname = re.search(r"SONAME +(\S+)", table)
        assert soname
        symbols = subprocess.run(
            ["nm", "-D", "--defined-only", str(real)], capture_output=True, text=True, check=True
        ).stdout
        names = re.findall(r" T (\w+)", symbols)
        _compile(folder / soname[1], toolkit, [f"-D{name.upper()}"], names)
        made.append(str(folder / soname[1]))
    (folder / "start/sitecustomize.py").write_text(_LOADER.format(paths=made))
    return {"LD_LIBRARY_PATH": str(folder / "driver"), "PYTHONPATH": str(folder / "start")}


def _compile(library: Path, toolkit: Path, define: list[str], names: list[str]) -> None:
    """Compile stand_in.cc as one library, and add the functions that it does not have."""
    command = ["g++", "-shared", "-fPIC", f"-I{toolkit / 'include'}", "-o"]
    part = library.with_suffix(".o")
    subprocess.run(["g++", "-c", *command[2:], str(part), *define, str(_SOURCE)], check=True)
    listed = subprocess.run(
        ["nm", "--defined-only", str(part)], capture_output=True, text=True, check=True
    ).stdout
    own = set(re.findall(r" T (\w+)", listed))
    rest = "".join(
        f'int {name}(void) __attribute__((alias("zero")));\n' for name in names if name not in own
    )
    source = library.with_suffix(".c")
    source.write_text(f"static int zero(void) {{ return 0; }}\n{rest}")
    subprocess.run(["gcc", "-fPIC", "-w", "-c", "-o", f"{part}2", str(source)], check=True)
    # As in NVIDIA's, each function carries the name of its library.
    link = [f"-Wl,-soname,{library.name}", "-Wl,--default-symver"]
    subprocess.run([*command, str(library), *link, str(part), f"{part}2"], check=True)
