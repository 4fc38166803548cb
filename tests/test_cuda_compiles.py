"""Jittor's CUDA core and every operator of the networks compile and link, without a card.

The compiler, the headers and the libraries are NVIDIA's; only what runs is a stand-in, which has
two cards, so that each kernel is compiled for sm_80 and for sm_90, and computes nothing. So this
shows that a stage gets through on a GPU, and not that what it computes there is right.
`make test-cuda` runs it: a quarter of an hour on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.shared import digits
from stages.shared.network import cuda, runtime
from stages.tools.trial import Request
from tests import steps
from tests.conftest import TOP
from tests.gpu import stand_in

TOOLKIT = Path(sys.prefix, cuda.OWN)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cuda,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (TOOLKIT / cuda.LAID_OUT).is_file(), reason=f"no toolkit in {TOOLKIT}: make cuda"
    ),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine with a card, on which only the CPU's core was built so far."""
    folder = tmp_path_factory.mktemp("machine")
    built = Path(runtime.jt.flags.cache_path)
    (folder / "home").mkdir()
    shutil.copytree(built, folder / "home" / built.relative_to(os.environ["JITTOR_HOME"]))
    card = stand_in.make(folder / "stand-ins", TOOLKIT)
    kept = {name: value for name, value in os.environ.items() if name != "nvcc_path"}
    return {
        **kept,
        **card,
        "PYTHONPATH": f"{card['PYTHONPATH']}:{TOP}",
        "HOME": str(folder / "home"),
        "JITTOR_HOME": str(folder / "home"),
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of noise."""
    folder = tmp_path_factory.mktemp("project")
    arrays = folder / digits.FOLDER
    arrays.mkdir(parents=True)
    draw = np.random.default_rng(0).integers
    for part, count in (("train", steps.STEPS * steps.BATCH + steps.HELD_OUT), ("test", 50)):
        np.save(arrays / f"{part}-images.npy", draw(0, 256, (count, 28, 28), np.uint8))
        np.save(arrays / f"{part}-labels.npy", draw(0, 10, count, np.uint8))
    (arrays / digits.CLASS_NAMES).write_text(json.dumps([str(n) for n in range(10)]))
    return folder


def attempt(case: str, project: Path, machine: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Train, validate, save, load, score and time one of the cases, on the card."""
    changes = {"device": "cuda", "validation_images": steps.HELD_OUT}
    request = Request(
        train=steps.settings(case).model_copy(update=changes),
        images=steps.STEPS * steps.BATCH + steps.HELD_OUT,
        weights=str(project / "none"),
        out=str(project / case),
    )
    (project / "request").write_text(request.model_dump_json())
    command = [sys.executable, "-m", "stages.tools.trial", str(project / "request")]
    return subprocess.run(command, cwd=project, env=machine, capture_output=True, text=True)


def test_the_core_is_built_and_a_card_that_computes_nothing_is_refused(
    project: Path, machine: dict[str, str]
) -> None:
    for _ in range(2):  # the second time from what is remembered
        done = attempt("compact", project, machine)
        assert done.returncode == 1
        assert "the card computes [0.0, 0.0, 0.0, 0.0], expected [32.0" in done.stderr
        assert "error: Jittor does not work with" in done.stderr.splitlines()[-1]
    cache = Path(machine["JITTOR_HOME"], ".cache/jittor")
    assert list(cache.glob("jt*/**/cu13*_sm_80_90/jittor_core*.so"))
    # As if the card had computed: all but this was good.
    (record,) = (cache / "proofs").glob("*.json")
    record.write_text(json.dumps({"works": True, "fault": "", "log": ""}))


@pytest.mark.parametrize("case", steps.CASES)
def test_every_operator_compiles(case: str, project: Path, machine: dict[str, str]) -> None:
    done = attempt(case, project, machine)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((project / f"{case}.json").read_text())
    assert result["versions"]["card"] == "stand-in"
    assert not np.load(project / f"{case}.npy").any()  # from there, and not from the CPU
