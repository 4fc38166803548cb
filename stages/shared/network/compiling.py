"""What the screen shows while Jittor compiles kernels: a bar, and one line where it cannot.

Jittor writes its own words from C++ to std::cerr, which no Python reaches, so compiling.cc is made
into a small library. It stays in Jittor's cache.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from stages.shared.program import UserError, last_words

_SOURCE = Path(__file__).with_suffix(".cc")

# How Jittor says that a kernel was not compiled, or not written; it raises RuntimeError for all.
_FAILED = re.compile(
    "Error happend during compilation|Run cmd failed|Source read failed|Cannot open library"
)
# What is no fault of the kernel's, as a compiler, an assembler, a linker and Python call it.
_OUTSIDE = [
    os.strerror(number)
    for number in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
        *(errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN),
    )
]
_KERNEL_BYTES = 1 << 20  # about as much as the files of one take


class KernelError(UserError):
    """A kernel cannot be compiled, or not be written to Jittor's cache."""


def show_bar(compiler: str, folder: Path) -> ctypes.CDLL | None:
    """Show the bar from now on. Where the library cannot be made, Jittor's own line stays.

    Args:
        compiler: for C++; it takes two seconds, once for a folder.
        folder: for the library.

    Returns:
        The library, if it could be made.

    Raises:
        OSError: the folder cannot be written.
    """
    name = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:8]
    library = folder / f"compiling-{name}.so"
    if not library.exists():
        # In a folder of its own, since another process may be at the same.
        with tempfile.TemporaryDirectory(dir=folder) as part:
            command = [compiler, "-std=c++14", "-O1", "-shared", "-fPIC", str(_SOURCE), "-o"]
            made = Path(part, library.name)
            if subprocess.run([*command, str(made)], capture_output=True).returncode:
                return None
            made.replace(library)
    shown = ctypes.CDLL(str(library))
    shown.show_bar()
    return shown


def say_faults(library: ctypes.CDLL | None, folder: Path) -> None:
    """From now on end in one line where a kernel cannot be compiled, in place of tracebacks.

    Jittor raises for that whatever it was just called for, so it is told at the end of the program.

    Args:
        library: as `show_bar` gave it; what a failed compiler says is kept aside in it.
        folder: Jittor's cache, in which it compiles.
    """
    if library:
        library.kept.restype = ctypes.c_char_p
        library.keep()
    before = sys.excepthook

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, RuntimeError) and _FAILED.search(str(error)):
            kept = library.kept().decode(errors="replace") if library else ""
            print(last_words(fault(f"{kept}\n{error}", folder)), file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = say


def fault(said: str, folder: Path) -> KernelError:
    """What kept a kernel from being compiled, in a line.

    Args:
        said: by the compiler and by Jittor. Where a kernel itself is at fault it goes to a file.
        folder: Jittor's cache; where words are missing, it is tried whether it can be written.
    """
    lines = [
        re.sub(r"\x1b\[[\d;]*[mK]", "", line).replace(f"{folder}/", "").strip()
        for line in said.splitlines()
    ]
    start = f"Jittor cannot compile its kernels in {folder}"
    outside = [line for line in lines if any(words in line for words in _OUTSIDE)]
    if cause := outside[-1] if outside else _unwritable(folder):
        return KernelError(f"{start}: {cause.rpartition('rror: ')[2][-200:]}")
    errors = [line for line in lines if "error: " in line] or ["no word of the compiler"]
    log, name = tempfile.mkstemp(prefix="jittor-", suffix=".log")
    os.write(log, said.encode())
    os.close(log)
    return KernelError(f"{start}: {errors[0][-200:]} (all that was said: {name})")


def _unwritable(folder: Path) -> str | None:
    """Why nothing can be written to a folder; None if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_KERNEL_BYTES))
    except OSError as error:
        return error.strerror
    return None
