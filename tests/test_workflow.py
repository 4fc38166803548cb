"""The workflow for forges: its steps run here as a runner runs them, as far as there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Repository

TOP = Path(__file__).parents[1]
WORKFLOW: dict[str, Any] = yaml.safe_load((TOP / ".github/workflows/check.yml").read_text())
JOBS = WORKFLOW["jobs"]


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_it_calls_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    lines = "\n".join(line for job in JOBS for line in commands(job))
    named = re.findall(r"^make ([\w-]+)", lines, re.MULTILINE)
    assert named == ["lint", "test", "test-cuda", "setup"]
    assert set(named) <= targets


def test_no_text_from_outside_becomes_part_of_a_command() -> None:
    # The title of a pull request, say, can hold shell code.
    for job in JOBS:
        assert not [command for command in commands(job) if "${{" in command]


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not there")
def test_a_pull_request_is_told_what_it_does_to_the_scores(
    finished: Repository, tmp_path: Path
) -> None:
    finished.run("git", "checkout", "-q", "-b", "change")
    finished.set(train__learning_rate=0.03)
    finished.commit("A higher rate")
    finished.run("git", "checkout", "-q", "main")
    finished.run("git", "merge", "-q", "--no-ff", "-m", "Merge", "change")
    path = tmp_path / "checked out"
    subprocess.run(["git", "clone", "-q", finished.path, path], check=True)
    merge = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    gh = tmp_path / "bin/gh"  # GitHub's own command, which notes what it is told
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" > "$NOTED"\n')
    gh.chmod(0o755)
    runner = {
        **finished.environment,
        "PATH": f"{gh.parent}:{finished.environment['PATH']}",
        "HOME": str(tmp_path),  # a runner's Git knows nobody's name
        "JITTOR_HOME": str(Path.home()),
        "GITHUB_SHA": merge,
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "NOTED": str(tmp_path / "noted"),
        "NUMBER": "7",
        "PLOTS": "https://example.com/plots",
        # There are a thousand images here; the workflow's own number would leave none.
        "BUDGET": JOBS["scores"]["env"]["BUDGET"].replace("50000", "900"),
    }
    for command in commands("scores"):
        if command.startswith("make setup"):  # these tests run in what it makes
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=path, env=runner, capture_output=True, text=True
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
    comment = (path / "comment.md").read_text()
    assert re.search(r"train\.learning_rate *\| 0\.02 *\| 0\.03", comment)
    assert re.search(r"validation\.accuracy *\| 0\.\d+ *\| 0\.\d+", comment)
    (chart,) = re.findall(r"```mermaid\n(.*?)```", comment, re.DOTALL)
    lines = re.findall(r"^line \[(.*)\]$", chart, re.MULTILINE)
    curves = [[float(point) for point in line.split(", ")] for line in lines]
    assert len(curves) == 2
    assert all(curve and 0 <= min(curve) <= max(curve) <= 1 for curve in curves)
    assert comment.startswith((tmp_path / "summary.md").read_text())
    assert comment.endswith("(https://example.com/plots)\n")
    assert (path / "dvc_plots/index.html").exists()
    assert (tmp_path / "noted").read_text() == (
        "pr comment 7 --edit-last --create-if-none --body-file comment.md\n"
    )
