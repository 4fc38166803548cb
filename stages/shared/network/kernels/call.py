"""Whether a CPU kernel can be used, and the one function that runs it, through `jt.code`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stages.shared.network.runtime import jt, nn

_FOLDER = Path(__file__).parent


def usable(*arrays: jt.Var) -> bool:
    """Whether the CPU kernels apply: Jittor runs on the CPU, every array is float32, none is empty.

    Args:
        arrays: what a kernel would read.
    """
    return not jt.flags.use_cuda and all(a.dtype == "float32" and a.numel() > 0 for a in arrays)


def fits(*counts: int) -> bool:
    """Whether each of these is an `int` of C++, as the kernels count within one image.

    Args:
        counts: products of sizes.
    """
    return max(counts) < 2**31


def fallback(y: jt.Var, relu: bool, pool: int = 1) -> jt.Var:
    """Apply ReLU and max-pooling with Jittor's ops, after Jittor's own layer.

    Args:
        y: float (N, C) or (N, C, H, W), as Jittor's layer gave it.
        relu: replace what is negative by 0.
        pool: 2 halves height and width, keeping the maximum of each 2 x 2 square.

    Returns:
        float (N, C), or (N, C, H // pool, W // pool).
    """
    y = nn.relu(y) if relu else y
    return nn.Pool(pool)(y) if pool > 1 else y


def shape_of_gradient(x: jt.Var) -> Sequence[int] | None:
    """The shape of x, or None if no gradient of x is wanted, as of the images.

    Only on the way forward: on the way back Jittor has stopped the gradients of all.
    """
    return None if x.is_stop_grad() else x.shape


def gradients(
    of_x: Sequence[int] | None, others: list[Sequence[int]]
) -> tuple[list[Sequence[int]], str]:
    """What a kernel of gradients is to write.

    Args:
        of_x: as `shape_of_gradient` gave it.
        others: the shapes of the other gradients.

    Returns:
        The shapes for `call`, and the last arguments of the line: first where the gradient of x
        goes, which is null if it is not wanted.
    """
    shapes = others if of_x is None else [of_x, *others]
    names = [f"out{i}_p" for i in range(len(shapes))]
    return shapes, ", ".join(names if of_x is not None else ["nullptr", *names])


def call(
    header: str,
    line: str,
    inputs: list[jt.Var],
    shapes: list[Sequence[int]],
    types: list[str] | None = None,
    data: dict[str, float] | None = None,
) -> list[jt.Var]:
    """Launch a kernel. Every CPU kernel is launched here and nowhere else.

    Args:
        header: the C++ file in this folder without its ending, such as "conv".
        line: a call of one of its functions. The inputs are named in0_p, in1_p and so on, their
            sizes in0_shape0 and so on, the outputs out0_p and so on, a setting data["name"].
        inputs: arrays as the function expects them.
        shapes: of the outputs.
        types: of the outputs, where they are not all float32.
        data: numbers that change from call to call, so that the kernel need not be compiled again.

    Returns:
        The outputs.
    """
    result: list[jt.Var] = jt.code(
        shapes,
        types or ["float32"] * len(shapes),
        inputs,
        cpu_header=source(header),
        cpu_src=line,
        data=data or {},
    )
    return result


@cache
def source(header: str) -> str:
    """The text of a header as Jittor gets it, with those it includes in place of the lines for it.

    No path is in it: it is part of the key to the compiled kernel, which all clones share. Comments
    and the section "The formula." are left out: Jittor copies and hashes the text at each call,
    which takes about half a microsecond for 1,000 letters.

    Args:
        header: as `call` takes it.
    """
    whole = _whole(header, set())
    kernels = re.sub(r"// The formula\..*?(?=// The kernels?\.)", "", whole, flags=re.DOTALL)
    lines = (line.strip() for line in kernels.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


def _whole(header: str, included: set[str]) -> str:
    """A header's text, with each header that it includes in place of the first line for it."""
    if header in included:
        return ""
    included.add(header)
    text = (_FOLDER / f"{header}.h").read_text("utf-8")
    return re.sub(r'#include "(\w+)\.h"', lambda found: _whole(found[1], included), text)
