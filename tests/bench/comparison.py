"""Compare this project's networks with plain Jittor and PyTorch, in turns, on this machine.

All sides run in processes of their own and one works while the others wait. A measurement is a
round of A B A B...: the ratio is taken within each round, since what else the machine does changes
from round to round, and the median of the ratios is the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.common import TOP, Side, machine, markdown

NETWORKS = ("tutorial", "compact", "deep")
BATCHES = (64, 256)
EVALUATED = 10_000
STEPS_IN_A_TURN = 10
_PEERS = {"plain": "plain Jittor", "eager": "PyTorch eager", "compiled": "`torch.compile`"}


def check(jittor: Side, torch: Side, network: str) -> dict[str, float]:
    """The largest difference of the logits, and of the losses of 20 steps, relative to their size.

    Raises:
        SystemExit: they differ by more than the order of additions explains; there is nothing
            to compare then.
    """
    found = {}
    for what, arguments in (("logits", {"size": 64}), ("losses", {"size": 64, "steps": 20})):
        a, b = (np.array(side.ask(what, **arguments)) for side in (jittor, torch))
        found[what] = float(np.abs(a - b).max() / np.abs(b).max())
    if found["logits"] > 1e-4 or found["losses"] > 2e-3:
        raise SystemExit(f"error: {network} differs between Jittor and PyTorch: {found}")
    return found


def product_speed(*sides: Side) -> float:
    """Multiply-adds a second of a large matrix product: the best of many tries, by whichever
    framework multiplies faster, since only that is near what the cores can do.
    """
    size = 2048
    times = [time for side in sides for time in side.ask("matrix_product", size=size, times=60)]
    return float(size**3 / min(times))


def compare(sides: dict[str, Side], rounds: int, action: str, **arguments: Any) -> dict[str, Any]:
    """Time an action on all sides in turns.

    Returns:
        `seconds`: each side's median; `ratio`: the median over rounds of a peer's time to
        Jittor's, so that more than 1 means that Jittor is faster; `rounds`.
    """
    for side in sides.values():  # compilers, caches and threads warm up
        side.ask(action, **arguments)
    times = [
        {name: statistics.median(side.ask(action, **arguments)) for name, side in sides.items()}
        for _ in range(rounds)
    ]
    peers = [name for name in sides if name != "jittor"]
    return {
        "rounds": rounds,
        "seconds": {name: statistics.median(t[name] for t in times) for name in sides},
        "ratio": {p: statistics.median(t[p] / t["jittor"] for t in times) for p in peers},
        "ratios": {p: [round(t[p] / t["jittor"], 3) for t in times] for p in peers},
    }


def measure(torch_python: str, rounds: int, compiled: bool) -> dict[str, Any]:
    """Run the whole comparison."""
    sides = {
        "jittor": Side(sys.executable, "jittor_side"),
        "plain": Side(sys.executable, "jittor_side"),
        "eager": Side(torch_python, "torch_side"),
    }
    if compiled:
        sides["compiled"] = Side(torch_python, "torch_side")
    results: dict[str, Any] = {"machine": machine(), "agreement": {}, "rows": [], "kernels": {}}
    for name in ("jittor", "eager"):
        results["machine"].update(sides[name].ask("versions"))
    speed = product_speed(sides["jittor"], sides["eager"])
    results["multiply_adds_per_second"] = speed
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            weights = str(Path(folder) / f"{network}.npz")
            sides["jittor"].ask("build", network=network, weights=weights)
            sides["plain"].ask("build", network=network, weights=f"{weights}.own", plain=True)
            sides["eager"].ask("build", network=network, weights=weights)
            if compiled:
                sides["compiled"].ask("build", network=network, weights=weights, compiled=True)
            agreement = check(sides["jittor"], sides["eager"], network)
            results["agreement"][network] = agreement
            work = sides["jittor"].ask("size")
            for size in BATCHES:
                row = compare(sides, rounds, "train", size=size, steps=STEPS_IN_A_TURN)
                results["rows"].append(summary(network, "train", size, size, row, work, speed))
            size = 500
            row = compare(sides, rounds, "evaluate", images=EVALUATED, size=size)
            results["rows"].append(summary(network, "evaluate", size, EVALUATED, row, work, speed))
            print(table(results["rows"][-3:]), flush=True)
            results["kernels"][network] = {
                name: sides[name].ask("profile", size=64, steps=20) for name in ("plain", "jittor")
            }
    results["accuracy"] = {
        name: [sides[name].ask("accuracy", seed=seed) for seed in range(5)]
        for name in ("plain", "jittor")
    }
    for side in sides.values():
        side.close()
    return results


def summary(
    network: str,
    what: str,
    batch: int,
    images: int,
    row: dict[str, Any],
    work: dict[str, int],
    speed: float,
) -> dict[str, Any]:
    """A row of the results: speeds in images a second, beside what the cores could do at most."""
    limit = speed / work[what]
    speeds = {name: images / seconds for name, seconds in row["seconds"].items()}
    return {
        "network": network,
        "what": what,
        "batch": batch,
        "images_per_second": speeds,
        "ratio": row["ratio"],
        "ratios": row["ratios"],
        "rounds": row["rounds"],
        "limit": limit,
        "share_of_limit": speeds["jittor"] / limit,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    peers = list(rows[0]["ratio"])
    head = ["network", "what", "batch", "Jittor, images/s"]
    head += [f"against {_PEERS[peer]}" for peer in peers] + ["limit", "share of it"]
    return markdown(
        head,
        [
            [row["network"], row["what"], str(row["batch"])]
            + [f"{row['images_per_second']['jittor']:,.0f}"]
            + [f"{row['ratio'][peer]:.2f} ×" for peer in peers]
            + [f"{row['limit']:,.0f}", f"{row['share_of_limit']:.0%}"]
            for row in rows
        ],
    )


def kernels(found: dict[str, list[tuple[str, float]]]) -> str:
    """Where the time of a training step goes, in Jittor as it comes and here, as Markdown."""
    plain, ours = dict(found["plain"]), dict(found["jittor"])
    kinds = sorted({**plain, **ours}, key=lambda kind: -plain.get(kind, 0) - ours.get(kind, 0))
    rows = []
    for kind in kinds:
        cells = [f"{side[kind] * 1e3:.2f}" if kind in side else "–" for side in (plain, ours)]
        if not set(cells) <= {"–", "0.00"}:
            rows.append([kind, *cells])
    rows.append(["all", *(f"{sum(side.values()) * 1e3:.1f}" for side in (plain, ours))])
    return markdown(["kernels", "plain Jittor, ms", "here, ms"], rows)


def accuracies(found: dict[str, list[float]]) -> str:
    """What the kernels cost in accuracy, as Markdown."""
    rows = [
        [
            _PEERS.get(name, "these kernels"),
            f"{statistics.mean(shares):.2%} ± {statistics.stdev(shares):.2%}",
            str(len(shares)),
        ]
        for name, shares in found.items()
    ]
    return markdown(["with", "held-out images read correctly, mean ± sd", "n"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.comparison", description=__doc__)
    parser.add_argument("torch_python", help="the Python of the environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side (15)")
    parser.add_argument("--compiled", action="store_true", help="torch.compile as a third side")
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    if not (TOP / "data/npy").exists():
        raise SystemExit("error: data/npy: no such folder; `make repro` makes it")
    results = measure(arguments.torch_python, arguments.rounds, arguments.compiled)
    print(table(results["rows"]))
    print(kernels(results["kernels"]["tutorial"]))
    print(accuracies(results["accuracy"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
