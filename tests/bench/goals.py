"""Print what the benchmarks found beside what is wanted, from their two JSON files."""

from __future__ import annotations

import json
from typing import Any

from tests.bench.common import TOP, markdown


def rows(comparison: dict[str, Any], pipeline: dict[str, Any]) -> list[list[str]]:
    """What, goal, measured."""
    of = {(row["network"], row["what"], row["batch"]): row for row in comparison["rows"]}
    result = []
    for (network, what, batch), row in of.items():
        wanted = {"train": "1.5 ×", "evaluate": "2 ×" if network == "tutorial" else ""}[what]
        if wanted:
            name = f"{network}, {what}, batch {batch}, against PyTorch eager"
            result.append([name, wanted, f"{row['ratio']['eager']:.2f} ×"])
    first = of["tutorial", "train", 64]
    name = "tutorial, train, batch 64"
    result.append([f"{name}, share of the limit", "50%", f"{first['share_of_limit']:.0%}"])
    if "compiled" in first["ratio"]:
        found = f"{first['ratio']['compiled']:.2f} ×"
        result.append([f"{name}, against `torch.compile`", "1.2 ×", found])
    for name in ("feeding", "logging"):
        most = max(one[name] for one in pipeline["shares"])
        result.append([f"{name}, share of a step, the most", "under 2%", f"{most:.1%}"])
    small, *_, large = pipeline["growth"]
    at_most = {
        "decode, against inflating the same bytes": (1.2, pipeline["decode"]["inflated"]["ratio"]),
        "`dvc repro` with nothing to do, against no stages": (1.2, pipeline["dvc"]["ratio"]),
        f"memory of training, {large['images']:,} images against {small['images']:,}": (
            1.1,
            large["train_own_mb"] / small["train_own_mb"],
        ),
    }
    for name, (goal, ratio) in at_most.items():
        result.append([name, f"{goal} × or less", f"{ratio:.2f} ×"])
    return result


def main() -> None:
    found = [
        json.loads((TOP / f"tests/bench/{name}.json").read_text(encoding="utf-8"))
        for name in ("results", "pipeline")
    ]
    print(markdown(["what", "goal", "measured"], rows(*found)))


if __name__ == "__main__":
    main()
