"""dvc.yaml names just what each stage is made of, and arrows between rooms run one way.

A dependency left out is the best-known trap of DVC: the code changes and the stage does not run.
One too many costs a run that nobody needed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

TOP = Path(__file__).parents[1]
STAGES: dict[str, Any] = yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]
GRAPH = grimp.build_graph("stages", cache_dir=None)
ARROWS = [
    (importer, imported)
    for importer in sorted(GRAPH.modules)
    for imported in sorted(GRAPH.find_modules_directly_imported_by(importer))
]
# The floors of the house: an import goes down, or stays within its room. A module is in the room
# with the longest name that begins its own.
FLOORS = [
    ["stages", "stages.tools"],
    ["stages.shared.training", "stages.shared.report", "stages.shared.interchange"],
    ["stages.shared.network"],
    ["stages.shared.network.kernels"],
    ["stages.shared.network.workers"],
    ["stages.shared.network.runtime"],
    ["stages.shared.network.device", "stages.shared.network.proof"],
    [
        "stages.shared.network.compiling",
        "stages.shared.network.cuda",
        "stages.shared.network.libraries",
    ],
    ["stages.shared"],
    ["stages.shared.params"],
    ["stages.shared.files"],
    ["stages.shared.program"],
]


def holds_code(path: Path) -> bool:
    """Whether a file is more than the docstring of a package."""
    if path.name != "__init__.py":
        return True
    body = ast.parse(path.read_text()).body
    return any(
        not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in body
    )


def file_of(module: str) -> Path:
    path = TOP / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached(stage: str) -> set[Path]:
    """The files that a stage is made of: modules, and what they name in their own folder (C++)."""
    names = {f"stages.{stage}", *GRAPH.find_upstream_modules(f"stages.{stage}")}
    modules = {path for path in map(file_of, names) if holds_code(path)}
    found, new = modules, modules
    while new:
        new = {
            path
            for file in new
            for path in file.parent.iterdir()
            if path.is_file()
            and path.suffix not in {".py", ".md"}
            and path.name in file.read_text()
        } - found
        found = found | new
    return found


def listed(stage: str) -> set[Path]:
    """The files that a stage depends on, by themselves or by a folder."""
    files: set[Path] = set()
    for dep in (TOP / dep for dep in STAGES[stage]["deps"] if dep.startswith("stages/")):
        assert dep.exists(), dep
        files |= {dep} if dep.is_file() else {path for path in dep.rglob("*") if path.is_file()}
    return {path for path in files if path.parent.name != "__pycache__" and holds_code(path)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_all_that_it_reaches(stage: str) -> None:
    assert not reached(stage) - listed(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_lists_holds_nothing_that_it_does_not_reach(stage: str) -> None:
    assert not listed(stage) - reached(stage)


def test_packages_that_nobody_lists_hold_no_code() -> None:
    # What stood in them could change unseen.
    known = set().union(*map(listed, STAGES))
    for path in (TOP / "stages").rglob("__init__.py"):
        assert path in known or not holds_code(path), path


def room(module: str) -> str:
    return max(
        (name for floor in FLOORS for name in floor if f"{module}.".startswith(f"{name}.")), key=len
    )


def floor(module: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_arrows_between_rooms_run_one_way() -> None:
    assert len(ARROWS) > 30
    for importer, imported in ARROWS:
        same = room(importer) == room(imported)
        assert same or floor(importer) < floor(imported), f"{importer} imports {imported}"


def test_no_arrow_leads_back_to_where_it_came_from() -> None:
    for importer, imported in ARROWS:
        assert not GRAPH.chain_exists(imported, importer), f"{importer} imports {imported}"


def test_nobody_imports_a_stage() -> None:
    for importer, imported in ARROWS:
        assert imported.removeprefix("stages.") not in STAGES, importer


@pytest.mark.parametrize("stage", ["download", "decode", "plot"])
def test_a_stage_without_a_network_does_not_start_jittor(stage: str) -> None:
    assert not GRAPH.chain_exists(f"stages.{stage}", "stages.shared.network.runtime")


def test_only_the_runtime_imports_jittor() -> None:
    for path in (TOP / "stages").rglob("*.py"):
        if path.name != "runtime.py":
            text = path.read_text()
            assert "import jittor" not in text, path
            assert "from jittor" not in text, path


def test_each_stage_lists_only_keys_that_exist() -> None:
    params = yaml.safe_load((TOP / "params.yaml").read_text())
    for stage in STAGES.values():
        for key in stage.get("params", []):
            block = params
            for part in key.split("."):
                block = block[part]


def test_no_directory_has_two_owners() -> None:
    outs = [
        out if isinstance(out, str) else next(iter(out))
        for stage in STAGES.values()
        for out in stage["outs"]
    ]
    assert len(outs) == len(set(outs))
    for one in outs:
        assert not any(Path(one) in Path(other).parents for other in outs)
