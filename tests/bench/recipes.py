"""Run the recipes with several seeds, and print the table of results that the README carries.

Each run is the `dvc exp run` line of its recipe, in a clone of the last commit, so that what
lies in the working tree stays as it is. The training time is that of the optimizer's steps: images
times epochs, at the median of the speeds that the run logged, so that starting, compiling and
validation do not count. PyTorch's time for the steps of one epoch of the tutorial's network is
taken anew before each run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from stages.shared import params, scoring
from stages.tools.recipe import command as command_of
from tests.bench import common
from tests.bench.common import TOP, Side, machine, markdown

EVERYTHING = params.load(TOP / "params.yaml")
TRAINING_IMAGES = 60_000


class Peer:
    """PyTorch, beside Jittor: its epoch's time, and the networks' multiply-adds."""

    def __init__(self) -> None:
        self.jittor = Side(sys.executable, "jittor_side")
        self.torch = Side(common.environment("torch"), "torch_side")
        self.sizes: dict[str, dict[str, int]] = {}
        for network in ("compact", "deep", "tutorial"):  # the last one is the one that is timed
            with tempfile.TemporaryDirectory() as folder:
                weights = str(Path(folder, "weights.npz"))
                self.jittor.ask("build", network=network, weights=weights)
                self.torch.ask("build", network=network, weights=weights)
                self.sizes[network] = self.jittor.ask("size")
        self.jittor.close()
        self.torch.ask("train", size=64, steps=20)  # warm

    def epoch(self, images: int) -> float:
        """Seconds that the steps of the tutorial's epoch take in PyTorch eager."""
        return float(statistics.median(self.torch.ask("train", size=64, steps=40))) * images / 64


def clone(folder: Path) -> Path:
    """A clone of the last commit that shares this repository's cache of DVC."""
    path = common.clone(folder)
    cache = subprocess.run(
        ["dvc", "cache", "dir"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.strip()
    subprocess.run(["dvc", "cache", "dir", "--local", cache], cwd=path, check=True)
    return path


def run(recipe: str, seed: int, path: Path, peer: Peer) -> dict[str, Any]:
    """Train and score one network; the test images are read once."""
    epoch = peer.epoch(TRAINING_IMAGES)
    # --force: DVC would take a run that it has seen before from its cache, and print no speed.
    more = ["-S", f"train.seed={seed}", "--force", "-n", f"{recipe}-{seed}"]
    # What the run before set in params.yaml would count for this one as well.
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=path, check=True)
    command = [*command_of(EVERYTHING, recipe), *more]
    done = subprocess.run(command, cwd=path, check=True, stdout=subprocess.PIPE, text=True)
    scores = scoring.read_scores(path / scoring.FOLDER)
    settings = yaml.safe_load((path / "params.yaml").read_text())["train"]
    size = peer.sizes[settings["network"]]
    images = (TRAINING_IMAGES - settings["validation_images"]) * settings["epochs"]
    return {
        "recipe": recipe,
        "seed": seed,
        "network": settings["network"],
        "epochs": settings["epochs"],
        "parameters": size["parameters"],
        "multiply_adds": size["evaluate"],
        "seconds": images / common.images_per_second(done.stdout),
        "torch_epoch_seconds": epoch,
        "errors": scores.errors,
        "accuracy": scores.accuracy,
        "calibration_error": scores.calibration_error,
        "machine": machine(),
    }


class Summary(NamedTuple):
    """The runs of one recipe."""

    recipe: str
    runs: list[dict[str, Any]]

    @property
    def accuracy(self) -> str:
        """Mean and standard deviation over the runs, in percent."""
        found = np.array([run["accuracy"] for run in self.runs]) * 100
        spread = f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""
        return f"{found.mean():.2f} %{spread}"

    @property
    def seconds(self) -> float:
        """The time of the optimizer's steps, the median over the runs."""
        return float(statistics.median(run["seconds"] for run in self.runs))

    @property
    def epochs_of_torch(self) -> float:
        """The same in epochs of the tutorial's network in PyTorch eager, timed beside each run."""
        epochs = [run["seconds"] / run["torch_epoch_seconds"] for run in self.runs]
        return float(statistics.median(epochs))

    def mean(self, key: str) -> float:
        """The mean of a score over the runs."""
        return float(np.mean([run[key] for run in self.runs]))


def summaries(runs: list[dict[str, Any]]) -> list[Summary]:
    """Runs by recipe, in the order of params.yaml."""
    found = [
        Summary(recipe, [run for run in runs if run["recipe"] == recipe])
        for recipe in EVERYTHING.recipes
    ]
    return [summary for summary in found if summary.runs]


def table(runs: list[dict[str, Any]]) -> str:
    """Runs as Markdown, a row for each recipe."""
    head = ["recipe", "network", "epochs", "parameters", "multiply-adds", "training time"]
    head += ["in PyTorch's epochs", "test accuracy, mean ± sd", "n", "errors of 10,000"]
    head += ["calibration error", "processor"]
    lines = [
        [
            f"`make {one.recipe}`",
            f"`{one.runs[0]['network']}`",
            str(one.runs[0]["epochs"]),
            f"{one.runs[0]['parameters']:,}",
            f"{one.runs[0]['multiply_adds'] / 1e6:.3g} million",
            f"{one.seconds:,.1f} s",
            f"{one.epochs_of_torch:.2g}",
            one.accuracy,
            str(len(one.runs)),
            f"{one.mean('errors'):.1f}",
            f"{one.mean('calibration_error'):.4f}",
            ", ".join(sorted({run["machine"]["processor"] for run in one.runs})),
        ]
        for one in summaries(runs)
    ]
    return markdown(head, lines)


def main() -> None:
    known = list(EVERYTHING.recipes)
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recipes", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="every run; what it holds stays")
    parser.add_argument("--recipes", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    arguments = parser.parse_args()
    peer = Peer()
    runs: list[dict[str, Any]] = []
    if arguments.json.exists():
        runs = json.loads(arguments.json.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = clone(Path(folder))
        for recipe in arguments.recipes:
            for seed in arguments.seeds:
                new = run(recipe, seed, path, peer)
                print(f"{recipe}, seed {seed}: {new['errors']} errors, {new['seconds']:,.1f} s")
                same = (recipe, seed)
                kept = [r for r in runs if (r["recipe"], r["seed"]) != same]
                runs = sorted([*kept, new], key=lambda r: (r["recipe"], r["seed"]))
                arguments.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print(table(runs))


if __name__ == "__main__":
    main()
