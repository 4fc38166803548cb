"""The trial of a GPU, with the CPU in the card's place: what it runs, compares and says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stages.shared import params
from stages.shared.network import cuda
from stages.shared.program import UserError
from stages.tools import gpu, trial
from tests.conftest import Repository


def row(**changes: Any) -> dict[str, Any]:
    """A network's row that is in order."""
    figures = {"images_per_second": 1234.5, "validation": 0.9, "host": 0.001, "step": 0.002}
    return {
        "network": "compact",
        "cpu": figures,
        "card": figures,
        "logits_differ_by": 1e-5,
        "other_labels": 0,
        "images": 100,
        "same_bytes_twice": True,
        **changes,
    }


def test_the_table_says_what_was_seen() -> None:
    rows = [row(), row(network="deep", same_bytes_twice=False, other_labels=2)]
    assert gpu.table(rows).splitlines()[2:] == [
        "| compact | 1,234 | 1,234 | 1.0e-05 | 0 of 100 | 90.00%, 90.00% | same bytes"
        " | 1.00 of 2.00 ms |",
        "| deep | 1,234 | 1,234 | 1.0e-05 | 2 of 100 | 90.00%, 90.00% | other bytes"
        " | 1.00 of 2.00 ms |",
    ]


def test_a_card_that_computes_something_else_is_an_error() -> None:
    assert gpu.faults([row()]) == []
    for wrong in (0.5, float("nan")):
        (line,) = gpu.faults([row(), row(network="deep", logits_differ_by=wrong)])
        assert line.startswith("deep: logits differ by ")
        assert line.endswith(", expected 0.001")


def test_a_request_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "request").write_text("{")
    monkeypatch.setattr("sys.argv", ["trial", str(tmp_path / "request")])
    with pytest.raises(UserError, match=f"{tmp_path}/request: not a request of `gpu`"):
        trial.main()


def test_each_network_is_tried_with_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    found = {name: gpu.settings(name) for name in ("tutorial", "compact", "deep")}
    assert {name: (s.network, s.epochs) for name, s in found.items()} == {
        name: (name, 1) for name in found
    }
    assert found["compact"].batch_size == 256
    assert found["deep"].ema_decay == 0.998


def test_a_recipe_may_change_a_part_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    whole = params.load()
    recipes = {"half": {"train": {"network": "deep", "augment": {"shift": 1}}}}
    changed = whole.model_copy(update={"recipes": recipes})
    monkeypatch.setattr(params, "load", lambda: changed)
    augment = gpu.settings("deep").augment
    assert augment == whole.train.augment.model_copy(update={"shift": 1})


@pytest.mark.slow
def test_the_whole_trial_on_the_cpu(finished: Repository) -> None:
    command = [sys.executable, "-m", "stages.tools.gpu", "--rehearse", "--json", "seen.json"]
    for name in ("tutorial", "accurate"):
        finished.set(**{f"recipes__{name}__train__validation_images": 50})
    done = finished.run(*command, "--images", "400")
    seen = json.loads((finished.path / "seen.json").read_text())
    assert [row["network"] for row in seen["networks"]] == ["tutorial", "compact", "deep"]
    for network in seen["networks"]:
        # One device against itself.
        assert network["logits_differ_by"] == 0
        assert network["other_labels"] == 0
        assert network["same_bytes_twice"]
        assert 0 < network["card"]["host"] <= network["card"]["step"]
        assert f"| {network['network']} |" in done.stdout


@pytest.mark.slow
def test_without_a_gpu_nothing_is_tried(finished: Repository) -> None:
    if not cuda.driver().fault:
        pytest.skip("there is a GPU here")
    done = finished.run(sys.executable, "-m", "stages.tools.gpu", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: params.yaml: a device is 'cuda', but ")
    assert not (finished.path / "gpu.json").exists()
