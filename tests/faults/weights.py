"""Damaged weights, arrays and checkpoints: refused, or whole; never code that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from stages.shared import digits, model_file
from stages.shared.model_file import Description
from stages.shared.training.checkpoints import Checkpoints
from tests.faults.trial import Trial, judged, mutated

WHAT = "damaged weights, .npy files and checkpoints"
_TYPES = ("F16", "F64", "BF16", "F8_E4M3", "I32", "U8", "BOOL", "C64", "x", "x" * 9999)
_SIZES = (0, 1, 1, 1, 4, 5, 1025, 2**31, 2**62, 2**63, 2**64 - 1, 2**64, 10**30)
WHOLE, SHORT = 10_000, 1_000

_ARRAYS = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.zeros(5, np.float32)}
_ABOUT = Description(
    network="tutorial",
    image_size=(28, 28),
    class_names=["a", "b"],
    mean=0.5,
    std=0.25,
    held_out=1,
    params={},
    versions={},
)


def run(rng: Random, folder: Path, count: int) -> Iterator[Trial]:
    weights, npy = folder / "digits.safetensors", folder / "train-images.npy"
    checkpoints = Checkpoints(folder, "a" * 64)
    model_file.save(weights, _ARRAYS, _ABOUT)
    np.save(npy, np.zeros((3, 4, 5), np.uint8))
    np.save(folder / "train-labels.npy", np.zeros(3, np.uint8))
    checkpoints.save(_ARRAYS, {"epoch": 1})
    digits.save_class_names(folder, _ABOUT.class_names)
    names = folder / digits.CLASS_NAMES
    works = {
        weights: lambda: _the_same(weights),
        npy: lambda: _a_data_set(folder),
        names: lambda: _differ(digits.load_class_names(folder)),
        checkpoints.path: lambda: _nothing_or_all(checkpoints),
    }
    good = {path: path.read_bytes() for path in works}
    for _ in range(count):
        path = rng.choice(list(works))
        lie = _LIES[path.suffix] if rng.random() < 0.5 else mutated
        content = lie(rng, good[path])
        path.write_bytes(content)
        yield judged(f"{path.suffix}: {content[:24].hex()}", works[path])
        path.write_bytes(good[path])


def _safetensors(rng: Random, data: bytes) -> bytes:
    """A header in its right form, of which an entry lies."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    name = rng.choice([key for key in header if key != "__metadata__"])
    way = rng.randrange(5)
    if way == 0:
        header[name]["shape"] = _shape(rng)
    elif way == 1:
        header[name]["dtype"] = rng.choice(_TYPES)
    elif way == 2:
        header[name]["data_offsets"] = [rng.choice(_SIZES) for _ in range(rng.choice((2, 2, 1)))]
    elif way == 3:
        header[rng.choice(("", "x" * 9999, "\x1b[2J\n", "../b", "b"))] = header.pop(name)
    else:
        nothing = [len(data) - end] * 2  # promises no byte, so that any shape with a 0 is right
        header["c"] = {"dtype": "F32", "shape": [*_shape(rng), 0], "data_offsets": nothing}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[end:]


def _npy(rng: Random, data: bytes) -> bytes:
    """The same for .npy."""
    shape = _shape(rng) if rng.random() < 0.5 else (3, 4, 5)
    named = [("x" * 3000, "|u1")]
    kind = rng.choice(("|u1", "<f4", "|O", "|V0", "|S0", "<M8[ns]", "x" * 50, named, ("|u1", (2,))))
    header = {"descr": kind, "fortran_order": rng.choice((True, False)), "shape": tuple(shape)}
    text = (repr(header).ljust(117) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[128:]


def _json(rng: Random, _data: bytes) -> bytes:
    """JSON that is no list of names."""
    names: object = rng.choice(([], ["a"], ["a", "a"], ["a", ""], list(range(999)), "ab", {}))
    deep = "[" * 5000 + "]" * 5000
    return rng.choice(
        (json.dumps(names), deep, f"[{deep}]", '["\\ud800", "a"]', "9" * 5000)
    ).encode()


_LIES = {".safetensors": _safetensors, ".npy": _npy, ".json": _json}


def _shape(rng: Random) -> list[int]:
    """A shape of up to 70 dimensions, of sizes that somebody could mean or nobody."""
    return [rng.choice(_SIZES) for _ in range(rng.choice((0, 1, 2, 3, 3, 32, 33, 65, 70)))]


def _a_data_set(folder: Path) -> bool:
    data = digits.load(folder, "train")
    mean, _ = digits.mean_and_std(data, np.empty(0, np.uint32))
    return data.images.dtype == np.uint8 and 0 <= mean <= 1


def _differ(names: list[str]) -> bool:
    return len(set(names)) == len(names) >= 2 and len("".join(names).encode()) > 0


def _the_same(path: Path) -> bool:
    arrays, about = model_file.load(path)
    same = all(np.array_equal(arrays[name], array) for name, array in _ARRAYS.items())
    return same and about == _ABOUT


def _nothing_or_all(checkpoints: Checkpoints) -> bool:
    found = checkpoints.load()
    if found is None:
        return checkpoints.set_aside() is not None
    arrays, progress = found
    same = all(np.array_equal(arrays[name], array) for name, array in _ARRAYS.items())
    return same and progress == {"epoch": 1}
