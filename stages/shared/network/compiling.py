"""What the screen shows while Jittor compiles kernels: one bar, in place of a line of Jittor's own.

Jittor writes that line from C++ to std::cerr, which no Python reaches, so compiling.cc is made into
a small library. It stays in Jittor's cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".cc")


def show_bar(compiler: str, folder: Path) -> None:
    """Show the bar from now on. Where the library cannot be made, Jittor's own line stays.

    Args:
        compiler: for C++; it takes two seconds, once for a folder.
        folder: for the library.

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
                return
            made.replace(library)
    ctypes.CDLL(str(library)).show_bar()
