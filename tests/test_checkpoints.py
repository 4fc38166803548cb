"""A checkpoint belongs to one run, and is whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.shared.training.checkpoints import Checkpoints, fingerprint


def test_what_shapes_the_run_shapes_its_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"one")
    first = fingerprint({"learning_rate": 0.1}, [data])
    assert first == fingerprint({"learning_rate": 0.1}, [data])
    assert first != fingerprint({"learning_rate": 0.2}, [data])
    data.write_bytes(b"two")
    assert first != fingerprint({"learning_rate": 0.1}, [data])


def test_the_code_shapes_the_name_too(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from stages.shared.training import schedules

    before = fingerprint({}, [])
    changed = tmp_path / "schedules.py"
    changed.write_text(Path(schedules.__file__).read_text() + "# changed\n")
    monkeypatch.setattr(schedules, "__file__", str(changed))
    assert fingerprint({}, []) != before


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "new", "a" * 64)
    assert checkpoints.load() is None
    checkpoints.save({"x": np.arange(3)}, {"epoch": 2, "loss": 0.1 + 0.2})
    loaded = checkpoints.load()
    assert loaded
    arrays, progress = loaded
    assert arrays["x"].tolist() == [0, 1, 2]
    assert progress == {"epoch": 2, "loss": 0.1 + 0.2}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a" * 16 + ".safetensors"]
    checkpoints.clear()
    assert checkpoints.load() is None


def test_other_runs_are_named_and_left(tmp_path: Path) -> None:
    one, two = Checkpoints(tmp_path, "1" * 64), Checkpoints(tmp_path, "2" * 64)
    one.save({"x": np.zeros(1)}, {})
    assert two.others() == [one.path]
    assert two.load() is None
    assert one.others() == []


def test_half_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    checkpoints.save({"x": np.zeros(100)}, {})
    checkpoints.path.write_bytes(checkpoints.path.read_bytes()[:-1])
    assert checkpoints.load() is None
