"""Each kernel on other processors, by other compilers and under sanitizers.

It agrees with the plain loop beside it, and gives the same bytes everywhere.

To add a kernel called NAME:

1. stages/shared/network/kernels/NAME.h: the plain loop, in double precision, then the fast one.
2. NAME.py beside it: the check of what the kernel can take, a fall-back to Jittor for all else, and
   the launch through `call.call`; tests/test_kernels.py compares it with Jittor.
3. tests/kernels/NAME.cc: a table of shapes (1, odd, larger than a tile), each computed both ways.
   This test and `make lint` find it there.

A program prints a digest of each array that a kernel wrote, and each array that differs from that
of the plain loop, with its shape and both numbers. It is compiled as Jittor compiles, for this
processor and for others.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from stages.shared.network import runtime

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[1]
PROGRAMS = sorted(path.stem for path in (TOP / "tests" / "kernels").glob("*.cc"))
HEADERS = TOP / "stages" / "shared" / "network" / "kernels"
AS_JITTOR = [*runtime.IEEE.split(), "-std=c++14", "-fopenmp", "-I", str(TOP)]
# Clang knows no `#pragma GCC unroll`, and vectorises nothing where a sanitizer watches.
UNWARNED = ["-Wno-unknown-pragmas", "-Wno-pass-failed"]
WATCHED = ["-O1", "-g", *UNWARNED]


Built = dict[tuple[str, str], "Future[Path]"]


@dataclass(frozen=True)
class Target:
    """What a program is compiled for, and how it is run."""

    compiler: str
    flags: list[str]
    runner: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def compile(self, source: Path, binary: Path) -> None:
        command = [self.compiler, *AS_JITTOR, *self.flags, str(source), "-o", str(binary)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self, binary: Path, threads: int = 3) -> list[str]:
        """What it printed, by lines. Three threads share no shape's work evenly."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **self.environment}
        command = [*self.runner, str(binary)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()


TARGETS = {
    "native": Target("g++", ["-march=native"]),
    "avx2": Target("g++", ["-march=haswell"]),
    "avx512 of Intel": Target("g++", ["-march=skylake-avx512"]),
    "without fma": Target("g++", ["-march=x86-64"]),
    "arm": Target("aarch64-linux-gnu-g++", ["-static"], ["qemu-aarch64-static"]),
    "native, gcc 11": Target("g++-11", ["-march=native"]),
    "avx2, gcc 11": Target("g++-11", ["-march=haswell"]),
    "avx2, clang": Target("clang++", ["-march=haswell", *UNWARNED]),
    "address and undefined": Target(
        "clang++",
        [*WATCHED, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    ),
    # gcc's OpenMP synchronises unseen by the sanitizer, which then reports races that are none.
    # Clang's tells it by way of Archer.
    "thread": Target(
        "clang++",
        [*WATCHED, "-fsanitize=thread"],
        environment={
            "OMP_TOOL_LIBRARIES": "libarcher.so",
            "TSAN_OPTIONS": "ignore_noninstrumented_modules=1",
        },
    ),
}


# Ends well where the processor can do what it was compiled for.
NOTHING = """
int main() {
#ifdef __AVX512VL__
    return !__builtin_cpu_supports("avx512vl");
#elif defined __AVX2__
    return !__builtin_cpu_supports("avx2");
#else
    return 0;
#endif
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """All programs for all targets that this machine can run; compiled while the first run."""
    folder = tmp_path_factory.mktemp("built")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            (name, program): pool.submit(build, program, target, folder / f"{program}-{name}")
            for name, target in TARGETS.items()
            if works(target, folder / name)
            for program in PROGRAMS
        }


def works(target: Target, folder: Path) -> bool:
    """Whether the compiler, its libraries, what runs a program and such a processor are there."""
    folder.mkdir()
    source = folder / "nothing.cc"
    source.write_text(NOTHING)
    try:
        target.compile(source, folder / "nothing")
        target.run(folder / "nothing")
    except (AssertionError, OSError):
        return False
    return True


def build(program: str, target: Target, binary: Path) -> Path:
    target.compile(TOP / "tests" / "kernels" / f"{program}.cc", binary)
    return binary


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_kernel_agrees_with_the_plain_loop(name: str, program: str, built: Built) -> None:
    if (name, program) not in built:
        pytest.skip(f"{TARGETS[name].compiler} {TARGETS[name].flags} does not work here")
    TARGETS[name].run(built[name, program].result())


@pytest.fixture(scope="module")
def alone(built: Built) -> Callable[[str], list[str]]:
    """What a program prints as it is compiled for this processor, on one thread."""

    @cache
    def printed(program: str) -> list[str]:
        return TARGETS["native"].run(built["native", program].result(), threads=1)

    return printed


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].flags[0] != "-O1"])
def test_a_kernel_gives_the_same_bytes(
    name: str, program: str, built: Built, alone: Callable[[str], list[str]]
) -> None:
    """For each target and number of threads; the first line of the difference names the array."""
    if (name, program) not in built:
        pytest.skip(f"{TARGETS[name].compiler} {TARGETS[name].flags} does not work here")
    for threads in (1, 3):
        assert TARGETS[name].run(built[name, program].result(), threads) == alone(program)


def test_each_header_has_its_program() -> None:
    headers = {path.stem for path in HEADERS.glob("*.h")}
    assert headers - {"vector", "tile", "exchange"} == set(PROGRAMS)  # which compute nothing
    for name in PROGRAMS:
        assert f"tests/kernels/{name}.cc" in (HEADERS / f"{name}.h").read_text()
