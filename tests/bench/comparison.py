"""Compare this project's networks with plain Jittor and with other frameworks, in turns.

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
from typing import Any, NamedTuple

import numpy as np

from tests.bench.common import TOP, Side, environment, machine, markdown

NETWORKS = ("tutorial", "compact", "deep")
WORK = {  # what is timed, with the images of a batch; 128 is what the recipe of `deep` trains with
    "tutorial": [("train", 64), ("train", 256), ("evaluate", 500)],
    "compact": [("train", 64), ("train", 256), ("evaluate", 500)],
    "deep": [("train", 64), ("train", 128), ("train", 256), ("evaluate", 500)],
}
A_TURN = 0.5  # seconds that a side works before the next one does, about


class Setting(NamedTuple):
    """A framework in one way of using it."""

    title: str
    environment: str  # with the framework, as `common.environment` takes it
    module: str  # of this package
    options: dict[str, bool]  # for `build`


_TORCH = "torch", "torch_side"
_TENSORFLOW = "tensorflow", "tensorflow_side"
PEERS = {
    "eager": Setting("PyTorch eager", *_TORCH, {}),
    "channels_last": Setting("PyTorch, channels last", *_TORCH, {"channels_last": True}),
    "compiled": Setting("`torch.compile`", *_TORCH, {"compiled": True}),
    "compiled_last": Setting(
        "`torch.compile`, channels last", *_TORCH, {"compiled": True, "channels_last": True}
    ),
    "jax": Setting("JAX", "jax", "jax_side", {}),
    "tensorflow": Setting("TensorFlow", *_TENSORFLOW, {}),
    "tensorflow_xla": Setting("TensorFlow, XLA", *_TENSORFLOW, {"xla": True}),
}
_PRODUCT = 2048  # rows and columns of the large matrices
# Not a peer, and not among the fastest: the same code with all of its own kernels switched off.
_PLAIN = "plain"


def check(ours: Side, peer: Side, network: str, title: str) -> dict[str, float]:
    """The largest difference of the logits, and of the losses of 20 steps, relative to their size.

    Raises:
        SystemExit: they differ by more than the order of additions explains; there is nothing
            to compare then.
    """
    found = {}
    for what, arguments in (("logits", {"size": 64}), ("losses", {"size": 64, "steps": 20})):
        a, b = (np.array(side.ask(what, **arguments)) for side in (ours, peer))
        found[what] = float(np.abs(a - b).max() / np.abs(b).max())
    if found["logits"] > 1e-4 or found["losses"] > 2e-3:
        raise SystemExit(f"error: {network} differs between Jittor and {title}: {found}")
    return found


def in_turns(sides: dict[str, Side], rounds: int, what: str, size: int) -> dict[str, Any]:
    """Time the same work on all sides in turns.

    Returns:
        `images_per_second`: each side's median; `ratio`: the median over rounds of this project's
        speed to that of each other side; `ratios`: those of each round; `fastest`: the fastest
        peer; `rounds`.
    """

    def speed(side: Side, times: int) -> float:
        if what == "train":
            return size / float(statistics.median(side.ask(what, size=size, steps=times)))
        return times * size / float(side.ask(what, images=times * size, size=size)[0])

    times = {}
    for name, side in sides.items():  # compilers, caches and threads warm up
        speed(side, 2)
        times[name] = max(2, min(200, round(A_TURN * speed(side, 3) / size)))
    found = [
        {name: speed(side, times[name]) for name, side in sides.items()} for _ in range(rounds)
    ]
    speeds = {name: statistics.median(one[name] for one in found) for name in sides}
    others = [name for name in sides if name != "jittor"]
    ratios = {name: [one["jittor"] / one[name] for one in found] for name in others}
    return {
        "images_per_second": speeds,
        "ratio": {name: statistics.median(each) for name, each in ratios.items()},
        "ratios": {name: [round(ratio, 3) for ratio in each] for name, each in ratios.items()},
        "fastest": max((name for name in others if name != _PLAIN), key=lambda name: speeds[name]),
        "rounds": rounds,
    }


def measure(rounds: int) -> dict[str, Any]:
    """Run the whole comparison."""
    sides = {"jittor": Side(sys.executable, "jittor_side")}
    sides[_PLAIN] = Side(sys.executable, "jittor_side")
    for name, peer in PEERS.items():
        sides[name] = Side(environment(peer.environment), peer.module)
    results: dict[str, Any] = {"machine": machine(), "agreement": {}, "rows": [], "kernels": {}}
    products = {}
    for name in ("jittor", "eager", "jax", "tensorflow"):  # one for each framework
        results["machine"].update(sides[name].ask("versions"))
        products[name] = sides[name].ask("matrix_product", size=_PRODUCT, times=40)
    results["cores_busy"] = {name: cores for name, (_, cores) in products.items()}
    # The best of many tries, by whoever multiplies fastest: only that is near what cores can do.
    best = min(min(seconds) for seconds, _ in products.values())
    results["multiply_adds_per_second"] = limit = _PRODUCT**3 / best
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            weights = str(Path(folder) / f"{network}.npz")
            sides["jittor"].ask("build", network=network, weights=weights)
            sides[_PLAIN].ask("build", network=network, weights=f"{weights}.own", plain=True)
            results["agreement"][network] = {}
            for name, peer in PEERS.items():
                sides[name].ask("build", network=network, weights=weights, **peer.options)
                sides["jittor"].ask("restore", weights=weights)
                found = check(sides["jittor"], sides[name], network, peer.title)
                results["agreement"][network][name] = found
            work = sides["jittor"].ask("size")
            for what, size in WORK[network]:
                row = in_turns(sides, rounds, what, size)
                share = row["images_per_second"]["jittor"] * work[what] / limit
                row |= {"limit": limit / work[what], "share_of_limit": share}
                results["rows"].append({"network": network, "what": what, "batch": size, **row})
                print(table(results["rows"][-1:]), flush=True)
            results["kernels"][network] = {
                name: sides[name].ask("profile", size=64, steps=20) for name in (_PLAIN, "jittor")
            }
            if network == "compact":
                results["step"] = sides["jittor"].ask("parts", size=256)
    results["accuracy"] = {
        name: [sides[name].ask("accuracy", seed=seed) for seed in range(5)]
        for name in (_PLAIN, "jittor")
    }
    for side in sides.values():
        side.close()
    return results


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown: this project beside the fastest peer of each row."""
    head = ["network", "what", "batch", "Jittor, images/s", "fastest peer", "against it"]
    head += ["against PyTorch eager", "against plain Jittor", "share of the limit"]
    return markdown(
        head,
        [
            [row["network"], row["what"], str(row["batch"])]
            + [f"{row['images_per_second']['jittor']:,.0f}", PEERS[row["fastest"]].title]
            + [f"{row['ratio'][name]:.2f} ×" for name in (row["fastest"], "eager", _PLAIN)]
            + [f"{row['share_of_limit']:.0%}"]
            for row in rows
        ],
    )


def speeds(rows: list[dict[str, Any]]) -> str:
    """Images a second of each side, as Markdown: a row for each side, as they are many."""
    titles = {"jittor": "this project", _PLAIN: "plain Jittor"}
    titles |= {name: peer.title for name, peer in PEERS.items()}
    head = ["images/s", *(f"{row['network']}, {row['what']} {row['batch']}" for row in rows)]
    return markdown(
        head,
        [
            [title, *(f"{row['images_per_second'][name]:,.0f}" for row in rows)]
            for name, title in titles.items()
        ],
    )


def cores(results: dict[str, Any]) -> str:
    """In a sentence, how many cores each framework kept busy."""
    titles = {"jittor": "Jittor", "eager": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}
    found = [f"{titles[name]} {busy:.2f}" for name, busy in results["cores_busy"].items()]
    return (
        f"All sides used {results['machine']['cores']} threads. While they multiplied large"
        f" matrices they\nkept so many cores busy: {', '.join(found)}."
    )


def parts(found: dict[str, float]) -> str:
    """Where the time of one step goes, as Markdown."""
    titles = {
        "kernels": "kernels, and the memory that they read and write",
        "feeding": "a batch becomes an array of Jittor's",
        "graph": "Python describes the step: layers, gradients, optimizer",
        "rest": "Jittor runs what was described, and hands back the loss",
    }
    rows = [[title, f"{found[name] * 1e6:,.0f} µs"] for name, title in titles.items()]
    rows.append(["all", f"{sum(found[name] for name in titles) * 1e6:,.0f} µs"])
    return markdown(["part of a step", "time"], rows)


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
            {_PLAIN: "plain Jittor"}.get(name, "these kernels"),
            f"{statistics.mean(shares):.2%} ± {statistics.stdev(shares):.2%}",
            str(len(shares)),
        ]
        for name, shares in found.items()
    ]
    return markdown(["with", "held-out images read correctly, mean ± sd", "n"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.comparison", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (7)")
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    if not (TOP / "data/npy").exists():
        raise SystemExit("error: data/npy: no such folder; `make repro` makes it")
    results = measure(arguments.rounds)
    print(table(results["rows"]))
    print(speeds(results["rows"]))
    print(cores(results))
    print(parts(results["step"]))
    print(kernels(results["kernels"]["tutorial"]))
    print(accuracies(results["accuracy"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
