"""What the pipeline itself costs: its stages, DVC, feeding, logging, and how it all grows.

The stages and `dvc repro` run in a clone of the last commit, the rest with this tree's code in
folders that are removed again; they take 10 GB for a while. It prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.shared import idx
from tests.bench import common
from tests.bench.common import TOP, Side, machine, markdown

STAGES = ("check", "download", "decode", "train", "evaluate", "plot", "export")
GROWTH = (1, 10, 100)  # times the 60,000 training images
MEGABYTE = 1024


class Run(NamedTuple):
    """What a command took, and what it printed."""

    seconds: float
    peak_mb: float  # the most memory that it held
    own_mb: float  # the same without mapped files, whose pages the system can take back any time
    said: str


def measured(command: list[str], folder: Path, **variables: str) -> Run:
    """Run a command in a folder, with some variables in its environment."""
    own, done = [0], threading.Event()
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(TOP), **variables}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT
        )

        def watch() -> None:
            status = Path(f"/proc/{process.pid}/status")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                while not done.wait(0.02):
                    for line in status.read_text().splitlines():
                        if line.startswith("RssAnon:"):
                            own.append(int(line.split()[1]))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, code, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(code)
        said.seek(0)
        text = said.read().decode()
        if process.returncode:
            raise SystemExit(f"error: {' '.join(command)} failed: {text}")
    return Run(seconds, usage.ru_maxrss / MEGABYTE, max(own) / MEGABYTE, text)


def stages(folder: Path) -> dict[str, Any]:
    """Each stage with nothing compiled, then three times with all of it."""
    with tempfile.TemporaryDirectory() as home:
        cold = {s: measured(command(s), folder, JITTOR_HOME=home) for s in STAGES}
    # The first of these still compiles, where the usual folder has not the kernels yet.
    warm = [{s: measured(command(s), folder) for s in STAGES} for _ in range(4)][1:]
    return {
        stage: {
            "cold_seconds": cold[stage].seconds,
            "cold_peak_mb": cold[stage].peak_mb,
            "seconds": statistics.median(run[stage].seconds for run in warm),
            "peak_mb": max(run[stage].peak_mb for run in warm),
        }
        for stage in STAGES
    }


def command(stage: str) -> list[str]:
    return [sys.executable, "-m", f"stages.{stage}"]


def in_turns(a: Callable[[], object], b: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Time two things in turns; the ratio is that of a to b, the median over rounds."""
    times = []
    for _ in range(rounds + 1):
        pair = []
        for work in (a, b):
            began = time.perf_counter()
            work()
            pair.append(time.perf_counter() - began)
        times.append(pair)
    times = times[1:]  # caches warm up in the first round
    return {
        "rounds": rounds,
        "seconds": [statistics.median(pair[side] for pair in times) for side in (0, 1)],
        "ratio": statistics.median(first / second for first, second in times),
    }


def nothing_to_do(folder: Path, scratch: Path) -> dict[str, Any]:
    """`dvc repro` of the finished pipeline beside that of a pipeline without stages."""
    empty = scratch / "empty"
    empty.mkdir()

    def run(place: Path, *words: str) -> None:
        subprocess.run(words, cwd=place, check=True, stdout=subprocess.DEVNULL)

    run(empty, "git", "init", "--quiet")
    run(empty, "dvc", "init", "--quiet")
    (empty / "dvc.yaml").write_text("stages: {}\n")
    run(folder, "dvc", "repro")
    return in_turns(
        lambda: run(folder, "dvc", "repro"), lambda: run(empty, "dvc", "repro"), rounds=9
    )


def decoding(folder: Path, scratch: Path) -> dict[str, Any]:
    """To decode the four files beside inflating the same bytes from gzip."""
    raw = list((folder / "data/raw").iterdir())
    packed = []
    for path in raw:
        packed.append(scratch / f"{path.name}.gz")
        with gzip.open(packed[-1], "wb", compresslevel=9) as file:
            file.write(path.read_bytes())

    def inflate() -> None:
        for path in packed:
            with gzip.open(path) as file:
                while file.read(1 << 20):
                    pass

    def decode(paths: list[Path]) -> None:
        for path in paths:
            idx.decode_to_npy(path, scratch / "one.npy")

    return {
        "inflated": in_turns(lambda: decode(raw), inflate, rounds=9),
        "gzipped": in_turns(lambda: decode(packed), inflate, rounds=9),
    }


def growth(folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """Decode and train on the training images, on ten times and on a hundred times as many."""
    rows = []
    for times in GROWTH:
        place = scratch / f"times-{times}"
        count = repeat(folder / "data/raw", place / "data/raw", times)
        tree = yaml.safe_load((folder / "params.yaml").read_text())
        tree["train"] |= {"network": "compact", "batch_size": 256, "log_every": 100}
        (place / "params.yaml").write_text(yaml.safe_dump(tree))
        decode, train = (measured(command(stage), place) for stage in ("decode", "train"))
        rows.append(
            {
                "images": count,
                "decode_seconds_per_thousand": decode.seconds * 1000 / count,
                "decode_own_mb": decode.own_mb,
                "train_seconds_per_thousand": 1000 / common.images_per_second(train.said),
                "train_own_mb": train.own_mb,
            }
        )
        shutil.rmtree(place)
    return rows


def repeat(source: Path, target: Path, times: int) -> int:
    """Copy the IDX files with the training set repeated; how many images it holds then."""
    target.mkdir(parents=True)
    images = 0
    for path in source.iterdir():
        content = path.read_bytes()
        copies = times if path.name.startswith("train") else 1
        header = 4 + 4 * content[3]
        count = int.from_bytes(content[4:8], "big") * copies
        images = max(images, count)
        with (target / path.name).open("wb") as file:
            file.write(content[:4] + count.to_bytes(4, "big") + content[8:header])
            for _ in range(copies):
                file.write(content[header:])
    return images


def stages_table(results: dict[str, Any]) -> str:
    """The stages, cold and warm, as Markdown."""
    return markdown(
        ["stage", "cold", "warm", "peak memory"],
        [
            [
                name,
                f"{one['cold_seconds']:.1f} s",
                f"{one['seconds']:.1f} s",
                f"{one['peak_mb']:,.0f} MB",
            ]
            for name, one in results["stages"].items()
        ],
    )


def shares_table(results: dict[str, Any]) -> str:
    """What feeding and logging take of the time of training, as Markdown."""
    return markdown(
        ["network", "batch", "log every", "feeding", "logging"],
        [
            [
                *(one["network"], str(one["batch"]), str(one["log_every"])),
                *(f"{one['feeding']:.1%}", f"{one['logging']:.1%}"),
            ]
            for one in results["shares"]
        ],
    )


def pairs_table(results: dict[str, Any]) -> str:
    """What was timed in turns, as Markdown."""
    pairs = {
        "`dvc repro` with nothing to do, a pipeline without stages": results["dvc"],
        "decoding MNIST as `download` leaves it, inflating it": results["decode"]["inflated"],
        "decoding MNIST from gzip, inflating it": results["decode"]["gzipped"],
    }
    return markdown(
        ["one, the other", "one", "the other", "ratio"],
        [
            [what, *(f"{seconds:.2f} s" for seconds in one["seconds"]), f"{one['ratio']:.2f} ×"]
            for what, one in pairs.items()
        ],
    )


def growth_table(results: dict[str, Any]) -> str:
    """Time and memory by the number of images, as Markdown."""
    return markdown(
        ["images", "decode, per thousand", "its memory", "train, per thousand", "its memory"],
        [
            [
                f"{one['images']:,}",
                f"{one['decode_seconds_per_thousand'] * 1e3:.2f} ms",
                f"{one['decode_own_mb']:,.0f} MB",
                f"{one['train_seconds_per_thousand'] * 1e3:.1f} ms",
                f"{one['train_own_mb']:,.0f} MB",
            ]
            for one in results["growth"]
        ],
    )


TABLES = (stages_table, shares_table, pairs_table, growth_table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipeline", description=__doc__)
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clone = common.clone(scratch)
        results["stages"] = stages(clone)
        results["decode"] = decoding(clone, scratch)
        side = Side(sys.executable, "jittor_side")
        results["shares"] = [
            side.ask("shares", folder=str(clone), network=network, size=size, log_every=every)
            for network, size, every in (
                *(("tutorial", 64, 10), ("deep", 128, 10)),
                ("compact", 256, 20),  # as each recipe has it
            )
        ]
        side.close()
        results["growth"] = growth(clone, scratch)
        results["dvc"] = nothing_to_do(clone, scratch)
    print("\n\n".join(table(results) for table in TABLES))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
