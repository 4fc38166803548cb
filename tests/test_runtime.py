"""Where the arithmetic runs: chosen by what the machine has, never in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.shared.network import runtime
from stages.shared.network.cuda import Cuda
from stages.shared.network.runtime import Device, JittorError

TOP = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("asked", "usable", "name"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_what_was_asked_and_what_is_there(
    asked: str, usable: bool, name: str
) -> None:
    device = runtime.choose_device(asked, Cuda(usable, "the reason"))
    assert device.name == name
    assert device.reason == ("params.yaml asks for it" if asked == "cpu" else "the reason")


def test_cuda_where_there_is_none_is_an_error_and_not_a_run_on_the_cpu() -> None:
    with pytest.raises(JittorError, match="device is 'cuda', but no driver answers"):
        runtime.choose_device("cuda", Cuda(False, "no driver answers"))


def test_the_choice_reaches_jittor(monkeypatch: pytest.MonkeyPatch) -> None:
    # No GPU here: whether Jittor would take one is read off the flag that it is given.
    flags = type("Flags", (), {"use_cuda": 0})()
    monkeypatch.setattr(runtime.jt, "flags", flags)
    monkeypatch.setattr(runtime, "_cuda", Cuda(True, "a driver answers", "/somewhere/nvcc"))
    assert runtime.use("auto") == Device("cuda", "a driver answers")
    assert flags.use_cuda == 1
    assert runtime.use("cpu").name == "cpu"
    assert flags.use_cuda == 0


def test_the_seed_decides_what_jittor_draws() -> None:
    drawn = []
    for seed in (3, 3, 4):
        runtime.use("cpu", seed)
        drawn.append(runtime.jt.rand(5).numpy().tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_cuda_build_that_fails_leaves_a_cpu_run(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str | None] = []

    def build() -> str | None:
        built.append(os.environ.get("nvcc_path"))
        return "/tmp/build.log" if len(built) == 1 else None

    monkeypatch.setattr(runtime, "_cuda", Cuda(True, "a driver answers", "/somewhere/nvcc"))
    monkeypatch.setattr(runtime, "_is_built", lambda: False)
    monkeypatch.setattr(runtime, "_build", build)
    monkeypatch.setenv("nvcc_path", "")  # is put back after the test
    runtime._start()
    assert built == ["/somewhere/nvcc", ""]
    with pytest.raises(JittorError, match=r"CUDA build failed \(its output: /tmp/build.log\)"):
        runtime.use("cuda")
    assert runtime.use("auto").name == "cpu"


@pytest.mark.parametrize("name", ["PATH", "nvcc_path"])
def test_a_broken_nvcc_does_not_break_a_cpu_run(tmp_path: Path, name: str) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    started = {"nvcc_path", "cache_name", "use_mpi", "log_silent"}
    environment = {key: value for key, value in os.environ.items() if key not in started}
    environment[name] = f"{tmp_path}:{environment['PATH']}" if name == "PATH" else str(nvcc)
    result = subprocess.run(
        [sys.executable, "-m", "stages.shared.network.runtime"],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "it will compute on" in result.stdout


def started(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start Jittor in a process with these variables."""
    return subprocess.run(
        [sys.executable, "-m", "stages.shared.network.runtime"],
        cwd=TOP,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOME", "{}/file", "HOME is {}/file, but Jittor cannot write to"),
        ("JITTOR_HOME", "{}/file", "JITTOR_HOME is {}/file, but Jittor cannot write to"),
        ("JITTOR_HOME", "/proc", "JITTOR_HOME is /proc, but Jittor cannot write to"),
        ("JITTOR_HOME", "{}/with space", "JITTOR_HOME is {}/with space, expected a path without"),
    ],
)
def test_a_home_that_jittor_cannot_use_is_named(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    (tmp_path / "file").touch()
    done = started(**{name: value.format(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {said.format(tmp_path)}")
    assert len(done.stderr.splitlines()) == 1


def test_a_home_that_was_given_once_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jittor writes it down, and takes it wherever none is given."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache/jittor").mkdir(parents=True)
    (tmp_path / ".cache/jittor/config.json").write_text('{"JITTOR_HOME": "/nowhere"}')
    for given in (None, ""):
        monkeypatch.delenv("JITTOR_HOME", raising=False)
        if given is not None:
            monkeypatch.setenv("JITTOR_HOME", given)
        assert runtime._find_cache() == tmp_path / ".cache/jittor"
        assert os.environ["JITTOR_HOME"] == str(tmp_path)


@pytest.mark.slow
def test_operations_are_those_of_ieee_754() -> None:
    """A number too small for all bits of a float is not rounded to zero, nor is a sum reordered."""
    runtime.use("cpu")
    small = np.array([1e-40, -7e-42], np.float32)
    halves = (small.astype(float) / 2).astype(np.float32).tolist()
    assert all(halves)
    assert (runtime.jt.array(small) * 0.5).numpy().tolist() == halves
    assert (small * np.float32(0.5)).tolist() == halves  # the process is not set otherwise either
    x = np.array([0.1, 0.7, 1e8, 3e-7], np.float32)
    var = runtime.jt.array(x)
    assert ((var + 1e8) - 1e8).numpy().tolist() == (
        (x + np.float32(1e8)) - np.float32(1e8)
    ).tolist()
    assert (1 / var).numpy().tolist() == (np.float32(1) / x).tolist()


def test_no_process_idles_beside_this_one_and_kernels_compile_in_threads() -> None:
    """Where an idle worker of a pool is killed, its parent never ends."""
    code = (
        "from stages.shared.network import runtime; import os, pathlib;"
        " tasks = pathlib.Path('/proc/self/task').glob('*/children');"
        " print([path.read_text() for path in tasks if path.read_text()],"
        " runtime.jt.flags.use_parallel_op_compiler > 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True)
    assert done.stdout == "[] True\n", done.stderr


@pytest.mark.slow
def test_a_cache_that_was_moved_is_no_success_without_a_result(tmp_path: Path) -> None:
    """Jittor builds a part of it again and then ends the process, as if all had been done."""
    import jittor_utils

    core = Path(jittor_utils.cache_path)
    moved = tmp_path / ".cache/jittor"
    inside = core.relative_to(Path(jittor_utils.home()) / ".cache/jittor")
    shutil.copytree(core, moved / inside, ignore=shutil.ignore_patterns("jit"))
    done = started(JITTOR_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "part of its core anew; run the same command again" in done.stderr
