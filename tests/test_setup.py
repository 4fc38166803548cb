"""The real `make` and doctor, in a copy of the project on machines made to lack something."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.tools import doctor

ROOT = Path(__file__).parents[1]
TOOLS = ["awk", "cat", "cut", "git", "make", "mv", "rm", "sed"]


class Machine:
    """A project folder, under a path with a space, and a PATH with chosen tools only."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "my project"
        self.bin = folder / "bin"
        self.environment = {"PATH": str(self.bin), "HOME": str(folder)}
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.script("g++", "echo 'g++ (made up) 12.2.0'")
        header = folder / "include" / "Python.h"
        header.parent.mkdir()
        header.touch()
        for name in ("python3.11-config", "python3.12-config"):
            self.script(name, "exit 0")
        self.answers: dict[str, object] = {"base": str(folder), "header": str(header), "venv": True}
        shutil.copytree(
            ROOT / "stages", self.project / "stages", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in ("Makefile", "requirements.txt"):
            shutil.copy(ROOT / name, self.project)
        subprocess.run(["git", "init", "-q", self.project], check=True)

    def script(self, name: str, body: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str, version: str, **answers: object) -> None:
        """A Python that runs programs, but answers doctor's questions as it is told to."""
        path = str(self.bin / name)
        answer = json.dumps({**self.answers, "path": path, "version": version, **answers})
        real = f'exec "{sys.executable}" "$@"'
        self.script(name, f"case \"$2\" in *json.dumps*) echo '{answer}';; *) {real};; esac")

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def fault(self, *arguments: str) -> str:
        """The single line that a `make` which must fail says; nothing may be built."""
        done = self.make(*(arguments or ("setup",)))
        assert done.returncode != 0
        assert done.stdout == ""
        assert not (self.project / ".venv").exists()
        lines = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
        assert len(lines) == 1, done.stderr
        return lines[0]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_python_at_all(machine: Machine) -> None:
    assert machine.fault().startswith("error: no Python; install 3.10, 3.11 or 3.12")


def test_only_a_python_that_is_too_new(machine: Machine) -> None:
    machine.python("python3.13", "3.13.0")
    line = machine.fault("repro")
    assert line.startswith("error: no Python that Jittor can run on, 3.10 to 3.12 (found: ")
    assert "python3.13 is 3.13.0" in line
    assert "make PYTHON=" in line


def test_a_shim_that_refuses_to_run_is_passed_over(machine: Machine) -> None:
    machine.script("python3.12", "echo 'command not found' >&2; exit 127")
    machine.python("python3", "3.13.0")
    line = machine.fault()
    assert "python3 is 3.13.0" in line
    assert "python3.12 is" not in line


def test_the_python_that_was_asked_for_is_the_one_judged(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    machine.python("other", "3.9.1")
    assert "found: other is 3.9.1; PYTHON=other" in machine.fault("setup", "PYTHON=other")


def test_no_compiler(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    (machine.bin / "g++").unlink()
    line = machine.fault("test")
    assert line.startswith("error: no C++ compiler (g++ does not run)")
    assert "apt install g++" in line


def test_a_compiler_that_does_not_run(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    machine.script("g++", "echo 'g++: a library is missing'; exit 127")
    assert machine.fault().startswith("error: no C++ compiler (g++ does not run)")


def test_no_headers(machine: Machine) -> None:
    machine.python("python3.12", "3.12.4", header="/nowhere/Python.h")
    line = machine.fault()
    assert line.startswith("error: no headers for Python 3.12 (/nowhere/Python.h not found)")
    assert "apt install python3.12-dev" in line


def test_no_venv_module(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9", venv=False)
    assert "apt install python3.11-venv" in machine.fault()


def test_no_git(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    (machine.bin / "git").unlink()
    assert machine.fault() == "error: no git; install it (Debian: apt install git)"


def test_no_repository(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    shutil.rmtree(machine.project / ".git")
    line = machine.fault("repro")
    assert line.startswith(f"error: {machine.project} is not in a Git repository, which DVC needs")


def test_a_lock_that_a_killed_dvc_left(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    lock = machine.project / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True)
    lock.write_text("{}")
    assert "rwlock" not in machine.make("doctor").stderr
    lock.write_text("")
    assert "rm .dvc/tmp/rwlock" in machine.make("doctor").stderr


def test_a_shallow_clone_is_said(machine: Machine, tmp_path: Path) -> None:
    machine.python("python3.11", "3.11.9")
    assert "history" not in machine.make("doctor").stdout
    as_us = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for _ in range(2):
        command = [*as_us, "-C", str(machine.project), "commit", "-q", "--allow-empty", "-m", "x"]
        subprocess.run(command, check=True)
    shutil.move(machine.project, tmp_path / "whole")
    address = f"file://{tmp_path}/whole"
    subprocess.run(["git", "clone", "-q", "--depth", "1", address, machine.project], check=True)
    for name in ("stages", "Makefile", "requirements.txt"):
        (machine.project / name).symlink_to(tmp_path / "whole" / name)
    assert "shallow; before queued experiments: git fetch" in machine.make("doctor").stdout


def test_a_pip_that_would_install_elsewhere_is_said(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    assert "PIP_USER" not in machine.make("doctor").stdout
    machine.environment["PIP_USER"] = "1"
    assert "PIP_USER is 1: make installs into .venv all the same" in machine.make("doctor").stdout


def test_a_cache_under_a_path_with_a_space(machine: Machine, tmp_path: Path) -> None:
    machine.python("python3.11", "3.11.9")
    machine.environment["JITTOR_HOME"] = str(tmp_path / "a b")
    assert "set JITTOR_HOME to a folder whose path has none" in machine.fault()
    machine.environment |= {"JITTOR_HOME": "", "HOME": str(tmp_path / "a b")}
    assert f"(HOME is {tmp_path}/a b)" in machine.fault()


def test_a_home_that_is_empty(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    machine.environment["HOME"] = ""
    assert machine.fault().startswith("error: HOME is empty")


def test_the_cache_is_sought_where_the_pipeline_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where Jittor, in another project, has written down its last one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JITTOR_HOME", "")
    (tmp_path / ".cache/jittor").mkdir(parents=True)
    (tmp_path / ".cache/jittor/config.json").write_text('{"JITTOR_HOME": "/data/a b"}')
    assert doctor.jittor_home() == tmp_path


def test_too_little_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "not" / "made"))
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_400_000_000))
    lines = [line for line in doctor.missing([]) if "too little disk" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"too little disk: 1.4 GB free at {tmp_path}, 1.8 GB needed")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_900_000_000))
    assert not [line for line in doctor.missing([]) if "too little disk" in line]


def test_set_up_runs_once_and_again_when_something_changed(machine: Machine) -> None:
    """A made-up Python notes each environment that it is asked to make."""
    machine.python("python3.11", "3.11.9")
    body = (machine.bin / "python3.11").read_text()
    inner = '#!/bin/sh\\ncase "$1" in -c) echo "3.11.9 there";; -m) exit ${PIP_FAILS:-0};; esac\\n'
    making = (
        'if [ "$1 $2" = "-m venv" ]; then echo made >> made.txt; "$MKDIR" -p .venv/bin; '
        f"printf '{inner}' > .venv/bin/python; \"$CHMOD\" +x .venv/bin/python; exit; fi\n"
    )
    (machine.bin / "python3.11").write_text(body.replace("#!/bin/sh\n", "#!/bin/sh\n" + making))
    for tool in ("mkdir", "chmod"):
        machine.environment[tool.upper()] = shutil.which(tool) or ""

    def times() -> int:
        done = machine.make("setup")
        failed = "PIP_FAILS" in machine.environment
        assert (done.returncode != 0) == failed, done.stderr
        return len((machine.project / "made.txt").read_text().splitlines())

    machine.environment["PIP_FAILS"] = "1"
    assert times() == 1
    del machine.environment["PIP_FAILS"]
    assert times() == 2, "an environment that was not finished was taken for whole"
    assert times() == 2, "a finished environment was made again"
    python = machine.project / ".venv/bin/python"
    python.write_text(python.read_text().replace("there", "moved"))
    assert times() == 3, "an environment that was moved was kept"
    python.unlink()
    assert times() == 4, "an environment without its Python was kept"
    later = (machine.project / ".venv/.ready").stat().st_mtime + 5
    os.utime(machine.project / "requirements.txt", (later, later))
    assert times() == 5, "a new lock was not installed"


def test_make_alone_lists_every_target(machine: Machine) -> None:
    done = machine.make()
    assert done.returncode == 0
    # Each but this one says how long it takes.
    line = r"^  make ([\w-]+) +\S.*(?:second|minute|hour).*$|^  make (help) "
    listed = ["".join(names) for names in re.findall(line, done.stdout, re.MULTILINE)]
    declared = re.findall(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(declared[0].split())


def test_doctor_shows_the_picture_and_what_is_missing(machine: Machine) -> None:
    machine.python("python3.11", "3.11.9")
    (machine.bin / "g++").unlink()
    done = machine.make("doctor")
    assert done.returncode != 0
    assert "error: no C++ compiler" in done.stderr
    rows = {line[:16].strip() for line in done.stdout.splitlines()}
    assert rows >= {"Python", "C++ compiler", "git", "oneDNN", "OpenMPI", "GPU", "Jittor's cache"}
    assert re.search(r"^device: cuda +(takes|error:) \S", done.stdout, re.MULTILINE)
    assert str(machine.environment["HOME"]) + "/.cache/jittor" in done.stdout


@pytest.mark.parametrize(
    ("name", "packages"),
    [("tests/requirements/tests.txt", 100), ("requirements-cuda.txt", 12)],  # the first holds all
)
def test_the_lock_pins_every_package_with_hashes_and_names_no_index(
    name: str, packages: int
) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > packages
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==\S+.*\\\n +--hash=sha256:", entry), entry.splitlines()[0]


def test_a_container_has_what_doctor_asks_for() -> None:
    text = (ROOT / ".devcontainer/Dockerfile").read_text()
    installed = set(re.findall(r"^ {4}([a-z][\w.+-]*)", text, re.MULTILINE))
    advice = (ROOT / "stages/tools/doctor.py").read_text().replace("{python.minor}", "3.11")
    asked = set(" ".join(re.findall(r"Debian: apt install ([\w.+ -]+)", advice)).split())
    assert asked >= {"git", "g++", "python3.11-dev"}
    assert installed >= asked | {"make"}
    described = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert described["build"]["dockerfile"] == "Dockerfile"
    assert described["postCreateCommand"] == "make setup"


def test_the_lock_of_the_tests_holds_that_of_the_pipeline() -> None:
    pins = [
        set(re.findall(r"^\S+==\S+", path.read_text(), re.MULTILINE))
        for path in (ROOT / "requirements.txt", ROOT / "tests/requirements/tests.txt")
    ]
    assert pins[0] < pins[1]


def test_the_ci_script_and_the_hooks_run_what_is_installed() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    entries = re.findall(r"entry: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert len(entries) == 4
    assert all(entry.startswith(".venv/bin/") for entry in entries)


@pytest.mark.parametrize("stage", ["check", "download", "decode", "train", "evaluate", "plot"])
def test_a_stage_is_found_by_its_path_too(stage: str, tmp_path: Path) -> None:
    # In an empty folder each gets as far as params.yaml, its modules imported.
    script = ROOT / "stages" / f"{stage}.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: params.yaml: no such file; run from the top of the repository\n"
