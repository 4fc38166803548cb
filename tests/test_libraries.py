"""Jittor loads no library that is damaged."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from stages.shared.network import libraries

AGO = time.time() - 3600


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("compiled") / "whole.so"
    subprocess.run(["g++", "-shared", "-x", "c++", "-", "-o", path], input=b"int x;", check=True)
    return path.read_bytes()


@pytest.fixture
def whole(tmp_path: Path, compiled: bytes) -> Path:
    """A library that was written an hour ago and seen since."""
    path = tmp_path / "jit/whole.so"
    path.parent.mkdir()
    path.write_bytes(compiled)
    os.utime(path, (AGO, AGO))
    assert libraries.check(tmp_path) == []
    return path


def test_half_a_library_is_taken_away(tmp_path: Path, whole: Path) -> None:
    cut, empty, new, replaced = (
        whole.with_name(f"{name}.so") for name in ("cut", "empty", "new", "replaced")
    )
    content = whole.read_bytes()
    cut.write_bytes(content[:-1])
    empty.touch()
    new.write_bytes(content[:-1])  # it may be in the making
    replaced.mkdir()
    (replaced / "file").touch()
    for path in (cut, empty, replaced):
        os.utime(path, (0, 0))
    assert libraries.check(tmp_path) == [cut, empty, replaced]
    assert sorted(path.stem for path in whole.parent.iterdir()) == ["new", "whole"]


def test_a_flipped_bit_is_seen(tmp_path: Path, whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[len(content) // 2] ^= 1
    time = whole.stat().st_mtime_ns
    whole.write_bytes(content)
    os.utime(whole, ns=(time, time))  # a disk that fails changes no date
    assert libraries.check(tmp_path) == [whole]
    assert not whole.exists()


def test_a_library_that_was_compiled_again_is_another_one(tmp_path: Path, whole: Path) -> None:
    whole.write_bytes(whole.read_bytes() + b"more")
    os.utime(whole, (AGO + 60, AGO + 60))
    assert libraries.check(tmp_path) == []
    assert libraries.check(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"jit/whole.so": ', '{"jit/whole.so": 1}', "\udcff", None]
)
def test_notes_that_are_damaged_are_written_anew(
    tmp_path: Path, whole: Path, content: str | None
) -> None:
    notes = tmp_path / libraries.NOTES
    before = notes.read_text()
    if content is None:
        notes.unlink()
        (notes / "folder").mkdir(parents=True)
    else:
        notes.write_bytes(content.encode(errors="surrogateescape"))
    assert libraries.check(tmp_path) == []
    assert whole.exists()
    assert notes.read_text() == before
