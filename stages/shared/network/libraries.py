"""The libraries that Jittor has compiled and keeps: each is whole, and still what it was.

Jittor loads what it finds in its cache. Half a library ends the process without a word, and one
with a bit that flipped on the disk may compute something else. Both are taken away; Jittor compiles
them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.shared.files import remove

NOTES = "digits.json"  # beside the libraries: what each was when it was seen first

_NOTES = TypeAdapter(dict[str, tuple[int, str]])  # by path: when it was written (ns), its SHA-256
_SETTLED = 60.0  # seconds after its last change; no linker takes as long for a library
# Where an ELF header of 64 bits has its section table's start, and its entries' size and number.
_SECTION_TABLE = (0x28, 0x30), (0x3A, 0x3C), (0x3C, 0x3E)


def check(folder: Path) -> list[Path]:
    """Take away each library that is cut short, or that changed without being written.

    The forty libraries of a training run take 10 ms.

    Args:
        folder: Jittor's cache for one compiler, Python and processor.

    Returns:
        What was taken away.

    Raises:
        OSError: a library cannot be read or removed.
    """
    try:
        known = _NOTES.validate_json((folder / NOTES).read_bytes())
    except (FileNotFoundError, ValidationError):
        known = {}
    except IsADirectoryError:
        remove(folder / NOTES)
        known = {}
    seen: dict[str, tuple[int, str]] = {}
    removed = []
    for path in sorted(folder.rglob("*.so")):
        name = str(path.relative_to(folder))
        # Another process may be writing one at this moment, or do the same as this one.
        with contextlib.suppress(FileNotFoundError):
            written = path.stat().st_mtime_ns
            if written / 1e9 > time.time() - _SETTLED:
                continue
            digest = _digest(path)
            was, noted = known.get(name, (-1, ""))
            if digest is None or (was == written and noted != digest):
                remove(path)
                removed.append(path)
            else:
                seen[name] = written, digest
    if seen != known:
        # Not in one step, as several processes may do it at once; half of it counts as none.
        (folder / NOTES).write_bytes(_NOTES.dump_json(seen))
    return removed


def is_whole(path: Path) -> bool:
    """Whether a file is a library of 64 bits, and not cut short; its content is not looked at."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return False
    # The section table comes last.
    start, size, count = (int.from_bytes(head[a:b], "little") for a, b in _SECTION_TABLE)
    return path.stat().st_size >= start + size * count


def _digest(path: Path) -> str | None:
    """The SHA-256 of a library; None for what `is_whole` finds to be none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if is_whole(path) else None
