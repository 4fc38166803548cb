"""Files and folders: atomic writes, gzip by its first bytes, and records that are checked."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.shared.program import UserError

GZIP = b"\x1f\x8b"  # the first two bytes of every gzip file (RFC 1952)
_SHOWN = 100  # letters of a value that a message repeats
_LISTED = 3  # names of which a message repeats each


class GzipError(UserError):
    """Data that begins as gzip does and cannot be inflated to its end."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file or a folder in one step, once its successor is complete (an atomic write).

    The block writes to the path that it is given. If it ends well, that becomes `path`; if it
    raises, `path` is what it was. What a killed process left is removed by the next one.

    Args:
        path: the file or folder to write; the folder above it is made if it is not there.

    Yields:
        A hidden neighbour of `path`, at which nothing is yet.

    Raises:
        OSError: the disk is full, say, or the folder is not writable; it names a file.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(part)
            yield part
            if part.is_dir():
                remove(path)  # a folder that is not empty cannot be replaced in one step
            part.replace(path)
    finally:
        remove(part)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give the system's errors in the block a file to speak of; a full disk tells none.

    Args:
        path: what the block writes.
    """
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def inflated(file: BinaryIO) -> Iterator[BinaryIO]:
    """Read a file that may be gzipped; its first bytes say so, whatever its name.

    Args:
        file: open for reading at its start, and seekable.

    Yields:
        The plain bytes; several gzip members in a row count as one.

    Raises:
        GzipError: while it is read: the gzip data is damaged or ends early.
    """
    zipped = file.read(len(GZIP)) == GZIP
    file.seek(0)
    if not zipped:
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as plain:
            yield cast(BinaryIO, plain)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise GzipError(f"broken gzip data: {error}") from None


class Record(BaseModel):
    """A record whose every key is known, present and of its exact type; it never changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RecordError(ValueError):
    """A text that does not hold the record that it should; its message is one line."""


_Kind = TypeVar("_Kind", bound=Record)


def from_json(kind: type[_Kind], text: str) -> _Kind:
    """Read a record from JSON.

    Args:
        kind: the record's class.
        text: a JSON object.

    Raises:
        RecordError: it is not JSON, or a key is missing, unknown or of another type; the message
            names the first such key.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise RecordError(describe(dict(error.errors()[0]))) from None


def validated(kind: type[_Kind], values: Mapping[str, object]) -> _Kind:
    """Make a record of values that come from outside.

    Args:
        kind: the record's class.
        values: by key.

    Raises:
        RecordError: as `from_json`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecordError(describe(dict(error.errors()[0]))) from None


def shortened(text: str) -> str:
    """A text from outside as a message can hold it: of one line, and not long."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return cut if cut.isprintable() else repr(cut)


def listed(names: Iterable[str]) -> str:
    """Names from outside as a message can hold them: the first, and how many more there are."""
    known = sorted(names)
    more = len(known) - _LISTED
    told = ", ".join(shortened(name) for name in known[:_LISTED])
    return f"{told} and {more} more" if more > 0 else told


def shown(value: object) -> str:
    """A value from outside, of whatever kind, as a message can hold it."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits; blocks without end
        return "a value too large to show"


def describe(problem: dict[str, Any]) -> str:
    """Put one of pydantic's findings into words: the key, what was found, what was expected."""
    keys = [str(part) for part in problem["loc"] if part != "[key]"]
    key = shortened(".".join(keys))
    found = "empty" if problem["input"] is None else shown(problem["input"])
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key"
    if problem["type"] == "invalid_key":
        return f"{key} is not a known key; keys are words"
    if problem["type"] in ("model_type", "dict_type"):
        expected = "a block of keys"
    else:
        expected = problem["msg"].removeprefix("Input should be ")
    if not key and problem["type"] == "json_invalid":
        return str(expected)
    if not key:
        return f"found {found}, expected {expected}"
    return f"{key} is {found}, expected {expected}"


def remove(path: Path) -> None:
    """Take a file or a whole folder away, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
