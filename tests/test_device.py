"""The device is what params.yaml says, settled before Jittor starts; never another in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.shared.network import cuda, device, runtime
from stages.shared.network.device import DeviceError
from stages.shared.network.runtime import JittorError
from tests.conftest import TOP
from tests.test_cuda import driver, toolkit


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with params.yaml that asks for the GPU, and with nothing else."""
    tree = yaml.safe_load((TOP / "params.yaml").read_text())
    for stage in ("train", "evaluate"):
        tree[stage]["device"] = "cuda"
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return folder


def stage(name: str, project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a stage; Jittor's home is a folder `home` beside the project."""
    kept = {key: value for key, value in os.environ.items() if key != "nvcc_path"}
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {**kept, "PYTHONPATH": str(TOP), "JITTOR_HOME": str(home), **variables}
    command = [sys.executable, "-m", f"stages.{name}"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_where_there_is_no_gpu_a_line_says_so_and_nothing_is_built(
    project: Path, name: str
) -> None:
    libraries = driver(project.parent / "driver", devices=0)
    done = stage(name, project, LD_LIBRARY_PATH=str(libraries))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: params.yaml: a device is 'cuda', but no NVIDIA driver answers"
        " (it finds no device); use cpu\n"
    )
    assert not list((project.parent / "home").iterdir())  # Jittor did not start
    assert [path.name for path in project.iterdir()] == ["params.yaml"]


def test_the_cpu_starts_no_cuda_on_a_machine_that_has_it(tmp_path: Path) -> None:
    """Not with a driver and a toolkit that would do, neither in a stage nor in predict."""
    nvcc = toolkit(tmp_path / "cuda")
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver(tmp_path / "driver")),
        "nvcc_path": str(nvcc),
        "PATH": f"{nvcc.parent}:{os.environ['PATH']}",
    }
    code = (
        "from stages.shared.network import device; device.select('cpu');"
        " from stages.shared.network import classifier, runtime;"
        " print(runtime.jt.has_cuda, runtime.use('cpu').name, runtime.jt.flags.use_cuda,"
        " 'libcuda' in open('/proc/self/maps').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "False cpu 0 False\n", done.stderr


def test_what_is_selected_is_known_to_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    monkeypatch.setenv("nvcc_path", str(nvcc))
    monkeypatch.setattr(device, "_taken", device.taken())  # is put back after the test
    device.select("cpu")
    assert device.taken().name == "cpu"
    assert device.taken().cuda is None
    found = cuda.Driver(None, (12, 4), "550.1", "A")
    monkeypatch.setattr(cuda, "driver", lambda: found)
    device.select("cuda")
    taken = device.taken()
    assert taken.cuda
    assert (taken.name, taken.cuda[0].nvcc, taken.cuda[1]) == ("cuda", nvcc, found)
    assert runtime.versions()["card"] == "A"
    nvcc.unlink()
    with pytest.raises(DeviceError, match=r"a device is 'cuda', but .*nvcc not found.*; use cpu"):
        device.select("cuda")


def test_cuda_is_refused_where_jittor_has_started_without() -> None:
    with pytest.raises(JittorError, match="was started for the CPU"):
        runtime.use("cuda")
