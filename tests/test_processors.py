"""The kernels compute the same on other processors: with narrower vectors, and on Arm.

The kernels of the layers and of the loss are taken out of Jittor, put into a program, and compiled
as Jittor compiles, but for another processor. Arm programs run in QEMU, where that is installed.
"""

from __future__ import annotations

import math
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from stages.shared.network.kernels import conv, linear, loss, norm, vector

pytestmark = pytest.mark.slow


class Array(NamedTuple):
    """An input or an output of a kernel."""

    shape: tuple[int, ...]
    kind: str = "float"
    value: str = "number()"  # of element i, where it is an input


class Kernel(NamedTuple):
    """What Jittor would compile."""

    source: str
    inputs: list[Array]
    outputs: list[Array]


ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
ARM, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
WITH_ARM = pytest.mark.skipif(not (shutil.which(ARM) and shutil.which(QEMU)), reason=f"no {QEMU}")
TARGETS = [
    pytest.param(["g++", "-march=x86-64"], [], id="sse2", marks=ON_X86),
    pytest.param(["g++", "-march=haswell"], [], id="avx2", marks=ON_X86),
    pytest.param([ARM, "-static"], [QEMU], id="arm", marks=WITH_ARM),
]


def convolution(channels: int, outputs: int, stride: int, padding: int) -> tuple[str, list[Kernel]]:
    """3 x 3, on two images of 9 x 12."""
    rows, columns = ((side + 2 * padding - 3) // stride + 1 for side in (9, 12))
    x, y = Array((2, channels, 9, 12)), Array((2, outputs, rows, columns))
    weight, bias = Array((outputs, channels, 3, 3)), Array((outputs,))
    sizes = f"C = {channels}, H = 9, W = 12, O = {outputs}, KH = 3, KW = 3"
    steps = f"SY = {stride}, SX = {stride}, PY = {padding}, PX = {padding}"
    constants = f"constexpr int {sizes}, {steps}; constexpr bool BIAS = true, RELU = true;"
    return vector.HEADER + constants + conv._GEOMETRY, [
        Kernel(conv._FORWARD, [x, weight, bias], [y]),
        Kernel(conv._GRAD_X, [y, weight, y], [x]),
        Kernel(conv._GRAD_W, [x, y, y], [weight, bias]),
    ]


def linear_layer() -> tuple[str, list[Kernel]]:
    """From 33 to 13, on seven images."""
    x, weight, bias, y = Array((7, 33)), Array((13, 33)), Array((13,)), Array((7, 13))
    constants = "constexpr bool BIAS = true, RELU = true;"
    return vector.HEADER + constants + linear._FORWARD_HEADER + linear._PRODUCT, [
        Kernel(linear._FORWARD, [x, weight, bias], [y]),
        Kernel(linear._GRAD_X, [y, weight, y], [x]),
        Kernel(linear._GRAD_W, [x, y, y], [weight, bias]),
    ]


def normalisation(pool: int) -> tuple[str, list[Kernel]]:
    """Three channels, on five images of 9 x 12."""
    height, width = 9 // pool, 12 // pool
    x, y, channel = Array((5, 3, 9, 12)), Array((5, 3, height, width)), Array((3,))
    positive = channel._replace(value="number() + 1")
    place = f"i % {height * width} / {width} * {pool} * 12 + i % {width} * {pool}"
    origin = y._replace(kind="unsigned short", value=place)
    constants = f"constexpr int C = 3, H = 9, W = 12, POOL = {pool}; constexpr bool RELU = true;"
    return vector.HEADER + constants + norm._PLANES, [
        Kernel(norm._TRAIN, [x, *[positive] * 4], [y, origin, *[channel] * 4]),
        Kernel(norm._EVALUATE, [x, *[positive] * 4], [y]),
        Kernel(norm._GRAD, [x, *[positive] * 3, y, y, origin], [x, channel, channel]),
    ]


def cross_entropy() -> tuple[str, list[Kernel]]:
    """Nine images, four classes."""
    logits, labels, one = Array((9, 4)), Array((9,), "int", "i % 4"), Array((1,))
    return "#include <algorithm>\n", [
        Kernel(loss._FORWARD, [logits, labels], [one, logits]),
        Kernel(loss._GRAD, [logits, labels, one], [logits]),
    ]


CASES = {
    "convolution": convolution(channels=5, outputs=13, stride=1, padding=1),
    "strided": convolution(channels=1, outputs=16, stride=2, padding=0),
    "linear": linear_layer(),
    "norm": normalisation(pool=1),
    "pooled": normalisation(pool=2),
    "loss": cross_entropy(),
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
        for i, (shape, kind, value) in enumerate(inputs):
            count = math.prod(shape)
            lines.append(f"static {kind} in{i}_p[{count}];")
            lines.append(f"for (int i = 0; i < {count}; i++) in{i}_p[i] = {value};")
            lines += [f"const int in{i}_shape{d} = {size};" for d, size in enumerate(shape)]
        for i, (shape, kind, _) in enumerate(outputs):
            lines.append(f"static {kind} out{i}_p[{math.prod(shape)}];")
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
    assert np.abs(here).sum() > 1
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
