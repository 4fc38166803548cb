"""Faults of the user end in a line and a code; faults of the program keep their traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.shared.program import UserError, run
from tests.conftest import TOP, Repository
from tests.moments import Moment, run_until


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("a.txt: empty"), 1, "error: a.txt: empty\n"),
        (UserError("a\x1b[2J.txt: empty"), 1, "error: a\\x1b[2J.txt: empty\n"),
        (PermissionError(13, "Permission denied", "data"), 1, "data"),
        (MemoryError(), 1, "error: there is not enough memory for this\n"),
    ],
)
def test_a_fault_of_the_user_is_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(lambda: _raise(error))
    assert stopped.value.code == code
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: _raise(ZeroDivisionError()))


@pytest.mark.parametrize(("stage", "lines"), [(None, 1), ("check", 1), ("train", 2)])
def test_a_stage_that_dvc_runs_says_how_to_get_results_back(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stage: str | None,
    lines: int,
) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    with pytest.raises(SystemExit):
        run(lambda: _raise(UserError("a.txt: empty")))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    assert said[0] == "error: a.txt: empty"
    assert said[-1].endswith("git restore dvc.lock plots && dvc checkout --force") == (lines == 2)


def test_an_experiment_elsewhere_has_nothing_to_get_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".dvc/tmp/exps/temp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ".dvc/tmp/exps/temp")
    monkeypatch.setenv("DVC_STAGE", "train")
    with pytest.raises(SystemExit):
        run(lambda: _raise(UserError("a.txt: empty")))
    assert capsys.readouterr().err == "error: a.txt: empty\n"


def printing(what: str, stdout: str, **variables: str) -> tuple[int, str, str]:
    """Run a program that prints something: its exit code, and what the two streams got."""
    lines = f"from stages.shared.program import UserError, run\ndef main():\n {what}\nrun(main)"
    with Path(stdout).open("w+") as file:
        done = subprocess.run(
            [sys.executable, "-c", lines], cwd=TOP, env=os.environ | variables, stdout=file,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    written = "" if stdout == "/dev/full" else Path(stdout).read_text()
    return done.returncode, written, done.stderr


def test_a_letter_that_the_terminal_does_not_have_ends_nothing(tmp_path: Path) -> None:
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    out = str(tmp_path / "out")
    assert printing(r"print('\u6570')", out, **bare) == (0, "\\u6570\n", "")
    ends = printing(r"raise UserError('\u6570: empty')", out, **bare)
    assert ends == (1, "", "error: \\u6570: empty\n")


@pytest.mark.parametrize(("option", "lines"), [((), 0), (("-W", "default"), 1)])
def test_what_a_library_warns_of_is_for_developers(option: tuple[str, ...], lines: int) -> None:
    program = "from stages.shared.program import run; run(lambda: __import__('warnings').warn('x'))"
    done = subprocess.run(
        [sys.executable, *option, "-c", program], cwd=TOP, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("UserWarning: x")) == (0, lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("count", [1, 99_999])
def test_a_full_standard_output_is_named(count: int, unbuffered: str) -> None:
    done = printing(f"print('x' * {count})", "/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done == (1, "", "error: [Errno 28] No space left on device: 'standard output'\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_standard_output_hides_no_other_error() -> None:
    main = "print('x'); raise UserError('a.txt: empty')"
    done = printing(main, "/dev/full", PYTHONUNBUFFERED="")
    assert done == (1, "", "error: a.txt: empty\n")


@pytest.mark.parametrize("how", ["open('x')", "pathlib.Path('x').read_text()", "numpy.load('x')"])
def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "x")
    code = f"import pathlib, numpy, stages.shared.program as p; p.run(lambda: {how})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (1, "error: x: a pipe, expected a file\n")


@pytest.mark.parametrize("tool", ["doctor", "predict"])
def test_help_that_cannot_be_written_is_one_line(tool: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", f"stages.tools.{tool}", "--help"],
            cwd=TOP, stdout=full, stderr=subprocess.PIPE, text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: [Errno 28] No space left on device: 'standard output'\n"


def test_little_is_imported_before_ctrl_c_is_answered() -> None:
    # Until then it is answered by Python's traceback, so each millisecond counts.
    lines = "import sys; before = set(sys.modules); import stages.shared.program as _"
    ask = f"{lines}; print(*(set(sys.modules) - before))"
    command = [sys.executable, "-S", "-c", ask]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert "signal" in done.stdout.split()
    assert not {"pathlib", "re", "typing", "contextlib"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "imported"),
    [("stages.shared.network.runtime", "numpy"), ("stages.tools.doctor", "argparse")],
)
def test_ctrl_c_is_answered_in_a_line_while_imports_are_under_way(
    tmp_path: Path, module: str, imported: str
) -> None:
    here = tmp_path / "here"
    here.symlink_to(TOP)
    moment = Moment("import", imported)
    process = run_until(moment, Repository(here), sys.executable, "-m", module)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGCONT)
    assert process.communicate()[0] == "stopped\n"
    assert process.returncode == -signal.SIGINT
