"""One training by one, two and four workers: images per second, and what communication takes.

`python -m tests.bench.workers [--json FILE]` prints the table of tests/bench/README.md. The cores
are shared out: two workers of one thread against one worker of two. The ways are run in turns; the
ratio to one worker is taken within each round, and the table has medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from stages.shared import digits
from tests import team
from tests.team import TOP

# The networks as their recipes train them; `steps` of them take a few seconds.
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "tutorial": ({"network": "tutorial", "batch_size": 64}, 100),
    "compact": ({"network": "compact", "batch_size": 256, "learning_rate": 0.02}, 200),
    "deep": ({"network": "deep", "batch_size": 128, "learning_rate": 0.02}, 50),
}
COUNTS = (1, 2, 4)
MEASURED = ("images_per_second", "communication", "bytes_per_step")
ROUNDS = 7


def measure(rounds: int) -> list[dict[str, Any]]:
    """A row for each network and number of workers."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for case, (changes, steps) in CASES.items():
                images = changes["batch_size"] * steps + 100
                block = {**changes, "validation_images": 100, "log_every": 10}
                for count in COUNTS:
                    out = Path(folder, "weights")
                    one = team.run(count, block, TOP / digits.FOLDER, images, out)
                    found.setdefault((case, count), []).append(one)
    return [
        {
            "network": case,
            "batch": CASES[case][0]["batch_size"],
            "workers": count,
            "to_one_worker": [
                one["images_per_second"] / alone["images_per_second"]
                for one, alone in zip(runs, found[case, 1], strict=True)
            ],
            **{key: statistics.median(one[key] for one in runs) for key in MEASURED},
        }
        for (case, count), runs in found.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | batch | workers | images/s | to one worker | communication | in a step |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['network']} | {row['batch']} | {row['workers']}"
            f" | {row['images_per_second']:,.0f} | {statistics.median(row['to_one_worker']):.2f} ×"
            f" | {row['communication']:.1%} | {row['bytes_per_step'] / 1e6:.2f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    rows = measure(arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
