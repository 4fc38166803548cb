"""Faults of the user end in a line and a code; faults of the program keep their traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stages.shared.errors import UserError, run


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("a.txt: empty"), 1, "error: a.txt: empty\n"),
        (PermissionError(13, "Permission denied", "data"), 1, "data"),
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


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", -2), ("SIGTERM", -15)])
def test_ctrl_c_is_one_line_outside_of_main_too(signal: str, code: int) -> None:
    program = f"import os, signal, stages.shared.errors; os.kill(os.getpid(), signal.{signal})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == code
    assert result.stderr == ("stopped\n" if signal == "SIGINT" else "")
