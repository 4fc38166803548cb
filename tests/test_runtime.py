"""How Jittor is started: what it is told, where it builds, and what is remembered of a card."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.shared.network import cuda, runtime
from stages.shared.network.runtime import JittorError
from tests.test_cuda import toolkit

TOP = Path(__file__).parents[1]


def test_the_seed_decides_what_jittor_draws() -> None:
    drawn = []
    for seed in (3, 3, 4):
        runtime.use("cpu", seed)
        drawn.append(runtime.jt.rand(5).numpy().tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_trial_is_made_once_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good or bad: minutes are not spent again on what cannot change."""
    nvcc = toolkit(tmp_path / "cuda")
    monkeypatch.setenv("nvcc_path", str(nvcc))  # is put back after the test
    (found,) = cuda.toolkits(tmp_path, tmp_path)
    driver = cuda.Driver(None, (13, 0), "580.1", "A")
    said: list[str | None] = []
    tried: list[str] = []

    def build(program: str) -> str | None:
        tried.append(program)
        text = said.pop()
        if text is None:
            return None
        (tmp_path / "log").write_text(text)
        return str(tmp_path / "log")

    built = True
    monkeypatch.setattr(runtime, "_build", build)
    monkeypatch.setattr(runtime, "_is_built", lambda: built)
    said = ["much before\nthe card computes nothing\n\n"]
    for _ in range(2):
        with pytest.raises(JittorError, match=f"{nvcc}: the card computes nothing .*remove"):
            runtime._prove(tmp_path, found, driver)
    assert tried == [runtime._TRIAL]
    (log,) = (tmp_path / "proofs").glob("*.log")
    assert "much before" in log.read_text()
    # A library that was replaced is another machine; so is another driver.
    (tmp_path / "cuda/lib64/libcudnn.so").write_text("another")
    (found,) = cuda.toolkits(tmp_path, tmp_path)
    for other in (driver, cuda.Driver(None, (13, 0), "580.2", "A")):
        said = [None]
        for _ in range(2):
            runtime._prove(tmp_path, found, other)
    assert len(tried) == 3
    # What was built can be removed.
    built, said = False, [None]
    runtime._prove(tmp_path, found, driver)
    assert len(tried) == 4
    for record in (tmp_path / "proofs").glob("*.json"):
        record.write_text("half a rec")
    built, said = True, [None]
    runtime._prove(tmp_path, found, driver)
    assert len(tried) == 5


def test_what_a_build_says_is_kept_in_its_order(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What Jittor prints as it goes comes before what ends it, and is seen as it comes."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    printed = r"print('Compiling jittor_core(9/10) used: 1s', end='\r')"
    endings = {
        "raise SystemExit('the card computes nothing')": "the card computes nothing",
        "import os; os.kill(os.getpid(), 11)": "it was ended by a signal: Segmentation fault",
    }
    for ending, last in endings.items():
        log = runtime._build(f"{printed}\n{ending}")
        assert log
        kept = Path(log)
        assert kept.read_text().splitlines() == ["Compiling jittor_core(9/10) used: 1s", last]
        kept.unlink()
        assert "  90 %" in capfd.readouterr().err


def test_a_kernel_that_cannot_be_compiled_is_one_line(tmp_path: Path) -> None:
    """Jittor tells of arguments in a traceback, and what starts its compiler prints one too."""
    code = (
        "import sys, stages\n"
        "sys.modules['__main__'].__file__ = stages.__path__[0] + '/program.py'\n"
        "from stages.shared.network.runtime import jt\n"
        "jt.code([1], 'float32', [jt.ones(1)], cpu_src='unknown();').sync()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: Jittor cannot compile its kernels in ")
    [log] = tmp_path.glob("*.log")
    assert " was not declared in this scope" in line
    assert line.endswith(f" (all that was said: {log})")
    assert "Traceback" in log.read_text()


def test_the_trial_sees_a_card_that_computes_something_else() -> None:
    """It runs here too, with the CPU in the card's place."""
    program = runtime._TRIAL.replace("use_cuda = 1", "use_cuda = 0")
    assert program != runtime._TRIAL
    for wrong, code in (("", 0), ("jt.ones = jt.zeros\n", 1)):
        lines = program.replace("ones = jt", f"{wrong}ones = jt", 1)
        done = subprocess.run(
            [sys.executable, "-c", lines], env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
    assert "the card computes [0.0, 0.0, 0.0, 99.0], expected [32.0, " in done.stderr


def test_a_fatal_fault_of_jittors_is_fatal() -> None:
    """Its silent log would let it pass: a library that is not there would be no fault."""
    import jittor_utils
    from jittor import compile_extern

    assert jittor_utils.LOG.log_silent
    with pytest.raises(RuntimeError, match=r"file libnothing\.so not found"):
        compile_extern.search_file(["/nowhere"], "libnothing.so")


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
    assert "is ready" in result.stdout


def started(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start Jittor in a process with these variables."""
    return subprocess.run(
        [sys.executable, "-m", "stages.shared.network.runtime"],
        cwd=TOP,
        # Jittor sets `cc_path` where it is imported, which is here.
        env={**{k: v for k, v in os.environ.items() if k != "cc_path"}, **variables},
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
        ("HOME", "{}/with space", "HOME is {}/with space, expected a path without"),
        ("HOME", "", "HOME is empty, expected a folder"),
        ("HOME", "there", "HOME is there, expected a path that begins with /"),
        ("JITTOR_HOME", ".", "JITTOR_HOME is ., expected a path that begins with /"),
    ],
)
def test_a_home_that_jittor_cannot_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    (tmp_path / "file").touch()
    done = started(**{name: value.format(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {said.format(tmp_path)}")
    assert len(done.stderr.splitlines()) == 1
    # DVC has removed what the run before has given.
    done = started(**{name: value.format(tmp_path), "DVC_STAGE": "train"})
    assert done.stderr.splitlines()[1].startswith("the results of the last commit come back by: ")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OMP_NUM_THREADS", "99999", "OMP_NUM_THREADS is 99999, expected 1024 at most"),
        ("OMP_NUM_THREADS", "9" * 5000, "OMP_NUM_THREADS is 9999999999, expected 1024 at most"),
        ("cc_path", "/nowhere", "try without cc_path in the environment"),
        ("log_v", "much", "try without log_v in the environment"),
    ],
)
def test_a_variable_that_keeps_jittor_from_starting_is_named(
    name: str, value: str, said: str
) -> None:
    """What is built already is not at fault, and to remove it would cost minutes."""
    done = started(**{name: value})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert "remove" not in last


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


def test_a_home_of_jittors_own_leaves_no_note_in_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jittor would write it, and read it in each compiler: two processes at once fail at it."""
    for name in ("HOME", "JITTOR_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    runtime._find_cache()
    code = "import jittor_utils; print(jittor_utils.home())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split()[-1] == str(tmp_path / "JITTOR_HOME"), done.stderr
    assert not list((tmp_path / "HOME").rglob("config.json"))


@pytest.mark.parametrize("content", ["", '{"JITTOR_HOME": "/ro', "\udcff", None])
def test_a_damaged_note_of_jittors_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    note = tmp_path / ".cache/jittor/config.json"
    note.parent.mkdir(parents=True)
    if content is None:
        note.mkdir()
    else:
        note.write_bytes(content.encode(errors="surrogateescape"))
    runtime._find_cache()
    assert not note.exists()


@pytest.mark.parametrize("damage", ["none", "cut", "emptied", "a folder"])
def test_a_damaged_onednn_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Jittor unpacks it again where it finds none, and would crash with half of it."""
    import jittor_utils

    library = tmp_path / "mkl/dnnl_lnx/lib/libdnnl.so.2.2"
    library.parent.mkdir(parents=True)
    library.with_name("libmkldnn.so").symlink_to(library.name)
    whole = next(Path(jittor_utils.cache_path).glob("jittor_core*.so")).read_bytes()
    monkeypatch.setattr(jittor_utils, "cache_path", str(tmp_path / "jt"))
    if damage == "a folder":
        library.mkdir()
    else:
        library.write_bytes({"none": whole, "cut": whole[:-1], "emptied": b""}[damage])
    os.utime(library, (0, 0))
    runtime._remove_damaged(tmp_path)
    assert library.exists() == (damage == "none")
    assert library.parents[1].exists() == (damage == "none")  # nothing is written into old files


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_what_jittor_notes_of_its_own_data_is_taken_away_if_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    import jittor_utils

    monkeypatch.setattr(jittor_utils, "cache_path", str(tmp_path))
    stamp = tmp_path / "data.md5"
    stamp.write_text("0" * 32)
    runtime._remove_damaged(tmp_path)
    assert stamp.exists()
    stamp.unlink()
    if content is None:
        stamp.mkdir()
    else:
        stamp.write_bytes(content)
    runtime._remove_damaged(tmp_path)
    assert not stamp.exists()


def test_a_lock_that_is_a_folder_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jittor_utils

    inside = Path(jittor_utils.cache_path).relative_to(jittor_utils.home())
    lock = (tmp_path / inside).with_name("jittor.lock")
    lock.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JITTOR_HOME", "")
    runtime._find_cache()
    assert not lock.exists()


def test_what_no_one_foresaw_at_the_start_is_one_line(tmp_path: Path) -> None:
    """It is nearly always a file of the cache; so the cache is named."""
    wrong = tmp_path / "jittor_utils.py"
    wrong.write_text("raise ValueError('half\\na file')")
    done = started(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: Jittor cannot start (ValueError: half a file); to have it")
    assert line.endswith(".cache/jittor")


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
