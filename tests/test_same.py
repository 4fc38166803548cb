"""A result that differs from the committed one is said in a line, and only where it should not."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.shared.program import UserError
from stages.tools import same
from tests.conftest import Repository

pytestmark = pytest.mark.slow


def said(repository: Repository, *options: str) -> tuple[int, str]:
    done = repository.run("python", "-m", "stages.tools.same", *options, check=False)
    return done.returncode, done.stdout + done.stderr


def spoil(repository: Repository) -> None:
    """Commit what a machine would whose weights came out otherwise; the files stay this one's."""
    path = repository.path / "dvc.lock"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if "path: models/digits.safetensors" in line]
    for index in at:
        lines[index + 2] = "      md5: ffffffffffffffffffffffffffffffff\n"
    path.write_text("".join(lines))
    repository.commit("Elsewhere")
    path.write_text(whole)


def test_the_committed_result_says_nothing(finished: Repository) -> None:
    assert said(finished, "--strict") == (0, "")


def test_dvc_is_found_where_path_does_not_name_it(finished: Repository) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.tools.same", "--strict"],
        cwd=finished.path,
        env={**os.environ, "PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_other_bytes_are_named_by_stage_and_file(finished: Repository) -> None:
    spoil(finished)
    code, text = said(finished)
    assert code == 0
    assert "other bytes than the commit, first in train: models/digits.safetensors" in text
    assert text.count("\n") == 1
    assert said(finished, "--strict")[0] == 1


def test_what_rotted_in_the_cache_is_named_with_the_way_back(finished: Repository) -> None:
    path = finished.path / "models/digits.safetensors"
    whole = path.read_bytes()
    name = hashlib.md5(whole, usedforsecurity=False).hexdigest()
    copy = finished.path / f".dvc/cache/files/md5/{name[:2]}/{name[2:]}"
    copy.unlink()
    copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    copy.chmod(0o444)  # what DVC protects, it does not look at again
    path.unlink()
    finished.run("dvc", "repro")  # takes the copy for what it should be
    assert path.read_bytes() != whole
    code, text = said(finished)
    assert code == 1
    assert text.startswith("error: models/digits.safetensors: not the bytes that dvc.lock names")
    way = re.search("anew by: (.*)", text)
    assert way
    finished.run("sh", "-c", way[1])
    assert path.read_bytes() == whole
    assert said(finished, "--strict") == (0, "")


def test_a_list_of_files_that_rotted_is_named_with_the_way_back(finished: Repository) -> None:
    """DVC believes it, and writes the name of what it made of it into dvc.lock."""
    npy = finished.path / "data/npy"
    names = sorted(path.name for path in npy.iterdir())
    (copy,) = (
        path
        for path in (finished.path / ".dvc/cache/files/md5").rglob("*.dir")
        if b"test-labels" in path.read_bytes()
    )
    listed = copy.read_bytes().replace(b"test-labels", b"uest-labels")
    copy.unlink()
    copy.write_bytes(listed)
    copy.chmod(0o444)
    shutil.rmtree(npy)
    assert finished.run("dvc", "repro", check=False).returncode  # evaluate lacks a file
    code, text = said(finished)
    assert code == 1
    assert text.startswith(f"error: {copy}: DVC's list of the files in data/npy is damaged")
    way = re.search("anew by: (.*)", text)
    assert way
    finished.run("sh", "-c", way[1])
    assert sorted(path.name for path in npy.iterdir()) == names
    assert said(finished, "--strict") == (0, "")
    assert finished.run("git", "status", "--porcelain").stdout == ""


def test_the_way_back_goes_through_a_folder_with_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "my repository/cache/ab"
    copy.mkdir(parents=True)
    monkeypatch.setattr(same, "damaged", lambda: ["models/a file"])
    monkeypatch.setattr(same, "rotten_copies", lambda: [copy])
    monkeypatch.setattr(sys, "argv", ["same"])
    with pytest.raises(UserError) as caught:
        same.main()
    way = str(caught.value).partition("anew by: ")[2]
    assert shlex.split(way) == ["rm", "-rf", "models/a file", str(copy), "&&", "dvc", "repro"]


def test_a_lock_that_is_gone_costs_nothing_else(finished: Repository) -> None:
    lock = finished.path / "dvc.lock"
    content = lock.read_bytes()
    lock.unlink()
    done = finished.run("python", "-m", "stages.tools.same", check=False)
    lock.write_bytes(content)
    assert done.returncode == 1
    assert done.stderr.startswith("error: dvc.lock: no such file; `git restore dvc.lock` brings")


def test_what_was_changed_by_hand_is_brought_back(finished: Repository) -> None:
    path = finished.path / "data/npy/train-images.npy"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1])
    code, text = said(finished)
    assert code == 1
    way = re.search("`(dvc checkout .*)` brings", text)
    assert way
    finished.run("sh", "-c", way[1])
    assert path.read_bytes() == whole


def test_another_pipeline_may_give_another_result(finished: Repository) -> None:
    spoil(finished)
    finished.set(train__learning_rate=0.01)
    assert said(finished, "--strict") == (0, "")


def test_the_first_in_the_order_of_the_pipeline_is_named(
    finished: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.path)
    one = {"stages": {"plot": {"outs": [{"path": "p", "md5": "1"}]}, "train": {"outs": []}}}
    two = {
        "stages": {
            "plot": {"outs": [{"path": "p", "md5": "2"}]},
            "train": {"outs": [{"path": "w", "md5": "3"}]},
        }
    }
    assert same.first_difference(one, two) == "train: w"
    assert same.first_difference(one, one) is None


@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock"])
@pytest.mark.parametrize(
    "text", ["", "[]", "3", "stages:", "stages: [a]", "a: [", "a: 2024-02-30", "[" * 5000, "\xff"]
)
def test_what_is_no_file_of_dvc_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {train: {cmd: 'true'}}")
    Path(name).write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as caught:
        same.damaged()
    said = "no stages" if name == "dvc.yaml" else "not a lock file of DVC"
    assert str(caught.value).startswith(f"{name}: {said}; `git restore {name}` brings ")


@pytest.mark.parametrize("stage", ["3", "{outs: 3}", "{outs: [3]}", "{outs: [{path: a}]}"])
def test_a_lock_whose_stages_are_none_is_refused(stage: str) -> None:
    with pytest.raises(UserError, match="not a lock file of DVC"):
        same._read(f"stages: {{train: {stage}}}")
