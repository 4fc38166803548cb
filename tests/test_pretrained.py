"""The network that Git holds is what the recipe `fast` gives here too, to the last byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.shared import model_file
from tests import pretrained
from tests.conftest import TOP


@pytest.mark.slow
def test_the_pretrained_network_is_the_recipes(tmp_path: Path) -> None:
    for path, content in pretrained.make(tmp_path).items():
        assert (TOP / path).read_bytes() == content, path


def test_what_is_trained_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_file.default() == model_file.PRETRAINED
    model_file.PATH.parent.mkdir()
    model_file.PATH.touch()
    assert model_file.default() == model_file.PATH
