"""Data that is larger than the memory that the process may have."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import pipeline
from tests.conftest import Repository

pytestmark = [pytest.mark.slow, pytest.mark.scale]

LIMIT = 384 << 20  # bytes of the process's own; starting Jittor takes some 250 million of them
TIMES = 600  # the thousand images in 470 million bytes


def limited(code: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with a limit to what it may have besides mapped files.

    One thread, also where Jittor looks for its kernels: each has a stack, which counts too. What
    other tests import may have raised the size of a stack.
    """

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, 8 << 20))
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))

    return subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "use_parallel_op_compiler": "0"},
        preexec_fn=bounded,
        capture_output=True,
        text=True,
    )


def test_data_larger_than_memory_is_decoded_and_trained_on(
    finished: Repository, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    count = pipeline.repeat(finished.path / "data/raw", large / "data/raw", TIMES)
    shutil.copy(finished.path / "params.yaml", large)
    images = large / "data/raw/train-images-idx3-ubyte"
    assert images.stat().st_size > LIMIT
    whole = limited(["-c", f"open({str(images)!r}, 'rb').read()"], large)
    assert "MemoryError" in whole.stderr
    for stage in ("decode", "train"):
        done = limited(["-m", f"stages.{stage}"], large)
        assert done.returncode == 0, done.stderr
    assert re.search(r"epoch 1: validation loss 0\.\d+, accuracy", done.stdout)
    assert count == 600_000
    shutil.rmtree(large)  # it is too large to be kept with what tests leave
