"""The IDX format, both ways: a short header, then one array in big-endian order.

The header is two zero bytes, one byte for the element type, one for the number of dimensions and
then each dimension in four bytes. Files may be gzipped; their first bytes say so.

Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits",
section "The IDX file format".
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from stages.shared.files import GZIP, GzipError, inflated, replacing, shortened
from stages.shared.program import UserError

# The element types by the header's third byte; wider ones are stored big-endian.
TYPES: dict[int, np.dtype[np.generic]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CHUNK = 1 << 20  # bytes held at once; a multiple of every element size


class IdxError(UserError):
    """A file that is not IDX to the last byte, or an array that IDX cannot hold."""


def read(path: Path) -> npt.NDArray[np.generic]:
    """Read a whole IDX file, plain or gzipped.

    Args:
        path: the file.

    Returns:
        A new array with the file's shape and element type, in the machine's byte order.

    Raises:
        IdxError: any byte of the file is wrong, missing or too many.
        OSError: the file cannot be read at all.
    """
    with _opened(path) as stream:
        stored, shape = _read_header(stream, path)
        content = bytearray()
        for chunk in _read_data(stream, path, stored, shape):
            content += chunk
    flat = np.frombuffer(content, stored)
    return flat.astype(stored.newbyteorder("="), copy=False).reshape(shape)


def header(path: Path) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """The element type and the shape of what an IDX file holds, as its header says.

    Raises:
        IdxError: the header is wrong.
        OSError: the file cannot be read at all.
    """
    with _opened(path) as stream:
        stored, shape = _read_header(stream, path)
    return stored.newbyteorder("="), shape


def check_length(path: Path) -> None:
    """Make sure that a plain IDX file is as long as its header says, without reading it.

    Of a gzipped file only the whole can tell: it is left alone.

    Raises:
        IdxError: it is longer or shorter, or the header is wrong.
        OSError: the file cannot be read at all.
    """
    with path.open("rb") as file:
        head = file.read(4 + 4 * 255)
        if head.startswith(GZIP):
            return
        found, expected = os.fstat(file.fileno()).st_size, promised_size(head, path)
    if found != expected:
        raise IdxError(f"{path}: {found} bytes, expected {expected} as its header says")


def promised_size(head: bytes, path: Path) -> int | None:
    """How many bytes a plain IDX file has, as its header says.

    Args:
        head: its first bytes.
        path: where they come from, for the message.

    Returns:
        The bytes of the header and of the data, or None if `head` ends within the header.

    Raises:
        IdxError: it is no header of IDX.
    """
    if len(head) < 4 or len(head) < 4 + 4 * head[3]:
        if head[:2] != b"\0\0"[: len(head)]:
            raise IdxError(f"{path}: starts with the bytes {head[:2].hex(' ')}, expected 00 00")
        return None
    stored, shape = _read_header(io.BytesIO(head), path)
    return 4 + 4 * len(shape) + math.prod(shape) * stored.itemsize


def decode_to_npy(source: Path, target: Path) -> None:
    """Write the array of an IDX file as .npy, a chunk at a time, whatever its size.

    Args:
        source: an IDX file, plain or gzipped.
        target: the .npy file, in the machine's byte order. It appears, or is replaced, only once
            all of `source` has been read and found right.

    Raises:
        IdxError: any byte of `source` is wrong, missing or too many.
        OSError: `source` cannot be read at all, or `target` not be written.
    """
    with _opened(source) as stream:
        stored, shape = _read_header(stream, source)
        native = stored.newbyteorder("=")
        with replacing(target) as part, part.open("wb") as file:
            header = {"descr": native.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            for chunk in _read_data(stream, source, stored, shape):
                # Bytes stay the same memory; wider elements are swapped.
                file.write(np.frombuffer(chunk, stored).astype(native, copy=False).data)


def write(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array as a plain IDX file.

    Args:
        path: the file; it appears, or is replaced, only when it is whole.
        array: 1 to 255 dimensions of uint8, int8, int16, int32, float32 or float64.

    Raises:
        IdxError: IDX has no such element type, or no room for such a shape.
        OSError: the file cannot be written.
    """
    codes = {stored.newbyteorder("="): code for code, stored in TYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise IdxError(f"{path}: IDX has no {array.dtype}, only {_names(codes)}")
    if not 1 <= array.ndim <= 255 or max(array.shape) >= 2**32:
        raise IdxError(
            f"{path}: IDX holds 1 to 255 dimensions under 2**32 each, not the shape {array.shape}"
        )
    with replacing(path) as part, part.open("wb") as file:
        file.write(bytes([0, 0, code, array.ndim]))
        file.write(np.array(array.shape, ">u4").data)
        file.write(np.ascontiguousarray(array, TYPES[code]).data)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a plain or gzipped file, with gzip's own faults told as `IdxError`."""
    try:
        with path.open("rb") as file, inflated(file) as plain:
            yield plain
    except GzipError as error:
        raise IdxError(f"{path}: {error}") from None


def _read_header(stream: BinaryIO, path: Path) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """The stored element type and the shape, checked byte by byte."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise IdxError(f"{path}: {len(magic)} bytes, expected an IDX header of at least 8")
    if magic[:2] != b"\0\0":
        raise IdxError(f"{path}: starts with the bytes {magic[:2].hex(' ')}, expected 00 00")
    stored = TYPES.get(magic[2])
    if stored is None:
        known = ", ".join(f"{code:02x} ({_names([kind])})" for code, kind in TYPES.items())
        raise IdxError(f"{path}: element type {magic[2]:02x}, expected one of {known}")
    ndim = magic[3]
    if ndim == 0:
        raise IdxError(f"{path}: 0 dimensions, expected 1 to 255")
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise IdxError(f"{path}: ends in the header, before the sizes of its {ndim} dimensions")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    try:
        np.broadcast_to(np.empty((), stored), shape)  # a view: it takes no memory
    except ValueError as error:
        what = shortened(str(shape))
        raise IdxError(f"{path}: NumPy cannot hold an array of {what}: {error}") from None
    return stored, shape


def _read_data(
    stream: BinaryIO, path: Path, stored: np.dtype[np.generic], shape: tuple[int, ...]
) -> Iterator[bytes]:
    """The bytes after the header in chunks of whole elements; they must be exactly enough.

    Nothing is set aside for what the header promises: a false size costs no memory.
    """
    expected = math.prod(shape) * stored.itemsize
    left = expected
    while left:
        chunk = stream.read(min(_CHUNK, left))
        left -= len(chunk)
        if left and len(chunk) < _CHUNK:
            found = expected - left
            raise IdxError(
                f"{path}: ends after {found} bytes of data, "
                f"expected {expected} for {_names([stored])} of {shape}"
            )
        yield chunk
    if stream.read(1):
        raise IdxError(
            f"{path}: goes on after the {expected} bytes of data "
            f"of its {_names([stored])} of {shape}"
        )


def _names(types: Iterable[np.dtype[np.generic]]) -> str:
    """Element types as NumPy names them."""
    return ", ".join(kind.name for kind in types)
