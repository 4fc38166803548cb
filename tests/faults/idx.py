"""Damaged IDX files: refused, or exactly the array that the header speaks of."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from stages.shared import idx
from tests.faults.trial import Trial, judged, mutated

WHAT = "damaged IDX files"
WHOLE, SHORT = 100_000, 5_000

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    path = folder / "file"
    whole = good()
    for _ in range(count):
        content = mutated(rng, rng.choice(whole))
        path.write_bytes(content)
        yield judged(content[:24].hex(), lambda c=content: agrees(path, c))  # type: ignore[misc]


def good() -> list[bytes]:
    """Files of every type, with one dimension and with three, plain and gzipped."""
    plain = [_file(code, shape) for code in _TYPES for shape in ((7,), (3, 4, 5), (2, 0, 3))]
    return plain + [gzip.compress(content) for content in plain]


def _file(code: int, shape: tuple[int, ...]) -> bytes:
    header = bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes()
    return header + np.arange(math.prod(shape)).astype(_TYPES[code]).tobytes()


def agrees(path: Path, content: bytes) -> bool:
    """Whether what `idx` reads is what this other reader finds in the bytes."""
    found = idx.read(path)  # or it refuses
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error):
        return False
    code, ndim = plain[2], plain[3]
    shape = np.frombuffer(plain, ">u4", ndim, 4)
    array = np.frombuffer(plain, _TYPES[code], offset=4 + 4 * ndim).reshape(shape.tolist())
    return (
        plain[:2] == b"\0\0"
        and found.shape == array.shape
        and found.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    )
