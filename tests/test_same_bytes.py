"""Every machine gives the same bytes: those whose SHA-256 the repository keeps (see hashes.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.shared import digits
from tests import hashes, steps
from tests.conftest import TOP, Repository

pytestmark = pytest.mark.slow

# What NumPy may use beyond its baseline, by its own names, left out: so it computes on any machine.
SIMD = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL FMA3 AVX2"
PLAIN = {"NPY_DISABLE_CPU_FEATURES": SIMD, "OPENBLAS_CORETYPE": "Nehalem"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels that are compiled for another processor."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "jit").mkdir()
    return folder


def ten_steps(case: str, repository: Repository, *other: str, **environment: str) -> str:
    """What `tests.steps` prints last; Jittor speaks before it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.steps", case, str(repository.path / digits.FOLDER), *other],
        cwd=TOP,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[-1]


@pytest.mark.parametrize("case", steps.CASES)
def test_ten_steps_give_the_kept_weights(case: str, finished_once: Repository, cache: Path) -> None:
    for threads in ("1", "3"):
        found = ten_steps(case, finished_once, OMP_NUM_THREADS=threads)
        hashes.check(f"ten steps of {case}", {"weights": found})
    if not can_compute_for_haswell():
        pytest.skip("no processor with AVX2 to compile for")
    for threads in ("1", "3"):
        other = ten_steps(
            case, finished_once, "haswell", str(cache), OMP_NUM_THREADS=threads, **PLAIN
        )
        assert other == found, f"as compiled for haswell, {threads} threads"


def can_compute_for_haswell() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and {"avx2", "fma", "bmi2"} <= set(cpu.read_text().split())


def test_the_pipeline_gives_the_kept_files(finished_once: Repository) -> None:
    lock = yaml.safe_load((finished_once.path / "dvc.lock").read_text())
    found = {}
    for stage in ("decode", "train", "evaluate", "plot", "export"):  # in the order that they run
        for out in lock["stages"][stage]["outs"]:
            path = finished_once.path / out["path"]
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            for file in files:
                name = f"{stage}: {file.relative_to(finished_once.path)}"
                found[name] = hashes.of_file(file)
    assert len(found) > 20
    hashes.check("pipeline", found)
