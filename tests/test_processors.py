"""The kernels compute the same on other processors: with narrower vectors, and on Arm.

Each kernel is taken out of Jittor, put into a program of its own, and compiled as Jittor compiles,
but for another processor. Arm programs run in QEMU, where that and the compiler are installed.
"""

from __future__ import annotations

import math
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.shared.fast import conv, linear, loss, norm, vector

pytestmark = pytest.mark.slow

Array = tuple[str, tuple[int, ...]]  # what fills it, or its type where it is an output; its shape
Kernel = tuple[str, list[Array], list[Array]]  # source, inputs, outputs

ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
ARM, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
WITH_ARM = pytest.mark.skipif(not (shutil.which(ARM) and shutil.which(QEMU)), reason=f"no {QEMU}")
TARGETS = [
    pytest.param(["g++", "-march=x86-64"], [], id="sse2", marks=ON_X86),
    pytest.param(["g++", "-march=haswell"], [], id="avx2", marks=ON_X86),
    pytest.param([ARM, "-static"], [QEMU], id="arm", marks=WITH_ARM),
]

N, C, H, W = 5, 3, 9, 12
X, POOLED, CHANNEL = (N, C, H, W), (N, C, 4, 6), (C,)
FLAT, WIDE, THIN = (7, 33), (13, 33), (7, 13)
POSITIVE: Array = ("number() + 1", CHANNEL)
ORIGIN: Array = ("i % 24 / 6 * 2 * 12 + i % 6 * 2", POOLED)


def convolution(channels: int, outputs: int, stride: int, padding: int) -> tuple[str, list[Kernel]]:
    """The three kernels of a 3 x 3 convolution on two images."""
    rows, columns = ((side + 2 * padding - 3) // stride + 1 for side in (H, W))
    x, y = (2, channels, H, W), (2, outputs, rows, columns)
    weight, bias = (outputs, channels, 3, 3), (outputs,)
    sizes = f"C = {channels}, H = {H}, W = {W}, O = {outputs}, KH = 3, KW = 3"
    steps = f"SY = {stride}, SX = {stride}, PY = {padding}, PX = {padding}"
    constants = f"constexpr int {sizes}, {steps}; constexpr bool BIAS = true, RELU = true;"
    return vector.HEADER + constants + conv._GEOMETRY, [
        (conv._FORWARD, [("f", x), ("f", weight), ("f", bias)], [("float", y)]),
        (conv._GRAD_X, [("f", y), ("f", weight), ("f", y)], [("float", x)]),
        (conv._GRAD_W, [("f", x), ("f", y), ("f", y)], [("float", weight), ("float", bias)]),
    ]


CASES: dict[str, tuple[str, list[Kernel]]] = {
    "convolution": convolution(channels=5, outputs=13, stride=1, padding=1),
    "strided": convolution(channels=1, outputs=16, stride=2, padding=0),
    "linear": (
        vector.HEADER
        + "constexpr bool BIAS = true, RELU = true;"
        + linear._FORWARD_HEADER
        + linear._PRODUCT,
        [
            (
                linear._FORWARD,
                [("f", (7, 33)), ("f", (13, 33)), ("f", (13,))],
                [("float", (7, 13))],
            ),
            (
                linear._GRAD_X,
                [("f", (7, 13)), ("f", (13, 33)), ("f", (7, 13))],
                [("float", (7, 33))],
            ),
            (
                linear._GRAD_W,
                [("f", FLAT), ("f", THIN), ("f", THIN)],
                [("float", WIDE), ("float", (13,))],
            ),
        ],
    ),
    "norm": (
        vector.HEADER
        + f"constexpr int C = {C}, H = {H}, W = {W}, POOL = 2; constexpr bool RELU = true;"
        + norm._PLANES,
        [
            (
                norm._TRAIN,
                [("f", X), *[POSITIVE] * 4],
                [("float", POOLED), ("unsigned short", POOLED), *[("float", CHANNEL)] * 4],
            ),
            (norm._EVALUATE, [("f", X), *[POSITIVE] * 4], [("float", POOLED)]),
            (
                norm._GRAD,
                [("f", X), *[POSITIVE] * 3, ("f", POOLED), ("f", POOLED), ORIGIN],
                [("float", X), ("float", CHANNEL), ("float", CHANNEL)],
            ),
        ],
    ),
    "loss": (
        "#include <algorithm>\n",
        [(loss._FORWARD, [("f", (9, 4)), ("i % 4", (9,))], [("float", (1,)), ("float", (9, 4))])],
    ),
}


def program(header: str, kernels: list[Kernel]) -> str:
    """C++ that fills inputs from a generator, runs kernels as Jittor would, and prints outputs."""
    lines = ["#include <cmath>", "#include <cstdio>", "#include <map>", "#include <string>", header]
    lines.append(
        "unsigned state = 1; float number() {"
        " state = state * 1664525u + 1013904223u; return (state >> 8) / 16777216.f - 0.5f; }"
        'std::map<std::string, double> data = {{"eps", 1e-5}, {"momentum", 0.1}};'
    )
    for place, (source, inputs, outputs) in enumerate(kernels):
        lines.append(f"void kernel{place}() {{")
        for i, (value, shape) in enumerate(inputs):
            kind = {"i % 4": "int", ORIGIN[0]: "unsigned short"}.get(value, "float")
            count = math.prod(shape)
            lines.append(f"static {kind} in{i}_p[{count}];")
            lines.append(f"for (int i = 0; i < {count}; i++)")
            lines.append(f"in{i}_p[i] = {'number()' if value == 'f' else value};")
            lines += [f"const int in{i}_shape{d} = {size};" for d, size in enumerate(shape)]
        lines += [f"static {kind} out{i}_p[{math.prod(s)}];" for i, (kind, s) in enumerate(outputs)]
        lines.append(f"auto* out_p = out0_p; (void)out_p; {{ {source} }}")
        for i in range(len(outputs)):
            lines.append(f'for (auto value : out{i}_p) printf("%.9g\\n", (double)value);')
        lines.append("}")
    calls = " ".join(f"kernel{place}();" for place in range(len(kernels)))
    return "\n".join([*lines, f"int main() {{ {calls} }}"])


def printed(source: Path, compiler: list[str], runner: list[str]) -> np.ndarray:
    binary = source.with_suffix(".out")
    flags = ["-Ofast", "-std=c++17", "-fopenmp"]
    subprocess.run([*compiler, *flags, str(source), "-o", str(binary)], check=True)
    text = subprocess.run([*runner, str(binary)], check=True, capture_output=True, text=True).stdout
    return np.array(text.split(), float)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("compiler", "runner"), TARGETS)
def test_a_kernel_computes_the_same(
    name: str, compiler: list[str], runner: list[str], tmp_path: Path
) -> None:
    source = tmp_path / f"{name}.cc"
    source.write_text(program(*CASES[name]))
    here = printed(source, ["g++", "-march=native"], [])
    there = printed(source, compiler, runner)
    assert len(here) > 30
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
