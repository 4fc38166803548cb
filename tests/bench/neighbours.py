"""Trainings at once, beside the same number one after the other.

Each is a whole `python -m stages.train` with the recipe `fast`, in a folder of its own. What a
training costs as OpenMP starts it (a thread for each core, for good) is timed in turns with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from stages.shared import digits
from tests.bench.common import TOP, machine, markdown

AT_ONCE = (1, 2, 4)


def folders(scratch: Path) -> list[Path]:
    """A folder for each training that may run at the same time."""
    tree = yaml.safe_load((TOP / "params.yaml").read_text(encoding="utf-8"))
    tree["train"] |= tree["recipes"]["fast"]["train"]
    places = [scratch / str(number) for number in range(max(AT_ONCE))]
    for place in places:
        (place / digits.FOLDER).parent.mkdir(parents=True)
        (place / digits.FOLDER).symlink_to(TOP / digits.FOLDER)
        (place / "models").mkdir()
        (place / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return places


def seconds(places: list[Path], **variables: str) -> float:
    """How long trainings take that start at the same moment."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(TOP), **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for place in places
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("error: python -m stages.train failed; `make repro` says why")
    return time.perf_counter() - began


def measure(rounds: int) -> dict[str, Any]:
    """Time all of it, in turns.

    Returns:
        For each number of trainings, seconds of each round: one after the other as OpenMP starts
        them, at once as OpenMP starts them, and at once as this project settles their threads.
    """
    fixed = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    os.environ.pop("OMP_NUM_THREADS", None)
    found: dict[str, Any] = {str(n): {"in_turns": [], "fixed": [], "settled": []} for n in AT_ONCE}
    with tempfile.TemporaryDirectory() as scratch:
        places = folders(Path(scratch))
        seconds(places[:1])  # compiles what is not in Jittor's cache yet
        for _ in range(rounds):
            for n in AT_ONCE:
                row = found[str(n)]
                row["in_turns"].append(sum(seconds([place], **fixed) for place in places[:n]))
                row["settled"].append(seconds(places[:n]))
                row["fixed"].append(seconds(places[:n], **fixed))
    return {"machine": machine(), "rounds": rounds, "at_once": found}


def table(found: dict[str, Any]) -> str:
    """The rows of tests/bench/README.md."""
    head = [
        "trainings",
        "one after the other",
        "at once",
        "ratio",
        "at once, threads fixed",
        "ratio",
    ]
    rows = []
    for n, row in found["at_once"].items():
        cells = [n, f"{statistics.median(row['in_turns']):.1f} s"]
        for way in ("settled", "fixed"):
            ratio = statistics.median(a / b for a, b in zip(row[way], row["in_turns"], strict=True))
            cells += [f"{statistics.median(row[way]):.1f} s", f"{ratio:.2f} ×"]
        rows.append(cells)
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.neighbours", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
