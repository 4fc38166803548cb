"""dvc.yaml names just what each stage is made of, and arrows between rooms run one way.

A dependency left out is the best-known trap of DVC: the code changes and the stage does not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

TOP = Path(__file__).parents[1]
# A stage that params.yaml can add stands under `do`.
STAGES: dict[str, Any] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"].items()
}
GRAPH = grimp.build_graph("stages", cache_dir=None)


def file_of(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (TOP / path).is_dir() else f"{path}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_modules_that_it_reaches(stage: str) -> None:
    module = f"stages.{stage}"
    reached = {module, *GRAPH.find_upstream_modules(module)} - {"stages", "stages.shared"}
    listed = [dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")]
    assert listed == sorted(file_of(name) for name in reached)


def test_the_packages_themselves_hold_no_code() -> None:
    # They are no dependency of any stage, so what stood in them could change unseen.
    for package in ("stages", "stages/shared"):
        lines = (TOP / package / "__init__.py").read_text().strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith('"""')


@pytest.mark.parametrize("stage", ["download", "decode", "plot"])
def test_a_stage_without_a_network_does_not_start_jittor(stage: str) -> None:
    assert not GRAPH.chain_exists(f"stages.{stage}", "stages.shared.network.runtime")


@pytest.mark.parametrize("room", ["idx", "scoring", "figures", "card"])
def test_a_room_of_knowledge_imports_nobody_here(room: str) -> None:
    reached = GRAPH.find_modules_directly_imported_by(f"stages.shared.{room}")
    assert reached <= {"stages.shared.errors"}


def test_only_the_runtime_imports_jittor() -> None:
    for path in (TOP / "stages").rglob("*.py"):
        if path.name != "runtime.py":
            text = path.read_text()
            assert "import jittor" not in text, path
            assert "from jittor" not in text, path


def test_no_room_imports_a_stage() -> None:
    stages = {f"stages.{stage}" for stage in STAGES}
    for module in GRAPH.modules:
        assert module in stages or not GRAPH.find_modules_directly_imported_by(module) & stages


def test_each_stage_lists_only_keys_that_exist() -> None:
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    for stage in STAGES.values():
        for key in stage["params"]:
            block = params
            for part in key.split("."):
                block = block[part]


def test_no_directory_has_two_owners() -> None:
    outs = [
        out if isinstance(out, str) else next(iter(out))
        for s in STAGES.values()
        for out in s["outs"]
    ]
    assert len(outs) == len(set(outs))
    for one in outs:
        assert not any(Path(one) in Path(other).parents for other in outs)
