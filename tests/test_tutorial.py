"""The notebook of the tutorial's six steps runs, and is kept without what it printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import TOP, Repository

PATH = TOP / "stages/tutorial.ipynb"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_it_is_kept_as_it_was_written() -> None:
    notebook = read(PATH)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    steps = [cell.source.splitlines()[0] for cell in notebook.cells if cell.source[:3] == "## "]
    assert [step[3] for step in steps[1:]] == list("123456")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # in both languages
            assert re.search("[一-鿿]", cell.source)
            assert re.search("[a-z]{3}", cell.source)
            for link in re.findall(r"\]\(([^)]+)\)", cell.source):
                assert (PATH.parent / link).exists(), link


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(finished: Repository) -> None:
    finished.set(train__epochs=2)
    notebook = read(finished.path / "stages/tutorial.ipynb")
    client = NotebookClient(
        notebook,
        timeout=500,
        kernel_name="python3",
        resources={"metadata": {"path": str(finished.path / "stages")}},
    )
    client.execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    said = {
        name: "".join(output.get("text", "") for output in found) for name, found in outputs.items()
    }
    assert "(1000, 28, 28) uint8, 100 for validation" in said["decode"]
    assert "108,970 parameters" in said["model"]
    assert re.search(r"epoch 2: loss [\d.]+, accuracy [\d.]+%", said["train"])
    share = re.search(r"([\d.]+)% of all test images are right", said["read"])
    assert share
    assert float(share[1]) > 50
    for name in ("loss", "drawn"):
        assert any("image/png" in output.get("data", {}) for output in outputs[name]), name
    # It leaves nothing behind: the lock has the parameters that were changed here.
    left = finished.run("git", "status", "--porcelain").stdout
    assert left == " M dvc.lock\n M params.yaml\n"
