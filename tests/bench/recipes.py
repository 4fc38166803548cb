"""Run the recipes with several seeds, and print the table of results that the README carries.

Each run is the `dvc exp run` line of its make target, in a clone of the last commit, so that what
lies in the working tree stays as it is. The training time is that of the optimizer's steps: images
times epochs, at the median of the speeds that the run logged, so that starting, compiling and
validation do not count. PyTorch's time for the steps of one epoch of the tutorial's network is
taken anew before each run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from tests.bench import common
from tests.bench.common import TOP, Side, machine, markdown

RECIPES = ("tutorial", "fast", "accurate")
TRAINING_IMAGES = 60_000


class Peer:
    """PyTorch, beside Jittor: its epoch's time, and the networks' multiply-adds."""

    def __init__(self, torch_python: str) -> None:
        self.jittor = Side(sys.executable, "jittor_side")
        self.torch = Side(torch_python, "torch_side")
        self.work: dict[str, int] = {}
        for network in ("compact", "deep", "tutorial"):  # the last one is the one that is timed
            with tempfile.TemporaryDirectory() as folder:
                weights = str(Path(folder, "weights.npz"))
                self.jittor.ask("build", network=network, weights=weights)
                self.torch.ask("build", network=network, weights=weights)
                self.work[network] = self.torch.ask("multiply_adds")["evaluate"]
        self.jittor.close()
        self.torch.ask("train", size=64, steps=20)  # warm

    def epoch(self, images: int) -> float:
        """Seconds that the steps of the tutorial's epoch take in PyTorch eager."""
        return float(statistics.median(self.torch.ask("train", size=64, steps=40))) * images / 64


def line(recipe: str) -> list[str]:
    """The words of the `dvc exp run` command that a make target runs."""
    # What an outer make was given is not for this one.
    environment = {k: v for k, v in os.environ.items() if k not in ("ARGS", "MAKEFLAGS")}
    printed = subprocess.run(
        ["make", "--dry-run", recipe],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"dvc exp run .*", printed.replace("\\\n", " "))
    assert found, printed
    return found[0].split()


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
    # --force: DVC would take a run that it has seen before from its cache, without its speed.
    command = [*line(recipe), "-S", f"train.seed={seed}", "--force", "-n", f"{recipe}-{seed}"]
    shutil.rmtree(path / "plots/speed", ignore_errors=True)
    # What the run before set in params.yaml would count for this one as well.
    subprocess.run(["git", "reset", "--quiet", "--hard"], cwd=path, check=True)
    subprocess.run(command, cwd=path, check=True, stdout=subprocess.DEVNULL)
    scores = json.loads((path / "plots/evaluation/metrics.json").read_text())
    settings = yaml.safe_load((path / "params.yaml").read_text())["train"]
    arrays = load_file(path / "models/digits.safetensors")
    learned = [array.size for name, array in arrays.items() if "running" not in name]
    images = (TRAINING_IMAGES - settings["validation_images"]) * settings["epochs"]
    return {
        "recipe": recipe,
        "seed": seed,
        "network": settings["network"],
        "epochs": settings["epochs"],
        "parameters": sum(learned),
        "multiply_adds": peer.work[settings["network"]],
        "seconds": images / common.images_per_second(path),
        "torch_epoch_seconds": epoch,
        "errors": scores["errors"],
        "accuracy": scores["accuracy"],
        "calibration_error": scores["calibration_error"],
        "machine": machine(),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Runs as Markdown, a row for each recipe."""
    head = ["recipe", "network", "epochs", "parameters", "multiply-adds", "training time"]
    head += ["in PyTorch's epochs", "test accuracy, mean ± sd", "n", "errors of 10,000"]
    head += ["calibration error"]
    lines = []
    for recipe in RECIPES:
        rows = [one for one in runs if one["recipe"] == recipe]
        if not rows:
            continue
        accuracy = np.array([row["accuracy"] for row in rows]) * 100
        deviation = f" ± {accuracy.std(ddof=1):.2f}" if len(rows) > 1 else ""
        epochs = statistics.median(row["seconds"] / row["torch_epoch_seconds"] for row in rows)
        lines.append(
            [
                f"`make {recipe}`",
                f"`{rows[0]['network']}`",
                str(rows[0]["epochs"]),
                f"{rows[0]['parameters']:,}",
                f"{rows[0]['multiply_adds'] / 1e6:.3g} million",
                f"{statistics.median(row['seconds'] for row in rows):,.1f} s",
                f"{epochs:.2g}",
                f"{accuracy.mean():.2f} %{deviation}",
                str(len(rows)),
                f"{np.mean([row['errors'] for row in rows]):.1f}",
                f"{np.mean([row['calibration_error'] for row in rows]):.4f}",
            ]
        )
    return markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.recipes", description=__doc__)
    parser.add_argument("torch_python", help="the Python of the environment with PyTorch")
    parser.add_argument("--json", type=Path, required=True, help="every run; what it holds stays")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    arguments = parser.parse_args()
    peer = Peer(arguments.torch_python)
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
