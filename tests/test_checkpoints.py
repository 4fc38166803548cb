"""A checkpoint belongs to one run, and is whole or not there."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from stages.shared.model_file import digest
from stages.shared.training.checkpoints import Checkpoints, fingerprint
from tests.conftest import TOP
from tests.faults.damage import bounded
from tests.faults.trial import ImpossibleError


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
    # A validation loss may overflow, and the run still goes on.
    checkpoints.save({"x": np.arange(3)}, {"epoch": 2, "loss": 0.1 + 0.2, "worst": math.inf})
    loaded = checkpoints.load()
    assert loaded
    arrays, progress = loaded
    assert arrays["x"].tolist() == [0, 1, 2]
    assert progress == {"epoch": 2, "loss": 0.1 + 0.2, "worst": math.inf}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a" * 16 + ".safetensors"]
    checkpoints.clear()
    assert checkpoints.load() is None


def test_other_runs_are_named_and_left(tmp_path: Path) -> None:
    one, two = Checkpoints(tmp_path, "1" * 64), Checkpoints(tmp_path, "2" * 64)
    one.save({"x": np.zeros(1)}, {})
    assert two.others() == [one.path]
    assert two.load() is None
    assert one.others() == []


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    """One bit of the array, which is what the file ends with."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)


def unsigned(path: Path) -> None:
    path.write_bytes(to_bytes({"x": np.zeros(100)}, {"progress": "{}"}))


def bare(path: Path) -> None:
    path.write_bytes(to_bytes({"x": np.zeros(100)}))


def foreign(path: Path) -> None:
    """A type that NumPy lacks, as long as the one that it stands for."""
    header = json.dumps({"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def titled(header: dict[str, object], text: str = "{}") -> bytes:
    """A safetensors file of 8 bytes with this header, and this for the rest of the state."""
    whole = {**header, "__metadata__": {"progress": text, "sha256": digest({}, text)}}
    said = json.dumps(whole).encode()
    return len(said).to_bytes(8, "little") + said + bytes(8 if header else 0)


def dimensions(path: Path) -> None:
    """More of them than NumPy takes."""
    path.write_bytes(titled({"x": {"dtype": "F64", "shape": [1] * 70, "data_offsets": [0, 8]}}))


def endless(path: Path) -> None:
    """Of no elements, but larger than NumPy takes."""
    one = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    nothing = {"dtype": "F64", "shape": [2**62, 0], "data_offsets": [8, 8]}
    path.write_bytes(titled({"x": one, "y": nothing}))


def nested(path: Path) -> None:
    path.write_bytes(titled({}, "[" * 100_000))


def listed(path: Path) -> None:
    path.write_bytes(titled({}, "[]"))


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


DAMAGES = (half, flipped, unsigned, bare, foreign, dimensions, endless, nested, listed, replaced)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    checkpoints.save({"x": np.zeros(100)}, {"epoch": 1})
    assert checkpoints.set_aside() is None
    assert checkpoints.load()
    for _ in range(2):  # what was set aside before is no hindrance
        damage(checkpoints.path)
        assert checkpoints.load() is None
        assert checkpoints.set_aside() == tmp_path / f"{'a' * 16}.damaged"
        assert not checkpoints.path.exists()
        checkpoints.save({"x": np.zeros(100)}, {"epoch": 1})
        assert checkpoints.load()


def test_what_may_not_be_read_is_set_aside_and_not_called_missing(tmp_path: Path) -> None:
    try:
        before = bounded()
    except ImpossibleError as error:
        pytest.skip(str(error))
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    checkpoints.save({"x": np.zeros(100)}, {"epoch": 1})
    checkpoints.path.chmod(0)
    code = (
        "import sys; from pathlib import Path; from stages.shared import model_file;"
        "from stages.shared.training.checkpoints import Checkpoints;"
        "checkpoints = Checkpoints(Path(sys.argv[1]), 'a' * 64);"
        "print(checkpoints.load()); aside = checkpoints.set_aside(); print(aside);"
        "model_file.load(aside)"
    )
    command = [*before, sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    aside = tmp_path / f"{'a' * 16}.damaged"
    assert done.stdout == f"None\n{aside}\n"
    said = done.stderr.splitlines()[-1]
    assert said == f"PermissionError: [Errno 13] Permission denied: '{aside}'"


def test_a_file_is_set_aside_where_a_folder_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    for damage in (replaced, half):
        checkpoints.save({"x": np.zeros(100)}, {"epoch": 1})
        damage(checkpoints.path)
        assert checkpoints.set_aside()
        assert not checkpoints.path.exists()


def test_the_program_itself_shapes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script of a stage is no module of `stages` while it runs."""
    program = types.ModuleType("__main__")
    program.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", program)
    found = []
    for text in ("one", "one", "two"):
        (tmp_path / "train.py").write_text(text)
        found.append(fingerprint({}, []))
    assert found[0] == found[1] != found[2]
