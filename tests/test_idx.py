"""The IDX format: what comes out is what went in, or the file is refused."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.shared import idx

Array = npt.NDArray[np.generic]

TYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
# One folder serves all examples of a test: each writes its file anew.
common = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def arrays() -> st.SearchStrategy[Array]:
    """Arrays of every type, of either byte order, of 1 to 32 dimensions, some of them 0."""
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
    deep = st.integers(5, 32).map(lambda ndim: (1,) * (ndim - 1) + (2,))
    types = st.sampled_from(TYPES).flatmap(
        lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder("S")])
    )
    return st.tuples(types, shapes | deep).flatmap(lambda both: of_any_bits(*both))


def of_any_bits(dtype: np.dtype[Any], shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Every pattern of bits: a NaN with a message and the smallest numbers have to come back too.

    Hypothesis' own floats refuse to be drawn once Jittor has switched subnormal numbers off.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    draw = st.binary(min_size=size, max_size=size)
    return draw.map(lambda bits: np.frombuffer(bits, dtype).reshape(shape))


def same(left: Array, right: Array) -> bool:
    """Equal to the last bit, NaNs included."""
    return (
        left.shape == right.shape
        and left.dtype == right.dtype
        and left.tobytes() == right.tobytes()
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="))


@common
@given(array=arrays(), zipped=st.booleans())
def test_every_type_and_shape_comes_back(tmp_path: Path, array: Array, zipped: bool) -> None:
    path = tmp_path / "array.idx"
    idx.write(path, array)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert same(idx.read(path), native(array))
    idx.decode_to_npy(path, tmp_path / "array.npy")
    assert same(np.load(tmp_path / "array.npy"), native(array))


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    idx.write(tmp_path / "a", np.array([[1, -2, 3]], np.int16))
    header = bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 3])
    assert (tmp_path / "a").read_bytes() == header + bytes([0, 1, 0xFF, 0xFE, 0, 3])


def test_more_than_one_chunk_and_any_memory_order(tmp_path: Path) -> None:
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(1000, 401)))
    idx.write(tmp_path / "a", array)
    assert np.array_equal(idx.read(tmp_path / "a"), array)
    idx.decode_to_npy(tmp_path / "a", tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), array)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An IDX file, plain or gzipped, cut, lengthened or with some bytes changed."""
    array = draw(arrays())
    memory = io.BytesIO()
    code = next(code for code, kind in idx.TYPES.items() if kind.name == array.dtype.name)
    memory.write(bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    memory.write(array.astype(idx.TYPES[code]).tobytes())
    content = bytearray(memory.getvalue())
    if draw(st.booleans()):
        content = bytearray(gzip.compress(content, mtime=0))
    change = draw(st.sampled_from(["cut", "lengthen", "change", "change the header"]))
    if change == "cut":
        return bytes(content[: draw(st.integers(0, len(content) - 1))])
    if change == "lengthen":
        return bytes(content) + draw(st.binary(min_size=1, max_size=20))
    end = len(content) if change == "change" else min(len(content), 12)
    for place in draw(st.lists(st.integers(0, end - 1), min_size=1, max_size=3)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content)


@settings(common, max_examples=400)
@given(content=damaged() | st.binary(max_size=40))
def test_a_damaged_file_is_refused_or_read_as_it_is(tmp_path: Path, content: bytes) -> None:
    """Nothing but IdxError escapes; an array that does come back has exactly the file's bytes."""
    path, npy = tmp_path / "damaged", tmp_path / "damaged.npy"
    path.write_bytes(content)
    npy.unlink(missing_ok=True)
    try:
        array = idx.read(path)
    except idx.IdxError:
        with pytest.raises(idx.IdxError):
            idx.decode_to_npy(path, npy)
        assert names(tmp_path) == ["damaged"]
        return
    idx.decode_to_npy(path, npy)
    assert same(np.load(npy), array)
    idx.write(tmp_path / "again", array)
    inside = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert (tmp_path / "again").read_bytes() == inside
    (tmp_path / "again").unlink()


GOOD = bytes([0, 0, 8, 1, 0, 0, 0, 4]) + b"abcd"
ZIPPED = gzip.compress(GOOD, mtime=0)
FAULTS = {
    "empty": (b"", "0 bytes, expected an IDX header"),
    "first bytes": (b"PK" + GOOD[2:], "starts with the bytes 50 4b, expected 00 00"),
    "type": (b"\0\0\x0a" + GOOD[3:], "element type 0a, expected one of 08 (uint8), 09 (int8)"),
    "no dimensions": (b"\0\0\x08\0", "0 dimensions, expected 1 to 255"),
    "cut header": (GOOD[:6], "ends in the header, before the sizes of its 1 dimensions"),
    "255 dimensions": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"a", "NumPy cannot hold"),
    "too many elements": (b"\0\0\x0e\3" + b"\xff" * 12, "NumPy cannot hold"),
    "cut": (GOOD[:-1], "ends after 3 bytes of data, expected 4 for uint8 of (4,)"),
    "too long": (GOOD + b"\0", "goes on after the 4 bytes of data of its uint8 of (4,)"),
    "2**60 elements": (b"\0\0\x08\2" + b"\x40\0\0\0" * 2, f"expected {2**60}"),
    "cut gzip": (ZIPPED[:-1], "broken gzip data"),
    "gzip checksum": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "broken gzip data: CRC"),
    "gzip method": (ZIPPED[:2] + b"\1" + ZIPPED[3:], "broken gzip data"),
    "gzip contents": (ZIPPED[:10] + b"\xff" * 5, "broken gzip data"),
    "after gzip": (ZIPPED + b"junk", "broken gzip data: Not a gzipped file"),
    "cut inside gzip": (gzip.compress(GOOD[:-1]), "ends after 3 bytes of data"),
    "too long inside gzip": (gzip.compress(GOOD + b"e"), "goes on after the 4 bytes"),
    "2**60 elements in gzip": (gzip.compress(b"\0\0\x08\2" + b"\x40\0\0\0" * 2), f"{2**60}"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    path, npy = tmp_path / "file", tmp_path / "file.npy"
    path.write_bytes(content)
    npy.write_bytes(b"what was there before")
    for use in (lambda: idx.read(path), lambda: idx.decode_to_npy(path, npy)):
        with pytest.raises(idx.IdxError) as caught:
            use()
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)
    assert npy.read_bytes() == b"what was there before"
    assert names(tmp_path) == ["file", "file.npy"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.int64), "IDX has no int64, only uint8, int8, int16, int32, float32"),
        (np.zeros(3, np.bool_), "IDX has no bool"),
        (np.zeros((), np.uint8), "not the shape ()"),
        (np.broadcast_to(np.zeros((), np.uint8), (2**32,)), "not the shape (4294967296,)"),
    ],
)
def test_what_idx_cannot_hold_is_not_written(tmp_path: Path, array: Array, message: str) -> None:
    with pytest.raises(idx.IdxError) as caught:
        idx.write(tmp_path / "a", array)
    assert message in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("code", "itemsize"), [(0x08, 1), (0x0E, 8)])
def test_memory_stays_flat_as_files_grow(tmp_path: Path, code: int, itemsize: int) -> None:
    """64 MiB pass through in a few; the file is sparse, so that it costs the disk nothing."""
    size = 64 << 20
    with (tmp_path / "large").open("wb") as file:
        file.write(bytes([0, 0, code, 1]) + (size // itemsize).to_bytes(4, "big"))
        file.truncate(8 + size)
    tracemalloc.start()
    try:
        idx.decode_to_npy(tmp_path / "large", tmp_path / "large.npy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.load(tmp_path / "large.npy", mmap_mode="r").nbytes == size
    assert peak < 8 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_false_size_costs_no_memory(tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "liar").write_bytes(pack(b"\0\0\x08\2" + b"\x40\0\0\0" * 2))
    tracemalloc.start()
    try:
        for use in (idx.read, lambda path: idx.decode_to_npy(path, tmp_path / "liar.npy")):
            with pytest.raises(idx.IdxError):
                use(tmp_path / "liar")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
