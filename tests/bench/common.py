"""What the benchmarks share."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]


def environment(name: str) -> str:
    """The Python of an environment that the Makefile makes, such as "torch".

    Raises:
        SystemExit: it is not there.
    """
    python = TOP / f".venv.{name}/bin/python"
    if not python.exists():
        raise SystemExit(f"error: {python.relative_to(TOP)}: no such file; `make bench` makes it")
    return str(python)


class Side:
    """A process that answers for one framework."""

    def __init__(self, python: str, module: str) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [python, "-m", f"tests.bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=TOP,
        )

    def ask(self, action: str, **arguments: Any) -> Any:
        """Send a request and wait for the answer."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([action, arguments]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"error: {self.module} died on {action} {arguments}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def clone(folder: Path) -> Path:
    """A clone of the last commit."""
    path = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(TOP), str(path)], check=True)
    return path


def images_per_second(said: str) -> float:
    """The median over epochs of the speed that a training run printed."""
    found = re.findall(r"^epoch \d+: .*; ([\d,]+) images/s$", said, re.MULTILINE)
    return statistics.median(float(speed.replace(",", "")) for speed in found)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
