"""One bar says which kernels Jittor compiles, in place of a line of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from stages.shared.network import compiling

# As in Jittor's parallel_compiler.cc, with a word of another thread in the middle of a line.
_JITTOR = """
#include <iomanip>
#include <iostream>
#include <thread>
extern "C" void compile() {
    std::cerr << "before" << std::endl;
    for (int i : {3, 12}) {
        float diff = 1000.f * i, eta = diff / i * (12 - i);
        std::cerr << "Compiling Operators(" << i << '/' << 12 << ")";
        std::thread([] { std::cerr << "[w a warning]" << std::endl; }).join();
        std::cerr << " used: " << std::setprecision(3) << std::setw(4) << diff << "s eta: "
            << std::setprecision(3) << std::setw(4) << eta << "s \\r";
    }
    std::cerr << std::endl << 42 << ' ' << 1.5 << " last words";
    __builtin_trap();
}
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A program that says what Jittor says while it compiles, and crashes."""
    folder = tmp_path_factory.mktemp("compiled")
    library = folder / "jittor.so"
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", library],
        input=_JITTOR.encode(),
        check=True,
    )
    program = (
        "import ctypes; from pathlib import Path; from stages.shared.network import compiling\n"
        f"compiling.show_bar('g++', Path({str(folder)!r}))\n"
        f"ctypes.CDLL({str(library)!r}).compile()"
    )
    return [sys.executable, "-c", program]


def test_a_terminal_shows_a_bar_with_its_name_and_the_times(command: list[str]) -> None:
    ours, theirs = pty.openpty()
    subprocess.run(command, stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 10000).decode()
    lines = [line.split("\x1b[K")[-1] for line in said.replace("\r\n", "\n").split("\n")]
    os.close(ours)
    assert lines == [
        "before",
        "[w a warning]",
        f"Compiling kernels [{'#' * 7}{'-' * 23}] 3/12, 3000 s so far, 9000 s left[w a warning]",
        f"Compiling kernels [{'#' * 30}] 12/12, 12000 s so far, 0 s left",
        "42 1.5 last words",
    ]


def test_a_file_gets_a_line_at_the_end(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.splitlines() == [
        "before",
        "[w a warning]",
        "[w a warning]",
        "12 kernels were compiled in 12000 s",
        "42 1.5 last words",
    ]


def test_without_a_compiler_jittors_line_stays(tmp_path: Path) -> None:
    compiling.show_bar("false", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("\x1b[31mfatal error: \x1b[merror writing to {}/a.s: No space left on device\nTraceback",
         "error writing to a.s: No space left on device"),
        ("OSError: [Errno 122] Disk quota exceeded: '{}/a.s'",
         "[Errno 122] Disk quota exceeded: 'a.s'"),
    ],
)  # fmt: skip
def test_what_keeps_a_kernel_from_its_folder_is_said(tmp_path: Path, said: str, cause: str) -> None:
    fault = compiling.fault(said.format(tmp_path), tmp_path)
    assert str(fault) == f"Jittor cannot compile its kernels in {tmp_path}: {cause}"


def test_a_folder_that_cannot_be_written_is_said_where_words_are_missing(tmp_path: Path) -> None:
    fault = compiling.fault("Source read failed: a.cc", tmp_path / "gone")
    assert str(fault).endswith("/gone: No such file or directory")
